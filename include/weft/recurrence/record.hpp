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

template <class M>
std::array<index, 6> record_extents(const recurrence_extents& x) {
  return {x.batch, x.time, x.heads, x.value_heads, x.key_dim, x.value_dim};
}

// Checks a vjp's arguments against the tape's record.
template <class M>
recurrence_extents check_vjp(const M& mixer, const typename M::inputs& in, const recurrence_record<M>& record, const typename M::cotangents& d_out,
                             const typename M::state_gradient& d_state, const typename M::gradients& d_in) {
  using P = typename M::policy_type;
  const std::span<const index> cu(record.cu_seqlens);
  const auto& e = record.extents;
  const index rows = cu.empty() ? e[0] : static_cast<index>(cu.size()) - 1;
  recurrence_extents x = check_inputs(mixer, in, rows, {e[3], e[4], e[5]}, cu);
  require(record_extents<M>(x) == e && x.micro == record.micro, errc::value, "tape: expected one of a scan over ", check::list(record_extents<M>(x)), " with ", x.micro,
          " micro-steps (batch, time, key heads, value heads, key dim, value dim), got ", check::list(e), " with ", record.micro);
  const std::array matrix{rows, e[3], e[4], e[5]};
  require(d_state.matrix.extent() == matrix && !d_state.matrix.null(), errc::shape, "d_state: expected ", check::list(matrix), ", got ", check::list(d_state.matrix.extent()));
  if (M::axes.normalised) {
    const std::array normaliser{rows, e[3], e[4]};
    require(d_state.normaliser.extent() == normaliser, errc::shape, "d_state.normaliser: expected ", check::list(normaliser), ", got ",
            check::list(d_state.normaliser.extent()));
  }
  d_out.o.visit([&](const auto& o) {
    using V = std::remove_cvref_t<decltype(o)>;
    check::tensor<typename V::element, 4>("d_o", o, {x.batch, x.time, x.value_heads, x.value_dim}, true, true);
  });
  std::vector<check::footprint> written{check::footprint(d_state.matrix.view()), check::footprint(d_state.normaliser.view())};
  for_each_member(d_in, [&](const auto& d, auto i) {
    using gradient_type = std::remove_cvref_t<decltype(d)>;
    d.visit([&](const auto& v) {
      using V = std::remove_cvref_t<decltype(v)>;
      if (v.null()) return;
      const std::string name = "d_" + std::string(name_of<P>(i).text);
      require(!std::get<i>(tie_members(in)).null() || v.size() == 0, errc::missing, name, ": expected a null view beside an absent input");
      check::tensor<typename V::element, V::rank>(name, v, detail::expected_extents<typename gradient_type::input_type>(x), true, gradient_type::role.width != width::one);
      for_each_member(in, [&](const auto& u, auto j) { check::no_overlap(name, v, name_of<P>(j).text, u); });
      d_out.o.visit([&](const auto& o) { check::no_overlap(name, v, "d_o", o); });
      const check::footprint mine(v);
      for (const auto& other : written)
        require(!check::share_elements(mine, other), errc::overlap, name, ": expected memory apart from the other gradients, got views that share elements");
      written.push_back(mine);
    });
  });
  return x;
}

}  // namespace WEFT_ISA
}  // namespace weft
