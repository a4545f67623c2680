#pragma once
#include "tensor.hpp"

#include "device_run.cuh"

namespace contract {

template <class M>
void run_tensor_on_device(const M& mixer, int slice, index segments, const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out,
                          std::span<const index> cu) {
  using P = typename M::policy_type;
  using T = typename M::storage_type;
  const auto x = weft::check_recurrence(mixer, in, state, out, cu);
  with_device_memory<M>(in, state, out, [&](weft::cuda& gpu, const typename M::inputs& views, auto& there, const typename M::outputs& to) {
    if (!weft::device::tensor_takes<P, T, float>(gpu, x, views, to)) throw std::logic_error("the tensor-core schedule does not take the call");
    weft::device::run_tensor(gpu, mixer, x, slice, segments, views, there, to, cu);
  });
}

#define WEFT_ON_TENSOR_CORES(...)                                                                                       \
  template void run_tensor_on_device<__VA_ARGS__>(const __VA_ARGS__&, int, index, const typename __VA_ARGS__::inputs&, typename __VA_ARGS__::state_type&, \
                                                  const typename __VA_ARGS__::outputs&, std::span<const index>)

}  // namespace contract
