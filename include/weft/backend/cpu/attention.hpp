// Attention on the CPU: how a call is cut into tasks.
//
// Many rows (queries x heads of a group): a task is a block of rows, and walks over key blocks that it packs once.
// Few rows (decoding): keys are read in place, and cut into segments of fixed length whose results merge.
// Neither cut depends on the number of workers.
#pragma once
#include "../../attention/append.hpp"
#include "../../core/verbs.hpp"
#include "attention_lists.hpp"
#include "attention_walk.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class T, class Selector>
class attention_call {
  using mixer_type = attention<T, Selector>;
  using R = accumulate_t<T>;
  using tile_type = attention_tile<R>;
  static constexpr index W = simd<R>::width, L = tile_type::panel, most_list_entries = index{1} << 18;  // of one task: a megabyte

 public:
  attention_call(cpu& executor, const mixer_type& mixer, const typename mixer_type::inputs& in, typename attention<T, Selector>::state_type& cache,
                 const typename mixer_type::outputs& out, std::span<const index> cu)
      : executor_(executor), mixer_(mixer), in_(in), cache_(cache), out_(out), cu_(cu), x_(check_attention(mixer, in, cache, out, cu)),
        scale_(static_cast<R>(mixer.scale_for(x_.key_dim))) {
    if (x_.time > 0) run();
  }

 private:
  struct workspace {
    softmax_rows<R> rows;
    packed_keys<R> packed;
    plain_keys<T> plain;
    list_rows<R> lists;
    T *some_keys = nullptr, *some_values = nullptr;  // of a block in place
  };
  static constexpr bool by_list = list_selector<Selector>;

