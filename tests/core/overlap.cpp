// Which views share elements, against every element listed.
#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <weft/core/check.hpp>

#include "catch.hpp"

namespace {

using namespace weft;
namespace check = weft::check;

struct dice {
  std::mt19937 random;
  weft::index below(weft::index n) { return std::uniform_int_distribution<weft::index>(0, n - 1)(random); }
};

template <class T>
std::multiset<const char*> bytes(const view<T, 4>& v) {
  std::multiset<const char*> all;
  for (weft::index a = 0; a < v.extent[0]; ++a)
    for (weft::index b = 0; b < v.extent[1]; ++b)
      for (weft::index c = 0; c < v.extent[2]; ++c)
        for (weft::index d = 0; d < v.extent[3]; ++d)
          for (std::size_t i = 0; i < sizeof(T); ++i) all.insert(reinterpret_cast<const char*>(&v(a, b, c, d)) + i);
  return all;
}

// Nested strides, which may be in any order, negative, a little too small, or none.
template <class T>
view<T, 4> some_view(T* middle, dice& d) {
  std::array<weft::index, 4> extent{}, stride{}, order{0, 1, 2, 3};
  if (d.below(2)) std::shuffle(order.begin(), order.end(), d.random);
  weft::index next = 1 + (d.below(4) == 0);
  for (std::size_t i = 4; i-- > 0;) {
    const auto at = static_cast<std::size_t>(order[i]);
    extent[at] = d.below(12) == 0 ? 0 : 1 + d.below(4);
    stride[at] = d.below(12) == 0 ? 0 : d.below(6) == 0 ? -next : next;
    next = std::max<weft::index>(1, next * extent[at] + (d.below(2) ? d.below(30) : 0) - (d.below(10) == 0));
  }
  return {middle + d.below(40), extent, stride};
}

}  // namespace

TEST_CASE("Views share elements exactly where they do") {
  std::vector<double> memory(1 << 14);
  dice d{std::mt19937(1)};
  int shared = 0, apart = 0, once = 0, twice = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto a = some_view(memory.data() + (1 << 13), d);
    const auto b = some_view(reinterpret_cast<float*>(memory.data() + (1 << 13)), d);
    const auto x = bytes(a), y = bytes(b);
    const bool share = std::ranges::any_of(x, [&](const char* at) { return y.count(at) > 0; });
    const bool itself = std::ranges::any_of(y, [&](const char* at) { return y.count(at) > 1; });
    const check::operand p("a", a), q("b", b);
    CAPTURE(i, a.extent, a.stride, b.extent, b.stride);
    REQUIRE(check::share_elements(p, q) == share);
    REQUIRE(check::share_elements(q, p) == share);
    REQUIRE(check::shares_with_itself(q) == itself);
    if (p.low < q.high && q.low < p.high) ++(share ? shared : apart);
    ++(itself ? twice : once);
  }
  // Neither answer is rare where ranges meet.
  CHECK(shared > 1000);
  CHECK(apart > 1000);
  CHECK(once > 1000);
  CHECK(twice > 1000);
}

TEST_CASE("Large interleaved views are told apart at once") {
  constexpr weft::index T = 1 << 20, H = 64, D = 128, row = 3 * H * D;
  float* const base = reinterpret_cast<float*>(std::uintptr_t{1} << 40);  // nothing is read
  const std::array<weft::index, 4> extent{8, T, H, D}, stride{T * row, row, D, 1};
  float* const at = base + 64;
  const view<float, 4> q(at, extent, stride), k(at + H * D, extent, stride), late(at + H * D - 1, extent, stride);
  CHECK_FALSE(check::share_elements({"q", q}, {"k", k}));
  CHECK(check::share_elements({"q", q}, {"k", late}));
  // Heads before tokens in one, after them in the other.
  const view<float, 4> turned(at + H * D, {8, H, T, D}, {T * row, D, row, 1});
  CHECK_FALSE(check::share_elements({"q", q}, {"k", turned}));
  CHECK(check::share_elements({"k", k}, {"k", turned}));
}

TEST_CASE("Strides that no tensor has are told from each other in bounded time, or count as shared") {
  const std::array<weft::index, 4> extent{100, 100, 100, 1};
  float* const at = reinterpret_cast<float*>(std::uintptr_t{1} << 40);
  const view<float, 4> a(at, extent, {4620, 4622, 4624, 1}), b(at + 1, extent, {4626, 4630, 4636, 1});
  CHECK(check::share_elements({"a", a}, {"b", b}));
  CHECK(check::shares_with_itself({"a", a}));
}

TEST_CASE("Extents and strides that no memory has are refused by every check") {
  constexpr weft::index huge = weft::index{1} << 62, least = std::numeric_limits<weft::index>::min();
  float number = 0;
  const auto complaint = [](const auto& v) -> std::string {
    try {
      check::tensor("x", v, v.extent, false, false);
    } catch (const weft::error& e) {
      CHECK(e.code() == weft::errc::shape);
      return e.what();
    }
    return {};
  };
  CHECK(complaint(view<float, 2>(&number, {-1, 3})) == "weft: x: expected extents from 0 up and elements within 2^60 bytes, got [-1, 3] with strides [3, 1]");
  for (const auto& extent : {std::array<weft::index, 4>{huge, 1, 1, 1}, {1, huge, huge, 8}, {0, huge, huge, 8}, {8, huge, huge, 0}, {least, least, 2, 2}, {1 << 20, 1 << 20, 1 << 20, 1}})
    CHECK(!complaint(view<float, 4>(&number, extent)).empty());
  for (const auto& stride : {std::array<weft::index, 2>{least, 1}, {huge, 1}, {-huge, 1}, {1, least}, {huge / 8, huge / 8}, {huge / 8, -huge / 8}})
    CHECK(!complaint(view<float, 2>(&number, {2, 2}, stride)).empty());
  CHECK(complaint(view<float, 2>(&number, {1, 1}, {least, huge})).empty());
  CHECK(complaint(view<float, 2>(&number, {2, 0}, {least, huge})).empty());
  CHECK(complaint(view<float, 4>(&number, {0, 1 << 20, 1 << 20, 8})).empty());
  const view<float, 2> one(&number, {1, 1}, {least, huge});
  CHECK_NOTHROW(check::result("x", one, {1, 1}, false, false));
  CHECK(check::share_elements({"x", one}, {"y", view<float, 2>(&number, {1, 1})}));
}

TEST_CASE("A view is the same as another whatever the strides of its unit extents") {
  float numbers[8];
  const view<float, 3> token(numbers, {2, 1, 4}, {4, 4, 1}), cut(numbers, {2, 1, 4}, {4, 100, 1});
  CHECK(check::same_view(token, view<const float, 3>(cut)));
  CHECK_FALSE(check::same_view(token, view<float, 3>(numbers, {2, 1, 4}, {3, 4, 1})));
  CHECK_FALSE(check::same_view(token, view<float, 3>(numbers + 1, {2, 1, 4}, {4, 4, 1})));
  CHECK_FALSE(check::same_view(token, view<double, 3>(reinterpret_cast<double*>(numbers), {2, 1, 4}, {4, 4, 1})));
}
