/* Loops over active units; included twice by _elementwise.h. No include guard.
 *
 * In a top-k code, few units of each row are active; in sparse samples, few features are not zero,
 * and they are called active units, too. A list holds their number and then their indices in
 * ascending order, as int32. The lists of consecutive rows are `step` numbers of type REAL apart.
 * The rows of w belong to units. Terms are added in the order of the list, or of the rows, so that
 * results do not depend on how the columns or units are divided among threads.
 */

#define LIST(i) ((const int32_t *)(lists + (i) * step))

/* The bits of a number >= 0 or nan; they have the order of the numbers, with nan last. */
INLINE BITS NAME(order_bits)(REAL x)
{
    BITS bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & ((BITS)-1 >> 1);
}

INLINE ptrdiff_t NAME(count_from)(ptrdiff_t n, BITS least, const REAL *RESTRICT z)
{
    BITS count = 0;
    for (ptrdiff_t j = 0; j < n; j++) count += NAME(order_bits)(z[j]) >= least;
    return (ptrdiff_t)count;
}

/* List the numbers of x (n) that are not zero; returns 0 if there are more than `most`. */
CLONES static int NAME(list_nonzero)(ptrdiff_t n, ptrdiff_t most, REAL *list,
                                     const REAL *RESTRICT x)
{
    int32_t *active = (int32_t *)list, count = 0;
    for (ptrdiff_t start = 0; start < n; start += 16) {
        const ptrdiff_t stop = start + 16 < n ? start + 16 : n;
        BITS any = 0;
        for (ptrdiff_t j = start; j < stop; j++) any |= NAME(order_bits)(x[j]);
        if (!any) continue;
        for (ptrdiff_t j = start; j < stop; j++) {
            if (NAME(order_bits)(x[j]) == 0) continue;
            if (count == most) return 0;
            active[++count] = (int32_t)j;
        }
    }
    active[0] = count;
    return 1;
}

/* Keep the k largest numbers of z (n) >= 0, of equal ones the first, and set the others to zero.
 * nan counts as the largest. `list`, unless NULL, is set to those that are not zero. */
CLONES static void NAME(keep_largest)(ptrdiff_t n, ptrdiff_t k, REAL *list, REAL *RESTRICT z)
{
    /* Bisection for the largest bits that at least k numbers reach. */
    BITS low = 1, high = 0;
    for (ptrdiff_t j = 0; j < n; j++)
        high = NAME(order_bits)(z[j]) > high ? NAME(order_bits)(z[j]) : high;
    high++;
    ptrdiff_t count = NAME(count_from)(n, low, z);
    if (count > k) {
        while (high - low > 1 && count > k) {
            const BITS middle = low + (high - low) / 2;
            const ptrdiff_t reached = NAME(count_from)(n, middle, z);
            if (reached >= k) {
                low = middle;
                count = reached;
            } else {
                high = middle;
            }
        }
        for (ptrdiff_t j = 0; j < n; j++)
            z[j] = NAME(order_bits)(z[j]) >= low ? z[j] : (REAL)0.0;
        for (ptrdiff_t j = n - 1; count > k; j--) /* of those that equal low, the last */
            if (NAME(order_bits)(z[j]) == low) {
                z[j] = (REAL)0.0;
                count--;
            }
    }
    if (list) NAME(list_nonzero)(n, k, list, z);
}

