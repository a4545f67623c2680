// Shapes of one call on a recurrence, checked once.
#pragma once
#include <algorithm>

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

// An input of a call, without its type.
struct input_operand : check::operand {
  weft::role role;
  bool optional = false;
};

template <class M>
std::array<input_operand, input_count<typename M::policy_type>> input_operands(const typename M::inputs& in) {
  std::array<input_operand, input_count<typename M::policy_type>> all;
  for_each_member(in, [&](const auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    constexpr input_name name = name_of<typename M::policy_type>(i);
    all[i] = {check::operand(name.text, static_cast<const typename view_type::base&>(v)), view_type::role, name.optional};
  });
  return all;
}

struct role_extents {
  std::array<index, 4> of{};
  std::size_t rank = 0;

  role_extents(const role& r, const recurrence_extents& x) {
    if (r.time) {
      of[rank++] = x.batch;
      of[rank++] = r.micro ? x.time * x.micro : x.time;
    }
    of[rank++] = r.heads == per_head::key ? x.heads : x.value_heads;
    if (r.width != width::one) of[rank++] = r.width == width::key_dim ? x.key_dim : x.value_dim;
  }
  std::span<const index> span() const { return {of.data(), rank}; }
};

inline const input_operand* first_with_key_heads(std::span<const input_operand> in) {
  const auto at = std::ranges::find_if(in, [](const input_operand& v) { return !v.null() && v.role.heads == per_head::key; });
  return at == in.end() ? nullptr : &*at;
}

// Every input's extents, where x has what they agree on.
inline void check_agreement(std::span<const input_operand> in, const recurrence_extents& x) {
  const input_operand* const headed = first_with_key_heads(in);
  require(x.heads > 0 ? x.value_heads % x.heads == 0 : x.value_heads == 0, errc::heads, headed ? headed->name : "state", ": expected a head count that divides ",
          x.value_heads, " value heads, got ", x.heads);
  for (const input_operand& v : in) check::tensor(v, role_extents(v.role, x).span(), v.optional, v.role.width != width::one);
}

// Fills in batch, time, key heads and sequences, from the first input that has them.
inline void settle_extents(std::span<const input_operand> in, index rows, std::span<const index> cu, recurrence_extents& x) {
  const auto timed = std::ranges::find_if(in, [](const input_operand& v) { return !v.null() && v.role.time && !v.role.micro; });
  const input_operand* const headed = first_with_key_heads(in);
  x.heads = headed ? headed->extents[headed->role.time ? 2 : 0] : x.value_heads;
  // Every timed input is a null view: legal only where nothing is asked for.
  x.batch = timed != in.end() ? timed->extents[0] : cu.empty() ? rows : 1;
  x.time = timed != in.end() ? timed->extents[1] : 0;
  check_agreement(in, x);
  require(x.batch >= 0 && x.time >= 0, errc::shape, in[0].name, ": expected extents of at least 0, got batch ", x.batch, " and time ", x.time);
  x.sequences = check::sequences(cu, x.batch, x.time);
  require(rows == x.sequences, errc::shape, "state: expected ", x.sequences, " sequences, got ", rows);
}

inline void check_parts(std::span<const input_operand> in, const check::operand& matrix, const check::operand& normaliser) {
  for (const input_operand& v : in) {
    check::no_overlap(matrix, v);
    check::no_overlap(normaliser, v);
  }
}

// o is written apart from what is read, or it is exactly one of the inputs; whether that one is read by all columns.
inline bool check_output(std::span<const input_operand> in, const check::operand& o, const check::operand& matrix, const check::operand& normaliser) {
  bool is_key = false;
  for (const input_operand& v : in) {
    if (v.role.time && !v.role.micro && v.same_place(o)) is_key |= v.role.width == width::key_dim;
    else check::no_overlap(o, v);
  }
  check::no_overlap(o, matrix);
  check::no_overlap(o, normaliser);
  return is_key;
}

}  // namespace detail

// The extents of a call whose state has these last three (value heads, key and value dim); batch and time are those of the
// first input that has them.
template <class M>
recurrence_extents check_inputs(const M& mixer, std::span<const detail::input_operand> in, index rows, const std::array<index, 3>& state, std::span<const index> cu) {
  recurrence_extents x{.value_heads = state[0], .key_dim = state[1], .value_dim = state[2], .micro = M::axes.micro_steps ? mixer.micro_steps : 1};
  require(x.micro >= 1, errc::value, "micro_steps: expected at least 1, got ", x.micro);
  require(!mixer.scale || std::isfinite(*mixer.scale), errc::value, "scale: expected a finite number, got ", mixer.scale.value_or(0));
  require(mixer.l2norm_eps >= 0, errc::value, "l2norm_eps: expected at least 0, got ", mixer.l2norm_eps);
  require(mixer.normaliser_eps >= 0, errc::value, "normaliser_eps: expected at least 0, got ", mixer.normaliser_eps);
  require(!mixer.qk_l2norm || unit_keys<typename M::policy_type>() > 0, errc::unsupported, "qk_l2norm: expected a policy with unit keys, got one without");
  detail::settle_extents(in, rows, cu, x);
  return x;
}

namespace detail {

// What a call reads and its state, without their types.
template <class M>
struct call_operands {
  std::array<input_operand, input_count<typename M::policy_type>> inputs;
  check::operand matrix, normaliser;

  template <class State>
  call_operands(const typename M::inputs& in, const State& s) {
    require(!s.matrix.null(), errc::missing, "state: expected one made by state(), got an empty value");
    inputs = input_operands<M>(in);
    matrix = check::operand("state", s.matrix.view());
    if (M::axes.normalised) normaliser = check::operand("state.normaliser", s.normaliser.view());
  }
};

template <class M, class State>
recurrence_extents check_call(const M& mixer, const call_operands<M>& v, const State& state, std::span<const index> cu) {
  const auto& e = state.matrix.extent();
  const recurrence_extents x = check_inputs(mixer, v.inputs, e[0], {e[1], e[2], e[3]}, cu);
  if (M::axes.normalised) {
    const std::array<index, 3> expected{x.sequences, x.value_heads, x.key_dim};
    require(state.normaliser.extent() == expected, errc::shape, "state.normaliser: expected ", check::list(expected), ", got ", check::list(state.normaliser.extent()));
  }
  check_parts(v.inputs, v.matrix, v.normaliser);
  return x;
}

}  // namespace detail

// A call for the state alone.
template <class M, class State>
recurrence_extents check_fold(const M& mixer, const typename M::inputs& in, const State& state, std::span<const index> cu) {
  return detail::check_call(mixer, detail::call_operands<M>(in, state), state, cu);
}

template <class M, class State>
recurrence_extents check_recurrence(const M& mixer, const typename M::inputs& in, const State& state,
                                    const typename M::outputs& out, std::span<const index> cu) {
  const detail::call_operands<M> v(in, state);
  recurrence_extents x = detail::check_call(mixer, v, state, cu);
  const check::operand o("o", out.o);
  check::result(o, std::array{x.batch, x.time, x.value_heads, x.value_dim}, false, true);
  x.output_is_key = detail::check_output(v.inputs, o, v.matrix, v.normaliser);
  return x;
}

}  // namespace WEFT_ISA
}  // namespace weft
