// Calls on tensors of the host by kernels: the tensors go to the device as they lie (strides, gaps, overlaps), and back.
#pragma once
#include <vector>

#include <weft/core/check.hpp>
#include <weft/cuda.hpp>

namespace ops {

using weft::index;

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

// call(executor, inputs, state, outputs) with copies of host memory on the device, and back.
template <class M, class Call>
void with_device_memory(weft::cuda& gpu, const typename M::inputs& in, typename M::state_type& state, const typename M::outputs& out, Call&& call) {
  auto there = weft::copy(gpu, state);
  mirror memory;
  weft::for_each_member(in, [&](const auto& view, auto) { memory.cover(view); });
  out.o.visit([&](const auto& view) { memory.cover(view); });
  if constexpr (requires { out.lse; }) memory.cover(out.lse);
  memory.upload(gpu.stream());
  typename M::inputs views = in;
  weft::for_each_member(views, [&](auto& view, auto) { view.data = memory.there(view.data); });
  typename M::outputs to = out;
  to.o.data = memory.there(static_cast<std::byte*>(to.o.data));
  if constexpr (requires { out.lse; }) to.lse.data = memory.there(to.lse.data);
  call(gpu, views, there, to);
  memory.download(gpu.stream());
  weft::cpu host;
  state = weft::copy(host, there);
}

}  // namespace ops
