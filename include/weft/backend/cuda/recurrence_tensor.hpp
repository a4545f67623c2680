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
template <class P, class T, int K, int Slice, int Rows, int Groups, int Micro>
__global__ void __launch_bounds__(tensor_tuning{.slice = Slice, .chain_rows = Rows, .prepare_groups = Groups}.threads(), 1)
    tensor_scan(const __grid_constant__ tensor_job<P, T> job, const __grid_constant__ tensor_maps maps) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  constexpr tensor_tuning X{.slice = Slice, .chain_rows = Rows, .prepare_groups = Groups, .micro = Micro};
  extern __shared__ __align__(1024) unsigned char tensor_memory[];
  const tensor_block<P, T, K, X> place(job, tensor_memory);
  if (place.tokens <= 0) return;
  const int warp = static_cast<int>(threadIdx.x / 32);
  using prepare = std::conditional_t<P::axes.decay == decay::per_channel, prepare_channels<P, T, K, X>, prepare_tokens<P, T, K, X>>;
  // What is not finite stays in the state. Only where that shows does the block scan once more, and its prepare warps look at what comes then.
  bool again = true;
#pragma unroll 1
  for (bool watch = job.watch; again; watch = true) {
    tensor_block<P, T, K, X> block = place;
    ptx::pin(block.base), ptx::pin(block.swizzled.lane);  // else what follows from them is made before the loop, and fills registers
    block.init_barriers();
    if (warp < X.prepare_warps()) {
      prepare(job, maps, block, warp, watch).run();
      again = block.any_of_threads(false);
      if (again) ptx::stores_done();
    } else {
      chain_warp<P, T, K, X> chain(job, block, warp - X.prepare_warps());
      chain.run();
      again = block.any_of_threads(!watch && !chain.finite());
      if (!again) chain.store_state();
    }
    if (again) block.end_barriers();
  }
#endif
}

// The schedules. Where blocks of 128 columns would leave multiprocessors without work: narrow, and thin, but not where every
// slice would visit the channels again, which takes longer than the chain.
constexpr tensor_tuning wide_tuning() { return {}; }
constexpr tensor_tuning narrow_tuning() { return {.slice = 64, .chain_rows = 16}; }
template <class P>
constexpr tensor_tuning thin_tuning() {
  if (P::axes.decay == decay::per_channel) return narrow_tuning();
  constexpr tensor_tuning three{.slice = 32, .chain_rows = 16, .prepare_groups = 3};
  return tensor_layout<P, 128, three>::fits ? three : tensor_tuning{.slice = 32, .chain_rows = 16};
}

template <class P>
int tensor_slice(const cuda& executor, const recurrence_extents& x) {
  const auto fits = [&](int slice) { return x.sequences * x.value_heads * (x.value_dim / slice) <= executor.multiprocessors(); };
  if (x.key_dim == 64) return 64;
  constexpr int thin = thin_tuning<P>().slice;
  return fits(thin) ? thin : x.value_dim == 64 || fits(64) || !tensor_layout<P, 128, wide_tuning()>::fits ? 64 : 128;
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
  if (x.micro > 2 || (x.key_dim == 128 && !tensor_layout<P, 128, narrow_tuning()>::fits)) return false;
  if (x.time * x.micro >= index{1} << 31 || x.value_heads * 2 >= index{1} << 31) return false;
  bool mapped = can_map(out.o.narrow_view());
  for_each_member(in, [&](const auto& v, auto) {
    using view_type = std::remove_cvref_t<decltype(v)>;
    if constexpr (view_type::rank == 4) mapped = mapped && can_map(static_cast<const typename view_type::base&>(v));
  });
  return mapped;
}

// A call on the engine. Its maps are made once; a launch says which states are folded, and by which sequences.
template <class P, class T>
class tensor_call {
 public:
  // `in` has no view that another block's output overwrites.
  tensor_call(cuda& executor, const auto& mixer, const recurrence_extents& x, const inputs_of<P, T>& in, const output<T, 4>& o)
      : executor_(executor), job_{.in = in, .policy = mixer.policy, .x = extents_of<float>(x, mixer), .matrix = nullptr, .o = nullptr, .o_stride = {o.stride[0], o.stride[1], o.stride[2]}} {
    for_each_member(in, [&](const auto& v, auto) { job_.watch |= static_cast<const void*>(v.data) == static_cast<const void*>(o.data); });
    if constexpr (requires { job_.policy.bind(in); }) job_.policy.bind(in);
    constexpr structure form = structure_of<P>();
    const auto map_of = [&](const auto& v, std::size_t i, int rows = 32) { return map_rows(name_of<P>(i).text.data(), view<const T, 4>(v.data, v.extent, v.stride), rows); };
    auto members = tie_members(job_.in);
    maps_.o = map_rows("o", o.narrow_view(), 32 / x.micro);
    maps_.q = map_of(std::get<form.q>(members), form.q, 32 / x.micro), maps_.v = map_of(std::get<form.v>(members), form.v);
    if constexpr (form.k >= 0) maps_.k = map_of(std::get<form.k>(members), form.k);
    if constexpr (form.c >= 0) maps_.c = map_of(std::get<form.c>(members), form.c);
    if constexpr (form.p >= 0) maps_.p = map_of(std::get<form.p>(members), form.p);
    if constexpr (form.g >= 0) {
      const auto& g = std::get<form.g>(members);
      maps_.g = map_rows(name_of<P>(form.g).text.data(), view<const float, 4>(g.data, g.extent, g.stride), 32);
    }
  }

  // `matrix` holds the states of the sequences. Without an o only they are wanted; value 0 writes nothing into them.
  void run(int slice, index sequences, float* matrix, const index* offsets, T* o, float value = 1) {
    job_.matrix = matrix, job_.offsets = offsets, job_.o = o, job_.value = value;
    if constexpr (P::axes.micro_steps)
      if (job_.x.micro == 2) return run_steps<2>(slice, sequences);
    run_steps<1>(slice, sequences);
  }

 private:
  template <int Micro>
  void run_steps(int slice, index sequences) {
    if (job_.x.key_dim == 64) return launch_one<64, narrow_tuning(), Micro>(sequences);
    if constexpr (tensor_layout<P, 128, wide_tuning()>::fits)
      if (slice == 128) return launch_one<128, wide_tuning(), Micro>(sequences);
    if constexpr (tensor_layout<P, 128, narrow_tuning()>::fits)
      slice == thin_tuning<P>().slice ? launch_one<128, thin_tuning<P>(), Micro>(sequences) : launch_one<128, narrow_tuning(), Micro>(sequences);
  }
  template <int K, tensor_tuning X, int Micro>
  void launch_one(index sequences) {
    launch("tensor_scan", tensor_scan<P, T, K, X.slice, X.chain_rows, X.prepare_groups, Micro>, sequences * job_.x.value_heads * (job_.x.value_dim / X.slice), X.threads(),
           static_cast<std::size_t>(tensor_layout<P, K, X>::bytes), executor_.stream(), job_, maps_);
  }

  cuda& executor_;
  tensor_job<P, T> job_;
  tensor_maps maps_{};
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
