// Finished results as elements of the softmax: attention over any split of the keys merges to attention over all of them.
//
//   lse = log sum_p exp(lse_p),  o = sum_p exp(lse_p - lse) o_p
//
// The parts may come from several calls (shared prefixes, shards of a cache, selectors that share no key) or from elsewhere: a virtual
// key, one that stands for many, is a part whose lse is its score and whose o is its value. A sink belongs to one part alone.
#pragma once
#include <initializer_list>
#include <span>

#include "../core/check.hpp"
#include "../math/softmax_state.hpp"

namespace weft {
inline namespace v1 {

// As attention writes it; an empty set is o = 0 and lse = -inf.
template <std::floating_point R>
struct finished {
  view<const R, 4> o;    // [B, T, HQ, V]
  view<const R, 3> lse;  // [B, T, HQ]
};

}  // namespace v1

inline namespace WEFT_ISA {

// O(parts B T HQ V). No parts give the empty set. o and lse may be exactly those of a part. Throws weft::error before anything is written.
template <class Executor, std::floating_point R>
void merge(Executor&& executor, std::span<const finished<R>> parts, const view<R, 4>& o, const std::type_identity_t<view<R, 3>>& lse = {}) {
  check::result("o", o, o.extent, false, false);
  const std::array<index, 3> rows{o.extent[0], o.extent[1], o.extent[2]};
  check::result("lse", lse, rows, true, false);
  for (const finished<R>& p : parts) {
    check::tensor("part's o", p.o, o.extent, false, false);
    check::tensor("part's lse", p.lse, rows, false, false);
    if (!check::same_view(o, p.o)) check::no_overlap("o", o, "a part's o", p.o);
    if (!check::same_view(lse, p.lse)) check::no_overlap("lse", lse, "a part's lse", p.lse);
    check::no_overlap("o", o, "a part's lse", p.lse);
    check::no_overlap("lse", lse, "a part's o", p.o);
  }
  check::no_overlap("lse", lse, "o", o);
  executor.parallel_for(rows[2] > 0 ? rows[0] * rows[1] : 0, [&](index i, int) {
    const index b = i / rows[1], t = i % rows[1];
    for (index h = 0; h < rows[2]; ++h) {
      softmax_state<R> all;
      for (const finished<R>& p : parts) all = merge(all, softmax_state<R>::finished(R(0), p.lse(b, t, h)));
      const R sum = all.log_sum(), from = all.l == R(0) ? R(0) : sum;  // of empty sets no weight
      for (index c = 0; c < o.extent[3]; ++c) {
        R value = 0;
        for (const finished<R>& p : parts) value += std::exp(p.lse(b, t, h) - from) * p.o(b, t, h, c);
        o(b, t, h, c) = value;
      }
      if (!lse.null()) lse(b, t, h) = sum;
    }
  });
}
template <class Executor, std::floating_point R>
void merge(Executor&& executor, std::initializer_list<finished<R>> parts, const view<R, 4>& o, const std::type_identity_t<view<R, 3>>& lse = {}) {
  merge(executor, std::span<const finished<R>>(parts.begin(), parts.size()), o, lse);
}

}  // namespace WEFT_ISA
}  // namespace weft
