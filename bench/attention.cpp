#include <weft/attention/literal.hpp>
#include <weft/backend/cpu/attention.hpp>
#include <weft/core/verbs.hpp>

#include <algorithm>
#include <string>

#include "operators.hpp"
#include "sample.hpp"

namespace bench {
namespace {

constexpr index window_keys = 512;
constexpr index checked_window = 100;  // at the check's length a window of 512 would hide nothing
constexpr index chosen_tokens = 64;
weft::top_blocks an_eighth(index time) { return {.topk = 4, .block_size = std::max<index>(1, time / 32)}; }

template <class T>
struct tokens {
  weft::array<T, 4> q, k, v;
  tokens(index time, index dim)
      : q(uniform<T, 4>({1, time, heads, dim}, 1)), k(uniform<T, 4>({1, time, heads, dim}, 2)), v(uniform<T, 4>({1, time, heads, dim}, 3)) {}
};

template <class T, class Selector>
std::string mismatch(const weft::attention<T, Selector>& mixer, weft::cpu& cpu, const point& p) {
  const tokens<T> in(check_time, p.dim);
  const auto q = converted<double>(in.q), k = converted<double>(in.k), v = converted<double>(in.v);
  const weft::shape shape{.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim, .capacity = check_time};
  const weft::attention<double, Selector> wide{.select = mixer.select};
  auto wide_cache = wide.state(shape);
  weft::array<double, 4> expected({1, check_time, heads, p.dim});
  weft::literal(wide, {.q = q.view(), .k = k.view(), .v = v.view()}, wide_cache, {.o = expected});

  auto cache = mixer.state(shape);
  weft::array<T, 4> o({1, check_time, heads, p.dim});
  if (p.verb == verb::scan) weft::scan(cpu, mixer, {.q = in.q.view(), .k = in.k.view(), .v = in.v.view()}, cache, {.o = o});
  else
    for (index t = 0; t < check_time; ++t)
      weft::step(cpu, mixer, {.q = in.q.view().slice(1, t, 1), .k = in.k.view().slice(1, t, 1), .v = in.v.view().slice(1, t, 1)}, cache,
                 {.o = o.view().slice(1, t, 1)});
  const double error = relative_error(o.data(), expected.data(), o.size());
  return error > error_bound<T> ? "o differs from the literal form in double by " + std::to_string(error) + " of the largest value" : "";
}

template <class T, class Selector>
void run_attention(benchmark::State& s, const point& p, const Selector& checked, const Selector& timed, index reach) {
  workers w(p.threads);
  if (const std::string wrong = mismatch(weft::attention<T, Selector>{.select = checked}, w.cpu(), p); !wrong.empty())
    return s.SkipWithError(wrong.c_str());

  const weft::attention<T, Selector> mixer{.select = timed};
  const bool decode = p.verb == verb::step;
  const tokens<T> in(decode ? 1 : p.time, p.dim);
  auto cache = mixer.state({.batch = 1, .heads = heads, .key_dim = p.dim, .value_dim = p.dim, .capacity = p.time});
  weft::array<T, 4> o(in.q.extent());
  const auto visible = [&](index t) { return static_cast<double>(std::min(t + 1, reach)); };
  const auto row = static_cast<double>(heads * p.dim);
  if (decode) {
    cache.keys = uniform<T, 4>(cache.keys.extent(), 4);
    cache.values = uniform<T, 4>(cache.values.extent(), 5);
    if constexpr (mixer.pools) cache.pooled = uniform<weft::accumulate_t<T>, 4>(cache.pooled.extent(), 6);
    const double keys = visible(p.time - 1);
    measure(s, p, {.tokens = 1, .flops = 4 * row * keys, .bytes = 2 * row * keys * sizeof(T)}, [&] {
      cache.length(0) = p.time - 1;  // the token is the cache's last, every time
      weft::step(w.cpu(), mixer, {.q = in.q.view(), .k = in.k.view(), .v = in.v.view()}, cache, {.o = o});
    });
  } else {
    double pairs = 0;
    for (index t = 0; t < p.time; ++t) pairs += visible(t);
    measure(s, p, {.tokens = static_cast<double>(p.time), .flops = 4 * row * pairs}, [&] {
      cache.length(0) = 0;
      weft::scan(w.cpu(), mixer, {.q = in.q.view(), .k = in.k.view(), .v = in.v.view()}, cache, {.o = o});
    });
  }
}

template <class T>
void add_storage() {
  const std::vector<index> cache_lengths{512, 2048, 8192};
  const auto dense = [](benchmark::State& s, const point& p) { run_attention<T>(s, p, weft::dense{}, weft::dense{}, weft::every_key); };
  add<T>("softmax_attention", cache_lengths, dense);
  add<T>("sliding_window_attention", cache_lengths, [](benchmark::State& s, const point& p) {
    run_attention<T>(s, p, weft::window{.window = checked_window}, weft::window{.window = window_keys}, window_keys);
  });
  add<T>("topk_attention", cache_lengths, [](benchmark::State& s, const point& p) {
    run_attention<T>(s, p, weft::top_tokens{chosen_tokens}, weft::top_tokens{chosen_tokens}, chosen_tokens);
  });
  const auto eighth = [](benchmark::State& s, const point& p) { run_attention<T>(s, p, an_eighth(check_time), an_eighth(p.time), p.time / 8); };
  add<T>("block_topk_attention", cache_lengths, eighth);
  const point long_text{.time = 16384, .dim = 128};  // where choosing must have paid
  add_point<T>("softmax_attention", long_text, dense);
  add_point<T>("block_topk_attention", long_text, eighth);
}

}  // namespace

void add_attention() {
  add_storage<float>();
  add_storage<weft::bf16>();
}

}  // namespace bench
