// Mamba-2 (Dao and Gu 2024, arXiv 2405.21060), in its own parameters. With step = softplus(dt + dt_bias), clamped:
// S_t = exp(step A) S_{t-1} + B_t (step x_t)^T, y_t = S_t^T C_t + D x_t, o_t = y_t silu(z_t). No 1/sqrt scale.
// B and C [batch, time, groups, state] are keys shared by the heads of a group; x and z are values; A is negative.
// The state is [state, head_dim]: the transpose of the published code's. Reduces to: simple GLA.
#pragma once
#include "../math/functions.hpp"
#include "recurrence.hpp"
#include <limits>

namespace weft {
inline namespace v1 {

struct mamba2_policy {
  template <class Rep>
  struct inputs {
    weft::value<Rep> x;
    weft::gate<Rep> dt;
    weft::head<Rep> A;
    weft::key<Rep> B, C;
    weft::head<Rep> D, dt_bias;
    weft::value<Rep> z;
  };
  static constexpr std::array names{"x", "dt", "A", "B", "C", "D?", "dt_bias?", "z?"};
  static constexpr weft::axes axes{.decay = decay::per_token};
  static constexpr double scale = 1.0;

  bool dt_softplus = true;
  double dt_min = -std::numeric_limits<double>::infinity();  // clamp of the step, after the softplus; either end by itself
  double dt_max = std::numeric_limits<double>::infinity();
  bool gated = false;   // set by bind: z is there

  template <class T>
  void bind(const inputs<views<T>>& in) { gated = !in.z.null(); }

  template <class R>
  WEFT_HD WEFT_INLINE void activate(auto& in) const {
    R step = in.dt + in.dt_bias;
    if (dt_softplus) step = softplus(step);
    if (dt_min > -std::numeric_limits<double>::infinity()) step = weft::max(step, R(dt_min));
    if (dt_max < std::numeric_limits<double>::infinity()) step = weft::min(step, R(dt_max));
    in.dt = step;
  }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr key_terms<R> key_side(const auto& in) { return {.q = in.C, .k = in.B, .g = in.dt * in.A}; }
  template <class R>
  WEFT_HD WEFT_INLINE static constexpr R write(const auto& in) { return in.dt * in.x; }
  template <class R>
  WEFT_HD WEFT_INLINE R output(const auto& in, R o) const {
    o = o + in.D * in.x;
    return gated ? o * silu(in.z) : o;
  }
};

template <class T>
using mamba2 = recurrence<mamba2_policy, T>;

}  // namespace v1
}  // namespace weft
