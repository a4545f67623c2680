// Which tokens of a call belong to which of its sequences.
#pragma once
#include <span>

#include "view.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The tokens of one sequence: batch row and [begin, end) in time.
struct token_span {
  index batch, begin, end;
  index count() const { return end - begin; }
};
// Those of sequence n: a batch row of `time` tokens, or a part of the packed ones.
inline token_span tokens_of(index time, std::span<const index> cu_seqlens, index n) {
  if (cu_seqlens.empty()) return {n, 0, time};
  return {0, cu_seqlens[static_cast<std::size_t>(n)], cu_seqlens[static_cast<std::size_t>(n) + 1]};
}

}  // namespace WEFT_ISA
}  // namespace weft
