"""Row-major matrix products over SciPy's BLAS, float and double."""

from cython cimport floating
from scipy.linalg.cython_blas cimport dgemm, sgemm


cdef void gemm(bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               floating alpha, const floating *a, Py_ssize_t lda,
               const floating *b, Py_ssize_t ldb,
               floating beta, floating *c, Py_ssize_t ldc) noexcept nogil:
    """c (m, n) := alpha op(a) (m, k) @ op(b) (k, n) + beta c, rows lda, ldb and ldc apart.

    BLAS is column-major: to it our c is c^T = op(b)^T op(a)^T, so the operands swap.
    """
    cdef:
        char ta = b"T" if trans_a else b"N"
        char tb = b"T" if trans_b else b"N"
        blas_int m_ = <blas_int> m, n_ = <blas_int> n, k_ = <blas_int> k
        blas_int lda_ = <blas_int> lda, ldb_ = <blas_int> ldb, ldc_ = <blas_int> ldc
    if floating is float:
        sgemm(&tb, &ta, &n_, &m_, &k_, &alpha, <float *> b, &ldb_, <float *> a, &lda_,
              &beta, c, &ldc_)
    else:
        dgemm(&tb, &ta, &n_, &m_, &k_, &alpha, <double *> b, &ldb_, <double *> a, &lda_,
              &beta, c, &ldc_)


def matmul(const floating[:, ::1] a, const floating[:, ::1] b, floating[:, ::1] out,
           bint trans_a=False, bint trans_b=False, floating alpha=1, floating beta=0):
    """``out = alpha op(a) @ op(b) + beta out``: `gemm` for the tests and the benchmarks."""
    cdef Py_ssize_t m = a.shape[1] if trans_a else a.shape[0]
    cdef Py_ssize_t k = a.shape[0] if trans_a else a.shape[1]
    cdef Py_ssize_t n = b.shape[0] if trans_b else b.shape[1]
    if (b.shape[1] if trans_b else b.shape[0]) != k or out.shape[0] != m or out.shape[1] != n:
        raise ValueError("the shapes of a, b and out do not fit")
    with nogil:
        gemm(trans_a, trans_b, m, n, k, alpha, &a[0, 0], a.shape[1], &b[0, 0], b.shape[1],
             beta, &out[0, 0], n)
