// Selectors by lists: what a query head reads at a token is a list of key blocks, given by the caller or chosen by score.
//
//   block()           tokens of a block; blocks count from the start of the sequence, the last one may be cut short
//   width(blocks)     the most entries that a list has where so many blocks exist
//   choose(visible)   of a query that sees so many keys: which blocks compete, how many of them stay, which one stays anyhow
//   pooled            whether a block's score is q . mean of its keys, else (blocks of one token) q . k
// A caller's lists have given(batch, token, query head, query heads) instead of the last two.
//
// Scores are not scaled. Forced first, then the larger score, then the lower number; a NaN counts as -inf. What is chosen is a
// constant to gradients: the softmax over the chosen keys alone has any.
// Sources: Zhao et al. 2019 (arXiv 1912.11637) and Gupta et al. 2021 (2106.06899) for tokens, Lu et al. 2025 (2502.13189) for blocks.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>

#include "../core/array.hpp"
#include "selector.hpp"

namespace weft {
inline namespace v1 {

template <class S>
concept list_selector = requires(const S& s, index n) {
  { s.block() } -> std::same_as<index>;
  { s.width(n) } -> std::same_as<index>;
  { s.retained() } -> std::same_as<retained_keys>;
  s.check();
};
template <class S>
concept scored_selector = list_selector<S> && requires(const S& s, index n) {
  s.choose(n);
  { S::pooled } -> std::convertible_to<bool>;
};

struct list_choice {
  index candidates = 0;  // the blocks [0, candidates) compete
  index count = 0;       // so many of them stay
  index forced = -1;     // stays anyhow, and comes after them
  bool all() const { return candidates <= count; }
};

// The topk keys with the largest q . k; all of them while no more are visible.
struct top_tokens {
  index topk = 1;

  static constexpr bool pooled = false;
  static constexpr index block() { return 1; }
  index width(index blocks) const { return std::min(topk, blocks); }
  list_choice choose(index visible) const { return {visible, topk, -1}; }
  retained_keys retained() const { return {}; }
  void check() const {
    if (topk < 1) throw error(errc::value, "weft: topk: expected at least 1, got " + std::to_string(topk));
  }
  bool operator==(const top_tokens&) const = default;
};

// The query's own block, read up to the query, and the topk - 1 best of the blocks before it. Below topk blocks that is every key, and
// nothing is scored. For causal attention.
struct top_blocks {
  index topk = 1;
  index block_size = 64;

  static constexpr bool pooled = true;
  index block() const { return block_size; }
  index width(index blocks) const { return std::min(topk, blocks); }
  list_choice choose(index visible) const { return {(visible - 1) / block_size, topk - 1, (visible - 1) / block_size}; }
  retained_keys retained() const { return {}; }
  void check() const {
    if (topk < 1) throw error(errc::value, "weft: topk: expected at least 1, got " + std::to_string(topk));
    if (block_size < 1) throw error(errc::value, "weft: block_size: expected at least 1, got " + std::to_string(block_size));
  }
  bool operator==(const top_blocks&) const = default;
};

// The caller's lists for the tokens of a call, in one of two forms; heads are all query heads, or fewer that share:
//   blocks [B, T, heads, width], ended by -1, or
//   offsets [B T heads + 1] into entries (CSR).
// Numbers ascend without repeats, and name blocks that exist when the call ends; what lies after the query is not read.
// On a GPU the lists lie there, and are not looked at before the call: a number out of range reads nothing.
struct block_lists {
  index block_size = 64;
  view<const std::int32_t, 4> blocks{};
  view<const index, 1> offsets{};
  view<const std::int32_t, 1> entries{};
  index heads = 1;  // of offsets

  index block() const { return block_size; }
  WEFT_HD bool compressed() const { return blocks.null(); }
  WEFT_HD index list_heads() const { return compressed() ? heads : blocks.extent[2]; }
  index width(index) const {
    if (!compressed()) return blocks.extent[3];
    index most = 0;
    for (index i = 0; i + 1 < offsets.extent[0]; ++i) most = std::max(most, offsets(i + 1) - offsets(i));
    return most;
  }
  // Of a call of `time` tokens a batch row and `query_heads` heads.
  std::span<const std::int32_t> given(index batch, index token, index head, index time, index query_heads) const {
    const index of = head / (query_heads / list_heads());
    if (compressed()) {
      const index row = (batch * time + token) * heads + of;
      return {entries.data + offsets(row), static_cast<std::size_t>(offsets(row + 1) - offsets(row))};
    }
    const std::int32_t* const row = &blocks(batch, token, of, 0);
    index n = 0;
    while (n < blocks.extent[3] && row[n] >= 0) ++n;
    return {row, static_cast<std::size_t>(n)};
  }
  retained_keys retained() const { return {}; }
  void check() const {
    if (block_size < 1) throw error(errc::value, "weft: block_size: expected at least 1, got " + std::to_string(block_size));
  }
};

// What is read while a call runs, and again when its gradients are sought: the lists that a scan wrote as `idx`, or a caller's.
// A selector for a list a query head; positions count from the start of the sequence.
struct listed_keys {
  static constexpr bool per_query_head = true;
  view<const std::int32_t, 4> lists;  // [B, T, HQ, width], ended by -1
  index block_size = 1;
  const std::int64_t* length = nullptr;  // tokens before the call, of each sequence
  std::span<const index> cu{};           // as the call's

  template <class F>
  WEFT_INLINE void select(const query_span& q, F&& f) const {
    if (q.end - q.begin > 1 || q.query_heads > 1) return f(key_range{0, q.keys});
    const index t = q.begin - length[q.sequence];
    const std::int32_t* const list = cu.empty() ? &lists(q.sequence, t, q.query_head, 0) : &lists(0, cu[static_cast<std::size_t>(q.sequence)] + t, q.query_head, 0);
    for (index i = 0; i < lists.extent[3] && list[i] >= 0;) {
      const index begin = list[i];
      index end = begin + 1;
      for (++i; i < lists.extent[3] && list[i] == end; ++i) ++end;  // neighbours are one range
      f(key_range{begin * block_size, std::min(end * block_size, q.keys)});
    }
  }
  retained_keys retained() const { return {}; }
  void check() const {}
};

}  // namespace v1

inline namespace WEFT_ISA {

// A score as it is ranked.
template <class R>
WEFT_INLINE R ranked(R score) {
  return score == score ? score : -std::numeric_limits<R>::infinity();
}

namespace detail {

template <class R>
struct threshold {
  R last;             // the least value that is kept
  std::int32_t ties;  // and so many of its kind
  bool all_ties;      // which are all that there are
};

// What parts the `need` largest of `held` values from the rest; the values are consumed. Quickselect without branches on values: a pass
// counts, a second moves the side that matters. The pivot has about the wanted rank in a sample.
template <class R>
threshold<R> threshold_of(R* values, std::int32_t held, std::int32_t need) {
  constexpr std::int32_t samples = 8, rounds = 40;  // where samples mislead so often, nth_element's bound counts
  for (std::int32_t round = 0; round < rounds; ++round) {
    R sample[samples], pivot = values[0];
    for (std::int32_t i = 0; i < samples; ++i) sample[i] = values[static_cast<index>(held) * (2 * i + 1) / (2 * samples)];
    const auto wanted = static_cast<std::int32_t>(static_cast<index>(need) * samples / (held + 1));
    for (std::int32_t i = 0; i < samples; ++i) {
      std::int32_t rank = 0;
      for (std::int32_t j = 0; j < samples; ++j) rank += (sample[j] > sample[i]) | ((sample[j] == sample[i]) & (j < i));
      pivot = rank == wanted ? sample[i] : pivot;
    }
    std::int32_t greater = 0, equal = 0;
    for (std::int32_t i = 0; i < held; ++i) {
      greater += values[i] > pivot;
      equal += values[i] == pivot;
    }
    const bool above = greater >= need;
    if (!above && greater + equal >= need) return {pivot, need - greater, greater + equal == need};
    std::int32_t left = 0;
    for (std::int32_t i = 0; i < held; ++i) {
      const R value = values[i];
      values[left] = value;
      left += above ? value > pivot : value < pivot;
    }
    held = left;
    if (!above) need -= greater + equal;
  }
  std::nth_element(values, values + need - 1, values + held, [](R a, R b) { return a > b; });
  const R last = values[need - 1];
  return {last, static_cast<std::int32_t>(std::count(values, values + need, last)), false};
}

}  // namespace detail

// The numbers of the `count` largest of n scores as they are ranked, ascending; `work` has room for n. Returns how many there are. O(n).
template <class R>
index keep_best(const R* score, index n, index count, R* work, std::int32_t* to) {
  if (n <= count) {
    for (index i = 0; i < n; ++i) to[i] = static_cast<std::int32_t>(i);
    return n;
  }
  if (count == 0) return 0;
  for (index i = 0; i < n; ++i) work[i] = ranked(score[i]);
  auto [last, ties, all_ties] = detail::threshold_of(work, static_cast<std::int32_t>(n), static_cast<std::int32_t>(count));
  index kept = 0;
  if (all_ties && last > -std::numeric_limits<R>::infinity()) {
    for (index i = 0; kept < count; ++i) {
      to[kept] = static_cast<std::int32_t>(i);
      kept += score[i] >= last;
    }
    return kept;
  }
  for (index i = 0; kept < count; ++i) {
    const R s = ranked(score[i]);
    const bool tie = (s == last) & (ties > 0);
    to[kept] = static_cast<std::int32_t>(i);
    kept += (s > last) | tie;
    ties -= tie;
  }
  return kept;
}

namespace detail {

// The blocks that were read, where the caller wants to know.
inline void write_lists(const array<std::int32_t, 4>& lists, const view<std::int32_t, 4>& idx) {
  if (idx.null()) return;
  for (index b = 0; b < idx.extent[0]; ++b)
    for (index t = 0; t < idx.extent[1]; ++t)
      for (index h = 0; h < idx.extent[2]; ++h)
        for (index i = 0; i < idx.extent[3]; ++i) idx(b, t, h, i) = i < lists.extent(3) ? lists(b, t, h, i) : -1;
}

}  // namespace detail

}  // namespace WEFT_ISA
}  // namespace weft
