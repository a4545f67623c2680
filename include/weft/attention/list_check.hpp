// What a call on attention by lists must hold beyond attention's own shapes: the caller's lists, the means of blocks, where idx goes.
#pragma once
#include <cstdint>
#include <limits>

#include "../core/check.hpp"
#include "extents.hpp"
#include "lists.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

inline void check_list_shapes(const block_lists& s, const attention_extents& x) {
  const index rows = x.batch * x.time;
  if (s.compressed()) {
    require(s.heads >= 1, errc::value, "select.heads: expected at least 1, got ", s.heads);
    const index expected = rows * s.heads + 1;
    require(!s.offsets.null() || rows == 0, errc::missing, "select.blocks or select.offsets: expected lists, got null views");
    require(rows == 0 || s.offsets.extent[0] == expected, errc::shape, "select.offsets: expected [", expected, "], got [", s.offsets.extent[0], "]");
    require(s.entries.null() || s.entries.stride[0] == 1, errc::shape, "select.entries: expected a last stride of 1, got ", s.entries.stride[0]);
  } else {
    check::tensor("select.blocks", s.blocks, {x.batch, x.time, s.blocks.extent[2], s.blocks.extent[3]}, false, true);
  }
  require(s.list_heads() > 0 && x.query_heads % s.list_heads() == 0, errc::heads, "select: expected lists for a head count that divides ", x.query_heads, ", got ",
          s.list_heads());
}

// Every list of a call ascends and names blocks that exist. Reads every entry once.
template <class Cache>
void check_given(const block_lists& s, const attention_extents& x, const Cache& cache, std::span<const index> cu) {
  if (s.compressed()) {
    const index total = s.entries.null() ? 0 : s.entries.extent[0], count = x.batch * x.time > 0 ? s.offsets.extent[0] : 0;
    for (index i = 0; i < count; ++i) {
      const index at = s.offsets(i), before = i == 0 ? 0 : s.offsets(i - 1);
      require(at >= before && at <= total && (i > 0 || at == 0), errc::value, "select.offsets: expected ascending numbers from 0 to ", total, ", got ", at, " at ", i);
    }
  }
  const index share = x.query_heads / s.list_heads();
  for (index n = 0; n < x.sequences; ++n) {
    const token_span tokens = tokens_of(x, cu, n);
    const index blocks = (cache.length(n) + tokens.count() + s.block_size - 1) / s.block_size;
    for (index t = tokens.begin; t < tokens.end; ++t)
      for (index h = 0; h < x.query_heads; h += share) {
        index before = -1;
        for (const std::int32_t c : s.given(tokens.batch, t, h, x.time, x.query_heads)) {
          require(c >= 0 && c < blocks, errc::value, "select: expected block numbers below ", blocks, ", got ", c, " for query [", tokens.batch, ", ", t, ", ", h, "]");
          require(c > before, errc::value, "select: expected ascending block numbers, got ", c, " after ", before, " for query [", tokens.batch, ", ", t, ", ", h, "]");
          before = c;
        }
        if (s.compressed()) continue;
        for (index i = static_cast<index>(s.given(tokens.batch, t, h, x.time, x.query_heads).size()); i < s.blocks.extent[3]; ++i)
          require(s.blocks(tokens.batch, t, h / share, i) == -1, errc::value, "select.blocks: expected nothing but -1 behind the first -1, got ",
                  s.blocks(tokens.batch, t, h / share, i), " for query [", tokens.batch, ", ", t, ", ", h, "]");
      }
  }
}

template <class M, class Cache>
void check_lists(const M& mixer, const typename M::inputs& in, const Cache& cache, const typename M::outputs& out, std::span<const index> cu,
                 const attention_extents& x) {
  require(x.slots.slots <= std::numeric_limits<std::int32_t>::max(), errc::value, "state.keys: expected a capacity that 32 bits count, got ", x.slots.slots);
  if constexpr (M::pools) {
    require(mixer.causal, errc::value, "causal: expected true where blocks are chosen, got false");
    const index size = mixer.select.block();
    require(cache.block_size == size, errc::value, "state: expected one for blocks of ", size, " keys, got one for ", cache.block_size);
    const std::array<index, 4> expected{x.sequences, x.heads, x.slots.slots / size, x.key_dim};
    require(cache.pooled.extent() == expected, errc::shape, "state.pooled: expected ", check::list(expected), ", got ", check::list(cache.pooled.extent()));
    check::no_overlap("state.pooled", cache.pooled.view(), "k", in.k);
    out.o.visit([&](const auto& o) { check::no_overlap("o", o, "state.pooled", cache.pooled.view()); });
  }
  if constexpr (scored_selector<decltype(mixer.select)>) {
    check::result("idx", out.idx, {x.batch, x.time, x.query_heads, mixer.select.topk}, true, true);
    check::no_overlap("idx", out.idx, "q", in.q);
    check::no_overlap("idx", out.idx, "k", in.k);
    check::no_overlap("idx", out.idx, "v", in.v);
    check::no_overlap("idx", out.idx, "lse", out.lse);
    out.o.visit([&](const auto& o) { check::no_overlap("idx", out.idx, "o", o); });
  } else {
    require(out.idx.null(), errc::value, "idx: expected a null view where the caller gives the lists, got one");
    check_list_shapes(mixer.select, x);
    if constexpr (requires { cache.length(0); }) check_given(mixer.select, x, cache, cu);
  }
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