  void run() {
    temporaries::scope shared(executor_.temporaries());
    const index tokens = largest_sequence();
    query_rows_ = std::max<index>(1, tile_type::block_rows(x_.key_dim, x_.value_dim) / std::max<index>(1, x_.group())) * x_.group();
    if constexpr (by_list) {
      blocks_ = (x_.slots.slots + mixer_.select.block() - 1) / mixer_.select.block();  // of a full cache: decoding asks for memory once
      list_width_ = mixer_.select.width(blocks_);
      query_rows_ *= std::clamp<index>(most_list_entries / std::max<index>(1, query_rows_ * list_width_), 1, 16);  // the more, the fuller the gathered strips
    }
    units_ = 0;
    segments_ = 0;
    for (index n = 0; n < x_.sequences; ++n) {
      const index rows = tokens_of(x_, cu_, n).count() * x_.group(), segments = is_few(rows) ? segments_of(n) : 0;
      segments_ = std::max(segments_, segments);
      units_ = std::max(units_, is_few(rows) ? segments : (rows + query_rows_ - 1) / std::max<index>(1, query_rows_));
    }
    row_capacity_ = (std::max(tile_type::few, std::min(query_rows_, tokens * x_.group())) + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    partial_stride_ = tile_type::few * (round_up_to_lanes<R>(x_.value_dim) + 2);
    R* partial = nullptr;
    // Room for the segments of a full cache: decoding asks for it once, not whenever the cache has grown.
    const index most = segments_ == 0 ? 0 : (x_.slots.slots + tokens + tile_type::segment - 1) / tile_type::segment;
    if (most > 1) partial = shared.take<R>(x_.sequences * x_.heads * most, partial_stride_).data;
    arena room;
    place(room);
    executor_.reserve(room.used());
    if (x_.slots.ring && x_.output_is_value) copy_values(shared);
    if (executor_.rehearsing()) return;

    if (!x_.slots.ring) append();
    executor_.parallel_for(x_.sequences * x_.heads * units_, [&](index task, int worker) {
      arena memory(executor_.scratch(worker));
      workspace w = place(memory);
      const index n = task / units_ / x_.heads, h = task / units_ % x_.heads, u = task % units_;
      const index rows = tokens_of(x_, cu_, n).count() * x_.group();
      if (is_few(rows)) {
        const index segments = segments_of(n);
        if (u < segments) few_rows(w, n, h, rows, u, segments, partial);
      } else if (const index blocks = (rows + query_rows_ - 1) / query_rows_; u < blocks) {
        many_rows(w, n, h, rows, blocks - 1 - u);  // the longest first
      }
    });
    if (segments_ > 1)
      executor_.parallel_for(x_.sequences * x_.heads, [&](index task, int worker) {
        arena memory(executor_.scratch(worker));
        workspace w = place(memory);
        merge_segments(w, task / x_.heads, task % x_.heads, partial);
      });
    if (x_.slots.ring) append();
    add_lengths<mixer_type>(x_, cache_, cu_);
  }

  bool is_few(index rows) const { return rows <= tile_type::few; }
  index largest_sequence() const {
    index most = 0;
    for (index n = 0; n < x_.sequences; ++n) most = std::max(most, tokens_of(x_, cu_, n).count());
    return most;
  }
  index length(index n) const { return cache_.length(n); }

  workspace place(arena& memory) const {
    workspace w;
    w.rows.query_stride = round_up_to_lanes<R>(x_.key_dim);
    w.rows.value_stride = (x_.value_dim + L - 1) / L * L;
    w.rows.place(memory, row_capacity_, std::min(row_capacity_, tile_type::strip));
    w.packed.place(memory, x_.key_dim, x_.value_dim);
    w.plain.place(memory, x_.key_dim, x_.value_dim);
    if constexpr (by_list) {
      w.lists.place(memory, row_capacity_, list_width_, blocks_, x_.key_dim, w.rows.query_stride, w.rows.value_stride);
      w.some_keys = memory.take<T>(tile_type::in_place * x_.key_dim);
      w.some_values = memory.take<T>(tile_type::in_place * x_.value_dim);
    }
    return w;
  }

  attention_fold<Selector, R> fold_of(index n, index h, index first_token) const {
    return {mixer_.select, n, h, length(n) + first_token, x_.group(), length(n) + tokens_of(x_, cu_, n).count(), mixer_.causal,
            static_cast<R>(mixer_.softcap)};
  }
  key_source<T> source(index n, index h) const {
    return source_of<mixer_type>(x_, in_, cache_, tokens_of(x_, cu_, n), n, h, !x_.slots.ring);
  }

  // Segments of the keys that the whole sequence of queries reads; one at least, which then writes empty rows.
  index segments_of(index n) const {
    const index rows = tokens_of(x_, cu_, n).count() * x_.group();
    if (rows == 0) return 0;
    if constexpr (by_list) return 1;
    else return segments_of_cover(n, rows);
  }
  index segments_of_cover(index n, index rows) const {
    index covered = 0;
    fold_of(n, 0, 0).cover(0, rows, [&](key_range r) { covered += r.end - r.begin; });
    return std::max<index>(1, (covered + tile_type::segment - 1) / tile_type::segment);
  }

  void load_queries(softmax_rows<R>& rows, index n, index h, index first_row, index count, R factor) const {
    const token_span t = tokens_of(x_, cu_, n);
    const index padded = (count + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    rows.clear(padded);
    for (index r = 0; r < padded; ++r) {
      R* const to = rows.q + r * rows.query_stride;
      if (r >= count) {
        std::fill_n(to, rows.query_stride, R(0));
        continue;
      }
      const index row = first_row + r;
      const T* const from = &in_.q(t.batch, t.begin + row / x_.group(), h * x_.group() + row % x_.group(), 0);
      index i = 0;
      for (; i + W <= x_.key_dim; i += W) (load(from + i) * simd<R>(factor)).store(to + i);
      if (i < x_.key_dim) (load(from + i, x_.key_dim - i) * simd<R>(factor)).store(to + i);
    }
  }

  void many_rows(workspace& w, index n, index h, index rows, index block) const {
    const index first_row = block * query_rows_, count = std::min(query_rows_, rows - first_row);
    if constexpr (by_list) return rows_by_list(w, n, h, first_row, count);
    else many_rows_of(w, n, h, first_row, count);
  }
  void many_rows_of(workspace& w, index n, index h, index first_row, index count) const {
    load_queries(w.rows, n, h, first_row, count, scale_);
    const auto fold = fold_of(n, h, first_row / x_.group());
    const key_source<T> keys = source(n, h);
    fold.cover(0, count, [&](key_range range) { fold_range(fold, w.rows, count, w.packed, keys, range); });
    finish(w.rows, n, h, first_row, count);
  }

  void few_rows(workspace& w, index n, index h, index rows, index segment, index segments, R* partial) const {
    w.rows.value_stride = round_up_to_lanes<R>(x_.value_dim);
    if constexpr (by_list) return rows_by_list(w, n, h, 0, rows);
    else few_rows_of(w, n, h, rows, segment, segments, partial);
  }
  void few_rows_of(workspace& w, index n, index h, index rows, index segment, index segments, R* partial) const {
    load_queries(w.rows, n, h, 0, rows, scale_);
    const auto fold = fold_of(n, h, 0);
    const key_source<T> keys = source(n, h);
    index before = 0;  // keys of the ranges passed
    fold.cover(0, rows, [&](key_range range) {
      const index count = range.end - range.begin, from = segment * tile_type::segment - before;
      const index begin = range.begin + std::clamp<index>(from, 0, count), end = range.begin + std::clamp<index>(from + tile_type::segment, 0, count);
      before += count;
      fold_range(fold, w.rows, rows, w.plain, keys, {begin, end});
    });
    if (segments == 1) return finish(w.rows, n, h, 0, rows);
    R* const to = partial + ((n * x_.heads + h) * segments_ + segment) * partial_stride_;
    for (index r = 0; r < rows; ++r) {
      R* const row = to + r * (w.rows.value_stride + 2);
      const softmax_state<R> e = w.rows.element(r);
      row[0] = e.m;
      row[1] = e.l;
      std::copy_n(w.rows.acc + r * w.rows.value_stride, w.rows.value_stride, row + 2);
    }
  }

  // Lists first, by the queries as they are; then what they name.
  void rows_by_list(workspace& w, index n, index h, index first_row, index count) const {
    const token_span t = tokens_of(x_, cu_, n);
    const row_places places{length(n) + first_row / x_.group(), x_.group(), length(n) + t.count(), mixer_.causal};
    const key_source<T> keys = source(n, h);
    const index size = mixer_.select.block();
    const R softcap = static_cast<R>(mixer_.softcap);
    const bool few = is_few(t.count() * x_.group());
    bool all = false;  // whether every row reads all that it sees
    bool folded = false;
    if constexpr (scored_selector<Selector>) {
      load_queries(w.rows, n, h, first_row, count, R(1));
      all = mixer_.select.choose(places.visible(count - 1)).all();
      folded = !all && !Selector::pooled;
      const auto fold = [&](index row, const R* score) {
        if (folded) fold_scored(w.rows, row, w.lists.list(row), score, w.lists.work, keys, scale_, softcap, x_.value_dim);
      };
      const auto choose = [&](auto& operand, const auto& scored) { choose_lists(w.lists, w.rows, count, mixer_.select, places, operand, scored, fold); };
      if constexpr (Selector::pooled) {
        key_source<R> means;
        means.slots = cache_slots(cache_.pooled.extent(2), {});
        means.cache_k = cache_.pooled.data() + (n * x_.heads + h) * cache_.pooled.extent(2) * x_.key_dim;
        means.key_dim = x_.key_dim;
        means.cached = means.end = cache_.pooled.extent(2);
        if (few) choose(w.lists.plain, means);
        else choose(w.lists.packed, means);
      } else {
        if (few) choose(w.plain, keys);
        else choose(w.lists.packed, keys);
      }
      for (index i = 0; i < count * w.rows.query_stride; i += W) (simd<R>::load(w.rows.q + i) * simd<R>(scale_)).store(w.rows.q + i);
    } else {
      load_queries(w.rows, n, h, first_row, count, scale_);
      for (index r = 0; r < count; ++r) {
        const auto given = mixer_.select.given(t.batch, t.begin + (first_row + r) / x_.group(), h * x_.group() + (first_row + r) % x_.group(), x_.time, x_.query_heads);
        std::copy(given.begin(), given.end(), w.lists.lists + r * list_width_);
        w.lists.lengths[r] = static_cast<std::int32_t>(given.size());
      }
    }
    if (folded) {  // while it was chosen
    } else if (few || (!all && size < 32 && list_width_ * 4 < places.visible(count - 1) / size)) {
      read_lists_by_row(w.lists, w.rows, count, w.plain, keys, n, h, places, size, softcap, w.some_keys, w.some_values, x_.key_dim, x_.value_dim);
    } else if (all) {
      const dense selector;
      const attention_fold<dense, R> fold{selector, n, h, places.first, places.group, places.keys, mixer_.causal, softcap};
      fold.cover(0, count, [&](key_range range) { fold_range(fold, w.rows, count, w.packed, keys, range); });
    } else {
      read_lists_gathered(w.lists, w.rows, count, w.packed, keys, n, h, places, size, softcap);
    }
    for (index r = 0; r < count && !out_.idx.null(); ++r) {
      const auto list = w.lists.list(r);
      for (index i = 0; i < out_.idx.extent[3]; ++i)
        out_.idx(t.batch, t.begin + (first_row + r) / x_.group(), h * x_.group() + (first_row + r) % x_.group(), i) =
            i < static_cast<index>(list.size()) ? list[static_cast<std::size_t>(i)] : -1;
    }
    finish(w.rows, n, h, first_row, count);
  }

  void merge_segments(workspace& w, index n, index h, const R* partial) const {
    const index rows = tokens_of(x_, cu_, n).count() * x_.group(), segments = is_few(rows) ? segments_of(n) : 0;
    if (segments <= 1) return;
    w.rows.value_stride = round_up_to_lanes<R>(x_.value_dim);
    w.rows.clear(rows);
    for (index s = 0; s < segments; ++s)
      for (index r = 0; r < rows; ++r) {
        const R* const from = partial + ((n * x_.heads + h) * segments_ + s) * partial_stride_ + r * (w.rows.value_stride + 2);
        R* const acc = w.rows.acc + r * w.rows.value_stride;
        const softmax_weights<R> weight(w.rows.m[r], from[0]);
        w.rows.m[r] = weight.m;
        w.rows.l[r * W] = weight.left * w.rows.l[r * W] + weight.right * from[1];
        for (index i = 0; i < w.rows.value_stride; i += W)
          (simd<R>(weight.left) * simd<R>::load(acc + i) + simd<R>(weight.right) * simd<R>::load(from + 2 + i)).store(acc + i);
      }
    finish(w.rows, n, h, 0, rows);
  }

  // The sink joins, sums become means, outputs are written.
  void finish(const softmax_rows<R>& rows, index n, index h, index first_row, index count) const {
    const token_span t = tokens_of(x_, cu_, n);
    for (index r = 0; r < count; ++r) {
      const index time = t.begin + (first_row + r) / x_.group(), query_head = h * x_.group() + (first_row + r) % x_.group();
      softmax_state<R> e = rows.element(r);
      R factor = R(1);
      if (!in_.sink.null()) {
        const softmax_weights<R> w(e.m, in_.sink(query_head));
        e = {w.m, w.left * e.l + w.right, R(0)};
        factor = w.left;
      }
      const simd<R> inverse(e.l == R(0) ? R(0) : factor / e.l);
      const R* const acc = rows.acc + r * rows.value_stride;
      out_.o.visit([&](const auto& o) {
        using element = typename std::remove_cvref_t<decltype(o)>::element;
        if (x_.value_dim == 0) return;
        element* const to = &o(t.batch, time, query_head, 0);
        index i = 0;
        for (; i + W <= x_.value_dim; i += W) store(to + i, simd<R>::load(acc + i) * inverse);
        if (i < x_.value_dim) store(to + i, simd<R>::load(acc + i) * inverse, x_.value_dim - i);
      });
      if (!out_.lse.null()) out_.lse(t.batch, time, query_head) = e.log_sum();
    }
  }

  void append() {
    const auto one = [&](index task, int) {
      const index n = task / x_.heads;
      append_head<mixer_type>(x_, in_, cache_, tokens_of(x_, cu_, n), n, task % x_.heads);
    };
    // A few rows are copied sooner than a pool wakes up.
    if (x_.batch * x_.time * x_.heads < 64)
      for (index i = 0; i < x_.sequences * x_.heads; ++i) one(i, 0);
    else executor_.parallel_for(x_.sequences * x_.heads, one);
  }

  // A ring reads new values from the call's inputs, and takes them up last: they must survive the outputs.
  void copy_values(temporaries::scope& shared) {
    const view<T, 4> copy = shared.take<T>(x_.batch, x_.time, x_.heads, x_.value_dim);
    for (index b = 0; b < x_.batch; ++b)
      for (index t = 0; t < x_.time; ++t)
        for (index h = 0; h < x_.heads; ++h)
          for (index i = 0; i < x_.value_dim; ++i) copy(b, t, h, i) = in_.v(b, t, h, i);
    in_.v = copy;
  }

  cpu& executor_;
  const mixer_type& mixer_;
  typename mixer_type::inputs in_;
  typename attention<T, Selector>::state_type& cache_;
  typename mixer_type::outputs out_;
  std::span<const index> cu_;
  attention_extents x_;
  R scale_;
  index query_rows_ = 0, units_ = 0, segments_ = 0, row_capacity_ = 0, partial_stride_ = 0, blocks_ = 0, list_width_ = 0;
};

}  // namespace detail

template <class T, class Selector>
void run_scan(cpu& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, typename attention<T, Selector>::state_type& cache,
              const typename attention<T, Selector>::outputs& out, std::span<const index> cu) {
  detail::attention_call<T, Selector>(executor, mixer, in, cache, out, cu);
}

template <class T, class Selector>
void run_step(cpu& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, typename attention<T, Selector>::state_type& cache,
              const typename attention<T, Selector>::outputs& out) {
  require(in.q.null() || in.q.extent[1] == 1, errc::shape, "q: expected one token a step, got ", in.q.null() ? 0 : in.q.extent[1]);
  run_scan(executor, mixer, in, cache, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
