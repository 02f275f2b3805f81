/* The products; included by _products.h for each type and instruction set. No include guard.
 * Matrices are row-major, with row strides lda, ldb and ldc. */

#define DOT_COLUMNS (VECTOR_BYTES == 64 ? 4 : 3) /* AVX-512 has more registers */
#define LANES (VECTOR_BYTES / REAL_BYTES)
#define WIDTH (TILE_VECTORS * LANES)
#define VECTOR NAME(vector)
#define QUAD NAME(quad)
#define PRODUCT static inline __attribute__((always_inline, target(TARGET)))

/* Vectors may be unaligned, and alias the numbers in memory. */
typedef REAL VECTOR __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BYTES), may_alias));
typedef REAL QUAD __attribute__((vector_size(4 * REAL_BYTES), aligned(REAL_BYTES), may_alias));

typedef unsigned char NAME(bytes) __attribute__((vector_size(VECTOR_BYTES), aligned(1)));

#define LOAD(p) (*(const VECTOR *)(p))
#define STORE(p, v) (*(VECTOR *)(p) = (v))

/* Sum the lanes of each of four vectors. */
PRODUCT QUAD NAME(sum_lanes)(const VECTOR *v)
{
    QUAD q[4];
    EACH(p, 4)
    {
#define PART(a, b, c, d) __builtin_shufflevector(v[p], v[p], a, b, c, d)
        q[p] = PART(0, 1, 2, 3);
#if LANES >= 8
        q[p] += PART(4, 5, 6, 7);
#endif
#if LANES >= 16
        q[p] += PART(8, 9, 10, 11) + PART(12, 13, 14, 15);
#endif
#undef PART
    }
#define MERGE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
    const QUAD left = MERGE(q[0], q[1], 0, 4, 1, 5) + MERGE(q[0], q[1], 2, 6, 3, 7);
    const QUAD right = MERGE(q[2], q[3], 0, 4, 1, 5) + MERGE(q[2], q[3], 2, 6, 3, 7);
    return MERGE(left, right, 0, 1, 4, 5) + MERGE(left, right, 2, 3, 6, 7);
#undef MERGE
}

/* A tile of c (m, n) := a (m, k) b (n, k)^T, of `rows` by DOT_COLUMNS numbers, over `depth` of
 * the k terms. Adds to c if `adds`. Beyond m and n, the last rows are repeated. */
PRODUCT void NAME(dot_tile)(const int rows, const int prefetches, ptrdiff_t m, ptrdiff_t n,
                            ptrdiff_t depth, const REAL *restrict a, ptrdiff_t lda,
                            const REAL *restrict b, ptrdiff_t ldb, int adds, REAL *restrict c,
                            ptrdiff_t ldc)
{
    const ptrdiff_t rest = depth % LANES;
    VECTOR sum[DOT_COLUMNS][TILE_ROWS];
    const REAL *x[TILE_ROWS], *w[DOT_COLUMNS], *next[DOT_COLUMNS];
    EACH(p, rows) x[p] = a + (p < m ? p : m - 1) * lda;
    EACH(q, DOT_COLUMNS) w[q] = b + (q < n ? q : n - 1) * ldb;
    EACH(q, DOT_COLUMNS) next[q] = b + (q + DOT_COLUMNS < n ? q + DOT_COLUMNS : n - 1) * ldb;
    EACH(q, DOT_COLUMNS) EACH(p, TILE_ROWS) sum[q][p] = (VECTOR){0};
    for (ptrdiff_t l = 0; l < depth - rest; l += LANES) {
        VECTOR v[DOT_COLUMNS];
        EACH(q, DOT_COLUMNS) v[q] = LOAD(w[q] + l);
        if (prefetches) EACH(q, DOT_COLUMNS) PREFETCH(next[q] + l);
        EACH(p, rows)
        {
            VECTOR u = LOAD(x[p] + l);
            KEEP(u); /* in a register: GCC would load it again for each product */
            EACH(q, DOT_COLUMNS) sum[q][p] += u * v[q];
        }
    }
    if (rest) { /* the last vector overlaps the one before it, with zeros where they overlap */
        const unsigned char *across = ZEROS_AND_ONES + 64 - (LANES - rest) * REAL_BYTES;
        const NAME(bytes) mask = *(const NAME(bytes) *)across;
#define LOAD_REST(row) ((VECTOR)((NAME(bytes))LOAD((row) + depth - LANES) & mask))
        EACH(p, rows)
        {
            const VECTOR u = LOAD_REST(x[p]);
            EACH(q, DOT_COLUMNS) sum[q][p] += u * LOAD_REST(w[q]);
        }
#undef LOAD_REST
    }
    EACH(q, DOT_COLUMNS)
    {
        const QUAD sums = NAME(sum_lanes)(sum[q]);
        EACH(p, rows)
        if (p < m && q < n) c[p * ldc + q] = adds ? c[p * ldc + q] + sums[p] : sums[p];
    }
}

