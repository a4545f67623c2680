// Rotary position embedding on a GPU; as rotary.hpp.
#pragma once
#include "../backend/cuda/rotary.hpp"
#include "rotary_check.hpp"

namespace weft {
inline namespace WEFT_ISA {

// The frequencies are the host's, all else lies on the device.
template <class R>
void rotary_angles(cuda& executor, view<const std::int64_t, 2> positions, std::span<const double> frequencies, view<R, 3> cos, view<R, 3> sin, double factor = 1.0) {
  detail::check_rotary_angles(positions, static_cast<index>(frequencies.size()), cos, sin);
  device::turn_positions(executor, positions, frequencies, cos, sin, factor);
}

template <storage T>
void rotary(cuda& executor, std::type_identity_t<view<const T, 4>> x, std::type_identity_t<view<const accumulate_t<T>, 3>> cos,
            std::type_identity_t<view<const accumulate_t<T>, 3>> sin, const std::type_identity_t<output<T, 4>>& out, bool interleaved = false) {
  detail::check_rotary<T>(x, cos, sin, out);
  out.visit([&](const auto& o) { device::turn_pairs<T>(executor, x, cos, sin, o, interleaved); });
}

}  // namespace WEFT_ISA
}  // namespace weft
