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
  static constexpr bool rehearses = true;

  index heads = 0, head_dim = 0;
  double norm_eps = 1e-6;
  projection<T> qkv{};               // in every head q | k | v
  array<accumulate_t<T>, 1> g{};     // [heads], minus the slopes
  projection<T> gate{};
  array<accumulate_t<T>, 1> norm{};                // [heads * head_dim]
  projection<T> out{};

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

template <storage T>
void forward(cpu& executor, const lightning_layer<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const layer_call& call) {
  using R = accumulate_t<T>;
  const index B = x.extent[0], n = x.extent[1], H = l.heads, d = l.head_dim;
  temporaries::scope memory(executor.temporaries());
  const auto qkv = memory.take<R>(B, n, 3 * H * d), z = memory.take<R>(B, n, H * d), o = memory.take<R>(B, n, H * d);

  project<T>(executor, l.qkv, x, qkv);
  project<T>(executor, l.gate, x, z);
  activate<R>(executor, qkv, activation::silu, qkv);
  const auto heads = heads_of(qkv, 0, H, 3 * d);
  fold(executor, lightning<R>{}, {.q = heads.slice(3, 0, d), .k = heads.slice(3, d, d), .v = heads.slice(3, 2 * d, d), .g = l.g}, state.recurrent,
       {.o = heads_of(o, 0, H, d)}, call);
  rms_norm_gated<R>(executor, heads_of(o, 0, 1, H * d), heads_of(z, 0, 1, H * d), l.norm, heads_of(o, 0, 1, H * d),
                    {.eps = l.norm_eps, .gate = activation::sigmoid});
  project<T>(executor, l.out, o, y);
}

// Layer `layer` of num_hidden_layers: later layers decay less.
template <storage T>
lightning_layer<T> load_minimax_lightning(const parameters<T>& p, const settings& c, index layer) {
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
