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
  static constexpr bool rehearses = true;

  projection<T> in{};            // B | C | u
  array<accumulate_t<T>, 2> conv{};            // [hidden, taps]
  array<accumulate_t<T>, 1> conv_bias{};       // optional
  projection<T> out{};

  index hidden() const { return out.outputs(); }
  index taps() const { return conv.extent(1); }
  state_type state(const shape& s) const { return {{array<accumulate_t<T>, 3>({s.batch, taps() - 1, hidden()})}, {}}; }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const { check_part("conv", s.conv.inputs, std::array{sequences, taps() - 1, hidden()}); }
};

}  // namespace v1

inline namespace WEFT_ISA {

template <storage T>
void forward(cpu& executor, const lfm2_conv<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const layer_call& call) {
  using R = accumulate_t<T>;
  const index B = x.extent[0], n = x.extent[1], hidden = l.hidden();
  temporaries::scope memory(executor.temporaries());
  const auto projected = memory.take<R>(B, n, 3 * hidden), mixed = memory.take<R>(B, n, hidden);

  project<T>(executor, l.in, x, projected);
  const auto b = projected.slice(2, 0, hidden), c = projected.slice(2, hidden, hidden), u = projected.slice(2, 2 * hidden, hidden);
  multiply<R>(executor, b, u, activation::none, u);
  fold(executor, short_conv<R>{.taps = l.taps()}, {.x = u, .weight = l.conv, .bias = l.conv_bias}, state.conv, {.o = mixed}, call);
  multiply<R>(executor, c, mixed, activation::none, mixed);
  project<T>(executor, l.out, mixed, y);
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
