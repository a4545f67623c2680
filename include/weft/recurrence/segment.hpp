// What a span of tokens does to any state: S_out = M S_in + B, an affine map. Spans compose, so parts of a sequence can be
// summed up apart (by other threads, machines, at other times) and put together afterwards.
//
//   (M2, B2) after (M1, B1) = (M2 M1, M2 B1 + B2)
//
// Both parts come from the engine itself: B is the span run from S_in = 0; M is the span run from S_in = I with nothing
// written. Without an erase M is diagonal, the span's decay, and one column of ones finds it.
// For policies whose write() of zeros is zero, as every linear one's is.
#pragma once
#include <exception>
#include <utility>
#include <vector>

#include "../core/executor.hpp"
#include "../core/verbs.hpp"
#include "check.hpp"

namespace weft {
inline namespace v1 {

// Of every sequence and value head: transition [N, HV, K, K], or [N, HV, K, 1] where it is diagonal; increment a state.
template <class M>
struct segment {
  static constexpr bool diagonal = M::axes.erase == erase::none;
  array<accumulate_t<typename M::storage_type>, 4> transition;
  typename M::state_type increment;
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {

// The inputs with nothing to write: every tensor of value channels is one row of zeros, read again and again.
template <class M>
typename M::inputs without_values(typename M::inputs in, const array<typename M::storage_type, 1>& zeros, const array<typename M::real, 1>& wide_zeros) {
  for_each_member(in, [&](auto& v, auto) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    if constexpr (view_type::role.width == width::value_dim) {
      if (v.null()) return;
      if constexpr (view_type::role.wide) v.data = wide_zeros.data();
      else v.data = zeros.data();
      v.stride = {};
      v.extent.back() = zeros.size();
      v.stride.back() = 1;
    }
  });
  return in;
}

}  // namespace detail

// The summary of a span: two scans, the one for M of width K (1 without an erase). `like` is any state of the mixer's shape.
// Throws as scan does.
template <class P, class T>
segment<recurrence<P, T>> summarise(cpu& executor, const recurrence<P, T>& mixer, const typename recurrence<P, T>::inputs& in,
                                    const typename recurrence<P, T>::state_type& like, std::span<const index> cu = {}) {
  using M = recurrence<P, T>;
  using R = accumulate_t<T>;
  const auto e = like.matrix.extent();
  segment<M> s{{}, mixer.state({.batch = e[0], .heads = e[1], .key_dim = e[2], .value_dim = e[3]})};
  run_fold(executor, mixer, in, s.increment, cu);

  const index width = segment<M>::diagonal ? 1 : e[2];
  auto moved = mixer.state({.batch = e[0], .heads = e[1], .key_dim = e[2], .value_dim = width});
  for (index n = 0; n < e[0]; ++n)
    for (index h = 0; h < e[1]; ++h)
      for (index i = 0; i < e[2]; ++i) moved.matrix(n, h, i, segment<M>::diagonal ? 0 : i) = R(1);
  const array<T, 1> zeros({width});
  const array<R, 1> wide_zeros({width});
  run_fold(executor, mixer, detail::without_values<M>(in, zeros, wide_zeros), moved, cu);
  s.transition = std::move(moved.matrix);
  return s;
}

namespace detail {

// to += M from, for each sequence and head. Columns are independent, and innermost.
template <bool Diagonal, class R>
void add_moved(const array<R, 4>& transition, const array<R, 4>& from, array<R, 4>& to) {
  const auto e = from.extent();
  for (index n = 0; n < e[0] * e[1]; ++n) {
    const R* const m = transition.data() + n * e[2] * transition.extent(3);
    const R* const f = from.data() + n * e[2] * e[3];
    R* const t = to.data() + n * e[2] * e[3];
    for (index i = 0; i < e[2]; ++i)
      for (index k = Diagonal ? i : 0; k < (Diagonal ? i + 1 : e[2]); ++k) {
        const R w = m[Diagonal ? i : i * e[2] + k];
        for (index j = 0; j < e[3]; ++j) t[i * e[3] + j] += w * f[k * e[3] + j];
      }
  }
}

}  // namespace detail

// The state after the span. O(K^2 V) a head, O(K V) without an erase.
template <class M>
typename M::state_type apply(const segment<M>& s, const typename M::state_type& state) {
  require(state.matrix.extent() == s.increment.matrix.extent(), errc::shape, "state: expected ", check::list(s.increment.matrix.extent()), ", got ",
          check::list(state.matrix.extent()));
  typename M::state_type out = s.increment;
  detail::add_moved<segment<M>::diagonal>(s.transition, state.matrix, out.matrix);
  if constexpr (M::axes.normalised)  // the sum of the keys is one more column
    for (index i = 0; i < out.normaliser.size(); ++i) out.normaliser.data()[i] += s.transition.data()[i] * state.normaliser.data()[i];
  return out;
}

// First one span, then the next: their common summary.
template <class M>
segment<M> compose(const segment<M>& first, const segment<M>& second) {
  require(first.transition.extent() == second.transition.extent(), errc::shape, "segment: expected ", check::list(first.transition.extent()), ", got ",
          check::list(second.transition.extent()));
  segment<M> s{{}, apply(second, first.increment)};
  s.transition = array<accumulate_t<typename M::storage_type>, 4>(first.transition.extent());
  detail::add_moved<segment<M>::diagonal>(second.transition, first.transition, s.transition);
  return s;
}

// The tokens [first, first + count) of every input with a time axis; `micro` rows a token where micro-steps are counted.
template <class Inputs>
Inputs slice_tokens(Inputs in, index first, index count, index micro = 1) {
  for_each_member(in, [&](auto& v, auto) {
    constexpr role r = std::remove_cvref_t<decltype(v)>::role;
    const index rows = r.micro ? micro : 1;
    if constexpr (r.time)
      if (!v.null()) v = v.slice(1, first * rows, count * rows);
  });
  return in;
}

// A scan cut into `pieces` spans of tokens that workers fold at the same time: their summaries first, then each span from its
// true start. For one long sequence whose heads and columns are too few for the workers. It costs the summaries on top: half
// a scan more without an erase, a scan of key_dim more columns with one. Results depend on `pieces`, never on the workers, and
// agree with scan to rounding. More pieces than tokens are as many as tokens. Throws as scan does, before anything is written; allocates.
template <class P, class T>
void scan_in_segments(cpu& executor, const recurrence<P, T>& mixer, const typename recurrence<P, T>::inputs& in,
                      typename recurrence<P, T>::state_type& state, const typename recurrence<P, T>::outputs& out, index pieces) {
  using M = recurrence<P, T>;
  require(pieces >= 1, errc::value, "pieces: expected at least 1, got ", pieces);
  const recurrence_extents x = check_recurrence(mixer, in, state, out, {});
  pieces = std::min(pieces, std::max<index>(1, x.time));
  const auto begin = [&](index i) { return x.time * i / pieces; };
  const auto piece = [&](index i) { return slice_tokens(in, begin(i), begin(i + 1) - begin(i), x.micro); };
  const auto pieces_of = static_cast<std::size_t>(pieces);
  std::vector<cpu> alone(pieces_of);  // a piece's memory, whichever worker runs it
  std::vector<segment<M>> summary(pieces_of - 1);
  std::vector<std::exception_ptr> failed(pieces_of - 1);  // a pool's threads need not survive an exception
  executor.parallel_for(pieces - 1, [&](index i, int) {
    const auto at = static_cast<std::size_t>(i);
    try {
      summary[at] = summarise(alone[at], mixer, piece(i), state);
    } catch (...) {
      failed[at] = std::current_exception();
    }
  });
  for (const auto& f : failed)
    if (f) std::rethrow_exception(f);
  std::vector<typename M::state_type> end{state};  // the start of every span, its end when it is folded
  for (const auto& s : summary) end.push_back(apply(s, end.back()));
  const auto run = [&](index i) {
    const auto at = static_cast<std::size_t>(i);
    out.o.visit([&](const auto& o) { weft::scan(alone[at], mixer, piece(i), end[at], {.o = o.slice(1, begin(i), begin(i + 1) - begin(i))}); });
  };
  for (index i = 0; i < pieces; ++i) {  // nothing fails once outputs are written
    const rehearsal before(alone[static_cast<std::size_t>(i)]);
    run(i);
  }
  executor.parallel_for(pieces, [&](index i, int) { run(i); });
  state = std::move(end.back());
}

}  // namespace WEFT_ISA
}  // namespace weft
