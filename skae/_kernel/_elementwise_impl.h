/* The elementwise loops; included twice by _elementwise.h. No include guard. */

/* ---- exp ------------------------------------------------------------------
 * For x <= 0 only: exp(x) = 2^n exp(r), |r| <= ln(2) / 2, where exp(r) is a polynomial, and n is
 * in the low bits of x / ln 2 + 1.5 * 2^(mantissa bits). The exp of libm is a call per element,
 * which is 25 times slower. The absolute error is below 2 ulp of 1. nan gives nan, because it is
 * a factor of the result.
 */
INLINE REAL NAME(exp_poly)(REAL x)
{
    BITS n;
    REAL power;
    if (sizeof(REAL) == 4) {
        x = x < (REAL)-87.0 ? (REAL)-87.0 : x;
        const REAL t = x * (REAL)1.44269504088896341 + (REAL)12582912.0;
        const REAL k = t - (REAL)12582912.0;
        REAL r = x - k * (REAL)0.693359375;
        r = r + k * (REAL)2.12194440e-4;
        REAL p = (REAL)1.9875691500e-4;
        p = p * r + (REAL)1.3981999507e-3;
        p = p * r + (REAL)8.3334519073e-3;
        p = p * r + (REAL)4.1665795894e-2;
        p = p * r + (REAL)1.6666665459e-1;
        p = p * r + (REAL)5.0000001201e-1;
        p = p * (r * r) + r + (REAL)1.0;
        memcpy(&n, &t, sizeof n);
        n = (n + 127) << 23;
        memcpy(&power, &n, sizeof power);
        return p * power;
    } else {
        x = x < (REAL)-708.0 ? (REAL)-708.0 : x;
        const REAL t = x * (REAL)1.44269504088896341 + (REAL)6755399441055744.0;
        const REAL k = t - (REAL)6755399441055744.0;
        REAL r = x - k * (REAL)0.693147180369123816490;
        r = r - k * (REAL)1.90821492927058770002e-10;
        REAL p = (REAL)(1.0 / 6227020800.0); /* 1 / 13!, then the lower terms of the series */
        p = p * r + (REAL)(1.0 / 479001600.0);
        p = p * r + (REAL)(1.0 / 39916800.0);
        p = p * r + (REAL)(1.0 / 3628800.0);
        p = p * r + (REAL)(1.0 / 362880.0);
        p = p * r + (REAL)(1.0 / 40320.0);
        p = p * r + (REAL)(1.0 / 5040.0);
        p = p * r + (REAL)(1.0 / 720.0);
        p = p * r + (REAL)(1.0 / 120.0);
        p = p * r + (REAL)(1.0 / 24.0);
        p = p * r + (REAL)(1.0 / 6.0);
        p = p * r + (REAL)0.5;
        p = p * r + (REAL)1.0;
        p = p * r + (REAL)1.0;
        memcpy(&n, &t, sizeof n);
        n = (n + 1023) << (sizeof(REAL) == 4 ? 23 : 52);
        memcpy(&power, &n, sizeof power);
        return p * power;
    }
}

INLINE REAL NAME(logistic)(REAL z)
{
    const REAL e = NAME(exp_poly)(-FABS(z)); /* never overflows */
    const REAL p = (REAL)1.0 / ((REAL)1.0 + e);
    return z >= (REAL)0.0 ? p : e * p;
}

INLINE REAL NAME(hyperbolic_tangent)(REAL z)
{
    const REAL e = NAME(exp_poly)((REAL)-2.0 * FABS(z));
    const REAL t = ((REAL)1.0 - e) / ((REAL)1.0 + e);
    return z >= (REAL)0.0 ? t : -t;
}

/* z (n) := softmax(z), in place; returns log sum exp of the original z */
INLINE double NAME(softmax)(ptrdiff_t n, REAL *RESTRICT z)
{
    REAL largest = z[0], sum = (REAL)0.0;
    for (ptrdiff_t j = 1; j < n; j++) largest = z[j] > largest ? z[j] : largest;
    SIMD_SUM(sum)
    for (ptrdiff_t j = 0; j < n; j++) {
        z[j] = NAME(exp_poly)(z[j] - largest);
        sum += z[j];
    }
    const REAL inverse = (REAL)1.0 / sum;
    for (ptrdiff_t j = 0; j < n; j++) z[j] *= inverse;
    return (double)largest + log((double)sum);
}

