// The schedule of a recurrence's gradients: spans of tokens from the last to the first, heads inside. In a span the states
// before its chunks are computed forwards from the one that the scan kept, transposed; then its chunks go backwards.
// Work is split over sequences x heads; a head's results never depend on the split.
#pragma once
#include <new>
#include <numeric>

#include "../../recurrence/record.hpp"
#include "recurrence_load.hpp"
#include "recurrence_vjp_chunk.hpp"

namespace weft {
inline namespace WEFT_ISA {

// Where rows of one head lie.
struct row_place {
  index sequence = 0, b = 0, h = 0, row = 0;
};

// What the engine asks of a policy's gradients, without its type.
template <class R>
struct gradient_source {
  token_source<R> forward;
  const void* self = nullptr;
  // The gradients of the reads before normaliser and hook [n][ld], zeros behind; with a normaliser also its own, per token.
  void (*cotangents)(const void*, const chunk<R>&, const record_views<R>&, const row_place&, int n, R* errors, index ld) = nullptr;
  // From the gradients of canonical rows to those of the inputs.
  void (*pull)(const void*, const chunk<R>&, const chunk_gradients<R>&, const record_views<R>&, const row_place&, int n) = nullptr;
};

template <class R>
struct vjp_job {
  gradient_source<R> source;
  recurrence_extents extents;
  std::span<const index> cu_seqlens;
  record_views<R> record;
  R* state = nullptr;        // [sequences, value_heads, key_dim, value_dim]: the gradient, in and out
  R* normaliser = nullptr;   // [sequences, value_heads, key_dim]
  index inputs = 0;
  bool state_only = false;   // no input's gradient is wanted: the reverse scan alone
};

// Rows between kept states come in multiples of both passes' chunks.
template <class R>
constexpr index record_grid(weft::erase erase, index key_dim) {
  const int known = std::is_same_v<R, float> && (key_dim == 64 || key_dim == 128) ? static_cast<int>(key_dim) : 0;
  return std::lcm(tile_for<R>(erase, known).tokens, vjp_tile<R>().tokens);
}

namespace detail {

template <axes A, class R>
class vjp_engine {
  using traits = chunk_traits<A>;
  static constexpr recurrence_tile X = vjp_tile<R>();
  static constexpr index W = simd<R>::width, M = X.tokens;
  static constexpr int writers = traits::writers, readers = traits::erases ? 2 : 1;

 public:
  // Bytes of scratch for every worker of so many.
  static std::size_t worker_bytes(const vjp_job<R>& job, index workers) {
    arena room;
    vjp_engine(job, workers).place(room);
    return room.used();
  }

  vjp_engine(cpu& executor, const vjp_job<R>& job) : vjp_engine(job, executor.workers()) {
    if (x_.sequences == 0 || x_.value_heads == 0 || x_.time == 0) return;
    arena room;
    place(room);
    executor.reserve(room.used());
    executor.parallel_for(x_.sequences * head_groups_, [&](index task, int worker) {
      arena memory(executor.scratch(worker));
      place(memory).run(*this, task);
    });
  }

 private:
  vjp_engine(const vjp_job<R>& job, index workers) : job_(job), x_(job.extents) {
    keys_ = (x_.key_dim + W - 1) / W * W;
    columns_ = (x_.value_dim + (A.normalised ? 1 : 0) + W - 1) / W * W;  // the normaliser is one more value column, of ones
    head_groups_ = std::min(x_.value_heads, std::max<index>(1, (workers + x_.sequences - 1) / std::max<index>(1, x_.sequences)));
    group_heads_ = (x_.value_heads + head_groups_ - 1) / std::max<index>(1, head_groups_);
    span_ = std::min(job.record.every, (x_.time * x_.micro + M - 1) / M * M);
  }

  struct workspace {
    kept_chunk<R>* kept = nullptr;
    chunk_gradients<R> d;
    R* gradient = nullptr;  // [heads of the group][keys][columns]: of the state
    R* staged = nullptr;    // [keys][columns]
    void run(const vjp_engine& engine, index task) { engine.run(*this, task); }
  };

  workspace place(arena& room) const {
    workspace w;
    const index chunks = span_ / M;
    w.kept = room.template take<kept_chunk<R>>(chunks);
    for (index i = 0; i < chunks; ++i) {
      kept_chunk<R> k;
      k.template place<A>(room, keys_, columns_, job_.inputs);
      if (w.kept) new (w.kept + i) kept_chunk<R>(k);
    }
    w.d.template place<A>(room, keys_, columns_, job_.inputs);
    w.gradient = room.template take<R>(group_heads_ * keys_ * columns_);
    w.staged = room.template take<R>(keys_ * columns_);
    return w;
  }

  void run(workspace& w, index task) const {
    const index group = task % head_groups_, sequence = task / head_groups_;
    const index h0 = x_.value_heads * group / head_groups_, h1 = x_.value_heads * (group + 1) / head_groups_;
    const bool packed = !job_.cu_seqlens.empty();
    const auto n = static_cast<std::size_t>(sequence);
    const index begin = (packed ? job_.cu_seqlens[n] : 0) * x_.micro, end = (packed ? job_.cu_seqlens[n + 1] : x_.time) * x_.micro;
    if (begin == end) return;
    const auto gradient_of = [&](index h) { return w.gradient + (h - h0) * keys_ * columns_; };
    for (index h = h0; h < h1; ++h) {
      const index head = sequence * x_.value_heads + h;
      load_padded(job_.state + head * x_.key_dim * x_.value_dim, A.normalised ? job_.normaliser + head * x_.key_dim : nullptr, gradient_of(h));
    }
    const index first = job_.record.slot(sequence, begin, end - begin, packed);
    for (index span = (end - begin - 1) / job_.record.every; span >= 0; --span)
      for (index h = h0; h < h1; ++h) {
        const row_place at{sequence, packed ? 0 : sequence, h, begin + span * job_.record.every};
        go_back(w, at, std::min(end, at.row + job_.record.every), first + span, gradient_of(h));
      }
    for (index h = h0; h < h1; ++h) {
      const index head = sequence * x_.value_heads + h;
      for (index k = 0; k < x_.key_dim; ++k) {
        std::copy_n(gradient_of(h) + k * columns_, x_.value_dim, job_.state + (head * x_.key_dim + k) * x_.value_dim);
        if constexpr (A.normalised) job_.normaliser[head * x_.key_dim + k] = gradient_of(h)[k * columns_ + x_.value_dim];
      }
    }
  }

  // A [key_dim, value_dim] matrix, and the normaliser as its last column, with zeros behind the widths.
  void load_padded(const R* matrix, const R* norm, R* to) const {
    std::fill_n(to, keys_ * columns_, R(0));
    for (index k = 0; k < x_.key_dim; ++k) {
      std::copy_n(matrix + k * x_.value_dim, x_.value_dim, to + k * columns_);
      if constexpr (A.normalised) to[k * columns_ + x_.value_dim] = norm[k];
    }
  }

  // One head's rows [at.row, end), at most a span.
  void go_back(workspace& w, row_place at, index end, index slot, R* gradient) const {
    const index first = at.row, chunks = (end - first + M - 1) / M;
    const auto rows = [&](index i) { return static_cast<int>(std::min(M, end - (first + i * M))); };
    for (index i = 0; i < chunks; ++i) {
      at.row = first + i * M;
      prepare(w.kept[i], at, rows(i));
    }
    if (!job_.state_only) {
      const index head = slot * x_.value_heads + at.h;
      load_padded(job_.record.states.data + head * x_.key_dim * x_.value_dim, A.normalised ? job_.record.normalisers.data + head * x_.key_dim : nullptr, w.staged);
      tile::transpose(w.staged, columns_, keys_, columns_, w.kept[0].state, keys_);
      for (index i = 0; i + 1 < chunks; ++i) carry_state(w.kept[i], w.kept[i + 1].state);
    }
    for (index i = chunks - 1; i >= 0; --i) {
      at.row = first + i * M;
      chunk_back(w, w.kept[i], at, rows(i), gradient);
    }
  }

  [[gnu::noinline]] void prepare(kept_chunk<R>& kept, const row_place& at, int n) const {
    chunk<R>& c = kept.c;
    job_.source.forward.load(job_.source.forward.self, c, at.b, at.h, at.row, n, 0, columns_);
    if constexpr (A.normalised)
      for (int t = 0; t < n; ++t) c.z[t * columns_ + x_.value_dim] = R(1);
    std::copy_n(c.readers, readers * M * keys_, kept.readers);
    std::copy_n(c.writers, writers * M * keys_, kept.writers);
    pair_products<A, X.tokens, 0>(c);
    scale<A, X.tokens, 0>(c);
    if constexpr (traits::erases) {
      R* const solved = kept.values + (writers - 1) * M * columns_;
      for (int t = 0; t < n; ++t) {
        std::copy_n(&job_.record.erased(at.b, at.row + t, at.h, 0), x_.value_dim, solved + t * columns_);
        std::fill(solved + t * columns_ + x_.value_dim, solved + (t + 1) * columns_, R(0));
      }
      std::fill(solved + n * columns_, solved + M * columns_, R(0));
    }
  }

  // S^T after the chunk.
  [[gnu::noinline]] void carry_state(const kept_chunk<R>& kept, R* next) const {
    const chunk<R>& c = kept.c;
    const index keys = keys_;
    tile::carry<X.update_keys, X.update_vectors>(c.gamma, kept.state, kept.values, columns_, columns_, c.writers, keys, next, keys, keys / W, writers * M);
  }

  [[gnu::noinline]] void chunk_back(workspace& w, const kept_chunk<R>& kept, const row_place& at, int n, R* gradient) const {
    const chunk<R>& c = kept.c;
    const chunk_gradients<R>& d = w.d;
    const index keys = keys_;
    R* const d_o = d.errors + (readers - 1) * M * columns_;
    job_.source.cotangents(job_.source.self, c, job_.record, at, n, d_o, columns_);

    tile::product<X.read_rows, X.read_vectors>(c.writers, keys, writers * M, gradient, columns_, d.carried, columns_, columns_ / W, keys);
    index column = 0;
    for (; column + X.solve_vectors * W <= columns_; column += X.solve_vectors * W) substitute_back<A, X.solve_vectors>(c, d, column, columns_);
    for (; column < columns_; column += W) substitute_back<A, 1>(c, d, column, columns_);

    if (!job_.state_only) {
      tile::transpose(gradient, columns_, keys_, columns_, d.transposed, keys_);
      for (int writer = 0; writer < writers; ++writer) {
        const R* const values = kept.values + writer * M * columns_;
        tile::triangle_of_dots<X.tokens>(d_o, values, columns_, d.pairs_q + writer * M * M);
        if constexpr (traits::erases) tile::triangle_of_dots<X.tokens>(d.errors, values, columns_, d.pairs_c + writer * M * M);
      }
      tile::product<X.read_rows, X.read_vectors>(kept.values, columns_, writers * M, d.transposed, keys, d.writers, keys, keys / W, columns_);
      tile::product<X.read_rows, X.read_vectors>(d.errors, columns_, readers * M, kept.state, keys, d.readers, keys, keys / W, columns_);
      if constexpr (A.decay != decay::none) overlap_of(d.transposed, kept.state, c.gamma, keys, columns_, d.overlap);
      if constexpr (traits::channel) {
        scale_ends_by_channel<A>(kept, d);
        add_pairs_by_channel<A>(kept, d);
      } else {
        add_pairs_by_token<A>(kept, d);
      }
      if constexpr (traits::exclusive)
        for (int t = 0; t < M; ++t) d.bonus[t] = d.pairs_q[t * M + t];
    }
    tile::update<X.update_keys, X.update_vectors>(c.gamma, c.readers, keys, keys, d.errors, columns_, gradient, columns_, columns_ / W, readers * M);
    if (!job_.state_only) job_.source.pull(job_.source.self, c, d, job_.record, at, n);
  }

  const vjp_job<R>& job_;
  recurrence_extents x_;
  index keys_ = 0, columns_ = 0, head_groups_ = 1, group_heads_ = 1, span_ = 0;
};

}  // namespace detail

// Never inlined: all policies of the same axes share one copy. Widths known to the compiler gain nothing here (measured).
template <axes A, class R>
[[gnu::noinline]] void vjp_chunks(cpu& executor, const vjp_job<R>& job) {
  detail::vjp_engine<A, R>(executor, job);
}

}  // namespace WEFT_ISA
}  // namespace weft
