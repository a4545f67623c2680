// Sums of mixers on the CPU: each part into memory of the executor's, then one pass over its rows.
#pragma once
#include "../../hybrid/sum.hpp"
#include "elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// to = before + w x, row by row; `before` null: nothing was there.
template <any_sum S, std::size_t I, class R, class In, class Out>
void add_part(cpu& executor, const typename S::inputs& in, const view<const R, 4>& before, const view<const In, 4>& x, const view<Out, 4>& to) {
  for_rows(executor, {to.extent[0], to.extent[1], to.extent[2]}, to.extent[3], [&](index b, index t, index h) {
    simd<R> w(R(1));
    if constexpr (S::gated) w = simd<R>(rows_of(in.weights)(b, t, h, static_cast<index>(I)));
    for_lanes<R>(to.extent[3], [&](index i, auto lane) {
      const simd<R> own = w * get(&x(b, t, h, i), lane);
      put(&to(b, t, h, i), before.null() ? own : get(&before(b, t, h, i), lane) + own, lane);
    });
  });
}

// What is refused, and memory that runs out, is found before anything is written. The parts' outputs go to `kept`, where given.
template <any_sum S, class R = accumulate_t<typename S::storage_type>>
void run_sum(cpu& executor, const S& mixer, const typename S::inputs& in, typename S::state_type& state, const typename S::outputs& out,
             const part_call& call, array<R, S::types::rank>* kept = nullptr) {
  using types = typename S::types;
  check_room(out.o);
  temporaries::scope shared(executor.temporaries());
  const auto take = [&] { return std::apply([&](auto... e) { return shared.take<R>(e...); }, out.o.extent); };
  const auto total = take(), place = take();
  const auto part = [&](auto i, const auto& o) {
    call(executor, i, std::get<i>(mixer.mixers), types::template input_of<i>(parts_of<S>(in)), std::get<i>(state.states), {.o = o});
  };
  {
    rehearsal before(executor);
    for_each_index<S::count>([&](auto i) { in_part(i, [&] { part(i, out.o); }, types::one_input); });
  }
  check_sum<S>(in, state, out);
  for (std::size_t i = 0; kept && i < S::count; ++i)
    if (kept[i].null() || kept[i].extent() != out.o.extent) kept[i] = array<R, types::rank>(out.o.extent);
  if (executor.rehearsing()) return;
  for_each_index<S::count>([&](auto i) {
    const view<R, types::rank> one = kept ? kept[i].view() : place;
    part(i, out.o.null() ? out.o : typename types::o_type(one));
    const view<const R, 4> sum = i == 0 ? view<const R, 4>() : view<const R, 4>(rows_of(total));
    if constexpr (i + 1 < S::count) add_part<S, i, R>(executor, in, sum, view<const R, 4>(rows_of(one)), rows_of(total));
    else out.o.visit([&](const auto& o) { add_part<S, i, R>(executor, in, sum, view<const R, 4>(rows_of(one)), rows_of(o)); });
  });
}

}  // namespace detail

template <detail::any_sum S>
void run_scan(cpu& executor, const S& mixer, const typename S::inputs& in, typename S::state_type& state, const typename S::outputs& out,
              std::span<const index> cu) {
  detail::run_sum(executor, mixer, in, state, out, {.cu_seqlens = cu});
}
template <detail::any_sum S>
void run_step(cpu& executor, const S& mixer, const typename S::inputs& in, typename S::state_type& state, const typename S::outputs& out) {
  detail::run_sum(executor, mixer, in, state, out, {.one_token = true});
}

}  // namespace WEFT_ISA
}  // namespace weft