/* ---- activations: f in place, and f' from the output of f ---------------- */

/* z (m, n) := f(z + bias); here and below, rows are `stride` numbers apart */
CLONES static void NAME(activate)(int kind, ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride,
                                  const REAL *RESTRICT bias, REAL *RESTRICT z)
{
    for (ptrdiff_t i = 0; i < m; i++, z += stride) {
        switch (kind) {
        case ACT_LOGISTIC:
            for (ptrdiff_t j = 0; j < n; j++) z[j] = NAME(logistic)(z[j] + bias[j]);
            break;
        case ACT_TANH:
            for (ptrdiff_t j = 0; j < n; j++) z[j] = NAME(hyperbolic_tangent)(z[j] + bias[j]);
            break;
        case ACT_RELU:
        case ACT_TOP_K: /* `keep_largest` follows */
            for (ptrdiff_t j = 0; j < n; j++) {
                const REAL s = z[j] + bias[j];
                z[j] = s < (REAL)0.0 ? (REAL)0.0 : s; /* keeps nan */
            }
            break;
        default:
            for (ptrdiff_t j = 0; j < n; j++) z[j] += bias[j];
        }
        if (kind == ACT_SOFTMAX) NAME(softmax)(n, z);
    }
}

/* d *= f'(z), where keep * a = f(z): dropout has divided the kept elements of a by `keep` */
CLONES static void NAME(activation_backward)(int kind, ptrdiff_t m, ptrdiff_t n,
                                             ptrdiff_t stride, REAL keep,
                                             const REAL *RESTRICT a, REAL *RESTRICT d)
{
    for (ptrdiff_t i = 0; i < m; i++, a += stride, d += stride) {
        switch (kind) {
        case ACT_LOGISTIC:
            for (ptrdiff_t j = 0; j < n; j++) {
                const REAL f = keep * a[j];
                d[j] *= f * ((REAL)1.0 - f);
            }
            break;
        case ACT_TANH:
            for (ptrdiff_t j = 0; j < n; j++) {
                const REAL f = keep * a[j];
                d[j] *= (REAL)1.0 - f * f;
            }
            break;
        case ACT_RELU:
        case ACT_TOP_K:
            for (ptrdiff_t j = 0; j < n; j++) d[j] = a[j] > (REAL)0.0 ? d[j] : (REAL)0.0;
            break;
        }
    }
}

/* Factor of the loss that makes up for the missing values of a row; 0 if all are missing. */
CLONES static double NAME(inverse_share)(ptrdiff_t n, const REAL *RESTRICT x)
{
    BITS count = 0;
    for (ptrdiff_t j = 0; j < n; j++) count += !IS_MISSING(x[j]);
    return count ? (double)n / (double)count : 0.0;
}

/* ---- losses of a row, or of some of its columns ------------------------------
 * In: d holds the row's pre-activations without bias. Out: d holds the
 * gradient of `scale * loss` with respect to them. Returns the loss.
 * A missing target has no loss and no gradient.
 * Sums run over blocks in REAL and from block to block in double.
 */
#define BLOCK 64

CLONES static double NAME(squared_error)(int kind, ptrdiff_t n, REAL scale,
                                         const REAL *RESTRICT bias,
                                         const REAL *RESTRICT target, REAL *RESTRICT d)
{
    double loss = 0.0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t stop = start + BLOCK < n ? start + BLOCK : n;
        REAL sum = (REAL)0.0, a[BLOCK];
        NAME(activate)(kind, 1, stop - start, 0, bias + start, d + start);
        SIMD_SUM(sum)
        for (ptrdiff_t j = start; j < stop; j++) {
            const REAL error = IS_MISSING(target[j]) ? (REAL)0.0 : d[j] - target[j];
            sum += error * error;
            a[j - start] = d[j];
            d[j] = (REAL)2.0 * scale * error;
        }
        NAME(activation_backward)(kind, 1, stop - start, 0, (REAL)1.0, a, d + start);
        loss += (double)sum;
    }
    return loss;
}

/* Cross-entropy of a logistic output, in nats, computed from the logit z as
 *     max(z, 0) - x z + log(1 + exp(-|z|)),
 * which is neither inf nor nan for a saturated unit. One log is enough for a block,
 * because the product of BLOCK factors in (1, 2] does not overflow. */
