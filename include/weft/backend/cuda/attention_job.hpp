// What the kernels of attention are told of a call, and how they find keys in it.
#pragma once
#include "../../attention/attention.hpp"
#include "../../math/softmax_state.hpp"
#include "executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// A tensor [batch, time, heads, dim], or [batch, time, heads].
template <class T>
struct token_rows {
  T* data = nullptr;
  index batch = 0, time = 0, head = 0;

  token_rows() = default;
  template <class Strides>
  token_rows(T* p, const Strides& s) : data(p), batch(s[0]), time(s[1]), head(s[2]) {}
  __device__ T* at(index b, index t, index h) const { return data + b * batch + t * time + h * head; }
};

// What was there before the call: [N, H, slots, dim], or with a table [pages, H, page, dim].
template <class T>
struct cached_rows {
  T *keys = nullptr, *values = nullptr;
  std::int64_t* length = nullptr;
  cache_slots slots;
  const std::int32_t* table = nullptr;  // [N, table_width]: the page of the positions from i * page on; below 0: none
  index table_width = 0, page = 1, pages = 0;

  // The row of a position in tensors that hold `dim` numbers a row, counted from the first; -1 where there is no page.
  __device__ index row(index n, int heads, int h, index position) const {
    if (!table) return (n * heads + h) * slots.slots + slots.slot(position);
    const index of = table[n * table_width + position / page];
    return of >= 0 && of < pages ? (of * heads + h) * page + position % page : -1;
  }
};

struct call_sequence {
  index n, batch, begin, count, held;
  bool fits;  // a replayed graph may ask for more than the cache has room for

  __device__ index keys() const { return held + count; }
};

template <class T, class Selector>
struct attention_job {
  using R = accumulate_t<T>;

  Selector select;
  token_rows<const T> q, k, v;
  const R* sink = nullptr;
  index sink_stride = 0;
  void* o = nullptr;
  bool wide = false;  // o holds R, not T
  std::array<index, 4> o_stride{};
  token_rows<R> lse;
  cached_rows<T> cache;
  const index* offsets = nullptr;  // of packed sequences, or null
  index time = 0, sequences = 0;
  int heads = 0, query_heads = 0, key_dim = 0, value_dim = 0;
  R scale = 1, softcap = 0;
  bool causal = true;

  // Splits of the keys that a row reads, each of so many; what they give is merged from here.
  int splits = 1;
  index segment = every_key;
  R* partial = nullptr;  // [rows, splits, value_dim], values not yet divided by their sum
  R* sums = nullptr;     // [rows, splits, 2]: maximum, sum

  __host__ __device__ int group() const { return query_heads / heads; }
  __device__ call_sequence sequence(index n) const {
    call_sequence s{n, n, 0, time, cache.length[n], true};
    if (offsets) s.batch = 0, s.begin = offsets[n], s.count = offsets[n + 1] - s.begin;
    s.fits = cache.slots.ring || s.held + s.count <= cache.slots.slots;
    return s;
  }
  // The key or value at a position of a sequence: of the cache, or of the call. Null without a page.
  __device__ const T* key(const call_sequence& s, int h, index position) const {
    if (position >= s.held) return k.at(s.batch, s.begin + position - s.held, h);
    const index row = cache.row(s.n, heads, h, position);
    return row < 0 ? nullptr : cache.keys + row * key_dim;
  }
  __device__ const T* value(const call_sequence& s, int h, index position) const {
    if (position >= s.held) return v.at(s.batch, s.begin + position - s.held, h);
    const index row = cache.row(s.n, heads, h, position);
    return row < 0 ? nullptr : cache.values + row * value_dim;
  }
  __device__ R capped(R score) const { return softcap > 0 ? softcap * tanh(score / softcap) : score; }

  __device__ void store(index b, index t, int head, int column, R x) const {
    const index at = b * o_stride[0] + t * o_stride[1] + head * o_stride[2] + column;
    if (wide) static_cast<R*>(o)[at] = x;
    else static_cast<T*>(o)[at] = static_cast<T>(x);
  }
  __device__ void store_sum(index b, index t, int head, R m, R l) const {
    if (lse.data) *lse.at(b, t, head) = softmax_state<R>{m, l, R(0)}.log_sum();
  }
};

// Up to `most` ranges of keys of what a selector answers, clipped to [0, limit), cut where `cut(position)` says that a piece
// ends, from the piece numbered `skip` on. Of all keys in order only those numbered [from, to) are listed.
struct range_list {
  static constexpr int most = 8;
  struct piece {
    index begin, end;
  };
  piece at[most];
  int count;

  template <class Selector, class Cut>
  __device__ void collect(const Selector& select, const query_span& queries, index limit, int skip, index from, index to, Cut&& cut) {
    index before = 0;
    int seen = 0;
    count = 0;
    select.select(queries, [&](key_range r) {
      const index begin = r.begin > 0 ? r.begin : 0, end = r.end < limit ? r.end : limit;
      if (begin >= end) return;
      index first = from > before ? begin + (from - before) : begin;
      const index last = to - before < end - begin ? begin + (to - before) : end;
      before += end - begin;
      while (first < last && count < most) {
        const index until = cut(first);
        const piece next{first, until < last ? until : last};
        if (seen++ >= skip) at[count++] = next;
        first = next.end;
      }
    });
  }
};

// Whether a query at one position reads a key.
template <class Selector>
__device__ bool reads(const Selector& select, const query_span& query, index key) {
  bool found = false;
  select.select(query, [&](key_range r) { found |= r.begin <= key && key < r.end; });
  return found;
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
