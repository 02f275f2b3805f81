"""Missing values: nan in X is its own mask."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
)
from skae._dataset import add_moments, all_missing, filled, has_missing
from skae._parameters import CORRUPTIONS

UNSUPERVISED = {
    "denoising": lambda **p: DenoisingAutoencoder(6, max_iter=3, random_state=0, **p),
    "stacked": lambda **p: StackedAutoencoder((6, 4), max_iter=3, random_state=0, **p),
    "joint": lambda **p: StackedAutoencoder(
        (6, 4), max_iter=2, joint=True, joint_max_iter=3, random_state=0, **p
    ),
}
SUPERVISED = {
    "classifier": lambda: StackedAutoencoderClassifier((6,), max_iter=4, random_state=0),
    "regressor": lambda: StackedAutoencoderRegressor((6,), max_iter=4, random_state=0),
}


def samples(seed=0, shape=(60, 7), missing=0.3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape).astype(dtype)
    X[rng.random(shape) < missing] = np.nan
    X[0, 0], X[1] = np.nan, rng.normal(size=shape[1])
    return X


def sparse(X):
    """CSR with an entry for each number, so that nan is explicit and nothing else is implied."""
    return sp.csr_array(X)


@pytest.mark.parametrize("make", UNSUPERVISED.values(), ids=UNSUPERVISED)
@pytest.mark.parametrize("noise", [None, *CORRUPTIONS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_noise_learns_from_what_is_observed(make, noise, dtype):
    X = samples(dtype=dtype)
    estimator = make(corruption=noise, corruption_level=0.2).fit(X)
    codes, reconstructed = estimator.transform(X), estimator.reconstruct(X)
    assert codes.dtype == reconstructed.dtype == dtype
    assert np.isfinite(codes).all() and np.isfinite(reconstructed).all()
    assert np.isfinite(estimator.score_samples(X)).all()
    assert np.isfinite(
        [estimator.score(X), estimator.reconstruction_r2_, estimator.baseline_loss_]
    ).all()


@pytest.mark.parametrize("make", UNSUPERVISED.values(), ids=UNSUPERVISED)
def test_sparse_input_is_the_same(make):
    X = samples()
    dense, csr = make().fit(X), make().fit(sparse(X))
    np.testing.assert_array_equal(dense.transform(X), csr.transform(sparse(X)))
    np.testing.assert_array_equal(dense.score_samples(X), csr.score_samples(sparse(X)))


def test_what_is_missing_goes_in_as_zero():
    X = samples()
    estimator = DenoisingAutoencoder(6, max_iter=3, random_state=0).fit(X)
    zeros = np.nan_to_num(X)
    np.testing.assert_array_equal(estimator.transform(X), estimator.transform(zeros))
    np.testing.assert_array_equal(estimator.reconstruct(X), estimator.reconstruct(zeros))


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_scores_are_those_of_the_observed_values(loss):
    X = samples()
    X = (X - np.nanmin(X)) / (np.nanmax(X) - np.nanmin(X))
    estimator = DenoisingAutoencoder(6, loss=loss, max_iter=3, random_state=0).fit(X)
    output = estimator.reconstruct(X)
    if loss == "squared_error":
        terms = (X - output) ** 2
    else:
        terms = -X * np.log(output) - (1 - X) * np.log(1 - output)
    desired = -np.nanmean(terms, axis=1) * X.shape[1]
    np.testing.assert_allclose(estimator.score_samples(X), desired, rtol=1e-9)


def test_a_sample_of_which_nothing_is_observed():
    X = samples()
    estimator = DenoisingAutoencoder(
        6, corruption=None, shuffle=False, batch_size=60, random_state=0
    )
    with_empty = np.vstack([X, np.full((1, 7), np.nan)])
    fitted = clone(estimator).set_params(max_iter=1).fit(with_empty)
    scores = fitted.score_samples(with_empty)
    assert np.isnan(scores[-1]) and np.isfinite(scores[:-1]).all()
    assert fitted.score(with_empty) == pytest.approx(scores[:-1].mean())
    assert fitted.score(with_empty, sample_weight=np.ones(61)) == pytest.approx(scores[:-1].mean())
    assert np.isfinite(fitted.transform(with_empty)).all()
    assert np.isnan(fitted.score_samples(sparse(with_empty))[-1])
    assert np.isnan(fitted.score(with_empty[-1:], sample_weight=[1.0]))


def test_a_feature_that_is_never_observed():
    X = samples()
    X[:, 3] = np.nan
    for noise in ("gaussian", "salt_and_pepper", "swap"):
        estimator = DenoisingAutoencoder(6, corruption=noise, max_iter=3, random_state=0).fit(X)
        assert np.isfinite(estimator.reconstruct(X)).all()
        estimator = clone(estimator)
        estimator.partial_fit(X).partial_fit(samples(1))
        assert np.isfinite(estimator.reconstruct(X)).all()


@pytest.mark.parametrize("make", SUPERVISED.values(), ids=SUPERVISED)
def test_supervised_estimators(make):
    X = samples()
    y = (np.nan_to_num(X[:, 1]) > 0).astype(int)
    fitted = make().fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(np.nan_to_num(X)))
    np.testing.assert_array_equal(fitted.predict(X), make().fit(sparse(X), y).predict(sparse(X)))


def test_nan_costs_no_more_than_it_hides():
    """Half of the values of correlated features suffice to reconstruct the others."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    hidden = np.random.default_rng(0).random(X.shape) < 0.3
    X_missing = np.where(hidden, np.nan, X)
    estimator = DenoisingAutoencoder(
        64, corruption="masking", corruption_level=0.3, max_iter=100, random_state=0
    ).fit(X_missing)
    error = np.sqrt(np.mean((estimator.reconstruct(X_missing) - X)[hidden] ** 2))
    assert error < 0.75  # the mean: 1.0


