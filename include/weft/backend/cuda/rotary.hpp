// Rotary embedding on a GPU: a thread a pair of channels, or a channel that passes.
#pragma once
#include <algorithm>
#include <span>

#include "../../core/output.hpp"
#include "executor.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

// Frequencies come in the arguments of the kernel, some at a time, as offsets do (sequences.hpp).
struct some_frequencies {
  static constexpr int most = 256;
  int first, count;
  double values[most];
};

template <class R>
__global__ void rotary_turns(const __grid_constant__ view<const std::int64_t, 2> positions, const __grid_constant__ some_frequencies part, const __grid_constant__ view<R, 3> cos_of,
                             const __grid_constant__ view<R, 3> sin_of, double factor) {
  const index at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x, row = at / part.count, t = row % positions.extent[1], b = row / positions.extent[1];
  const int i = static_cast<int>(at % part.count);
  if (b >= positions.extent[0]) return;
  double s, c;
  sincos(static_cast<double>(positions(b, t)) * part.values[i], &s, &c);
  cos_of(b, t, part.first + i) = static_cast<R>(c * factor);
  sin_of(b, t, part.first + i) = static_cast<R>(s * factor);
}

template <class T, class Out>
__global__ void rotary_pairs(const __grid_constant__ view<const T, 4> x, const __grid_constant__ view<const accumulate_t<T>, 3> cos_of,
                             const __grid_constant__ view<const accumulate_t<T>, 3> sin_of, const __grid_constant__ view<Out, 4> o, bool interleaved) {
  using R = accumulate_t<T>;
  const index n = cos_of.extent[2], lanes = x.extent[3] - n, at = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
  const index i = at % lanes, row = at / lanes, h = row % x.extent[2], t = row / x.extent[2] % x.extent[1], b = row / x.extent[2] / x.extent[1];
  if (b >= x.extent[0]) return;
  if (i >= n) {
    o(b, t, h, n + i) = static_cast<Out>(static_cast<R>(x(b, t, h, n + i)));
    return;
  }
  const index first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + n, table = cos_of.extent[0] == 1 ? 0 : b;
  const R c = cos_of(table, t, i), s = sin_of(table, t, i), p = static_cast<R>(x(b, t, h, first)), q = static_cast<R>(x(b, t, h, second));
  o(b, t, h, first) = static_cast<Out>(p * c - q * s);
  o(b, t, h, second) = static_cast<Out>(q * c + p * s);
}

template <class R>
void turn_positions(cuda& executor, const view<const std::int64_t, 2>& positions, std::span<const double> frequencies, const view<R, 3>& cos, const view<R, 3>& sin, double factor) {
  for (std::size_t first = 0; first < frequencies.size(); first += some_frequencies::most) {
    some_frequencies part{};
    part.first = static_cast<int>(first);
    part.count = static_cast<int>(std::min<std::size_t>(some_frequencies::most, frequencies.size() - first));
    std::copy_n(frequencies.begin() + static_cast<std::ptrdiff_t>(first), part.count, part.values);
    launch("rotary_turns", rotary_turns<R>, (positions.size() * part.count + 255) / 256, 256, 0, executor.stream(), positions, part, cos, sin, factor);
  }
}

template <class T, class Out>
void turn_pairs(cuda& executor, const view<const T, 4>& x, const view<const accumulate_t<T>, 3>& cos, const view<const accumulate_t<T>, 3>& sin, const view<Out, 4>& o, bool interleaved) {
  const index threads = x.extent[0] * x.extent[1] * x.extent[2] * (x.extent[3] - cos.extent[2]);
  launch("rotary_pairs", rotary_pairs<T, Out>, (threads + 255) / 256, 256, 0, executor.stream(), x, cos, sin, o, interleaved);
}

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
