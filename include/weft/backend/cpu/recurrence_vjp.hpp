// Gradients of every recurrence: the scan that records, and the vjp that reads its tape.
#pragma once
#include "recurrence_scan.hpp"
#include "recurrence_vjp_source.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// Rows between kept states for so many tokens: a multiple of the engine's grid, at least one.
template <class P, class R>
index rows_between(index tokens, const recurrence_extents& x) {
  const index grid = record_grid<R>(P::axes.erase, x.key_dim);
  return std::max(grid, tokens * x.micro / grid * grid);
}

template <class Extents>
index count_of(const Extents& e) {
  index n = 1;
  for (const index x : e) n *= x;
  return n;
}

// The extents of what a record keeps; without elements where it keeps nothing.
struct record_shape {
  std::array<index, 4> states{}, erased{}, reads{};
  std::array<index, 3> normalisers{}, denominators{};

  index numbers() const { return count_of(states) + count_of(erased) + count_of(reads) + count_of(normalisers) + count_of(denominators); }
};

// every: rows between states; 0: one start a sequence and nothing else.
template <class P>
record_shape shape_of_record(const recurrence_extents& x, index every, bool packed) {
  const index rows = x.time * x.micro, slots = every > 0 ? record_views<float>::slots(x.sequences, rows, every, packed) : x.sequences;
  record_shape s{.states = {slots, x.value_heads, x.key_dim, x.value_dim}};
  if constexpr (P::axes.normalised) s.normalisers = {slots, x.value_heads, x.key_dim};
  if (every > 0) {
    if constexpr (P::axes.normalised) s.denominators = {x.batch, rows, x.value_heads};
    if constexpr (records_erased<P>) s.erased = {x.batch, rows, x.value_heads, x.value_dim};
    if constexpr (records_reads<P>) s.reads = {x.batch, rows, x.value_heads, x.value_dim};
  }
  return s;
}

template <class M>
record_views<typename M::real> views_of_record(const recurrence_record<M>& r) {
  auto& own = const_cast<recurrence_record<M>&>(r);  // one kind of view for who fills it and who reads it
  return {.every = r.every, .states = own.states, .normalisers = own.normalisers, .erased = own.erased, .reads = own.reads, .denominators = own.denominators};
}

// A record's arrays, made anew where their extents change, and their views.
template <class M>
record_views<typename M::real> fit_record(recurrence_record<M>& r, const record_shape& s) {
  const auto fit = [](auto& a, const auto& extents) {
    using array_type = std::remove_cvref_t<decltype(a)>;
    if (count_of(extents) == 0) a = array_type();
    else if (a.null() || a.extent() != extents) a = array_type(extents);
  };
  fit(r.states, s.states);
  fit(r.normalisers, s.normalisers);
  fit(r.erased, s.erased);
  fit(r.reads, s.reads);
  fit(r.denominators, s.denominators);
  return views_of_record(r);
}

// The same in memory that is given back after the call.
template <class R>
record_views<R> temporary_record(temporaries::scope& memory, const record_shape& s, index every) {
  const auto take = [&](const auto& e) {
    return std::apply([&](auto... n) { return count_of(e) > 0 ? memory.template take<R>(n...) : view<R, sizeof...(n)>(); }, e);
  };
  return {.every = every, .states = take(s.states), .normalisers = take(s.normalisers), .erased = take(s.erased), .reads = take(s.reads), .denominators = take(s.denominators)};
}

// The gradient of one input, summed over what its role broadcasts: first in rows of every value head (`rows`), then to `to`.
template <class R>
struct summed_gradient {
  view<R, 4> rows{};     // [B or sequences, rows or 1, HV, width]
  index micro = 1, group = 1;
};

// to[b][t][h][:] = the sum of the rows of its micro-steps and value heads, in a fixed order.
template <class R, class To>
void sum_rows(cpu& executor, const summed_gradient<R>& s, const To& to) {
  for_rows(executor, {to.extent[0], to.extent[1], to.extent[2]}, to.extent[3] * s.micro * s.group, [&](index b, index t, index h) {
    for_lanes<R>(to.extent[3], [&](index i, auto lane) {
      simd<R> sum(R(0));
      for (index m = 0; m < s.micro; ++m)
        for (index g = 0; g < s.group; ++g) sum += get(&s.rows(b, t * s.micro + m, h * s.group + g, 0) + i, lane);
      put(&to(b, t, h, 0) + i, sum, lane);
    });
  });
}

