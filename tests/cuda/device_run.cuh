#pragma once
#include <stdexcept>

#include "../../examples/support/cuda/memory.cuh"
#include "device_run.hpp"

namespace contract {

// An executor on a stream of this thread.
inline weft::cuda& thread_executor() {
  static thread_local weft::cuda gpu([] {
    cudaStream_t stream = nullptr;
    weft::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }());
  return gpu;
}

template <class M, class Call>
void with_device_memory(const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out, Call&& call) {
  ops::with_device_memory<M>(thread_executor(), in, state, out, call);
}

// As the verbs check it.
template <class P, class T, class S>
auto check_call(const weft::recurrence<P, T, S>& mixer, const auto& in, const auto& state, const auto& out, std::span<const index> cu) {
  return weft::check_recurrence(mixer, in, state, out, cu);
}
template <class T, class Selector>
auto check_call(const weft::attention<T, Selector>& mixer, const auto& in, const auto& state, const auto& out, std::span<const index> cu) {
  return weft::check_attention(mixer, in, state, out, cu);
}

template <class M>
void run_on_device(verb v, const M& mixer, const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out,
                   std::span<const index> cu) {
  const auto call = [&](weft::cuda& gpu, const typename M::inputs& views, auto& there, const typename M::outputs& to) {
    v == verb::scan ? weft::scan(gpu, mixer, views, there, to, cu) : weft::step(gpu, mixer, views, there, to);
  };
  try {
    const auto x = check_call(mixer, in, state, out, v == verb::step ? std::span<const index>{} : cu);
    weft::require(v != verb::step || x.time == 1 || x.batch == 0, weft::errc::shape, "a step of several tokens");
  } catch (const weft::error&) {
    auto there = weft::copy(thread_executor(), state);
    call(thread_executor(), in, there, out);  // refused before anything is launched, or this is no device memory
    throw std::logic_error("a wrong call passed");
  }
  with_device_memory<M>(in, state, out, call);
}

#define WEFT_ON_DEVICE(...)                                                                                               \
  template void run_on_device<__VA_ARGS__>(verb, const __VA_ARGS__&, const typename __VA_ARGS__::inputs&, typename __VA_ARGS__::state_type&, \
                                           const typename __VA_ARGS__::outputs&, std::span<const index>)

}  // namespace contract
