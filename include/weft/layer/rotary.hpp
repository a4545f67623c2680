// Rotary position embedding (RoFormer, arXiv 2104.09864). Pair i turns by position * frequency_i radians:
// (a, b) -> (a cos - b sin, b cos + a sin). Pairs are the channels i and i + n (half-split, GPT-NeoX and Llama) or 2i and
// 2i + 1 (interleaved, GPT-J), for n frequencies; channels from 2n on pass unchanged. Angles are computed in double.
#pragma once
#include <span>

#include "../core/array.hpp"
#include "../backend/cpu/rotary.hpp"
#include "rotary_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Fills cos and sin [rows, T, n] for positions [rows, T] and n frequencies, both times `factor`.
template <class R>
void rotary_angles(cpu& executor, view<const std::int64_t, 2> positions, std::span<const double> frequencies, view<R, 3> cos, view<R, 3> sin, double factor = 1.0) {
  const auto n = static_cast<index>(frequencies.size());
  detail::check_rotary_angles(positions, n, cos, sin);
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
  const bool in_place = detail::check_rotary<T>(x, cos, sin, out);
  out.visit([&](const auto& o) {
    using Out = typename std::remove_cvref_t<decltype(o)>::element;
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
