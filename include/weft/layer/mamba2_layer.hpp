// The Mamba-2 layer (arXiv 2405.21060) as in Mamba-2, Falcon-H1, Bamba, Granite and Nemotron-H.
//
//   z | x B C | dt = W_in u               x, B, C = silu(conv(x B C))
//   y = mamba2(x, dt, B, C) + D x         step softplus(dt + dt_bias), clamped on every path
//   out = W_out norm(y, z)                rms(y silu(z)), rms(y) silu(z), or y silu(z), over groups
//
// The recurrent state is [state_dim, head_dim] a head: the transpose of what the published code keeps.
#pragma once
#include <cmath>
#include <limits>

#include "../backend/cpu/recurrence_scan.hpp"
#include "../backend/cpu/recurrence_step.hpp"
#include "../recurrence/mamba2.hpp"
#include "layer.hpp"
#include "norm.hpp"
#include "projection.hpp"

namespace weft {
inline namespace v1 {

struct mamba2_options {
  index heads = 0, head_dim = 0, groups = 1, state_dim = 0;
  double norm_eps = 1e-5;
  bool norm_before_gate = false;
  double dt_min = 0.0, dt_max = std::numeric_limits<double>::infinity();
};

template <storage T>
struct mamba2_layer {
  using storage_type = T;
  using real = accumulate_t<T>;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = layer_state<real>;
  static constexpr bool published_state_is_transposed = true;
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = mamba2_layer<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = layer_state<real>;
  static constexpr bool rehearses = true;

  mamba2_options options{};
  projection<T> zxBC{};         // z | x | B | C
  projection<T> dt{};           // [heads]
  array<real, 2> conv{};         // [x B C, taps]
  array<real, 1> conv_bias{};    // optional
  array<real, 1> A_log{}, D{}, dt_bias{};  // [heads]; A = -exp(A_log)
  array<real, 1> norm{};         // [inner]; null: no norm, only the gate
  projection<T> out{};

  auto parts() { return std::tuple{part{"zxBC", zxBC}, part{"dt", dt}, part{"conv", conv}, part{"conv_bias", conv_bias}, part{"A_log", A_log}, part{"D", D}, part{"dt_bias", dt_bias}, part{"norm", norm}, part{"out", out}}; }
  auto parts() const { return std::tuple{part{"zxBC", zxBC}, part{"dt", dt}, part{"conv", conv}, part{"conv_bias", conv_bias}, part{"A_log", A_log}, part{"D", D}, part{"dt_bias", dt_bias}, part{"norm", norm}, part{"out", out}}; }
  index hidden() const { return out.outputs(); }
  index inner() const { return options.heads * options.head_dim; }
  index taps() const { return conv.extent(1); }
  state_type state(const shape& s) const {
    return {{array<real, 3>({s.batch, taps() - 1, conv.extent(0)})},
            mamba2<real>{}.state({.batch = s.batch, .heads = options.heads, .key_dim = options.state_dim, .value_dim = options.head_dim})};
  }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const {
    check_part("conv", s.conv.inputs, std::array{sequences, taps() - 1, conv.extent(0)});
    check_part("recurrent", s.recurrent.matrix, std::array{sequences, options.heads, options.state_dim, options.head_dim});
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

template <class R>
struct mamba2_values {
  view<R, 3> projected, mixed, dt, read, normed;
  view<R, 1> A;
  view<R, 3> z, raw;  // of projected
};
template <storage T, class R = accumulate_t<T>>
mamba2_values<R> values_of(const mamba2_layer<T>& l, layer_room& room) {
  mamba2_values<R> v;
  v.projected = room.take<R>(l.zxBC.outputs());
  v.mixed = room.take<R>(l.conv.extent(0));
  v.dt = room.take<R>(l.options.heads);
  v.read = room.take<R>(l.inner());
  v.normed = room.after(v.read);
  v.A = room.scope().template take<R>(l.options.heads);
  for (index h = 0; h < l.options.heads; ++h) v.A(h) = -std::exp(l.A_log(h));
  v.z = v.projected.slice(2, 0, l.inner());
  v.raw = v.projected.slice(2, l.inner(), l.conv.extent(0));
  return v;
}

template <storage T, class R = accumulate_t<T>>
mamba2<R> mixer_of(const mamba2_layer<T>& l) { return {.policy = {.dt_min = l.options.dt_min, .dt_max = l.options.dt_max}}; }
template <storage T, class R>
typename mamba2<R>::inputs mixer_inputs(const mamba2_layer<T>& l, const mamba2_values<R>& v) {
  const auto& o = l.options;
  return {.x = heads_of(v.mixed, 0, o.heads, o.head_dim), .dt = v.dt, .A = v.A, .B = heads_of(v.mixed, l.inner(), o.groups, o.state_dim),
          .C = heads_of(v.mixed, l.inner() + o.groups * o.state_dim, o.groups, o.state_dim), .D = l.D, .dt_bias = l.dt_bias, .z = {}};
}
template <storage T>
rms_norm_options norm_of(const mamba2_layer<T>& l) {
  return {.eps = l.options.norm_eps, .norm_before_gate = l.options.norm_before_gate, .group_size = l.inner() / l.options.groups};
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const mamba2_layer<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  const auto& o = l.options;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);

  project<T>(executor, l.zxBC, x, v.projected);
  project<T>(executor, l.dt, x, v.dt);
  fold(executor, short_conv<R>{.taps = l.taps(), .activation = activation::silu}, {.x = v.raw, .weight = l.conv, .bias = l.conv_bias}, state.conv,
       {.o = v.mixed}, call, 0);
  fold(executor, detail::mixer_of(l), detail::mixer_inputs(l, v), state.recurrent, {.o = heads_of(v.read, 0, o.heads, o.head_dim)}, call, 1);
  if (l.norm.null())
    multiply<R>(executor, v.read, v.z, activation::silu, v.normed);
  else
    rms_norm_gated<R>(executor, heads_of(v.read, 0, 1, l.inner()), heads_of(v.z, 0, 1, l.inner()), l.norm, heads_of(v.normed, 0, 1, l.inner()), detail::norm_of(l));
  project<T>(executor, l.out, v.normed, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
