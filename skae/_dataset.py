"""Samples as the kernel takes them: dense, C-contiguous, aligned, of one floating type.

An array that already is all of that is passed on without a copy. Anything else (sparse, Fortran
order, another type, codes of a layer below) is converted a block at a time, never as a whole.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.sparsefuncs import min_max_axis

from skae._kernel._sgd import Batches

# Most samples in a block when nothing is learned, for all threads together, and the part of
# scikit-learn's `working_memory` that they may take: at its default, 64 MiB.
BLOCK_SIZE, BLOCK_SHARE = 512, 1 / 16

# Most numbers of a block whose moments are added.
BLOCK_NUMBERS = 2**20


def working_memory():
    """scikit-learn's `working_memory`, in bytes."""
    return get_config()["working_memory"] * 2**20


def compute_dtype(X):
    """The type that X is computed in: float32 for float32, else float64."""
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def has_missing(block):
    """Whether there is a nan among the numbers of an array; never copies it."""
    if block.dtype.kind != "f" or block.size == 0:
        return False
    if not block.flags.forc:
        return bool(np.isnan(block.min()))
    flat = block.ravel(order="K")
    with np.errstate(all="ignore"):
        return bool(np.isnan(np.dot(flat, flat)))  # a pass at the speed of BLAS


def filled(block):
    """The samples of a block with zeros in place of missing values; the block if it has none."""
    return np.where(np.isnan(block), block.dtype.type(0), block) if has_missing(block) else block


def all_missing(X):
    """Whether nothing of a sample is observed, for each sample of an array or a CSR matrix."""
    if not has_missing(X.data if issparse(X) else X):
        return np.zeros(X.shape[0], dtype=bool)
    if issparse(X):
        rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        return np.bincount(rows[np.isnan(X.data)], minlength=X.shape[0]) == X.shape[1]
    return np.isnan(X).all(axis=1)


