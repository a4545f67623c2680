#include <weft/layer/delta_net_vjp.hpp>

#include "layer_problem.hpp"
#include "refusals.hpp"

namespace {

using weft::index;
using L = weft::delta_net<double>;

// Two value heads a key head; `channels`: a decay of every key channel, by a bounded gate and low-rank projections.
test::layer_problem<L> problem(bool channels, bool packed, index time) {
  const index hidden = 6, hk = channels ? 2 : 1, hv = 2, dk = 3, dv = 4, decays = channels ? hv * dk : hv, width = hv * dv, mixed = 2 * hk * dk + width;
  test::layer_problem<L> p;
  L& l = p.layer;
  l.options = {.key_heads = hk, .value_heads = hv, .key_dim = dk, .value_dim = dv, .norm_eps = 1e-3,
               .gate = channels ? weft::activation::sigmoid : weft::activation::silu, .beta_factor = channels ? 1.0 : 2.0};
  l.qkv = test::random_projection(mixed, hidden, 1);
  l.conv = test::normal<double, 2>({mixed, 4}, 2, 0.5);
  l.b = test::random_projection(hv, hidden, 3, true);
  if (channels) {
    l.a = {test::random_projection(2, hidden, 4), test::random_projection(decays, 2, 5)};
    l.z = {test::random_projection(3, hidden, 6), test::random_projection(width, 3, 7, true)};
  } else {
    l.a.up = test::random_projection(decays, hidden, 5);
    l.z.up = test::random_projection(width, hidden, 7);
  }
  l.decay = weft::decay_gate<double>::make(test::normal<double, 1>({hv}, 8, 0.5), test::normal<double, 1>({decays}, 9), channels ? std::optional(-3.0) : std::nullopt);
  l.norm = test::normal<double, 1>({dv}, 10);
  l.out = test::random_projection(hidden, width, 11);
  p.x = test::normal<double, 3>({packed ? 1 : 2, time, hidden}, 12);
  p.d_y = test::normal<double, 3>(p.x.extent(), 13);
  if (packed) p.cu = {0, 4, 4, time};
  p.start = l.state({.batch = packed ? 3 : 2});
  test::fill(p.start, 14);
  p.d_end = p.start;
  test::fill(p.d_end, 20);
  return p;
}

}  // namespace

TEST_CASE("gradients of the gated delta nets: a decay a head, and a decay a channel") {
  const bool channels = GENERATE(false, true), packed = GENERATE(false, true);
  test::check_layer(problem(channels, packed, 9));
}

TEST_CASE("gradients of a delta net whose states are read with an offset") {
  auto p = problem(GENERATE(false, true), true, 9);
  p.layer.offset = test::normal<double, 3>({2, 3, 4}, 30, 0.3);
  test::check_layer(p);
}

TEST_CASE("the recurrent state's gradient alone takes the short way") {
  weft::cpu executor;
  const auto p = problem(false, false, 40);
  const auto got = p.gradients(executor);
  weft::tape tape;
  auto state = p.start;
  weft::array<double, 3> y(p.x.extent());
  weft::scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape);
  L::state_gradient d{{}, p.d_end.recurrent};  // no part for the convolution
  auto end = p;
  end.d_end.conv = {};
  const auto expected = end.gradients(executor);
  weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d);
  CHECK(test::largest_difference(d.recurrent.matrix, expected.state.recurrent.matrix) < 1e-12);
}

TEST_CASE("gradients of layers say what is wrong and leave everything as it was") {
  using Catch::Matchers::Contains;
  weft::cpu executor;
  auto p = problem(false, false, 5);
  weft::tape empty, tape;
  auto state = p.start;
  auto d_state = p.d_end;
  weft::array<double, 3> y(p.x.extent()), d_x(p.x.extent());
  CHECK_THROWS_WITH(weft::vjp(executor, p.layer, {.x = p.x}, empty, {.y = p.d_y}, d_state, {.x = d_x}), Contains("tape: expected one filled"));
  weft::scan(executor, p.layer, {.x = p.x}, state, {.y = y}, tape);
  CHECK_THROWS_WITH(weft::vjp(executor, p.layer, {.x = p.x.view().slice(1, 0, 4)}, tape, {.y = p.d_y.view().slice(1, 0, 4)}, d_state),
                    Contains("tape: expected one of a scan over [2, 4, 6], got [2, 5, 6]"));
  auto parameters = weft::zero_gradients(p.layer);
  parameters.a.up.weight = weft::array<double, 2>({2, 5});
  CHECK_THROWS_WITH(weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = d_x, .parameters = &parameters}),
                    Contains("gradient of a.up.weight: expected [2, 6], got [2, 5]"));
  CHECK_THROWS_WITH(weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = p.x.view()}), Contains("d_x: expected memory apart from x"));
  d_state.recurrent.matrix = weft::array<double, 4>({2, 2, 3, 5});
  const auto before = d_state;
  parameters = weft::zero_gradients(p.layer);
  CHECK_THROWS_WITH(weft::vjp(executor, p.layer, {.x = p.x}, tape, {.y = p.d_y}, d_state, {.x = d_x, .parameters = &parameters}), Contains("d_state: expected [2, 2, 3, 4]"));
  double sum = 0;
  weft::for_each_parameter(parameters, [&](const std::string&, const auto& a) {
    for (weft::index i = 0; i < a.size(); ++i) sum += std::abs(a.data()[i]);
  });
  for (weft::index i = 0; i < d_x.size(); ++i) sum += std::abs(d_x.data()[i]);
  CHECK(sum == 0.0);
  CHECK(test::largest_difference(d_state.conv.inputs, before.conv.inputs) == 0.0);
}

TEST_CASE("an offset of a state refuses what is no tensor, and results over what they read") {
  weft::cpu executor;
  auto offset = test::normal<double, 3>({2, 3, 3}, 1), d_offset = offset;
  auto q = test::normal<double, 4>({2, 4, 1, 3}, 2), d_q = q;
  auto o = test::normal<double, 4>({2, 4, 2, 3}, 3), d_o = o;
  const test::refusals r(offset, d_offset, q, d_q, o, d_o);
  const auto reads = [&](auto from, auto to) { weft::read_offset<double>(executor, offset, from, to); };
  r.input("q", q.view(), [&](auto v) { reads(v, o.view()); });
  r.result("o", o.view(), [&](auto v) { reads(q.view(), v); });
  r.says("o: expected memory apart from read_offset", [&] { reads(q.view().slice(0, 0, 1).slice(1, 0, 1), weft::view<double, 4>(offset.data(), {1, 1, 2, 3})); });
  const auto back = [&](auto from, auto d, auto to, auto* to_offset) { weft::read_offset_vjp<double>(executor, offset, from, d, to, to_offset); };
  r.input("q", q.view(), [&](auto v) { back(v, d_o.view(), d_q.view(), &d_offset); });
  r.input("o", d_o.view(), [&](auto v) { back(q.view(), v, d_q.view(), &d_offset); });
  r.result("d_q", d_q.view(), [&](auto v) { back(q.view(), d_o.view(), v, &d_offset); }, true);
  r.says("d_q: expected memory apart from q", [&] { back(q.view(), d_o.view(), test::shifted(q.view()), &d_offset); });
  r.says("d_read_offset: expected memory apart from read_offset", [&] { back(q.view(), d_o.view(), d_q.view(), &offset); });
  weft::array<double, 3> other({2, 3, 2});
  r.says("d_read_offset: expected [2, 3, 3], got [2, 3, 2]", [&] { back(q.view(), d_o.view(), d_q.view(), &other); });
}
