// Gradients against central differences in double.
#pragma once
#include <cmath>
#include <functional>

#include "random.hpp"

namespace test {

// d loss / d a by differences of fourth order, `loss` reading a.
template <int R>
weft::array<double, R> differences(weft::array<double, R>& a, const std::function<double()>& loss, double step = 2e-4) {
  weft::array<double, R> d(a.extent());
  for (weft::index i = 0; i < a.size(); ++i) {
    const double kept = a.data()[i];
    const auto apart = [&](double by) {
      a.data()[i] = kept + by;
      const double up = loss();
      a.data()[i] = kept - by;
      return up - loss();
    };
    d.data()[i] = (8 * apart(step) - apart(2 * step)) / (12 * step);
    a.data()[i] = kept;
  }
  return d;
}

// The largest difference over the largest number (or 1, where all are smaller).
template <class A>
double relative_difference(const A& got, const A& expected) {
  return largest_difference(got, expected) / std::max(1.0, largest(expected));
}

template <int R>
double dot(const weft::array<double, R>& a, const weft::array<double, R>& b) {
  double s = 0;
  for (weft::index i = 0; i < a.size(); ++i) s += a.data()[i] * b.data()[i];
  return s;
}

inline constexpr double gradient_bound = 1e-8;  // what steps of 2e-4 leave of truncation (h^4 / 30 fifth derivatives) and of a loss's rounding

}  // namespace test
