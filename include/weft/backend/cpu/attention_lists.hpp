// Attention by lists on the CPU: lists are chosen a strip of rows at a time, then read.
//
// Many rows, blocks of some size: turned round, for each stretch of keys the rows that read it. These are gathered, and the one
// fold takes them as it takes neighbours. Else row by row, keys in place.
#pragma once
#include "../../attention/list_check.hpp"
#include "attention_walk.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Rows of queries of one sequence and key head, their lists, and what reading them needs.
template <class R>
struct list_rows {
  static constexpr index strip = attention_tile<R>::strip, W = simd<R>::width;

  std::int32_t* lists = nullptr;    // [rows][width], ascending
  std::int32_t* lengths = nullptr;  // [rows]
  R* scores = nullptr;              // [scored][blocks]
  R* work = nullptr;                // [blocks]
  std::int32_t* starts = nullptr;   // [stretches + 1], of a stretch's readers
  std::int32_t* readers = nullptr;  // [rows width]
  gathered_rows<R> some;
  packed_keys<R> packed;            // what is scored, of no values
  plain_keys<R> plain;
  index width = 0, blocks = 0, score_stride = 0;
  index scored = 0;  // rows that are scored at a time, of whole strips: the more, the less packing

  void place(arena& memory, index rows, index width_of_lists, index most_blocks, index key_dim, index query_stride, index value_stride) {
    width = width_of_lists;
    blocks = most_blocks;
    score_stride = (blocks + attention_tile<R>::keys - 1) / attention_tile<R>::keys * attention_tile<R>::keys;
    scored = std::clamp<index>((index{1} << 20) / std::max<index>(1, score_stride) / strip, 1, 4) * strip;
    lists = memory.take<std::int32_t>(rows * width);
    lengths = memory.take<std::int32_t>(rows);
    scores = memory.take<R>(scored * score_stride);
    work = memory.take<R>(score_stride);
    starts = memory.take<std::int32_t>(blocks + 2);
    readers = memory.take<std::int32_t>(rows * width);
    some.query_stride = query_stride;
    some.value_stride = value_stride;
    some.place(memory);
    packed.place(memory, key_dim, 0);
    plain.place(memory, key_dim, 0);
  }

  WEFT_INLINE std::span<const std::int32_t> list(index row) const { return {lists + row * width, static_cast<std::size_t>(lengths[row])}; }
};

// Where rows stand: row r is a head of the token at position first + r / group.
struct row_places {
  index first, group, keys;
  bool causal;
  WEFT_INLINE index visible(index row) const { return causal ? first + row / group + 1 : keys; }
};

// Selector for gathered rows: what row members[r] reads of one stretch of keys.
struct stretch_of_lists {
  const std::int32_t* lists;
  const std::int32_t* lengths;
  index width;
  const std::int32_t* members;
  row_places places;
  key_range stretch;
  index block_size;
  bool one_block;

  template <class F>
  WEFT_INLINE void select(const query_span& q, F&& f) const {
    if (q.end - q.begin > 1) return f(key_range{stretch.begin, std::min(stretch.end, places.visible(members[q.end - 1]))});  // rows ascend
    const index row = members[q.begin], limit = std::min(stretch.end, places.visible(row));
    if (one_block) return f(key_range{stretch.begin, limit});
    const std::int32_t *const begin = lists + row * width, *const end = begin + lengths[row];
    const std::int32_t* at = std::lower_bound(begin, end, static_cast<std::int32_t>(stretch.begin / block_size));
    while (at != end && *at * block_size < limit) {
      index last = *at + 1;
      const index first = *at;
      for (++at; at != end && *at == last; ++at) ++last;
      f(key_range{first * block_size, std::min(last * block_size, limit)});
    }
  }
};

