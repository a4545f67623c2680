// Selectors: which keys a query reads. The policy of attention; the kernel is one.
//
// A selector answers with a few contiguous ranges of absolute key positions and never makes a list:
//   select(queries, f)   calls f(key_range) with ascending, disjoint ranges. For one query: exactly the keys it reads.
//                        For several: a cover of what they read, which the kernel asks for first, to skip the rest.
//   retained()           which keys later queries may still read: what a cache must keep
//   check()              throws errc::value for options out of range
// On a GPU, select runs there: make it constexpr.
// Causality is not the selector's: the engine clips every range to what exists, and to the past where `causal` is set.
// The sequence and the key head are given too, for selectors whose answer depends on content.
#pragma once
#include <concepts>
#include <limits>
#include <string>

#include "../core/error.hpp"
#include "../core/view.hpp"

namespace weft {
inline namespace v1 {

inline constexpr index every_key = std::numeric_limits<index>::max();

struct key_range {
  index begin = 0, end = 0;  // absolute positions
};

// Queries at the absolute positions [begin, end) of one sequence and key head that holds the keys [0, keys).
struct query_span {
  index sequence = 0, head = 0;
  index begin = 0, end = 0;
  index keys = 0;
  index query_head = 0, query_heads = 1;  // of the group, for selectors that have `per_query_head`: each head its own answer
};

struct retained_keys {
  index first = 0;         // so many first tokens of the stream
  index last = every_key;  // and so many latest ones
};

template <class S>
concept key_selector = requires(const S& s, const query_span& q, void (*f)(key_range)) {
  s.select(q, f);
  { s.retained() } -> std::same_as<retained_keys>;
  s.check();
};

// Every key.
struct dense {
  template <class F>
  WEFT_INLINE constexpr void select(const query_span& q, F&& f) const {
    f(key_range{0, q.keys});
  }
  retained_keys retained() const { return {}; }
  void check() const {}
  bool operator==(const dense&) const = default;
};

// The `window` latest keys, the query's own included, and always the `kept` first ones of the stream.
// Without causality the window reaches as far ahead as back. window = 0: no window, as dense.
// Sources: Beltagy et al. 2020 (arXiv 2004.05150), Jiang et al. 2023 (2310.06825), Xiao et al. 2023 (2309.17453: kept tokens).
struct window {
  index window = 0;
  index kept = 0;

  template <class F>
  WEFT_INLINE constexpr void select(const query_span& q, F&& f) const {
    if (window == 0) return f(key_range{0, q.keys});
    const index first = q.begin - window + 1;
    const index end = window > q.keys - q.end ? q.keys : q.end + window - 1;
    if (first <= kept) return f(key_range{0, end});
    if (kept > 0) f(key_range{0, kept});
    f(key_range{first, end});
  }
  retained_keys retained() const { return window == 0 ? retained_keys{} : retained_keys{kept, window - 1}; }
  void check() const {
    if (window < 0) throw error(errc::value, "weft: window: expected 0 (none) or a number of keys, got " + std::to_string(window));
    if (kept < 0) throw error(errc::value, "weft: kept: expected 0 or a number of first tokens, got " + std::to_string(kept));
  }
  bool operator==(const struct window&) const = default;
};

}  // namespace v1
}  // namespace weft