// A view of any role's rank as [batch or 1, time or 1, heads, width].
template <role Role, class T, int Rank>
view<T, 4> as_rows(const view<T, Rank>& v) {
  view<T, 4> r(v.data, {1, 1, 1, 1}, {0, 0, 0, 0});
  constexpr int first = Role.time ? 0 : 2;
  for (int d = 0; d < Rank; ++d) {
    r.extent[static_cast<std::size_t>(first + d)] = v.extent[static_cast<std::size_t>(d)];
    r.stride[static_cast<std::size_t>(first + d)] = v.stride[static_cast<std::size_t>(d)];
  }
  return r;
}

}  // namespace detail

// For unpacked sequences of `time` tokens, all inputs' gradients wanted. As many key heads as value heads, unless told.
template <class P, class T, class S>
gradient_bytes gradient_memory(const cpu& executor, const recurrence<P, T, S>& mixer, const shape& s, index time, const tape& tape, index key_heads = 0) {
  using R = accumulate_t<T>;
  const int micro = P::axes.micro_steps ? mixer.micro_steps : 1;
  const recurrence_extents x{.batch = s.batch, .time = time, .sequences = s.batch, .heads = key_heads > 0 ? key_heads : s.heads, .value_heads = s.heads,
                             .key_dim = s.key_dim, .value_dim = s.value_dim, .micro = micro};
  const index every = detail::rows_between<P, R>(tape.every > 0 ? tape.every : weft::tape{}.every, x);
  const detail::record_shape whole = detail::shape_of_record<P>(x, every, false), start = detail::shape_of_record<P>(x, 0, false);
  index besides = 0;
  if (tape.every == 0) besides += whole.numbers() + start.numbers();
  const typename recurrence<P, T, S>::inputs roles{};
  for_each_member(roles, [&](const auto& v, auto) {
    constexpr role r = std::remove_cvref_t<decltype(v)>::role;
    const bool direct = r.time && (r.micro || micro == 1) && (r.heads == per_head::value || x.heads == x.value_heads);
    const index width = r.width == width::one ? 1 : r.width == width::key_dim ? x.key_dim : x.value_dim;
    if (!direct) besides += (r.time ? x.batch * x.time * micro : x.sequences) * x.value_heads * width;
  });
  vjp_job<R> job;
  job.extents = x;
  job.record.every = every;
  job.inputs = static_cast<index>(input_count<P>);
  const auto workers = static_cast<std::size_t>(executor.workers());
  return {.tape = static_cast<std::size_t>(tape.every > 0 ? whole.numbers() : start.numbers()) * sizeof(R),
          .vjp = static_cast<std::size_t>(besides) * sizeof(R) + workers * detail::vjp_engine<P::axes, R>::worker_bytes(job, executor.workers())};
}

template <class P, class T, class S>
void run_record(cpu& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S>& state,
                const typename recurrence<P, T, S>::outputs& out, tape& tape, std::span<const index> cu) {
  using M = recurrence<P, T, S>;
  using R = accumulate_t<T>;
  require(tape.every >= 0, errc::value, "tape.every: expected 0 (keep the start alone) or a number of tokens, got ", tape.every);
  const recurrence_extents x = check_recurrence(mixer, in, state, out, cu);
  for (const auto& v : detail::input_operands<M>(in)) check::no_overlap(check::operand("o", out.o), v);  // the gradients read it again
  auto& record = tape.template fill<recurrence_record<M>>();
  record.extents.fill(-1);  // refused by vjp until it is whole
  record.cu_seqlens.assign(cu.begin(), cu.end());
  record.micro = x.micro;
  record.every = tape.every == 0 ? 0 : detail::rows_between<P, R>(tape.every, x);
  const record_views<R> views = detail::fit_record(record, detail::shape_of_record<P>(x, record.every, !cu.empty()));
  const policy_source<P, T, S> policy(mixer, in, out, x);
  scan_job<R> job = job_of(policy, mixer, x, state, cu);
  if (record.every == 0) {
    job.load_state(job.state, 0, state.matrix.size(), record.states.data());
    if constexpr (P::axes.normalised) job.load_state(job.normaliser, 0, state.normaliser.size(), record.normalisers.data());
  } else {
    job.record = views;
  }
  scan_chunks<P::axes>(executor, job);
  record.extents = record_extents(x);
}