namespace detail {

// Scores of the rows [row, row + count), some strips, at the first `candidates` of what `source` holds. The rows are not scaled.
template <class R, class S, class Keys>
void score_rows(list_rows<R>& to, softmax_rows<R>& rows, index row, index count, Keys& operand, const key_source<S>& source, index candidates) {
  constexpr bool packs = requires { operand.pack(source, index{}, index{}, index{}); };
  constexpr index most = packs ? attention_tile<R>::keys : attention_tile<R>::in_place;
  for (index base = 0, taken; base < candidates; base += taken) {
    taken = std::min(most, candidates - base);
    if constexpr (packs) {
      operand.pack(source, base, base, base + taken);
    } else {
      const key_run<S> run = source.run(base);
      taken = std::min(taken, run.count);
      operand.take(run, taken);
    }
    for (index strip = 0; strip < count; strip += to.strip) {
      const index n = std::min(to.strip, count - strip);
      operand.scores(rows, row + strip, n, 0, taken);
      for (index r = 0; r < n; ++r) {
        const R* const from = rows.p + r * attention_tile<R>::keys;
        R* const score = to.scores + (strip + r) * to.score_stride + base;
        std::copy_n(from, taken, score);
      }
    }
  }
}

// The rows' lists by score; then(row, scores) for each while its scores are there: of pooled keys none where all are read.
template <class R, class S, class Keys, class Selector, class Then>
void choose_lists(list_rows<R>& to, softmax_rows<R>& rows, index count, const Selector& select, const row_places& places, Keys& operand,
                  const key_source<S>& source, Then&& then) {
  const bool scores = !Selector::pooled && !select.choose(places.visible(count - 1)).all();
  for (index row = 0; row < count; row += to.scored) {
    const index n = std::min(to.scored, count - row);
    const list_choice last = select.choose(places.visible(row + n - 1));
    if (scores || !last.all()) score_rows(to, rows, row, n, operand, source, last.candidates);
    for (index r = 0; r < n; ++r) {
      const list_choice choice = select.choose(places.visible(row + r));
      std::int32_t* const list = to.lists + (row + r) * to.width;
      index kept = keep_best(to.scores + r * to.score_stride, choice.candidates, choice.count, to.work, list);
      if (choice.forced >= 0) list[kept++] = static_cast<std::int32_t>(choice.forced);
      to.lengths[row + r] = static_cast<std::int32_t>(kept);
      then(row + r, to.scores + r * to.score_stride);
    }
  }
}

// One row over single keys whose scores are at hand: of the keys nothing is read again, of the values what is chosen.
template <class R, class T>
void fold_scored(softmax_rows<R>& rows, index row, std::span<const std::int32_t> list, const R* score, R* weight, const key_source<T>& keys, R scale, R softcap,
                 index value_dim) {
  constexpr index W = simd<R>::width;
  constexpr int most = 8;  // vectors of a row at a time
  const auto n = static_cast<index>(list.size()), vectors = (n + W - 1) / W;
  if (n == 0) return;
  for (index i = 0; i < n; ++i) weight[i] = score[list[static_cast<std::size_t>(i)]] * scale;
  std::fill(weight + n, weight + vectors * W, R(0));
  if (softcap > 0) softmax_rows<R>::cap(weight, vectors, softcap);
  std::fill(weight + n, weight + vectors * W, -std::numeric_limits<R>::infinity());
  rows.fold_scores(row, weight, vectors);
  key_walk<T> walk(keys);
  const auto columns = [&]<int Vectors>(index c, auto&& load_at, std::integral_constant<int, Vectors>) {
    R* const acc = rows.sums(row) + c;
    simd<R> sum[Vectors];
    WEFT_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] = simd<R>::load(acc + v * W);
    for (index i = 0; i < n; ++i) {
      const T* const value = walk.value(list[static_cast<std::size_t>(i)]) + c;
      const simd<R> w(weight[i]);
      WEFT_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] = fma(w, load_at(value + v * W), sum[v]);
    }
    WEFT_UNROLL for (int v = 0; v < Vectors; ++v) sum[v].store(acc + v * W);
  };
  const auto whole = [](const T* p) { return load(p); };
  index c = 0;
  for (; c + most * W <= value_dim; c += most * W) columns(c, whole, std::integral_constant<int, most>{});
  for (; c + W <= value_dim; c += W) columns(c, whole, std::integral_constant<int, 1>{});
  if (c < value_dim) columns(c, [&](const T* p) { return load(p, value_dim - c); }, std::integral_constant<int, 1>{});
}

