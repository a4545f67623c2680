// A layer: what a paper wraps around a mixer, from hidden states to hidden states. A layer is itself a mixer, so scan, step,
// save and restore are those of every mixer:
//
//   weft::scan(cpu, layer, {.x = x}, state, {.y = y});      x, y [batch, time, hidden]
//
// A layer of 16-bit storage has 16-bit weights, inputs and outputs; what lies between its parts, and its state, is float.
//
// A layer type has hidden(), state(shape), check_state(state, sequences) and a function, found by its argument's type,
// forward(cpu&, layer, x, state, y, call): the paper's dataflow over one piece; with gradients (layer_vjp.hpp) also the other way,
// backward(cpu&, layer, x, kept, d_y, d_state, d_x, d_parameters). One whose forward works by verbs of the executor
// alone says `static constexpr bool rehearses = true`: its calls are then all or nothing, where memory runs out too.
#pragma once
#include <algorithm>
#include <concepts>
#include <initializer_list>
#include <span>
#include <string_view>
#include <tuple>

#include "../core/check.hpp"
#include "../core/executor.hpp"
#include "../core/output.hpp"
#include "../core/verbs.hpp"
#include "../recurrence/recurrence.hpp"
#include "layer_values.hpp"
#include "short_conv.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct hidden_inputs {
  view<const T, 3> x{};  // [B, T, hidden]
};
template <storage T>
struct hidden_outputs {
  output<T, 3> y{};      // [B, T, hidden]; may be exactly x
};

template <storage T>
struct hidden_cotangents {
  cotangent<T, 3> y{};   // [B, T, hidden]
};
// The gradients of the parameters are a layer of the accumulating type, to whose arrays is added: they are sums over all
// that is read before an optimiser's step. An array that is null there is not wanted, nor is any without `parameters`.
template <storage T, class Layer>
struct hidden_gradients {
  output<T, 3> x{};      // [B, T, hidden]
  Layer* parameters = nullptr;
};

// The state of a layer around a recurrence: the convolution's inputs and the recurrent matrices, either absent where a layer
// lacks it.
template <class R>
struct layer_state {
  conv_state<R> conv;
  recurrent_state<R> recurrent;

  auto parts() { return std::tuple{part{"conv", conv.inputs}, part{"recurrent", recurrent.matrix}}; }
  auto parts() const { return std::tuple{part{"conv", conv.inputs}, part{"recurrent", recurrent.matrix}}; }
  layer_state like() const { return {}; }
  WEFT_INLINE layer_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE layer_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

template <class L>
concept layer = mixer<L> && requires(const L& l, const typename L::state_type& s) {
  typename L::storage_type;
  { l.hidden() } -> std::same_as<index>;
  l.check_state(s, index{});
};

}  // namespace v1

inline namespace WEFT_ISA {

// Channels [first, first + heads * dim) of [B, T, channels] as [B, T, heads, dim].
template <class T>
view<T, 4> heads_of(const view<T, 3>& v, index first, index heads, index dim) {
  return {v.data + first, {v.extent[0], v.extent[1], heads, dim}, {v.stride[0], v.stride[1], dim, 1}};
}

// A part of a state: absent where it should be, or of these extents.
template <class T, std::size_t R>
void check_part(std::string_view name, const array<T, static_cast<int>(R)>& part, const std::array<index, R>& expected) {
  require(!part.null(), errc::missing, "state.", name, ": expected ", check::list(expected), ", got a state without it");
  require(part.extent() == expected, errc::shape, "state.", name, ": expected ", check::list(expected), ", got ", check::list(part.extent()));
}

namespace detail {

// A long piece is folded in parts, so that what lies between the parts of a layer stays small. A multiple of every engine's
// token grid: results are those of one call.
inline index piece_tokens(index batch) { return std::max<index>(1, 960 / std::max<index>(1, batch) / 48) * 48; }

// All or nothing: what a part of the layer refuses, or has no memory for, is found in the rehearsal of all pieces. A pool that
// allocates for its own ends can still fail between parts.
template <layer L, class Call>
void run(cpu& executor, const L& l, const typename L::inputs& in, typename L::state_type& state, const typename L::outputs& out, const Call& call) {
  const auto& x = in.x;
  check::tensor("x", x, {x.extent[0], x.extent[1], l.hidden()}, false, true);
  l.check_state(state, check::sequences(call.cu_seqlens, x.extent[0], x.extent[1]));
  if constexpr (requires { l.check_room(state, x.extent[1], call.cu_seqlens); }) l.check_room(state, x.extent[1], call.cu_seqlens);
  out.y.visit([&](const auto& y) {
    check::result("y", y, x.extent, false, true);
    if (!check::same_view(y, x) || call.kept) check::no_overlap("y", y, "x", x);
    const index piece = call.cu_seqlens.empty() && !call.kept ? piece_tokens(x.extent[0]) : x.extent[1];
    const auto forward_all = [&] {
      for (index t = 0; t < x.extent[1]; t += piece) {
        const index n = std::min(piece, x.extent[1] - t);
        forward(executor, l, x.slice(1, t, n), state, y.slice(1, t, n), call);
      }
    };
    if constexpr (requires { requires L::rehearses; }) {
      const rehearsal nothing_written(executor);
      forward_all();
    }
    forward_all();
  });
}

}  // namespace detail

template <layer L>
void run_scan(cpu& executor, const L& l, const typename L::inputs& in, typename L::state_type& state, const typename L::outputs& out, std::span<const index> cu) {
  detail::run(executor, l, in, state, out, layer_call{.cu_seqlens = cu});
}

template <layer L>
void run_step(cpu& executor, const L& l, const typename L::inputs& in, typename L::state_type& state, const typename L::outputs& out) {
  require(in.x.extent[1] == 1, errc::shape, "x: expected one token a sequence, got ", in.x.extent[1]);
  detail::run(executor, l, in, state, out, layer_call{.one_token = true});
}

}  // namespace WEFT_ISA
}  // namespace weft
