// Numbers that carry derivatives: forward differentiation of the small maps that policies are.
// dual<V, N> is a value and its derivatives by N variables; V is any kind of number, SIMD lanes too.
#pragma once
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "functions.hpp"

namespace weft {
inline namespace v1 {

template <class V, std::size_t N>
struct dual {
  V v;
  V d[N > 0 ? N : 1];
  // Which derivatives may differ from 0. Known to the compiler once a map is inlined: a product by nothing costs nothing, and
  // does not turn an infinity into a NaN.
  bool live[N > 0 ? N : 1] = {};

  WEFT_HD WEFT_INLINE dual() : v(V(0.0f)) {}
  WEFT_HD WEFT_INLINE dual(const V& x) : v(x) {}  // NOLINT: a constant
  template <class X>
    requires(std::is_arithmetic_v<X> && !std::same_as<X, V>)
  WEFT_HD WEFT_INLINE dual(X x) : v(static_cast<V>(static_cast<double>(x))) {}  // NOLINT: a constant
  // The variable number i at the value x.
  WEFT_HD WEFT_INLINE static dual variable(const V& x, std::size_t i) {
    dual y(x);
    y.d[i] = V(1.0f);
    y.live[i] = true;
    return y;
  }

  // A function of one or two arguments from its value and its slopes, given as maps of derivatives.
  template <class F>
  WEFT_HD WEFT_INLINE static dual chain(const V& value, const dual& a, F&& by_a) {
    dual y(value);
    each([&](auto i) {
      y.live[i] = a.live[i];
      if (a.live[i]) y.d[i] = by_a(a.d[i]);
    });
    return y;
  }
  template <class F, class G>
  WEFT_HD WEFT_INLINE static dual chain(const V& value, const dual& a, const dual& b, F&& by_a, G&& by_b) {
    dual y(value);
    each([&](auto i) {
      y.live[i] = a.live[i] || b.live[i];
      if (a.live[i] && b.live[i]) y.d[i] = by_a(a.d[i]) + by_b(b.d[i]);
      else if (a.live[i]) y.d[i] = by_a(a.d[i]);
      else if (b.live[i]) y.d[i] = by_b(b.d[i]);
    });
    return y;
  }

  WEFT_HD WEFT_INLINE friend dual operator+(const dual& a, const dual& b) {
    return chain(a.v + b.v, a, b, [](const V& x) { return x; }, [](const V& x) { return x; });
  }
  WEFT_HD WEFT_INLINE friend dual operator-(const dual& a, const dual& b) {
    return chain(a.v - b.v, a, b, [](const V& x) { return x; }, [](const V& x) { return -x; });
  }
  WEFT_HD WEFT_INLINE friend dual operator*(const dual& a, const dual& b) {
    return chain(a.v * b.v, a, b, [&](const V& x) { return x * b.v; }, [&](const V& x) { return x * a.v; });
  }
  WEFT_HD WEFT_INLINE friend dual operator/(const dual& a, const dual& b) {
    const V q = a.v / b.v;
    return chain(q, a, b, [&](const V& x) { return x / b.v; }, [&](const V& x) { return -(x * q) / b.v; });
  }
  WEFT_HD WEFT_INLINE dual operator-() const {
    return chain(-v, *this, [](const V& x) { return -x; });
  }
  WEFT_HD WEFT_INLINE dual& operator+=(const dual& b) { return *this = *this + b; }
  WEFT_HD WEFT_INLINE dual& operator-=(const dual& b) { return *this = *this - b; }
  WEFT_HD WEFT_INLINE dual& operator*=(const dual& b) { return *this = *this * b; }

  // The primitives of functions.hpp.
  WEFT_HD WEFT_INLINE friend dual exp_(const dual& a) {
    const V e = weft::exp(a.v);
    return chain(e, a, [&](const V& x) { return x * e; });
  }
  WEFT_HD WEFT_INLINE friend dual expm1_(const dual& a) {
    return chain(weft::expm1(a.v), a, [&](const V& x) { return x * weft::exp(a.v); });
  }
  WEFT_HD WEFT_INLINE friend dual log1p_(const dual& a) {
    return chain(weft::log1p(a.v), a, [&](const V& x) { return x / (V(1.0f) + a.v); });
  }
  WEFT_HD WEFT_INLINE friend dual sqrt_(const dual& a) {
    const V r = weft::sqrt(a.v);
    return chain(r, a, [&](const V& x) { return x / (r + r); });
  }
  WEFT_HD WEFT_INLINE friend dual where_nonneg_(const dual& x, const dual& a, const dual& b) {
    const V zero(0.0f);
    dual y(where_nonneg(x.v, a.v, b.v));
    each([&](auto i) {
      y.live[i] = a.live[i] || b.live[i];
      if (y.live[i]) y.d[i] = where_nonneg(x.v, a.live[i] ? a.d[i] : zero, b.live[i] ? b.d[i] : zero);
    });
    return y;
  }

 private:
  template <class F>
  WEFT_HD WEFT_INLINE static void each(F&& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline)) { (f(std::integral_constant<std::size_t, I>{}), ...); }
    (std::make_index_sequence<N>{});
  }
};

}  // namespace v1
}  // namespace weft
