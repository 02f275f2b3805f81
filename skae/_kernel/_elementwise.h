/* Elementwise loops of the kernel, for float (suffix _f) and double (_d).
 *
 * The loops are written once, in _elementwise_impl.h, for a type REAL, and compiled
 * twice. They use plain `restrict` pointers, so that the compiler can vectorise, and
 * neither allocate memory nor keep state, so that they are thread-safe.
 * Callers use the names without suffix; see the end of this file.
 *
 * This is C11, the default of GCC >= 5 and clang >= 3.6. With GCC >= 12 on x86-64
 * glibc each loop is compiled for three instruction sets, and the dynamic linker
 * chooses one; elsewhere it is compiled once, for the baseline of the target.
 */
#ifndef SKAE_ELEMENTWISE_H
#define SKAE_ELEMENTWISE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h> /* defines __GLIBC__ on glibc */
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#define RESTRICT __restrict
#define INLINE static __forceinline
#else
#define RESTRICT restrict
#define INLINE static inline __attribute__((always_inline))
#endif

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__x86_64__) \
    && defined(__GLIBC__) && !defined(SKAE_NO_TARGET_CLONES)
#define CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CLONES
#endif

/* A missing value is nan. */
#define IS_MISSING(x) ((x) != (x))
#define OR_ZERO(x) (IS_MISSING(x) ? (REAL)0.0 : (x))

/* Only these macros allow the compiler to reorder reductions over floats. */
#if defined(_MSC_VER) && !defined(__clang__)
#define SIMD_SUM(x)
#define SIMD_SUM_4(a, b, c, d)
#define SIMD_SUM_PRODUCT(x, y)
#else
#define PRAGMA(x) _Pragma(#x)
#define SIMD_SUM(x) PRAGMA(omp simd reduction(+ : x))
#define SIMD_SUM_4(a, b, c, d) PRAGMA(omp simd reduction(+ : a, b, c, d))
#define SIMD_SUM_PRODUCT(x, y) PRAGMA(omp simd reduction(+ : x) reduction(* : y))
#endif

/* The only definition of each number and its name in Python. Softmax, which is for outputs only,
 * must be the last of the activations. */
enum { ACT_IDENTITY, ACT_LOGISTIC, ACT_TANH, ACT_RELU, ACT_TOP_K, ACT_SOFTMAX };
#define ACTIVATION_NAMES "identity logistic tanh relu top_k softmax"
enum { LOSS_SQUARED_ERROR, LOSS_CROSS_ENTROPY, LOSS_SOFTMAX };
#define LOSS_NAMES "squared_error cross_entropy log_loss"
enum {
    NOISE_NONE,
    NOISE_MASKING,
    NOISE_GAUSSIAN,
    NOISE_SALT_AND_PEPPER,
    NOISE_DROPOUT,
    NOISE_SWAP,
    NOISE_VARIABLE_MASKING,
    NOISE_VARIABLE_GAUSSIAN
};
#define NOISE_NAMES \
    "none masking gaussian salt_and_pepper dropout swap variable_masking variable_gaussian"

/* Ratio of the largest to the smallest deviation of variable Gaussian noise. */
#define LEVEL_RANGE 30.0
enum { SOLVER_PLAIN_SGD, SOLVER_MOMENTUM, SOLVER_ADAM };
#define SOLVER_NAMES "plain_sgd momentum adam"

/* Noise on the input of a network. The comments tell which kinds use a field. */
typedef struct {
    int kind;
    double level; /* probability of a hit; Gaussian: factor of `scale`; variable: maximum */
    const double *low, *high; /* salt and pepper: extremes of each column */
    const double *scale;      /* Gaussian: the standard deviation of each column */
    const void *pool;         /* swap: n_pool rows from which elements are taken */
    ptrdiff_t n_pool;
} corruption_settings;

/* ---- counter-based noise ------------------------------------------------
 * A draw is a hash of (key, row, column) only, so it does not depend on the order of the
 * rows, the batch size or the number of threads.
 */

