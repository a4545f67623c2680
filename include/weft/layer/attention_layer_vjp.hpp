// Gradients of the softmax attention layers.
#pragma once
#include "../backend/cpu/attention_vjp.hpp"
#include "activation_vjp.hpp"
#include "attention_layer.hpp"
#include "layer_vjp.hpp"
#include "norm_vjp.hpp"
#include "rotary_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const attention_layer<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y,
              cache_gradient<R>& d_state, const std::type_identity_t<view<R, 3>>& d_x, attention_layer<R>* d) {
  const auto& o = l.options;
  const index B = x.extent[0], n = x.extent[1], H = o.heads, G = o.key_heads, dim = o.head_dim;
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const bool through = !d_x.null() || d, gated = !l.gate.weight.null();
  const auto d_read = memory.take<R>(B, n, H * dim), d_gate = memory.take<R>(B, n, gated ? H * dim : 0);
  const auto d_queries = memory.take<R>(B, n, H * dim), d_keys = memory.take<R>(B, n, G * dim), d_values = memory.take<R>(B, n, G * dim);
  const auto d_sinks = memory.take<R>(H);
  const auto d_q = heads_of(d_queries, 0, H, dim), d_k = heads_of(d_keys, 0, G, dim);

  project_vjp(executor, l.out, view<const T, 3>(v.gated), d_y, d_read, d ? &d->out : nullptr);
  if (gated) multiply_vjp<T>(executor, v.read, v.gate, activation::sigmoid, d_read, d_read, d_gate);
  gradients_t<typename attention_layer<T>::mixer_type> d_in{};
  if (through) {
    d_in.q = d_q;
    d_in.k = d_k;
    d_in.v = heads_of(d_values, 0, G, dim);
    if (d && !d->sinks.null()) d_in.sink = d_sinks;
  }
  vjp(executor, l.mixer(), detail::mixer_inputs(l, v), kept.tapes[0], {.o = heads_of(d_read, 0, H, dim)}, d_state, d_in);
  if (!through) return;

  if (d) detail::add_gradient(executor, &d->sinks, d_sinks);
  if (!o.frequencies.empty()) {
    rotary_vjp<R>(executor, d_q, v.cos, v.sin, d_q);
    rotary_vjp<R>(executor, d_k, v.cos, v.sin, d_k);
  }
  if (!l.q_norm.null()) {
    rms_norm_vjp<T>(executor, heads_of(v.raw_queries, 0, H, dim), l.q_norm, d_q, d_q, detail::view_or_null(d ? &d->q_norm : nullptr), o.norm_eps, true);
    rms_norm_vjp<T>(executor, heads_of(v.raw_keys, 0, G, dim), l.k_norm, d_k, d_k, detail::view_or_null(d ? &d->k_norm : nullptr), o.norm_eps, true);
  }
  project_vjp(executor, l.q, x, d_queries, d_x, d ? &d->q : nullptr);
  project_vjp(executor, l.k, x, d_keys, d_x, d ? &d->k : nullptr, true);
  project_vjp(executor, l.v, x, d_values, d_x, d ? &d->v : nullptr, true);
  if (gated) project_vjp(executor, l.gate, x, d_gate, d_x, d ? &d->gate : nullptr, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
