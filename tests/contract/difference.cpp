// The measure itself: no NaN is near anything.
#include "../difference.hpp"

#include <span>
#include <vector>

#include <weft/core/array.hpp>
#include <weft/core/dtype.hpp>

#include "../catch.hpp"

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

TEST_CASE("a NaN is infinitely far from every number, itself included, wherever it stands") {
  CHECK(test::difference(nan, 1.0) == infinity);
  CHECK(test::difference(1.0f, std::numeric_limits<float>::quiet_NaN()) == infinity);
  CHECK(test::difference(nan, nan) == infinity);
  CHECK(test::difference(nan, infinity) == infinity);
  const std::vector<double> zeros(3);
  for (std::size_t i = 0; i < 3; ++i) {
    auto with = zeros;
    with[i] = nan;
    CHECK(test::largest_difference(with, zeros) == infinity);
    CHECK(test::largest_difference(zeros, with) == infinity);
  }
}

TEST_CASE("an infinity is far from all but itself, and no measure") {
  CHECK(test::difference(infinity, infinity) == 0);
  CHECK(test::difference(-infinity, -infinity) == 0);
  CHECK(test::difference(infinity, -infinity) == infinity);
  CHECK(test::difference(1.0, -infinity) == infinity);
  CHECK(test::largest(std::vector<double>{-3, infinity, nan, 2}) == 3);
}

TEST_CASE("the largest difference of storage types, spans and shapes") {
  weft::array<weft::bf16, 2> a({2, 2});
  weft::array<double, 2> b({2, 2});
  a(1, 0) = weft::bf16(1.5f);
  b(1, 0) = -1, b(1, 1) = 2;
  CHECK(test::largest_difference(a, b) == 2.5);
  CHECK(test::largest_difference(a, weft::array<double, 2>({1, 4})) == infinity);
  CHECK(test::largest_difference(std::span(b.data(), 3), std::vector<float>{0, 0, 0}) == 1);
  CHECK(test::largest_difference(std::vector<float>{1}, std::vector<float>{1, 1}) == infinity);
}

}  // namespace
