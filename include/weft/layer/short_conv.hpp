// The short convolution on the CPU.
#pragma once
#include "../backend/cpu/short_conv.hpp"
#include "activation.hpp"
#include "short_conv_mixer.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <storage T>
void run_scan(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
              const typename short_conv<T>::outputs& out, std::span<const index> cu) {
  detail::check_conv(mixer, in, state, out, cu);
  out.o.visit([&](const auto& o) {
    with_activation(mixer.activation, [&](auto act) {
      convolve(executor, in.x, in.weight, in.bias, state.inputs.view(), o, cu, [act](const auto& y) { return activated<act()>(y); });
    });
  });
}

template <storage T>
void run_step(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
              const typename short_conv<T>::outputs& out) {
  require(in.x.extent[1] == 1, errc::shape, "x: expected one token a sequence, got ", in.x.extent[1]);
  run_scan(executor, mixer, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
