// Gradients of the feed-forward layer.
#pragma once
#include "activation_vjp.hpp"
#include "feed_forward.hpp"
#include "layer_vjp.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T, class R = accumulate_t<T>>
void backward(cpu& executor, const feed_forward<T>& l, view<const T, 3> x, const layer_kept& kept, const std::type_identity_t<view<const R, 3>>& d_y, no_state&,
              const std::type_identity_t<view<R, 3>>& d_x, feed_forward<R>* d) {
  if (d_x.null() && !d) return;
  const index B = x.extent[0], n = x.extent[1], inner = l.gate.outputs();
  layer_room room(executor, kept, B, n);
  const auto v = detail::values_of(l, room);
  temporaries::scope memory(executor.temporaries());
  const auto d_product = memory.take<R>(B, n, inner), d_gate = memory.take<R>(B, n, inner);
  project_vjp(executor, l.down, view<const R, 3>(v.product), d_y, d_product, d ? &d->down : nullptr);
  multiply_vjp<R>(executor, v.up, v.gate, activation::silu, d_product, d_product, d_gate);
  project_vjp(executor, l.gate, x, d_gate, d_x, d ? &d->gate : nullptr);
  project_vjp(executor, l.up, x, d_product, d_x, d ? &d->up : nullptr, true);
}

}  // namespace WEFT_ISA
}  // namespace weft
