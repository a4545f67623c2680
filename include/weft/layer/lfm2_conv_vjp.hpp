// Gradients of LFM2's convolution layer.
#pragma once
#include "layer_vjp.hpp"
#include "lfm2_conv.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const lfm2_conv<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y,
              layer_state<R>& d_state, const std::type_identity_t<view<R, 3>>& d_x, lfm2_conv<R>* d) {
  const index B = x.extent[0], n = x.extent[1], width = l.hidden();
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const auto d_gated = memory.take<R>(B, n, width), d_product = memory.take<R>(B, n, width), d_projected = memory.take<R>(B, n, 3 * width);
  const auto d_b = d_projected.slice(2, 0, width), d_c = d_projected.slice(2, width, width), d_u = d_projected.slice(2, 2 * width, width);

  project_vjp(executor, l.out, view<const R, 3>(v.gated), d_y, d_gated, d ? &d->out : nullptr);
  multiply_vjp<R>(executor, v.c, v.mixed, activation::none, d_gated, d_c, d_gated);
  detail::conv_back<R>(executor, {.taps = l.taps()}, {.x = v.product, .weight = l.conv, .bias = l.conv_bias}, kept.tapes[0], d_gated, d_state.conv, d_product,
                       d ? &d->conv : nullptr, d ? &d->conv_bias : nullptr);
  if (d_x.null() && !d) return;
  multiply_vjp<R>(executor, v.b, v.u, activation::none, d_product, d_b, d_u);
  project_vjp(executor, l.in, x, d_projected, d_x, d ? &d->in : nullptr);
}

}  // namespace WEFT_ISA
}  // namespace weft
