// Gradients of the gates. With x = a + dt_bias and rate = exp(A_log),
//
//   softplus form          d_a = -rate sigmoid(x) d_g                        d_A_log = sum g d_g
//   bounded sigmoid form   d_a = lower_bound rate y (1 - y) d_g              d_A_log = sum x d_a        y = sigmoid(rate x)
//   writing strength       d_b = beta (1 - beta / factor) d_beta
//
// and d_dt_bias = sum d_a. All in the accumulating type.
#pragma once
#include "../backend/cpu/row_sums.hpp"
#include "gates.hpp"

namespace weft {
inline namespace WEFT_ISA {

// a [B, T, channels] as decay had it; d_a may be d_g. Gradients of the parameters are added to `d_gate`, whose arrays may each
// be null: not wanted. The same bits for any number of workers. Throws errc::shape, errc::missing, errc::overlap.
template <class R>
void decay_vjp(cpu& executor, const decay_gate<R>& gate, std::type_identity_t<view<const R, 3>> a, std::type_identity_t<view<const R, 3>> d_g,
               std::type_identity_t<view<R, 3>> d_a, decay_gate<R>* d_gate = nullptr) {
  const index channels = gate.bias.extent(0), each = gate.channels_per_head();
  check::tensor("a", a, {a.extent[0], a.extent[1], channels}, false, true);
  check::tensor("d_g", d_g, a.extent, false, true);
  check::result("d_a", d_a, a.extent, false, true);
  const bool rates_wanted = d_gate && !d_gate->A_log.null(), biases_wanted = d_gate && !d_gate->bias.null();
  const auto d_A_log = rates_wanted ? d_gate->A_log.view() : view<R, 1>(), d_dt_bias = biases_wanted ? d_gate->bias.view() : view<R, 1>();
  check::tensor("d_A_log", d_A_log, gate.A_log.extent(), true, true);
  check::tensor("d_dt_bias", d_dt_bias, gate.bias.extent(), true, true);
  check::apart({{"d_a", d_a}, {"d_A_log", d_A_log}, {"d_dt_bias", d_dt_bias}}, {{"A_log", gate.A_log.view()}, {"dt_bias", gate.bias.view()}}, {{"a", a}, {"d_g", d_g}});
  temporaries::scope memory(executor.temporaries());
  const auto rates = detail::channel_rates(gate, memory);
  const simd<R> bound(static_cast<R>(gate.lower_bound.value_or(0.0))), one(R(1));
  const auto row = [&](index b, index t, R* sum) {
    for_lanes<R>(channels, [&](index c, auto lane) {
      const simd<R> x = get(&a(b, t, c), lane) + get(gate.bias.data() + c, lane), rate = get(rates.data + c, lane), d = get(&d_g(b, t, c), lane);
      simd<R> d_x, d_log;
      if (gate.lower_bound) {
        const simd<R> y = sigmoid(rate * x);
        d_x = bound * rate * y * (one - y) * d;
        d_log = x * d_x;
      } else {
        d_x = -(rate * sigmoid(x) * d);
        d_log = -(rate * detail::gate_softplus(x) * d);
      }
      put(&d_a(b, t, c), d_x, lane);
      if (!sum) return;
      put(sum + c, get(sum + c, lane) + d_x, lane);
      put(sum + channels + c, get(sum + channels + c, lane) + d_log, lane);
    });
  };
  const std::array rows{a.extent[0], a.extent[1], index{1}};
  if (!rates_wanted && !biases_wanted) return for_rows(executor, rows, channels, [&](index b, index t, index) { row(b, t, nullptr); });
  sum_over_rows<R>(executor, rows, channels, 2 * channels, [&](index b, index t, index, R* sum) { row(b, t, sum); },
              [&](const R* sum) {
                if (biases_wanted) add_to(d_gate->bias.data(), sum, channels);
                for (index c = 0; rates_wanted && c < channels; ++c) d_gate->A_log(c / each) += sum[channels + c];
              });
}

// beta [B, T, heads] as writing_strength left it; d_b may be d_beta. Throws errc::shape, errc::missing, errc::overlap.
template <class R>
void writing_strength_vjp(cpu& executor, std::type_identity_t<view<const R, 3>> beta, std::type_identity_t<view<const R, 3>> d_beta, view<R, 3> d_b,
                          double factor = 1.0) {
  check::tensor("beta", beta, beta.extent, false, true);
  check::tensor("d_beta", d_beta, beta.extent, false, true);
  check::result("d_b", d_b, beta.extent, false, true);
  check::apart({{"d_b", d_b}}, {}, {{"beta", beta}, {"d_beta", d_beta}});
  const simd<R> one(R(1)), shrink(static_cast<R>(1.0 / factor));
  for_rows(executor, {beta.extent[0], beta.extent[1], 1}, beta.extent[2], [&](index n, index t, index) {
    for_lanes<R>(beta.extent[2], [&](index c, auto lane) {
      const simd<R> y = get(&beta(n, t, c), lane);
      put(&d_b(n, t, c), get(&d_beta(n, t, c), lane) * y * (one - y * shrink), lane);
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
