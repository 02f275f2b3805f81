"""StackedAutoencoderImputer. What it shares with the detector is in test_detector.py."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common import refuses, with_value
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from test_detector import M, X, imputer, table

from skae import StackedAutoencoderImputer, _standardized
from skae._gaussian import fill

HIDDEN = np.isnan(M)
NAMES = list("abcde")
EMPTY = M.copy()
EMPTY[:, 1] = np.nan  # a feature that is never observed


def frame(X, **options):
    return pd.DataFrame(X, columns=NAMES, **options)


# -- what is filled in ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_observed_values_are_kept_to_the_bit(dtype):
    given = M.astype(dtype)
    filled = imputer().fit_transform(given)
    assert filled.dtype == dtype and np.isfinite(filled).all()
    assert_array_equal(filled[~HIDDEN], given[~HIDDEN])
    assert not np.array_equal(filled, SimpleImputer().fit_transform(given))


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_filled_in_is_a_weighted_mean_of_two_estimates(wide):
    """The linear one, and what the networks make of it."""
    given = np.tile(M, 26) if wide else M  # more features than the linear estimate takes
    fitted = imputer().fit(given)
    assert (fitted.precision_ is None) == wide
    assert fitted.weights_.shape == (given.shape[1],)
    assert 0 <= fitted.weights_.min() < fitted.weights_.max() <= 1
    linear = fill((given - fitted.mean_) / fitted.scale_, fitted.precision_)
    inputs = np.hstack([linear, np.isnan(given)])
    networks = np.mean([one.reconstruct(inputs) for one in fitted.autoencoders_], axis=0)
    networks = networks[:, : given.shape[1]]
    estimates = (1 - fitted.weights_) * linear + fitted.weights_ * networks
    expected = np.where(np.isnan(given), estimates * fitted.scale_ + fitted.mean_, given)
    assert_allclose(fitted.transform(given), expected, rtol=1e-9)


def test_weights_are_those_of_least_squares_on_samples_not_trained_on(monkeypatch):
    """Of hidden values, each feature's drawn to that of all."""
    seen = []

    def spy(*args, real=StackedAutoencoderImputer._prepare):
        seen.append(real(*args))
        return seen[-1]

    monkeypatch.setattr(StackedAutoencoderImputer, "_prepare", spy)
    fitted = imputer(max_iter=5).fit(M)
    (inputs, targets), products, squares = seen[0].block, 0.0, 0.0
    for stack, part in zip(fitted.autoencoders_, _standardized.parts(60, 2, fitted._seed)):
        rows = np.tile(part, len(inputs) // 60)
        step, lack = stack.reconstruct(inputs[rows]) - inputs[rows], targets[rows] - inputs[rows]
        step, lack, missing = step[:, :5], lack[:, :5], inputs[rows, 5:]
        known = ~np.isnan(lack) & (missing == 1)
        products = products + (step * np.nan_to_num(lack) * known).sum(axis=0)
        squares = squares + (step**2 * known).sum(axis=0)
    prior = 0.2 * squares.mean()
    expected = (products + prior * products.sum() / squares.sum()) / (squares + prior)
    assert_allclose(fitted.weights_, np.clip(expected, 0, 1), rtol=1e-3, atol=1e-5)


def root_mean_square(filled, X, hidden):
    scale = X.std(axis=0)
    return np.sqrt(np.mean((((filled - X) / scale)[hidden]) ** 2))


def test_it_learns_what_is_not_linear():
    X = table(500)
    hidden = np.random.default_rng(3).random(X.shape) < 0.2
    given = np.where(hidden, np.nan, X)
    fitted = imputer(hidden_layer_sizes=(64, 32), max_iter=10).fit(given)
    errors = root_mean_square(fitted.transform(given), X, hidden)
    fitted.weights_ = np.zeros(5)
    linear = root_mean_square(fitted.transform(given), X, hidden)
    mean = root_mean_square(SimpleImputer().fit_transform(given), X, hidden)
    assert errors < 0.93 * linear < 0.9 * mean


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_defaults_on_breast_cancer(share):
    X = load_breast_cancer().data
    hidden = np.random.default_rng(0).random(X.shape) < share
    given = np.where(hidden, np.nan, X)
    error = root_mean_square(
        StackedAutoencoderImputer(random_state=0).fit_transform(given), X, hidden
    )
    mean, scale = np.nanmean(given, axis=0), np.nanstd(given, axis=0)
    neighbours = KNNImputer().fit_transform((given - mean) / scale) * scale + mean
    assert error < 0.8 * root_mean_square(neighbours, X, hidden) < 0.8


def test_new_samples_are_filled_by_what_was_learned():
    fitted = imputer().fit(M)
    fresh = table(20, seed=5, missing=0.3)
    filled = fitted.transform(fresh)
    alone = np.vstack([fitted.transform(fresh[k : k + 1]) for k in range(20)])
    assert_allclose(filled, alone, rtol=1e-12)
    assert np.isfinite(filled).all()


def test_complete_samples_are_what_they_were():
    fitted = imputer(add_indicator=True).fit(X)
    assert_array_equal(fitted.transform(X), X)
    assert fitted.transform(X) is not X
    filled = fitted.transform(M)  # and others can be filled
    assert filled.shape == (60, 5) and np.isfinite(filled).all()


def test_a_sample_of_which_nothing_is_observed_is_filled_alike():
    empty = with_value(M, np.nan, [3, 7])
    filled = imputer().fit_transform(empty)
    assert_array_equal(filled[3], filled[7])
    spread = np.nanstd(M, axis=0)
    assert (np.abs(filled[3] - np.nanmean(M, axis=0)) < spread).all()


def test_constant_features():
    constant = np.where(HIDDEN, np.nan, 1 / 3)
    assert_allclose(imputer().fit_transform(constant), 1 / 3)
    given = M.copy()
    given[:, 2] = constant[:, 2]
    fitted = imputer().fit(given)
    assert_allclose(fitted.transform(given)[:, 2], 1 / 3, rtol=1e-6)
    assert fitted.scale_[2] == 1


def test_one_feature():
    fitted = imputer().fit(M[:, :1])
    filled = fitted.transform(M[:, :1])
    assert len(np.unique(filled[HIDDEN[:, 0]])) == 1
    assert np.isfinite(filled).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wide", [False, True])
def test_values_far_too_large_leave_something_finite(wide, dtype):
    small = (1e-3 * (np.tile(M, 26) if wide else M)).astype(dtype)
    largest = np.finfo(dtype).max / 2
    far = np.where(np.isnan(small), np.nan, np.where(small > 0, largest, -largest)).astype(dtype)
    filled = imputer().fit(small).transform(far)
    assert np.isfinite(filled).all()
    assert_array_equal(filled[~np.isnan(small)], far[~np.isnan(small)])


# -- what stands for missing, and what comes out ------------------------------------------------


@pytest.mark.parametrize("marker", [-1, -1.0, 1e6, 0])
def test_another_marker_of_missing_values(marker):
    given = np.where(HIDDEN, marker, M)
    fitted = imputer(missing_values=marker)
    assert_array_equal(fitted.fit_transform(given), imputer().fit_transform(M))
    refuses(clone(fitted), "fit", M, match="NaN")
    refuses(fitted, "transform", M, match="NaN")


@pytest.mark.parametrize("dtype", [np.int8, np.int64, object])
def test_integers(dtype):
    given = np.where(HIDDEN, -1, np.abs(X).astype(int) % 100).astype(dtype)
    filled = imputer(missing_values=-1).fit_transform(given)
    assert filled.dtype == np.float64
    as_nan = np.where(HIDDEN, np.nan, given.astype(float))
    assert_array_equal(filled, imputer().fit_transform(as_nan))


def test_a_marker_of_single_precision():
    given = np.where(HIDDEN, 0.1, M).astype(np.float32)
    filled = imputer(missing_values=0.1).fit_transform(given)
    assert_array_equal(filled, imputer().fit_transform(M.astype(np.float32)), strict=True)


@pytest.mark.parametrize("marker", [None, "?", pd.NA])
def test_other_markers_are_refused(marker):
    refuses(imputer(missing_values=marker), "fit", M, match="'missing_values' parameter")


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix])
def test_sparse_samples_are_refused(container):
    refuses(imputer(), "fit", container(X), match="dense data is required", error=TypeError)
    fitted = imputer().fit(X)
    refuses(fitted, "transform", container(X), match="dense data is required", error=TypeError)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("indicator", [False, True])
