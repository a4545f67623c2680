// Gradients of layers: of the hidden states, of all parameters and of the state.
//
//   weft::scan(cpu, layer, {.x = x}, state, {.y = y}, tape);
//   auto d = weft::zero_gradients(layer);                      a layer, too: walk both by for_each_parameter
//   weft::vjp(cpu, layer, {.x = x}, tape, {.y = d_y}, d_state, {.x = d_x, .parameters = &d});
//
// Frozen weights: no `parameters`, and no products for them are made. A part of d_state that is null is a gradient of zero and
// not wanted: with the recurrent part alone, the mixer's reverse scan is where the work ends.
#pragma once
#include <string>
#include <tuple>
#include <utility>

#include "../backend/cpu/row_sums.hpp"
#include "../core/zero_gradient.hpp"
#include "../io/state_file.hpp"
#include "../recurrence/record.hpp"
#include "layer.hpp"
#include "projection_vjp.hpp"
#include "short_conv_vjp.hpp"

namespace weft {
inline namespace v1 {

template <class L>
struct layer_record {
  std::array<index, 3> extents{-1, -1, -1};  // of x
  std::vector<index> cu_seqlens;
  bool recompute = false;            // only the start was kept
  typename L::state_type start;
  layer_kept kept;

  std::size_t bytes() const {
    return kept.bytes() + bytes_of(start);
  }
  static std::size_t bytes_of(const typename L::state_type& s) {
    std::size_t n = 0;
    io::for_each_array(s, {}, [&](const std::string&, const auto& a) { n += a.bytes(); });
    return n;
  }
};

template <class L>
concept layer_with_gradients = layer<L> && requires {
  typename L::parameter_gradients;
  typename L::cotangents;
  typename L::gradients;
  typename L::state_gradient;
};

}  // namespace v1

inline namespace WEFT_ISA {

namespace detail {
template <class A, class B, class F>
void for_each_array_pair(A& a, B& b, const std::string& prefix, F&& f) {
  if constexpr (io::is_array<std::remove_const_t<A>>) f(prefix, a, b);
  else for_each_part(a, b, [&](const auto& left, const auto& right) { for_each_array_pair(left.data, right.data, io::join(prefix, left.name), f); });
}
}  // namespace detail

// f(name, array) for every parameter of a layer, or of any value made of parts; those that it lacks are left out.
template <class L, class F>
void for_each_parameter(L& l, F&& f, const std::string& prefix = {}) {
  io::for_each_array(l, prefix, [&](const std::string& name, auto& a) {
    if (!a.null()) f(name, a);
  });
}
// f(name, parameter, gradient) for every parameter that has a gradient.
template <class L, class D, class F>
  requires(!std::is_convertible_v<F, std::string>)
void for_each_parameter(L& l, D& gradients, F&& f, const std::string& prefix = {}) {
  detail::for_each_array_pair(l, gradients, prefix, [&](const std::string& name, auto& a, auto& d) {
    if (!a.null() && !d.null()) f(name, a, d);
  });
}

// Zeros for every parameter of a layer, in the accumulating type.
template <layer_with_gradients L>
typename L::parameter_gradients zero_gradients(const L& l) {
  typename L::parameter_gradients d;
  detail::for_each_array_pair(l, d, {}, [](const std::string&, const auto& a, auto& zeros) {
    if (!a.null()) zeros = std::remove_cvref_t<decltype(zeros)>(a.extent());
  });
  return d;
}

namespace detail {

// Adds to a gradient that may not be wanted.
template <class R, int Rank>
void add_gradient(cpu& executor, array<R, Rank>* to, const view<R, Rank>& from) {
  if (to && !to->null() && !executor.rehearsing()) add_to(to->data(), from.data, to->size());
}
template <class R, int Rank>
view<R, Rank> view_or_null(array<R, Rank>* a) { return a ? a->view() : view<R, Rank>(); }

// The convolution within a layer: d_raw, and what its taps and bias get. Null d_state: not wanted.
template <class R>
void conv_back(cpu& executor, const short_conv<R>& mixer, const typename short_conv<R>::inputs& in, const tape& tape, const view<R, 3>& d_o,
               conv_state<R>& d_state, const view<R, 3>& d_x, array<R, 2>* d_weight, array<R, 1>* d_bias) {
  temporaries::scope memory(executor.temporaries());
  typename short_conv<R>::gradients d{.x = d_x};
  view<R, 2> weight;
  view<R, 1> bias;
  if (d_weight && !d_weight->null()) d.weight = weight = memory.take<R>(d_weight->extent(0), d_weight->extent(1));
  if (d_bias && !d_bias->null()) d.bias = bias = memory.take<R>(d_bias->extent(0));
  conv_state<R> none;
  if (d_state.inputs.null()) none.inputs = array<R, 3>(tape.read<conv_record<R>>().start.inputs.extent());
  vjp(executor, mixer, in, tape, {.o = d_o}, d_state.inputs.null() ? none : d_state, d);
  add_gradient(executor, d_weight, weight);
  add_gradient(executor, d_bias, bias);
}

// A recurrence within a layer, whose state's gradient may not be wanted.
template <class M>
void recurrence_back(cpu& executor, const M& mixer, const inputs_t<M>& in, const tape& tape, const cotangents_t<M>& d_out, state_gradient_t<M>& d_state,
                     const gradients_t<M>& d_in) {
  if (!d_state.matrix.null()) return vjp(executor, mixer, in, tape, d_out, d_state, d_in);
  const auto& e = tape.read<recurrence_record<M>>();
  const index sequences = e.cu_seqlens.empty() ? e.extents[0] : static_cast<index>(e.cu_seqlens.size()) - 1;
  state_gradient_t<M> none{array<typename M::real, 4>({sequences, e.extents[3], e.extents[4], e.extents[5]}), {}};
  vjp(executor, mixer, in, tape, d_out, none, d_in);
}

template <class To, class From, int Rank>
void convert(cpu& executor, const view<From, Rank>& from, const view<To, Rank>& to) {
  for_rows(executor, {from.extent[0], from.extent[1], 1}, from.extent[2], [&](index b, index t, index) {
    for_lanes<accumulate_t<std::remove_const_t<From>>>(from.extent[2], [&](index c, auto lane) { put(&to(b, t, 0) + c, get(&from(b, t, 0) + c, lane), lane); });
  });
}

}  // namespace detail

template <layer_with_gradients L>
void run_record(cpu& executor, const L& l, const typename L::inputs& in, typename L::state_type& state, const typename L::outputs& out, tape& tape,
                std::span<const index> cu) {
  require(tape.every >= 0, errc::value, "tape.every: expected 0 (keep the start alone) or a number of tokens, got ", tape.every);
  auto& record = tape.template fill<layer_record<L>>();
  record.extents.fill(-1);  // refused by vjp until it is whole
  record.recompute = tape.every == 0;
  record.kept.every = tape.every;
  record.cu_seqlens.assign(cu.begin(), cu.end());
  if (record.recompute) {
    keep(record.start, state);
    run_scan(executor, l, in, state, out, cu);
  } else {
    detail::run(executor, l, in, state, out, recording_call{{.cu_seqlens = cu, .kept = &record.kept}});
  }
  record.extents = in.x.extent;
}

template <layer_with_gradients L>
void run_vjp(cpu& executor, const L& l, const typename L::inputs& in, const tape& tape, const typename L::cotangents& d_out, typename L::state_gradient& d_state,
             const typename L::gradients& d_in) {
  using T = typename L::storage_type;
  using R = accumulate_t<T>;
  const auto& record = tape.template read<layer_record<L>>();
  const auto& x = in.x;
  require(record.extents == x.extent, errc::value, "tape: expected one of a scan over ", check::list(x.extent), ", got ", check::list(record.extents));
  check::tensor("x", x, {x.extent[0], x.extent[1], l.hidden()}, false, true);
  d_out.y.visit([&](const auto& v) { check::tensor("d_y", v, x.extent, true, true); });
  d_in.x.visit([&](const auto& v) {
    check::result("d_x", v, x.extent, true, true);
    check::no_overlap("d_x", v, "x", x);
    d_out.y.visit([&](const auto& d_y) { check::no_overlap("d_x", v, "d_y", d_y); });
  });
  if (d_in.parameters)
    for_each_parameter(l, *d_in.parameters, [](const std::string& name, const auto& a, const auto& d) {
      require(d.extent() == a.extent(), errc::shape, "gradient of ", name, ": expected ", check::list(a.extent()), ", got ", check::list(d.extent()));
    });
  if (x.size() == 0) return;

  temporaries::scope memory(executor.temporaries());
  const auto taken = [&] { return memory.take<R>(x.extent[0], x.extent[1], x.extent[2]); };
  layer_kept again;
  if (record.recompute) {
    auto state = record.start;
    detail::run(executor, l, in, state, {.y = taken()}, recording_call{{.cu_seqlens = record.cu_seqlens, .kept = &again}});
    executor.took_beside(again.bytes() + record.bytes_of(state));
  }
  view<const R, 3> d_y;
  d_out.y.visit([&](const auto& v) {
    if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(v)>::element, const R>) {
      if (!v.null()) return void(d_y = v);
      const auto zeros = taken();
      std::fill_n(zeros.data, zeros.size(), R(0));
      d_y = zeros;
    } else {
      const auto wide = taken();
      if (v.null()) std::fill_n(wide.data, wide.size(), R(0));
      else detail::convert(executor, v, wide);
      d_y = wide;
    }
  });
  const bool narrow = !d_in.x.null() && !d_in.x.wide;
  const view<R, 3> d_x = d_in.x.null() ? view<R, 3>() : narrow ? taken() : d_in.x.wide_view();
  const auto back = [&] { backward(executor, l, x, record.recompute ? again : record.kept, d_y, d_state, d_x, d_in.parameters); };
  {
    const rehearsal nothing_written(executor);
    back();
  }
  back();
  if constexpr (!std::is_same_v<T, R>)
    if (narrow) detail::convert(executor, view<const R, 3>(d_x), d_in.x.narrow_view());
}

}  // namespace WEFT_ISA
}  // namespace weft
