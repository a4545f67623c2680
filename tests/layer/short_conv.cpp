#include "../catch.hpp"

#include <cmath>

#include <weft/layer/short_conv.hpp>

#include "random.hpp"

namespace {

using namespace weft;
using weft::index;

template <class T>
struct problem {
  short_conv<T> mixer;
  array<T, 3> x;
  array<T, 2> weight;
  array<T, 1> bias;
  conv_state<T> start;
  using R = accumulate_t<T>;

  problem(index batch, index time, index channels, index taps, activation act)
      : mixer{.taps = taps, .activation = act}, x(test::normal<T, 3>({batch, time, channels}, 1)), weight(test::normal<T, 2>({channels, taps}, 2)),
        bias(test::normal<T, 1>({channels}, 3)), start{test::normal<T, 3>({batch, taps - 1, channels}, 4)} {}

  // Output t of sequence b, by the definition, in double.
  double expected(index b, index t, index c) const {
    double y = static_cast<double>(bias(c));
    for (index j = 0; j < mixer.taps; ++j) {
      const index s = t - mixer.taps + 1 + j;
      y += static_cast<double>(weight(c, j)) * static_cast<double>(s >= 0 ? x(b, s, c) : start.inputs(b, mixer.taps - 1 + s, c));
    }
    return mixer.activation == activation::silu ? y / (1.0 + std::exp(-y)) : y;
  }
};

TEMPLATE_TEST_CASE("short convolution: scan, literal and steps equal the definition", "", float, double, bf16, fp16) {
  using R = accumulate_t<TestType>;
  cpu executor;
  const index taps = GENERATE(1, 2, 3, 4, 5), channels = GENERATE(1, 37, 600), time = GENERATE(0, 1, 2, 9);
  const auto act = GENERATE(activation::none, activation::silu);
  problem<TestType> p(2, time, channels, taps, act);

  array<R, 3> o({2, time, channels});
  auto state = p.start;
  weft::scan(executor, p.mixer, {.x = p.x, .weight = p.weight, .bias = p.bias}, state, {.o = o});
  double worst = 0;
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < time; ++t)
      for (index c = 0; c < channels; ++c) worst = std::max(worst, test::difference(o(b, t, c), p.expected(b, t, c)));
  CHECK(worst < 1e-5);

  array<R, 3> by_steps(o.extent()), literal(o.extent());
  auto stepped = p.start, spelled = p.start;
  for (index t = 0; t < time; ++t)
    weft::step(executor, p.mixer, {.x = p.x.view().slice(1, t, 1), .weight = p.weight, .bias = p.bias}, stepped, {.o = by_steps.view().slice(1, t, 1)});
  weft::literal(p.mixer, {.x = p.x, .weight = p.weight, .bias = p.bias}, spelled, {.o = literal});
  CHECK(test::largest_difference(by_steps, o) == 0.0);
  CHECK(test::largest_difference(literal, o) < 1e-5);
  CHECK(test::largest_difference(stepped.inputs, state.inputs) == 0.0);
  CHECK(test::largest_difference(spelled.inputs, state.inputs) == 0.0);
  for (index i = 0; i < taps - 1; ++i) {  // the last inputs, whatever their age
    const index t = time - taps + 1 + i;
    CHECK(static_cast<double>(state.inputs(1, i, 0)) == static_cast<double>(t >= 0 ? p.x(1, t, 0) : p.start.inputs(1, taps - 1 + t, 0)));
  }
}

TEST_CASE("short convolution: packed sequences are each by themselves, and a split anywhere is exact") {
  cpu executor;
  const index cu[] = {0, 3, 3, 4, 11};
  problem<float> p(1, 11, 20, 4, activation::silu);
  conv_state<float> packed{test::normal<float, 3>({4, 3, 20}, 5)};
  const conv_state<float> start = packed;
  array<float, 3> o({1, 11, 20}), single(o.extent());
  weft::scan(executor, p.mixer, {.x = p.x, .weight = p.weight, .bias = p.bias}, packed, {.o = o}, cu);
  for (index n = 0; n < 4; ++n) {
    auto one = start.gather({n});
    const index begin = cu[n], count = cu[n + 1] - begin, cut = count / 2;
    for (const auto& [first, length] : {std::pair{begin, cut}, std::pair{begin + cut, count - cut}})
      weft::scan(executor, p.mixer, {.x = p.x.view().slice(1, first, length), .weight = p.weight, .bias = p.bias}, one, {.o = single.view().slice(1, first, length)});
    CHECK(test::largest_difference(one.inputs, packed.gather({n}).inputs) == 0.0);
  }
  CHECK(test::largest_difference(o, single) == 0.0);
}

TEST_CASE("short convolution: bad arguments are named and nothing is written") {
  using Catch::Matchers::Contains;
  cpu executor;
  problem<float> p(2, 5, 8, 4, activation::none);
  auto state = p.start;
  array<float, 3> o({2, 5, 8}), less({2, 4, 8});
  array<float, 2> weight({8, 3});
  CHECK_THROWS_WITH(weft::scan(executor, p.mixer, {.x = p.x, .weight = weight}, state, {.o = o}), Contains("weight: expected [8, 4], got [8, 3]"));
  CHECK_THROWS_WITH(weft::scan(executor, p.mixer, {.x = p.x, .weight = p.weight}, state, {.o = less}), Contains("o: expected [2, 5, 8], got [2, 4, 8]"));
  CHECK_THROWS_WITH(weft::scan(executor, p.mixer, {.x = p.x, .weight = p.weight}, state, {.o = p.x}), Contains("o: expected memory apart from x"));
  CHECK_THROWS_WITH(weft::step(executor, p.mixer, {.x = p.x, .weight = p.weight}, state, {.o = o}), Contains("one token"));
  auto other = p.mixer.state({.batch = 3, .value_dim = 8});
  CHECK_THROWS_WITH(weft::scan(executor, p.mixer, {.x = p.x, .weight = p.weight}, other, {.o = o}), Contains("state.inputs: expected [2, 3, 8], got [3, 3, 8]"));
  CHECK(test::largest_difference(state.inputs, p.start.inputs) == 0.0);
}

}  // namespace
