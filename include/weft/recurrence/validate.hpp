// weft::validate for recurrences: values that the verbs take as they are, and that are mostly a mistake.
#pragma once
#include <cmath>
#include <limits>
#include <string_view>

#include "../core/values.hpp"
#include "literal.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// The extents that the inputs agree on, by the first that has each; no state is at hand.
inline recurrence_extents extents_of_inputs(std::span<const input_operand> in, int micro) {
  recurrence_extents x{.batch = -1, .time = -1, .heads = -1, .value_heads = -1, .key_dim = -1, .value_dim = -1, .micro = micro};
  const auto take = [](index& known, index e) { known = known < 0 ? e : known; };
  for (const input_operand& v : in) {
    const role& r = v.role;
    check::tensor(v, v.extent(), true, false);
    if (v.null()) continue;
    if (r.time) take(x.batch, v.extents[0]);
    if (r.time && !r.micro) take(x.time, v.extents[1]);
    take(r.heads == per_head::key ? x.heads : x.value_heads, v.extents[r.time ? 2 : 0]);
    if (r.width != width::one) take(r.width == width::key_dim ? x.key_dim : x.value_dim, v.extents[r.time ? 3 : 1]);
  }
  for (index* e : {&x.batch, &x.time, &x.heads, &x.value_heads, &x.key_dim, &x.value_dim}) *e = std::max<index>(*e, 0);
  check_agreement(in, x);
  return x;
}

template <class P>
const limit* limit_of(std::string_view name) {
  if constexpr (requires { P::limits; })
    for (const limit& l : P::limits)
      if (l.name == name) return &l;
  return nullptr;
}

// Of a log-decay, whose -inf forgets all: the gate called g, or one whose limits begin there.
template <class P>
bool may_forget_all(std::size_t i) {
  const std::string_view name = name_of<P>(i).text;
  const limit* const l = limit_of<P>(name);
  return name == "g" || (l && l->low == -std::numeric_limits<double>::infinity());
}

}  // namespace detail

// Throws errc::value naming the first tensor with a NaN, an infinity (log-decays may be -inf: detail::may_forget_all), or a
// number outside the policy's limits; then for a log-decay above 0, as the policy's maps compute it. Shapes are checked too.
// Reads every element once, per-channel decays a second time.
template <class P, class T, class S>
void run_validate(const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in) {
  using R = accumulate_t<T>;
  const recurrence_extents x = detail::extents_of_inputs(detail::input_operands<recurrence<P, T, S>>(in), P::axes.micro_steps ? mixer.micro_steps : 1);
  for_each_member(in, [&](const auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    const std::string_view name = name_of<P>(i).text;
    const limit* const l = detail::limit_of<P>(name);
    const bool decays = view_type::role.wide && detail::may_forget_all<P>(i);
    detail::each_element(static_cast<const typename view_type::base&>(v), [&](const auto& element, const auto& at) {
      const R e = static_cast<R>(element);
      detail::require_number(name, e, decays, " at ", check::list(at));
      if (l) require(e >= l->low && e <= l->high, errc::value, name, ": expected ", l->low, " to ", l->high, ", got ", e, " at ", check::list(at));
    });
  });
  if constexpr (P::axes.decay != decay::none) {
    P policy = mixer.policy;
    if constexpr (requires { policy.bind(in); }) policy.bind(in);
    constexpr bool constant = P::axes.decay == decay::per_head;
    if (x.batch == 0 || x.time == 0 || x.value_heads == 0) return;
    const index channels = P::axes.decay == decay::per_channel ? x.key_dim : std::min<index>(1, x.key_dim);
    for (index b = 0; b < (constant ? std::min<index>(1, x.batch) : x.batch); ++b)
      for (index t = 0; t < (constant ? std::min<index>(1, x.time) : x.time); ++t)
        for (index h = 0; h < x.value_heads; ++h)
          for (index i = 0; i < channels; ++i) {
            auto lane = detail::scalar_lanes<P, R, T>(in, x, b, t, 0, h, i, 0);
            detail::activate_lanes<P, R>(policy, lane);
            const R g = policy.template key_side<R>(lane).g;
            require(g <= 0, errc::value, "g: expected a log-decay of at most 0, got ", g, " at batch ", b, ", token ", t, ", head ", h, ", channel ", i);
          }
  }
}

}  // namespace WEFT_ISA
}  // namespace weft
