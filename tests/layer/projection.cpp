#include "../catch.hpp"

#include <weft/interop/eigen_pool.hpp>
#include <weft/layer/projection.hpp>

#include "random.hpp"

namespace {

using namespace weft;
using weft::index;

template <class T>
projection<T> random_projection(index out, index in, bool bias) {
  return {test::normal<T, 2>({out, in}, 1), bias ? test::normal<T, 1>({out}, 2) : array<T, 1>()};
}

template <class T>
double exact(const projection<T>& p, const array<T, 3>& x, index b, index t, index o) {
  double y = p.bias.null() ? 0.0 : static_cast<double>(p.bias(o));
  for (index i = 0; i < p.inputs(); ++i) y += static_cast<double>(p.weight(o, i)) * static_cast<double>(x(b, t, i));
  return y;
}

template <class T, class Out>
double worst(const projection<T>& p, const array<T, 3>& x, const array<Out, 3>& y) {
  double d = 0;
  for (index b = 0; b < x.extent(0); ++b)
    for (index t = 0; t < x.extent(1); ++t)
      for (index o = 0; o < p.outputs(); ++o) d = std::max(d, test::difference(y(b, t, o), exact(p, x, b, t, o)));
  return d;
}

TEMPLATE_TEST_CASE("projection equals its sum for any shape, sums of 16-bit storage included", "", float, double, bf16, fp16) {
  using R = accumulate_t<TestType>;
  cpu executor;
  const index B = GENERATE(1, 3), n = GENERATE(0, 1, 7), in = GENERATE(0, 1, 40), out = GENERATE(1, 5, 70);
  const bool bias = GENERATE(false, true);
  const auto p = random_projection<TestType>(out, in, bias);
  const auto x = test::normal<TestType, 3>({B, n, in}, 3);
  array<R, 3> wide({B, n, out});
  project<TestType>(executor, p, x, wide);
  CHECK(worst(p, x, wide) < 2e-5);
  array<TestType, 3> narrow({B, n, out});
  project<TestType>(executor, p, x, narrow);
  for (index i = 0; i < narrow.size(); ++i) CHECK(static_cast<R>(narrow.data()[i]) == static_cast<R>(static_cast<TestType>(wide.data()[i])));
}

TEMPLATE_TEST_CASE("projection of wide inputs by 16-bit weights, and by two of them", "", bf16, fp16) {
  cpu executor;
  const auto p = random_projection<TestType>(30, 20, true);
  const auto x = test::normal<float, 3>({2, 9, 20}, 3);
  array<float, 3> y({2, 9, 30});
  project<TestType>(executor, p, x, y);
  double d = 0;
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 9; ++t)
      for (index o = 0; o < 30; ++o) {
        double sum = static_cast<double>(p.bias(o));
        for (index i = 0; i < 20; ++i) sum += static_cast<double>(p.weight(o, i)) * static_cast<double>(x(b, t, i));
        d = std::max(d, test::difference(y(b, t, o), sum));
      }
  CHECK(d < 1e-5);

  const low_rank_projection<TestType> two{random_projection<TestType>(5, 30, false), random_projection<TestType>(7, 5, true)};
  const auto narrow = test::normal<TestType, 3>({1, 3, 30}, 4);
  array<float, 3> middle({1, 3, 5}), by_hand({1, 3, 7}), z({1, 3, 7});
  project<TestType>(executor, two.down, narrow, middle);
  project<TestType>(executor, two.up, middle, by_hand);
  project<TestType>(executor, two, narrow, z);
  CHECK(test::largest_difference(z, by_hand) == 0.0);
}

TEST_CASE("projection into and out of slices of a wider buffer") {
  cpu executor;
  const auto p = random_projection<float>(6, 10, true);
  const auto x = test::normal<float, 3>({2, 300, 10}, 3);
  array<float, 3> buffer({2, 300, 16}), y({2, 300, 6}), again({2, 300, 6});
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 300; ++t)
      for (index c = 0; c < 10; ++c) buffer(b, t, c) = x(b, t, c);
  project<float>(executor, p, x, y);
  CHECK(worst(p, x, y) < 1e-5);
  project<float>(executor, p, buffer.view().slice(2, 0, 10), buffer.view().slice(2, 10, 6));
  for (index b = 0; b < 2; ++b)
    for (index t = 0; t < 300; ++t)
      for (index c = 0; c < 6; ++c) CHECK(buffer(b, t, 10 + c) == y(b, t, c));
}

TEST_CASE("projection gives the same bits for every number of threads") {
  const auto p = random_projection<float>(700, 130, true);
  const auto x = test::normal<float, 3>({2, 333, 130}, 3);
  cpu serial;
  array<float, 3> expected({2, 333, 700});
  project<float>(serial, p, x, expected);
  for (const int helpers : {1, 2, 4}) {
    Eigen::ThreadPool threads(helpers);
    eigen_pool pool(threads);
    cpu executor(pool);
    array<float, 3> y(expected.extent());
    project<float>(executor, p, x, y);
    CHECK(test::largest_difference(y, expected) == 0.0);
  }
}

TEST_CASE("rows of projections are picked and stacked") {
  const auto p = random_projection<float>(4, 3, true);
  const index order[] = {2, 0, 2};
  const auto picked = pick_rows<float>(p, order);
  for (index i = 0; i < 3; ++i) {
    CHECK(picked.bias(i) == p.bias(order[i]));
    CHECK(picked.weight(i, 1) == p.weight(order[i], 1));
  }
  const std::array parts{picked, p};
  const auto both = stack_rows<float>(parts);
  CHECK(both.outputs() == 7);
  CHECK(both.weight(3, 2) == p.weight(0, 2));
  CHECK(both.bias(6) == p.bias(3));
  const std::array unlike{picked, random_projection<float>(2, 3, false)};
  CHECK_THROWS_AS(stack_rows<float>(unlike), weft::error);
}

TEST_CASE("projection says what is wrong with its arguments") {
  using Catch::Matchers::Contains;
  cpu executor;
  const auto p = random_projection<float>(4, 3, false);
  array<float, 3> x({1, 2, 3}), y({1, 2, 4}), less({1, 2, 2});
  CHECK_THROWS_WITH(project<float>(executor, p, less, y), Contains("x: expected [1, 2, 3], got [1, 2, 2]"));
  CHECK_THROWS_WITH(project<float>(executor, p, x, less), Contains("y: expected [1, 2, 4], got [1, 2, 2]"));
  CHECK_THROWS_WITH(project<float>(executor, p, view<float, 3>(x.data(), {1, -2, 3}), view<float, 3>(y.data(), {1, -2, 4})), Contains("x: expected extents from 0 up"));
  array<float, 3> shared({1, 2, 7});
  CHECK_THROWS_WITH(project<float>(executor, p, shared.view().slice(2, 0, 3), shared.view().slice(2, 1, 4)), Contains("y: expected memory apart from x"));
}

}  // namespace
