// The numbers that a model's training starts from.
#pragma once
#include <weft/layer/projection.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

namespace hybrid {

using weft::index;

class first_numbers {
 public:
  explicit first_numbers(std::uint64_t seed) : bits_(seed) {}

  weft::array<float, 2> normal(index rows, index columns) {
    constexpr float deviation = 0.05f;
    weft::array<float, 2> a({rows, columns});
    std::normal_distribution<float> draw(0, deviation);
    for (index i = 0; i < a.size(); ++i) a.data()[i] = draw(bits_);
    return a;
  }
  weft::projection<float> linear(index out, index in) { return {normal(out, in), {}}; }
  weft::array<float, 2> taps(index channels, index count) {
    weft::array<float, 2> a({channels, count});
    const double most = 1 / std::sqrt(static_cast<double>(count));
    for (index i = 0; i < a.size(); ++i) a.data()[i] = static_cast<float>(uniform(-most, most));
    return a;
  }
  // Slow and fast heads: rates of 1 to 16 a unit of time, steps of 0.001 to 0.1.
  weft::array<float, 1> log_rates(index count) {
    return filled(count, [&] { return std::log(uniform(1, 16)); });
  }
  weft::array<float, 1> step_biases(index count) {
    return filled(count, [&] {
      const double step = std::exp(uniform(std::log(1e-3), std::log(1e-1)));
      return step + std::log(-std::expm1(-step));  // softplus of it is the step
    });
  }

 private:
  double uniform(double low, double high) { return low + (high - low) * (static_cast<double>(bits_() >> 11) * 0x1p-53); }
  template <class F>
  static weft::array<float, 1> filled(index count, F&& f) {
    weft::array<float, 1> a({count});
    for (index i = 0; i < count; ++i) a(i) = static_cast<float>(f());
    return a;
  }

  std::mt19937_64 bits_;
};

inline weft::array<float, 1> constant(index count, float x) {
  weft::array<float, 1> a({count});
  std::fill_n(a.data(), count, x);
  return a;
}

}  // namespace hybrid
