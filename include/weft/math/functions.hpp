// The scalar functions that policies use, written once for every kind of number: float, double, SIMD lanes, derivatives.
// A kind of number brings the primitives (exp_, log1p_, ...) in its own namespace, where argument-dependent lookup finds
// them; everything else is defined from those, and so means the same on every backend.
#pragma once
#include <cmath>
#include <concepts>

#include "../core/config.hpp"

namespace weft {
inline namespace v1 {

// clang-format off
namespace number {
template <std::floating_point R> WEFT_HD WEFT_INLINE R exp_(R x) { return std::exp(x); }
template <std::floating_point R> WEFT_HD WEFT_INLINE R expm1_(R x) { return std::expm1(x); }
template <std::floating_point R> WEFT_HD WEFT_INLINE R log1p_(R x) { return std::log1p(x); }
template <std::floating_point R> WEFT_HD WEFT_INLINE R sqrt_(R x) { return std::sqrt(x); }
// x >= 0 ? a : b, lane by lane
template <std::floating_point R> WEFT_HD WEFT_INLINE R where_nonneg_(R x, R a, R b) { return x >= R(0) ? a : b; }
}  // namespace number

template <class R> WEFT_HD WEFT_INLINE constexpr R exp(const R& x) { using number::exp_; return exp_(x); }
template <class R> WEFT_HD WEFT_INLINE constexpr R expm1(const R& x) { using number::expm1_; return expm1_(x); }
template <class R> WEFT_HD WEFT_INLINE constexpr R log1p(const R& x) { using number::log1p_; return log1p_(x); }
template <class R> WEFT_HD WEFT_INLINE constexpr R sqrt(const R& x) { using number::sqrt_; return sqrt_(x); }
template <class R> WEFT_HD WEFT_INLINE constexpr R where_nonneg(const R& x, const R& a, const R& b) { using number::where_nonneg_; return where_nonneg_(x, a, b); }

// A NaN in the first argument comes out.
template <class R> WEFT_HD WEFT_INLINE constexpr R max(const R& a, const R& b) { return where_nonneg(b - a, b, a); }
template <class R> WEFT_HD WEFT_INLINE constexpr R min(const R& a, const R& b) { return where_nonneg(a - b, b, a); }
template <class R> WEFT_HD WEFT_INLINE constexpr R relu(const R& x) { return where_nonneg(-x, R(0), x); }
// clang-format on

// log(1 + e^x); the exponent is never positive, so nothing overflows.
template <class R>
WEFT_HD WEFT_INLINE constexpr R softplus(const R& x) {
  const R down = where_nonneg(x, -x, x);
  return where_nonneg(x, x, R(0)) + weft::log1p(weft::exp(down));
}

template <class R>
WEFT_HD WEFT_INLINE constexpr R log_sigmoid(const R& x) {
  return -softplus(-x);
}

template <class R>
WEFT_HD WEFT_INLINE constexpr R sigmoid(const R& x) {
  const R e = weft::exp(where_nonneg(x, -x, x));
  return where_nonneg(x, R(1), e) / (R(1) + e);
}

template <class R>
WEFT_HD WEFT_INLINE constexpr R silu(const R& x) {
  return x * sigmoid(x);
}

// elu(x) + 1 without the cancellation of expm1(x) + 1 at small values.
template <class R>
WEFT_HD WEFT_INLINE constexpr R elu1(const R& x) {
  return where_nonneg(x, x + R(1), weft::exp(where_nonneg(x, R(0), x)));
}

}  // namespace v1
}  // namespace weft