def test_features_never_observed_and_indicators(keep, indicator):
    params = {"keep_empty_features": keep, "add_indicator": indicator}
    given = EMPTY.copy()
    given[:, 3] = X[:, 3]  # complete
    fitted = imputer(**params).fit(given)
    filled = fitted.transform(given)
    kept = [0, 1, 2, 3, 4] if keep else [0, 2, 3, 4]
    incomplete = [0, 1, 2, 4] if indicator else []
    assert filled.shape == (60, len(kept) + len(incomplete))
    if keep:
        assert (filled[:, 1] == 0).all()
        assert (fitted.transform(X)[:, 1] == 0).all()
    assert_array_equal(filled[:, len(kept) :], np.isnan(given)[:, incomplete])
    plain = imputer(keep_empty_features=keep).fit_transform(given)
    assert_array_equal(filled[:, : len(kept)], plain)
    names = [f"x{k}" for k in kept] + [f"missingindicator_x{k}" for k in incomplete]
    assert list(fitted.get_feature_names_out()) == names
    named = imputer(**params).fit(frame(given))
    names = [NAMES[k] for k in kept] + [f"missingindicator_{NAMES[k]}" for k in incomplete]
    assert list(named.get_feature_names_out()) == names
    assert list(named.get_feature_names_out(NAMES)) == names
    with pytest.raises(ValueError, match="input_features is not equal"):
        named.get_feature_names_out(list("vwxyz"))
    assert list(named.set_output(transform="pandas").transform(frame(given))) == names


