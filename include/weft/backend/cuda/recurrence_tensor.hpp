// The tensor-core schedule's kernel, and which calls it takes.
#pragma once
#include <optional>

#include "executor.hpp"
#include "recurrence_chain.hpp"
#include "recurrence_prepare_channels.hpp"
#include "recurrence_prepare_tokens.hpp"
#include "tensor_map.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// The tuning comes as numbers: nvcc 13 cannot name a kernel by a value of a class.
template <class P, class T, int K, int Slice, int Rows, int Groups>
__global__ void __launch_bounds__(tensor_tuning{.slice = Slice, .chain_rows = Rows, .prepare_groups = Groups}.threads(), 1)
    tensor_scan(const __grid_constant__ tensor_job<P, T> job, const __grid_constant__ tensor_maps maps) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  constexpr tensor_tuning X{.slice = Slice, .chain_rows = Rows, .prepare_groups = Groups};
  extern __shared__ __align__(1024) unsigned char tensor_memory[];
  const tensor_block<P, T, K, X> block(job, tensor_memory);
  if (block.tokens <= 0) return;
  block.init_barriers();
  const int warp = static_cast<int>(threadIdx.x / 32);
  using prepare = std::conditional_t<P::axes.decay == decay::per_channel, prepare_channels<P, T, K, X>, prepare_tokens<P, T, K, X>>;
  if (warp < X.prepare_warps()) prepare(job, maps, block, warp).run();
  else chain_warp<P, T, K, X>(job, block, warp - X.prepare_warps()).run();
#endif
}

// 64 columns a block where 128 would leave multiprocessors without work.
inline tensor_tuning tensor_tuning_for(const cuda& executor, const recurrence_extents& x) {
  tensor_tuning t;
  if (x.value_dim % 128 != 0 || x.key_dim == 64 || x.sequences * x.value_heads * (x.value_dim / 128) * 2 <= executor.multiprocessors()) t.slice = 64;
  return t;
}

template <class P, class T, class S>
constexpr bool tensor_types() {
  if constexpr ((std::is_same_v<T, bf16> || std::is_same_v<T, fp16>) && std::is_same_v<S, float>) return scaled_tiles<P>();
  else return false;
}

// Whether the engine takes the call: sm_90, keys and values of 64 or 128, tensors that the copy engine reaches, and
// sequences long enough that it pays.
template <class P, class T, class S>
bool tensor_takes(const cuda& executor, const recurrence_extents& x, const typename recurrence<P, T, S>::inputs& in,
                  const typename recurrence<P, T, S>::outputs& out) {
  const auto fits = [](index d) { return d == 64 || d == 128; };
  if (executor.capability() != 90 || !fits(x.key_dim) || !fits(x.value_dim) || out.o.wide || x.time < 16) return false;
  if (x.time >= index{1} << 31 || x.value_heads * 2 >= index{1} << 31) return false;
  bool mapped = can_map(out.o.narrow_view());
  for_each_member(in, [&](const auto& v, auto) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    if constexpr (view_type::rank == 4) mapped = mapped && can_map(static_cast<const typename view_type::base&>(v));
  });
  return mapped;
}

template <class P, class T, int K, tensor_tuning X>
void launch_tensor(cuda& executor, const recurrence_extents& x, const tensor_job<P, T>& job, const tensor_maps& maps) {
  launch("tensor_scan", tensor_scan<P, T, K, X.slice, X.chain_rows, X.prepare_groups>, x.sequences * x.value_heads * (x.value_dim / X.slice), X.threads(),
         static_cast<std::size_t>(tensor_layout<P, K, X>::bytes), executor.stream(), job, maps);
}

// `in` has no view that another block's output overwrites.
template <class P, class T, class S>
void run_tensor(cuda& executor, const recurrence<P, T, S>& mixer, const recurrence_extents& x, const tensor_tuning& tuning,
                const typename recurrence<P, T, S>::inputs& in, recurrent_state<S, device_array>& state, const typename recurrence<P, T, S>::outputs& out,
                const index* offsets) {
  constexpr structure form = structure_of<P>();
  tensor_job<P, T> job{.in = in,
                       .policy = mixer.policy,
                       .x = extents_of<float>(x, mixer),
                       .matrix = state.matrix.data(),
                       .o = static_cast<T*>(out.o.data),
                       .o_stride = {out.o.stride[0], out.o.stride[1], out.o.stride[2]},
                       .offsets = offsets};
  const auto map_of = [&](const auto& v, std::size_t i) { return map_rows(name_of<P>(i).text.data(), view<const T, 4>(v.data, v.extent, v.stride), 32); };
  auto members = tie_members(job.in);
  tensor_maps maps{.o = map_rows("o", out.o.narrow_view(), 32)};
  maps.q = map_of(std::get<form.q>(members), form.q), maps.v = map_of(std::get<form.z>(members), form.z);
  if constexpr (form.k >= 0) maps.k = map_of(std::get<form.k>(members), form.k);
  if constexpr (form.c >= 0) maps.c = map_of(std::get<form.c>(members), form.c);
  if constexpr (form.g >= 0) {
    const auto& g = std::get<form.g>(members);
    maps.g = map_rows(name_of<P>(form.g).text.data(), view<const float, 4>(g.data, g.extent, g.stride), 32);
  }
  constexpr tensor_tuning narrow{.slice = 64}, wide{};
  if (x.key_dim == 64) launch_tensor<P, T, 64, narrow>(executor, x, job, maps);
  else if (tuning.slice == 64) launch_tensor<P, T, 128, narrow>(executor, x, job, maps);
  else launch_tensor<P, T, 128, wide>(executor, x, job, maps);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
