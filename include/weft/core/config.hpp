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

// The name of the instruction set: the vectors, the multiply-add and conversions beside them, and what the compiler's own vectors
// may use beyond. Files share code only where xsimd's choice, our intrinsics and the compiler's come to the same.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define WEFT_ISA_VECTORS isa_avx512
#elif defined(__AVX512BW__)
#define WEFT_ISA_VECTORS isa_avx512bw
#elif defined(__AVX512DQ__)
#define WEFT_ISA_VECTORS isa_avx512dq
#elif defined(__AVX512CD__)
#define WEFT_ISA_VECTORS isa_avx512cd
#elif defined(__AVX512F__)
#define WEFT_ISA_VECTORS isa_avx512f
#elif defined(__AVX2__)
#define WEFT_ISA_VECTORS isa_avx2
#elif defined(__AVX__)
#define WEFT_ISA_VECTORS isa_avx
#elif defined(__SSE4_2__)
#define WEFT_ISA_VECTORS isa_sse4_2
#elif defined(__SSE4_1__)
#define WEFT_ISA_VECTORS isa_sse4_1
#elif defined(__SSSE3__)
#define WEFT_ISA_VECTORS isa_ssse3
#elif defined(__SSE3__)
#define WEFT_ISA_VECTORS isa_sse3
#elif defined(__ARM_FEATURE_SVE)
#define WEFT_ISA_VECTORS isa_sve
#elif defined(__ARM_NEON)
#define WEFT_ISA_VECTORS isa_neon
#else
#define WEFT_ISA_VECTORS isa_base
#endif

#if defined(__FMA__) && defined(__F16C__) && defined(__BMI2__)
#define WEFT_ISA_BESIDE _v3
#elif defined(__FMA__) && defined(__F16C__)
#define WEFT_ISA_BESIDE _fma_f16c
#elif defined(__FMA__)
#define WEFT_ISA_BESIDE _fma
#elif defined(__FMA4__)
#define WEFT_ISA_BESIDE _fma4
#elif defined(__F16C__)
#define WEFT_ISA_BESIDE _f16c
#elif defined(__BMI__)
#define WEFT_ISA_BESIDE _bmi
#else
#define WEFT_ISA_BESIDE
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define WEFT_ISA_BEYOND _bf16
#elif defined(__AVX512VNNI__)
#define WEFT_ISA_BEYOND _vnni
#elif defined(__AVX512VBMI__)
#define WEFT_ISA_BEYOND _vbmi
#elif defined(__AVXVNNI__)
#define WEFT_ISA_BEYOND _avxvnni
#else
#define WEFT_ISA_BEYOND
#endif

#define WEFT_ISA_JOINED(vectors, beside, beyond) vectors##beside##beyond
#define WEFT_ISA_JOIN(vectors, beside, beyond) WEFT_ISA_JOINED(vectors, beside, beyond)
#define WEFT_ISA WEFT_ISA_JOIN(WEFT_ISA_VECTORS, WEFT_ISA_BESIDE, WEFT_ISA_BEYOND)

// -ffinite-math-only makes isnan(x) false and breaks the handling of g = -inf and of empty softmax rows.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ && !defined(WEFT_ALLOW_FINITE_MATH)
#error "weft: -ffast-math / -ffinite-math-only removes NaN and infinity, which results here rely on; define WEFT_ALLOW_FINITE_MATH to accept that"
#endif