CLONES static double NAME(cross_entropy)(ptrdiff_t n, REAL scale, const REAL *RESTRICT bias,
                                         const REAL *RESTRICT target, REAL *RESTRICT d)
{
    double loss = 0.0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t stop = start + BLOCK < n ? start + BLOCK : n;
        REAL sum = (REAL)0.0, product = (REAL)1.0;
        SIMD_SUM_PRODUCT(sum, product)
        for (ptrdiff_t j = start; j < stop; j++) {
            const REAL x = target[j], z = d[j] + bias[j];
            const REAL e = NAME(exp_poly)(-FABS(z));
            const REAL p = (REAL)1.0 / ((REAL)1.0 + e);
            const REAL linear = (z > (REAL)0.0 ? z : (REAL)0.0) - x * z;
            const REAL slope = ((z >= (REAL)0.0 ? p : e * p) - x) * scale;
            sum += IS_MISSING(x) ? (REAL)0.0 : linear;
            product *= IS_MISSING(x) ? (REAL)1.0 : (REAL)1.0 + e;
            d[j] = IS_MISSING(x) ? (REAL)0.0 : slope;
        }
        loss += (double)sum + log((double)product);
    }
    return loss;
}

/* Cross-entropy of a softmax output, in nats, where targets are class probabilities. */
CLONES static double NAME(softmax_loss)(ptrdiff_t n, REAL scale, const REAL *RESTRICT bias,
                                        const REAL *RESTRICT target, REAL *RESTRICT d)
{
    REAL sum = (REAL)0.0, dot = (REAL)0.0;
    for (ptrdiff_t j = 0; j < n; j++) {
        d[j] += bias[j];
        sum += target[j];
        dot += target[j] * d[j];
    }
    const double log_sum = NAME(softmax)(n, d);
    for (ptrdiff_t j = 0; j < n; j++) d[j] = (sum * d[j] - target[j]) * scale;
    return (double)sum * log_sum - (double)dot;
}

#undef BLOCK

/* ---- smoothness and confidence of predictions --------------------------------
 * p are the predicted probabilities: of each class with log loss, or of the second of two
 * classes with cross-entropy (n is 1).
 */

/* p := the probabilities for the logits z without bias */
static void NAME(predict)(int loss, ptrdiff_t n, const REAL *bias, const REAL *z, REAL *p)
{
    for (ptrdiff_t j = 0; j < n; j++) p[j] = z[j] + bias[j];
    if (loss == LOSS_SOFTMAX)
        NAME(softmax)(n, p);
    else
        for (ptrdiff_t j = 0; j < n; j++) p[j] = NAME(logistic)(p[j]);
}

INLINE double NAME(log_of)(REAL p) { return log((double)p + 1e-30); }

/* KL(p || q), where q are the probabilities for the logits d (n) without bias. The gradient
 * replaces d. */
static double NAME(divergence)(int loss, ptrdiff_t n, REAL scale, const REAL *bias, const REAL *p,
                               REAL *d)
{
    double sum = 0.0;
    if (loss == LOSS_SOFTMAX) {
        double dot = 0.0;
        for (ptrdiff_t j = 0; j < n; j++) {
            d[j] += bias[j];
            dot += (double)p[j] * (double)d[j];
            sum += (double)p[j] * NAME(log_of)(p[j]);
        }
        sum += NAME(softmax)(n, d) - dot;
    } else {
        const double z = (double)d[0] + (double)bias[0], s = (double)p[0];
        sum = s * NAME(log_of)(p[0]) + (1.0 - s) * log(1.0 - s + 1e-30);
        sum += (z > 0.0 ? z : 0.0) - s * z + log1p(exp(-fabs(z)));
        d[0] = NAME(logistic)((REAL)z);
    }
    for (ptrdiff_t j = 0; j < n; j++) d[j] = scale * (d[j] - p[j]);
    return sum;
}

/* Returns `factor` times the entropy of p. Its gradient with respect to the logits, times `scale`,
 * and that of sum(slope * p), times `share`, are added to d (n). slope has a number per class. */
