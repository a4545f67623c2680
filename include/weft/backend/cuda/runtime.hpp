// Calls of the CUDA runtime. A failure is a weft::error with errc::device that names the call, or the kernel.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/view.hpp"

#if defined(__CUDACC__) && !defined(__CUDACC_RELAXED_CONSTEXPR__)
#error "weft: compile for the GPU with --expt-relaxed-constexpr: views use constexpr functions of the standard library on the device"
#endif

namespace weft {
inline namespace WEFT_ISA {

template <class... Parts>
void check_cuda(cudaError_t result, const Parts&... call) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // an error that is no fault of the device is told once
  fail(errc::device, call..., ": ", cudaGetErrorString(result), " (", cudaGetErrorName(result), ")");
}

// Puts a kernel on a stream; a grid of no blocks is no work. What an earlier kernel did may come to light here.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), index blocks, int threads, std::size_t shared_bytes, cudaStream_t stream,
            Arguments&&... arguments) {
  if (blocks == 0) return;
  require(blocks > 0 && blocks < (index{1} << 31), errc::device, "kernel ", name, ": expected fewer than 2^31 blocks, got ", blocks);
  if (shared_bytes > 48 * 1024)
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
               "kernel ", name, ": ", shared_bytes, " bytes of shared memory");
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), "kernel ", name, ": launch of ", blocks, " blocks of ", threads, " threads");
}

}  // namespace WEFT_ISA
}  // namespace weft