/* out (m, n) := values (m, .) w (., n), where `values` are zero except for active units */
CLONES static void NAME(sum_active)(ptrdiff_t m, ptrdiff_t n, const REAL *RESTRICT lists,
                                    ptrdiff_t step, const REAL *RESTRICT values,
                                    ptrdiff_t n_units, const REAL *RESTRICT w, ptrdiff_t ldw,
                                    ptrdiff_t stride, REAL *RESTRICT out)
{
    for (ptrdiff_t i = 0; i < m; i++, values += n_units, out += stride) {
        const int32_t count = LIST(i)[0], *unit = LIST(i) + 1;
        int32_t c = 0;
        memset(out, 0, n * sizeof(REAL));
        for (; c + 4 <= count; c += 4) {
            const REAL *w0 = w + unit[c] * ldw, *w1 = w + unit[c + 1] * ldw;
            const REAL *w2 = w + unit[c + 2] * ldw, *w3 = w + unit[c + 3] * ldw;
            const REAL v0 = values[unit[c]], v1 = values[unit[c + 1]];
            const REAL v2 = values[unit[c + 2]], v3 = values[unit[c + 3]];
            for (ptrdiff_t j = 0; j < n; j++)
                out[j] = out[j] + v0 * w0[j] + v1 * w1[j] + v2 * w2[j] + v3 * w3[j];
        }
        for (; c < count; c++) {
            const REAL *row = w + unit[c] * ldw, v = values[unit[c]];
            for (ptrdiff_t j = 0; j < n; j++) out[j] = out[j] + v * row[j];
        }
    }
}

/* out (m, n_units) := x (m, n) w (n_units, n)^T for active units from `first` on, and zero for the
 * others of these units */
CLONES static void NAME(dot_active)(ptrdiff_t m, ptrdiff_t n, const REAL *RESTRICT lists,
                                    ptrdiff_t step, ptrdiff_t first, ptrdiff_t n_units,
                                    const REAL *RESTRICT x, const REAL *RESTRICT w,
                                    ptrdiff_t stride, REAL *RESTRICT out)
{
    for (ptrdiff_t i = 0; i < m; i++, x += n, out += stride) {
        const int32_t count = LIST(i)[0], *unit = LIST(i) + 1;
        int32_t c = 0;
        memset(out + first, 0, n_units * sizeof(REAL));
        while (c < count && unit[c] < first) c++;
        while (c + 4 <= count && unit[c + 3] < first + n_units) { /* the sums overlap in time */
            const REAL *w0 = w + unit[c] * n, *w1 = w + unit[c + 1] * n;
            const REAL *w2 = w + unit[c + 2] * n, *w3 = w + unit[c + 3] * n;
            REAL s0 = (REAL)0.0, s1 = (REAL)0.0, s2 = (REAL)0.0, s3 = (REAL)0.0;
            SIMD_SUM_4(s0, s1, s2, s3)
            for (ptrdiff_t j = 0; j < n; j++) {
                s0 += x[j] * w0[j];
                s1 += x[j] * w1[j];
                s2 += x[j] * w2[j];
                s3 += x[j] * w3[j];
            }
            out[unit[c]] = s0;
            out[unit[c + 1]] = s1;
            out[unit[c + 2]] = s2;
            out[unit[c + 3]] = s3;
            c += 4;
        }
        while (c < count && unit[c] < first + n_units) {
            const REAL *row = w + unit[c] * n;
            REAL sum = (REAL)0.0;
            SIMD_SUM(sum)
            for (ptrdiff_t j = 0; j < n; j++) sum += x[j] * row[j];
            out[unit[c++]] = sum;
        }
    }
}

/* out (n_units, n) += alpha values^T (., m) x (m, n) for the units from `first` on */
CLONES static void NAME(add_outer_active)(ptrdiff_t m, ptrdiff_t n, const REAL *RESTRICT lists,
                                          ptrdiff_t step, ptrdiff_t first, ptrdiff_t n_units,
                                          REAL alpha, const REAL *RESTRICT values,
                                          ptrdiff_t stride, const REAL *RESTRICT x,
                                          REAL *RESTRICT out)
{
    for (ptrdiff_t i = 0; i < m; i++, values += stride, x += n) {
        const int32_t count = LIST(i)[0], *unit = LIST(i) + 1;
        int32_t c = 0;
        while (c < count && unit[c] < first) c++;
        for (; c < count && unit[c] < first + n_units; c++) {
            const REAL v = alpha * values[unit[c]];
            REAL *RESTRICT row = out + (unit[c] - first) * n;
            for (ptrdiff_t j = 0; j < n; j++) row[j] += v * x[j];
        }
    }
}

#undef LIST
