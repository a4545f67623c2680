// scan and step of recurrences on the executor `cuda`: shapes are checked as on the CPU, then a schedule is launched.
#pragma once
#include <algorithm>

#include "executor.hpp"
#include "recurrence_segments.hpp"
#include "recurrence_tokens.hpp"
#include "sequences.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class T>
__global__ void gather_keys(const __grid_constant__ view<const T, 4> from, T* to) {
  const index count = from.size(), step = static_cast<index>(gridDim.x) * blockDim.x;
  for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    const index channel = i % from.extent[3], head = i / from.extent[3] % from.extent[2], row = i / from.extent[3] / from.extent[2];
    to[i] = from(row / from.extent[1], row % from.extent[1], head, channel);
  }
}

// What a call finds in the executor's workspace.
template <class P, class T, class S>
struct call_memory {
  inputs_of<P, T> in;
  const index* offsets = nullptr;
  const S* normaliser_start = nullptr;
  float* floats = nullptr;

  // `slices` blocks share a head; `extra` floats are wanted.
  call_memory(cuda& executor, const recurrence_extents& x, const inputs_of<P, T>& inputs, const recurrent_state<S, device_array>& state, const void* o,
              std::span<const index> cu, index slices, index extra = 0) {
    arena count;
    place(count, nullptr, x, inputs, state, o, cu, slices, extra);
    arena room(executor.workspace(count.used()));
    place(room, &executor, x, inputs, state, o, cu, slices, extra);
  }

 private:
  void place(arena& room, cuda* executor, const recurrence_extents& x, const inputs_of<P, T>& inputs, const recurrent_state<S, device_array>& state, const void* o,
             std::span<const index> cu, index slices, index extra) {
    in = inputs;
    if (extra > 0) floats = room.template take<float>(extra);
    if (!cu.empty()) {
      index* const to = room.template take<index>(static_cast<index>(cu.size()));
      if (executor) upload_offsets(*executor, cu, to);
      offsets = to;
    }
    if constexpr (P::axes.normalised) {  // every slice starts from it, the first one stores it
      S* const to = room.template take<S>(state.normaliser.size());
      if (executor)
        check_cuda(cudaMemcpyAsync(to, state.normaliser.data(), state.normaliser.bytes(), cudaMemcpyDeviceToDevice, executor->stream()), "cudaMemcpyAsync");
      normaliser_start = to;
    }
    if (x.output_is_key && slices > 1)  // another slice may still read what this one's output overwrites
      for_each_member(in, [&](auto& v, auto i) {
        constexpr role what = role_of<P, i, T>;
        if constexpr (what.time && what.width == width::key_dim && !what.wide) {
          if (static_cast<const void*>(v.data) != o) return;
          T* const to = room.template take<T>(v.size());
          if (executor)
            launch("gather_keys", gather_keys<T>, std::min<index>((v.size() + 255) / 256, 8 * executor->multiprocessors()), 256, 0, executor->stream(),
                   view<const T, 4>(v.data, v.extent, v.stride), to);
          v = view<const T, 4>(to, v.extent);
        }
      });
  }
};

template <class P, class T, class S>
void run_tokens(cuda& executor, const recurrence<P, T, S>& mixer, const recurrence_extents& x, const typename recurrence<P, T, S>::inputs& in,
                recurrent_state<S, device_array>& state, const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  require(x.key_dim <= token_tile<R>::most_keys, errc::unsupported, "cuda: expected a key dim of at most ", token_tile<R>::most_keys, ", got ", x.key_dim);
  const auto tile = token_tile<R>::for_keys(x.key_dim);
  const index slices = std::max<index>(P::axes.normalised ? 1 : 0, (x.value_dim + tile.slice() - 1) / tile.slice());
  const call_memory<P, T, S> memory(executor, x, in, state, out.o.data, cu, slices);
  token_job<P, T, S> job{.in = memory.in,
                         .policy = mixer.policy,
                         .x = extents_of<R>(x, mixer),
                         .tile = tile,
                         .o = out.o.data,
                         .wide = out.o.wide,
                         .o_stride = {out.o.stride[0], out.o.stride[1], out.o.stride[2]},
                         .matrix = state.matrix.data(),
                         .normaliser = state.normaliser.data(),
                         .normaliser_start = memory.normaliser_start,
                         .normaliser_eps = static_cast<R>(mixer.normaliser_eps),
                         .offsets = memory.offsets,
                         .blocks_a_head = slices};
  if constexpr (requires { job.policy.bind(in); }) job.policy.bind(in);
  const index room = (48 * 1024 / static_cast<index>(sizeof(R)) - job.partials()) / job.stride();
  job.tile.staged = static_cast<int>(std::clamp<index>(room, 1, std::min<index>(8, x.time * x.micro)));
  launch("token_scan", token_scan<P, T, S>, x.sequences * x.value_heads * slices, job.tile.threads(), job.shared_bytes(), executor.stream(), job);
}

// A call that the tensor-core engine takes, in slices of so many columns and so many segments.
template <class P, class T, class S>
void run_tensor(cuda& executor, const recurrence<P, T, S>& mixer, const recurrence_extents& x, int slice, index segments, const typename recurrence<P, T, S>::inputs& in,
                recurrent_state<S, device_array>& state, const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  const std::vector<index> parts = segments > 1 ? segment_offsets(x.time, segments) : std::vector<index>{};
  const call_memory<P, T, S> memory(executor, x, in, state, out.o.data, segments > 1 ? std::span<const index>(parts) : cu, x.value_dim / slice,
                                    segments > 1 ? segment_floats(x, segments) : 0);
  tensor_call<P, T> call(executor, mixer, x, memory.in, out.o);
  T* const o = static_cast<T*>(out.o.data);
  if (segments > 1) run_segments(executor, call, x, segments, state.matrix.data(), memory.offsets, memory.floats, o);
  else call.run(slice, x.sequences, state.matrix.data(), memory.offsets, o);
}

}  // namespace device

// The tensor-core schedule where it takes the call, else the token form.
template <class P, class T, class S>
void run_scan(cuda& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S, device_array>& state,
              const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  const recurrence_extents x = check_recurrence(mixer, in, state, out, cu);
  if (x.sequences == 0 || x.value_heads == 0 || x.time == 0) return;
  if constexpr (device::tensor_types<P, T, S>())
    if (device::tensor_takes<P, T, S>(executor, x, in, out))
      return device::run_tensor(executor, mixer, x, device::tensor_slice<P>(executor, x), device::segments_of<P>(executor, x), in, state, out, cu);
  device::run_tokens(executor, mixer, x, in, state, out, cu);
}

template <class P, class T, class S>
void run_step(cuda& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S, device_array>& state,
              const typename recurrence<P, T, S>::outputs& out) {
  const recurrence_extents x = check_recurrence(mixer, in, state, out, {});
  require(x.time == 1 || x.batch == 0, errc::shape, "step: expected inputs of one token (time 1), got ", x.time);
  if (x.sequences > 0 && x.value_heads > 0) device::run_tokens(executor, mixer, x, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
