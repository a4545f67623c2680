// Storage types. bf16 and fp16 only store; every sum is in float. Conversions round to nearest even.
#pragma once
#include <cstdint>
#include <type_traits>

#include "config.hpp"

namespace weft {
inline namespace v1 {

// The builtin, not std::bit_cast: nvcc takes it in device code without a flag.
// The upper half of a float: 8 exponent bits, 7 of mantissa.
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  WEFT_HD WEFT_INLINE explicit bf16(float x) {
    const auto u = __builtin_bit_cast(std::uint32_t, x);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;  // rounding could carry a NaN's payload into infinity
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  WEFT_HD WEFT_INLINE operator float() const { return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16); }
};

// IEEE binary16: 5 exponent bits, 10 of mantissa, with subnormals.
struct fp16 {
  std::uint16_t bits = 0;

  fp16() = default;
  WEFT_HD WEFT_INLINE explicit fp16(float x) {
    const auto u = __builtin_bit_cast(std::uint32_t, x);
    const std::uint32_t sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    std::uint32_t r;
    if (a > 0x7f800000u) r = 0x7e00u;             // NaN
    else if (a >= 0x477ff000u) r = 0x7c00u;       // rounds to infinity: at least 65520
    else if (a >= 0x38800000u) r = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
    else  // subnormal: adding 0.5 aligns the mantissa so that the float adder rounds to multiples of 2^-24
      r = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, a) + 0.5f) - 0x3f000000u;
    bits = static_cast<std::uint16_t>(sign | r);
  }
  WEFT_HD WEFT_INLINE operator float() const {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, e = (bits >> 10) & 31u, m = bits & 0x3ffu;
    if (e == 31) return __builtin_bit_cast(float, sign | 0x7f800000u | (m << 13));
    if (e == 0) {
      const float magnitude = static_cast<float>(m) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    return __builtin_bit_cast(float, sign | ((e + 112u) << 23) | (m << 13));
  }
};

template <class T>
concept storage = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16> || std::is_same_v<T, fp16>;

// The type in which gates, states and sums of a storage type are kept.
template <class T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace v1
}  // namespace weft
