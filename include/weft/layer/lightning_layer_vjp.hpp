// Gradients of the Lightning attention layer. The slopes are no parameters.
#pragma once
#include "../backend/cpu/recurrence_vjp.hpp"
#include "layer_vjp.hpp"
#include "lightning_layer.hpp"
#include "norm_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const lightning_layer<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y,
              layer_state<R>& d_state, const std::type_identity_t<view<R, 3>>& d_x, lightning_layer<R>* d) {
  const index B = x.extent[0], n = x.extent[1], dim = l.head_dim, width = l.heads * dim;
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const bool through = !d_x.null() || d;
  const auto d_o = memory.take<R>(B, n, width), d_z = memory.take<R>(B, n, width), d_qkv = memory.take<R>(B, n, 3 * width);
  const auto row = [&](const auto& values) { return heads_of(values, 0, 1, width); };

  project_vjp(executor, l.out, view<const R, 3>(v.o), d_y, d_o, d ? &d->out : nullptr);
  rms_norm_gated_vjp<R>(executor, row(v.read), row(v.z), l.norm, row(d_o), row(d_o), row(d_z), detail::view_or_null(d ? &d->norm : nullptr),
                        {.eps = l.norm_eps, .gate = activation::sigmoid});
  gradients_t<lightning<R>> d_in{};
  const auto heads = heads_of(d_qkv, 0, l.heads, 3 * dim);
  if (through) {
    d_in.q = heads.slice(3, 0, dim);
    d_in.k = heads.slice(3, dim, dim);
    d_in.v = heads.slice(3, 2 * dim, dim);
  }
  detail::recurrence_back(executor, lightning<R>{}, detail::mixer_inputs(l, v), kept.tapes[0], {.o = heads_of(d_o, 0, l.heads, dim)}, d_state.recurrent, d_in);
  if (!through) return;

  activate_vjp<R>(executor, v.raw, activation::silu, d_qkv, d_qkv);
  project_vjp(executor, l.qkv, x, d_qkv, d_x, d ? &d->qkv : nullptr);
  project_vjp(executor, l.gate, x, d_z, d_x, d ? &d->gate : nullptr, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