/* c (m, n) := a (m, k) b (n, k)^T for k >= LANES: each lane of a vector sums its share of k. */
__attribute__((target(TARGET)))
static void NAME(dot_rows)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *restrict a,
                           ptrdiff_t lda, const REAL *restrict b, ptrdiff_t ldb,
                           REAL *restrict c, ptrdiff_t ldc)
{
    for (ptrdiff_t top = 0; top < m; top += DOT_ROWS)
        for (ptrdiff_t l = 0; l < k; l += DOT_DEPTH) {
            /* Avoid a last block shorter than a vector. */
            const ptrdiff_t depth = k - l < DOT_DEPTH + LANES ? k - l : DOT_DEPTH;
            const ptrdiff_t bottom = top + DOT_ROWS < m ? top + DOT_ROWS : m;
            for (ptrdiff_t j = 0; j < n; j += DOT_COLUMNS) {
                const REAL *w = b + j * ldb + l;
                ptrdiff_t i = top;
                if (i + TILE_ROWS < bottom) { /* the first of several tiles prefetches */
                    NAME(dot_tile)(TILE_ROWS, 1, bottom - i, n - j, depth, a + i * lda + l, lda, w,
                                   ldb, l > 0, c + i * ldc + j, ldc);
                    i += TILE_ROWS;
                }
                for (; i + 1 < bottom; i += TILE_ROWS)
                    NAME(dot_tile)(TILE_ROWS, 0, bottom - i, n - j, depth, a + i * lda + l, lda, w,
                                   ldb, l > 0, c + i * ldc + j, ldc);
                if (i < bottom)
                    NAME(dot_tile)(1, 0, 1, n - j, depth, a + i * lda + l, lda, w, ldb, l > 0,
                                   c + i * ldc + j, ldc);
            }
            if (depth > DOT_DEPTH) break;
        }
}

/* Start of vector q of `vectors`; the last one starts at `last`, and may overlap another. */
#define PLACE(q, last) (q < vectors - 1 ? q * LANES : last)

/* A tile of c (m, n) := factor c + a b, of `rows` by `vectors`; b has `depth` rows, whose last
 * vector starts at `last`, and a has the strides `row` and `step`. Beyond m, the last row is
 * repeated. */
PRODUCT void NAME(combine_tile)(const int rows, const int vectors, const int prefetches,
                                ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth,
                                const REAL *restrict a, ptrdiff_t row, ptrdiff_t step,
                                const REAL *restrict b, ptrdiff_t last, ptrdiff_t ldb,
                                REAL factor, REAL *restrict c, ptrdiff_t ldc)
{
    VECTOR sum[TILE_ROWS][TILE_VECTORS];
    const REAL *x[TILE_ROWS];
    EACH(p, rows) x[p] = a + (p < m ? p : m - 1) * row;
    if (factor == (REAL)0) /* c may contain nan */
        EACH(p, rows) EACH(q, vectors) sum[p][q] = (VECTOR){0};
    else
        EACH(p, rows) EACH(q, vectors)
        sum[p][q] = factor * LOAD(c + (p < m ? p : m - 1) * ldc + PLACE(q, n - LANES));
    for (ptrdiff_t l = 0; l < depth; l++) {
        VECTOR v[TILE_VECTORS];
        EACH(q, vectors) v[q] = LOAD(b + l * ldb + PLACE(q, last));
        if (prefetches) /* the next columns */
            for (int at = 0; at < vectors * VECTOR_BYTES; at += 64)
                PREFETCH((const char *)(b + l * ldb + vectors * LANES) + at);
        EACH(p, rows)
        {
            const REAL u = x[p][l * step];
            EACH(q, vectors) sum[p][q] += u * v[q];
        }
    }
    EACH(p, rows)
    if (p < m) EACH(q, vectors) STORE(c + p * ldc + PLACE(q, n - LANES), sum[p][q]);
}

/* All tiles of n columns. If `copy` is not NULL, alpha b is first copied there, to be
 * contiguous. */
PRODUCT void NAME(combine_columns)(const int vectors, ptrdiff_t m, ptrdiff_t n, ptrdiff_t depth,
                                   REAL alpha, const REAL *restrict a, ptrdiff_t row,
                                   ptrdiff_t step, const REAL *restrict b, ptrdiff_t ldb,
                                   REAL *restrict copy, REAL factor, REAL *restrict c,
                                   ptrdiff_t ldc)
{
    ptrdiff_t last = n - LANES;
    if (copy) {
        for (ptrdiff_t l = 0; l < depth; l++)
            EACH(q, vectors)
            STORE(copy + l * WIDTH + q * LANES, alpha * LOAD(b + l * ldb + PLACE(q, last)));
        b = copy;
        ldb = WIDTH;
        last = (vectors - 1) * LANES;
    }
    ptrdiff_t i = 0;
    if (!copy && m > TILE_ROWS) {
        NAME(combine_tile)(TILE_ROWS, vectors, 1, m - i, n, depth, a + i * row, row, step, b, last,
                           ldb, factor, c + i * ldc, ldc);
        i += TILE_ROWS;
    }
    for (; i + 1 < m; i += TILE_ROWS)
        NAME(combine_tile)(TILE_ROWS, vectors, 0, m - i, n, depth, a + i * row, row, step, b, last,
                           ldb, factor, c + i * ldc, ldc);
    if (i < m)
        NAME(combine_tile)(1, vectors, 0, 1, n, depth, a + i * row, row, step, b, last, ldb,
                           factor, c + i * ldc, ldc);
}

