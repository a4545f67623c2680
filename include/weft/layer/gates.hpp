// What layers make of their gate projections. All in the accumulating type.
//
//   softplus form          g = -exp(A_log) softplus(a + dt_bias)                  Mamba-2, the gated delta nets, KDA
//   bounded sigmoid form   g = lower_bound sigmoid(exp(A_log) (a + dt_bias))      decays stay above exp(lower_bound)
//   writing strength       beta = factor sigmoid(b)                               factor 2 allows negative eigenvalues
#pragma once
#include <cmath>
#include <optional>
#include <tuple>

#include "../core/array.hpp"
#include "../core/state.hpp"
#include "activation.hpp"

namespace weft {
inline namespace v1 {

template <class R>
struct decay_gate {
  array<R, 1> A_log{};                  // [heads]
  array<R, 1> bias{};                   // dt_bias of every channel: one channel a head, or several
  std::optional<double> lower_bound{};  // of g: then the bounded form

  static decay_gate make(array<R, 1> A_log, array<R, 1> dt_bias, std::optional<double> lower_bound = {}) {
    const index heads = A_log.extent(0), channels = dt_bias.extent(0);
    if (heads == 0 ? channels > 0 : channels % heads != 0)
      throw error(errc::heads, "weft: dt_bias: expected a multiple of " + std::to_string(heads) + " heads, got " + std::to_string(channels));
    return {std::move(A_log), std::move(dt_bias), lower_bound};
  }
  auto parts() { return std::tuple{part{"A_log", A_log}, part{"dt_bias", bias}}; }
  auto parts() const { return std::tuple{part{"A_log", A_log}, part{"dt_bias", bias}}; }
  index channels_per_head() const { return A_log.extent(0) == 0 ? 0 : bias.extent(0) / A_log.extent(0); }
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

namespace detail {
// exp(A_log) of every channel.
template <class R>
view<R, 1> channel_rates(const decay_gate<R>& gate, temporaries::scope& memory) {
  const auto rates = memory.take<R>(gate.bias.extent(0));
  const index each = gate.channels_per_head();
  for (index h = 0; h < gate.A_log.extent(0); ++h) std::fill_n(rates.data + h * each, each, std::exp(gate.A_log(h)));
  return rates;
}
}  // namespace detail

// a [B, T, channels] to the log-decay g, which may be a. Throws errc::shape, errc::missing, errc::overlap.
template <class R>
void decay(cpu& executor, const decay_gate<R>& gate, std::type_identity_t<view<const R, 3>> a, std::type_identity_t<view<R, 3>> g) {
  const index channels = gate.bias.extent(0);
  check::tensor("a", a, {a.extent[0], a.extent[1], channels}, false, true);
  check::result("g", g, a.extent, false, true);
  check::apart({{"g", g}}, {{"A_log", gate.A_log.view()}, {"dt_bias", gate.bias.view()}}, {{"a", a}});
  temporaries::scope memory(executor.temporaries());
  const auto rates = detail::channel_rates(gate, memory);
  const simd<R> bound(static_cast<R>(gate.lower_bound.value_or(0.0)));
  for_rows(executor, {a.extent[0], a.extent[1], 1}, channels, [&](index b, index t, index) {
    for_lanes<R>(channels, [&](index c, auto lane) {
      const simd<R> x = get(&a(b, t, c), lane) + get(gate.bias.data() + c, lane), rate = get(rates.data + c, lane);
      put(&g(b, t, c), gate.lower_bound ? bound * sigmoid(rate * x) : -(rate * detail::gate_softplus(x)), lane);
    });
  });
}

// b [B, T, heads] becomes the writing strength, in place. Throws errc::shape, errc::missing, errc::overlap.
template <class R>
void writing_strength(cpu& executor, view<R, 3> b, double factor = 1.0) {
  check::result("b", b, b.extent, false, true);
  for_rows(executor, {b.extent[0], b.extent[1], 1}, b.extent[2], [&](index n, index t, index) {
    for_lanes<R>(b.extent[2], [&](index c, auto lane) { put(&b(n, t, c), simd<R>(static_cast<R>(factor)) * sigmoid(get(&b(n, t, c), lane)), lane); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
