// One row turned by rotary embedding, half-split: channels i and i + n by cos[i] and sin[i].
#pragma once
#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

// to may be from.
template <class T, class Out>
WEFT_INLINE void turn_halves(const T* from, Out* to, const accumulate_t<T>* cos, const accumulate_t<T>* sin, index n) {
  for_lanes<accumulate_t<T>>(n, [&](index i, auto lane) {
    const auto first = get(from + i, lane), second = get(from + n + i, lane), c = get(cos + i, lane), s = get(sin + i, lane);
    put(to + i, first * c - second * s, lane);
    put(to + n + i, second * c + first * s, lane);
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
