// The frequencies of rotary embedding, and what it takes, checked once for every executor.
#pragma once
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "../core/check.hpp"
#include "../core/output.hpp"
#include "../math/rotary.hpp"

namespace weft {
inline namespace v1 {

// base^(-2i / rotary_dim) for i < rotary_dim / 2.
inline std::vector<double> rotary_frequencies(index rotary_dim, double base) {
  std::vector<double> f;
  for (index i = 0; i < rotary_dim; i += 2) f.push_back(rotary_frequency(i, rotary_dim, base));
  return f;
}

// YaRN (Peng et al. 2023, arXiv 2309.00071): frequencies that turn slower than beta_slow times within the original context
// are divided by `factor`, those faster than beta_fast are kept, with a linear ramp between.
struct yarn {
  double base = 10000.0;
  double factor = 1.0;
  double original_context = 4096.0;
  double beta_fast = 32.0, beta_slow = 1.0;
  bool truncate = true;  // the ramp starts and ends at whole indices

  std::vector<double> frequencies(index rotary_dim) const {
    const auto dim = static_cast<double>(rotary_dim);
    const auto turning = [&](double beta) { return dim * std::log(original_context / (beta * 2.0 * std::numbers::pi)) / (2.0 * std::log(base)); };
    double low = turning(beta_fast), high = turning(beta_slow);
    if (truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1.0);
    if (high == low) high += 1e-3;  // a step
    auto f = rotary_frequencies(rotary_dim, base);
    for (std::size_t i = 0; i < f.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      f[i] = f[i] * (1.0 - ramp) + f[i] / factor * ramp;
    }
    return f;
  }
  // Multiplies cos and sin, so that attention's scores grow with the context.
  double attention_factor() const { return factor > 1.0 ? 0.1 * std::log(factor) + 1.0 : 1.0; }
};

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

template <class R>
void check_rotary_angles(const view<const std::int64_t, 2>& positions, index frequencies, const view<R, 3>& cos, const view<R, 3>& sin) {
  check::tensor("positions", positions, positions.extent, false, false);
  check::result("cos", cos, {positions.extent[0], positions.extent[1], frequencies}, false, true);
  check::result("sin", sin, cos.extent, false, true);
  check::apart({{"cos", cos}, {"sin", sin}}, {{"positions", positions}});
}

// Whether o is exactly x; the gradient calls them otherwise.
template <storage T>
bool check_rotary(const view<const T, 4>& x, const view<const accumulate_t<T>, 3>& cos, const view<const accumulate_t<T>, 3>& sin, const output<T, 4>& out,
                  std::string_view x_name = "x", std::string_view out_name = "o") {
  const index n = cos.extent[2], dim = x.extent[3];
  const check::operand from(x_name, x), to(out_name, out);
  check::tensor(from, x.extent, false, true);
  check::tensor("cos", cos, {cos.extent[0] == 1 ? 1 : x.extent[0], x.extent[1], n}, false, true);
  check::tensor("sin", sin, cos.extent, false, true);
  require(2 * n <= dim, errc::shape, "cos: expected at most ", dim / 2, " frequencies for ", dim, " channels, got ", n);
  check::result(to, x.extent, false, true);
  check::apart({to}, {{"cos", cos}, {"sin", sin}}, {from});
  return to.same_place(from);
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
