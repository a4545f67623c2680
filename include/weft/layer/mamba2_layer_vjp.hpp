// Gradients of the Mamba-2 layer.
#pragma once
#include "../backend/cpu/recurrence_vjp.hpp"
#include "layer_vjp.hpp"
#include "mamba2_layer.hpp"
#include "norm_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const mamba2_layer<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y,
              layer_state<R>& d_state, const std::type_identity_t<view<R, 3>>& d_x, mamba2_layer<R>* d) {
  const auto& o = l.options;
  const index B = x.extent[0], n = x.extent[1], inner = l.inner();
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const bool through = !d_x.null() || d || !d_state.conv.inputs.null();
  const auto d_read = memory.take<R>(B, n, inner), d_projected = memory.take<R>(B, n, l.zxBC.outputs());
  const auto d_z = d_projected.slice(2, 0, inner), d_raw = d_projected.slice(2, inner, l.conv.extent(0));
  const auto row = [&](const auto& values) { return heads_of(values, 0, 1, inner); };

  project_vjp(executor, l.out, view<const R, 3>(v.normed), d_y, d_read, d ? &d->out : nullptr);
  if (l.norm.null())
    multiply_vjp<R>(executor, v.read, v.z, activation::silu, d_read, d_read, d_z);
  else
    rms_norm_gated_vjp<R>(executor, row(v.read), row(v.z), l.norm, row(d_read), row(d_read), row(d_z), detail::view_or_null(d ? &d->norm : nullptr),
                          detail::norm_of(l));

  const auto d_mixed = memory.take<R>(B, n, l.conv.extent(0)), d_dt = memory.take<R>(B, n, o.heads);
  const auto d_A = memory.take<R>(o.heads), d_D = memory.take<R>(o.heads), d_bias = memory.take<R>(o.heads);
  gradients_t<mamba2<R>> d_in{};
  if (through) {
    d_in.x = heads_of(d_mixed, 0, o.heads, o.head_dim);
    d_in.B = heads_of(d_mixed, inner, o.groups, o.state_dim);
    d_in.C = heads_of(d_mixed, inner + o.groups * o.state_dim, o.groups, o.state_dim);
    d_in.dt = d_dt;
    if (d && !d->A_log.null()) d_in.A = d_A;
    if (d && !d->D.null()) d_in.D = d_D;
    if (d && !d->dt_bias.null()) d_in.dt_bias = d_bias;
  }
  detail::recurrence_back(executor, detail::mixer_of(l), detail::mixer_inputs(l, v), kept.tapes[1], {.o = heads_of(d_read, 0, o.heads, o.head_dim)}, d_state.recurrent, d_in);
  if (!through) return;

  if (d) {
    for (index h = 0; h < o.heads && !d_in.A.null() && !executor.rehearsing(); ++h) d->A_log(h) += v.A(h) * d_A(h);
    detail::add_gradient(executor, &d->D, d_D);
    detail::add_gradient(executor, &d->dt_bias, d_bias);
  }
  detail::conv_back<R>(executor, {.taps = l.taps(), .activation = activation::silu}, {.x = v.raw, .weight = l.conv, .bias = l.conv_bias}, kept.tapes[0], d_mixed,
                       d_state.conv, d_raw, d ? &d->conv : nullptr, d ? &d->conv_bias : nullptr);
  project_vjp(executor, l.zxBC, x, d_projected, d_x, d ? &d->zxBC : nullptr);
  project_vjp(executor, l.dt, x, d_dt, d_x, d ? &d->dt : nullptr, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
