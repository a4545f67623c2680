// The attention mixer: softmax attention over the keys that a selector picks.
//
//   x_j = scale q . k_j,  x_j <- c tanh(x_j / c) with a soft cap c,  o = sum_j exp(x_j) v_j / (sum_j exp(x_j) + exp(sink))
//
// A query at absolute position p (tokens already in the cache count) reads the keys j <= p that the selector picks.
// Query head i reads key head i / (HQ / H). O(pairs (K + V)) a query head; a query that reads nothing gives o = 0.
// Sources: Vaswani et al. 2017 (arXiv 1706.03762), Ainslie et al. 2023 (2305.13245: grouped heads), Gemma 2 (2408.00118:
// soft cap), gpt-oss (2508.10925: sink logits), Dao et al. 2022 (2205.14135: the blocked order of summation).
#pragma once
#include <array>
#include <cstdint>
#include <cmath>
#include <optional>

#include "../core/output.hpp"
#include "../core/state.hpp"
#include "../core/roles.hpp"
#include "cache.hpp"
#include "lists.hpp"
#include "selector.hpp"

namespace weft {
inline namespace v1 {

namespace roles {
inline constexpr role query{.heads = per_head::value, .width = width::key_dim};
inline constexpr role read_value{.heads = per_head::key, .width = width::value_dim};
}  // namespace roles

namespace detail {
template <class Selector>
inline constexpr bool pools = false;
template <scored_selector Selector>
inline constexpr bool pools<Selector> = Selector::pooled;
}  // namespace detail

// attention<float> full;   attention<bf16, window> local{.select = {.window = 512, .kept = 4}, .softcap = 50};
template <class T, class Selector = dense>
struct attention {
  static_assert(storage<T>, "weft: activations are stored as float, double, weft::bf16 or weft::fp16");
  static_assert(key_selector<Selector> || list_selector<Selector>,
                "weft: the second argument of attention is not a selector: it needs select, retained and check, or the lists of attention/lists.hpp");
  using storage_type = T;
  using real = accumulate_t<T>;
  static constexpr bool pools = detail::pools<Selector>;  // the cache keeps means of blocks
  using state_type = std::conditional_t<pools, pooled_cache<T>, key_value_cache<T>>;
  struct inputs {
    input<roles::query, T> q;         // [B, T, HQ, K]
    input<roles::key, T> k;           // [B, T, H, K]: the new tokens
    input<roles::read_value, T> v;    // [B, T, H, V]
    input<roles::head, real> sink{};  // [HQ], optional: logits that only enlarge the denominator
  };
  static constexpr std::array names{"q", "k", "v", "sink?"};
  struct outputs {
    output<T, 4> o;                   // [B, T, HQ, V]
    view<real, 3> lse{};              // [B, T, HQ], optional: natural logarithm of the denominator, sink included
    view<std::int32_t, 4> idx{};      // [B, T, HQ, topk], optional, of selectors by score: the blocks read, ascending, then -1
  };
  struct cotangents {
    cotangent<T, 4> o{};              // [B, T, HQ, V]
    cotangent<real, 3> lse{};         // [B, T, HQ]
  };
  struct gradients {
    gradient<roles::query, T> q{};    // as the inputs
    gradient<roles::key, T> k{};
    gradient<roles::read_value, T> v{};
    gradient<roles::head, real> sink{};
  };
  using state_gradient = cache_gradient<real>;

  Selector select{};
  std::optional<double> scale{};      // default K^-1/2
  double softcap = 0;                 // 0: none
  bool causal = true;                 // false: every query sees the whole cache and the whole call

  // An empty cache. A dense one holds `capacity` tokens a sequence and is then full: an error, until grow().
  // A window's needs no capacity: it is a ring of the kept tokens and the window - 1 latest, for a stream of any length.
  state_type state(const shape& s) const {
    select.check();
    const index slots = cache_slots::wanted(s.capacity, select.retained());
    state_type cache;
    cache.keys = array<T, 4>({s.batch, s.heads, slots, s.key_dim});
    cache.values = array<T, 4>({s.batch, s.heads, slots, s.value_dim});
    cache.length = array<std::int64_t, 1>({s.batch});
    if constexpr (pools) {
      cache.block_size = select.block();
      cache.pooled = array<real, 4>({s.batch, s.heads, slots / select.block(), s.key_dim});
    }
    return cache;
  }

  // Whether a state's contents make sense, as those of a file need not. Throws errc::shape or value.
  WEFT_INLINE void check_state(const state_type& s) const {
    select.check();
    s.check(select.retained());
  }

  double scale_for(index key_dim) const {
    if (scale) return *scale;
    return key_dim > 0 ? 1.0 / std::sqrt(static_cast<double>(key_dim)) : 1.0;
  }
};

}  // namespace v1
}  // namespace weft
