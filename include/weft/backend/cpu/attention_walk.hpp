// A range of keys into rows of queries, block by block: in the packed form for many rows, in place for few.
#pragma once
#include "attention_fold.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class Selector, class R, class T>
void fold_range(const attention_fold<Selector, R>& fold, softmax_rows<R>& rows, index count, packed_keys<R>& packed, const key_source<T>& keys,
                key_range range) {
  constexpr index block = attention_tile<R>::keys;
  for (index base = range.begin / block * block; base < range.end; base += block) {
    const index lo = std::max(range.begin, base), hi = std::min(range.end, base + block);
    packed.pack(keys, base, lo, hi);
    fold(rows, count, packed, base, lo - base, hi - base);
  }
}

template <class Selector, class R, class T>
void fold_range(const attention_fold<Selector, R>& fold, softmax_rows<R>& rows, index count, plain_keys<T>& plain, const key_source<T>& keys,
                key_range range) {
  constexpr index block = attention_tile<R>::in_place;
  for (index at = range.begin; at < range.end;) {
    const key_run<T> run = keys.run(at);
    const index block_end = std::min(range.end, (at / block + 1) * block), taken = std::min(run.count, block_end - at);
    plain.take(run, taken);
    fold(rows, count, plain, at, 0, taken);
    at += taken;
  }
}

}  // namespace WEFT_ISA
}  // namespace weft
