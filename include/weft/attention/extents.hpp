// What a call on attention is over.
#pragma once
#include <span>

#include "../core/sequences.hpp"
#include "cache.hpp"

namespace weft {
inline namespace WEFT_ISA {

struct attention_extents {
  index batch = 0, time = 0, sequences = 0, heads = 0, query_heads = 0, key_dim = 0, value_dim = 0;
  cache_slots slots;
  bool output_is_query = false, output_is_value = false;  // o is exactly the view of q or v

  index group() const { return heads ? query_heads / heads : 0; }
};

inline token_span tokens_of(const attention_extents& x, std::span<const index> cu, index n) { return tokens_of(x.time, cu, n); }

}  // namespace WEFT_ISA
}  // namespace weft
