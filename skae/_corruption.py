"""The noise on the input of a layer, and what it must know of the samples."""

import numpy as np

from skae._kernel import _sgd

# Samples whose values 'swap' takes; and the most numbers that they, or a block of samples, have.
POOL_SIZE, BLOCK_NUMBERS = 1024, 2**20


def statistics(kind, dataset, earlier=None):
    """What a kind of noise goes by: a dict of arrays of shape (n_features,), or None.

    Parameters
    ----------
    kind : str or None
    dataset : Dataset
        Samples of weight zero are left out.
    earlier : dict, default=None
        The statistics of earlier samples, to which those of `dataset` are added.
    """
    if kind == "salt_and_pepper":
        low, high = dataset.feature_ranges()
        if earlier is not None:
            low, high = np.minimum(low, earlier["low"]), np.maximum(high, earlier["high"])
        return {"low": low, "high": high}
    if kind == "gaussian":
        total = earlier
        with np.errstate(over="ignore", invalid="ignore"):  # training refuses what is infinite
            for block in _blocks(dataset):
                total = _added(total, block)
        return total
    return None


def make_corruption(kind, level, statistics, dataset, rng):
    """The kernel's noise for the samples of a data set; `rng` draws those that 'swap' takes."""
    if kind == "swap":
        size = min(POOL_SIZE, max(2, BLOCK_NUMBERS // dataset.n_features))
        index = _weighty(dataset)
        if len(index) > size:
            index = np.sort(rng.choice(index, size, replace=False))
        return _sgd.Corruption(kind, level, pool=dataset.take(index))
    if kind == "gaussian":
        variance = statistics["squares"] / statistics["n_samples"]
        return _sgd.Corruption(kind, level, scale=np.sqrt(variance))
    return _sgd.Corruption(kind, level, **(statistics or {}))


def _weighty(dataset):
    weights = dataset.sample_weight
    return np.arange(len(dataset)) if weights is None else np.flatnonzero(weights)


def _blocks(dataset):
    """Blocks of the samples: the same ones, and so the same sums, whatever X is stored in."""
    size = max(1, min(512, BLOCK_NUMBERS // dataset.n_features))
    index, whole = _weighty(dataset), dataset.sample_weight is None
    for start in range(0, len(index), size):
        stop = start + size
        yield dataset.take(slice(start, stop) if whole else index[start:stop])


def _added(total, block):
    """Number, means and sums of squared deviations of samples, with those of a block added.

    T. Chan, G. Golub, R. LeVeque. Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances. Technical report, Stanford University, 1979.
    """
    block = block.astype(np.float64)
    n, mean = len(block), block.mean(axis=0)
    block -= mean
    squares = np.einsum("ij,ij->j", block, block)
    if total is not None:
        step, n_earlier = mean - total["mean"], total["n_samples"]
        n += n_earlier
        squares += total["squares"] + step * step * (n_earlier * len(block) / n)
        mean = total["mean"] + step * (len(block) / n)
    return {"n_samples": n, "mean": mean, "squares": squares}
