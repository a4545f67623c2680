// The memory that gradients of layers are said to take, against what an allocator that counts has seen.
#include <weft/layer/delta_net_vjp.hpp>
#include <weft/layer/feed_forward_vjp.hpp>
#include <weft/weft.hpp>

#include "../failing_allocator.hpp"
#include "layer_problem.hpp"

namespace {

using weft::index;

weft::delta_net<double> net() {
  weft::delta_net<double> l{.options = {.key_heads = 1, .value_heads = 2, .key_dim = 16, .value_dim = 12}};
  l.qkv = test::random_projection(56, 20, 1);
  l.conv = test::normal<double, 2>({56, 4}, 2);
  l.b = test::random_projection(2, 20, 3);
  l.a.up = test::random_projection(2, 20, 4);
  l.z.up = test::random_projection(24, 20, 5);
  l.decay = weft::decay_gate<double>::make(test::normal<double, 1>({2}, 6), test::normal<double, 1>({2}, 7));
  l.norm = test::normal<double, 1>({12}, 8);
  l.out = test::random_projection(20, 24, 9);
  return l;
}
weft::feed_forward<double> inner() { return {test::random_projection(50, 20, 1), test::random_projection(50, 20, 2), test::random_projection(20, 50, 3)}; }

template <class L>
void hold(const L& layer, index every) {
  const auto x = test::normal<double, 3>({2, 150, 20}, 10);
  const auto start = layer.state({.batch = 2});
  weft::array<double, 3> y(x.extent()), d_x(x.extent());
  auto d = weft::zero_gradients(layer);
  weft::cpu warm, fresh;
  weft::tape first{.every = every}, tape{.every = every};
  // One row stands for all tokens: what does not run reads none, and writes none.
  const weft::view<const double, 3> from(x.data(), x.extent(), {0, 0, 1});
  const auto told = weft::gradient_memory(warm, layer, {.x = from}, start, {.y = y}, {.y = from}, {.x = d_x, .parameters = &d}, every);
  CHECK(std::all_of(y.data(), y.data() + y.size(), [](double e) { return e == 0; }));
  CHECK(std::all_of(d_x.data(), d_x.data() + d_x.size(), [](double e) { return e == 0; }));

  auto state = start, again = start;
  weft::scan(warm, layer, {.x = x}, again, {.y = y}, first);
  auto d_state = weft::zero_state_gradient(layer, state);
  std::ptrdiff_t recorded = 0, back = 0;
  {
    const watch w(-1);
    weft::scan(warm, layer, {.x = x}, state, {.y = y}, tape);
    recorded = most_held;
  }
  {
    const watch w(-1);
    weft::vjp(fresh, layer, {.x = x}, tape, {.y = x}, d_state, {.x = d_x, .parameters = &d});
    back = most_held;
  }
  // More is seen by names, which the checks hold for a moment; less where a call has given back a part before it takes the next.
  struct one {
    std::size_t said;
    std::ptrdiff_t seen, besides;
  };
  for (const auto& [said, seen, besides] : {one{told.tape, recorded, 4096}, one{told.vjp, back, 12288}}) {
    CAPTURE(every, said, seen);
    CHECK(std::abs(seen - static_cast<std::ptrdiff_t>(said)) <= besides);
    CHECK(static_cast<std::ptrdiff_t>(said) > 2 * besides);
  }
}

}  // namespace

TEST_CASE("the memory of a layer's gradients is told beforehand") {
  const weft::index every = GENERATE(0, 16, 64);
  hold(net(), every);
  hold(weft::schedule(net(), inner(), net()), every);
}
