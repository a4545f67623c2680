// One block of keys into rows of queries: scores, masks only where rows differ, softmax, weighted values.
#pragma once
#include "attention_keys.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Queries of one sequence and key head: row r is head r % group of the token at position first + r / group.
template <class Selector, class R>
class attention_fold {
  static constexpr index W = simd<R>::width, block = attention_tile<R>::keys;
  static constexpr bool per_query_head = requires { Selector::per_query_head; };

 public:
  const Selector& selector;
  index sequence, head;
  index first, group;
  index keys;  // that exist
  bool causal;
  R softcap;

  // f(range) for a cover of the keys that the rows [row, row + count) read.
  template <class F>
  WEFT_INLINE void cover(index row, index count, F&& f) const {
    query_span q{sequence, head, first + row / group, first + (row + count - 1) / group + 1, keys};
    if constexpr (per_query_head) {
      q.query_heads = q.end - q.begin > 1 ? group : count;
      q.query_head = head * group + (q.end - q.begin > 1 ? 0 : row % group);
    }
    const index limit = causal ? std::min(q.end, keys) : keys;
    selector.select(q, [&](key_range r) {
      r.end = std::min(r.end, limit);
      if (r.begin < r.end) f(r);
    });
  }

  // Of the keys [lo, hi) of the block that begins at the position `base`, the part that the rows' cover spans; empty: begin >= end.
  WEFT_INLINE key_range clip(index row, index count, index base, index lo, index hi) const {
    index a = hi, b = lo;
    cover(row, count, [&](key_range r) {
      if (r.begin >= base + hi || r.end <= base + lo) return;
      a = std::min(a, std::max(r.begin - base, lo));
      b = std::max(b, std::min(r.end - base, hi));
    });
    return {a, b};
  }

  // Whether every row reads all of [a, b).
  WEFT_INLINE bool all_read(index row, index count, index base, index a, index b) const {
    bool same = true;
    for (index r = 0; r < count; r += per_query_head ? 1 : group - (row + r) % group) {  // once a token
      bool all = false;
      cover(row + r, 1, [&](key_range k) { all |= k.begin <= base + a && k.end >= base + b; });
      same &= all;
    }
    return same;
  }

  // A value at what the row does not read of [a, b), and at the rest of [from, to).
  void fill_unread(index row, R* at_key, index base, index from, index to, index a, index b, R value) const {
    index at = from;
    cover(row, 1, [&](key_range k) {
      const index begin = std::max(k.begin - base, a), end = std::min(k.end - base, b);
      if (begin >= end) return;
      std::fill(at_key + at, at_key + begin, value);
      at = end;
    });
    std::fill(at_key + at, at_key + to, value);
  }

  // Folds the keys at [lo, hi) of the block that begins at the position `base` into `total` rows.
  template <class Rows, class Keys>
  void operator()(Rows& rows, index total, Keys& operand, index base, index lo, index hi) const {
    constexpr index C = Keys::column_block;
    for (index row = 0; row < total; row += attention_tile<R>::strip) {
      const index count = std::min(attention_tile<R>::strip, total - row);
      const key_range read = clip(row, count, base, lo, hi);
      const index a = read.begin, b = read.end;  // not a structured binding: clang 14's lambdas do not take one
      if (a >= b) continue;
      const index from = a / C * C, to = (b + C - 1) / C * C;  // whole vectors
      operand.scores(rows, row, count, a, b);

      const bool same = all_read(row, count, base, a, b);
      const bool whole = same && from == a && to == b;
      for (index r = 0; r < count; ++r) {
        R* const score = rows.p + r * block;
        if (softcap > 0) softmax_rows<R>::cap(score + from, (to - from) / W, softcap);
        if (!whole) fill_unread(row + r, score, base, from, to, a, b, -std::numeric_limits<R>::infinity());
        rows.fold_scores(row + r, score + from, (to - from) / W);
      }
      if (same || operand.finite()) {
        operand.weigh(rows, row, count, a, b);
      } else {  // zero times infinity: every row takes only what it reads
        for (index r = 0; r < count; ++r)
          cover(row + r, 1, [&](key_range k) {
            const index begin = std::max(k.begin - base, a), end = std::min(k.end - base, b);
            if (begin < end) operand.weigh_row(rows, row, r, begin, end);
          });
      }
    }
  }
};

}  // namespace WEFT_ISA
}  // namespace weft
