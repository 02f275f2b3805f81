"""Row-major matrix products, float and double: SciPy's BLAS, and skae's own for few rows."""

from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, sgemm

cdef extern from "_products.h" nogil:
    int BLAS_ONLY, AVX2, AVX512
    int best_instructions()
    # A macro that chooses between float and double. Returns whether the product was done.
    bint multiply(int instructions, ...)

cdef int BEST = best_instructions()

# Implementations of the products that this processor supports, the fastest last.
INSTRUCTIONS = {name: number
                for name, number in [("blas", BLAS_ONLY), ("avx2", AVX2), ("avx512", AVX512)]
                if number <= BEST}


cdef void gemm(bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               floating alpha, const floating *a, Py_ssize_t lda,
               const floating *b, Py_ssize_t ldb,
               floating beta, floating *c, Py_ssize_t ldc) noexcept nogil:
    """c (m, n) := alpha op(a) (m, k) @ op(b) (k, n) + beta c, rows lda, ldb and ldc apart."""
    gemm_with(BEST, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)


cdef void gemm_with(int instructions, bint trans_a, bint trans_b,
                    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                    floating alpha, const floating *a, Py_ssize_t lda,
                    const floating *b, Py_ssize_t ldb,
                    floating beta, floating *c, Py_ssize_t ldc) noexcept nogil:
    """Do the same with skae's own products if they are fast for these sizes, else with BLAS.

    BLAS is column-major: it computes c^T = op(b)^T op(a)^T, so the operands are swapped.
    """
    cdef:
        char ta = b"T" if trans_a else b"N"
        char tb = b"T" if trans_b else b"N"
        blas_int m_ = <blas_int> m, n_ = <blas_int> n, k_ = <blas_int> k
        blas_int lda_ = <blas_int> lda, ldb_ = <blas_int> ldb, ldc_ = <blas_int> ldc
    if multiply(instructions, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        return
    if floating is float:
        sgemm(&tb, &ta, &n_, &m_, &k_, &alpha, <float *> b, &ldb_, <float *> a, &lda_,
              &beta, c, &ldc_)
    else:
        dgemm(&tb, &ta, &n_, &m_, &k_, &alpha, <double *> b, &ldb_, <double *> a, &lda_,
              &beta, c, &ldc_)


def matmul(const floating[:, :] a, const floating[:, :] b, floating[:, :] out,
           bint trans_a=False, bint trans_b=False, floating alpha=1, floating beta=0,
           instructions=None):
    """``out = alpha op(a) @ op(b) + beta out``: `gemm` for the tests and the benchmarks.

    The columns of each array must be adjacent; the rows need not be. `instructions` is one of
    `INSTRUCTIONS`, by default the best.
    """
    cdef:
        Py_ssize_t m = a.shape[1] if trans_a else a.shape[0]
        Py_ssize_t k = a.shape[0] if trans_a else a.shape[1]
        Py_ssize_t n = b.shape[0] if trans_b else b.shape[1]
        Py_ssize_t lda = row_step(a), ldb = row_step(b), ldc = row_step(out)
        int chosen = BEST if instructions is None else INSTRUCTIONS[instructions]
    if (b.shape[1] if trans_b else b.shape[0]) != k or out.shape[0] != m or out.shape[1] != n:
        raise ValueError("the shapes of a, b and out do not fit")
    with nogil:
        gemm_with(chosen, trans_a, trans_b, m, n, k, alpha, &a[0, 0], lda, &b[0, 0], ldb, beta,
                  &out[0, 0], ldc)


cdef Py_ssize_t row_step(const floating[:, :] matrix) except -1:
    """Return the row stride in numbers."""
    cdef Py_ssize_t step = matrix.strides[0] // <Py_ssize_t> sizeof(floating)
    if matrix.shape[0] == 1:  # its stride is arbitrary
        step = matrix.shape[1]
    if matrix.shape[1] > 1 and matrix.strides[1] != sizeof(floating) or step < matrix.shape[1]:
        raise ValueError("the columns of a, b and out must lie next to each other")
    return step
