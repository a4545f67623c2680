// The schedule of a recurrence scan: chunks of tokens outside, heads inside (a token's heads share pages and lines),
// panels of value columns innermost. Work is split over sequences x heads first, then over panels.
#pragma once
#include "../../recurrence/record.hpp"
#include "recurrence_load.hpp"
#include "recurrence_panel.hpp"

namespace weft {
inline namespace WEFT_ISA {

// A scan with the policy and the storage types taken out.
template <class R>
struct scan_job {
  token_source<R> source;
  recurrence_extents extents;
  std::span<const index> cu_seqlens;
  void* state = nullptr;       // [sequences, value_heads, key_dim, value_dim]
  void* normaliser = nullptr;  // [sequences, value_heads, key_dim]
  // Rows of the state, from and to its storage type.
  void (*load_state)(const void* from, index offset, index count, R* to) = nullptr;
  void (*store_state)(void* to, index offset, index count, const R* from) = nullptr;
  R epsilon = 0;
  index inputs = 0;
  record_views<R> record{};    // what a tape keeps; every: a multiple of the chunk, 0 without a tape
};

namespace detail {

template <axes A, recurrence_tile X, int Key, class R>
class scan_engine {
  using traits = chunk_traits<A>;
  static constexpr index W = simd<R>::width, L = X.panel * W;

 public:
  scan_engine(cpu& executor, const scan_job<R>& job) : job_(job), x_(job.extents) {
    const index workers = executor.workers();
    panels_ = std::max<index>(A.normalised ? 1 : 0, (x_.value_dim + L - 1) / L);
    keys_ = (x_.key_dim + W - 1) / W * W;
    // Columns of one head are split only when heads are too few: every part repeats the chunk's preparation.
    head_groups_ = std::min(x_.value_heads, std::max<index>(1, (workers + x_.sequences - 1) / std::max<index>(1, x_.sequences)));
    const index tasks = std::max<index>(1, x_.sequences * head_groups_);
    column_groups_ = x_.output_is_key ? 1 : std::clamp<index>((workers + tasks - 1) / tasks, 1, std::max<index>(1, panels_));
    group_heads_ = (x_.value_heads + head_groups_ - 1) / std::max<index>(1, head_groups_);
    group_panels_ = (panels_ + column_groups_ - 1) / column_groups_;
    if (x_.sequences == 0 || x_.value_heads == 0 || panels_ == 0 || x_.time == 0) return;  // nothing to fold: the state stays as it is
    arena room;
    place(room);
    executor.reserve(room.used());
    temporaries::scope shared(executor.temporaries());
    if constexpr (A.normalised) {  // all column groups start from it, the first one stores it
      const index count = x_.sequences * x_.value_heads * x_.key_dim;
      norm_start_ = shared.template take<R>(count).data;
      job_.load_state(job_.normaliser, 0, count, norm_start_);
    }
    executor.parallel_for(x_.sequences * head_groups_ * column_groups_, [&](index task, int worker) {
      arena memory(executor.scratch(worker));
      place(memory).run(*this, task);
    });
  }

 private:
  // One worker's memory: a chunk, and the panels of its heads [head][panel][keys][L].
  struct workspace {
    chunk<R> c;
    R* state = nullptr;
    R* norm = nullptr;
    void run(const scan_engine& engine, index task) { engine.run(*this, task); }
  };

  workspace place(arena& room) const {
    workspace w;
    w.c.template place<A>(room, X, keys_, group_panels_ * L, job_.inputs);
    w.state = room.template take<R>(group_heads_ * group_panels_ * keys_ * L);
    w.norm = room.template take<R>(A.normalised ? group_heads_ * keys_ : 0);
    return w;
  }

  void run(workspace& w, index task) const {
    const index column_group = task % column_groups_, rest = task / column_groups_;
    const index group = rest % head_groups_, sequence = rest / head_groups_;
    const index h0 = x_.value_heads * group / head_groups_, h1 = x_.value_heads * (group + 1) / head_groups_;
    const index p0 = panels_ * column_group / column_groups_, p1 = panels_ * (column_group + 1) / column_groups_;
    const bool packed = !job_.cu_seqlens.empty();
    const auto n = static_cast<std::size_t>(sequence);
    const index b = packed ? 0 : sequence;
    const index begin = (packed ? job_.cu_seqlens[n] : 0) * x_.micro, end = (packed ? job_.cu_seqlens[n + 1] : x_.time) * x_.micro;
    if (begin == end || h0 == h1 || p0 == p1) return;

    for (index h = h0; h < h1; ++h) move_state<to::panels>(w, sequence, h, h - h0, p0, p1);
    for (index row = begin; row < end; row += X.tokens)
      for (index h = h0; h < h1; ++h) {
        if (job_.record.every > 0 && (row - begin) % job_.record.every == 0) {
          const index slot = job_.record.slot(sequence, begin, end - begin, packed) + (row - begin) / job_.record.every;
          move_state<to::record>(w, slot, h, h - h0, p0, p1);
        }
        const int count = static_cast<int>(std::min<index>(X.tokens, end - row));
        job_.source.load(job_.source.self, w.c, b, h, row, count, p0 * L, (p1 - p0) * L);
        pair_products<A, X.tokens, Key>(w.c);
        scale<A, X.tokens, Key>(w.c);
        if constexpr (A.normalised) normalise(w.c, w.norm + (h - h0) * keys_, count, job_.epsilon);
        const index next_h = h + 1 < h1 ? h + 1 : h0, next_row = h + 1 < h1 ? row : row + X.tokens;
        const int next_count = static_cast<int>(std::clamp<index>(end - next_row, 0, X.tokens));
        for (index p = p0; p < p1; ++p) {
          job_.source.prefetch(job_.source.self, b, next_h, next_row, next_count, static_cast<int>(p - p0), static_cast<int>(p1 - p0));
          panel<A, X, Key>(w.c, (p - p0) * L, w.state + ((h - h0) * (p1 - p0) + p - p0) * keys_ * L, count);
          if (job_.source.store) job_.source.store(job_.source.self, w.c, w.c.y, L, b, h, row, count, p * L, L);
          if (job_.record.every > 0) record_rows(w, b, h, row, count, p);
        }
      }
    for (index h = h0; h < h1; ++h) move_state<to::result>(w, sequence, h, h - h0, p0, p1);
  }

  enum class to { panels, result, record };

  // Copies the columns of panels [p0, p1) of one head from its row of the state to the worker's panels (zeros stand behind the
  // widths), and from there to the state or to a row of the record.
  template <to Where>
  void move_state(workspace& w, index row, index h, index local, index p0, index p1) const {
    const index head = row * x_.value_heads + h;
    for (index p = p0; p < p1; ++p) {
      R* const panel_state = w.state + (local * (p1 - p0) + p - p0) * keys_ * L;
      const index columns = std::min(L, x_.value_dim - p * L);
      if constexpr (Where == to::panels) std::fill_n(panel_state, keys_ * L, R(0));
      for (index k = 0; k < x_.key_dim; ++k) {
        const index at = (head * x_.key_dim + k) * x_.value_dim + p * L;
        if constexpr (Where == to::panels) job_.load_state(job_.state, at, columns, panel_state + k * L);
        else if constexpr (Where == to::result) job_.store_state(job_.state, at, columns, panel_state + k * L);
        else std::copy_n(panel_state + k * L, std::max<index>(0, columns), job_.record.states.data + at);
      }
    }
    if constexpr (A.normalised) {
      R* const norm = w.norm + local * keys_;
      if constexpr (Where == to::panels) {
        std::fill_n(norm, keys_, R(0));
        std::copy_n(norm_start_ + head * x_.key_dim, x_.key_dim, norm);
      } else if (p0 == 0) {
        if constexpr (Where == to::result) job_.store_state(job_.normaliser, head * x_.key_dim, x_.key_dim, norm);
        else std::copy_n(norm, x_.key_dim, job_.record.normalisers.data + head * x_.key_dim);
      }
    }
  }

  // What the gradients need of a chunk's panel: the solved values, and the reads before normaliser and hook.
  void record_rows(const workspace& w, index b, index h, index row, int count, index p) const {
    const auto& [every, states, normalisers, erased, reads, denominators] = job_.record;
    const index columns = std::min(L, x_.value_dim - p * L);
    const R* const solved = w.c.values + (traits::writers - 1) * X.tokens * L;
    for (int t = 0; t < count; ++t) {
      if (!erased.null() && columns > 0) std::copy_n(solved + t * L, columns, &erased(b, row + t, h, p * L));
      if (!reads.null() && columns > 0) std::copy_n(w.c.y + t * L, columns, &reads(b, row + t, h, p * L));
      if constexpr (A.normalised)
        if (!denominators.null() && p == 0) denominators(b, row + t, h) = w.c.denominator[t];
    }
  }

  const scan_job<R>& job_;
  recurrence_extents x_;
  R* norm_start_ = nullptr;  // [sequences, value_heads, key_dim]
  index panels_ = 1, keys_ = 0, head_groups_ = 1, column_groups_ = 1, group_heads_ = 1, group_panels_ = 1;
};

}  // namespace detail

// Chooses the widths that the compiler knows: 64 and 128 keys in float, the rest as numbers at run time.
// Never inlined: all policies of the same axes share one copy.
template <axes A, class R>
[[gnu::noinline]] void scan_chunks(cpu& executor, const scan_job<R>& job) {
  if constexpr (std::is_same_v<R, float>) {
    if (job.extents.key_dim == 64) return void(detail::scan_engine<A, tile_for<R>(A.erase, 64), 64, R>(executor, job));
    if (job.extents.key_dim == 128) return void(detail::scan_engine<A, tile_for<R>(A.erase, 128), 128, R>(executor, job));
  }
  detail::scan_engine<A, tile_for<R>(A.erase, 0), 0, R>(executor, job);
}

// The job of one call; it refers to `policy`, which must outlive it.
template <class P, class T, class S>
scan_job<accumulate_t<T>> job_of(const policy_source<P, T, S>& policy, const recurrence<P, T, S>& mixer, const recurrence_extents& x,
                                 recurrent_state<S>& state, std::span<const index> cu) {
  using R = accumulate_t<T>;
  return {.source = policy.source(),
          .extents = x,
          .cu_seqlens = cu,
          .state = state.matrix.data(),
          .normaliser = state.normaliser.data(),
          .load_state = [](const void* from, index at, index n, R* to) {
            const S* p = static_cast<const S*>(from) + at;
            for (index i = 0; i < n; ++i) to[i] = static_cast<R>(p[i]);
          },
          .store_state = [](void* to, index at, index n, const R* from) {
            S* p = static_cast<S*>(to) + at;
            for (index i = 0; i < n; ++i) p[i] = static_cast<S>(from[i]);
          },
          .epsilon = static_cast<R>(mixer.normaliser_eps),
          .inputs = static_cast<index>(input_count<P>)};
}

template <class P, class T, class S>
void run_scan(cpu& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S>& state,
              const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  const recurrence_extents x = check_recurrence(mixer, in, state, out, cu);
  const policy_source<P, T, S> policy(mixer, in, out, x);
  scan_chunks<P::axes>(executor, job_of(policy, mixer, x, state, cu));
}

// A scan whose outputs nobody wants.
template <class P, class T, class S>
void run_fold(cpu& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S>& state, std::span<const index> cu) {
  const recurrence_extents x = check_fold(mixer, in, state, cu);
  const policy_source<P, T, S> policy(mixer, in, {}, x);
  scan_job<accumulate_t<T>> job = job_of(policy, mixer, x, state, cu);
  job.source.store = nullptr;
  scan_chunks<P::axes>(executor, job);
}

}  // namespace WEFT_ISA
}  // namespace weft
