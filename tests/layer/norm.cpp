#include "../catch.hpp"

#include <cmath>
#include <limits>

#include <weft/layer/norm.hpp>

#include "random.hpp"

namespace {

using namespace weft;
using weft::index;

double act(activation a, double x) { return a == activation::none ? 1.0 : (a == activation::silu ? x : 1.0) / (1.0 + std::exp(-x)); }

// A row of the gated norm in double.
double expected(const array<double, 4>& x, const array<double, 4>& z, const array<double, 1>& w, const rms_norm_options& o, index b, index t, index h, index c) {
  const index size = o.group_size ? o.group_size : x.extent(3), first = c / size * size;
  const auto before = [&](index i) { return x(b, t, h, i) * (o.norm_before_gate ? 1.0 : act(o.gate, z(b, t, h, i))); };
  double sum = 0;
  for (index i = first; i < first + size; ++i) sum += before(i) * before(i);
  const double y = before(c) / std::sqrt(sum / static_cast<double>(size) + o.eps) * (w(c) + (o.unit_offset ? 1.0 : 0.0));
  return o.norm_before_gate ? y * act(o.gate, z(b, t, h, c)) : y;
}

template <class T>
array<T, 4> rounded(const array<double, 4>& a) {
  array<T, 4> r(a.extent());
  for (index i = 0; i < a.size(); ++i) r.data()[i] = static_cast<T>(static_cast<accumulate_t<T>>(a.data()[i]));
  return r;
}

TEST_CASE("gated rms norm equals its formula for every order, gate and group") {
  cpu executor;
  const index D = GENERATE(1, 6, 8, 24, 96);
  const auto gate = GENERATE(activation::none, activation::silu, activation::sigmoid);
  const bool norm_first = GENERATE(true, false), offset = GENERATE(true, false);
  const index groups = D % 6 == 0 ? GENERATE(1, 3) : 1;
  const rms_norm_options options{.eps = 1e-5, .gate = gate, .norm_before_gate = norm_first, .group_size = groups == 1 ? 0 : D / groups, .unit_offset = offset};

  const auto x = test::normal<double, 4>({2, 3, 2, D}, 1), z = test::normal<double, 4>({2, 3, 2, D}, 2);
  const auto w = test::normal<double, 1>({D}, 3);
  array<double, 4> o({2, 3, 2, D});
  rms_norm_gated<double>(executor, x, z, w, o, options);
  double worst = 0;
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 3; ++t)
      for (index h = 0; h < 2; ++h)
        for (index c = 0; c < D; ++c) worst = std::max(worst, test::difference(o(b, t, h, c), expected(x, z, w, options, b, t, h, c)));
  CHECK(worst < 1e-13);

  SECTION("in place") {
    auto y = x;
    rms_norm_gated<double>(executor, y, z, w, y, options);
    CHECK(test::largest_difference(y, o) == 0.0);
  }
  SECTION("float") {
    const auto xf = rounded<float>(x), zf = rounded<float>(z);
    array<float, 1> wf({D});
    for (index c = 0; c < D; ++c) wf(c) = static_cast<float>(w(c));
    array<float, 4> of(x.extent());
    rms_norm_gated<float>(executor, xf, zf, wf, of, options);
    for (index i = 0; i < of.size(); ++i) CHECK(std::abs(static_cast<double>(of.data()[i]) - o.data()[i]) < 4e-6 * (1.0 + std::abs(o.data()[i])));
  }
}

TEMPLATE_TEST_CASE("l2 norm makes unit rows of any storage type, wide outputs included", "", double, float, bf16, fp16) {
  using R = accumulate_t<TestType>;
  cpu executor;
  const index D = GENERATE(1, 7, 64);
  const auto x = test::normal<TestType, 4>({2, 5, 3, D}, 4);
  array<R, 4> o(x.extent());
  l2_norm<TestType>(executor, x, o);
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 5; ++t)
      for (index h = 0; h < 3; ++h) {
        double sum = 0, worst = 0;
        for (index c = 0; c < D; ++c) sum += static_cast<double>(x(b, t, h, c)) * static_cast<double>(x(b, t, h, c));
        for (index c = 0; c < D; ++c)
          worst = std::max(worst, test::difference(o(b, t, h, c), static_cast<double>(x(b, t, h, c)) / std::sqrt(sum + 1e-6)));
        CHECK(worst < 4e-7);
      }
  SECTION("a row of zeros stays one") {
    array<TestType, 4> zero({1, 1, 1, D});
    l2_norm<TestType>(executor, zero, zero);
    for (index c = 0; c < D; ++c) CHECK(static_cast<double>(zero(0, 0, 0, c)) == 0.0);
  }
}

TEST_CASE("norms say what is wrong with their arguments") {
  cpu executor;
  array<float, 4> x({1, 2, 2, 8}), small({1, 2, 2, 4}), o({1, 2, 2, 8});
  array<float, 1> w({8}), short_w({4});
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(rms_norm_gated<float>(executor, x, small, w, o), Contains("z: expected [1, 2, 2, 8], got [1, 2, 2, 4]"));
  CHECK_THROWS_WITH(rms_norm_gated<float>(executor, x, {}, w, o), Contains("z: expected [1, 2, 2, 8], got a null view"));
  CHECK_THROWS_WITH(rms_norm<float>(executor, x, short_w, o), Contains("weight: expected [8], got [4]"));
  CHECK_THROWS_WITH(rms_norm<float>(executor, x, w, o, -1e-6), Contains("eps: expected 0 or a positive, finite number, got -1e-06"));
  CHECK_THROWS_WITH(l2_norm<float>(executor, x, o, std::numeric_limits<double>::infinity()), Contains("eps: expected 0 or a positive, finite number, got inf"));
  CHECK_THROWS_WITH(rms_norm_gated<float>(executor, x, x, w, o, {.group_size = 3}), Contains("group_size: expected a divisor of 8"));
  CHECK_THROWS_WITH(l2_norm<float>(executor, x, x.view().slice(1, 0, 1)), Contains("o: expected [1, 2, 2, 8]"));
  CHECK_THROWS_WITH(rms_norm<float>(executor, x, view<const float, 1>(o.data() + 8, {8}), o), Contains("o: expected memory apart from weight"));
  for (const index size : {index{-1}, index{1} << 62}) {
    const view<float, 4> odd(x.data(), {size, 2, 2, 8}), to(o.data(), odd.extent);
    CHECK_THROWS_WITH(rms_norm<float>(executor, odd, w, to), Contains("x: expected extents from 0 up"));
    CHECK_THROWS_WITH(l2_norm<float>(executor, odd, to), Contains("x: expected extents from 0 up"));
  }
  const view<float, 4> none(x.data(), {1 << 20, 1 << 20, 1 << 10, 0});  // returns at once
  CHECK_NOTHROW(l2_norm<float>(executor, none, none));
}

}  // namespace
