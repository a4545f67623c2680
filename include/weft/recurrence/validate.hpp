// weft::validate for recurrences: values that the verbs take as they are, and that are mostly a mistake.
#pragma once
#include <cmath>
#include <string_view>

#include "../core/values.hpp"
#include "literal.hpp"

namespace weft {
inline namespace WEFT_ISA {

namespace detail {

// The extents that the inputs agree on, by the first that has each; no state is at hand.
template <class P, class T>
recurrence_extents extents_of_inputs(const inputs_of<P, T>& in, int micro) {
  recurrence_extents x;
  x.micro = micro;
  x.batch = x.time = x.heads = x.value_heads = x.key_dim = x.value_dim = -1;
  const auto take = [](index& known, index e) { known = known < 0 ? e : known; };
  for_each_member(in, [&](const auto& v, auto) {
    constexpr role r = std::remove_cvref_t<decltype(v)>::role;
    if (v.null()) return;
    if (r.time) take(x.batch, v.extent[0]);
    if (r.time && !r.micro) take(x.time, v.extent[1]);
    take(r.heads == per_head::key ? x.heads : x.value_heads, v.extent[r.time ? 2 : 0]);
    if (r.width == width::key_dim) take(x.key_dim, v.extent[r.time ? 3 : 1]);
    if (r.width == width::value_dim) take(x.value_dim, v.extent[r.time ? 3 : 1]);
  });
  for (index* e : {&x.batch, &x.time, &x.heads, &x.value_heads, &x.key_dim, &x.value_dim}) *e = std::max<index>(*e, 0);
  require(x.heads > 0 ? x.value_heads % x.heads == 0 : x.value_heads == 0, errc::heads, name_of<P>(0).text, ": expected a head count that divides ",
          x.value_heads, " value heads, got ", x.heads);
  for_each_member(in, [&](const auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    check::tensor<const typename view_type::element, view_type::rank>(name_of<P>(i).text, v, expected_extents<view_type>(x), name_of<P>(i).optional,
                                                                      view_type::role.width != width::one);
  });
  return x;
}

template <class P>
const limit* limit_of(std::string_view name) {
  if constexpr (requires { P::limits; })
    for (const limit& l : P::limits)
      if (l.name == name) return &l;
  return nullptr;
}

}  // namespace detail

// Throws errc::value naming the first tensor with a NaN, an infinity (gates may be -inf: a decay that forgets all), or a
// number outside the policy's limits; then for a log-decay above 0, as the policy's maps compute it. Shapes are checked too.
// Reads every element once, per-channel decays a second time.
template <class P, class T, class S>
void run_validate(const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in) {
  using R = accumulate_t<T>;
  const recurrence_extents x = detail::extents_of_inputs<P, T>(in, P::axes.micro_steps ? mixer.micro_steps : 1);
  for_each_member(in, [&](const auto& v, auto i) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    const std::string_view name = name_of<P>(i).text;
    const limit* const l = detail::limit_of<P>(name);
    detail::each_element(static_cast<const typename view_type::base&>(v), [&](const auto& element, const auto& at) {
      const R e = static_cast<R>(element);
      const bool finite = std::isfinite(e) || (view_type::role.wide && e < 0 && std::isinf(e));
      require(finite, errc::value, name, ": expected ", view_type::role.wide ? "numbers or -inf" : "finite numbers", ", got ", e, " at ", check::list(at));
      if (l) require(e >= l->low && e <= l->high, errc::value, name, ": expected ", l->low, " to ", l->high, ", got ", e, " at ", check::list(at));
    });
  });
  if constexpr (P::axes.decay != decay::none) {
    P policy = mixer.policy;
    if constexpr (requires { policy.bind(in); }) policy.bind(in);
    constexpr bool constant = P::axes.decay == decay::per_head;
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
