// The lists of a call, one query and one block at a time: the readable specification of choosing by score.
#pragma once
#include <vector>

#include "append.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace detail {

// [B, T, HQ, width], ended by -1: chosen, or as given.
template <class M>
array<std::int32_t, 4> literal_lists(const M& mixer, const typename M::inputs& in, const typename M::state_type& cache, const attention_extents& x,
                                     std::span<const index> cu) {
  using T = typename M::storage_type;
  using R = accumulate_t<T>;
  const auto& select = mixer.select;
  const index size = select.block();
  index most = 0;
  for (index n = 0; n < x.sequences; ++n) most = std::max(most, (cache.length(n) + tokens_of(x, cu, n).count() + size - 1) / size);
  array<std::int32_t, 4> lists({x.batch, x.time, x.query_heads, select.width(most)});
  std::fill_n(lists.data(), lists.size(), -1);
  std::vector<R> score(static_cast<std::size_t>(most)), work(score), mean(static_cast<std::size_t>(x.key_dim));
  std::vector<T> keys(static_cast<std::size_t>(size * x.key_dim));
  for (index n = 0; n < x.sequences; ++n)
    for (index head = 0; head < x.query_heads; ++head) {
      const token_span tokens = tokens_of(x, cu, n);
      const auto source = source_of<M>(x, in, cache, tokens, n, head / x.group(), false);
      for (index t = tokens.begin; t < tokens.end; ++t) {
        std::int32_t* const to = lists.data() + ((tokens.batch * x.time + t) * x.query_heads + head) * lists.extent(3);
        if constexpr (scored_selector<std::remove_cvref_t<decltype(select)>>) {
          const list_choice choice = select.choose(mixer.causal ? cache.length(n) + t - tokens.begin + 1 : source.end);
          for (index c = 0; c < choice.candidates && !choice.all(); ++c) {
            for (index i = 0; i < size; ++i) std::copy_n(source.run(c * size + i).k, x.key_dim, keys.begin() + i * x.key_dim);
            mean_of_rows(keys.data(), size, x.key_dim, mean.data());
            R& s = score[static_cast<std::size_t>(c)] = 0;
            for (index i = 0; i < x.key_dim; ++i) s += static_cast<R>(in.q(tokens.batch, t, head, i)) * mean[static_cast<std::size_t>(i)];
            s = ranked(s);
          }
          const index kept = keep_best(score.data(), choice.candidates, choice.count, work.data(), to);
          if (choice.forced >= 0) to[kept] = static_cast<std::int32_t>(choice.forced);
        } else {
          const auto given = select.given(tokens.batch, t, head, x.time, x.query_heads);
          std::copy(given.begin(), given.end(), to);
        }
      }
    }
  return lists;
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