/* The 64-bit key of a row: SplitMix64 of Steele, Lea and Flood. */
INLINE uint64_t row_key(uint64_t key, uint64_t row)
{
    uint64_t z = key + (row + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* The key for the noise on a row of the input of a layer. */
INLINE uint64_t layer_key(uint64_t key, uint64_t layer, uint64_t row)
{
    return row_key(key + layer * 0xD1B54A32D192ED03u, row);
}

/* 32 uniform bits for one column: the finaliser of MurmurHash3, keyed twice. */
INLINE uint32_t column_bits(uint32_t low, uint32_t high, uint32_t column)
{
    uint32_t h = column * 0x9E3779B1u + low;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = ((h ^ high) ^ (h >> 13)) * 0xC2B2AE35u;
    return h ^ (h >> 16);
}

/* An element is hit, with probability `level`, if the upper 31 of its 32 bits are at most this.
 * The last bit is independent of it. */
INLINE int32_t hit_threshold(double level)
{
    return (int32_t)((int64_t)(level * 2147483648.0) - 1); /* -1 (never) for level 0 */
}

/* A uniform number in (0, 1) for a whole row; `which` distinguishes several of them. They differ
 * from the draws of columns, of which there are fewer than 2^29. */
INLINE double row_draw(uint32_t low, uint32_t high, uint32_t which)
{
    return (column_bits(low, high, 0x60000000u + which) + 0.5) / 4294967296.0;
}

INLINE float log_unit(float u) /* log(u) for u in [2^-24, 1], as in Cephes */
{
    uint32_t bits;
    memcpy(&bits, &u, 4);
    float e = (float)((int32_t)(bits >> 23) - 126);
    bits = (bits & 0x007FFFFFu) | 0x3F000000u;
    float m;
    memcpy(&m, &bits, 4);
    const int small = m < 0.70710678f;
    e = small ? e - 1.0f : e;
    m = small ? m + m - 1.0f : m - 1.0f;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const float z = m * m;
    return m + (m * z * p - 0.5f * z) + e * 0.69314718f;
}

/* A standard normal number from two draws (Box and Muller). Single precision is enough for
 * noise, and makes the noise of float and double networks equal. */
INLINE float normal_draw(uint32_t first, uint32_t second)
{
    const float u = (float)((int32_t)(first >> 8) + 1) * 5.9604645e-8f; /* (0, 1] */
    const float v = (float)(int32_t)(second >> 8) * 5.9604645e-8f;      /* [0, 1) */
    const float w = 0.25f - fabsf(v - 0.5f);                            /* [-1/4, 1/4] */
    const float t = 6.2831853f * w, t2 = t * t;
    float s = -2.5052108e-8f; /* sin(t), by its series */
    s = s * t2 + 2.7557319e-6f;
    s = s * t2 - 1.9841270e-4f;
    s = s * t2 + 8.3333333e-3f;
    s = s * t2 - 1.6666667e-1f;
    s = t + t * t2 * s;
    return sqrtf(-2.0f * log_unit(u)) * s;
}

#define REAL float
#define BITS uint32_t
#define NAME(x) x##_f
#define FABS fabsf
#define SQRT sqrtf
#include "_elementwise_impl.h"
#include "_active_impl.h"
#undef REAL
#undef BITS
#undef NAME
#undef FABS
#undef SQRT

#define REAL double
#define BITS uint64_t
#define NAME(x) x##_d
#define FABS fabs
#define SQRT sqrt
#include "_elementwise_impl.h"
#include "_active_impl.h"
#undef REAL
#undef BITS
#undef NAME
#undef FABS
#undef SQRT

/* ---- one name for both types ------------------------------------------------
 * Cython's fused types do not select C functions, but _Generic does. The type is that of the
 * last pointer, which is always one that the loop writes to.
 */
#define BY_TYPE(name, pointer) _Generic((pointer), float *: name##_f, double *: name##_d)

#define activate(kind, m, n, stride, bias, z) BY_TYPE(activate, z)(kind, m, n, stride, bias, z)
#define activation_backward(kind, m, n, stride, keep, a, d) \
    BY_TYPE(activation_backward, d)(kind, m, n, stride, keep, a, d)
#define keep_largest(n, k, list, z) BY_TYPE(keep_largest, z)(n, k, list, z)
#define list_nonzero(n, most, list, x) BY_TYPE(list_nonzero, list)(n, most, list, x)
#define sum_active(m, n, lists, step, values, n_units, w, ldw, stride, out) \
    BY_TYPE(sum_active, out)(m, n, lists, step, values, n_units, w, ldw, stride, out)
#define dot_active(m, n, lists, step, first, n_units, x, w, stride, out) \
    BY_TYPE(dot_active, out)(m, n, lists, step, first, n_units, x, w, stride, out)
#define add_outer_active(m, n, lists, step, first, n_units, alpha, values, stride, x, out) \
    BY_TYPE(add_outer_active, out)(m, n, lists, step, first, n_units, alpha, values, stride, x, \
                                   out)
#define inverse_share(n, x) \
    _Generic((x), const float *: inverse_share_f, const double *: inverse_share_d)(n, x)
#define squared_error(kind, n, scale, bias, target, d) \
    BY_TYPE(squared_error, d)(kind, n, scale, bias, target, d)
#define cross_entropy(n, scale, bias, target, d) \
    BY_TYPE(cross_entropy, d)(n, scale, bias, target, d)
#define softmax_loss(n, scale, bias, target, d) \
    BY_TYPE(softmax_loss, d)(n, scale, bias, target, d)
#define predict(loss, n, bias, z, p) BY_TYPE(predict, p)(loss, n, bias, z, p)
#define divergence(loss, n, scale, bias, p, d) \
    BY_TYPE(divergence, d)(loss, n, scale, bias, p, d)
#define uncertainty(loss, n, factor, scale, share, p, slope, d) \
    BY_TYPE(uncertainty, d)(loss, n, factor, scale, share, p, slope, d)
#define start_direction(key, n, x) BY_TYPE(start_direction, x)(key, n, x)
#define displace(n, length, x, direction, out) \
    BY_TYPE(displace, out)(n, length, x, direction, out)
#define dropout(level, key, first, n, x) BY_TYPE(dropout, x)(level, key, first, n, x)
#define corrupt(settings, key, n, x, out) BY_TYPE(corrupt, out)(settings, key, n, x, out)
#define perturb(m, n, stride, radius, slope, x) \
    BY_TYPE(perturb, x)(m, n, stride, radius, slope, x)
#define scale_numbers(n, factor, x) BY_TYPE(scale_numbers, x)(n, factor, x)
#define add_rows(m, n, stride, alpha, d, out) \
    BY_TYPE(add_rows, out)(m, n, stride, alpha, d, out)
#define sparsity(kind, m, n, stride, target, penalty, weight, scale, a, d, rho) \
    BY_TYPE(sparsity, rho)(kind, m, n, stride, target, penalty, weight, scale, a, d, rho)
#define limit_column_norms(m, n, stride, limit, w, norm) \
    BY_TYPE(limit_column_norms, norm)(m, n, stride, limit, w, norm)
#define limit_norms(m, n, limit, w) BY_TYPE(limit_norms, w)(m, n, limit, w)
#define momentum_update(size, rate, momentum, nesterov, decay, gradient, velocity, w) \
    BY_TYPE(momentum_update, w)(size, rate, momentum, nesterov, decay, gradient, velocity, w)
#define adam_update(size, rate, beta_1, beta_2, epsilon, decay, gradient, mean, square, w) \
    BY_TYPE(adam_update, w)(size, rate, beta_1, beta_2, epsilon, decay, gradient, mean, square, w)

#endif
