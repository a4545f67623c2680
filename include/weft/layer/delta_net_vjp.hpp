// Gradients of the gated delta nets.
#pragma once
#include "../backend/cpu/recurrence_vjp.hpp"
#include "delta_net.hpp"
#include "gates_vjp.hpp"
#include "layer_vjp.hpp"
#include "norm_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const delta_net<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y,
              layer_state<R>& d_state, const std::type_identity_t<view<R, 3>>& d_x, delta_net<R>* d) {
  const auto& o = l.options;
  const index B = x.extent[0], n = x.extent[1], width = o.value_heads * o.value_dim;
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const bool through = !d_x.null() || d || !d_state.conv.inputs.null();  // what lies before the recurrence is wanted
  const auto d_o = memory.take<R>(B, n, width), d_z = memory.take<R>(B, n, through ? width : 0);
  const auto heads = [&](const auto& values) { return heads_of(values, 0, o.value_heads, o.value_dim); };

  project_vjp(executor, l.out, view<const R, 3>(v.o), d_y, d_o, d ? &d->out : nullptr);
  rms_norm_gated_vjp<R>(executor, heads(v.read), heads(v.z), l.norm, heads(d_o), heads(d_o), through ? heads(d_z) : view<R, 4>(),
                        detail::view_or_null(d ? &d->norm : nullptr), {.eps = o.norm_eps, .gate = o.gate});

  const auto d_mixed = memory.take<R>(B, n, l.qkv.outputs()), d_raw = memory.take<R>(B, n, l.qkv.outputs());
  const auto d_g = memory.take<R>(B, n, l.a.outputs()), d_beta = memory.take<R>(B, n, o.value_heads);
  detail::with_delta_mixer(l, v, [&](const auto& mixer, const auto& in) {
    gradients_t<std::remove_cvref_t<decltype(mixer)>> d_in{};
    if (through) {
      d_in.q = heads_of(d_mixed, 0, o.key_heads, o.key_dim);
      d_in.k = heads_of(d_mixed, o.key_heads * o.key_dim, o.key_heads, o.key_dim);
      d_in.v = heads_of(d_mixed, 2 * o.key_heads * o.key_dim, o.value_heads, o.value_dim);
      d_in.beta = d_beta;
      if constexpr (decltype(d_in.g)::role.rank() == 3) d_in.g = d_g;
      else d_in.g = heads_of(d_g, 0, o.value_heads, o.key_dim);
    }
    detail::recurrence_back(executor, mixer, in, kept.tapes[1], {.o = heads(d_o)}, d_state.recurrent, d_in);
  });
  if (!through) return;

  if (!l.offset.null()) {
    const auto queries = [&](const auto& values) { return heads_of(values, 0, o.key_heads, o.key_dim); };
    read_offset_vjp<R>(executor, l.offset, queries(v.mixed), heads(d_o), queries(d_mixed), d ? &d->offset : nullptr);
  }
  decay_vjp<R>(executor, l.decay, v.a, d_g, d_g, d ? &d->decay : nullptr);
  writing_strength_vjp<R>(executor, v.beta, d_beta, d_beta, o.beta_factor);
  detail::conv_back<R>(executor, {.taps = l.taps(), .activation = activation::silu}, {.x = v.raw, .weight = l.conv}, kept.tapes[0], d_mixed, d_state.conv,
                       d_raw, d ? &d->conv : nullptr, nullptr);
  project_vjp(executor, l.qkv, x, d_raw, d_x, d ? &d->qkv : nullptr);
  project_vjp<T>(executor, l.z, x, d_z, d_x, d ? &d->z : nullptr, true);
  project_vjp(executor, l.b, x, d_beta, d_x, d ? &d->b : nullptr, true);
  project_vjp<T>(executor, l.a, x, d_g, d_x, d ? &d->a : nullptr, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
