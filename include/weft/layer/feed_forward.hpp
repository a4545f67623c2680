// The gated feed-forward layer between mixers, SwiGLU (Shazeer 2020, arXiv 2002.05202): y = W_down (silu(W_gate x) W_up x).
// A layer without a state.
#pragma once
#include "layer.hpp"
#include "projection.hpp"

namespace weft {
inline namespace v1 {

// What a layer remembers that looks at one token at a time.
struct no_state {
  std::tuple<> parts() const { return {}; }
  no_state like() const { return {}; }
  no_state gather(std::span<const index>) const { return {}; }
  no_state gather(std::initializer_list<index>) const { return {}; }
};

template <storage T>
struct feed_forward {
  using storage_type = T;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = no_state;
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = feed_forward<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = no_state;
  static constexpr bool rehearses = true;

  projection<T> gate{}, up{};  // [inner, hidden]
  projection<T> down{};        // [hidden, inner]

  auto parts() { return std::tuple{part{"gate", gate}, part{"up", up}, part{"down", down}}; }
  auto parts() const { return std::tuple{part{"gate", gate}, part{"up", up}, part{"down", down}}; }
  index hidden() const { return down.outputs(); }
  state_type state(const shape&) const { return {}; }
  void check_state(const state_type&, index) const {}
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
struct feed_forward_values {
  view<R, 3> gate, up, product;
};
template <storage T, class R = accumulate_t<T>>
feed_forward_values<R> values_of(const feed_forward<T>& l, layer_room& room) {
  feed_forward_values<R> v;
  v.gate = room.take<R>(l.gate.outputs());
  v.up = room.take<R>(l.gate.outputs());
  v.product = room.after(v.up);
  return v;
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const feed_forward<T>& l, view<const T, 3> x, no_state&, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);
  project<T>(executor, l.gate, x, v.gate);
  project<T>(executor, l.up, x, v.up);
  multiply<R>(executor, v.up, v.gate, activation::silu, v.product);
  project<T>(executor, l.down, v.product, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