static double NAME(uncertainty)(int loss, ptrdiff_t n, double factor, double scale, double share,
                                const REAL *p, const REAL *slope, REAL *d)
{
    double entropy = 0.0, mean = 0.0;
    if (loss != LOSS_SOFTMAX) {
        const double s = (double)p[0], none = 1.0 - s;
        const double odds = NAME(log_of)(p[0]) - log(none + 1e-30);
        const double up = share * (double)(slope[1] - slope[0]) - factor * scale * odds;
        d[0] += (REAL)(s * none * up);
        return -factor * (s * NAME(log_of)(p[0]) + none * log(none + 1e-30));
    }
    for (ptrdiff_t j = 0; j < n; j++) {
        const double log_p = NAME(log_of)(p[j]);
        entropy -= (double)p[j] * log_p;
        mean += (double)p[j] * (share * (double)slope[j] - factor * scale * log_p);
    }
    for (ptrdiff_t j = 0; j < n; j++) {
        const double up = share * (double)slope[j] - factor * scale * NAME(log_of)(p[j]);
        d[j] += (REAL)((double)p[j] * (up - mean));
    }
    return factor * entropy;
}

/* x (n) := standard normal numbers, an initial direction */
CLONES static void NAME(start_direction)(uint64_t key, ptrdiff_t n, REAL *RESTRICT x)
{
    const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), columns = (uint32_t)n;
    for (uint32_t j = 0; j < columns; j++) {
        const uint32_t h = column_bits(k0, k1, j), g = column_bits(k0, k1, j ^ 0x80000000u);
        x[j] = (REAL)normal_draw(h, g);
    }
}

/* out := x + length * direction / |direction|; x if the direction is zero */
CLONES static void NAME(displace)(ptrdiff_t n, double length, const REAL *RESTRICT x,
                                  const REAL *RESTRICT direction, REAL *RESTRICT out)
{
    REAL largest = (REAL)0.0, sum = (REAL)0.0;
    for (ptrdiff_t j = 0; j < n; j++) {
        const REAL size = FABS(direction[j]);
        largest = size > largest ? size : largest;
    }
    /* Division by the largest number avoids that squares under- or overflow. */
    const REAL unit = largest > (REAL)0.0 ? (REAL)1.0 / largest : (REAL)0.0;
    SIMD_SUM(sum)
    for (ptrdiff_t j = 0; j < n; j++) sum += (direction[j] * unit) * (direction[j] * unit);
    const REAL factor = sum > (REAL)0.0 ? (REAL)(length / sqrt((double)sum)) : (REAL)0.0;
    for (ptrdiff_t j = 0; j < n; j++) out[j] = x[j] + factor * (direction[j] * unit);
}

/* ---- noise ------------------------------------------------------------------
 * Column counters have 32 bits, as the hash does: a wider counter would have to be
 * converted in each step, which takes a third of the time.
 */

/* Dropout of x (n), the columns from `first` on, in place: zero with probability `level`, else
 * divided by 1 - level. Activations in the forward pass and their gradient in the backward pass
 * have the same mask. */
CLONES static void NAME(dropout)(double level, uint64_t key, ptrdiff_t first, ptrdiff_t n,
                                 REAL *RESTRICT x)
{
    const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), columns = (uint32_t)n;
    const int32_t below = hit_threshold(level);
    const REAL scale = (REAL)(1.0 / (1.0 - level));
    for (uint32_t j = 0; j < columns; j++) {
        const uint32_t h = column_bits(k0, k1, (uint32_t)first + j);
        x[j] = (int32_t)(h >> 1) <= below ? (REAL)0.0 : x[j] * scale;
    }
}

