"""Rows of X as the kernel wants them: dense, C-contiguous, of one floating type.

An array that already is that is handed on as it is. Anything else (sparse, Fortran order,
another type) is made so a block of rows at a time, never whole.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.sparsefuncs import min_max_axis

# Rows that go through a network at once when nothing is learned, by all threads together.
CHUNK_ROWS = 512


def compute_dtype(X):
    """What the kernel computes in for X: float32 for float32, else float64."""
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


class Rows:
    """The rows of a training or test set.

    Parameters
    ----------
    X : {ndarray, CSR matrix or array} of shape (n_samples, n_features)
    dtype : dtype, default=None
        What the kernel is to compute in; `compute_dtype` of X if None.
    target : ndarray of shape (n_samples, n_outputs), default=None
        What the network is to give for each row; X itself if None.
    sample_weight : ndarray of shape (n_samples,), float64, default=None
    strata : ndarray of shape (n_samples,), default=None
        Classes that a held-out part is to have in the same proportions.
    """

    def __init__(self, X, dtype=None, *, target=None, sample_weight=None, strata=None):
        self.X, self.dtype = X, np.dtype(dtype or compute_dtype(X))
        self.target, self.sample_weight, self.strata = target, sample_weight, strata
        self.direct = (
            not issparse(X) and X.dtype == self.dtype and X.flags.c_contiguous and X.flags.aligned
        )

    def __len__(self):
        return self.X.shape[0]

    @property
    def n_features(self):
        return self.X.shape[1]

    def astype(self, dtype):
        """The same rows, to be computed in another type."""
        return Rows(
            self.X,
            dtype,
            target=self.target,
            sample_weight=self.sample_weight,
            strata=self.strata,
        )

    def extremes(self):
        """Smallest and largest value of each feature, shape (2, n_features), float64."""
        if issparse(self.X):
            return np.array(min_max_axis(self.X, axis=0), dtype=np.float64)
        return np.array([self.X.min(axis=0), self.X.max(axis=0)], dtype=np.float64)

    def take(self, index):
        """The rows of `index` (a slice, or an array of positions) as a dense block."""
        block = self.X[index]
        if issparse(block):
            block = block.toarray()
        return np.ascontiguousarray(block, dtype=self.dtype)

    def blocks(self, size, index=None):
        """Yield (where, block): consecutive rows, or those of `index`, `size` at a time."""
        if index is None and self.direct:
            yield slice(None), self.X
            return
        n_rows = len(self) if index is None else len(index)
        for start in range(0, n_rows, size):
            where = slice(start, min(start + size, n_rows))
            yield where, self.take(where if index is None else index[where])

    def batches(self, order, batch_size):
        """Yield (X, target, rows, ids, sample_weight) for the kernel to step through.

        Either everything at once, by reference, or the copies of one mini-batch after
        another; `ids` name the rows in X either way.
        """
        if self.direct:
            target = self.X if self.target is None else self.target
            yield self.X, target, order, order, self.sample_weight
            return
        for where, block in self.blocks(batch_size, order):
            ids = order[where]
            target = block if self.target is None else self.target[ids]
            weight = None if self.sample_weight is None else self.sample_weight[ids]
            yield block, target, np.arange(len(ids)), ids, weight


class Codes(Rows):
    """What is made of rows, a block at a time, whenever it is asked for.

    Parameters
    ----------
    rows : Rows
    encode : callable
        ``encode(rows)`` gives the codes of some `Rows`, shape (len(rows), n_features).
    n_features : int
    """

    direct = False

    def __init__(self, rows, encode, n_features):
        self.rows, self.encode, self._n_features = rows, encode, n_features
        self.dtype, self.target = rows.dtype, rows.target
        self.sample_weight, self.strata = rows.sample_weight, rows.strata

    def __len__(self):
        return len(self.rows)

    @property
    def n_features(self):
        return self._n_features

    def astype(self, dtype):
        if dtype != self.dtype:
            raise ValueError(f"these codes are computed in {self.dtype}")
        return self

    def take(self, index):
        return self.encode(Rows(self.rows.take(index)))

    def extremes(self):
        parts = [Rows(block).extremes() for _, block in self.blocks(CHUNK_ROWS)]
        return np.array([np.min(parts, axis=0)[0], np.max(parts, axis=0)[1]])


def codes_of(rows, encode, n_features):
    """The codes of rows: as an array where scikit-learn's `working_memory` has room for it."""
    if len(rows) * n_features * rows.dtype.itemsize > get_config()["working_memory"] * 2**20:
        return Codes(rows, encode, n_features)
    return Rows(
        encode(rows),
        target=rows.target,
        sample_weight=rows.sample_weight,
        strata=rows.strata,
    )
