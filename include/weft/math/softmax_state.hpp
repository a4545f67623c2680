// The state of online softmax: a commutative monoid whose elements stand for sets of (score, value) pairs.
//
//   m >= every score x_j,  l = sum exp(x_j - m),  o = sum exp(x_j - m) v_j        (o: one value channel)
//   merge: m = max(m1, m2),  l = w1 l1 + w2 l2,  o = w1 o1 + w2 o2,  w_i = exp(m_i - m)
//
// Identity: (-inf, 0, 0), the empty set. Sources: Milakov and Gimelshein 2018 (arXiv 1805.02867), Rabe and Staats 2021
// (arXiv 2112.05682). Anything that can be written as such elements merges: single keys, finished parts of a split, sinks.
#pragma once
#include <cmath>
#include <limits>

#include "../core/config.hpp"

namespace weft {
inline namespace v1 {

// The common maximum of two elements and the factors that bring both to it.
template <class R>
struct softmax_weights {
  R m, left, right;

  WEFT_HD WEFT_INLINE softmax_weights(R m1, R m2) {
    m = m1 > m2 ? m1 : m2;  // a NaN in either is kept: as m2 by the comparison, as m1 by its own factor
    const R safe = m == -std::numeric_limits<R>::infinity() ? R(0) : m;  // two empty sets: exp(-inf - 0) = 0, no NaN
    left = std::exp(m1 - safe);
    right = std::exp(m2 - safe);
  }
};

template <class R>
struct softmax_state {
  R m = -std::numeric_limits<R>::infinity(), l = 0, o = 0;

  WEFT_HD WEFT_INLINE static softmax_state key(R score, R value) { return {score, R(1), value}; }
  // A logit without a value: adds to the denominator only.
  WEFT_HD WEFT_INLINE static softmax_state sink(R logit) { return {logit, R(1), R(0)}; }
  // A finished result over some set: its output, and the logarithm of its denominator.
  WEFT_HD WEFT_INLINE static softmax_state finished(R output, R log_sum) {
    return {log_sum, log_sum == -std::numeric_limits<R>::infinity() ? R(0) : R(1), output};
  }

  WEFT_HD WEFT_INLINE friend softmax_state merge(const softmax_state& a, const softmax_state& b) {
    const softmax_weights<R> w(a.m, b.m);
    return {w.m, w.left * a.l + w.right * b.l, w.left * a.o + w.right * b.o};
  }

  // 0 and -inf for the empty set.
  WEFT_HD WEFT_INLINE R output() const { return l == R(0) ? R(0) : o / l; }
  WEFT_HD WEFT_INLINE R log_sum() const { return l == R(0) ? -std::numeric_limits<R>::infinity() : m + std::log(l); }
};

}  // namespace v1
}  // namespace weft