/* out := corrupted x, for one row; missing values become zero */
CLONES static void NAME(corrupt)(const corruption_settings *settings, uint64_t key, ptrdiff_t n,
                                 const REAL *RESTRICT x, REAL *RESTRICT out)
{
    const int kind = settings->kind;
    const double level = settings->level;
    const double *RESTRICT low = settings->low, *RESTRICT high = settings->high;
    const double *RESTRICT scale = settings->scale;
    const REAL *pool = (const REAL *)settings->pool;
    const uint64_t n_pool = (uint64_t)settings->n_pool;
    const uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), columns = (uint32_t)n;
    /* The share of elements that are hit, and the standard deviation of their noise. */
    double share = kind == NOISE_GAUSSIAN ? 0.0 : level, deviation = level;
    if (kind == NOISE_VARIABLE_MASKING) share *= row_draw(k0, k1, 0);
    if (kind == NOISE_VARIABLE_GAUSSIAN) {
        share = row_draw(k0, k1, 0);
        deviation /= pow(LEVEL_RANGE, row_draw(k0, k1, 1));
    }
    const int32_t below = hit_threshold(share);
    switch (kind) {
    case NOISE_MASKING:
    case NOISE_VARIABLE_MASKING:
        for (uint32_t j = 0; j < columns; j++) {
            const uint32_t h = column_bits(k0, k1, j);
            const REAL kept = (int32_t)(h >> 1) <= below ? (REAL)0.0 : x[j];
            out[j] = OR_ZERO(kept);
        }
        break;
    case NOISE_GAUSSIAN:
        for (uint32_t j = 0; j < columns; j++) {
            const uint32_t h = column_bits(k0, k1, j);
            const uint32_t g = column_bits(k0, k1, j ^ 0x80000000u);
            const REAL noisy = x[j] + (REAL)(level * scale[j]) * (REAL)normal_draw(h, g);
            out[j] = IS_MISSING(x[j]) ? (REAL)0.0 : noisy;
        }
        break;
    case NOISE_VARIABLE_GAUSSIAN:
        for (uint32_t j = 0; j < columns; j++) {
            const uint32_t h = column_bits(k0, k1, j);
            const uint32_t g = column_bits(k0, k1, j ^ 0x80000000u);
            const uint32_t hit = column_bits(k0, k1, j ^ 0x40000000u);
            const REAL noise = (REAL)(deviation * scale[j]) * (REAL)normal_draw(h, g);
            const REAL noisy = x[j] + ((int32_t)(hit >> 1) <= below ? noise : (REAL)0.0);
            out[j] = IS_MISSING(x[j]) ? (REAL)0.0 : noisy;
        }
        break;
    case NOISE_SALT_AND_PEPPER:
        for (uint32_t j = 0; j < columns; j++) {
            const uint32_t h = column_bits(k0, k1, j);
            const REAL extreme = (REAL)(h & 1u ? high[j] : low[j]);
            const REAL value = (int32_t)(h >> 1) <= below ? extreme : x[j];
            out[j] = IS_MISSING(x[j]) ? (REAL)0.0 : value;
        }
        break;
    case NOISE_SWAP:
        for (uint32_t j = 0; j < columns; j++) {
            const uint32_t h = column_bits(k0, k1, j);
            const uint64_t donor = column_bits(k0, k1, j ^ 0x80000000u) * n_pool >> 32;
            const REAL value = (int32_t)(h >> 1) <= below ? pool[donor * columns + j] : x[j];
            out[j] = IS_MISSING(x[j]) ? (REAL)0.0 : OR_ZERO(value);
        }
        break;
    default:
        for (ptrdiff_t j = 0; j < n; j++) out[j] = OR_ZERO(x[j]);
        if (kind == NOISE_DROPOUT) NAME(dropout)(level, key, 0, n, out);
    }
}

/* x += radius * sign(slope), rows `stride` numbers apart */
CLONES static void NAME(perturb)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, REAL radius,
                                 const REAL *RESTRICT slope, REAL *RESTRICT x)
{
    for (ptrdiff_t i = 0; i < m; i++, slope += stride, x += stride)
        for (ptrdiff_t j = 0; j < n; j++) {
            const REAL up = slope[j] > (REAL)0.0 ? radius : (REAL)0.0;
            x[j] += slope[j] < (REAL)0.0 ? -radius : up;
        }
}

/* ---- sums over the rows of a batch ---------------------------------------- */

/* x (n) := factor x; zero if the factor is, even where x is nan */
CLONES static void NAME(scale_numbers)(ptrdiff_t n, REAL factor, REAL *RESTRICT x)
{
    if (factor == (REAL)0.0)
        memset(x, 0, n * sizeof(REAL));
    else
        for (ptrdiff_t j = 0; j < n; j++) x[j] *= factor;
}

/* out (n) += alpha * sum_i d[i, :] */
CLONES static void NAME(add_rows)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, REAL alpha,
                                  const REAL *RESTRICT d, REAL *RESTRICT out)
{
    for (ptrdiff_t i = 0; i < m; i++, d += stride)
        for (ptrdiff_t j = 0; j < n; j++) out[j] += alpha * d[j];
}

/* Kullback-Leibler divergence between `target` and the mean activation of each unit, which is
 * mapped to (0, 1) for tanh. `scale` (m) are the weights of the rows, and `weight` is their sum;
 * rho (n) is scratch. Adds the gradient to d = dcost / da and returns the penalty. */
