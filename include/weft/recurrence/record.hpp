// What a recurrence's scan leaves on a tape, and the shapes of its gradients, checked once.
#pragma once
#include <algorithm>
#include <vector>

#include "../core/tape.hpp"
#include "check.hpp"

namespace weft {
inline namespace v1 {

// Rows count micro-steps (tokens, where there are none). Of M's value heads, in the accumulating type.
template <class M>
struct recurrence_record {
  using R = typename M::real;
  std::array<index, 6> extents{};  // batch, time, key heads, value heads, key dim, value dim
  int micro = 1;
  std::vector<index> cu_seqlens;
  index every = 0;                 // rows between the states that were kept; 0: only the start was
  array<R, 4> states;              // [kept states, HV, K, V]
  array<R, 3> normalisers;         // [kept states, HV, K]
  array<R, 4> erased;              // [B, rows, HV, V]: the solved values of the classes that erase
  array<R, 4> reads;               // [B, rows, HV, V]: o before the normaliser and the output hook, for policies that have one
  array<R, 3> denominators;        // [B, rows, HV]

  std::size_t bytes() const { return array_bytes(states, normalisers, erased, reads, denominators); }
};

// Where the engine puts these things, wherever the memory is. Null: not kept.
template <class R>
struct record_views {
  index every = 0;
  view<R, 4> states{};
  view<R, 3> normalisers{};
  view<R, 4> erased{}, reads{};
  view<R, 3> denominators{};

  // The first kept state of a sequence that begins at this row; those of all sequences lie one after the other.
  WEFT_INLINE index slot(index sequence, index begin, index rows, bool packed) const {
    return packed ? begin / every + sequence : sequence * ((rows + every - 1) / every);
  }
  static index slots(index sequences, index rows, index every, bool packed) {
    return packed ? rows / every + sequences : sequences * ((rows + every - 1) / every);
  }
};

// Which things a policy's gradients need.
template <class P>
inline constexpr bool records_reads = has_output<P> || P::axes.normalised;
template <class P>
inline constexpr bool records_erased = P::axes.erase != erase::none;

}  // namespace v1

inline namespace WEFT_ISA {

inline std::array<index, 6> record_extents(const recurrence_extents& x) {
  return {x.batch, x.time, x.heads, x.value_heads, x.key_dim, x.value_dim};
}

namespace detail {

// The gradients of the inputs `in`, in their order and without names.
inline void check_gradients(std::span<const input_operand> in, std::span<check::operand> gradients, const check::operand& d_o, const recurrence_extents& x,
                            check::gradient_places& places) {
  check::tensor(d_o, std::array{x.batch, x.time, x.value_heads, x.value_dim}, true, true);
  places.read(d_o);
  for (const input_operand& v : in) places.read(v);
  for (std::size_t i = 0; i < in.size(); ++i) {
    check::operand& d = gradients[i];
    if (d.null()) continue;
    const std::string name = "d_" + std::string(in[i].name);
    d.name = name;
    require(!in[i].null() || d.low == d.high, errc::missing, name, ": expected a null view beside an absent input");
    check::result(d, role_extents(in[i].role, x).span(), true, in[i].role.width != width::one);
    places.write(d);
  }
}

}  // namespace detail

// Checks a vjp's arguments against the tape's record.
template <class M>
recurrence_extents check_vjp(const M& mixer, const typename M::inputs& in, const recurrence_record<M>& record, const typename M::cotangents& d_out,
                             const typename M::state_gradient& d_state, const typename M::gradients& d_in) {
  const std::span<const index> cu(record.cu_seqlens);
  const auto& e = record.extents;
  const index rows = cu.empty() ? e[0] : static_cast<index>(cu.size()) - 1;
  const auto inputs = detail::input_operands<M>(in);
  recurrence_extents x = check_inputs(mixer, inputs, rows, {e[3], e[4], e[5]}, cu);
  require(record_extents(x) == e && x.micro == record.micro, errc::value, "tape: expected one of a scan over ", check::list(record_extents(x)), " with ", x.micro,
          " micro-steps (batch, time, key heads, value heads, key dim, value dim), got ", check::list(e), " with ", record.micro);
  check::gradient_places places;
  const auto state_part = [&](const check::operand& d, std::span<const index> expected) {
    const auto extent = d.extent();
    require(!d.null() && std::equal(extent.begin(), extent.end(), expected.begin(), expected.end()), errc::shape, d.name, ": expected ", check::list(expected), ", got ", check::list(extent));
    places.write(d);
  };
  state_part(check::operand("d_state", d_state.matrix.view()), std::array{rows, e[3], e[4], e[5]});
  if (M::axes.normalised) state_part(check::operand("d_state.normaliser", d_state.normaliser.view()), std::array{rows, e[3], e[4]});
  std::array<check::operand, inputs.size()> gradients;
  for_each_member(d_in, [&](const auto& d, auto i) { gradients[i] = check::operand({}, static_cast<const typename std::remove_cvref_t<decltype(d)>::base&>(d)); });
  detail::check_gradients(inputs, gradients, check::operand("d_o", d_out.o.place()), x, places);
  return x;
}

}  // namespace WEFT_ISA
}  // namespace weft
