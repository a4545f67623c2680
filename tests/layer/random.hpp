// Arrays of reproducible numbers for the layer tests.
#pragma once
#include <random>

#include <weft/core/array.hpp>
#include <weft/core/dtype.hpp>

#include "../difference.hpp"

namespace test {

template <class T, int R>
weft::array<T, R> normal(std::array<weft::index, static_cast<std::size_t>(R)> extent, unsigned seed, double scale = 1.0) {
  weft::array<T, R> a(extent);
  std::mt19937 bits(seed);
  std::normal_distribution<double> draw(0.0, scale);
  for (weft::index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<T>(static_cast<weft::accumulate_t<T>>(draw(bits)));
  return a;
}

}  // namespace test
