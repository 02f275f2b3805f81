/* Matrix products with few rows, for float (suffix _f) and double (_d).
 *
 * For a batch of 20 samples, BLAS first packs the matrix of weights in each call, which takes as
 * long as the product. Here the operands are read in place, and a tile of the result stays in
 * registers until it is complete. `multiply` does the products for which this is faster,
 * according to the limits below, and leaves all others to BLAS.
 *
 * The loops are written once, in _products_impl.h, with the vector extensions of GNU C, and
 * compiled for two types and two instruction sets of x86-64, chosen at run time. With other
 * compilers and on other processors, BLAS does all products.
 *
 * The order in which the terms of an element are added depends only on their number: the result
 * for a row is exactly the same alone and in a batch, and for a column in any range of columns.
 */
#ifndef SKAE_PRODUCTS_H
#define SKAE_PRODUCTS_H

#include <stddef.h>
#include <string.h>

/* The instruction sets; a processor with one also has those before it. */
enum { BLAS_ONLY, AVX2, AVX512 };

#if defined(__x86_64__) && !defined(SKAE_NO_PRODUCTS) \
    && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 12)

#define UNROLL _Pragma("GCC unroll 16")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)
#define PREFETCH(p) __builtin_prefetch(p, 0, 2) /* to the second cache */
#define KEEP(vector) __asm__("" : "+v"(vector))

/* 64 bytes of zeros, then 64 of ones: masks are read across the middle. */
static const unsigned char ZEROS_AND_ONES[128] = {
#define ONES 255, 255, 255, 255, 255, 255, 255, 255
    [64] = ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES
#undef ONES
};

enum {
    TILE_ROWS = 4,
    TILE_VECTORS = 3,
    /* Block sizes that keep the data for the next tile in a cache: rows of the second operand of
     * a b; columns of both operands of a b^T, and rows of the first. */
    COMBINE_DEPTH = 128,
    DOT_DEPTH = 1024,
    DOT_ROWS = 20
};

/* Limits beyond which OpenBLAS 0.3.30 is as fast, on one thread (AVX2: Zen 3; AVX-512: Zen 4).
 * MOST_ROWS: a batch of 20 takes 0.6 of its time at 784 x 500 in float, and 0.75 in double.
 * LEAST_DEPTH: for a b^T, whose vectors of sums must be reduced at the end.
 * LEAST_OUTER, MOST_OUTER_BYTES: for a^T b, which is bound by writing c if a has few rows, and by
 * memory if c is large. */
enum { LEAST_OUTER = 8, MOST_OUTER_BYTES = 1 << 19 };

#define REAL float
#define REAL_BYTES 4

#define TARGET "avx2,fma"
#define VECTOR_BYTES 32
#define LEAST_DEPTH (2 * LANES)
#define MOST_ROWS 100
#define NAME(x) x##_f_avx2
#include "_products_impl.h"

#define TARGET "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
#define VECTOR_BYTES 64
#define LEAST_DEPTH (16 * LANES)
#define MOST_ROWS 200
#define NAME(x) x##_f_avx512
#include "_products_impl.h"

#undef REAL
#undef REAL_BYTES
#define REAL double
#define REAL_BYTES 8

#define TARGET "avx2,fma"
#define VECTOR_BYTES 32
#define LEAST_DEPTH (2 * LANES)
#define MOST_ROWS 32
#define NAME(x) x##_d_avx2
#include "_products_impl.h"

#define TARGET "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
#define VECTOR_BYTES 64
#define LEAST_DEPTH (16 * LANES)
#define MOST_ROWS 100
#define NAME(x) x##_d_avx512
#include "_products_impl.h"

#undef REAL
#undef REAL_BYTES

/* The best instruction set of this processor. */
static int best_instructions(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return AVX512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? AVX2 : BLAS_ONLY;
}

/* Do the product with these instructions or earlier ones. Returns whether it was done. */
#define MULTIPLY(type, suffix) \
    static int multiply_##suffix( \
        int instructions, int trans_a, int trans_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, \
        type alpha, const type *a, ptrdiff_t lda, const type *b, ptrdiff_t ldb, type beta, \
        type *c, ptrdiff_t ldc) \
    { \
        return (instructions >= AVX512 \
                && multiply_##suffix##_avx512(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, \
                                              beta, c, ldc)) \
               || (instructions >= AVX2 \
                   && multiply_##suffix##_avx2(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, \
                                               beta, c, ldc)); \
    }
MULTIPLY(float, f)
MULTIPLY(double, d)
#undef MULTIPLY

/* One name for both types. */
#define multiply(instructions, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) \
    _Generic((c), float *: multiply_f, double *: multiply_d)( \
        instructions, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

#else

static int best_instructions(void) { return BLAS_ONLY; }
#define multiply(...) 0

#endif
#endif