// Single keys from all over, copied to lie side by side: `k` and `v` have room for a block.
template <class R, class T>
void fold_scattered(const attention_fold<dense, R>& fold, softmax_rows<R>& rows, plain_keys<T>& plain, const key_source<T>& keys, std::span<const std::int32_t> list,
                    T* k, T* v, index key_dim, index value_dim) {
  constexpr index most = attention_tile<R>::in_place;
  key_walk<T> walk(keys);
  for (index at = 0, end = static_cast<index>(list.size()), taken; at < end; at += taken) {
    taken = std::min(most, end - at);
    for (index i = 0; i < taken; ++i) {
      const index position = list[static_cast<std::size_t>(at + i)];
      std::copy_n(walk.key(position), key_dim, k + i * key_dim);
      std::copy_n(walk.value(position), value_dim, v + i * value_dim);
    }
    plain.take({k, v, key_dim, value_dim, taken}, taken);
    fold(rows, 1, plain, 0, 0, taken);
  }
}

// Row by row, keys in place.
template <class R, class T>
void read_lists_by_row(const list_rows<R>& lists, softmax_rows<R> rows, index count, plain_keys<T>& plain, const key_source<T>& keys, index n, index h,
                       const row_places& places, index block_size, R softcap, T* k, T* v, index key_dim, index value_dim) {
  const dense all;
  for (index r = 0; r < count; ++r, rows.next_row()) {
    const index limit = places.visible(r);
    if (block_size == 1) {
      const auto list = lists.list(r);
      const auto end = std::lower_bound(list.begin(), list.end(), static_cast<std::int32_t>(limit));
      const attention_fold<dense, R> fold{all, n, h, 0, 1, attention_tile<R>::in_place, false, softcap};
      fold_scattered(fold, rows, plain, keys, {list.begin(), end}, k, v, key_dim, value_dim);
      continue;
    }
    const attention_fold<dense, R> fold{all, n, h, 0, 1, limit, false, softcap};
    const auto list = lists.list(r);
    for (std::size_t i = 0; i < list.size();) {
      const index begin = list[i];
      index end = begin + 1;
      for (++i; i < list.size() && list[i] == end; ++i) ++end;
      fold_range(fold, rows, 1, plain, keys, {begin * block_size, std::min(end * block_size, limit)});
    }
  }
}

// Stretch of keys by stretch, the rows that read it gathered.
template <class R, class T>
void read_lists_gathered(list_rows<R>& lists, softmax_rows<R>& rows, index count, packed_keys<R>& packed, const key_source<T>& keys, index n, index h,
                         const row_places& places, index block_size, R softcap) {
  constexpr index block = attention_tile<R>::keys;
  const index together = block_size >= 32 ? 1 : block / block_size;  // blocks of a stretch: no product over a few keys
  const index reach = places.visible(count - 1), stretches = (reach + together * block_size - 1) / (together * block_size);
  std::int32_t* const starts = lists.starts;
  const auto each = [&](auto&& f) {  // f(row, stretch), in order of rows
    for (index r = 0; r < count; ++r) {
      index before = -1;
      for (const std::int32_t c : lists.list(r)) {
        const index s = c / together;
        if (s == before || s >= stretches) continue;
        f(r, s);
        before = s;
      }
    }
  };
  std::fill_n(starts, stretches + 2, 0);
  each([&](index, index s) { ++starts[s + 2]; });
  for (index s = 0; s < stretches; ++s) starts[s + 2] += starts[s + 1];
  each([&](index r, index s) { lists.readers[starts[s + 1]++] = static_cast<std::int32_t>(r); });

  gathered_rows<R>& some = lists.some;
  for (index s = 0; s < stretches; ++s) {
    const key_range stretch{s * together * block_size, std::min((s + 1) * together * block_size, reach)};
    if (starts[s] == starts[s + 1]) continue;
    for (index base = stretch.begin / block * block; base < stretch.end; base += block) {
      const index lo = std::max(stretch.begin, base), hi = std::min(stretch.end, base + block);
      packed.pack(keys, base, lo, hi);
      for (index at = starts[s]; at < starts[s + 1]; at += lists.strip) {
        const index members = std::min<index>(lists.strip, starts[s + 1] - at);
        const std::int32_t* const row = lists.readers + at;
        some.gather(rows, row, members, starts[stretches] - at);
        const stretch_of_lists selector{lists.lists, lists.lengths, lists.width, row, places, stretch, block_size, together == 1};
        const attention_fold<stretch_of_lists, R> fold{selector, n, h, 0, 1, reach, false, softcap};
        fold(some, members, packed, base, lo - base, hi - base);
      }
    }
  }
}

}  // namespace detail
}  // namespace WEFT_ISA
}  // namespace weft
