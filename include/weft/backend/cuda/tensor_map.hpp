// Maps for the copy engine: how a strided view [batch, time, heads, dim] is cut into boxes.
#pragma once
#include <cuda.h>

#include "../../core/dtype.hpp"
#include "runtime.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Whether the copy engine can reach the view: 16-byte aligned rows, strides between 0 and 2^40 bytes.
template <class T>
bool can_map(const view<T, 4>& v) {
  const auto aligned = [](index bytes) { return bytes % 16 == 0; };
  if (!aligned(static_cast<index>(reinterpret_cast<std::uintptr_t>(v.data)))) return false;
  for (int d = 0; d < 3; ++d) {
    const index bytes = v.stride[static_cast<std::size_t>(d)] * static_cast<index>(sizeof(T));
    if (v.extent[static_cast<std::size_t>(d)] > 1 && (!aligned(bytes) || bytes <= 0 || bytes >= index{1} << 40)) return false;
  }
  return v.extent[0] < index{1} << 31 && v.extent[1] < index{1} << 31;
}

// Boxes of `rows` tokens of one head, 128 bytes of columns each, 128-byte swizzle. Coordinates: column, head, token, batch.
template <class T>
CUtensorMap map_rows(const char* name, const view<T, 4>& v, int rows) {
  static const auto encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found), "cudaGetDriverEntryPointByVersion");
    require(entry != nullptr, errc::device, "cuTensorMapEncodeTiled: expected a driver that has it");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  const auto bytes = [&](std::size_t d) {  // a stride that is never used must still be a legal one
    return v.extent[d] > 1 ? static_cast<cuuint64_t>(v.stride[d]) * sizeof(T) : cuuint64_t{16};
  };
  const cuuint64_t extents[] = {static_cast<cuuint64_t>(v.extent[3]), static_cast<cuuint64_t>(v.extent[2]), static_cast<cuuint64_t>(v.extent[1]),
                                static_cast<cuuint64_t>(v.extent[0])};
  const cuuint64_t strides[] = {bytes(2), bytes(1), bytes(0)};
  const cuuint32_t box[] = {128 / sizeof(T), 1, static_cast<cuuint32_t>(rows), 1}, steps[] = {1, 1, 1, 1};
  using element = std::remove_const_t<T>;
  const auto type = std::is_same_v<element, float> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : std::is_same_v<element, bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  CUtensorMap map;
  const CUresult result = encode(&map, type, 4, const_cast<void*>(static_cast<const void*>(v.data)), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, errc::device, "cuTensorMapEncodeTiled of ", name, ": error ", static_cast<int>(result));
  return map;
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
