// How far numbers lie apart: the one measure of every test that holds results to a bound.
#pragma once
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

namespace test {

// |a - b|, but never NaN, which std::max would lose and no loop would see again: where one of them is NaN they are infinitely far
// apart. Equal infinities are 0 apart: the log-sum-exp over no keys is -infinity, and a way to compute it that says so is right.
template <class A, class B>
double difference(A a, B b) {
  const double x = static_cast<double>(a), y = static_cast<double>(b);
  const double d = x == y ? 0 : std::abs(x - y);
  return std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
}

// Of two arrays, spans or vectors; infinite where their shapes differ.
template <class A, class B>
double largest_difference(const A& a, const B& b) {
  const auto shape = [](const auto& of) {
    if constexpr (requires { of.extent(); }) return of.extent();
    else return std::ssize(of);
  };
  if (shape(a) != shape(b)) return std::numeric_limits<double>::infinity();
  double d = 0;
  for (std::ptrdiff_t i = 0; i < std::ssize(a); ++i) d = std::max(d, difference(a.data()[i], b.data()[i]));
  return d;
}

// The largest |x| of the finite numbers, to measure differences by: a bound of so many parts of infinity would hold anything.
template <class A>
double largest(const A& a) {
  double top = 0;
  for (std::ptrdiff_t i = 0; i < std::ssize(a); ++i)
    if (const double x = std::abs(static_cast<double>(a.data()[i])); std::isfinite(x)) top = std::max(top, x);
  return top;
}

}  // namespace test
