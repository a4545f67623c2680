// Tokens into a cache, and where the keys of a sequence lie while a call reads them.
#pragma once
#include "check.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Keys and values at consecutive positions that also lie at a constant stride.
template <class T>
struct key_run {
  const T* k;
  const T* v;
  index k_stride, v_stride;
  index count;
};

// The keys [0, end) of one sequence and key head: the cached ones, then those that are still only in the call's inputs.
template <class T>
struct key_source {
  cache_slots slots;
  const T* cache_k = nullptr;
  const T* cache_v = nullptr;
  index key_dim = 0, value_dim = 0;
  index cached = 0;  // positions below lie in the cache
  const T* new_k = nullptr;
  const T* new_v = nullptr;
  index k_stride = 0, v_stride = 0;
  index end = 0;

  // From a position on, as far as the rows go on at one stride.
  WEFT_INLINE key_run<T> run(index position) const {
    if (position >= cached) {
      const index i = position - cached;
      return {new_k + i * k_stride, new_v + i * v_stride, k_stride, v_stride, end - position};
    }
    const index slot = slots.slot(position);
    const index rows = position < slots.kept ? slots.kept - position : slots.slots - slot;
    return {cache_k + slot * key_dim, cache_v + slot * value_dim, key_dim, value_dim, rows < cached - position ? rows : cached - position};
  }
};

namespace detail {

// The source of (sequence, head). With `appended`, the cache already holds the call's tokens.
template <class M>
key_source<typename M::storage_type> source_of(const attention_extents& x, const typename M::inputs& in, const key_value_cache<typename M::storage_type>& cache,
                                               const token_span& t, index n, index h, bool appended) {
  const index first = (n * x.heads + h) * cache.capacity();
  key_source<typename M::storage_type> s;
  s.slots = x.slots;
  s.cache_k = cache.keys.data() + first * x.key_dim;
  s.cache_v = cache.values.data() + first * x.value_dim;
  s.key_dim = x.key_dim;
  s.value_dim = x.value_dim;
  s.end = cache.length(n) + t.count();
  s.cached = appended ? s.end : cache.length(n);
  if (!appended && t.count() > 0) {
    s.new_k = in.k.data + t.batch * in.k.stride[0] + t.begin * in.k.stride[1] + h * in.k.stride[2];
    s.new_v = in.v.data + t.batch * in.v.stride[0] + t.begin * in.v.stride[1] + h * in.v.stride[2];
    s.k_stride = in.k.stride[1];
    s.v_stride = in.v.stride[1];
  }
  return s;
}

template <class T>
void mean_of_rows(const T* rows, index count, index width, accumulate_t<T>* to) {
  using R = accumulate_t<T>;
  std::fill_n(to, width, R(0));
  for (index i = 0; i < count; ++i)
    for (index d = 0; d < width; ++d) to[d] += static_cast<R>(rows[i * width + d]);
  for (index d = 0; d < width; ++d) to[d] /= static_cast<R>(count);
}

// Copies the tokens of (sequence, head) that later queries may read; lengths are the caller's.
template <class M>
void append_head(const attention_extents& x, const typename M::inputs& in, typename M::state_type& cache, const token_span& t, index n, index h) {
  using T = typename M::storage_type;
  const auto s = source_of<M>(x, in, cache, t, n, h, false);
  T* const keys = cache.keys.data() + (n * x.heads + h) * x.slots.slots * x.key_dim;
  T* const values = cache.values.data() + (n * x.heads + h) * x.slots.slots * x.value_dim;
  for (index p = s.cached; p < s.end; ++p) {
    if (p >= x.slots.kept && p < s.end - x.slots.around()) p = s.end - x.slots.around();  // overwritten within this call
    if (p >= s.end) break;
    const key_run<T> from = s.run(p);
    std::copy_n(from.k, x.key_dim, keys + x.slots.slot(p) * x.key_dim);
    std::copy_n(from.v, x.value_dim, values + x.slots.slot(p) * x.value_dim);
  }
  if constexpr (M::pools) {
    const index size = cache.block_size;
    for (index c = s.cached / size; c < s.end / size; ++c)
      mean_of_rows(keys + c * size * x.key_dim, size, x.key_dim, cache.pooled.data() + ((n * x.heads + h) * cache.pooled.extent(2) + c) * x.key_dim);
  }
}

template <class M>
void add_lengths(const attention_extents& x, typename M::state_type& cache, std::span<const index> cu) {
  for (index n = 0; n < x.sequences; ++n) cache.length(n) += tokens_of(x, cu, n).count();
}

}  // namespace detail

// Puts tokens into the cache that no query of this call attends from, for keys that outnumber their queries:
//   append(mixer, k, v, cache);  scan(cpu, mixer, {q, k_rest, v_rest}, cache, {o});
// k [B, T, H, K], v [B, T, H, V], or packed with cu_seqlens. Throws weft::error before anything is written.
template <class T, class Selector>
void append(const attention<T, Selector>& mixer, std::type_identity_t<view<const T, 4>> k, std::type_identity_t<view<const T, 4>> v,
            typename attention<T, Selector>::state_type& cache, std::span<const index> cu_seqlens = {}) {
  using M = attention<T, Selector>;
  attention_extents x = detail::start_of_check(mixer, cache);
  bool known = false;
  detail::take_time(k, x, known);
  detail::take_time(v, x, known);
  if (!known) x.batch = cu_seqlens.empty() ? cache.keys.extent(0) : 1;
  const typename M::inputs in{.q = {}, .k = k, .v = v, .sink = {}};
  detail::check_tokens(mixer, in, cache, cu_seqlens, x);
  for (index n = 0; n < x.sequences; ++n)
    for (index h = 0; h < x.heads; ++h) detail::append_head<M>(x, in, cache, tokens_of(x, cu_seqlens, n), n, h);
  detail::add_lengths<M>(x, cache, cu_seqlens);
}

}  // namespace WEFT_ISA
}  // namespace weft
