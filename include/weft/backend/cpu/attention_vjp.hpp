// Gradients of attention on the CPU: how a call is cut into tasks.
//
// A task walks over row blocks (queries x heads of a group) as the forward pass does: the gradients of its queries are its
// own, those of the keys are sums of its own, which a second pass adds up in a fixed order. Where sequences and heads are few,
// their row blocks are dealt out to several tasks: as many as the sizes say, not the workers.
// Extra memory: a float or double for every number of k and v, and of the cache in use, for each of these tasks.
#pragma once
#include "../../attention/record.hpp"
#include "attention.hpp"
#include "attention_vjp_fold.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

template <class T, class Selector>
class attention_vjp_call {
  using mixer_type = attention<T, Selector>;
  using R = accumulate_t<T>;
  using tile_type = attention_tile<R>;
  using reader = std::conditional_t<list_selector<Selector>, listed_keys, Selector>;
  static constexpr index W = simd<R>::width, L = tile_type::panel, tasks_wanted = 16;

 public:
  attention_vjp_call(cpu& executor, const mixer_type& mixer, const typename mixer_type::inputs& in, const attention_record<T, Selector>& record,
                     const typename mixer_type::cotangents& d_out, typename mixer_type::state_gradient& d_state,
                     const typename mixer_type::gradients& d_in)
      : executor_(executor), mixer_(mixer), in_(in), record_(record), d_out_(d_out), d_state_(d_state), d_in_(d_in), cu_(record.cu_seqlens),
        x_(check_vjp(mixer, in, record, d_out, d_state, d_in)), scale_(static_cast<R>(mixer.scale_for(x_.key_dim))),
        reads_(reader_of(mixer, record)), want_state_(!d_state.keys.null()), key_stride_((x_.key_dim + L - 1) / L * L), value_stride_((x_.value_dim + L - 1) / L * L) {
    run();
  }

 private:
  struct workspace {
    vjp_rows<R> rows;
    vjp_keys<R> keys;
  };

  static reader reader_of(const mixer_type& mixer, const attention_record<T, Selector>& record) {
    if constexpr (list_selector<Selector>) return {record.lists.view(), mixer.select.block(), record.before.length.data(), record.cu_seqlens};
    else return mixer.select;
  }

  // Of one sequence and key head: sums for all keys that exist, one after the other.
  struct sums_of_head {
    R* d_k;
    R* d_v;
    index kept, dropped;  // behind the kept positions so many are no more
    WEFT_INLINE index row(index position) const { return position < kept ? position : position - dropped; }
  };

