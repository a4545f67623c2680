// The executor `cuda`: a stream of the current device, and the scratch memory that its calls share.
#pragma once
#include <memory>
#include <vector>

#include "../../core/executor.hpp"
#include "../../core/state.hpp"
#include "device_array.hpp"

namespace weft {
inline namespace v1 {

// Puts its work on the stream and returns: nothing here waits for the device. Inputs, outputs and states are device memory.
// The workspace grows to the largest call's need. Calls may be captured in a graph once it has grown: make the same call
// before the capture. What it outgrew stays until the executor goes, so that graphs captured before stay valid.
// One executor serves one stream; keep it as long as the graphs that were captured with it.
class cuda {
 public:
  explicit cuda(cudaStream_t stream = nullptr) : stream_(stream) {
    check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
    const auto ask = [&](cudaDeviceAttr what) {
      int value = 0;
      check_cuda(cudaDeviceGetAttribute(&value, what, device_), "cudaDeviceGetAttribute");
      return value;
    };
    multiprocessors_ = ask(cudaDevAttrMultiProcessorCount);
    capability_ = 10 * ask(cudaDevAttrComputeCapabilityMajor) + ask(cudaDevAttrComputeCapabilityMinor);
    require(capability_ >= 80, errc::unsupported, "cuda: expected a device of compute capability 8.0 or later, got ", capability_ / 10, ".", capability_ % 10);
  }

  cudaStream_t stream() const { return stream_; }
  int device() const { return device_; }
  int multiprocessors() const { return multiprocessors_; }
  int capability() const { return capability_; }  // 90 for 9.0
  void synchronize() const { check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

  // At least so many bytes, for one call at a time. Throws errc::device where it must grow while the stream is captured.
  std::byte* workspace(std::size_t bytes) {
    if (bytes > room_) {
      cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
      check_cuda(cudaStreamIsCapturing(stream_, &status), "cudaStreamIsCapturing");
      require(status == cudaStreamCaptureStatusNone, errc::device, "cuda: the workspace cannot grow to ", bytes,
              " bytes during a capture: make the call once before");
      void* fresh = nullptr;
      check_cuda(cudaMalloc(&fresh, bytes), "cudaMalloc of a workspace of ", bytes, " bytes");
      blocks_.emplace_back(static_cast<std::byte*>(fresh));
      room_ = bytes;
    }
    return blocks_.empty() ? nullptr : blocks_.back().get();
  }

 private:
  struct device_free {
    void operator()(std::byte* p) const { cudaFree(p); }
  };

  cudaStream_t stream_;
  int device_ = 0, multiprocessors_ = 0, capability_ = 0;
  std::vector<std::unique_ptr<std::byte, device_free>> blocks_;
  std::size_t room_ = 0;
};

// A state where the arrays of S lie on the device.
template <class S>
using on_device = typename S::template with<device_array>;
template <class S>
using on_host = typename S::template with<array>;
template <class S>
concept movable_state = state<S> && requires { typename on_device<S>; };

// copy(executor, x): x where the executor works. To the device it is ordered on the executor's stream; to the host it waits
// for the stream that x was made for.
template <class T, int Rank>
device_array<T, Rank> copy(cuda& to, const array<T, Rank>& from) {
  if (from.null()) return {};
  device_array<T, Rank> out(to.stream(), from.extent());
  out.upload(from.data());
  return out;
}
template <class T, int Rank>
array<T, Rank> copy(cpu&, const device_array<T, Rank>& from) {
  if (from.null()) return {};
  array<T, Rank> out(from.extent());
  from.download(out.data());
  return out;
}
template <movable_state S>
  requires std::same_as<S, on_host<S>>
on_device<S> copy(cuda& to, const S& from) {
  on_device<S> out;
  for_each_part(from, out, [&](const auto& a, const auto& b) { b.data = copy(to, a.data); });
  if constexpr (requires { out.came_from(from); }) out.came_from(from);
  return out;
}
template <movable_state S>
  requires std::same_as<S, on_device<S>>
on_host<S> copy(cpu& to, const S& from) {
  on_host<S> out;
  for_each_part(from, out, [&](const auto& a, const auto& b) { b.data = copy(to, a.data); });
  return out;
}

}  // namespace v1
}  // namespace weft
