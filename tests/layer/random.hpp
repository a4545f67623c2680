// Arrays of reproducible numbers for the layer tests.
#pragma once
#include <random>

#include <weft/core/array.hpp>
#include <weft/core/dtype.hpp>

namespace test {

template <class T, int R>
weft::array<T, R> normal(std::array<weft::index, static_cast<std::size_t>(R)> extent, unsigned seed, double scale = 1.0) {
  weft::array<T, R> a(extent);
  std::mt19937 bits(seed);
  std::normal_distribution<double> draw(0.0, scale);
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<T>(static_cast<weft::accumulate_t<T>>(draw(bits)));
  return a;
}

template <class A>
double largest_difference(const A& a, const A& b) {
  double d = a.extent() == b.extent() ? 0.0 : 1e300;
  for (weft::index i = 0; d < 1e300 && i < a.size(); ++i) d = std::max(d, std::abs(static_cast<double>(a.data()[i]) - static_cast<double>(b.data()[i])));
  return d;
}

}  // namespace test