  void run() {
    temporaries::scope shared(executor_.temporaries());
    const view<index, 1> first = shared.take<index>(x_.sequences + 1);
    index most = 0;
    first_row_ = first.data;
    first_row_[0] = 0;
    for (index n = 0; n < x_.sequences; ++n) {
      first_row_[n + 1] = first_row_[n] + x_.heads * key_rows(n);
      most = std::max(most, tokens_of(x_, cu_, n).count());
    }
    const index group = std::max<index>(1, x_.group());
    query_rows_ = std::max<index>(1, tile_type::block_rows(x_.key_dim, x_.value_dim) / group) * group;
    const index blocks = (most * group + query_rows_ - 1) / query_rows_, heads = x_.sequences * x_.heads;
    parts_ = std::clamp<index>(heads > 0 ? tasks_wanted / heads : 1, 1, std::max<index>(1, blocks));
    row_capacity_ = (std::min(query_rows_, most * group) + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    d_k_ = shared.take<R>(parts_ * first_row_[x_.sequences], key_stride_).data;
    d_v_ = shared.take<R>(parts_ * first_row_[x_.sequences], value_stride_).data;
    if (!d_in_.sink.null()) sink_ = shared.take<R>(x_.batch, x_.time, x_.query_heads);
    arena room;
    place(room);
    executor_.reserve(room.used());

    executor_.parallel_for(heads * parts_, [&](index task, int worker) {
      arena memory(executor_.scratch(worker));
      workspace w = place(memory);
      std::fill_n(w.rows.ones, tile_type::keys, R(1));
      rows_of_head(w, task / parts_ / x_.heads, task / parts_ % x_.heads, task % parts_);
    });
    executor_.parallel_for(heads, [&](index task, int) { keys_of_head(task / x_.heads, task % x_.heads); });
    if (!d_in_.sink.null() && !executor_.rehearsing()) sum_sinks();
  }

  workspace place(arena& memory) const {
    workspace w;
    w.rows.key_stride = key_stride_;
    w.rows.value_stride = value_stride_;
    w.rows.place(memory, row_capacity_);
    w.keys.place(memory, x_.key_dim, x_.value_dim);
    return w;
  }

  index length(index n) const { return record_.before.length(n); }
  index cached_rows(index n) const { return std::min(length(n), x_.slots.slots); }
  index key_rows(index n) const { return cached_rows(n) + tokens_of(x_, cu_, n).count(); }
  index parts_of(index n) const {
    return std::clamp<index>((tokens_of(x_, cu_, n).count() * x_.group() + query_rows_ - 1) / query_rows_, 1, parts_);
  }
  sums_of_head sums(index n, index h, index part) const {
    const index row = part * first_row_[x_.sequences] + first_row_[n] + h * key_rows(n);
    return {d_k_ + row * key_stride_, d_v_ + row * value_stride_, x_.slots.kept, length(n) - cached_rows(n)};
  }

  void rows_of_head(workspace& w, index n, index h, index part) const {
    const index parts = parts_of(n);
    if (part >= parts) return;
    const sums_of_head to = sums(n, h, part);
    std::fill_n(to.d_k, key_rows(n) * key_stride_, R(0));
    std::fill_n(to.d_v, key_rows(n) * value_stride_, R(0));
    const index rows = tokens_of(x_, cu_, n).count() * x_.group(), blocks = (rows + query_rows_ - 1) / std::max<index>(1, query_rows_);
    const key_source<T> keys = source_of<mixer_type>(x_, in_, record_.before, tokens_of(x_, cu_, n), n, h, false);
    const bool want_keys = !d_in_.k.null(), want_values = !d_in_.v.null(), want_queries = !d_in_.q.null();
    for (index u = part; u < blocks; u += parts) {
      const index first_row = u * query_rows_, count = std::min(query_rows_, rows - first_row);
      load_rows(w.rows, n, h, first_row, count);
      const attention_vjp_fold<reader, R> fold{{reads_, n, h, length(n) + first_row / x_.group(), x_.group(), keys.end, mixer_.causal,
                                                static_cast<R>(mixer_.softcap)},
                                               want_queries};
      // Without gradients of the call's own tensors only the cached keys matter.
      const index end = want_queries || want_keys || want_values ? keys.end : want_state_ ? length(n) : 0;
      fold.reads.cover(0, count, [&](key_range range) {
        range.end = std::min(range.end, end);
        for (index base = range.begin / tile_type::keys * tile_type::keys; base < range.end; base += tile_type::keys) {
          const index lo = std::max(range.begin, base), hi = std::min(range.end, base + tile_type::keys);
          const bool cached = want_state_ && lo < length(n);
          if (!want_queries && !cached && !want_keys && !want_values) continue;
          w.keys.pack(keys, base, lo, hi);
          const index at = to.row(lo) - (lo - base);  // the sums' row for the position `base`, were it there
          fold(w.rows, count, w.keys, {want_keys || cached ? to.d_k + at * key_stride_ : nullptr, want_values || cached ? to.d_v + at * value_stride_ : nullptr},
               base, lo - base, hi - base);
        }
      });
      if (want_queries) store_queries(w.rows, n, h, first_row, count);
    }
  }

  // q scaled, d_o, the denominators, and delta; what a sink gets from the row.
  void load_rows(vjp_rows<R>& rows, index n, index h, index first_row, index count) const {
    const token_span t = tokens_of(x_, cu_, n);
    const index padded = (count + tile_type::rows - 1) / tile_type::rows * tile_type::rows;
    simd<R> zeros(R(0));  // zero times everything
    for (index r = 0; r < padded; ++r) {
      R* const q = rows.scores.q + r * key_stride_;
      R* const d_o = rows.d_o + r * value_stride_;
      std::fill_n(q, key_stride_, R(0));
      std::fill_n(d_o, value_stride_, R(0));
      std::fill_n(rows.d_q + r * key_stride_, key_stride_, R(0));
      if (r >= count) continue;
      const index time = t.begin + (first_row + r) / x_.group(), head = h * x_.group() + (first_row + r) % x_.group();
      if (x_.key_dim > 0) load_row(&in_.q(t.batch, time, head, 0), x_.key_dim, simd<R>(scale_), q);
      simd<R> dot(R(0));
      if (!d_out_.o.null() && x_.value_dim > 0) {
        d_out_.o.visit([&](const auto& v) { load_row(&v(t.batch, time, head, 0), x_.value_dim, simd<R>(R(1)), d_o); });
        const R* const o = &record_.o(t.batch, time, head, 0);
        for (index i = 0; i < x_.value_dim; i += W)
          dot = fma(simd<R>::load(d_o + i), i + W <= x_.value_dim ? simd<R>::load(o + i) : load(o + i, x_.value_dim - i), dot);
      }
      const R lse = record_.lse(t.batch, time, head);
      rows.lse[r] = lse == -std::numeric_limits<R>::infinity() ? R(0) : lse;
      rows.delta[r] = lane_sum(dot) - (d_out_.lse.null() ? R(0) : d_out_.lse.visit([&](const auto& v) { return static_cast<R>(v(t.batch, time, head)); }));
      if (!sink_.null()) sink_(t.batch, time, head) = -std::exp(in_.sink(head) - rows.lse[r]) * rows.delta[r];
      for (index i = 0; i < key_stride_; i += W) zeros = fma(simd<R>(R(0)), simd<R>::load(q + i), zeros);
      for (index i = 0; i < value_stride_; i += W) zeros = fma(simd<R>(R(0)), simd<R>::load(d_o + i), zeros);
    }
    rows.finite = lane_sum(zeros) == R(0);
  }

  template <class S>
  static void load_row(const S* from, index dim, simd<R> factor, R* to) {
    index i = 0;
    for (; i + W <= dim; i += W) (load(from + i) * factor).store(to + i);
    if (i < dim) (load(from + i, dim - i) * factor).store(to + i);
  }
  template <class S>
  static void store_row(const R* from, index dim, simd<R> factor, S* to) {
    index i = 0;
    for (; i + W <= dim; i += W) store(to + i, simd<R>::load(from + i) * factor);
    if (i < dim) store(to + i, simd<R>::load(from + i) * factor, dim - i);
  }

  void store_queries(const vjp_rows<R>& rows, index n, index h, index first_row, index count) const {
    const token_span t = tokens_of(x_, cu_, n);
    if (x_.key_dim == 0) return;
    d_in_.q.visit([&](const auto& to) {
      for (index r = 0; r < count; ++r)
        store_row(rows.d_q + r * key_stride_, x_.key_dim, simd<R>(scale_),
                  &to(t.batch, t.begin + (first_row + r) / x_.group(), h * x_.group() + (first_row + r) % x_.group(), 0));
    });
  }

  // The parts' sums and what comes back from the cache after the scan, into the gradients of the new tokens, then of the cache before it.
  void keys_of_head(index n, index h) const {
    const token_span t = tokens_of(x_, cu_, n);
    const index first = (n * x_.heads + h) * x_.slots.slots;
    const auto one = [&](R* sum, index stride, index dim, const auto& gradient, R* state) {
      if (dim == 0) return;
      const sums_of_head at = sums(n, h, 0);
      const index cached = length(n), end = cached + t.count(), next_part = first_row_[x_.sequences] * stride;
      const auto total = [&](index position) {
        R* const row = sum + at.row(position) * stride;
        const bool stays = state && (position < x_.slots.kept || position >= end - x_.slots.around());
        const R* const after = stays ? state + x_.slots.slot(position) * dim : nullptr;
        for (index part = 1; part < parts_of(n); ++part)
          for (index i = 0; i < stride; i += W) (simd<R>::load(row + i) + simd<R>::load(row + part * next_part + i)).store(row + i);
        if (after)
          for (index i = 0; i < dim; ++i) row[i] += after[i];
        return row;
      };
      gradient.visit([&](const auto& to) {
        if (to.null()) return;
        for (index p = cached; p < end; ++p) store_row(total(p), dim, simd<R>(R(1)), &to(t.batch, t.begin + p - cached, h, 0));
      });
      if (!state) return;
      for (index p = 0; p < cached; ++p) {
        if (p == x_.slots.kept) p += at.dropped;
        if (p >= cached) break;
        std::copy_n(total(p), dim, state + x_.slots.slot(p) * dim);
      }
      // Slots that the scan was the first to write.
      std::fill_n(state + cached_rows(n) * dim, (std::min(end, x_.slots.slots) - cached_rows(n)) * dim, R(0));
    };
    one(sums(n, h, 0).d_k, key_stride_, x_.key_dim, d_in_.k, want_state_ ? d_state_.keys.data() + first * x_.key_dim : nullptr);
    one(sums(n, h, 0).d_v, value_stride_, x_.value_dim, d_in_.v, want_state_ ? d_state_.values.data() + first * x_.value_dim : nullptr);
  }

  void sum_sinks() const {
    const auto to = d_in_.sink.wide_view();
    for (index head = 0; head < x_.query_heads; ++head) {
      double sum = 0;
      for (index b = 0; b < x_.batch; ++b)
        for (index t = 0; t < x_.time; ++t) sum += static_cast<double>(sink_(b, t, head));
      to(head) = static_cast<R>(sum);
    }
  }

  cpu& executor_;
  const mixer_type& mixer_;
  const typename mixer_type::inputs& in_;
  const attention_record<T, Selector>& record_;
  const typename mixer_type::cotangents& d_out_;
  typename mixer_type::state_gradient& d_state_;
  const typename mixer_type::gradients& d_in_;
  std::span<const index> cu_;
  attention_extents x_;
  R scale_;
  reader reads_;  // the keys that the scan read
  bool want_state_;
  index key_stride_, value_stride_;
  index query_rows_ = 0, row_capacity_ = 0, parts_ = 1;
  index* first_row_ = nullptr;  // of each sequence in the sums
  R* d_k_ = nullptr;            // [parts][rows][key_stride]
  R* d_v_ = nullptr;            // [parts][rows][value_stride]
  view<R, 3> sink_;             // what the sinks get from every row
};

}  // namespace detail

