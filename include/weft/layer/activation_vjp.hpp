// Gradients of the activations and of products with a gate. Gradients are in the accumulating type; a null view is one that
// is not wanted.
#pragma once
#include "activation.hpp"

namespace weft {
inline namespace v1 {

// The derivative of activated<A> at x.
template <activation A, class R>
WEFT_INLINE R activation_slope(const R& x) {
  if constexpr (A == activation::none) return R(1);
  else {
    const R s = weft::sigmoid(x);
    if constexpr (A == activation::sigmoid) return s * (R(1) - s);
    else return s * (R(1) + x * (R(1) - s));
  }
}

}  // namespace v1

inline namespace WEFT_ISA {

// Of y = act(x): d_x = d_y act'(x), all [batch, time, channels]; d_x may be d_y. Throws errc::shape, errc::missing, errc::overlap.
template <storage T>
void activate_vjp(cpu& executor, std::type_identity_t<view<const T, 3>> x, activation act, std::type_identity_t<view<const accumulate_t<T>, 3>> d_y,
                  std::type_identity_t<view<accumulate_t<T>, 3>> d_x) {
  check::tensor("x", x, x.extent, false, true);
  check::tensor("d_y", d_y, x.extent, false, true);
  check::result("d_x", d_x, x.extent, false, true);
  check::apart({{"d_x", d_x}}, {}, {{"x", x}, {"d_y", d_y}});
  with_activation(act, [&](auto a) {
    for_rows(executor, {x.extent[0], x.extent[1], 1}, x.extent[2], [&](index b, index t, index) {
      for_lanes<accumulate_t<T>>(x.extent[2], [&](index c, auto lane) {
        put(&d_x(b, t, c), get(&d_y(b, t, c), lane) * activation_slope<a()>(get(&x(b, t, c), lane)), lane);
      });
    });
  });
}

// Of y = x act(z): d_x = d_y act(z), d_z = d_y x act'(z), all [batch, time, channels]; one of them may be d_y. Throws errc::shape,
// errc::missing, errc::overlap.
template <storage T>
void multiply_vjp(cpu& executor, std::type_identity_t<view<const T, 3>> x, std::type_identity_t<view<const T, 3>> z, activation act,
                  std::type_identity_t<view<const accumulate_t<T>, 3>> d_y, std::type_identity_t<view<accumulate_t<T>, 3>> d_x,
                  std::type_identity_t<view<accumulate_t<T>, 3>> d_z) {
  check::tensor("x", x, x.extent, false, true);
  check::tensor("z", z, x.extent, false, true);
  check::tensor("d_y", d_y, x.extent, false, true);
  check::result("d_x", d_x, x.extent, true, true);
  check::result("d_z", d_z, x.extent, true, true);
  check::apart({{"d_x", d_x}, {"d_z", d_z}}, {}, {{"x", x}, {"z", z}, {"d_y", d_y}});
  with_activation(act, [&](auto a) {
    for_rows(executor, {x.extent[0], x.extent[1], 1}, x.extent[2], [&](index b, index t, index) {
      for_lanes<accumulate_t<T>>(x.extent[2], [&](index c, auto lane) {
        const auto d = get(&d_y(b, t, c), lane), gate = get(&z(b, t, c), lane), value = get(&x(b, t, c), lane);
        if (!d_x.null()) put(&d_x(b, t, c), d * activated<a()>(gate), lane);
        if (!d_z.null()) put(&d_z(b, t, c), d * value * activation_slope<a()>(gate), lane);
      });
    });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
