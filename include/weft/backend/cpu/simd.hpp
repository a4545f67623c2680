// Vectors of the widest register that the compiler's target has: a thin shim over xsimd 8 to 14.
// The only file that includes xsimd.
#pragma once
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <utility>

#include <xsimd/xsimd.hpp>

#include "../../core/config.hpp"
#include "../../core/dtype.hpp"
#include "../../core/view.hpp"

namespace weft {
inline namespace WEFT_ISA {

template <class R>
struct simd {
  using batch = xsimd::batch<R>;
  static constexpr int width = static_cast<int>(batch::size);

  batch v;

  simd() = default;
  WEFT_INLINE simd(batch b) : v(b) {}                    // NOLINT: implicit by design
  template <std::floating_point X>
  WEFT_INLINE simd(X x) : v(static_cast<R>(x)) {}        // NOLINT: a number is the same number in every lane
  WEFT_INLINE static simd load(const R* p) { return batch::load_unaligned(p); }
  WEFT_INLINE void store(R* p) const { v.store_unaligned(p); }

  WEFT_INLINE friend simd operator+(simd a, simd b) { return a.v + b.v; }
  WEFT_INLINE friend simd operator-(simd a, simd b) { return a.v - b.v; }
  WEFT_INLINE friend simd operator*(simd a, simd b) { return a.v * b.v; }
  WEFT_INLINE friend simd operator/(simd a, simd b) { return a.v / b.v; }
  WEFT_INLINE simd operator-() const { return -v; }
  WEFT_INLINE simd& operator+=(simd b) { return *this = *this + b; }
  WEFT_INLINE simd& operator-=(simd b) { return *this = *this - b; }
  WEFT_INLINE simd& operator*=(simd b) { return *this = *this * b; }

  // The primitives of math/functions.hpp.
  WEFT_INLINE friend simd exp_(simd x) { return xsimd::exp(x.v); }
  WEFT_INLINE friend simd expm1_(simd x) { return xsimd::expm1(x.v); }
  WEFT_INLINE friend simd log1p_(simd x) { return xsimd::log1p(x.v); }
  WEFT_INLINE friend simd sqrt_(simd x) { return xsimd::sqrt(x.v); }
  WEFT_INLINE friend simd tanh_(simd x) { return xsimd::tanh(x.v); }
  WEFT_INLINE friend simd where_nonneg_(simd x, simd a, simd b) { return xsimd::select(x.v >= batch(R(0)), a.v, b.v); }

  // a * b + c in one instruction. xsimd 8 writes it as two on AVX-512, which clang does not fuse.
  WEFT_INLINE friend simd fma(simd a, simd b, simd c) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<R, float>) return batch(_mm512_fmadd_ps(a.v, b.v, c.v));
    else return batch(_mm512_fmadd_pd(a.v, b.v, c.v));
#else
    return xsimd::fma(a.v, b.v, c.v);
#endif
  }
  // c - a * b
  WEFT_INLINE friend simd fnma(simd a, simd b, simd c) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<R, float>) return batch(_mm512_fnmadd_ps(a.v, b.v, c.v));
    else return batch(_mm512_fnmadd_pd(a.v, b.v, c.v));
#else
    return xsimd::fnma(a.v, b.v, c.v);
#endif
  }
  WEFT_INLINE friend simd lane_max(simd a, simd b) { return xsimd::max(a.v, b.v); }
};

namespace detail {

// Compiler vectors, for shuffles and integer work that xsimd spells differently in every major version.
template <class E, int N>
using raw __attribute__((vector_size(sizeof(E) * N))) = E;

// Groups of 2H lanes in a and b become groups of H lanes, summed: a's first, then b's.
template <int H, class R, int... I>
WEFT_INLINE simd<R> fold(simd<R> a, simd<R> b, std::integer_sequence<int, I...>) {
  using reg = raw<R, sizeof...(I)>;
  const auto x = std::bit_cast<reg>(a), y = std::bit_cast<reg>(b);
  const reg lo = __builtin_shufflevector(x, y, (I / H * 2 * H + I % H)...);
  const reg hi = __builtin_shufflevector(x, y, (I / H * 2 * H + H + I % H)...);
  return std::bit_cast<simd<R>>(lo + hi);
}

template <int N, int H, class R>
WEFT_INLINE void sums(const simd<R>* a, R* out) {
  constexpr int W = simd<R>::width;
  if constexpr (N > 1 && H >= 1) {
    simd<R> half[N / 2];
    WEFT_UNROLL for (int i = 0; i < N / 2; ++i) half[i] = fold<H>(a[2 * i], a[2 * i + 1], std::make_integer_sequence<int, W>{});
    sums<N / 2, H / 2>(half, out);
  } else if constexpr (H >= 1) {
    const simd<R> folded = fold<H>(a[0], a[0], std::make_integer_sequence<int, W>{});
    sums<1, H / 2>(&folded, out);
  } else {
    R lane[W];
    a[0].store(lane);
    // After every fold with itself the sums repeat; with fewer vectors than lanes the first ones are the answer.
    std::memcpy(out, lane, sizeof(lane));
  }
}

}  // namespace detail

// The lane sums of N vectors, N a power of two; `out` has room for max(N, width) numbers, the first N are the sums.
template <int N, class R>
WEFT_INLINE void lane_sums(const simd<R>* a, R* out) {
  constexpr int W = simd<R>::width;
  if constexpr (N > W) {
    lane_sums<N / 2>(a, out);
    lane_sums<N / 2>(a + N / 2, out + N / 2);
  } else {
    detail::sums<N, W / 2>(a, out);
  }
}

