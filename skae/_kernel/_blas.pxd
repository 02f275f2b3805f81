# Row-major matrix products over SciPy's BLAS; the only cimport of SciPy.
#
# Only this line defines the integer type of BLAS: change it for a build of SciPy
# with 64-bit BLAS integers.
ctypedef int blas_int

from cython cimport floating

cdef void gemm(bint trans_a, bint trans_b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
               floating alpha, const floating *a, Py_ssize_t lda,
               const floating *b, Py_ssize_t ldb,
               floating beta, floating *c, Py_ssize_t ldc) noexcept nogil