#undef PLACE

/* c (m, n) := beta c + alpha a b, for b (k, n) and n >= LANES: numbers of a times segments of
 * the rows of b. Without `copies`, alpha must be one. */
PRODUCT void NAME(combine)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL alpha,
                           const REAL *restrict a, ptrdiff_t row, ptrdiff_t step,
                           const REAL *restrict b, ptrdiff_t ldb, REAL beta,
                           REAL *restrict c, ptrdiff_t ldc, int copies)
{
    REAL place[COMBINE_DEPTH * WIDTH] __attribute__((aligned(64)));
    const ptrdiff_t n_blocks = (k + COMBINE_DEPTH - 1) / COMBINE_DEPTH;
    for (ptrdiff_t block = 0; block < n_blocks; block++) {
        const ptrdiff_t start = k * block / n_blocks, depth = k * (block + 1) / n_blocks - start;
        for (ptrdiff_t j = 0, width; j < n; j += width) {
            width = n - j < WIDTH ? n - j : WIDTH;
            /* Avoid a last tile narrower than a vector: it would overlap a completed one. */
            if (n - j > width && n - j < width + LANES) width -= LANES;
#define COLUMNS(vectors) \
    NAME(combine_columns)(vectors, m, width, depth, alpha, a + start * step, row, step, \
                          b + start * ldb + j, ldb, copies ? place : NULL, \
                          block ? (REAL)1 : beta, c + j, ldc)
            if (width > 2 * LANES)
                COLUMNS(3);
            else if (width > LANES)
                COLUMNS(2);
            else
                COLUMNS(1);
#undef COLUMNS
        }
    }
}

/* c (m, n) := a (m, k) b (k, n) */
__attribute__((target(TARGET)))
static void NAME(combine_rows)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *restrict a,
                               ptrdiff_t lda, const REAL *restrict b, ptrdiff_t ldb,
                               REAL *restrict c, ptrdiff_t ldc)
{
    /* Rows with a stride of a multiple of 2,048 bytes share few sets of the first cache. */
    const int copies = m > TILE_ROWS && ldb * REAL_BYTES % 2048 == 0;
    NAME(combine)(m, n, k, (REAL)1, a, lda, 1, b, ldb, (REAL)0, c, ldc, copies);
}

/* c (m, n) := beta c + alpha a (k, m)^T b (k, n) */
__attribute__((target(TARGET)))
static void NAME(add_outer)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, REAL alpha,
                            const REAL *restrict a, ptrdiff_t lda, const REAL *restrict b,
                            ptrdiff_t ldb, REAL beta, REAL *restrict c, ptrdiff_t ldc)
{
    NAME(combine)(m, n, k, alpha, a, 1, lda, b, ldb, beta, c, ldc, 1);
}

/* Do the product if the functions above support it and are fast; returns whether they do. */
static int NAME(multiply)(int trans_a, int trans_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k,
                          REAL alpha, const REAL *a, ptrdiff_t lda, const REAL *b, ptrdiff_t ldb,
                          REAL beta, REAL *c, ptrdiff_t ldc)
{
    const int plain = !trans_a && alpha == (REAL)1 && beta == (REAL)0 && m <= MOST_ROWS;
    if (trans_a && !trans_b && n >= LANES && k >= LEAST_OUTER && k <= MOST_ROWS
        && m * n * REAL_BYTES <= MOST_OUTER_BYTES)
        NAME(add_outer)(m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    else if (plain && trans_b && k >= LEAST_DEPTH)
        NAME(dot_rows)(m, n, k, a, lda, b, ldb, c, ldc);
    /* In double, BLAS is faster for row strides of a multiple of 4,096 bytes. */
    else if (plain && !trans_b && n >= LANES && !(REAL_BYTES == 8 && ldb % 512 == 0))
        NAME(combine_rows)(m, n, k, a, lda, b, ldb, c, ldc);
    else
        return 0;
    return 1;
}

#undef LANES
#undef DOT_COLUMNS
#undef WIDTH
#undef VECTOR
#undef QUAD
#undef PRODUCT
#undef LOAD
#undef STORE
#undef TARGET
#undef VECTOR_BYTES
#undef LEAST_DEPTH
#undef MOST_ROWS
#undef NAME
