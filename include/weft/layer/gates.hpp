// What layers make of their gate projections. All in the accumulating type.
//
//   softplus form          g = -exp(A_log) softplus(a + dt_bias)                  Mamba-2, the gated delta nets, KDA
//   bounded sigmoid form   g = lower_bound sigmoid(exp(A_log) (a + dt_bias))      decays stay above exp(lower_bound)
//   writing strength       beta = factor sigmoid(b)                               factor 2 allows negative eigenvalues
#pragma once
#include <cmath>
#include <optional>

#include "../core/array.hpp"
#include "activation.hpp"

namespace weft {
inline namespace v1 {

template <class R>
struct decay_gate {
  array<R, 1> rate{};                     // exp(A_log) of every channel
  array<R, 1> bias{};                     // dt_bias of every channel
  std::optional<double> lower_bound{};  // of g: then the bounded form

  // A_log [heads], dt_bias [channels]: one channel a head, or several.
  static decay_gate make(view<const R, 1> A_log, array<R, 1> dt_bias, std::optional<double> lower_bound = {}) {
    decay_gate g{array<R, 1>({dt_bias.extent(0)}), std::move(dt_bias), lower_bound};
    const index heads = A_log.extent[0], channels = g.bias.extent(0);
    if (heads == 0 ? channels > 0 : channels % heads != 0)
      throw error(errc::heads, "weft: dt_bias: expected a multiple of " + std::to_string(heads) + " heads, got " + std::to_string(channels));
    for (index c = 0; c < channels; ++c) g.rate(c) = std::exp(A_log(c / (channels / heads)));
    return g;
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// log(1 + e^x) = max(x, 0) + log(1 + e) with e = e^-|x| in (0, 1], and log(1 + e) = 2 artanh(e / (2 + e)): a short odd series,
// 2e-8 relative, at less than half the cost of the general logarithm.
WEFT_INLINE simd<float> gate_softplus(simd<float> x) {
  const simd<float> zero(0.f), e = weft::exp(where_nonneg(x, -x, x)), s = e / (simd<float>(2.f) + e), q = s * s;
  simd<float> series(1.f / 13.f);
  for (const float term : {1.f / 11.f, 1.f / 9.f, 1.f / 7.f, 1.f / 5.f, 1.f / 3.f, 1.f}) series = fma(series, q, simd<float>(term));
  return where_nonneg(x, x, zero) + simd<float>(2.f) * s * series;
}
WEFT_INLINE simd<double> gate_softplus(simd<double> x) { return softplus(x); }

}  // namespace detail

// a [B, T, channels] becomes the log-decay, in place. Throws errc::shape.
template <class R>
void decay(cpu& executor, const decay_gate<R>& gate, view<R, 3> a) {
  const index channels = gate.rate.extent(0);
  check::tensor("a", a, {a.extent[0], a.extent[1], channels}, false, true);
  const simd<R> bound(static_cast<R>(gate.lower_bound.value_or(0.0)));
  for_rows(executor, {a.extent[0], a.extent[1], 1}, channels, [&](index b, index t, index) {
    for_lanes<R>(channels, [&](index c, auto lane) {
      const simd<R> x = get(&a(b, t, c), lane) + get(gate.bias.data() + c, lane), rate = get(gate.rate.data() + c, lane);
      put(&a(b, t, c), gate.lower_bound ? bound * sigmoid(rate * x) : -(rate * detail::gate_softplus(x)), lane);
    });
  });
}

// b [B, T, heads] becomes the writing strength, in place.
template <class R>
void writing_strength(cpu& executor, view<R, 3> b, double factor = 1.0) {
  for_rows(executor, {b.extent[0], b.extent[1], 1}, b.extent[2], [&](index n, index t, index) {
    for_lanes<R>(b.extent[2], [&](index c, auto lane) { put(&b(n, t, c), simd<R>(static_cast<R>(factor)) * sigmoid(get(&b(n, t, c), lane)), lane); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
