// Compiler checks and the few macros of the library.
//
// Two namespaces keep programs of several instruction sets sound:
//   weft::v1        types that users hold (views, arrays, states, inputs, errors): the same in every translation unit
//   weft::WEFT_ISA  code whose instructions depend on the compiler's target; its name is part of every symbol
// Both are inline, so users write weft::scan and weft::view.
#pragma once

#if defined(__CUDACC__)
#define WEFT_HD __host__ __device__
#else
#define WEFT_HD
#endif

// Forced inline: a function of core that is emitted once per program could carry another file's instructions.
#define WEFT_INLINE [[gnu::always_inline]] inline

// Compiled for the least processor, whatever the rest of the file is for: copies of what users hold are emitted once per
// program, and the linker may keep any file's.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define WEFT_BASELINE [[gnu::noinline, gnu::target("no-avx")]]
#else
#define WEFT_BASELINE
#endif

#if defined(__clang__)
#define WEFT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define WEFT_UNROLL _Pragma("GCC unroll 32")
#else
#define WEFT_UNROLL
#endif

#if defined(__AVX512F__)
#define WEFT_ISA isa_avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define WEFT_ISA isa_avx2
#elif defined(__AVX__)
#define WEFT_ISA isa_avx
#elif defined(__ARM_NEON)
#define WEFT_ISA isa_neon
#else
#define WEFT_ISA isa_base
#endif

// -ffinite-math-only makes isnan(x) false and breaks the handling of g = -inf and of empty softmax rows.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(WEFT_ALLOW_FINITE_MATH)
#error "weft: -ffast-math / -ffinite-math-only removes NaN and infinity, which results here rely on; define WEFT_ALLOW_FINITE_MATH to accept that"
#endif
