// A number for what is rounded to 16 bits at once: its functions are one instruction of the multiprocessor and what that needs,
// with 16 good bits, where those of float take ten times as long.
#pragma once
#include "../../math/functions.hpp"
#include "ptx.hpp"

namespace weft {
inline namespace WEFT_ISA {
namespace device {

struct quick {
  float x = 0;

  quick() = default;
  template <class N>
  __device__ explicit quick(N value) : x(static_cast<float>(value)) {}

  friend __device__ quick operator-(quick a) { return quick(-a.x); }
  friend __device__ quick operator+(quick a, quick b) { return quick(a.x + b.x); }
  friend __device__ quick operator-(quick a, quick b) { return quick(a.x - b.x); }
  friend __device__ quick operator*(quick a, quick b) { return quick(a.x * b.x); }
  friend __device__ quick operator/(quick a, quick b) { return quick(__fdividef(a.x, b.x)); }

  friend __device__ quick exp_(quick a) { return quick(ptx::exp2(a.x * 1.44269504f)); }
  // Near 0 by three terms of the series.
  friend __device__ quick expm1_(quick a) {
    const float near = a.x * fmaf(a.x, fmaf(a.x, 1 / 6.f, 0.5f), 1.f), far = exp_(a).x - 1.f;
    return quick(::fabsf(a.x) < 1 / 32.f ? near : far);
  }
  friend __device__ quick log1p_(quick a) {
    const float near = a.x * fmaf(a.x, fmaf(a.x, 1 / 3.f, -0.5f), 1.f), far = __logf(1.f + a.x);
    return quick(::fabsf(a.x) < 1 / 32.f ? near : far);
  }
  friend __device__ quick sqrt_(quick a) { return quick(__fsqrt_rn(a.x)); }
  friend __device__ quick where_nonneg_(quick test, quick a, quick b) { return test.x >= 0.f ? a : b; }
};

}  // namespace device
}  // namespace WEFT_ISA
}  // namespace weft
