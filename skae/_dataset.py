"""Samples in the format of the kernel: dense, C-contiguous, aligned, of one floating dtype.

An array in this format is passed on without a copy. Anything else (sparse, Fortran order, another
dtype, codes of a layer below) is converted a block at a time, never as a whole.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, issparse, vstack
from sklearn import get_config
from sklearn.utils.sparsefuncs import min_max_axis

from skae._kernel._sgd import Batches

# Maximum number of samples in a block outside training, for all threads together, and the fraction
# of scikit-learn's `working_memory` that they may take: by default 64 MiB.
BLOCK_SIZE, BLOCK_SHARE = 512, 1 / 16

# Maximum size of a block in `Dataset.moments`.
BLOCK_NUMBERS = 2**20


def working_memory():
    """Return scikit-learn's `working_memory` in bytes."""
    return get_config()["working_memory"] * 2**20


def compute_dtype(X):
    """Return the dtype of computations on X: float32 for float32, else float64."""
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def has_missing(block):
    """Whether an array contains nan; does not copy it."""
    if block.dtype.kind != "f" or block.size == 0:
        return False
    if not block.flags.forc:
        return bool(np.isnan(block.min()))
    flat = block.ravel(order="K")
    with np.errstate(all="ignore"):
        return bool(np.isnan(np.dot(flat, flat)))  # a pass at the speed of BLAS


def filled(block):
    """Replace the missing values of a block by zeros; return the block itself if it has none."""
    return np.where(np.isnan(block), block.dtype.type(0), block) if has_missing(block) else block


def all_missing(X):
    """Return a mask of the samples of an array or CSR matrix without observed values."""
    if not has_missing(X.data if issparse(X) else X):
        return np.zeros(X.shape[0], dtype=bool)
    if issparse(X):
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        return np.bincount(rows[np.isnan(X.data)], minlength=X.shape[0]) == X.shape[1]
    return np.isnan(X).all(axis=1)