template <class P, class T, class S>
void run_vjp(cpu& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, const tape& tape,
             const typename recurrence<P, T, S>::cotangents& d_out, recurrent_state<accumulate_t<T>>& d_state,
             const typename recurrence<P, T, S>::gradients& d_in) {
  using M = recurrence<P, T, S>;
  using R = accumulate_t<T>;
  const auto& record = tape.template read<recurrence_record<M>>();
  const recurrence_extents x = check_vjp(mixer, in, record, d_out, d_state, d_in);
  const std::span<const index> cu(record.cu_seqlens);
  const index group = x.heads > 0 ? x.value_heads / x.heads : 1;

  policy_gradients<P, T, S> policy(mixer, in, d_out, x);
  temporaries::scope memory(executor.temporaries());
  std::array<detail::summed_gradient<R>, input_count<P>> sums{};
  bool state_only = true;
  for_each_member(d_in, [&](const auto& d, auto i) {
    constexpr role r = std::remove_cvref_t<decltype(d)>::role;
    if (d.null()) return;
    state_only = false;
    gradient_sink& sink = policy.sinks[i];
    const index micro = r.time && !r.micro ? x.micro : 1, heads = r.heads == per_head::key ? group : 1;
    if (r.time && micro == 1 && heads == 1) {
      d.visit([&](const auto& v) { sink = {.data = v.data, .batch = v.stride[0], .row = v.stride[1], .head = v.stride[2], .wide = d.wide}; });
      return;
    }
    auto& sum = sums[i];
    const index width = r.width == width::one ? 1 : r.width == width::key_dim ? x.key_dim : x.value_dim;
    sum.rows = memory.take<R>(r.time ? x.batch : std::max<index>(1, x.sequences), r.time ? x.time * x.micro : 1, x.value_heads, width);
    sum.micro = micro;
    sum.group = heads;
    if (!r.time) std::fill_n(sum.rows.data, sum.rows.size(), R(0));
    sink = {.data = sum.rows.data, .batch = sum.rows.stride[0], .row = r.time ? sum.rows.stride[1] : 0, .head = sum.rows.stride[2], .wide = true};
  });

  vjp_job<R> job{.source = policy.gradients(),
                 .extents = x,
                 .cu_seqlens = cu,
                 .record = {},
                 .state = d_state.matrix.data(),
                 .normaliser = d_state.normaliser.data(),
                 .inputs = static_cast<index>(input_count<P>),
                 .state_only = state_only};
  if (record.every > 0) {
    job.record = detail::views_of_record(record);
  } else {  // the scan again, for its record alone
    const index every = detail::rows_between<P, R>(weft::tape{}.every, x);
    job.record = detail::temporary_record<R>(memory, detail::shape_of_record<P>(x, every, !cu.empty()), every);
    if (!state_only || records_reads<P>) {
      const auto start = memory.take<R>(record.states.size()), norm = memory.take<R>(record.normalisers.size());
      std::copy_n(record.states.data(), record.states.size(), start.data);
      std::copy_n(record.normalisers.data(), record.normalisers.size(), norm.data);
      scan_job<R> again{.source = policy.source(), .extents = x, .cu_seqlens = cu, .state = start.data, .normaliser = norm.data,
                        .load_state = [](const void* from, index at, index n, R* to) { std::copy_n(static_cast<const R*>(from) + at, n, to); },
                        .store_state = [](void* to, index at, index n, const R* from) { std::copy_n(from, n, static_cast<R*>(to) + at); },
                        .epsilon = static_cast<R>(mixer.normaliser_eps), .inputs = static_cast<index>(input_count<P>), .record = job.record};
      again.source.store = nullptr;
      scan_chunks<P::axes>(executor, again);
    }
  }
  vjp_chunks<P::axes>(executor, job);

  for_each_member(d_in, [&](const auto& d, auto i) {
    constexpr role r = std::remove_cvref_t<decltype(d)>::role;
    auto& sum = sums[i];
    if (sum.rows.null()) return;
    if (!r.time)  // of all sequences, in their order
      for (index n = 1; n < x.sequences; ++n)
        for (index e = 0; e < sum.rows.stride[0]; ++e) sum.rows.data[e] += sum.rows.data[n * sum.rows.stride[0] + e];
    d.visit([&](const auto& v) { detail::sum_rows(executor, sum, detail::as_rows<r>(v)); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
