// Lightning attention as MiniMax deploys it (arXiv 2501.08313; Lightning: 2405.17381).
//
//   q | k | v of every head = silu(W_qkv x)
//   o = lightning(q, k, v)                 decay exp(-slope) a head, no scale
//   y = W_o (rms(o over all heads) sigmoid(W_g x))
#pragma once
#include <cmath>

#include "../backend/cpu/recurrence_scan.hpp"
#include "../backend/cpu/recurrence_step.hpp"
#include "../recurrence/retention.hpp"
#include "layer.hpp"
#include "norm.hpp"
#include "parameters.hpp"
#include "projection.hpp"
#include "settings.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct lightning_layer {
  using storage_type = T;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = layer_state<accumulate_t<T>>;
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = lightning_layer<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = layer_state<accumulate_t<T>>;
  static constexpr bool rehearses = true;

  index heads = 0, head_dim = 0;
  double norm_eps = 1e-6;
  projection<T> qkv{};               // in every head q | k | v
  array<accumulate_t<T>, 1> g{};     // [heads], minus the slopes
  projection<T> gate{};
  array<accumulate_t<T>, 1> norm{};                // [heads * head_dim]
  projection<T> out{};

  auto parts() { return std::tuple{part{"qkv", qkv}, part{"gate", gate}, part{"norm", norm}, part{"out", out}}; }
  auto parts() const { return std::tuple{part{"qkv", qkv}, part{"gate", gate}, part{"norm", norm}, part{"out", out}}; }
  index hidden() const { return out.outputs(); }
  state_type state(const shape& s) const {
    return {{}, lightning<accumulate_t<T>>{}.state({.batch = s.batch, .heads = heads, .key_dim = head_dim, .value_dim = head_dim})};
  }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const {
    check_part("recurrent", s.recurrent.matrix, std::array{sequences, heads, head_dim, head_dim});
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
struct lightning_values {
  view<R, 3> raw, qkv, z, read, o;
};
template <storage T, class R = accumulate_t<T>>
lightning_values<R> values_of(const lightning_layer<T>& l, layer_room& room) {
  lightning_values<R> v;
  v.raw = room.take<R>(l.qkv.outputs());
  v.qkv = room.after(v.raw);
  v.z = room.take<R>(l.heads * l.head_dim);
  v.read = room.take<R>(l.heads * l.head_dim);
  v.o = room.after(v.read);
  return v;
}
template <storage T, class R>
typename lightning<R>::inputs mixer_inputs(const lightning_layer<T>& l, const lightning_values<R>& v) {
  const auto heads = heads_of(v.qkv, 0, l.heads, 3 * l.head_dim);
  return {.q = heads.slice(3, 0, l.head_dim), .k = heads.slice(3, l.head_dim, l.head_dim), .v = heads.slice(3, 2 * l.head_dim, l.head_dim), .g = l.g};
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const lightning_layer<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  const index width = l.heads * l.head_dim;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);

  project<T>(executor, l.qkv, x, v.raw);
  project<T>(executor, l.gate, x, v.z);
  activate<R>(executor, v.raw, activation::silu, v.qkv);
  fold(executor, lightning<R>{}, detail::mixer_inputs(l, v), state.recurrent, {.o = heads_of(v.read, 0, l.heads, l.head_dim)}, call);
  rms_norm_gated<R>(executor, heads_of(v.read, 0, 1, width), heads_of(v.z, 0, 1, width), l.norm, heads_of(v.o, 0, 1, width),
                    {.eps = l.norm_eps, .gate = activation::sigmoid});
  project<T>(executor, l.out, v.o, y);
}

// Layer `layer` of num_hidden_layers: later layers decay less.
template <storage T>
lightning_layer<T> load_minimax_lightning(const parameters<T>& p, const settings& c, index layer) {
  c.expect("hidden_act", {"silu", "swish"});
  lightning_layer<T> l{.heads = c.count("num_attention_heads"), .head_dim = c.count("head_dim")};
  const index layers = c.count("num_hidden_layers"), width = l.heads * l.head_dim;
  require(layer >= 0 && layer < layers, errc::value, "layer: expected 0 to ", layers - 1, ", got ", layer);
  l.qkv = load_projection(p, "qkv_proj", 3 * width, any_extent);
  l.gate = load_projection(p, "output_gate", width, l.qkv.inputs());
  l.norm = load_wide(p, "norm.weight", width);
  l.out = load_projection(p, "out_proj", l.qkv.inputs(), width);
  l.g = array<accumulate_t<T>, 1>({l.heads});
  const double depth = static_cast<double>(layer) / (static_cast<double>(layers - 1) + 1e-5);
  for (index h = 0; h < l.heads; ++h)
    l.g(h) = static_cast<accumulate_t<T>>(-std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(l.heads)) * (1.0 - depth + 1e-5));
  return l;
}

}  // namespace WEFT_ISA
}  // namespace weft