class Dataset:
    """Samples, with their targets and weights if they have any.

    Subclasses define ``len``, `n_features`; `astype`, the same samples in another dtype;
    `feature_ranges`, the extremes of each feature as float64, shape (2, n_features); `take`, the
    samples of an index (a slice, or an array of positions) as a dense block; and `width`, the
    maximum number of values per sample that `take` holds at once.

    Parameters
    ----------
    dtype : dtype
        Type of the computations.
    target : ndarray of shape (n_samples, n_outputs), default=None
        Desired outputs; the samples themselves if None.
    sample_weight : ndarray of shape (n_samples,), float64, default=None
    strata : ndarray of shape (n_samples,), default=None
        Classes, by which the held-out part is stratified.
    ids : ndarray of shape (n_samples,), int64, default=None
        Numbers of the samples, which determine their noise; their positions if None.
    labelled : ndarray of bool, shape (n_samples,), default=None
        Mask of the samples with a target; all if None. The targets of the others are not read.

    Attributes
    ----------
    pseudo_labels : PseudoLabels or None
        Targets for the samples without one.
    """

    here, n_replicas = True, 1  # whether training runs in this process; number of its networks
    zero_copy = False  # whether the kernel can read the samples in place
    most_held_out = sys.maxsize  # maximum number of samples for early stopping
    pseudo_labels = None

    def __init__(
        self, dtype, *, target=None, sample_weight=None, strata=None, ids=None, labelled=None
    ):
        self.dtype = np.dtype(dtype)
        self.target, self.sample_weight, self.strata = target, sample_weight, strata
        self.ids, self.labelled = ids, labelled

    @property
    def labels(self):
        """Return everything except the samples, as keyword arguments."""
        names = "target", "sample_weight", "strata", "ids", "labelled"
        return {name: getattr(self, name) for name in names}

    @property
    def weighted(self):
        """Positions of the samples with nonzero weight."""
        if self.sample_weight is None:
            return np.arange(len(self))
        return np.flatnonzero(self.sample_weight)

    @property
    def unlabelled(self):
        """Positions of the samples with nonzero weight and without a target."""
        if self.labelled is None:
            return np.empty(0, dtype=np.intp)
        every = self.weighted
        return every[~self.labelled[every]]

    def weights_of_mean(self, index):
        """Return weights of some samples relative to the largest, so that no product overflows."""
        if self.sample_weight is None:
            return None
        weights = self.sample_weight[index]
        return weights / weights.max()

    def epoch(self, loop, number, team):
        """Run an epoch of a training loop; return the sum of the costs."""
        return loop.step_through(number, team)

    def part(self, index):
        """Return a data set in this process, and the positions of the samples of `index` in it."""
        return self, index

    def moments(self, total=None, *, by_weight=False):
        """Compute the sums of `add_moments` over all samples, added to earlier ones in `total`.

        All samples of nonzero weight count equally, or by their weights with `by_weight`.
        """
        # The blocks, and so the rounded sums, do not depend on the storage of X.
        size, index = max(1, min(512, BLOCK_NUMBERS // self.n_features)), self.weighted
        weights = self.sample_weight if by_weight else None
        weights = None if weights is None else weights[index]
        for where, block in self.blocks(size, index):
            total = add_moments(total, block, None if weights is None else weights[where])
            del block
        return total

    def block_size(self, workspace_width=0):
        """Return the number of samples in a block outside training, at least one.

        Together with `workspace_width` values per sample, the block takes at most `BLOCK_SHARE` of
        the working memory.
        """
        width = self.width + workspace_width
        if self.target is not None:
            width += self.target.shape[1]
        n_samples = int(working_memory() * BLOCK_SHARE // (width * self.dtype.itemsize))
        return max(1, min(n_samples, BLOCK_SIZE))

    def blocks(self, size, index=None):
        """Yield (where, block) for consecutive samples, or those of `index`.

        A block has `size` samples, unless all can be passed on at once without a copy. Delete each
        block before the next one is made, to hold only one in memory.
        """
        if index is None and self.zero_copy:
            yield slice(None), self.X
            return
        n_samples = len(self) if index is None else len(index)
        for start in range(0, n_samples, size):
            where = slice(start, min(start + size, n_samples))
            yield where, self.take(where if index is None else index[where])

    def batches(self, order, size, key, weights=None, *, n_labelled=-1, ids=None):
        """Yield the samples of `order` for training in mini-batches of `size`.

        They come either all at once, by reference, or as a copy of one mini-batch after another.
        `key` is the key of the noise. `weights` are those of all samples, relative to their mean.
        The first `n_labelled` samples of each mini-batch have a target. `ids` replace the samples'
        own.
        """
        target = self.target
        if ids is None:
            ids = order if self.ids is None else self.ids[order]
        if self.zero_copy:
            target = self.X if target is None else target
            yield Batches(self.X, target, order, ids, weights, size, key, n_labelled)
            return
        for where, block in self.blocks(size, order):
            place = order[where]
            yield Batches(
                block,
                block if target is None else target[place],
                np.arange(len(place)),
                ids[where],
                None if weights is None else weights[place],
                size,
                key,
                n_labelled,
            )

    def encoded(self, encode, n_components):
        """Return the codes of the samples, computed at once if they fit into `working_memory`.

        Parameters
        ----------
        encode : callable
            ``encode(dataset)`` returns the codes, shape (len(dataset), n_components).
        n_components : int
        """
        size = len(self) * n_components * self.dtype.itemsize
        if size > working_memory():
            codes = EncodedDataset(self, encode, n_components)
        else:
            codes = ArrayDataset(encode(self), **self.labels)
        codes.pseudo_labels = self.pseudo_labels
        return codes

    def toarray(self):
        """Return all samples as a dense array, without a copy if the kernel can read them."""
        if self.zero_copy:
            return self.X
        out = np.empty((len(self), self.n_features), dtype=self.dtype)
        for where, block in self.blocks(self.block_size()):
            out[where] = block
            del block
        return out

    def tocsr(self):
        """Return all samples as a sparse matrix."""
        parts = []
        for _, block in self.blocks(self.block_size()):
            parts.append(csr_matrix(block))
            del block
        return vstack(parts, format="csr")


@dataclass
class PseudoLabels:
    """Estimated targets of unlabelled samples, to train on in the first epochs.

    Attributes
    ----------
    find : callable
        ``find(index)`` estimates the targets of all samples from those of some; it returns the
        targets and their weights: the confidence in the target, times the weight of the sample.
    n_epochs : float
        Number of epochs on pseudo-labels; infinite for all.
    """

    find: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    n_epochs: float


class Samples:
    """Samples in blocks, in this process or elsewhere, which a fit can take instead of X.

    Subclasses define `shape`, `dtype`, `given`, the X of the user, and `header`, an X with the
    same features, with or without samples. A block is an array, a CSR matrix, or a pair of samples
    and their targets.

    ``check(name, least)`` refuses too few samples for an estimator of this name;
    ``dataset(dtype, **labels)`` returns all samples as a data set, ``labelled(labels, dtype)``
    only those with labels;
    ``results(function)`` lists ``function(block)`` for each block that is not empty;
    ``made(function)`` returns the samples that ``function(block, number)`` makes from each block:
    the same number, or several copies of all samples of the block, one after another;
    ``of_copies(values)`` repeats values of the original samples for these copies;
    ``selected(mask)`` returns some of the samples.
    """

    ndim = 2
    here = True  # whether they are in this process


class ArraySamples(Samples):
    """A block of samples in this process."""

    def __init__(self, block, n_copies=1):
        self.block, self.n_copies = block, n_copies
        self.X, self.target = block if isinstance(block, tuple) else (block, None)
        self.given = self.header = self.X
        self.shape, self.dtype = self.X.shape, self.X.dtype

    def check(self, name, least):
        check_number(self.shape, name, least)

    def dataset(self, dtype=None, **labels):
        return ArrayDataset(self.X, dtype, target=self.target, **labels)

    def results(self, function):
        return [function(self.block)]

    def made(self, function):
        block = function(self.block, 0)
        return ArraySamples(block, len_of(block) // len_of(self.block))

    def selected(self, mask):
        return ArraySamples(chosen(self.block, mask))

    def of_copies(self, values):
        return np.tile(values, self.n_copies)


def check_number(shape, name, least):
    """Refuse too few samples for an estimator of this name."""
    if shape[0] < least:
        raise ValueError(
            f"Found array with {shape[0]} sample(s) (shape={shape}) while a minimum of {least} is "
            f"required by {name}."
        )


def len_of(block):
    return (block[0] if isinstance(block, tuple) else block).shape[0]


def chosen(block, mask):
    """Select samples of a block."""
    return tuple(one[mask] for one in block) if isinstance(block, tuple) else block[mask]


def dataset_of(X, dtype=None, **labels):
    """Make a data set from an X or from `Samples`."""
    if isinstance(X, Samples):
        return X.dataset(dtype, **labels)
    return ArrayDataset(X, dtype, **labels)


class ArrayDataset(Dataset):
    """Samples of a dense array or of a CSR matrix.

    Parameters
    ----------
    X : {ndarray, CSR matrix or array} of shape (n_samples, n_features)
    dtype : dtype, default=None
        `compute_dtype` of X if None.
    """

    def __init__(self, X, dtype=None, **labels):
        super().__init__(dtype or compute_dtype(X), **labels)
        self.X = X
        sparse, right_type = issparse(X), X.dtype == self.dtype
        self.zero_copy = not sparse and right_type and X.flags.c_contiguous and X.flags.aligned
        # Other arrays, and other types, are copied twice.
        self.width = X.shape[1] * (1 if self.zero_copy or (sparse and right_type) else 2)

    def __len__(self):
        return self.X.shape[0]

    @property
    def n_features(self):
        return self.X.shape[1]

    def astype(self, dtype):
        return ArrayDataset(self.X, dtype, **self.labels)

    def feature_ranges(self):
        if issparse(self.X):
            return np.array(min_max_axis(self.X, axis=0, ignore_nan=True), dtype=np.float64)
        ranges = [np.fmin.reduce(self.X, axis=0), np.fmax.reduce(self.X, axis=0)]
        return np.array(ranges, dtype=np.float64)

    def take(self, index):
        block = self.X[index]
        if issparse(block):
            block = block.toarray()
        with np.errstate(over="raise"):
            try:
                return np.require(block, self.dtype, ["C_CONTIGUOUS", "ALIGNED"])
            except FloatingPointError:
                raise ValueError(
                    f"X has values up to {np.abs(block).max():g}, too large for {self.dtype}, the "
                    "type of the first fit. Scale X, or fit a new estimator."
                ) from None


class EncodedDataset(Dataset):
    """Codes of samples, computed block by block whenever they are used.

    For the arguments, see `Dataset.encoded`.
    """

    def __init__(self, dataset, encode, n_components):
        super().__init__(dataset.dtype, **dataset.labels)
        self.dataset, self.encode, self.n_components = dataset, encode, n_components
        # Input and output of the encoder, and a workspace of the same size.
        self.width = max(dataset.width, 2 * (dataset.n_features + n_components) + 1)

    def __len__(self):
        return len(self.dataset)

    @property
    def n_features(self):
        return self.n_components

    def astype(self, dtype):
        if dtype != self.dtype:
            raise ValueError(f"these codes are computed in {self.dtype}")
        return self

    def feature_ranges(self):
        low = np.full(self.n_features, np.inf)
        high = -low
        for _, block in self.blocks(self.block_size()):
            np.minimum(low, block.min(axis=0), out=low)
            np.maximum(high, block.max(axis=0), out=high)
            del block
        return np.array([low, high])

    def take(self, index):
        return self.encode(ArrayDataset(self.dataset.take(index)))


def add_moments(total, block, weights=None):
    """Add a block to the total weight, means and sums of squared deviations of the features.

    Missing values are ignored, so with them each feature has its own total weight. All sums are
    float64, of differences from one sample, so that constant features contribute exactly zero.

    T. Chan, G. Golub, R. LeVeque. Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances. Technical report, Stanford University, 1979.

    Parameters
    ----------
    total : dict or None
        Result for the earlier blocks.
    block : ndarray of shape (n_samples, n_features)
    weights : ndarray of shape (n_samples,), default=None
    """
    if weights is None:
        weights = np.ones(len(block))
    if has_missing(block):
        observed = ~np.isnan(block)
        weight = weights @ observed
        first = filled(block[observed.argmax(axis=0), np.arange(block.shape[1])])
        deviation = np.where(observed, np.subtract(block, first, dtype=np.float64), 0.0)
        shift = over(weights @ deviation, weight)
        deviation = np.where(observed, deviation - shift, 0.0)
    else:
        weight, first = float(weights.sum()), block[0]
        deviation = np.subtract(block, first, dtype=np.float64)
        shift = weights @ deviation / weight
        deviation -= shift
    squares = np.einsum("i,ij,ij->j", weights, deviation, deviation)
    return merge_moments(total, {"weight": weight, "mean": first + shift, "squares": squares})


def merge_moments(one, other):
    """Combine the moments of two sets of samples; the first may be None."""
    if one is None:
        return other
    step, earlier = other["mean"] - one["mean"], one["weight"]
    share = over(other["weight"], earlier + other["weight"])
    return {
        "weight": other["weight"] + earlier,
        "mean": one["mean"] + step * share,
        "squares": other["squares"] + (one["squares"] + step * step * (earlier * share)),
    }


def over(sums, weight):
    """Divide sums by their weights; zero where the weight is zero."""
    return np.divide(
        sums, weight, out=np.zeros(np.broadcast(sums, weight).shape), where=weight > 0
    )
