// What vjp starts from where nothing reads the state after a scan.
#pragma once
#include "verbs.hpp"

namespace weft {
inline namespace v1 {

namespace detail {

// Of the same parts, in their order; those that the state lacks are null.
template <class G, class S>
WEFT_INLINE void make_zeros(G& zeros, const S& of) {
  if constexpr (requires { of.parts(); }) for_each_part(zeros, of, [](const auto& to, const auto& from) { make_zeros(to.data, from.data); });
  else if (!of.null()) zeros = G(of.extent());
}

}  // namespace detail

// Zeros of the extents that a gradient G of this state has. G is made from a state, or has a state's parts.
template <class G, class S>
WEFT_INLINE G zero_gradient(const S& of) {
  if constexpr (!std::same_as<G, S> && std::constructible_from<G, const S&>) {
    return G(of);
  } else {
    G zeros;
    detail::make_zeros(zeros, of);
    return zeros;
  }
}

// auto d_state = weft::zero_state_gradient(mixer, state);
template <class M>
WEFT_INLINE state_gradient_t<M> zero_state_gradient(const M&, const state_t<M>& of) {
  return zero_gradient<state_gradient_t<M>>(of);
}

}  // namespace v1
}  // namespace weft
