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
#include "read_offset.hpp"

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
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = delta_net<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = layer_state<real>;
  static constexpr bool rehearses = true;

  delta_net_options options{};
  projection<T> qkv{};             // all q heads, then all k, then all v
  array<real, 2> conv{};            // [channels of qkv, taps]
  projection<T> b{};               // [value_heads]
  low_rank_projection<T> a{}, z{};   // a: [value_heads], or [value_heads * key_dim] for a decay of every key channel
  decay_gate<real> decay{};
  array<real, 1> norm{};            // [value_dim]
  projection<T> out{};
  array<real, 3> offset{};          // [value_heads, key_dim, value_dim], optional: added to the state where it is read

  auto parts() {
    return std::tuple{part{"qkv", qkv},     part{"conv", conv}, part{"b", b},     part{"a", a},          part{"z", z},
                      part{"decay", decay}, part{"norm", norm}, part{"out", out}, part{"offset", offset}};
  }
  auto parts() const {
    return std::tuple{part{"qkv", qkv},     part{"conv", conv}, part{"b", b},     part{"a", a},          part{"z", z},
                      part{"decay", decay}, part{"norm", norm}, part{"out", out}, part{"offset", offset}};
  }
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

namespace detail {

template <class R>
struct delta_net_values {
  view<R, 3> raw, mixed, z, read, o, beta, a, g;
};
template <storage T, class R = accumulate_t<T>>
delta_net_values<R> values_of(const delta_net<T>& l, layer_room& room) {
  delta_net_values<R> v;
  const index width = l.options.value_heads * l.options.value_dim;
  v.raw = room.take<R>(l.qkv.outputs());
  v.mixed = room.take<R>(l.qkv.outputs());
  v.z = room.take<R>(width);
  v.read = room.take<R>(width);
  v.o = room.after(v.read);
  v.beta = room.take<R>(l.options.value_heads);
  v.a = room.take<R>(l.a.outputs());
  v.g = room.after(v.a);
  return v;
}

// f(mixer, its inputs): one decay a head, or one a key channel.
template <storage T, class R, class F>
void with_delta_mixer(const delta_net<T>& l, const delta_net_values<R>& v, F&& f) {
  const auto& [hk, hv, dk, dv, norm_eps, gate, beta_factor] = l.options;
  const auto q = heads_of(v.mixed, 0, hk, dk), k = heads_of(v.mixed, hk * dk, hk, dk), value = heads_of(v.mixed, 2 * hk * dk, hv, dv);
  if (l.channel_decay()) f(kda<R>{.qk_l2norm = true}, typename kda<R>::inputs{.q = q, .k = k, .v = value, .g = heads_of(v.g, 0, hv, dk), .beta = v.beta});
  else f(gated_delta_rule<R>{.qk_l2norm = true}, typename gated_delta_rule<R>::inputs{.q = q, .k = k, .v = value, .g = v.g, .beta = v.beta});
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const delta_net<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  const auto& o = l.options;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);

  project<T>(executor, l.qkv, x, v.raw);
  project<T>(executor, l.z, x, v.z);
  project<T>(executor, l.b, x, v.beta);
  project<T>(executor, l.a, x, v.a);
  fold(executor, short_conv<R>{.taps = l.taps(), .activation = activation::silu}, {.x = v.raw, .weight = l.conv}, state.conv, {.o = v.mixed}, call, 0);
  writing_strength(executor, v.beta, o.beta_factor);
  decay(executor, l.decay, v.a, v.g);

  const auto read = heads_of(v.read, 0, o.value_heads, o.value_dim);
  detail::with_delta_mixer(l, v, [&](const auto& mixer, const auto& in) { fold(executor, mixer, in, state.recurrent, {.o = read}, call, 1); });
  if (!l.offset.null()) read_offset(executor, l.offset, heads_of(v.mixed, 0, o.key_heads, o.key_dim), read);
  rms_norm_gated<R>(executor, read, heads_of(v.z, 0, o.value_heads, o.value_dim), l.norm, heads_of(v.o, 0, o.value_heads, o.value_dim),
                    {.eps = o.norm_eps, .gate = o.gate});
  project<T>(executor, l.out, v.o, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