template <class T, class Selector>
void run_record(cpu& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, typename attention<T, Selector>::state_type& cache,
                const typename attention<T, Selector>::outputs& out, tape& tape, std::span<const index> cu) {
  using R = accumulate_t<T>;
  constexpr index W = simd<R>::width;
  const attention_extents x = check_attention(mixer, in, cache, out, cu);
  auto& record = tape.template fill<attention_record<T, Selector>>();
  detail::start_record(record, mixer, x, cache, !in.sink.null(), cu);
  view<std::int32_t, 4> idx;
  if constexpr (scored_selector<Selector>) idx = record.lists.view();
  run_scan(executor, mixer, in, cache, {.o = record.o.view(), .lse = record.lse.view(), .idx = idx}, cu);
  if constexpr (scored_selector<Selector>) detail::write_lists(record.lists, out.idx);
  if (executor.rehearsing()) return;
  if (!out.o.null() && x.value_dim > 0)
    executor.parallel_for(x.batch * x.time, [&](index i, int) {
      out.o.visit([&](const auto& o) {
        for (index h = 0; h < x.query_heads; ++h) {
          const R* const from = &record.o(i / x.time, i % x.time, h, 0);
          auto* const to = &o(i / x.time, i % x.time, h, 0);
          index c = 0;
          for (; c + W <= x.value_dim; c += W) store(to + c, simd<R>::load(from + c));
          if (c < x.value_dim) store(to + c, load(from + c, x.value_dim - c), x.value_dim - c);
        }
      });
    });
  if (!out.lse.null())
    for (index b = 0; b < x.batch; ++b)
      for (index t = 0; t < x.time; ++t)
        for (index h = 0; h < x.query_heads; ++h) out.lse(b, t, h) = record.lse(b, t, h);
  record.filled = true;
}

template <class T, class Selector>
void run_vjp(cpu& executor, const attention<T, Selector>& mixer, const typename attention<T, Selector>::inputs& in, const tape& tape,
             const typename attention<T, Selector>::cotangents& d_out, cache_gradient<accumulate_t<T>>& d_state,
             const typename attention<T, Selector>::gradients& d_in) {
  const auto& record = tape.template read<attention_record<T, Selector>>();
  require(record.filled || executor.rehearsing(), errc::value, "tape: expected one filled by a scan of this mixer, got one whose scan did not end");
  detail::attention_vjp_call<T, Selector>(executor, mixer, in, record, d_out, d_state, d_in);
}

}  // namespace WEFT_ISA
}  // namespace weft
