// A causal depthwise convolution on a GPU: a thread has one channel and a few tokens in a row.
#pragma once
#include "../../core/output.hpp"
#include "../../math/activation.hpp"
#include "sequences.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class T>
struct conv_job {
  static constexpr int tokens = 8;  // a thread's

  view<const T, 3> x;
  view<const T, 2> weight;
  view<const T, 1> bias;
  view<T, 3> kept;  // the last taps - 1 inputs of each sequence
  const index* offsets = nullptr;
  index sequences = 0, time = 0;

  __device__ index begin(index n) const { return offsets ? offsets[n] : 0; }
  __device__ index end(index n) const { return offsets ? offsets[n + 1] : time; }
  __device__ index row(index n) const { return offsets ? 0 : n; }
  // The input at a time of a sequence, before its beginning from what was kept.
  __device__ T at(index n, index t, index c) const {
    const index first = begin(n);
    return t >= first ? x(row(n), t, c) : kept(n, kept.extent[1] + t - first, c);
  }
};

template <activation A, class T, class Out>
__global__ void conv_tokens(const __grid_constant__ conv_job<T> job, const __grid_constant__ view<Out, 3> o, index pieces) {
  using R = accumulate_t<T>;
  const index channels = job.weight.extent[0], taps = job.weight.extent[1], blocks = (channels + blockDim.x - 1) / blockDim.x;
  const index c = blockIdx.x % blocks * blockDim.x + threadIdx.x, n = blockIdx.x / blocks / pieces;
  const index first = job.begin(n) + blockIdx.x / blocks % pieces * job.tokens, last = ::min(first + job.tokens, job.end(n));
  if (c >= channels) return;
  for (index t = first; t < last; ++t) {
    R y = job.bias.null() ? R(0) : static_cast<R>(job.bias(c));
    for (index j = 0; j < taps; ++j) y += static_cast<R>(job.weight(c, j)) * static_cast<R>(job.at(n, t - taps + 1 + j, c));
    o(job.row(n), t, c) = static_cast<Out>(activated<A>(y));
  }
}

// Shifts what is kept; ascending, so what is read is not yet written.
template <class T>
__global__ void conv_keep(const __grid_constant__ conv_job<T> job) {
  const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x, channels = job.weight.extent[0];
  if (at >= job.sequences * channels) return;
  const index n = at / channels, c = at % channels, end = job.end(n), kept = job.kept.extent[1];
  if (end == job.begin(n)) return;
  for (index i = 0; i < kept; ++i) job.kept(n, i, c) = job.at(n, end - kept + i, c);
}

// x [B, T, D] or packed, weight [D, W], kept [N, W - 1, D], o like x; shapes are checked.
template <class T, class Out>
void convolve(cuda& executor, const view<const T, 3>& x, const view<const T, 2>& weight, const view<const T, 1>& bias, const view<T, 3>& kept, const view<Out, 3>& o,
              std::span<const index> cu, activation act) {
  conv_job<T> job{x, weight, bias, kept, nullptr, cu.empty() ? x.extent[0] : static_cast<index>(cu.size()) - 1, x.extent[1]};
  if (!cu.empty()) {
    arena room(executor.workspace(cu.size() * sizeof(index)));
    index* const offsets = room.take<index>(static_cast<index>(cu.size()));
    upload_offsets(executor, cu, offsets);
    job.offsets = offsets;
  }
  const index channels = weight.extent[0], pieces = (x.extent[1] + job.tokens - 1) / job.tokens;
  with_activation(act, [&](auto a) {
    launch("conv_tokens", conv_tokens<a(), T, Out>, job.sequences * pieces * ((channels + 127) / 128), 128, 0, executor.stream(), job, o, pieces);
  });
  if (kept.extent[1] > 0) launch("conv_keep", conv_keep<T>, (job.sequences * channels + 127) / 128, 128, 0, executor.stream(), job);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
