// The activations that layers apply, and the products with a gate.
#pragma once
#include "../math/activation.hpp"
#include "../backend/cpu/elementwise.hpp"

namespace weft {
inline namespace WEFT_ISA {

// y = act(x), both [batch, time, channels]; y may be x. Throws errc::shape, errc::missing, errc::overlap.
template <storage T>
void activate(cpu& executor, std::type_identity_t<view<T, 3>> x, activation act, std::type_identity_t<view<T, 3>> y) {
  check::tensor("x", x, x.extent, false, true);
  check::result("y", y, x.extent, false, true);
  check::apart({{"y", y}}, {}, {{"x", x}});
  with_activation(act, [&](auto a) {
    for_rows(executor, {x.extent[0], x.extent[1], 1}, x.extent[2], [&](index b, index t, index) {
      for_lanes<accumulate_t<T>>(x.extent[2], [&](index c, auto lane) { put(&y(b, t, c), activated<a()>(get(&x(b, t, c), lane)), lane); });
    });
  });
}

// y = x * act(z), all [batch, time, channels]; y may be x or z. Throws errc::shape, errc::missing, errc::overlap.
template <storage T>
void multiply(cpu& executor, std::type_identity_t<view<const T, 3>> x, std::type_identity_t<view<const T, 3>> z, activation act,
              std::type_identity_t<view<T, 3>> y) {
  check::tensor("x", x, x.extent, false, true);
  check::tensor("z", z, x.extent, false, true);
  check::result("y", y, x.extent, false, true);
  check::apart({{"y", y}}, {}, {{"x", x}, {"z", z}});
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
