// scan and step of recurrences on the executor `cuda`: shapes are checked as on the CPU, then a schedule is launched.
#pragma once
#include <algorithm>

#include "executor.hpp"
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

// The device memory of one call, cut from the executor's workspace.
struct call_memory {
  arena room;
  explicit call_memory(std::byte* base = nullptr) : room(base) {}

  template <class P, class T, class S>
  void prepare(cuda& executor, token_job<P, T, S>& job, const recurrence_extents& x, const recurrent_state<S, device_array>& state,
               std::span<const index> cu, bool execute) {
    if (!cu.empty()) {
      index* const offsets = room.template take<index>(static_cast<index>(cu.size()));
      if (execute) upload_offsets(executor, cu, offsets);
      job.offsets = offsets;
    }
    if constexpr (P::axes.normalised) {  // every slice starts from it, the first one stores it
      S* const start = room.template take<S>(state.normaliser.size());
      if (execute)
        check_cuda(cudaMemcpyAsync(start, state.normaliser.data(), state.normaliser.bytes(), cudaMemcpyDeviceToDevice, executor.stream()), "cudaMemcpyAsync");
      job.normaliser_start = start;
    }
    if (x.output_is_key && job.blocks_a_head > 1)  // another slice may still read what this one's output overwrites
      for_each_member(job.in, [&](auto& v, auto i) {
        constexpr role what = role_of<P, i, T>;
        if constexpr (what.time && what.width == width::key_dim && !what.wide) {
          if (static_cast<const void*>(v.data) != job.o) return;
          T* const copy = room.template take<T>(v.size());
          if (execute)
            launch("gather_keys", gather_keys<T>, std::min<index>((v.size() + 255) / 256, 8 * executor.multiprocessors()), 256, 0, executor.stream(),
                   view<const T, 4>(v.data, v.extent, v.stride), copy);
          v = view<const T, 4>(copy, v.extent);
        }
      });
  }
};

template <class P, class T, class S>
void run_tokens(cuda& executor, const recurrence<P, T, S>& mixer, const recurrence_extents& x, const typename recurrence<P, T, S>::inputs& in,
                recurrent_state<S, device_array>& state, const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  using R = accumulate_t<T>;
  if (x.sequences == 0 || x.value_heads == 0 || x.time == 0) return;
  token_job<P, T, S> job{.in = in,
                         .policy = mixer.policy,
                         .x = extents_of<R>(x, mixer),
                         .tile = token_tile<R>::for_keys(x.key_dim),
                         .o = out.o.data,
                         .wide = out.o.wide,
                         .o_stride = {out.o.stride[0], out.o.stride[1], out.o.stride[2]},
                         .matrix = state.matrix.data(),
                         .normaliser = state.normaliser.data(),
                         .normaliser_start = state.normaliser.data(),
                         .normaliser_eps = static_cast<R>(mixer.normaliser_eps)};
  require(x.key_dim <= token_tile<R>::most_keys, errc::unsupported, "cuda: expected a key dim of at most ", token_tile<R>::most_keys, ", got ", x.key_dim);
  if constexpr (requires { job.policy.bind(in); }) job.policy.bind(in);
  const index slices = (x.value_dim + job.tile.slice() - 1) / job.tile.slice();
  job.blocks_a_head = std::max<index>(P::axes.normalised ? 1 : 0, slices);
  const index rows = x.time * x.micro;
  job.tile.staged = static_cast<int>(std::clamp<index>((48 * 1024 / static_cast<index>(sizeof(R)) - job.partials()) / job.stride(), 1, std::min<index>(8, rows)));

  call_memory needed;
  token_job<P, T, S> unused = job;
  needed.prepare(executor, unused, x, state, cu, false);
  call_memory memory(executor.workspace(needed.room.used()));
  memory.prepare(executor, job, x, state, cu, true);
  launch("token_scan", token_scan<P, T, S>, x.sequences * x.value_heads * job.blocks_a_head, job.tile.threads(), job.shared_bytes(), executor.stream(), job);
}

}  // namespace device

template <class P, class T, class S>
void run_scan(cuda& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S, device_array>& state,
              const typename recurrence<P, T, S>::outputs& out, std::span<const index> cu) {
  const recurrence_extents x = check_recurrence(mixer, in, state, out, cu);
  device::run_tokens(executor, mixer, x, in, state, out, cu);
}

template <class P, class T, class S>
void run_step(cuda& executor, const recurrence<P, T, S>& mixer, const typename recurrence<P, T, S>::inputs& in, recurrent_state<S, device_array>& state,
              const typename recurrence<P, T, S>::outputs& out) {
  const recurrence_extents x = check_recurrence(mixer, in, state, out, {});
  require(x.time == 1 || x.batch == 0, errc::shape, "step: expected inputs of one token (time 1), got ", x.time);
  device::run_tokens(executor, mixer, x, in, state, out, {});
}

}  // namespace WEFT_ISA
}  // namespace weft
