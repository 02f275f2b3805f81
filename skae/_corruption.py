"""The noise on the input of a layer, and what it must know of the samples."""

import numpy as np

from skae._dataset import BLOCK_NUMBERS, over
from skae._kernel import _sgd
from skae._parameters import GAUSSIAN

# Most samples whose values 'swap' takes.
POOL_SIZE = 1024


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
            low, high = np.fmin(low, earlier["low"]), np.fmax(high, earlier["high"])
        return {"low": low, "high": high}
    if kind in GAUSSIAN:
        with np.errstate(over="ignore", invalid="ignore"):  # training refuses what is infinite
            return dataset.moments(earlier)
    return None


def make_corruption(kind, level, statistics, dataset, rng):
    """The kernel's noise for the samples of a data set; `rng` draws those that 'swap' takes."""
    if kind == "swap":
        size = min(POOL_SIZE, max(2, BLOCK_NUMBERS // dataset.n_features))
        index = dataset.weighted
        if len(index) > size:
            index = np.sort(rng.choice(index, size, replace=False))
        return _sgd.Corruption(kind, level, pool=dataset.take(index))
    if kind in GAUSSIAN:
        variance = over(statistics["squares"], statistics["weight"])
        return _sgd.Corruption(kind, level, scale=np.sqrt(variance))
    return _sgd.Corruption(kind, level, **(statistics or {}))
