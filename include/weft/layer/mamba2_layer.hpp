// The Mamba-2 layer (arXiv 2405.21060) as in Mamba-2, Falcon-H1, Bamba, Granite and Nemotron-H.
//
//   z | x B C | dt = W_in u               x, B, C = silu(conv(x B C))
//   y = mamba2(x, dt, B, C) + D x         step softplus(dt + dt_bias), clamped on every path
//   out = W_out norm(y, z)                rms(y silu(z)), rms(y) silu(z), or y silu(z), over groups
//
// The recurrent state is [state_dim, head_dim] a head: the transpose of what the published code keeps.
#pragma once
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
  static constexpr bool rehearses = true;

  mamba2_options options{};
  projection<T> zxBC{};         // z | x | B | C
  projection<T> dt{};           // [heads]
  array<real, 2> conv{};         // [x B C, taps]
  array<real, 1> conv_bias{};    // optional
  array<real, 1> A{}, D{}, dt_bias{};  // [heads]; A = -exp(A_log)
  array<real, 1> norm{};         // [inner]; null: no norm, only the gate
  projection<T> out{};

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

template <storage T>
void forward(cpu& executor, const mamba2_layer<T>& l, view<const T, 3> x, layer_state<accumulate_t<T>>& state, const std::type_identity_t<output<T, 3>>& y, const layer_call& call) {
  using R = accumulate_t<T>;
  const auto& o = l.options;
  const index B = x.extent[0], n = x.extent[1], inner = l.inner(), key_width = o.groups * o.state_dim;
  temporaries::scope memory(executor.temporaries());
  const auto projected = memory.take<R>(B, n, l.zxBC.outputs()), mixed = memory.take<R>(B, n, l.conv.extent(0)), read = memory.take<R>(B, n, inner);
  const auto dt = memory.take<R>(B, n, o.heads);

  project<T>(executor, l.zxBC, x, projected);
  project<T>(executor, l.dt, x, dt);
  const auto z = projected.slice(2, 0, inner), raw = projected.slice(2, inner, l.conv.extent(0));
  fold(executor, short_conv<R>{.taps = l.taps(), .activation = activation::silu}, {.x = raw, .weight = l.conv, .bias = l.conv_bias}, state.conv, {.o = mixed}, call);

  fold(executor, mamba2<R>{.policy = {.dt_min = o.dt_min, .dt_max = o.dt_max}},
       {.x = heads_of(mixed, 0, o.heads, o.head_dim), .dt = dt, .A = l.A, .B = heads_of(mixed, inner, o.groups, o.state_dim),
        .C = heads_of(mixed, inner + key_width, o.groups, o.state_dim), .D = l.D, .dt_bias = l.dt_bias, .z = {}},
       state.recurrent, {.o = heads_of(read, 0, o.heads, o.head_dim)}, call);

  if (l.norm.null())
    multiply<R>(executor, read, z, activation::silu, read);
  else
    rms_norm_gated<R>(executor, heads_of(read, 0, 1, inner), heads_of(z, 0, 1, inner), l.norm, heads_of(read, 0, 1, inner),
                      {.eps = o.norm_eps, .norm_before_gate = o.norm_before_gate, .group_size = inner / o.groups});
  project<T>(executor, l.out, read, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
