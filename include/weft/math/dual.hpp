// Numbers that carry a derivative: forward differentiation of the small maps that policies are.
// V is any kind of number, SIMD lanes too.
#pragma once
#include <concepts>
#include <type_traits>

#include "functions.hpp"

namespace weft {
inline namespace v1 {

template <class V>
struct dual {
  V v;
  V d = V(0.0f);
  // Whether the derivative may differ from 0. Known to the compiler once a map is inlined: a product by nothing costs nothing,
  // and does not turn an infinity into a NaN.
  bool live = false;

  WEFT_HD WEFT_INLINE constexpr dual() : v(V(0.0f)) {}
  WEFT_HD WEFT_INLINE constexpr dual(const V& x) : v(x) {}  // NOLINT: a constant
  template <class X>
    requires(std::is_arithmetic_v<X> && !std::same_as<X, V>)
  WEFT_HD WEFT_INLINE constexpr dual(X x) : v(static_cast<V>(static_cast<double>(x))) {}  // NOLINT: a constant
  WEFT_HD WEFT_INLINE constexpr dual(const V& x, const V& derivative, bool lives) : v(x), d(derivative), live(lives) {}
  // The variable itself.
  WEFT_HD WEFT_INLINE static constexpr dual variable(const V& x) { return {x, V(1.0f), true}; }

  WEFT_HD WEFT_INLINE friend constexpr dual operator+(const dual& a, const dual& b) { return sum(a.v + b.v, a, a.d, b, b.d); }
  WEFT_HD WEFT_INLINE friend constexpr dual operator-(const dual& a, const dual& b) { return sum(a.v - b.v, a, a.d, b, -b.d); }
  WEFT_HD WEFT_INLINE friend constexpr dual operator*(const dual& a, const dual& b) { return sum(a.v * b.v, a, a.d * b.v, b, b.d * a.v); }
  WEFT_HD WEFT_INLINE friend constexpr dual operator/(const dual& a, const dual& b) {
    const V q = a.v / b.v;
    return sum(q, a, a.d / b.v, b, -(b.d * q) / b.v);
  }
  WEFT_HD WEFT_INLINE constexpr dual operator-() const { return {-v, -d, live}; }
  WEFT_HD WEFT_INLINE constexpr dual& operator+=(const dual& b) { return *this = *this + b; }
  WEFT_HD WEFT_INLINE constexpr dual& operator-=(const dual& b) { return *this = *this - b; }
  WEFT_HD WEFT_INLINE constexpr dual& operator*=(const dual& b) { return *this = *this * b; }

  // The primitives of functions.hpp.
  WEFT_HD WEFT_INLINE friend dual exp_(const dual& a) {
    const V e = weft::exp(a.v);
    return chain(e, a, a.d * e);
  }
  WEFT_HD WEFT_INLINE friend dual expm1_(const dual& a) { return chain(weft::expm1(a.v), a, a.d * weft::exp(a.v)); }
  WEFT_HD WEFT_INLINE friend dual log1p_(const dual& a) { return chain(weft::log1p(a.v), a, a.d / (V(1.0f) + a.v)); }
  WEFT_HD WEFT_INLINE friend dual sqrt_(const dual& a) {
    const V r = weft::sqrt(a.v);
    return chain(r, a, a.d / (r + r));
  }
  WEFT_HD WEFT_INLINE friend dual where_nonneg_(const dual& x, const dual& a, const dual& b) {
    return {where_nonneg(x.v, a.v, b.v), a.live || b.live ? where_nonneg(x.v, a.d, b.d) : V(0.0f), a.live || b.live};
  }

 private:
  WEFT_HD WEFT_INLINE static constexpr dual chain(const V& value, const dual& a, const V& by_a) { return {value, a.live ? by_a : V(0.0f), a.live}; }
  WEFT_HD WEFT_INLINE static constexpr dual sum(const V& value, const dual& a, const V& by_a, const dual& b, const V& by_b) {
    if (a.live && b.live) return {value, by_a + by_b, true};
    return a.live ? chain(value, a, by_a) : chain(value, b, by_b);
  }
};

}  // namespace v1
}  // namespace weft
