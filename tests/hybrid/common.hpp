// Random tensors, and an error's sentence.
#pragma once
#include <random>
#include <string>
#include <vector>

#include <weft/weft.hpp>

#include "../catch.hpp"
#include "../difference.hpp"

namespace hybrid {

using weft::index;

template <class T, std::size_t Rank>
weft::array<T, static_cast<int>(Rank)> random(const index (&extents)[Rank], unsigned seed, double low = -1.5, double high = 1.5) {
  std::array<index, Rank> e;
  std::copy_n(extents, Rank, e.begin());
  weft::array<T, static_cast<int>(Rank)> a(e);
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> number(low, high);
  for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<T>(number(engine));
  return a;
}

using test::largest_difference;

template <class Array>
bool same_bits(const Array& a, const Array& b) {
  return a.extent() == b.extent() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}
template <class S>
bool same_states(const S& a, const S& b) {
  bool same = true;
  weft::for_each_part(a, b, [&](const auto& x, const auto& y) { same &= same_bits(x.data, y.data); });
  return same;
}

// What f threw: "" for nothing.
template <class F>
std::string refusal(weft::errc code, F&& f) {
  try {
    f();
  } catch (const weft::error& e) {
    CHECK(static_cast<int>(e.code()) == static_cast<int>(code));
    return e.what();
  }
  return "";
}

// Inputs of RAT, each with memory of its own.
template <class T>
struct rat_problem {
  weft::array<T, 4> q, k, v, o;
  weft::array<weft::accumulate_t<T>, 4> g;

  rat_problem(index batch, index time, index groups, index heads, index dim, double strongest = -1.0)
      : q(random<T>({batch, time, groups, dim}, 1)), k(random<T>({batch, time, groups, dim}, 2)), v(random<T>({batch, time, heads, dim}, 3)),
        o({batch, time, heads, dim}), g(random<weft::accumulate_t<T>>({batch, time, heads, dim}, 4, strongest, 0.0)) {}
  typename weft::rat<T>::inputs inputs() const { return inputs(0, q.extent(1)); }
  typename weft::rat<T>::inputs inputs(index first, index count) const {
    return {.q = q.view().slice(1, first, count), .k = k.view().slice(1, first, count), .v = v.view().slice(1, first, count), .g = g.view().slice(1, first, count)};
  }
  weft::shape shape(index more = 0) const {
    return {.batch = q.extent(0), .heads = v.extent(2), .key_dim = q.extent(3), .value_dim = q.extent(3), .capacity = q.extent(1) + more};
  }
};

}  // namespace hybrid
