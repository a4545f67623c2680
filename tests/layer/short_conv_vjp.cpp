#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/short_conv_vjp.hpp>

#include "gradient.hpp"
#include "refusals.hpp"

namespace {

using namespace weft;
using weft::index;
using test::differences;
using test::dot;
using test::gradient_bound;
using test::normal;
using test::relative_difference;

template <class T>
struct problem {
  short_conv<T> mixer;
  array<T, 3> x;
  array<T, 2> weight;
  array<T, 1> bias;
  conv_state<T> start;
  array<T, 3> d_o;
  conv_state<T> d_end;
  std::vector<index> cu;

  struct result {
    array<T, 3> x;
    array<T, 2> weight;
    array<T, 1> bias;
    conv_state<T> state;
  };

  problem(index sequences, index batch, index time, index channels, index taps, activation act)
      : mixer{.taps = taps, .activation = act}, x(normal<T, 3>({batch, time, channels}, 1)), weight(normal<T, 2>({channels, taps}, 2)),
        bias(normal<T, 1>({channels}, 3)), start{normal<T, 3>({sequences, taps - 1, channels}, 4)}, d_o(normal<T, 3>(x.extent(), 5)),
        d_end{normal<T, 3>(start.inputs.extent(), 6)} {}

  typename short_conv<T>::inputs in() const { return {.x = x, .weight = weight, .bias = bias}; }
  double loss() const {
    cpu executor;
    auto state = start;
    array<T, 3> o(x.extent());
    weft::scan(executor, mixer, in(), state, {.o = o}, cu);
    return dot(o, d_o) + dot(state.inputs, d_end.inputs);
  }
  result gradients(cpu& executor) const {
    result r{array<T, 3>(x.extent()), array<T, 2>(weight.extent()), array<T, 1>(bias.extent()), d_end};
    tape tape;
    auto state = start;
    array<T, 3> o(x.extent());
    weft::scan(executor, mixer, in(), state, {.o = o}, tape, cu);
    weft::vjp(executor, mixer, in(), tape, {.o = d_o}, r.state, {.x = r.x, .weight = r.weight, .bias = r.bias});
    return r;
  }
};

TEST_CASE("gradients of the short convolution, packed sequences included") {
  cpu executor;
  const index taps = GENERATE(1, 2, 4, 5), channels = GENERATE(3, 70);
  const auto act = GENERATE(activation::none, activation::silu);
  const bool packed = GENERATE(false, true);
  const index time = packed ? 13 : GENERATE(0, 1, 3, 9);
  problem<double> p(packed ? 4 : 2, packed ? 1 : 2, time, channels, taps, act);
  if (packed) p.cu = {0, 2, 2, 9, 13};
  const auto got = p.gradients(executor);
  const auto loss = [&] { return p.loss(); };
  CHECK(relative_difference(got.x, differences(p.x, loss)) < gradient_bound);
  CHECK(relative_difference(got.weight, differences(p.weight, loss)) < gradient_bound);
  CHECK(relative_difference(got.bias, differences(p.bias, loss)) < gradient_bound);
  CHECK(relative_difference(got.state.inputs, differences(p.start.inputs, loss)) < gradient_bound);

  tape tape;
  auto state = p.start, d_state = p.d_end;
  array<double, 3> o(p.x.extent());
  weft::scan(executor, p.mixer, p.in(), state, {.o = o}, tape, p.cu);
  weft::vjp(executor, p.mixer, p.in(), tape, {.o = p.d_o}, d_state);
  CHECK(test::largest_difference(d_state.inputs, got.state.inputs) == 0.0);
}

TEST_CASE("gradients of the short convolution in pieces are those of the whole") {
  cpu executor;
  problem<double> p(2, 2, 11, 6, 4, activation::silu);
  const auto whole = p.gradients(executor);
  const index cut = GENERATE(0, 1, 2, 3, 7, 11);
  tape tapes[2];
  auto state = p.start, d_state = p.d_end;
  array<double, 3> o(p.x.extent()), d_x(p.x.extent());
  array<double, 2> d_w[2] = {array<double, 2>(p.weight.extent()), array<double, 2>(p.weight.extent())};
  const auto part = [&](const auto& v, int i) { return i == 0 ? v.slice(1, 0, cut) : v.slice(1, cut, 11 - cut); };
  const auto in = [&](int i) { return short_conv<double>::inputs{.x = part(p.in().x, i), .weight = p.weight, .bias = p.bias}; };
  for (const int i : {0, 1}) weft::scan(executor, p.mixer, in(i), state, {.o = part(o.view(), i)}, tapes[i]);
  for (const int i : {1, 0})
    weft::vjp(executor, p.mixer, in(i), tapes[i], {.o = part(p.d_o.view(), i)}, d_state, {.x = part(d_x.view(), i), .weight = d_w[i]});
  for (index i = 0; i < d_w[0].size(); ++i) d_w[0].data()[i] += d_w[1].data()[i];
  CHECK(relative_difference(d_x, whole.x) < 1e-14);
  CHECK(relative_difference(d_w[0], whole.weight) < 1e-14);
  CHECK(relative_difference(d_state.inputs, whole.state.inputs) < 1e-14);
}

TEST_CASE("gradients of the short convolution are the same bits for every number of threads") {
  const problem<float> p(2, 2, 33, 300, 4, activation::silu);
  cpu serial;
  const auto expected = p.gradients(serial);
  for (const int helpers : {1, 3}) {
    Eigen::ThreadPool threads(helpers);
    eigen_pool pool(threads);
    cpu executor(pool);
    const auto got = p.gradients(executor);
    CHECK(test::largest_difference(got.x, expected.x) == 0.0);
    CHECK(test::largest_difference(got.weight, expected.weight) == 0.0);
    CHECK(test::largest_difference(got.bias, expected.bias) == 0.0);
    CHECK(test::largest_difference(got.state.inputs, expected.state.inputs) == 0.0);
  }
}

TEST_CASE("gradients of the short convolution say what is wrong") {
  using Catch::Matchers::Contains;
  cpu executor;
  problem<float> p(2, 2, 5, 3, 4, activation::silu);
  auto d_state = p.d_end;
  tape empty, tape;
  CHECK_THROWS_WITH(weft::vjp(executor, p.mixer, p.in(), empty, {.o = p.d_o}, d_state), Contains("tape: expected one filled by a scan of this mixer, got an empty one"));
  array<float, 3> o(p.x.extent());
  auto state = p.start;
  weft::scan(executor, p.mixer, {.x = p.x.view().slice(1, 0, 4), .weight = p.weight}, state, {.o = o.view().slice(1, 0, 4)}, tape);
  CHECK_THROWS_WITH(weft::vjp(executor, p.mixer, p.in(), tape, {.o = p.d_o}, d_state), Contains("tape: expected one of a scan over [2, 5, 3, 4]"));
  weft::scan(executor, p.mixer, p.in(), state, {.o = o}, tape);
  CHECK_THROWS_WITH(weft::vjp(executor, p.mixer, p.in(), tape, {.o = p.d_o}, d_state, {.x = p.d_o}), Contains("d_x: expected memory apart from d_o"));
  conv_state<float> other{array<float, 3>({2, 2, 3})};
  CHECK_THROWS_WITH(weft::vjp(executor, p.mixer, p.in(), tape, {.o = p.d_o}, other), Contains("d_state.inputs: expected [2, 3, 3], got [2, 2, 3]"));
}

TEST_CASE("the short convolution and its gradients refuse what is no tensor, and results over what they read or over each other") {
  cpu executor;
  problem<float> p(2, 2, 5, 3, 4, activation::silu);
  auto state = p.start, d_state = p.d_end;
  array<float, 3> o(p.x.extent()), d_x(p.x.extent());
  array<float, 2> d_weight(p.weight.extent());
  array<float, 1> d_bias(p.bias.extent());
  tape tape;
  weft::scan(executor, p.mixer, p.in(), state, {.o = o}, tape);
  const test::refusals r(p.x, p.weight, p.bias, p.d_o, state.inputs, d_state.inputs, o, d_x, d_weight, d_bias);
  using inputs = short_conv<float>::inputs;
  using gradients = short_conv<float>::gradients;
  const auto scans = [&](const inputs& in, auto to) { weft::scan(executor, p.mixer, in, state, {.o = to}); };
  const auto back = [&](const inputs& in, auto d_o, const gradients& to) { weft::vjp(executor, p.mixer, in, tape, {.o = d_o}, d_state, to); };
  const auto with = [&](auto member, auto v) {
    auto in = p.in();
    in.*member = v;
    return in;
  };
  r.input("x", p.x.view(), [&](auto v) { scans(with(&inputs::x, v), o.view()); });
  r.input("weight", p.weight.view(), [&](auto v) { scans(with(&inputs::weight, v), o.view()); });
  r.input("bias", p.bias.view(), [&](auto v) { scans(with(&inputs::bias, v), o.view()); }, true);
  r.says("x: expected [batch, time, 3], got a null view", [&] { scans(with(&inputs::x, view<float, 3>()), o.view()); });
  r.says("weight: expected [3, 4], got a null view", [&] { scans(with(&inputs::weight, view<float, 2>()), o.view()); });
  r.result("o", o.view(), [&](auto v) { scans(p.in(), v); });
  r.says("state.inputs: expected memory apart from weight", [&] { scans(with(&inputs::weight, view<float, 2>(state.inputs.data(), {3, 4})), o.view()); });
  r.says("state.inputs: expected memory apart from bias", [&] { scans(with(&inputs::bias, view<float, 1>(state.inputs.data(), {3})), o.view()); });
  r.says("o: expected memory apart from state.inputs", [&] { scans({.x = p.x.view().slice(1, 0, 1), .weight = p.weight}, state.inputs.view().slice(1, 0, 1)); });

  const gradients all{.x = d_x, .weight = d_weight, .bias = d_bias};
  r.says("weight: expected a last stride of 1", [&] { back(with(&inputs::weight, view<float, 2>(p.weight.data(), {3, 4}, {1, 3})), p.d_o.view(), all); });
  r.says("x: expected [2, 5, 3], got a null view", [&] { back(with(&inputs::x, view<float, 3>()), p.d_o.view(), all); });
  r.says("weight: expected [3, 4], got a null view", [&] { back(with(&inputs::weight, view<float, 2>()), p.d_o.view(), all); });
  r.input("d_o", p.d_o.view(), [&](auto v) { back(p.in(), v, all); }, true);
  r.result("d_x", d_x.view(), [&](auto v) { back(p.in(), p.d_o.view(), {.x = v}); }, true);
  r.says("d_x: expected memory apart from x", [&] { back(p.in(), p.d_o.view(), {.x = p.x}); });
  r.says("d_bias: expected memory apart from d_weight", [&] { back(p.in(), p.d_o.view(), {.weight = d_weight, .bias = view<float, 1>(d_weight.data(), {3})}); });
  r.says("d_state.inputs: expected memory apart from x", [&] { back(with(&inputs::x, view<float, 3>(d_state.inputs.data(), p.x.extent(), {0, 3, 1})), p.d_o.view(), all); });
}

}  // namespace
