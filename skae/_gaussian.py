"""Linear imputation: the mean of missing values given the observed ones, in a normal distribution.

R. Little, D. Rubin. Statistical Analysis with Missing Data. Wiley, 2002, chapter 11.
"""

import numpy as np

from skae._dataset import filled

# Iterations of expectation maximisation, and the ridge on the variances of standardised features.
N_ROUNDS, RIDGE = 10, 0.01

# Limits, because an iteration takes n_features^3 operations for each sample.
MOST_FEATURES, MOST_SAMPLES = 128, 2000

# Numbers in the matrices, one per sample, that are inverted together: they fit into a cache.
BLOCK_NUMBERS = 2**17


def fit_precision(Z, weights):
    """Estimate the inverse covariance of standardised features with missing values.

    This is the maximum likelihood estimate, by expectation maximisation.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_features)
        Samples of mean zero.
    weights : ndarray of shape (n_samples,) or None

    Returns
    -------
    precision : ndarray of shape (n_features, n_features), or None
        None if there are more than `MOST_FEATURES` features.
    """
    d = Z.shape[1]
    if d > MOST_FEATURES:
        return None
    weights = np.ones(len(Z)) if weights is None else weights
    covariance = np.eye(d)
    for _ in range(N_ROUNDS):
        total = np.zeros((d, d))
        precision = np.linalg.inv(covariance)
        for where, values, missing in _blocks(Z):
            inverse = np.linalg.inv(_of_missing(precision, missing))
            inverse *= missing[:, np.newaxis, :]  # the covariance of the missing values
            means = values - np.einsum("ijk,ik->ij", inverse, values @ precision) * missing
            w = weights[where]
            total += (means.T * w) @ means + np.einsum("i,ijk->jk", w, inverse)
        covariance = total / weights.sum() + RIDGE * np.eye(d)
    return np.linalg.inv(covariance)


def evenly_spaced(n_samples):
    """Return indices of at most `MOST_SAMPLES` evenly spaced samples."""
    n_taken = min(n_samples, MOST_SAMPLES)
    return np.arange(n_taken) * n_samples // n_taken


def fill(Z, precision):
    """Fill missing values with their conditional means, or with zeros without a precision."""
    if precision is None:
        return filled(Z)
    out = np.empty(Z.shape)
    for where, values, missing in _blocks(Z):
        pull = (values @ precision) * missing
        solved = np.linalg.solve(_of_missing(precision, missing), pull[:, :, np.newaxis])
        out[where] = values - solved[:, :, 0]
    return out


def _blocks(Z):
    """Yield (where, values, missing) of consecutive samples, with zeros for missing values."""
    size = max(1, BLOCK_NUMBERS // Z.shape[1] ** 2)
    for start in range(0, len(Z), size):
        where = slice(start, start + size)
        missing = np.isnan(Z[where])
        yield where, np.where(missing, 0.0, Z[where]), missing


def _of_missing(precision, missing):
    """Return the precision of the missing values of each sample, padded with an identity."""
    both = missing[:, :, np.newaxis] & missing[:, np.newaxis, :]
    return np.where(both, precision, np.eye(len(precision)))
