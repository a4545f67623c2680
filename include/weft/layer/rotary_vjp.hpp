// The gradient of a rotation: its transpose, which turns back.
#pragma once
#include "rotary.hpp"

namespace weft {
inline namespace WEFT_ISA {

// d_o and d_x [B, T, H, D]; cos, sin and `interleaved` as rotary had them. d_x may be d_o. Throws as rotary.
template <storage T>
void rotary_vjp(cpu& executor, std::type_identity_t<view<const T, 4>> d_o, std::type_identity_t<view<const accumulate_t<T>, 3>> cos,
                std::type_identity_t<view<const accumulate_t<T>, 3>> sin, const std::type_identity_t<output<T, 4>>& d_x, bool interleaved = false) {
  using R = accumulate_t<T>;
  detail::check_rotary<T>(d_o, cos, sin, d_x, "d_o", "d_x");
  temporaries::scope memory(executor.temporaries());
  const auto back = memory.take<R>(sin.extent[0], sin.extent[1], sin.extent[2]);
  for_rows(executor, {sin.extent[0], sin.extent[1], 1}, sin.extent[2], [&](index b, index t, index) {
    for_lanes<R>(sin.extent[2], [&](index i, auto lane) { put(&back(b, t, i), -get(&sin(b, t, i), lane), lane); });
  });
  rotary<T>(executor, d_o, cos, back, d_x, interleaved);
}

}  // namespace WEFT_ISA
}  // namespace weft