CLONES static double NAME(sparsity)(int kind, ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride,
                                    double target, double penalty, double weight,
                                    const REAL *RESTRICT scale, const REAL *RESTRICT a,
                                    REAL *RESTRICT d, REAL *RESTRICT rho)
{
    const REAL share = weight > 0.0 ? (REAL)(1.0 / weight) : (REAL)0.0;
    const REAL tiny = (REAL)1e-6; /* for units that are never or always active */
    double total = 0.0;
    for (ptrdiff_t j = 0; j < n; j++) rho[j] = (REAL)0.0;
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) rho[j] += scale[i] * a[i * stride + j];
    const REAL slope = kind == ACT_TANH ? (REAL)0.5 : (REAL)1.0;
    for (ptrdiff_t j = 0; j < n; j++) {
        REAL r = share * rho[j];
        r = kind == ACT_TANH ? (REAL)0.5 * (r + (REAL)1.0) : r;
        r = r < tiny ? tiny : r;
        r = r > (REAL)1.0 - tiny ? (REAL)1.0 - tiny : r;
        total += target * log(target / (double)r)
                 + (1.0 - target) * log((1.0 - target) / (1.0 - (double)r));
        rho[j] = (REAL)(penalty * (-target / (double)r + (1.0 - target) / (1.0 - (double)r)))
                 * slope * share;
    }
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) d[i * stride + j] += scale[i] * rho[j];
    return penalty * total;
}

/* Scale rows of w (m, n) down to a Euclidean norm of at most `limit`. */
CLONES static void NAME(limit_norms)(ptrdiff_t m, ptrdiff_t n, REAL limit, REAL *RESTRICT w)
{
    for (ptrdiff_t i = 0; i < m; i++, w += n) {
        REAL sum = (REAL)0.0;
        SIMD_SUM(sum)
        for (ptrdiff_t j = 0; j < n; j++) sum += w[j] * w[j];
        if (sum > limit * limit) {
            const REAL shrink = limit / SQRT(sum);
            for (ptrdiff_t j = 0; j < n; j++) w[j] *= shrink;
        }
    }
}

/* Scale the columns of w (m, n) in the same way; norm (n) is scratch. */
CLONES static void NAME(limit_column_norms)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, REAL limit,
                                            REAL *RESTRICT w, REAL *RESTRICT norm)
{
    memset(norm, 0, n * sizeof(REAL));
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) norm[j] += w[i * stride + j] * w[i * stride + j];
    for (ptrdiff_t j = 0; j < n; j++)
        norm[j] = norm[j] > limit * limit ? limit / SQRT(norm[j]) : (REAL)1.0;
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) w[i * stride + j] *= norm[j];
}

/* ---- updates: one pass over a range of the flat buffer --------------------- */

/* Stochastic gradient descent with momentum, as in scikit-learn:
 * v := momentum v - rate g; w += v, or w += momentum v - rate g with Nesterov's. */
CLONES static void NAME(momentum_update)(ptrdiff_t size, REAL rate, REAL momentum, int nesterov,
                                         REAL decay, const REAL *RESTRICT gradient,
                                         REAL *RESTRICT velocity, REAL *RESTRICT w)
{
    for (ptrdiff_t j = 0; j < size; j++) {
        const REAL step = rate * (gradient[j] + decay * w[j]);
        const REAL v = momentum * velocity[j] - step;
        velocity[j] = v;
        w[j] += nesterov ? momentum * v - step : v;
    }
}

/* Adam (Kingma and Ba 2015). `rate` includes the bias corrections. */
CLONES static void NAME(adam_update)(ptrdiff_t size, REAL rate, double beta_1, double beta_2,
                                     REAL epsilon, REAL decay, const REAL *RESTRICT gradient,
                                     REAL *RESTRICT mean, REAL *RESTRICT square,
                                     REAL *RESTRICT w)
{
    /* Differences in double: single precision would round some of them to zero. */
    const REAL new_1 = (REAL)(1.0 - beta_1), new_2 = (REAL)(1.0 - beta_2);
    const REAL tiny = sizeof(REAL) == 4 ? (REAL)1e-30 : (REAL)1e-300;
    epsilon = epsilon < tiny ? tiny : epsilon;
    for (ptrdiff_t j = 0; j < size; j++) {
        const REAL g = gradient[j] + decay * w[j];
        const REAL a = mean[j] + new_1 * (g - mean[j]);
        const REAL b = square[j] + new_2 * (g * g - square[j]);
        mean[j] = a;
        square[j] = b;
        w[j] -= rate * a / (SQRT(b) + epsilon);
    }
}
