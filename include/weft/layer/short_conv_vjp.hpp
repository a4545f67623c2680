// Gradients of the short convolution: a scan that keeps the state it started from, and vjp.
#pragma once
#include <array>
#include <string_view>
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
  const index channels = in.weight.extent[0];
  const std::array extents{in.x.extent[0], in.x.extent[1], channels, mixer.taps};
  require(record.extents == extents, errc::value, "tape: expected one of a scan over ", check::list(extents), " (batch, time, channels, taps), got ",
          check::list(record.extents));
  check::tensor("weight", in.weight, {channels, mixer.taps}, false, true);
  check::tensor("bias", in.bias, {channels}, true, true);
  check::tensor("x", in.x, {extents[0], extents[1], channels}, false, true);
  check::tensor("d_state.inputs", d_state.inputs.view(), record.start.inputs.extent(), false, true);
  d_out.o.visit([&](const auto& o) { check::tensor("d_o", o, in.x.extent, true, true); });
  require(d_in.bias.null() || !in.bias.null(), errc::missing, "d_bias: expected a null view beside an absent input");
  check::gradient_places places;
  places.write(check::operand("d_state.inputs", d_state.inputs.view()));
  for (const check::operand& v : {check::operand("x", in.x), check::operand("weight", in.weight), check::operand("bias", in.bias)}) places.read(v);
  d_out.o.visit([&](const auto& o) { places.read(check::operand("d_o", o)); });
  const auto place = [&](std::string_view name, const auto& gradient, const auto& extent, bool unit_last) {
    gradient.visit([&](const auto& v) {
      check::result(name, v, extent, true, unit_last);
      places.write(check::operand(name, v));
    });
  };
  place("d_x", d_in.x, in.x.extent, true);
  place("d_weight", d_in.weight, in.weight.extent, false);
  place("d_bias", d_in.bias, std::array{channels}, false);
  with_activation(mixer.activation, [&](auto act) {
    convolve_vjp<T>(executor, in.x, in.weight, in.bias, record.start.inputs.view(), d_out.o,
                    {.x = d_in.x, .weight = d_in.weight, .bias = d_in.bias, .kept = d_state.inputs.view()}, record.cu_seqlens,
                    [act](const auto& y) { return activation_slope<act()>(y); });
  });
}

}  // namespace WEFT_ISA
}  // namespace weft
