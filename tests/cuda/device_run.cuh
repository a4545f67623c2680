#pragma once
#include <stdexcept>
#include <vector>

#include <weft/cuda.hpp>

#include "device_run.hpp"

namespace contract {

// Ranges of host memory and their copies on the device. Ranges that meet are one, so views that share memory here share it
// there.
class mirror {
 public:
  template <class T, int Rank>
  void cover(const weft::view<T, Rank>& v) {
    const weft::check::operand f({}, v);
    if (f.low == f.high) return;
    range fresh{f.low, f.high, nullptr};
    std::vector<range> apart;
    for (const range& r : ranges_)
      if (r.high < fresh.low || fresh.high < r.low) apart.push_back(r);
      else fresh.low = std::min(fresh.low, r.low), fresh.high = std::max(fresh.high, r.high);
    apart.push_back(fresh);
    ranges_ = std::move(apart);
  }
  void upload(cudaStream_t stream) {
    for (range& r : ranges_) {
      if (r.high > r.low) arrays_.emplace_back(stream, std::array<index, 1>{static_cast<index>(r.high - r.low) + 64});
      r.device = arrays_.back().data() + r.low % 64;  // as aligned as on the host
      weft::check_cuda(cudaMemcpyAsync(r.device, reinterpret_cast<const void*>(r.low), r.high - r.low, cudaMemcpyHostToDevice, stream), "upload");
    }
  }
  void download(cudaStream_t stream) const {
    for (const range& r : ranges_)
      weft::check_cuda(cudaMemcpyAsync(reinterpret_cast<void*>(r.low), r.device, r.high - r.low, cudaMemcpyDeviceToHost, stream), "download");
    weft::check_cuda(cudaStreamSynchronize(stream), "the call");
  }
  template <class P>
  P* there(P* host) const {
    const auto at = reinterpret_cast<std::uintptr_t>(host);
    for (const range& r : ranges_)
      if (r.low <= at && at < r.high) return reinterpret_cast<P*>(r.device + (at - r.low));
    return host;  // null, or without elements
  }

 private:
  struct range {
    std::uintptr_t low, high;
    std::byte* device;
  };
  std::vector<range> ranges_;
  std::vector<weft::device_array<std::byte, 1>> arrays_;
};

// An executor on a stream of this thread.
inline weft::cuda& thread_executor() {
  static thread_local weft::cuda gpu([] {
    cudaStream_t stream = nullptr;
    weft::check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }());
  return gpu;
}

// call(executor, inputs, state, outputs) with copies of host memory on the device, and back.
template <class M, class Call>
void with_device_memory(const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out, Call&& call) {
  weft::cuda& gpu = thread_executor();
  auto there = weft::copy(gpu, state);
  mirror memory;
  weft::for_each_member(in, [&](const auto& view, auto) { memory.cover(view); });
  out.o.visit([&](const auto& view) { memory.cover(view); });
  memory.upload(gpu.stream());
  typename M::inputs views = in;
  weft::for_each_member(views, [&](auto& view, auto) { view.data = memory.there(view.data); });
  typename M::outputs to = out;
  to.o.data = memory.there(static_cast<std::byte*>(to.o.data));
  call(gpu, views, there, to);
  memory.download(gpu.stream());
  weft::cpu host;
  state = weft::copy(host, there);
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
