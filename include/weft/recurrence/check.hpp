// Shapes of one call on a recurrence, checked once.
#pragma once
#include "../core/check.hpp"
#include "recurrence.hpp"

namespace weft {
inline namespace WEFT_ISA {

struct recurrence_extents {
  index batch = 0, time = 0, sequences = 0, heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  int micro = 1;
  bool output_is_key = false;  // o is the view of a key input: its columns must not be written before all are read
};

namespace detail {

template <class View>
std::array<index, View::rank> expected_extents(const recurrence_extents& x) {
  constexpr role r = View::role;
  std::array<index, View::rank> e{};
  std::size_t i = 0;
  if (r.time) {
    e[i++] = x.batch;
    e[i++] = r.micro ? x.time * x.micro : x.time;
  }
  e[i++] = r.heads == per_head::key ? x.heads : x.value_heads;
  if (r.width == width::key_dim) e[i] = x.key_dim;
  if (r.width == width::value_dim) e[i] = x.value_dim;
  return e;
}

}  // namespace detail

// The extents of a call whose state has these last three (value heads, key and value dim); batch and time are those of the
// first input that has them.
template <class M>
recurrence_extents check_inputs(const M& mixer, const typename M::inputs& in, index rows, const std::array<index, 3>& state, std::span<const index> cu) {
  using P = typename M::policy_type;
  recurrence_extents x;
  x.value_heads = state[0];
  x.key_dim = state[1];
  x.value_dim = state[2];
  x.heads = x.value_heads;
  x.micro = M::axes.micro_steps ? mixer.micro_steps : 1;
  require(x.micro >= 1, errc::value, "micro_steps: expected at least 1, got ", x.micro);

  require(!mixer.scale || std::isfinite(*mixer.scale), errc::value, "scale: expected a finite number, got ", mixer.scale.value_or(0));
  require(mixer.l2norm_eps >= 0, errc::value, "l2norm_eps: expected at least 0, got ", mixer.l2norm_eps);
  require(mixer.normaliser_eps >= 0, errc::value, "normaliser_eps: expected at least 0, got ", mixer.normaliser_eps);
  require(!mixer.qk_l2norm || unit_keys<P>() > 0, errc::unsupported, "qk_l2norm: expected a policy with unit keys, got one without");

  bool timed = false, headed = false;
  for_each_member(in, [&](const auto& v, auto) {
    constexpr role r = std::remove_cvref_t<decltype(v)>::role;
    if (v.null()) return;
    if constexpr (r.time)
      if (!timed && !r.micro) {
        x.batch = v.extent[0];
        x.time = v.extent[1];
        timed = true;
      }
    if constexpr (r.heads == per_head::key)
      if (!headed) {
        x.heads = v.extent[r.time ? 2 : 0];
        headed = true;
      }
  });
  if (!timed) {  // every timed input is a null view: legal only where nothing is asked for
    x.batch = cu.empty() ? rows : 1;
    x.time = 0;
  }
  require(x.heads > 0 ? x.value_heads % x.heads == 0 : x.value_heads == 0, errc::heads, name_of<P>(0).text, ": expected a head count that divides ",
          x.value_heads, " value heads, got ", x.heads);
  for_each_member(in, [&](const auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    constexpr input_name name = name_of<P>(i);
    check::tensor<const typename view_type::element, view_type::rank>(name.text, v, detail::expected_extents<view_type>(x), name.optional,
                                                                      view_type::role.width != width::one);
  });
  require(x.batch >= 0 && x.time >= 0, errc::shape, name_of<P>(0).text, ": expected extents of at least 0, got batch ", x.batch, " and time ", x.time);
  x.sequences = check::sequences(cu, x.batch, x.time);
  require(rows == x.sequences, errc::shape, "state: expected ", x.sequences, " sequences, got ", rows);
  return x;
}

template <class M, class State>
recurrence_extents check_recurrence(const M& mixer, const typename M::inputs& in, const State& state,
                                    const typename M::outputs& out, std::span<const index> cu) {
  using P = typename M::policy_type;
  require(!state.matrix.null(), errc::missing, "state: expected one made by state(), got an empty value");
  const auto& e = state.matrix.extent();
  recurrence_extents x = check_inputs(mixer, in, e[0], {e[1], e[2], e[3]}, cu);
  if (M::axes.normalised)
    require(state.normaliser.extent() == std::array<index, 3>{x.sequences, x.value_heads, x.key_dim}, errc::shape,
            "state.normaliser: expected ", check::list(std::array<index, 3>{x.sequences, x.value_heads, x.key_dim}), ", got ",
            check::list(state.normaliser.extent()));

  for_each_member(in, [&](const auto& v, auto i) {
    constexpr input_name name = name_of<P>(i);
    check::no_overlap("state", state.matrix.view(), name.text, v);
    if constexpr (M::axes.normalised) check::no_overlap("state.normaliser", state.normaliser.view(), name.text, v);
  });
  out.o.visit([&](const auto& o) {
    check::tensor("o", o, {x.batch, x.time, x.value_heads, x.value_dim}, false, true);
    for_each_member(in, [&](const auto& v, auto i) {
      using view_type = std::remove_cvref_t<decltype(v)>;
      if constexpr (view_type::rank == 4 && std::is_same_v<const typename std::remove_cvref_t<decltype(o)>::element, typename view_type::base::element>)
        if (view_type::role.time && !view_type::role.micro && v.data == o.data && v.extent == o.extent && v.stride == o.stride) {
          x.output_is_key |= view_type::role.width == width::key_dim;
          return;
        }
      constexpr input_name name = name_of<P>(i);
      check::no_overlap("o", o, name.text, v);
    });
    check::no_overlap("o", o, "state", state.matrix.view());
    if constexpr (M::axes.normalised) check::no_overlap("o", o, "state.normaliser", state.normaliser.view());
  });
  return x;
}

}  // namespace WEFT_ISA
}  // namespace weft
