// Norms on a GPU: a warp a row, or a group of a row's channels.
#pragma once
#include "../../core/output.hpp"
#include "../../math/activation.hpp"
#include "executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

template <class T>
struct norm_job {
  using R = accumulate_t<T>;
  view<const T, 4> x, z;
  const T* weight = nullptr;
  index size = 0;    // channels that share a sum
  R count = 1;       // which it is divided by
  R eps = 0, offset = 0;
  bool gate_last = true;
};

// x / sqrt(sum / count + eps) times weight, and a gate before or after.
template <activation A, class T, class Out>
__global__ void norm_rows(const __grid_constant__ norm_job<T> job, const __grid_constant__ view<Out, 4> o) {
  using R = accumulate_t<T>;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const index groups = job.x.extent[3] / job.size, at = static_cast<index>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const index row = at / groups, first = at % groups * job.size, h = row % job.x.extent[2], t = row / job.x.extent[2] % job.x.extent[1], b = row / job.x.extent[2] / job.x.extent[1];
  if (b >= job.x.extent[0]) return;
  const auto gate = [&](index c) {
    if constexpr (A == activation::none) return R(1);
    else return activated<A>(static_cast<R>(job.z(b, t, h, c)));
  };
  const auto before = [&](index c) {
    const R x = static_cast<R>(job.x(b, t, h, c));
    return job.gate_last ? x : x * gate(c);
  };
  R sum = 0;
  for (index c = first + lane; c < first + job.size; c += 32) {
    const R y = before(c);
    sum += y * y;
  }
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  const R scale = R(1) / sqrt(sum / job.count + job.eps);
  for (index c = first + lane; c < first + job.size; c += 32) {
    R y = before(c) * scale;
    if (job.weight) y *= job.offset + static_cast<R>(job.weight[c]);
    if (job.gate_last) y *= gate(c);
    o(b, t, h, c) = static_cast<Out>(y);
  }
}

template <class T, class Out>
void normalise(cuda& executor, const norm_job<T>& job, const view<Out, 4>& o, activation act) {
  constexpr int warps = 8;
  const auto& e = job.x.extent;
  const index rows = job.size > 0 ? e[0] * e[1] * e[2] * (e[3] / job.size) : 0;
  with_activation(act, [&](auto a) { launch("norm_rows", norm_rows<a(), T, Out>, (rows + warps - 1) / warps, 32 * warps, 0, executor.stream(), job, o); });
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
