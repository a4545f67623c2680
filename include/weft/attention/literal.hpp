// Attention one query and one key at a time in plain scalar code: the readable specification.
// O(pairs (K + V)) a query head, in the accumulating type.
#pragma once
#include <algorithm>
#include <vector>

#include "../math/softmax_state.hpp"
#include "list_literal.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class T, class Selector>
void run_literal(const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, typename attention<T, Selector>::state_type& cache,
                 const typename attention<T, Selector>::outputs& out, std::span<const index> cu) {
  using M = attention<T, Selector>;
  using R = accumulate_t<T>;
  const attention_extents x = check_attention(mixer, in, cache, out, cu);
  const R scale = static_cast<R>(mixer.scale_for(x.key_dim)), cap = static_cast<R>(mixer.softcap);

  // Written last of all, since o may be the view of q or v.
  array<R, 4> o({x.batch, x.time, x.query_heads, x.value_dim});
  array<R, 3> lse({x.batch, x.time, x.query_heads});
  std::vector<R> sum(static_cast<std::size_t>(x.value_dim));
  array<std::int32_t, 4> lists;
  if constexpr (list_selector<Selector>) lists = detail::literal_lists(mixer, in, cache, x, cu);
  const auto select = [&] {
    if constexpr (list_selector<Selector>) return listed_keys{lists.view(), mixer.select.block(), cache.length.data(), cu};
    else return mixer.select;
  }();

  for (index n = 0; n < x.sequences; ++n)
    for (index head = 0; head < x.query_heads; ++head) {
      const token_span tokens = tokens_of(x, cu, n);
      const index h = head / x.group(), length = cache.length(n);
      const key_source<T> source = detail::source_of<M>(x, in, cache, tokens, n, h, false);
      for (index t = tokens.begin; t < tokens.end; ++t) {
        const index p = length + t - tokens.begin, visible = mixer.causal ? p + 1 : source.end;
        std::fill(sum.begin(), sum.end(), R(0));
        softmax_state<R> row;  // m and l of the row; its channels are in `sum`
        if (!in.sink.null()) row = softmax_state<R>::sink(in.sink(head));
        select.select({n, h, p, p + 1, source.end, head, 1}, [&](key_range keys) {
          for (index j = keys.begin; j < std::min(keys.end, visible); ++j) {
            const key_run<T> at = source.run(j);
            R score = 0;
            for (index i = 0; i < x.key_dim; ++i) score += static_cast<R>(in.q(tokens.batch, t, head, i)) * static_cast<R>(at.k[i]);
            score *= scale;
            if (cap > 0) score = cap * std::tanh(score / cap);
            const softmax_weights<R> w(row.m, score);
            row = {w.m, w.left * row.l + w.right, R(0)};
            for (index i = 0; i < x.value_dim; ++i) {
              R& s = sum[static_cast<std::size_t>(i)];
              s = w.left * s + w.right * static_cast<R>(at.v[i]);
            }
          }
        });
        for (index i = 0; i < x.value_dim; ++i)
          o(tokens.batch, t, head, i) = softmax_state<R>{row.m, row.l, sum[static_cast<std::size_t>(i)]}.output();
        lse(tokens.batch, t, head) = row.log_sum();
      }
    }

  for (index n = 0; n < x.sequences; ++n)
    for (index h = 0; h < x.heads; ++h) detail::append_head<M>(x, in, cache, tokens_of(x, cu, n), n, h);
  detail::add_lengths<M>(x, cache, cu);
  if constexpr (list_selector<Selector>) detail::write_lists(lists, out.idx);
  out.o.visit([&](const auto& to) {
    using element = typename std::remove_cvref_t<decltype(to)>::element;
    for (index b = 0; b < x.batch; ++b)
      for (index t = 0; t < x.time; ++t)
        for (index head = 0; head < x.query_heads; ++head) {
          for (index i = 0; i < x.value_dim; ++i) to(b, t, head, i) = static_cast<element>(o(b, t, head, i));
          if (!out.lse.null()) out.lse(b, t, head) = lse(b, t, head);
        }
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
