// The gated delta nets as models deploy them: Qwen3-Next, Qwen3.5, Olmo-Hybrid (Gated DeltaNet, arXiv 2412.06464) and
// Kimi Linear, GLM-5, Bailing (Kimi Delta Attention, arXiv 2510.26692). One layer: they differ in the form of the decay,
// in the output gate and in how checkpoints keep the projections (delta_net_checkpoints.hpp).
//
//   q, k, v = silu(conv(W_qkv x))         beta = factor sigmoid(W_b x)
//   g = decay(W_a x)                      one number a head, or one a key channel
//   o = delta rule(unit q, unit k, v, g, beta)
//   y = W_o (rms(o) act(W_z x))
#pragma once
#include "../backend/cpu/recurrence_scan.hpp"
#include "../backend/cpu/recurrence_step.hpp"
#include "../recurrence/delta_rule.hpp"
#include "gates.hpp"
#include "layer.hpp"
#include "norm.hpp"
#include "projection.hpp"

namespace weft {
inline namespace v1 {

struct delta_net_options {
  index key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  double norm_eps = 1e-6;
  activation gate = activation::silu;  // of z
  double beta_factor = 1.0;            // 2 allows negative eigenvalues
};

template <storage T>
struct delta_net {
  using storage_type = T;
  using real = accumulate_t<T>;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = layer_state<real>;
  static constexpr bool rehearses = true;

  delta_net_options options{};
  projection<T> qkv{};             // all q heads, then all k, then all v
  array<real, 2> conv{};            // [channels of qkv, taps]
  projection<T> b{};               // [value_heads]
  low_rank_projection<T> a{}, z{};   // a: [value_heads], or [value_heads * key_dim] for a decay of every key channel
  decay_gate<real> decay{};
  array<real, 1> norm{};            // [value_dim]
  projection<T> out{};

  index hidden() const { return out.outputs(); }
  index taps() const { return conv.extent(1); }
  bool channel_decay() const { return a.outputs() != options.value_heads; }
  state_type state(const shape& s) const {
    return {{array<real, 3>({s.batch, taps() - 1, qkv.outputs()})},
            gated_delta_rule<real>{}.state({.batch = s.batch, .heads = options.value_heads, .key_dim = options.key_dim, .value_dim = options.value_dim})};
  }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const {
    check_part("conv", s.conv.inputs, std::array{sequences, taps() - 1, qkv.outputs()});
    check_part("recurrent", s.recurrent.matrix, std::array{sequences, options.value_heads, options.key_dim, options.value_dim});
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

template <storage T>
void forward(cpu& executor, const delta_net<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const layer_call& call) {
  using R = accumulate_t<T>;
  const auto& [hk, hv, dk, dv, norm_eps, gate, beta_factor] = l.options;
  const index B = x.extent[0], n = x.extent[1];
  temporaries::scope memory(executor.temporaries());
  const auto raw = memory.take<R>(B, n, l.qkv.outputs()), mixed = memory.take<R>(B, n, l.qkv.outputs());
  const auto z = memory.take<R>(B, n, hv * dv), o = memory.take<R>(B, n, hv * dv);
  const auto beta = memory.take<R>(B, n, hv), g = memory.take<R>(B, n, l.a.outputs());

  project<T>(executor, l.qkv, x, raw);
  project<T>(executor, l.z, x, z);
  project<T>(executor, l.b, x, beta);
  project<T>(executor, l.a, x, g);
  fold(executor, short_conv<R>{.taps = l.taps(), .activation = activation::silu}, {.x = raw, .weight = l.conv}, state.conv, {.o = mixed}, call);
  writing_strength(executor, beta, beta_factor);
  decay(executor, l.decay, g, g);

  const auto q = heads_of(mixed, 0, hk, dk), k = heads_of(mixed, hk * dk, hk, dk), v = heads_of(mixed, 2 * hk * dk, hv, dv);
  const auto read = heads_of(o, 0, hv, dv);
  if (l.channel_decay())
    fold(executor, kda<R>{.qk_l2norm = true}, {.q = q, .k = k, .v = v, .g = heads_of(g, 0, hv, dk), .beta = beta}, state.recurrent, {.o = read}, call);
  else
    fold(executor, gated_delta_rule<R>{.qk_l2norm = true}, {.q = q, .k = k, .v = v, .g = g, .beta = beta}, state.recurrent, {.o = read}, call);

  rms_norm_gated<R>(executor, read, heads_of(z, 0, hv, dv), l.norm, read, {.eps = norm_eps, .gate = gate});
  project<T>(executor, l.out, o, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
