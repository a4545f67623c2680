// Gradients of the short convolution: a scan that keeps the state it started from, and vjp.
#pragma once
#include <array>
#include <vector>

#include "../backend/cpu/short_conv_vjp.hpp"
#include "activation_vjp.hpp"
#include "short_conv.hpp"

namespace weft {
inline namespace v1 {

template <storage T>
struct conv_record {
  std::array<index, 4> extents{};  // batch, time, channels, taps
  std::vector<index> cu_seqlens;
  conv_state<T> start;

  std::size_t bytes() const { return state_bytes(start); }
};

}  // namespace v1

inline namespace WEFT_ISA {

template <storage T>
void run_record(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, conv_state<T>& state,
                const typename short_conv<T>::outputs& out, tape& tape, std::span<const index> cu) {
  const detail::conv_extents e = detail::check_conv(mixer, in, state, out, cu);
  auto& record = tape.fill<conv_record<T>>();
  record.extents.fill(-1);  // refused by vjp until it is whole
  keep(record.start, state);
  record.cu_seqlens.assign(cu.begin(), cu.end());
  run_scan(executor, mixer, in, state, out, cu);
  record.extents = {in.x.extent[0], e.time, e.channels, e.taps};
}

// O(T D W); the same bits for any number of workers. The state's gradient alone is O(N D W^2).
template <storage T>
void run_vjp(cpu& executor, const short_conv<T>& mixer, const typename short_conv<T>::inputs& in, const tape& tape,
             const typename short_conv<T>::cotangents& d_out, conv_state<accumulate_t<T>>& d_state, const typename short_conv<T>::gradients& d_in) {
  const auto& record = tape.read<conv_record<T>>();
  std::array extents = record.extents;  // as the inputs say that they are
  if (!in.x.null()) extents[0] = in.x.extent[0], extents[1] = in.x.extent[1];
  if (!in.weight.null()) extents[2] = in.weight.extent[0];
  extents[3] = mixer.taps;
  require(record.extents == extents, errc::value, "tape: expected one of a scan over ", check::list(extents), " (batch, time, channels, taps), got ",
          check::list(record.extents));
  const index channels = extents[2];
  check::tensor("weight", in.weight, {channels, mixer.taps}, false, true);
  check::tensor("bias", in.bias, {channels}, true, true);
  check::tensor("x", in.x, {extents[0], extents[1], channels}, false, true);
  check::tensor("d_state.inputs", d_state.inputs.view(), record.start.inputs.extent(), false, true);
  check::tensor(check::operand("d_o", d_out.o.place()), in.x.extent, true, true);
  require(d_in.bias.null() || !in.bias.null(), errc::missing, "d_bias: expected a null view beside an absent input");
  const check::operand d_x("d_x", d_in.x), d_weight("d_weight", d_in.weight), d_bias("d_bias", d_in.bias);
  check::result(d_x, in.x.extent, true, true);
  check::result(d_weight, in.weight.extent, true, false);
  check::result(d_bias, std::array{channels}, true, false);
  check::apart({{"d_state.inputs", d_state.inputs.view()}, d_x, d_weight, d_bias},
               {{"x", in.x}, {"weight", in.weight}, {"bias", in.bias}, {"d_o", d_out.o.place()}});
  with_activation(mixer.activation, [&](auto act) {
    convolve_vjp<T>(executor, in.x, in.weight, in.bias, record.start.inputs.view(), d_out.o,
                    {.x = d_in.x, .weight = d_in.weight, .bias = d_in.bias, .kept = d_state.inputs.view()}, record.cu_seqlens,
                    [act](const auto& y) { return activation_slope<act()>(y); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
