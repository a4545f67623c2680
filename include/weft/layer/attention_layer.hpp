// Softmax attention layers as in Llama, Qwen3-Next (gated), Gemma 2, Gemma 3 and gpt-oss.
//
//   q, k, v = W_q x, W_k x, W_v x          norms of q and k per head, then rotary, where a model has them
//   o = attention(q, k, v)                 all keys or a window; soft cap and sink logits where a model has them
//   y = W_o (o sigmoid(W_gate x))          where a model has the gate
//
// Keys are cached after norm and rotary. A token's position is the number of tokens that its sequence has seen.
#pragma once
#include <vector>

#include "../attention/attention.hpp"
#include "../backend/cpu/attention.hpp"
#include "layer.hpp"
#include "norm.hpp"
#include "projection.hpp"
#include "rotary.hpp"

namespace weft {
inline namespace v1 {

struct attention_options {
  index heads = 0, key_heads = 0, head_dim = 0;
  index window = 0;                   // 0: every key
  double scale = 1.0, softcap = 0.0;
  double norm_eps = 1e-6;             // of q_norm and k_norm, which multiply by 1 + weight
  std::vector<double> frequencies{};  // rotary; empty: none
  double rotary_factor = 1.0;         // of cos and sin
};

template <storage T>
struct attention_layer {
  using storage_type = T;
  using real = accumulate_t<T>;
  using inputs = hidden_inputs<T>;
  using outputs = hidden_outputs<T>;
  using state_type = key_value_cache<T>;
  using mixer_type = attention<T, window>;
  using cotangents = hidden_cotangents<T>;
  using parameter_gradients = attention_layer<accumulate_t<T>>;
  using gradients = hidden_gradients<T, parameter_gradients>;
  using state_gradient = cache_gradient<real>;
  static constexpr bool rehearses = true;

  attention_options options{};
  projection<T> q{}, k{}, v{}, out{};
  projection<T> gate{};               // [heads * head_dim], optional
  array<T, 1> q_norm{}, k_norm{};         // [head_dim], optional, both or none
  array<real, 1> sinks{};               // [heads], optional

  auto parts() { return std::tuple{part{"q", q}, part{"k", k}, part{"v", v}, part{"gate", gate}, part{"q_norm", q_norm}, part{"k_norm", k_norm}, part{"sinks", sinks}, part{"out", out}}; }
  auto parts() const { return std::tuple{part{"q", q}, part{"k", k}, part{"v", v}, part{"gate", gate}, part{"q_norm", q_norm}, part{"k_norm", k_norm}, part{"sinks", sinks}, part{"out", out}}; }
  index hidden() const { return out.outputs(); }
  mixer_type mixer() const {
    return {.select = {.window = options.window, .kept = 0}, .scale = options.scale, .softcap = options.softcap};
  }
  // Reads batch, and capacity where there is no window.
  state_type state(const shape& s) const {
    return mixer().state({.batch = s.batch, .heads = options.key_heads, .key_dim = options.head_dim, .value_dim = options.head_dim, .capacity = s.capacity});
  }
  WEFT_INLINE void check_state(const state_type& s, index sequences) const {
    const std::array expected{sequences, options.key_heads, s.capacity(), options.head_dim};
    check_part("keys", s.keys, expected);
    check_part("values", s.values, expected);
    check_part("length", s.length, std::array{sequences});
    for (index n = 0; n < sequences; ++n)
      require(s.length(n) >= 0 && (is_ring(s) || s.length(n) <= s.capacity()), errc::value, "state.length: expected 0 to ", s.capacity(),
              " tokens, got ", s.length(n), " for sequence ", n);
  }
  bool is_ring(const state_type& s) const { return cache_slots(s.capacity(), mixer().select.retained()).ring; }
  // Grows a cache without a window, so that every sequence can take so many tokens more.
  WEFT_INLINE void make_room(state_type& s, index tokens) const {
    if (is_ring(s)) return;
    std::int64_t longest = 0;
    for (index n = 0; n < s.length.extent(0); ++n) longest = std::max(longest, s.length(n));
    if (longest > every_key - tokens) throw error(errc::capacity, "weft: make_room: a cache of " + std::to_string(longest) + " tokens cannot take " + std::to_string(tokens) + " more");
    if (longest + tokens > s.capacity()) s.grow(longest + tokens);
  }
  // A cache without a window must take all tokens of a call, or none of them is read.
  WEFT_INLINE void check_room(const state_type& s, index time, std::span<const index> cu) const {
    if (is_ring(s)) return;
    for (index n = 0; n < s.length.extent(0); ++n) {
      const index more = tokens_of(time, cu, n).count();
      require(more <= s.capacity() - s.length(n), errc::capacity, "state.keys: sequence ", n, " holds ", s.length(n), " of ", s.capacity(),
              " tokens; expected room for ", more, " more (grow() makes it)");
    }
  }
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// The absolute positions of a call's tokens, [B, T]: each sequence goes on where its cache ends.
inline void token_positions(const array<std::int64_t, 1>& length, std::span<const index> cu, view<std::int64_t, 2> positions) {
  for (index n = 0; n < length.extent(0); ++n) {
    const token_span tokens = tokens_of(positions.extent[1], cu, n);
    for (index t = tokens.begin; t < tokens.end; ++t) positions(tokens.batch, t) = length(n) + t - tokens.begin;
  }
}

}  // namespace detail

namespace detail {

template <class T>
struct attention_values {
  view<T, 3> raw_queries, raw_keys, queries, keys, values, read, gate, gated;
  view<accumulate_t<T>, 3> cos, sin;
};
template <storage T>
attention_values<T> values_of(const attention_layer<T>& l, layer_room& room) {
  using R = accumulate_t<T>;
  const auto& o = l.options;
  const index turning = static_cast<index>(o.frequencies.size());
  attention_values<T> v;
  v.raw_queries = room.take<T>(o.heads * o.head_dim);
  v.raw_keys = room.take<T>(o.key_heads * o.head_dim);
  v.queries = l.q_norm.null() ? v.raw_queries : room.after(v.raw_queries);
  v.keys = l.q_norm.null() ? v.raw_keys : room.after(v.raw_keys);
  v.values = room.take<T>(o.key_heads * o.head_dim);
  v.read = room.take<T>(o.heads * o.head_dim);
  v.gate = room.take<T>(l.gate.weight.null() ? 0 : o.heads * o.head_dim);
  v.gated = l.gate.weight.null() ? v.read : room.after(v.read);
  v.cos = room.take<R>(turning);
  v.sin = room.take<R>(turning);
  return v;
}
template <storage T>
typename attention_layer<T>::mixer_type::inputs mixer_inputs(const attention_layer<T>& l, const attention_values<T>& v) {
  const auto& o = l.options;
  return {.q = heads_of(v.queries, 0, o.heads, o.head_dim), .k = heads_of(v.keys, 0, o.key_heads, o.head_dim),
          .v = heads_of(v.values, 0, o.key_heads, o.head_dim), .sink = l.sinks};
}

}  // namespace detail

template <storage T, class Call>
void forward(cpu& executor, const attention_layer<T>& l, view<const T, 3> x, key_value_cache<T>& state, const std::type_identity_t<output<T, 3>>& y, const Call& call) {
  using R = accumulate_t<T>;
  const auto& o = l.options;
  const index H = o.heads, G = o.key_heads, d = o.head_dim;
  layer_room room(executor, call, x.extent[0], x.extent[1]);
  const auto v = detail::values_of(l, room);

  project<T>(executor, l.q, x, v.raw_queries);
  project<T>(executor, l.k, x, v.raw_keys);
  project<T>(executor, l.v, x, v.values);
  const auto q = heads_of(v.queries, 0, H, d), k = heads_of(v.keys, 0, G, d);
  if (!l.q_norm.null()) {
    rms_norm<T>(executor, heads_of(v.raw_queries, 0, H, d), l.q_norm, q, o.norm_eps, true);
    rms_norm<T>(executor, heads_of(v.raw_keys, 0, G, d), l.k_norm, k, o.norm_eps, true);
  }
  if (!o.frequencies.empty()) {
    const auto positions = room.scope().template take<std::int64_t>(x.extent[0], x.extent[1]);
    detail::token_positions(state.length, call.cu_seqlens, positions);
    rotary_angles<R>(executor, positions, o.frequencies, v.cos, v.sin, o.rotary_factor);
    rotary<T>(executor, q, v.cos, v.sin, q);
    rotary<T>(executor, k, v.cos, v.sin, k);
  }
  fold(executor, l.mixer(), detail::mixer_inputs(l, v), state, {.o = heads_of(v.read, 0, H, d)}, call);
  if (!l.gate.weight.null()) {
    project<T>(executor, l.gate, x, v.gate);
    multiply<T>(executor, v.read, v.gate, activation::sigmoid, v.gated);
  }
  project<T>(executor, l.out, v.gated, y);
}

}  // namespace WEFT_ISA
}  // namespace weft
