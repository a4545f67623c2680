// Rotary position embedding (RoFormer, arXiv 2104.09864). Pair i turns by position * frequency_i radians:
// (a, b) -> (a cos - b sin, b cos + a sin). Pairs are the channels i and i + n (half-split, GPT-NeoX and Llama) or 2i and
// 2i + 1 (interleaved, GPT-J), for n frequencies; channels from 2n on pass unchanged. Angles are computed in double.
#pragma once
#include <cmath>
#include <numbers>
#include <vector>

#include "../core/array.hpp"
#include "../backend/cpu/rotary.hpp"
#include "../math/rotary.hpp"
#include <span>

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

// Fills cos and sin [rows, T, n] for positions [rows, T] and n frequencies, both times `factor`.
template <class R>
void rotary_angles(cpu& executor, view<const std::int64_t, 2> positions, std::span<const double> frequencies, view<R, 3> cos, view<R, 3> sin, double factor = 1.0) {
  const auto n = static_cast<index>(frequencies.size());
  check::tensor("cos", cos, {positions.extent[0], positions.extent[1], n}, false, true);
  check::tensor("sin", sin, cos.extent, false, true);
  constexpr index sine = 16;  // costs as much as so many elements of another row
  for_rows(executor, {positions.extent[0], positions.extent[1], 1}, sine * n, [&](index b, index t, index) {
    for (index i = 0; i < n; ++i) {
      const double angle = static_cast<double>(positions(b, t)) * frequencies[static_cast<std::size_t>(i)];
      cos(b, t, i) = static_cast<R>(std::cos(angle) * factor);
      sin(b, t, i) = static_cast<R>(std::sin(angle) * factor);
    }
  });
}

// x and o [B, T, H, D]; cos and sin [B or 1, T, n], 2n <= D. o may be x.
// Throws errc::shape, errc::missing, errc::overlap.
template <storage T>
void rotary(cpu& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const accumulate_t<T>, 3>> cos,
            std::type_identity_t<view<const accumulate_t<T>, 3>> sin, const std::type_identity_t<output<T, 4>>& out, bool interleaved = false) {
  using R = accumulate_t<T>;
  const index n = cos.extent[2], dim = x.extent[3];
  check::tensor("x", x, x.extent, false, true);
  check::tensor<const R, 3>("cos", cos, {cos.extent[0] == 1 ? 1 : x.extent[0], x.extent[1], n}, false, true);
  check::tensor("sin", sin, cos.extent, false, true);
  require(2 * n <= dim, errc::shape, "cos: expected at most ", dim / 2, " frequencies for ", dim, " channels, got ", n);
  out.visit([&](const auto& o) {
    using Out = typename std::remove_cvref_t<decltype(o)>::element;
    check::tensor("o", o, x.extent, false, true);
    const bool in_place = static_cast<const void*>(x.data) == o.data && x.stride == o.stride && std::is_same_v<Out, T>;
    if (!in_place) check::no_overlap("o", o, "x", x);
    for_rows(executor, {x.extent[0], x.extent[1], x.extent[2]}, dim, [&](index b, index t, index h) {
      const T* const from = &x(b, t, h, 0);
      Out* const to = &o(b, t, h, 0);
      const R* const c = &cos(cos.extent[0] == 1 ? 0 : b, t, 0);
      const R* const s = &sin(cos.extent[0] == 1 ? 0 : b, t, 0);
      if (interleaved) {
        for (index i = 0; i < n; ++i) {
          const R first = static_cast<R>(from[2 * i]), second = static_cast<R>(from[2 * i + 1]);
          to[2 * i] = static_cast<Out>(first * c[i] - second * s[i]);
          to[2 * i + 1] = static_cast<Out>(second * c[i] + first * s[i]);
        }
      } else {
        turn_halves(from, to, c, s, n);
      }
      for (index i = 2 * n; i < dim && !in_place; ++i) to[i] = static_cast<Out>(static_cast<R>(from[i]));
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