@pytest.mark.parametrize("make", [*UNSUPERVISED.values(), *SUPERVISED.values()])
def test_infinity_is_refused(make):
    X, y = samples(), np.arange(60) % 2
    X[4, 4] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        make().fit(X, y)


def test_early_stopping_with_missing_values():
    X = samples(shape=(200, 7))
    X[5] = np.nan
    estimator = DenoisingAutoencoder(6, early_stopping=True, max_iter=5, random_state=0).fit(X)
    assert np.isfinite(estimator.validation_loss_curve_).all()


def test_moments_leave_out_what_is_missing():
    X = samples()
    total = None
    for part in np.split(X, 4):
        total = add_moments(total, part)
    np.testing.assert_allclose(total["mean"], np.nanmean(X, axis=0))
    np.testing.assert_allclose(total["squares"] / total["weight"], np.nanvar(X, axis=0))


def test_helpers():
    X = samples()
    assert has_missing(X) and not has_missing(filled(X))
    ones = np.ones((2, 2))
    assert filled(ones) is ones
    X[7] = np.nan
    desired = np.isnan(X).all(axis=1)
    np.testing.assert_array_equal(all_missing(X), desired)
    np.testing.assert_array_equal(all_missing(sparse(X)), desired)
    for other in (np.asfortranarray(X), X[::2, ::3]):
        assert has_missing(other) and not has_missing(filled(other))
    assert not has_missing(np.ones((3, 3), dtype=np.uint8))
    assert not has_missing(np.full((3, 3), 3e38, dtype=np.float32))


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnx(loss, dtype):
    pytest.importorskip("skae.onnx")
    runtime = pytest.importorskip("onnxruntime")
    from skl2onnx import to_onnx

    X = samples(dtype=dtype)
    X = (X - np.nanmin(X)) / (np.nanmax(X) - np.nanmin(X))
    estimator = DenoisingAutoencoder(6, loss=loss, max_iter=3, random_state=0).fit(X)
    options = {id(estimator): {"reconstruct": True, "score_samples": True}}
    model = to_onnx(estimator, X[:1], options=options).SerializeToString()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    codes, reconstructed, scores = session.run(None, {session.get_inputs()[0].name: X})
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    close = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(codes, estimator.transform(X), **close)
    np.testing.assert_allclose(reconstructed, estimator.reconstruct(X), **close)
    np.testing.assert_allclose(scores.ravel(), estimator.score_samples(X), rtol=tolerance)
