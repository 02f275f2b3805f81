"""Noise on the input of a layer, and the statistics of the samples that it needs."""

import numpy as np

from skae._dataset import BLOCK_NUMBERS, over
from skae._kernel import _sgd
from skae._parameters import GAUSSIAN

# Maximum number of samples from which 'swap' takes values.
POOL_SIZE = 1024


def statistics(kind, dataset, earlier=None):
    """Compute the statistics that a kind of noise needs: a dict of arrays, or None.

    Parameters
    ----------
    kind : str or None
    dataset : Dataset
        Samples of weight zero are ignored.
    earlier : dict, default=None
        Statistics of earlier samples, to be updated.
    """
    if kind == "salt_and_pepper":
        low, high = dataset.feature_ranges()
        if earlier is not None:
            low, high = np.fmin(low, earlier["low"]), np.fmax(high, earlier["high"])
        return {"low": low, "high": high}
    if kind in GAUSSIAN:
        with np.errstate(over="ignore", invalid="ignore"):  # training raises the error
            return dataset.moments(earlier)
    return None


def make_corruption(kind, level, statistics, dataset, rng):
    """Make the kernel's noise for a data set; `rng` draws the samples of the pool of 'swap'."""
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
