// RAT: a gated recurrence inside chunks of L tokens, softmax attention across their ends.
//
//   k~_t = f_t k~_{t-1} + (1 - f_t) k_t,  v~_t = f_t v~_{t-1} + (1 - f_t) v_t    f = exp(g), by channel; zero at a chunk's start
//   o_t = sum_j p_j v~_j,  p = softmax(scale q_t . k~_j),  j: the last token of every earlier chunk, and t itself
//
// With rope_base, q_t and k~_t are turned by the number of their chunk before they meet. Value head h reads q and k of head
// h mod R. O(T D (T / L + 1)) a head; one pair of rows a chunk is kept. L = 1 with f = 0 is causal attention, L >= T a
// gated RNN. Source: arXiv 2507.04416.
#pragma once
#include <array>
#include <cmath>
#include <optional>

#include "../attention/cache.hpp"
#include "../core/output.hpp"
#include "../core/roles.hpp"

namespace weft {
inline namespace v1 {

// The ends of finished chunks (keys turned), and the running pair of the chunk that is not: unturned, of so many tokens.
template <class R>
struct rat_state {
  key_value_cache<R> chunks;  // [N, H, chunks, D], and how many there are
  array<R, 3> key, value;     // [N, H, D]
  array<std::int64_t, 1> held;  // [N], below L; 0 also where a chunk has just ended, whose end the pair still shows

  auto parts() { return parts_of(*this); }
  auto parts() const { return parts_of(*this); }
  rat_state like() const { return {}; }
  WEFT_INLINE rat_state gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE rat_state gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }

  // Makes room for so many finished chunks a sequence; O(state). Throws errc::value for less room than now.
  void grow(index capacity) { chunks.grow(capacity); }

 private:
  template <class S>
  static auto parts_of(S& s) {
    return std::tuple{part{"chunk_keys", s.chunks.keys}, part{"chunk_values", s.chunks.values}, part{"chunks", s.chunks.length},
                      part{"key", s.key}, part{"value", s.value}, part{"held", s.held}};
  }
};

// The gradient of a state, as numbers. Slots of chunks that were not finished have none.
template <class R>
struct rat_gradient {
  array<R, 4> chunk_keys, chunk_values;  // [N, H, chunks, D]: of turned keys, as they are kept
  array<R, 3> key, value;                // [N, H, D]

  rat_gradient() = default;
  // Zeros.
  WEFT_INLINE explicit rat_gradient(const rat_state<R>& of)
      : chunk_keys(of.chunks.keys.extent()), chunk_values(of.chunks.values.extent()), key(of.key.extent()), value(of.value.extent()) {}

  auto parts() { return std::tuple{part{"chunk_keys", chunk_keys}, part{"chunk_values", chunk_values}, part{"key", key}, part{"value", value}}; }
  auto parts() const { return std::tuple{part{"chunk_keys", chunk_keys}, part{"chunk_values", chunk_values}, part{"key", key}, part{"value", value}}; }
  rat_gradient like() const { return {}; }
  WEFT_INLINE rat_gradient gather(std::span<const index> rows) const { return weft::gather(*this, rows); }
  WEFT_INLINE rat_gradient gather(std::initializer_list<index> rows) const { return gather(std::span(rows.begin(), rows.size())); }
};

// rat<float> mixer{.chunk_size = 64};
template <class T>
struct rat {
  static_assert(storage<T>, "weft: activations are stored as float, double, weft::bf16 or weft::fp16");
  using storage_type = T;
  using real = accumulate_t<T>;
  using state_type = rat_state<real>;
  struct inputs {
    input<roles::key, T> q, k;           // [B, T, R, D]
    input<roles::value, T> v;            // [B, T, H, D]
    input<roles::value_gate, real> g;    // [B, T, H, D]: log of the forget gate, at most 0
  };
  static constexpr std::array names{"q", "k", "v", "g"};
  struct outputs {
    output<T, 4> o;                      // [B, T, H, D]; may be exactly q or v
  };

  struct cotangents {
    cotangent<T, 4> o;
  };
  struct gradients {
    gradient<roles::key, T> q{}, k{};
    gradient<roles::value, T> v{};
    gradient<roles::value_gate, T> g{};
  };
  using state_gradient = rat_gradient<real>;

  index chunk_size = 16;           // L
  std::optional<double> scale{};   // default D^-1/2
  double rope_base = 10000;        // 0: none

  // Before the first token; room for the chunks that `capacity` tokens finish. Reads batch, heads (H) and key_dim (D).
  state_type state(const shape& s) const {
    check();
    if (s.value_dim != s.key_dim)
      throw error(errc::shape, "weft: value_dim: expected that of the keys, " + std::to_string(s.key_dim) + ", since both share one gate, got " +
                                   std::to_string(s.value_dim));
    state_type out;
    const index chunks = s.capacity / chunk_size;
    out.chunks.keys = array<real, 4>({s.batch, s.heads, chunks, s.key_dim});
    out.chunks.values = array<real, 4>({s.batch, s.heads, chunks, s.key_dim});
    out.chunks.length = array<std::int64_t, 1>({s.batch});
    out.key = array<real, 3>({s.batch, s.heads, s.key_dim});
    out.value = array<real, 3>({s.batch, s.heads, s.key_dim});
    out.held = array<std::int64_t, 1>({s.batch});
    return out;
  }

  // Whether the options are in range. Throws errc::value.
  void check() const {
    if (chunk_size < 1) throw error(errc::value, "weft: chunk_size: expected at least 1, got " + std::to_string(chunk_size));
    if (scale && !std::isfinite(*scale)) throw error(errc::value, "weft: scale: expected a finite number, got " + std::to_string(*scale));
    if (!(rope_base >= 0 && std::isfinite(rope_base)))
      throw error(errc::value, "weft: rope_base: expected 0 (none) or a positive number, got " + std::to_string(rope_base));
  }
  // Whether a state's parts fit each other and this chunk size, as those of a file need not. Throws errc::shape or value.
  void check_state(const state_type& s) const {
    check();
    s.chunks.check(retained_keys{});
    const auto& e = s.chunks.keys.extent();
    if (s.chunks.values.extent() != e) throw error(errc::shape, "weft: state.chunk_values: expected the extents of chunk_keys");
    const std::array<index, 3> pair{e[0], e[1], e[3]};
    if (s.key.extent() != pair || s.value.extent() != pair)
      throw error(errc::shape, "weft: state.key, state.value: expected the sequences, heads and width of chunk_keys");
    if (s.held.extent(0) != e[0]) throw error(errc::shape, "weft: state.held: expected one number a sequence");
    for (index n = 0; n < e[0]; ++n)
      if (s.held(n) < 0 || s.held(n) >= chunk_size)
        throw error(errc::value, "weft: state.held: expected 0 to " + std::to_string(chunk_size - 1) + " tokens of a chunk, got " +
                                     std::to_string(s.held(n)) + " for sequence " + std::to_string(n));
  }

  double scale_for(index dim) const {
    if (scale) return *scale;
    return dim > 0 ? 1.0 / std::sqrt(static_cast<double>(dim)) : 1.0;
  }
};

}  // namespace v1
}  // namespace weft