template <class R>
WEFT_INLINE R lane_sum(simd<R> a) {
  R out[simd<R>::width];
  lane_sums<1>(&a, out);
  return out[0];
}

namespace detail {

// One stage of a transpose: blocks of H x H lanes change places across the diagonal.
template <int H, class R, int... I>
WEFT_INLINE void exchange(simd<R>* rows, std::integer_sequence<int, I...>) {
  constexpr int W = sizeof...(I);
  using reg = raw<R, W>;
  WEFT_UNROLL for (int i = 0; i < W; ++i)
    if (!(i & H)) {
      const auto a = std::bit_cast<reg>(rows[i]), b = std::bit_cast<reg>(rows[i + H]);
      rows[i] = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(a, b, (I & H ? W + I - H : I)...)));
      rows[i + H] = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(a, b, (I & H ? W + I : I + H)...)));
    }
  if constexpr (H * 2 < W) exchange<H * 2>(rows, std::make_integer_sequence<int, W>{});
}

// The four vectors as one row of lanes, its halves by turns: every lane's position is rotated up by one bit.
template <class R, int... I>
WEFT_INLINE void interleave_halves(simd<R> (&row)[4], std::integer_sequence<int, I...>) {
  constexpr int W = sizeof...(I), half = W / 2;
  using reg = raw<R, W>;
  const auto both = [](simd<R> x, simd<R> y, simd<R>& low, simd<R>& high) {
    const auto a = std::bit_cast<reg>(x), b = std::bit_cast<reg>(y);
    low = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(a, b, (I % 2 ? W + I / 2 : I / 2)...)));
    high = std::bit_cast<simd<R>>(reg(__builtin_shufflevector(a, b, (half + (I % 2 ? W + I / 2 : I / 2))...)));
  };
  const simd<R> a = row[0], b = row[1], c = row[2], d = row[3];
  both(a, c, row[0], row[1]);
  both(b, d, row[2], row[3]);
}

}  // namespace detail

// From [width][4] numbers in four vectors to [4][width].
template <class R>
WEFT_INLINE void split_in_four(simd<R> (&row)[4]) {
  constexpr int W = simd<R>::width;
  WEFT_UNROLL for (int n = 1; n < W; n *= 2) detail::interleave_halves(row, std::make_integer_sequence<int, W>{});
}

// to[j][i] = from[i][j] of one square block of vectors.
template <class R>
WEFT_INLINE void transpose_block(const R* from, index ldf, R* to, index ldt) {
  constexpr int W = simd<R>::width;
  simd<R> rows[W];
  WEFT_UNROLL for (int i = 0; i < W; ++i) rows[i] = simd<R>::load(from + i * ldf);
  detail::exchange<1>(rows, std::make_integer_sequence<int, W>{});
  WEFT_UNROLL for (int i = 0; i < W; ++i) rows[i].store(to + i * ldt);
}

// ---- 16-bit storage -------------------------------------------------------------------------------------------------

// simd<accumulate_t<T>>::width elements of storage type T, widened.
template <class T>
WEFT_INLINE simd<accumulate_t<T>> load(const T* p) {
  using R = accumulate_t<T>;
  constexpr int W = simd<R>::width;
  if constexpr (std::is_same_v<T, R>) {
    return simd<R>::load(p);
  } else if constexpr (std::is_same_v<T, bf16>) {
    detail::raw<std::uint16_t, W> half;
    std::memcpy(&half, p, sizeof(half));
    const auto bits = __builtin_convertvector(half, detail::raw<std::uint32_t, W>) << 16;
    return std::bit_cast<simd<float>>(bits);
  } else {
#if defined(__AVX512F__)
    return simd<float>(xsimd::batch<float>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))));
#elif defined(__F16C__) && defined(__AVX__)
    return simd<float>(xsimd::batch<float>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))));
#else
    float x[W];
    for (int i = 0; i < W; ++i) x[i] = static_cast<float>(p[i]);
    return simd<float>::load(x);
#endif
  }
}

template <class T>
WEFT_INLINE void store(T* p, simd<accumulate_t<T>> x) {
  using R = accumulate_t<T>;
  constexpr int W = simd<R>::width;
  if constexpr (std::is_same_v<T, R>) {
    x.store(p);
  } else if constexpr (std::is_same_v<T, bf16>) {
    using words = detail::raw<std::uint32_t, W>;
    const auto u = std::bit_cast<words>(x);
    const words rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const words quiet = (u >> 16) | 0x40u;
    const auto nan = (u & 0x7fffffffu) > 0x7f800000u;
    const auto half = __builtin_convertvector(nan ? quiet : rounded, detail::raw<std::uint16_t, W>);
    std::memcpy(static_cast<void*>(p), &half, sizeof(half));
  } else {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, 0));
#elif defined(__F16C__) && defined(__AVX__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, 0));
#else
    float y[W];
    x.store(y);
    for (int i = 0; i < W; ++i) p[i] = fp16(y[i]);
#endif
  }
}

// The first n elements, zeros after them.
template <class T>
WEFT_INLINE simd<accumulate_t<T>> load(const T* p, index n) {
  T part[simd<accumulate_t<T>>::width] = {};
  std::memcpy(static_cast<void*>(part), p, static_cast<std::size_t>(n) * sizeof(T));
  return load(static_cast<const T*>(part));
}
template <class T>
WEFT_INLINE void store(T* p, simd<accumulate_t<T>> x, index n) {
  T part[simd<accumulate_t<T>>::width];
  store(static_cast<T*>(part), x);
  std::memcpy(static_cast<void*>(p), part, static_cast<std::size_t>(n) * sizeof(T));
}

}  // namespace WEFT_ISA
}  // namespace weft
