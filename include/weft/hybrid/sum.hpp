// Mixers side by side: o = sum_i o_i, or o = sum_i w_i o_i with a weight for every head and token. Each part has its own
// normaliser, if any, and its own state; a recurrence beside a window of attention is the common pair (Liger, NAtS-L, SALA).
//
//   auto both = weft::sum(gdn, swa);
//   auto S = both.state({...});
//   weft::scan(cpu, both, {gdn_inputs, swa_inputs}, S, {.o = o});
//
// The parts' inputs are a tuple; where all are of one type they are one, which every part reads. Gradients likewise, by
// backend/cpu/sum_vjp.hpp. An output may be exactly what every part's may be. Beside its parts' work O(B T H V) a part, and two
// outputs of the accumulating type.
#pragma once
#include "../core/output.hpp"
#include "../core/values.hpp"
#include "parts.hpp"

namespace weft {
inline namespace v1 {

namespace detail {

template <class Out>
struct output_traits;
template <class T, int Rank>
struct output_traits<output<T, Rank>> {
  using storage_type = T;
  static constexpr int rank = Rank;
};

template <class First, class... Rest>
struct sum_types {
  using o_type = std::remove_cvref_t<decltype(std::declval<outputs_t<First>&>().o)>;
  static_assert(all_same<o_type, std::remove_cvref_t<decltype(std::declval<outputs_t<Rest>&>().o)>...>,
                "weft: the mixers of a sum have outputs o of one storage type and rank");
  static constexpr bool one_input = all_same<inputs_t<First>, inputs_t<Rest>...>;
  using parts_inputs = std::conditional_t<one_input, inputs_t<First>, std::tuple<inputs_t<First>, inputs_t<Rest>...>>;
  using storage_type = typename output_traits<o_type>::storage_type;
  static constexpr int rank = output_traits<o_type>::rank;

  template <std::size_t I>
  static const auto& input_of(const parts_inputs& in) {
    if constexpr (one_input) return in;
    else return std::get<I>(in);
  }
};

// Gradients are a tuple of the parts', or one where the inputs are.
template <bool All, class... M>
struct sum_gradients {};
template <class... M>
struct sum_gradients<true, M...> {
  using types = sum_types<M...>;
  struct cotangents {
    cotangent<typename types::storage_type, types::rank> o;
  };
  using gradients = std::conditional_t<types::one_input, gradients_t<std::tuple_element_t<0, std::tuple<M...>>>, std::tuple<gradients_t<M>...>>;
};
template <bool All, class... M>
struct gated_sum_gradients {};
template <class... M>
struct gated_sum_gradients<true, M...> {
  using ungated = sum_gradients<true, M...>;
  using cotangents = typename ungated::cotangents;
  struct gradients {
    typename ungated::gradients parts{};
    view<accumulate_t<typename ungated::types::storage_type>, ungated::types::rank> weights{};
  };
};

}  // namespace detail

// sum(a, b, ...)
template <class... M>
struct mixer_sum : mixer_parts<M...>, detail::sum_gradients<mixer_parts<M...>::has_gradients, M...> {
  using mixer_parts<M...>::mixer_parts;
  static constexpr bool gated = false;
  using types = detail::sum_types<M...>;
  using storage_type = typename types::storage_type;
  using inputs = typename types::parts_inputs;
  struct outputs {
    typename types::o_type o;
  };
};

// gated_sum(a, b, ...)
template <class... M>
struct gated_mixer_sum : mixer_parts<M...>, detail::gated_sum_gradients<mixer_parts<M...>::has_gradients, M...> {
  using mixer_parts<M...>::mixer_parts;
  static constexpr bool gated = true;
  using types = detail::sum_types<M...>;
  using storage_type = typename types::storage_type;
  struct inputs {
    typename types::parts_inputs parts;
    view<const accumulate_t<storage_type>, types::rank> weights{};  // [B, T, H, parts]; [B, T, parts] for outputs without heads
  };
  struct outputs {
    typename types::o_type o;
  };
};

template <class... M>
mixer_sum<M...> sum(M... mixers) {
  return std::tuple<M...>{std::move(mixers)...};
}
template <class... M>
gated_mixer_sum<M...> gated_sum(M... mixers) {
  return std::tuple<M...>{std::move(mixers)...};
}

}  // namespace v1

inline namespace WEFT_ISA {
namespace detail {

template <class S>
concept any_sum = requires(const S& s, const typename S::inputs& in) {
  typename S::types::parts_inputs;
  s.mixers;
};
// Of a sum's inputs, or their gradients.
template <class S, class Tensors>
const auto& parts_of(const Tensors& in) {
  if constexpr (S::gated) return in.parts;
  else return in;
}

// Rows [B, T, H, width] of an output with or without heads.
template <class T>
view<T, 4> rows_of(const view<T, 4>& v) { return v; }
template <class T>
view<T, 4> rows_of(const view<T, 3>& v) { return {v.data, {v.extent[0], v.extent[1], 1, v.extent[2]}, {v.stride[0], v.stride[1], 0, v.stride[2]}}; }

// Memory is taken for as many numbers as o has, before the parts can say what it should have.
template <class O>
void check_room(const O& o) {
  const check::operand v("o", o);
  check::tensor(v, v.extent(), true, false);
}

// What a sum itself has to ask for, after its parts: they know what o should be.
template <any_sum S>
void check_sum(const typename S::inputs& in, const typename S::state_type& state, const typename S::outputs& out) {
  auto extent = out.o.extent;
  out.o.visit([&](const auto& o) {
    check::result("o", o, extent, true, true);
    for_each_part(state, [&](const auto& p) { check::no_overlap("o", o, p.name, p.data.view()); });
    if constexpr (S::gated) {
      extent.back() = static_cast<index>(S::count);
      check::tensor("weights", in.weights, extent, false, true);
      check::no_overlap("o", o, "weights", in.weights);
      for_each_part(state, [&](const auto& p) { check::no_overlap(p.name, p.data.view(), "weights", in.weights); });
    }
  });
}

}  // namespace detail

// On a copy of the state, so that a part that is refused leaves those before it as they were.
template <detail::any_sum S>
void run_literal(const S& mixer, const typename S::inputs& in, typename S::state_type& state, const typename S::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<typename S::storage_type>;
  using types = typename S::types;
  detail::check_room(out.o);
  auto next = state;
  array<R, types::rank> one(out.o.extent), total(out.o.extent);
  const typename types::o_type own = out.o.null() ? out.o : typename types::o_type(one);
  for_each_index<S::count>([&](auto i) {
    detail::in_part(i, [&] {
      literal(std::get<i>(mixer.mixers), types::template input_of<i>(detail::parts_of<S>(in)), std::get<i>(next.states), {.o = own}, cu);
    }, types::one_input);
    if (i == 0) detail::check_sum<S>(in, state, out);
    const auto x = detail::rows_of(one.view()), sum = detail::rows_of(total.view());
    for (index b = 0; b < x.extent[0]; ++b)
      for (index t = 0; t < x.extent[1]; ++t)
        for (index h = 0; h < x.extent[2]; ++h)
          for (index c = 0; c < x.extent[3]; ++c) {
            R w = 1;
            if constexpr (S::gated) w = detail::rows_of(in.weights)(b, t, h, static_cast<index>(i()));
            sum(b, t, h, c) = i == 0 ? w * x(b, t, h, c) : sum(b, t, h, c) + w * x(b, t, h, c);
          }
  });
  out.o.visit([&](const auto& o) {
    const auto to = detail::rows_of(o), from = detail::rows_of(total.view());
    for (index b = 0; b < to.extent[0]; ++b)
      for (index t = 0; t < to.extent[1]; ++t)
        for (index h = 0; h < to.extent[2]; ++h)
          for (index c = 0; c < to.extent[3]; ++c) to(b, t, h, c) = static_cast<typename std::remove_cvref_t<decltype(to)>::element>(from(b, t, h, c));
  });
  state = std::move(next);
}

// Every part's values, where it has something to say of them.
template <detail::any_sum S>
void run_validate(const S& mixer, const typename S::inputs& in) {
  if constexpr (S::gated) detail::require_finite("weights", in.weights);
  for_each_index<S::count>([&](auto i) {
    const auto& part = std::get<i>(mixer.mixers);
    const auto& own = S::types::template input_of<i>(detail::parts_of<S>(in));
    if constexpr (requires { run_validate(part, own); }) detail::in_part(i, [&] { run_validate(part, own); }, S::types::one_input);
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