def test_nothing_observed_at_all():
    nothing = np.full((10, 3), np.nan)
    assert imputer().fit_transform(nothing).shape == (10, 0)
    assert_array_equal(imputer(keep_empty_features=True).fit_transform(nothing), np.zeros((10, 3)))


@pytest.mark.parametrize("dtype", ["float64", "Float64", "Float32"])
def test_indicators_have_the_type_of_the_samples(dtype):
    filled = imputer(add_indicator=True).fit_transform(frame(M).astype(dtype))
    expected = np.float32 if dtype == "float32" else np.float64
    assert filled.dtype == expected
    assert_array_equal(filled[:, 5:], HIDDEN)


def test_the_indicator_goes_with_the_last_fit():
    fitted = imputer(add_indicator=True).fit(M)
    assert fitted.indicator_.features_.tolist() == [0, 1, 2, 3, 4]
    assert fitted.set_params(add_indicator=False).fit(M).indicator_ is None


def test_the_seed_hides_the_values(monkeypatch):
    """Of copies, so that nothing of them is what the networks are asked to learn by heart."""
    seen = []

    def spy(*args, real=StackedAutoencoderImputer._prepare):
        rows = real(*args)
        seen.append(rows.block)
        return rows

    monkeypatch.setattr(StackedAutoencoderImputer, "_prepare", spy)
    imputer().fit(M)
    [(inputs, targets)] = seen
    assert inputs.shape == targets.shape == (50 * 60, 10)
    assert_array_equal(targets, np.tile(targets[:60], (50, 1)))
    assert_array_equal(np.isnan(targets[:60]), np.hstack([HIDDEN, np.ones_like(HIDDEN)]))
    assert np.isfinite(inputs).all()
    missing, targets = inputs[:, 5:], targets[:, :5]
    assert_array_equal(missing[np.isnan(targets)], 1.0)
    changed = (inputs[:, :5] != targets) & ~np.isnan(targets)
    assert_array_equal(missing == 1.0, changed | np.isnan(targets))
    assert changed.mean() / (~HIDDEN).mean() == pytest.approx(0.325, abs=0.05)
    other = imputer(random_state=1)
    other.fit(M)
    assert not np.array_equal(seen[1][0], inputs)
