// How requests are answered on the device.
#pragma once
#include "../device.hpp"
#include "memory.cuh"

namespace ops {

weft::cuda& device();

template <class Mixer>
void answer(const mixer_request<Mixer>& r) {
  with_device_memory<Mixer>(device(), r.in, r.state, r.out, [&](weft::cuda& gpu, const auto& in, auto& state, const auto& out) {
    if (r.step) weft::step(gpu, r.mixer, in, state, out);
    else weft::scan(gpu, r.mixer, in, state, out, r.cu);
  });
}

template <class Request>
device_answer row() {
  return {typeid(Request), [](const void* r) { answer(*static_cast<const Request*>(r)); }};
}
template <class... Mixers>
std::vector<device_answer> mixer_rows() {
  return {row<mixer_request<Mixers>>()...};
}

// The tables, each in a file of its own.
std::vector<device_answer> linear_answers();
std::vector<device_answer> delta_answers();
std::vector<device_answer> low_rank_answers();
std::vector<device_answer> attention_answers();
std::vector<device_answer> layer_answers();

}  // namespace ops
