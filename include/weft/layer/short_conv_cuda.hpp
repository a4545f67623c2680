// The short convolution on a GPU.
#pragma once
#include "../backend/cuda/short_conv.hpp"
#include "short_conv_mixer.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T>
void run_scan(cuda& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T, device_array>& state,
              const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  detail::check_conv(mixer, in, state, out, cu);
  out.o.visit([&](const auto& o) { device::convolve(executor, in.x, in.weight, in.bias, state.inputs.view(), o, cu, mixer.activation); });
}

template <storage T>
void run_step(cuda& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T, device_array>& state,
              const typename short_conv<T>::outputs& out) {
  require(in.x.extent[1] == 1, errc::shape, "x: expected one token a sequence, got ", in.x.extent[1]);
  run_scan(executor, mixer, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
