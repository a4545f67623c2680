// Activations by name.
#pragma once
#include <type_traits>

#include "functions.hpp"

namespace weft {
inline namespace v1 {

enum class activation { none, silu, sigmoid };

// Forward only: e^-x may overflow, and the quotient is then 0, as it should be; a derivative would need the longer form.
template <activation A, class R>
WEFT_INLINE constexpr R activated(const R& x) {
  if constexpr (A == activation::none) return x;
  else return (A == activation::silu ? x : R(1)) / (R(1) + weft::exp(-x));
}

// f(std::integral_constant<activation, ...>): the choice once a call, not once an element.
template <class F>
WEFT_INLINE void with_activation(activation a, F&& f) {
  switch (a) {
    case activation::none: return f(std::integral_constant<activation, activation::none>{});
    case activation::silu: return f(std::integral_constant<activation, activation::silu>{});
    case activation::sigmoid: return f(std::integral_constant<activation, activation::sigmoid>{});
  }
}

}  // namespace v1
}  // namespace weft
