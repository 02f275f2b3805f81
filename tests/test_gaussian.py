"""Linear imputation: conditional means of a normal distribution, and its covariance."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae import _gaussian
from skae._gaussian import MOST_FEATURES, RIDGE, fill, fit_precision


def covariance(d=6):
    root = np.random.default_rng(1).normal(size=(d, d))
    return root @ root.T / d + 0.3 * np.eye(d)


def samples(n_samples=50, d=6, missing=0.4):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n_samples, d)) @ np.linalg.cholesky(covariance(d)).T
    Z[rng.random(Z.shape) < missing] = np.nan
    return Z


def one_by_one(Z, covariance):
    """The conditional mean of what is missing, from the covariance itself."""
    Z = Z.copy()
    for row in Z:
        m = np.isnan(row)
        row[m] = covariance[np.ix_(m, ~m)] @ np.linalg.solve(covariance[np.ix_(~m, ~m)], row[~m])
    return Z


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("block", [1, 7 * 36, 2**21])
def test_missing_values_become_their_conditional_means(missing, block, monkeypatch):
    monkeypatch.setattr(_gaussian, "BLOCK_NUMBERS", block)
    Z = samples(missing=missing)
    filled = fill(Z, np.linalg.inv(covariance()))
    assert_allclose(filled, one_by_one(Z, covariance()), rtol=1e-9, atol=1e-12)
    assert_array_equal(filled[~np.isnan(Z)], Z[~np.isnan(Z)])


def test_without_a_precision_the_mean_is_zero():
    Z = samples()
    filled = fill(Z, None)
    assert_array_equal(filled, np.where(np.isnan(Z), 0.0, Z))
    assert np.isnan(Z).any()


@pytest.mark.parametrize("missing, tolerance", [(0.0, 0.1), (0.3, 0.12)])
def test_the_covariance_is_that_of_the_samples(missing, tolerance):
    precision = fit_precision(samples(2000, missing=missing), None)
    assert_allclose(np.linalg.inv(precision), covariance() + RIDGE * np.eye(6), atol=tolerance)
    assert_allclose(precision, precision.T, atol=1e-12)


def test_the_covariance_of_complete_samples_is_the_plain_one():
    Z = samples(missing=0.0)
    expected = Z.T @ Z / len(Z) + RIDGE * np.eye(6)
    assert_allclose(np.linalg.inv(fit_precision(Z, None)), expected, rtol=1e-9)


def test_it_is_a_better_guess_than_that_of_complete_pairs_or_zeros():
    """A chain of features: the two ends are never seen together."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=1000)
    Z = np.column_stack([a, a + 0.1 * rng.normal(size=1000), a + 0.1 * rng.normal(size=1000)])
    Z[:500, 0], Z[500:, 2] = np.nan, np.nan
    filled = fill(np.array([[2.0, np.nan, np.nan]]), fit_precision(Z, None))
    assert_allclose(filled[0], 2.0, atol=0.3)


@pytest.mark.parametrize("factor", [1.0, 7.0, 1e-100])
def test_a_weight_of_two_is_a_sample_seen_twice(factor):
    Z, times = samples(), np.arange(50) % 3
    repeated = fit_precision(np.repeat(Z, times, axis=0), None)
    assert_allclose(fit_precision(Z, factor * times), repeated, rtol=1e-9, atol=1e-12)


def test_some_of_many_samples_are_taken_evenly(monkeypatch):
    monkeypatch.setattr(_gaussian, "MOST_SAMPLES", 25)
    assert_array_equal(_gaussian.evenly_spaced(50), np.arange(0, 50, 2))
    assert_array_equal(_gaussian.evenly_spaced(20), np.arange(20))


def test_features_that_do_not_vary_or_are_never_observed():
    Z = samples()
    Z[:, 1], Z[:, 4] = 0.0, np.nan
    precision = fit_precision(Z, None)
    assert np.isfinite(precision).all() and (np.linalg.eigvalsh(precision) > 0).all()
    filled = fill(Z, precision)
    assert_allclose(filled[:, 4], 0.0, atol=1e-9)


def test_the_most_features():
    Z = samples(10, MOST_FEATURES, missing=0.2)
    assert fit_precision(Z, None).shape == (MOST_FEATURES, MOST_FEATURES)
    assert fit_precision(np.hstack([Z, Z[:, :1]]), None) is None
