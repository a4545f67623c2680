// The activations that layers apply, and the products with a gate.
#pragma once
#include <type_traits>

#include "../math/functions.hpp"
#include "../backend/cpu/elementwise.hpp"

namespace weft {
inline namespace v1 {

enum class activation { none, silu, sigmoid };

// Forward only: e^-x may overflow, and the quotient is then 0, as it should be; a derivative would need the longer form.
template <activation A, class R>
WEFT_INLINE R activated(const R& x) {
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

inline namespace WEFT_ISA {

// y = act(x), both [batch, time, channels]; y may be x. Throws errc::shape.
template <storage T>
void activate(cpu& executor, std::type_identity_t<view<T, 3>> x, activation act, std::type_identity_t<view<T, 3>> y) {
  check::tensor("y", y, x.extent, false, true);
  with_activation(act, [&](auto a) {
    for_rows(executor, {x.extent[0], x.extent[1], 1}, x.extent[2], [&](index b, index t, index) {
      for_lanes<accumulate_t<T>>(x.extent[2], [&](index c, auto lane) { put(&y(b, t, c), activated<a()>(get(&x(b, t, c), lane)), lane); });
    });
  });
}

// y = x * act(z), all [batch, time, channels]; y may be x or z. Throws errc::shape.
template <storage T>
void multiply(cpu& executor, std::type_identity_t<view<const T, 3>> x, std::type_identity_t<view<const T, 3>> z, activation act,
              std::type_identity_t<view<T, 3>> y) {
  check::tensor("z", z, x.extent, false, true);
  check::tensor("y", y, x.extent, false, true);
  with_activation(act, [&](auto a) {
    for_rows(executor, {x.extent[0], x.extent[1], 1}, x.extent[2], [&](index b, index t, index) {
      for_lanes<accumulate_t<T>>(x.extent[2], [&](index c, auto lane) {
        put(&y(b, t, c), get(&x(b, t, c), lane) * activated<a()>(get(&z(b, t, c), lane)), lane);
      });
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