class Dataset:
    """Samples, with their targets and weights if they have any.

    Subclasses have ``len``, `n_features`; `astype`, the same samples in another type;
    `feature_ranges`, the extremes of each feature as float64, shape (2, n_features); `take`, the
    samples of an index (a slice, or an array of positions) as a dense block; and `width`, the most
    numbers a sample that `take` holds at once.

    Parameters
    ----------
    dtype : dtype
        Type to compute in.
    target : ndarray of shape (n_samples, n_outputs), default=None
        Desired outputs; the samples themselves if None.
    sample_weight : ndarray of shape (n_samples,), float64, default=None
    strata : ndarray of shape (n_samples,), default=None
        Classes that a held-out part should have in the same proportions.
    ids : ndarray of shape (n_samples,), int64, default=None
        Numbers of the samples, by which their noise goes; their positions if None.
    labelled : ndarray of bool, shape (n_samples,), default=None
        Which samples have a target; all if None. The targets of the others are not read.

    Attributes
    ----------
    pseudo_labels : PseudoLabels or None
        Targets for the samples that have none.
    """

    here, n_replicas = True, 1  # whether steps are taken in this process; networks that take them
    zero_copy = False  # whether the kernel can read the samples where they are
    most_held_out = sys.maxsize  # most samples that early stopping holds out
    pseudo_labels = None

    def __init__(
        self, dtype, *, target=None, sample_weight=None, strata=None, ids=None, labelled=None
    ):
        self.dtype = np.dtype(dtype)
        self.target, self.sample_weight, self.strata = target, sample_weight, strata
        self.ids, self.labelled = ids, labelled

    @property
    def labels(self):
        """Everything but the samples, as keyword arguments."""
        names = "target", "sample_weight", "strata", "ids", "labelled"
        return {name: getattr(self, name) for name in names}

    @property
    def weighted(self):
        """Positions of the samples, without those of weight zero."""
        if self.sample_weight is None:
            return np.arange(len(self))
        return np.flatnonzero(self.sample_weight)

    @property
    def unlabelled(self):
        """Positions of the samples without a target, but for those of weight zero."""
        if self.labelled is None:
            return np.empty(0, dtype=np.intp)
        every = self.weighted
        return every[~self.labelled[every]]

    def weights_of_mean(self, index):
        """Weights of some samples, relative to the largest, so that no product overflows."""
        if self.sample_weight is None:
            return None
        weights = self.sample_weight[index]
        return weights / weights.max()

    def epoch(self, loop, number, team):
        """Take the steps of an epoch of a training loop; return the sum of the costs."""
        return loop.step_through(number, team)

    def part(self, index):
        """A data set in this process, and the positions in it of the samples of `index`."""
        return self, index

    def moments(self, total=None, *, by_weight=False):
        """The sums of `add_moments` for all samples, added to earlier ones.

        Each sample counts once, but for those of weight zero; or by its weight.
        """
        # The same blocks, and so the same sums, whatever X is stored in.
        size, index = max(1, min(512, BLOCK_NUMBERS // self.n_features)), self.weighted
        weights = self.sample_weight if by_weight else None
        weights = None if weights is None else weights[index]
        for where, block in self.blocks(size, index):
            total = add_moments(total, block, None if weights is None else weights[where])
            del block
        return total

    def block_size(self, workspace_width=0):
        """Number of samples in a block when nothing is learned, at least one.

        With `workspace_width` numbers more for each sample, the block takes at most `BLOCK_SHARE`
        of the working memory.
        """
        width = self.width + workspace_width
        if self.target is not None:
            width += self.target.shape[1]
        n_samples = int(working_memory() * BLOCK_SHARE // (width * self.dtype.itemsize))
        return max(1, min(n_samples, BLOCK_SIZE))

    def blocks(self, size, index=None):
        """Yield (where, block) for consecutive samples, or those of `index`.

        A block has `size` samples, unless all can be passed on at once without a copy. Delete each
        before the next, so that there is one at a time.
        """
        if index is None and self.zero_copy:
            yield slice(None), self.X
            return
        n_samples = len(self) if index is None else len(index)
        for start in range(0, n_samples, size):
            where = slice(start, min(start + size, n_samples))
            yield where, self.take(where if index is None else index[where])

    def batches(self, order, size, key, weights=None, *, n_labelled=-1, ids=None):
        """Yield the samples of `order` for the kernel to step through, in mini-batches of `size`.

        Either everything at once, by reference, or a copy of one mini-batch after another. `key`
        is that of the noise; `weights` are those of all samples, relative to their mean; the first
        `n_labelled` of each mini-batch have a target. `ids` take the place of the samples' own.
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
        """The codes of the samples, computed at once if `working_memory` has room for them.

        Parameters
        ----------
        encode : callable
            ``encode(dataset)`` gives the codes, shape (len(dataset), n_components).
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
        """All samples, dense; not a copy if the kernel can read them where they are."""
        if self.zero_copy:
            return self.X
        out = np.empty((len(self), self.n_features), dtype=self.dtype)
        for where, block in self.blocks(self.block_size()):
            out[where] = block
            del block
        return out


@dataclass
class PseudoLabels:
    """Targets that samples without one probably have, to train on in the first epochs.

    Attributes
    ----------
    find : callable
        ``find(index)`` gives the targets of all samples, by those of some, and the weights of all:
        how far the targets are to be trusted, times the weight of the sample.
    n_epochs : float
        Number of these epochs; infinite for all.
    """

    find: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    n_epochs: float


class Samples:
    """Samples in blocks, wherever they are, which a fit takes in place of X.

    Subclasses have `shape`, `dtype`, `given`, which is what the user gave, and `header`, an X of
    the same features, with or without samples. A block is an array, a CSR matrix, or a pair of
    samples and their targets.

    ``check(name, least)`` refuses too few samples for an estimator of this name;
    ``dataset(dtype, **labels)`` gives all as a data set, ``labelled(labels, dtype)`` those that
    have labels;
    ``results(function)`` lists ``function(block)`` for each block that is not empty;
    ``made(function)`` gives the samples that ``function(block, number)`` makes of each block: as
    many, or several copies of all of its samples, one after another;
    ``of_copies(values)`` repeats the values that the samples had for those made of them;
    ``selected(mask)`` gives some of the samples.
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
    """Some samples of a block."""
    return tuple(one[mask] for one in block) if isinstance(block, tuple) else block[mask]


def dataset_of(X, dtype=None, **labels):
    """A data set of samples, wherever they are."""
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
                    "type of the first fit. Scale X, or fit anew."
                ) from None


class EncodedDataset(Dataset):
    """Codes of samples, computed block by block each time that they are asked for.

    For the arguments see `Dataset.encoded`.
    """

    def __init__(self, dataset, encode, n_components):
        super().__init__(dataset.dtype, **dataset.labels)
        self.dataset, self.encode, self.n_components = dataset, encode, n_components
        # Input and output of the encoder, and as much again for its workspace.
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
    """Total weight, means and sums of squared deviations of each feature, with a block added.

    With missing values, which are left out, each feature has a total weight of its own.

    T. Chan, G. Golub, R. LeVeque. Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances. Technical report, Stanford University, 1979. All sums are float64, and of
    differences from one sample, so that a feature that does not vary adds nothing.

    Parameters
    ----------
    total : dict or None
        The result for earlier blocks.
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
    """The moments of two sets of samples together; the first may be None."""
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
    """Sums divided by their weights; zero where nothing was weighed."""
    return np.divide(
        sums, weight, out=np.zeros(np.broadcast(sums, weight).shape), where=weight > 0
    )
