// The short convolution layer of LFM2: B | C | u = W_in x, y = W_out (C conv(B u)). The state holds the products B u.
#pragma once
#include "layer.hpp"
#include "parameters.hpp"
#include "projection.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct lfm2_conv {
  using storage_type = T;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = layer_state<accumulate_t<T>>;
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = lfm2_conv<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = layer_state<accumulate_t<T>>;
  static constexpr bool rehearses = true;

  projection<T> in{};            // B | C | u
  array<accumulate_t<T>, 2> conv{};            // [hidden, taps]
  array<accumulate_t<T>, 1> conv_bias{};       // optional
  projection<T> out{};

  auto parts() { return std::tuple{part{"in", in}, part{"conv", conv}, part{"conv_bias", conv_bias}, part{"out", out}}; }
  auto parts() const { return std::tuple{part{"in", in}, part{"conv", conv}, part{"conv_bias", conv_bias}, part{"out", out}}; }
  index hidden() const { return out.outputs(); }
  index taps() const { return conv.extent(1); }
  state_type state(const shape& s) const { return {{array<accumulate_t<T>, 3>({s.batch, taps() - 1, hidden()})}, {}}; }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const { check_part("conv", s.conv.inputs, std::array{sequences, taps() - 1, hidden()}); }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
struct lfm2_values {
  view<R, 3> projected, product, mixed, gated;
  view<R, 3> b, c, u;  // of projected
};
template <storage T, class R = accumulate_t<T>>
lfm2_values<R> values_of(const lfm2_conv<T>& l, layer_room& room) {
  lfm2_values<R> v;
  const index width = l.hidden();
  v.projected = room.take<R>(3 * width);
  v.b = v.projected.slice(2, 0, width);
  v.c = v.projected.slice(2, width, width);
  v.u = v.projected.slice(2, 2 * width, width);
  v.product = room.after(v.u);
  v.mixed = room.take<R>(width);
  v.gated = room.after(v.mixed);
  return v;
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const lfm2_conv<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);

  project<T>(executor, l.in, x, v.projected);
  multiply<R>(executor, v.b, v.u, activation::none, v.product);
  fold(executor, short_conv<R>{.taps = l.taps()}, {.x = v.product, .weight = l.conv, .bias = l.conv_bias}, state.conv, {.o = v.mixed}, call);
  multiply<R>(executor, v.c, v.mixed, activation::none, v.gated);
  project<T>(executor, l.out, v.gated, y);
}

template <storage T>
lfm2_conv<T> load_lfm2_conv(const parameters<T>& p) {
  lfm2_conv<T> l;
  l.out = load_projection(p, "out_proj", any_extent, any_extent);
  const index hidden = l.hidden();
  require(l.out.inputs() == hidden, errc::shape, p.file().name(), ": tensor ", io::quoted(p.full_name("out_proj.weight")), ": expected a square, got [",
          hidden, ", ", l.out.inputs(), "]");
  l.in = load_projection(p, "in_proj", 3 * hidden, hidden);
  l.conv = load_taps(p, "conv.weight", hidden);
  if (p.find("conv.bias")) l.conv_bias = load_wide(p, "conv.bias", hidden);
  return l;
}

}  // namespace WEFT_ISA
}  // namespace weft
