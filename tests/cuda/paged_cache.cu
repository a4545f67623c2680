#include "attention_calls.hpp"

#include <algorithm>
#include <numeric>

#include "attention_session.cuh"

namespace contract {
namespace {

// Calls on pages in disorder against the definition on a plain cache.
template <class M>
void pages_hold(std::vector<std::string>& wrong, const std::string& name, M mixer, attention_shape x, index page) {
  attention_session<M> s(mixer, x);
  const index most = (x.capacity + page - 1) / page, pages = x.batch * most + 3;
  weft::paged_cache<typename M::storage_type> cache(s.gpu, {.batch = x.batch, .heads = x.heads, .key_dim = x.key_dim, .value_dim = x.value_dim, .capacity = x.capacity}, page, pages);
  std::vector<std::int32_t> order(static_cast<std::size_t>(pages));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), s.random);
  cache.table.upload(order.data());
  for (const index time : {index{37}, index{1}, index{2}, index{1}}) {
    s.draw(time);
    weft::literal(mixer, s.inputs(true), s.cache, {s.o, s.lse});
    if (time == 1) weft::step(s.gpu, mixer, s.inputs_there(true), cache, {s.o_, s.lse_});
    else weft::scan(s.gpu, mixer, s.inputs_there(true), cache, {s.o_, s.lse_});
    s.there = weft::copy(s.gpu, s.cache);  // compared elsewhere
    const double d = s.difference();
    if (!(d <= s.tolerance())) wrong.push_back(name + " of " + std::to_string(time) + ": " + std::to_string(d));
  }
  if (weft::copy(s.host, cache.length)(0) != 41 || cache.held(x.batch - 1) != 41) wrong.push_back(name + ": lengths");
  s.draw(x.capacity);
  try {
    weft::scan(s.gpu, mixer, s.inputs_there(true), cache, {s.o_, s.lse_});
    wrong.push_back(name + ": more tokens than pages");
  } catch (const weft::error& e) {
    if (e.code() != weft::errc::capacity) wrong.push_back(e.what());
  }
}

}  // namespace

std::vector<std::string> wrong_paged_cache() {
  std::vector<std::string> wrong;
  using weft::attention, weft::window;
  pages_hold<attention<float>>(wrong, "float", {}, {.batch = 3, .heads = 2, .query_heads = 4, .key_dim = 24, .value_dim = 40, .capacity = 50}, 8);
  pages_hold<attention<float, window>>(wrong, "window", {.select = {.window = 9, .kept = 1}}, {.batch = 2, .heads = 2, .query_heads = 2, .key_dim = 8, .value_dim = 8, .capacity = 60}, 7);
  pages_hold<attention<weft::bf16>>(wrong, "bf16", {}, {.batch = 2, .heads = 2, .query_heads = 8, .key_dim = 128, .value_dim = 128, .capacity = 700}, 16);
  return wrong;
}

}  // namespace contract
