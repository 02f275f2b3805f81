"""Conventions of scikit-learn that all estimators keep: containers, errors, repetition."""

import copy
import pickle
from functools import cache

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from common import (
    SMALL,
    TRAINING_EFFECTS,
    assert_close_fit,
    assert_same_fit,
    bytes_of,
    denoising,
    interrupt,
    joint_seed_of,
    learned,
    limit_measured,
    needs_unit_range,
    refuses,
    rows,
    same_fit,
    split,
    stacked,
    weights_of,
    with_value,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
)

pytestmark = pytest.mark.usefixtures("one_thread")


both = pytest.mark.parametrize("make", [denoising, stacked])


# -- what X may be --------------------------------------------------------------------


def wide_indices(X):
    X = sp.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def narrow_indices(X):
    X = sp.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return X


def unsorted_indices(X):
    X = sp.csr_array(X)
    for start, stop in zip(X.indptr, X.indptr[1:]):
        X.indices[start:stop] = X.indices[start:stop][::-1].copy()
        X.data[start:stop] = X.data[start:stop][::-1].copy()
    X.has_sorted_indices = False
    return X


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def mapped(X, path):
    joblib.dump(X, path / "X.joblib")
    X = joblib.load(path / "X.joblib", mmap_mode="r")
    assert isinstance(X, np.memmap)
    return X


CONTAINERS = {
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "csr, 32-bit indices": narrow_indices,
    "csr, 64-bit indices": wide_indices,
    "csr, unsorted": unsorted_indices,
    "csc": sp.csc_array,
    "coo": sp.coo_array,
    "Fortran order": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "read-only": read_only,
    "memory-mapped": mapped,
    "data frame": pd.DataFrame,
    "list": lambda X: X.tolist(),
}


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
@both
def test_container_makes_no_difference(make, container, corruption, tmp_path):
    X = rows(530)  # more than go through the network at once
    convert = CONTAINERS[container]
    other = convert(X, tmp_path) if convert is mapped else convert(X)
    options = {"corruption": corruption, "early_stopping": True}
    weights = np.linspace(0, 1, len(X))
    expected = make(**options).fit(X, sample_weight=weights)
    found = make(**options).fit(other, sample_weight=weights)
    assert_same_fit(found, expected)
    assert_array_equal(found.transform(other), expected.transform(X), strict=True)
    assert_array_equal(found.score_samples(other), expected.score_samples(X), strict=True)
    assert found.score(other) == expected.score(X)
    partial = make(corruption=corruption)
    assert_same_fit(partial.partial_fit(other), make(corruption=corruption).partial_fit(X))


@pytest.mark.parametrize("container", ["csr_array", "Fortran order", "read-only"])
@both
def test_container_of_codes_makes_no_difference(make, container):
    X = rows()
    estimator = make().fit(X)
    codes = estimator.transform(X)
    found = estimator.inverse_transform(CONTAINERS[container](codes))
    assert_array_equal(found, estimator.inverse_transform(codes), strict=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool, np.float16])
@both
def test_other_numbers_are_taken_as_float64(make, dtype):
    X = (rows() > 0.5).astype(dtype)
    expected, found = make().fit(X.astype(np.float64)), make().fit(X)
    assert_same_fit(found, expected)
    assert found.transform(X).dtype == np.float64
    assert_array_equal(found.transform(X), expected.transform(X.astype(np.float64)))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@both
def test_floats_come_back_as_they_went_in(make, dtype, sparse):
    X = rows(dtype=dtype)
    if sparse:
        X = sp.csr_array(X)
    estimator = make().fit(X)
    codes = estimator.transform(X)
    assert codes.dtype == estimator.inverse_transform(codes).dtype == dtype
    assert all(array.dtype == dtype for array in weights_of(estimator))
    assert make().fit_transform(X).dtype == dtype
    scores = estimator.score_samples(X)
    assert scores.dtype == np.float64
    assert scores.shape == (X.shape[0],)
    assert type(estimator.score(X)) is float


@pytest.mark.parametrize("fitted, given", [(np.float32, np.float64), (np.float64, np.float32)])
@both
def test_rows_of_another_precision_than_the_fit(make, fitted, given):
    X = rows()
    estimator = make().fit(X.astype(fitted))
    codes = estimator.transform(X.astype(given))
    assert codes.dtype == estimator.inverse_transform(codes).dtype == given
    assert_allclose(codes, estimator.transform(X.astype(fitted)), rtol=1e-4, atol=1e-5)
    assert_allclose(
        estimator.score_samples(X.astype(given)),
        estimator.score_samples(X.astype(fitted)),
        rtol=1e-4,
    )


@pytest.mark.parametrize("first, later", [(np.float32, np.float64), (np.float64, np.float32)])
@both
def test_training_continues_in_the_precision_it_began_with(make, first, later):
    X = rows()
    estimator = make().partial_fit(X.astype(first)).partial_fit(X.astype(later))
    expected = make().partial_fit(X.astype(first)).partial_fit(X.astype(first))
    assert {a.dtype for a in weights_of(estimator)} == {np.dtype(first)}
    assert_close_fit(estimator, expected, rtol=1e-4, atol=1e-5)


@both
def test_single_precision_is_close_to_double(make):
    X = rows()
    double, single = make().fit(X), make().fit(X.astype(np.float32))
    assert not same_fit(double, single)
    assert_close_fit(double, single, rtol=1e-3, atol=1e-4)


@both
def test_data_frames_and_names(make):
    X = pd.DataFrame(rows(), columns=[f"pixel {k}" for k in range(9)])
    estimator = make().fit(X)
    assert list(estimator.feature_names_in_) == list(X.columns)
    assert estimator.n_features_in_ == 9
    names = estimator.get_feature_names_out()
    n_codes = estimator.transform(X).shape[1]
    assert list(names) == [f"{type(estimator).__name__.lower()}{k}" for k in range(n_codes)]
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(X[X.columns[::-1]])
    plain = estimator.transform(X)
    scores = estimator.score_samples(X)
    estimator.set_output(transform="pandas")
    codes = estimator.transform(X)
    assert list(codes.columns) == list(names)
    assert_array_equal(codes.to_numpy(), plain)
    assert_array_equal(estimator.inverse_transform(codes), estimator.inverse_transform(plain))
    assert_array_equal(estimator.score_samples(X), scores)


# -- reconstructions ------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
@pytest.mark.parametrize("params", [{}, {"tied_weights": True}, {"loss": "cross_entropy"}])
@both
def test_reconstruct_decodes_the_codes(make, params, dtype, sparse):
    X = rows(dtype=dtype)
    if make is stacked and params:
        params = {**params, "activation": "logistic"}
    estimator = make(**params).fit(X)
    expected = estimator.inverse_transform(estimator.transform(X))
    found = estimator.reconstruct(sp.csr_array(X) if sparse else X)
    assert found.dtype == (np.float64 if dtype == np.int8 else dtype)
    assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@both
def test_reconstruct_is_the_same_in_small_blocks(make):
    X = rows(n_rows=700)  # more than a block
    estimator = make().fit(X)
    expected = estimator.reconstruct(X)
    with sklearn.config_context(working_memory=0):
        assert_allclose(estimator.reconstruct(X), expected, rtol=1e-12)


@pytest.mark.parametrize("globally", [False, True])
@pytest.mark.parametrize("container", ["pandas", "polars"])
@both
def test_reconstruct_gives_frames_with_the_names_of_X(make, container, globally):
    names = [f"pixel {k}" for k in range(9)]
    frame = pd.DataFrame(rows(), columns=names, index=range(100, 140))
    given = frame if container == "pandas" else pytest.importorskip("polars").from_pandas(frame)
    estimator = make().fit(given)
    expected = estimator.reconstruct(given)
    assert type(expected) is np.ndarray
    if globally:
        with sklearn.config_context(transform_output=container):
            found = estimator.reconstruct(given)
    else:
        found = estimator.set_output(transform=container).reconstruct(given)
    assert type(found) is type(given)
    assert list(found.columns) == names
    assert_array_equal(found.to_numpy(), expected)
    if container == "pandas":
        assert list(found.index) == list(frame.index)


def test_reconstruct_names_columns_without_names():
    found = denoising().fit(rows()).set_output(transform="pandas").reconstruct(rows())
    assert list(found.columns) == [f"x{k}" for k in range(9)]


@pytest.mark.parametrize(
    "make, params", [(denoising, {}), (stacked, {}), (stacked, {"code": "all"})]
)
def test_reconstruct_behind_a_scaler(make, params):
    frame = pd.DataFrame(100 + 20 * rows(), columns=[f"f{k}" for k in range(9)])
    pipe = make_pipeline(StandardScaler(), make(**params)).fit(frame)
    scaler, estimator = pipe.steps[0][1], pipe.steps[1][1]
    scaled = estimator.reconstruct(scaler.transform(frame))
    in_original_units = pipe.inverse_transform(pipe.transform(frame))
    assert_allclose(in_original_units, scaled * scaler.scale_ + scaler.mean_)
    pipe.set_output(transform="pandas").fit(frame)
    found = pipe[-1].reconstruct(pipe[:-1].transform(frame))
    assert list(found.columns) == list(frame.columns)
    assert_allclose(pipe.inverse_transform(pipe.transform(frame)), in_original_units)


@pytest.mark.parametrize("params", [{}, {"hidden_layer_sizes": 7}])
def test_pandas_output_of_a_stack_reaches_no_layer(params):
    X = rows()
    expected = stacked(**params).fit(X)
    with sklearn.config_context(transform_output="pandas"):
        estimator = stacked(**params).fit(X)
        assert_same_fit(estimator, expected)
        assert isinstance(estimator.transform(X), pd.DataFrame)
        assert_array_equal(estimator.score_samples(X), expected.score_samples(X))
        assert not any(hasattr(layer, "feature_names_in_") for layer in estimator.layers_)
        estimator.set_params(warm_start=True).fit(X)
    estimator.transform(X)  # no warning of feature names, under the other setting
    local = stacked(**params).set_output(transform="pandas").fit(X)
    assert_same_fit(local, expected)
    assert_array_equal(local.score_samples(X), expected.score_samples(X))
    assert_array_equal(local.transform(X).to_numpy(), expected.transform(X))


@pytest.mark.parametrize("value", [0.0, 1.0])
@both
def test_constant_column(make, value):
    X = rows()
    X[:, 4] = value
    for loss in ("squared_error", "cross_entropy"):
        for corruption in ("masking", "gaussian", "salt_and_pepper", None):
            estimator = make(loss=loss, activation="logistic", corruption=corruption).fit(X)
            assert np.isfinite(np.concatenate([np.ravel(a) for a in learned(estimator)])).all()
            assert np.isfinite(estimator.score(X))


@both
def test_fit_leaves_its_arguments_alone(make):
    X, weights = rows(), np.linspace(0, 1, 40)
    before = X.copy(), weights.copy()
    estimator = make(corruption="salt_and_pepper", early_stopping=True).fit(X, None, weights)
    estimator.inverse_transform(estimator.transform(X))
    estimator.score_samples(X)
    assert_array_equal(X, before[0])
    assert_array_equal(weights, before[1])


# -- repetition -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 123, np.random.RandomState], ids=["0", "123", "RandomState"])
@pytest.mark.parametrize("early_stopping", [False, True])
@both
def test_random_state_repeats_to_the_last_bit(make, seed, early_stopping):
    draw = (lambda: seed(5)) if seed is np.random.RandomState else (lambda: seed)
    one, other = (
        make(random_state=draw(), early_stopping=early_stopping).fit(rows()) for _ in range(2)
    )
    assert_same_fit(one, other)


@both
def test_random_states_differ(make):
    fits = [make(random_state=seed).fit(rows()) for seed in (0, 1, None, None)]
    generator = np.random.RandomState(5)
    fits += [make(random_state=generator).fit(rows()) for _ in range(2)]
    for k, one in enumerate(fits):
        assert not any(same_fit(one, other) for other in fits[k + 1 :])


@both
def test_refit_starts_afresh_and_forgets(make):
    X, other = rows(), rows(50, 6, seed=1)
    estimator = make(early_stopping=True, tol=1e3, n_iter_no_change=1).fit(other)
    estimator.set_params(early_stopping=False, tol=None, n_iter_no_change=10).fit(X)
    expected = make().fit(X)
    assert_same_fit(estimator, expected)
    assert set(vars(estimator)) == set(vars(expected))


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda estimator: pickle.loads(pickle.dumps(estimator)),
        lambda estimator: joblib.load(joblib.dump(estimator, estimator.path)[0]),
    ],
    ids=["deepcopy", "pickle", "joblib"],
)
@pytest.mark.parametrize("fitted", [True, False])
@both
def test_copies_are_equal_and_independent(make, duplicate, fitted, tmp_path):
    X = rows()
    estimator = make(solver="sgd", warm_start=True)
    if fitted:
        estimator.fit(X)
    estimator.path = tmp_path / "estimator"
    before = bytes_of(estimator)
    twin = duplicate(estimator)
    assert vars(twin).keys() == vars(estimator).keys()
    twin.fit(X)
    assert bytes_of(estimator) == before
    assert_same_fit(twin, estimator.fit(X))
    assert_array_equal(twin.transform(X), estimator.transform(X))


@both
def test_parameters_after_the_fit_change_nothing_that_was_learned(make):
    X = rows()
    estimator = make(activation="tanh").fit(X)
    before = estimator.transform(X), estimator.score_samples(X), learned(estimator)
    assert clone(estimator).get_params() == estimator.get_params()
    assert not hasattr(clone(estimator), "components_")
    assert not hasattr(clone(estimator), "n_iter_")
    name, size = ("hidden_layer_sizes", 3) if make is stacked else ("n_components", 3)
    estimator.set_params(
        **{name: size}, activation="relu", loss="cross_entropy", tied_weights=False,
        corruption="gaussian", early_stopping=True,
    )  # fmt: skip
    assert_array_equal(estimator.transform(X), before[0])
    assert_array_equal(estimator.score_samples(X), before[1])
    for a, b in zip(learned(estimator), before[2]):
        assert_array_equal(a, b)
    n_codes = before[0].shape[1]
    assert len(estimator.get_feature_names_out()) == n_codes
    assert estimator.inverse_transform(before[0]).shape == X.shape


@both
def test_fit_transform_and_pipeline(make):
    X = rows() * 255
    assert_array_equal(
        make().fit_transform(X, sample_weight=np.arange(40.0)),
        make().fit(X, sample_weight=np.arange(40.0)).transform(X),
    )
    pipeline = make_pipeline(MinMaxScaler(), make()).fit(X)
    scaled = MinMaxScaler().fit_transform(X)
    assert_array_equal(pipeline.transform(X), make().fit(scaled).transform(scaled))
    assert pipeline.score(X) == make().fit(scaled).score(scaled)
    assert pipeline.inverse_transform(pipeline.transform(X)).shape == X.shape


# -- every parameter does something -----------------------------------------------------

# Parameter: (what else to set, one value, another value). Every value is not the default.
EFFECTS = {
    "activation": ({}, "tanh", "logistic"),
    "n_active": ({"activation": "top_k"}, 1, 2),
    "loss": ({"activation": "logistic"}, "squared_error", "cross_entropy"),
    "tied_weights": ({}, True, False),
    "corruption": ({}, "masking", "salt_and_pepper"),
    "corruption_level": ({}, 0.2, 0.5),
    "sparsity_target": ({"activation": "logistic", "sparsity_penalty": 1.0}, 0.05, 0.3),
    "sparsity_penalty": ({"activation": "tanh"}, 0.1, 0.5),
    "joint": ({}, False, True),
    "joint_max_iter": ({"joint": True}, 2, 3),
    "joint_learning_rate_init": ({"joint": True}, 0.01, 0.02),
    **TRAINING_EFFECTS,
}
ELSEWHERE = {"verbose", "code", "transform_n_active", "sparse_output"}  # no part of training
SIZES = {"n_components": ({}, 4, 5), "hidden_layer_sizes": ({}, (4, 3), (4,))}


def effects(cls):
    names = set(cls().get_params())
    assert names == (set(EFFECTS) | set(SIZES) | ELSEWHERE) & names
    return [name for name in {**EFFECTS, **SIZES} if name in names]


@pytest.mark.parametrize(
    "make, name",
    [(denoising, name) for name in effects(DenoisingAutoencoder)]
    + [(stacked, name) for name in effects(StackedAutoencoder)],
)
def test_parameter_has_an_effect(make, name):
    options, one, other = {**EFFECTS, **SIZES}[name]
    fits = []
    for value in (one, one, other):
        estimator = make(**{**options, name: value}).fit(rows())
        fits.append(estimator.fit(rows()) if name == "warm_start" else estimator)
    assert_same_fit(fits[0], fits[1])
    assert not same_fit(fits[0], fits[2])


@pytest.mark.parametrize("noise", ["masking", "gaussian", "salt_and_pepper"])
@both
def test_no_noise_at_level_zero(make, noise):
    found = make(corruption=noise, corruption_level=0.0).fit(rows())
    assert_same_fit(found, make(corruption=None).fit(rows()))
    assert not same_fit(found, make(corruption=noise, corruption_level=0.1).fit(rows()))


@both
def test_verbose_prints_a_line_an_epoch(make, capsys):
    make().fit(rows())
    assert capsys.readouterr().out == ""
    make(verbose=True, early_stopping=True).fit(rows())
    lines = capsys.readouterr().out.splitlines()
    depths = 2 if make is stacked else 1
    epochs = [line for line in lines if "] epoch" in line]
    assert len(epochs) == 3 * depths
    assert all(" loss = " in line and "validation loss = " in line for line in epochs)
    name = "StackedAutoencoder, layer 2 of 2" if depths == 2 else "DenoisingAutoencoder"
    assert epochs[-1].startswith(f"[{name}] epoch 3 of 3, ")


@both
def test_verbose_counts_epochs_over_fits_that_continue(make, capsys):
    estimator = make(verbose=True, warm_start=True).fit(rows()).fit(rows())
    lines = [line for line in capsys.readouterr().out.splitlines() if "] epoch" in line]
    assert ["] epoch 4 of 6, " in lines[-3], "] epoch 6 of 6, " in lines[-1]] == [True, True]
    estimator.partial_fit(rows())
    lines = capsys.readouterr().out.splitlines()
    assert all("] epoch 7, " in line for line in lines)
    assert len(lines) == (2 if make is stacked else 1)


@both
def test_verbose_says_how_good_the_reconstruction_is(make, capsys):
    estimator = make(verbose=True).fit(rows())
    name = type(estimator).__name__
    r2 = f"{estimator.reconstruction_r2_:.3g}"
    assert capsys.readouterr().out.splitlines()[-1] == f"[{name}] R^2 of the reconstruction = {r2}"
    estimator.set_params(early_stopping=True).fit(rows())
    r2 = f"{estimator.reconstruction_r2_:.3g}"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"[{name}] R^2 of the reconstruction of held-out samples = {r2}"


# -- how good the fit is ----------------------------------------------------------------


def quality_of(estimator, X, weights=None):
    """R^2 of the reconstruction and loss of the mean sample, by their definitions."""
    X = X.astype(np.float64)
    mean = np.average(X, axis=0, weights=weights)
    error = ((X - estimator.reconstruct(X)) ** 2).sum(axis=1)
    spread = ((X - mean) ** 2).sum(axis=1)
    loss = spread
    if needs_unit_range(estimator):
        loss = -(special.xlogy(X, mean) + special.xlogy(1 - X, 1 - mean)).sum(axis=1)
    r2 = 1 - np.average(error, weights=weights) / np.average(spread, weights=weights)
    return r2, np.average(loss, weights=weights)


def assert_quality(estimator, expected, **tolerance):
    found = estimator.reconstruction_r2_, estimator.baseline_loss_
    assert [type(value) for value in found] == [float, float]
    assert_allclose(found, expected, **{"rtol": 1e-9, **tolerance})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@both
def test_quality_is_that_of_the_training_samples(make, loss, dtype, sparse, weighted):
    X, weights = rows(dtype=dtype), np.linspace(0, 2, 40) if weighted else None
    estimator = make(loss=loss, activation="logistic")
    estimator.fit(sp.csr_array(X) if sparse else X, sample_weight=weights)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == np.float32 else {}
    assert_quality(estimator, quality_of(estimator, X, weights), **tolerance)
    for layer in getattr(estimator, "layers_", []):
        assert_quality(layer, quality_of(layer, X, weights), **tolerance)
        X = layer.transform(X)


@pytest.mark.parametrize("weighted", [False, True])
@both
def test_quality_is_that_of_the_held_out_samples(make, weighted):
    X, weights = rows(), np.linspace(0, 2, 40) if weighted else None
    estimator = make(early_stopping=True, validation_fraction=0.3).fit(X, sample_weight=weights)
    bottom = getattr(estimator, "layers_", [estimator])[0]
    _, held_out = split(bottom, X, sample_weight=weights)
    part = None if weights is None else weights[held_out]
    assert_quality(estimator, quality_of(estimator, X[held_out], part))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_quality_of_joint_training(early_stopping):
    X = rows()
    estimator = stacked(joint=True, early_stopping=early_stopping, joint_max_iter=2).fit(X)
    index = np.arange(40)
    if early_stopping:
        _, index = split(estimator, X, joint_seed_of(estimator))
    assert_quality(estimator, quality_of(estimator, X[index]))
    alone = stacked(early_stopping=early_stopping).fit(X)
    for layer, other in zip(estimator.layers_, alone.layers_):  # that of its own training
        assert_quality(layer, (other.reconstruction_r2_, other.baseline_loss_))


@both
def test_quality_does_not_depend_on_the_blocks(make):
    X = 1e3 + rows(n_rows=1100)
    whole = make().fit(X)
    with sklearn.config_context(working_memory=0):
        parts = make().fit(X)
    assert_quality(parts, (whole.reconstruction_r2_, whole.baseline_loss_), rtol=1e-7)
    assert_quality(whole, quality_of(whole, X), rtol=1e-7)


@both
def test_quality_is_measured_by_evenly_spaced_samples(make, monkeypatch):
    limit_measured(monkeypatch, 10)
    X = rows()
    estimator = make().fit(X)
    assert_quality(estimator, quality_of(estimator, X[::4]))


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@both
def test_quality_of_samples_that_do_not_vary(make, loss, value):
    estimator = make(loss=loss, activation="logistic").fit(np.full((40, 9), value))
    assert np.isnan(estimator.reconstruction_r2_)
    entropy = -9 * (special.xlogy(value, value) + special.xlogy(1 - value, 1 - value))
    expected = entropy if loss == "cross_entropy" else 0
    assert_allclose(estimator.baseline_loss_, expected, atol=1e-12)


def test_quality_of_a_perfect_reconstruction():
    basis = np.linspace(-1, 1, 9)
    X = np.linspace(-1, 1, 40)[:, None] * basis + 5
    params = {"corruption": None, "activation": "identity", "max_iter": 300}
    assert denoising(**params).fit(X).reconstruction_r2_ > 0.999


@both
def test_quality_goes_with_partial_fit(make):
    estimator = make().fit(rows())
    assert np.isfinite([estimator.reconstruction_r2_, estimator.baseline_loss_]).all()
    estimator.partial_fit(rows())
    fresh = make().partial_fit(rows())
    for one in (estimator, fresh, *getattr(estimator, "layers_", [])):
        assert not hasattr(one, "reconstruction_r2_") and not hasattr(one, "baseline_loss_")
    estimator.fit(rows())
    assert_quality(estimator, quality_of(estimator, rows()))


@both
def test_an_interrupted_fit_has_a_quality(make, monkeypatch):
    estimator = make()
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.warns(UserWarning, match="interrupted"):
            estimator.fit(rows())
    assert_quality(estimator, quality_of(estimator, rows()))


@both
def test_ctrl_c_while_the_quality_is_measured(make, monkeypatch):
    estimator = make(warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 1, function="outputs")
        with pytest.warns(UserWarning, match="training interrupted by user"):
            estimator.fit(rows())
    bottom = getattr(estimator, "layers_", [estimator])[0]
    assert np.isnan(bottom.reconstruction_r2_) and bottom.n_iter_ == 3
    if make is stacked:  # the missing layer is made up for
        assert len(estimator.layers_) == 1
        assert_same_fit(estimator.fit(rows()), make().fit(rows()))
        assert np.isfinite(estimator.reconstruction_r2_)


@both
def test_samples_of_any_scale_have_a_quality(make):
    X = rows()
    expected = make(learning_rate_init=1e-300).fit(X)
    estimator = make(learning_rate_init=1e-300, activation="identity")
    for factor in (1e-30, 1e30):
        estimator.fit(X * factor)
        found = estimator.baseline_loss_
        assert_allclose(found, expected.baseline_loss_ * factor**2)
        assert np.isfinite(estimator.reconstruction_r2_)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@both
def test_learning_rate_may_change_between_fits_that_continue(make, solver):
    X = rows()
    slow, fast = (make(solver=solver, warm_start=True).fit(X) for _ in range(2))
    assert_same_fit(slow.fit(X), fast.set_params(learning_rate_init=0.01).fit(X))
    assert not same_fit(slow.fit(X), fast.set_params(learning_rate_init=0.02).fit(X))


# -- bad input ------------------------------------------------------------------------


def rows_with(value):
    return with_value(rows(), value, (3, 2))


# X: (what it is, what the error says, for any method)
BAD_X = {
    "inf": (rows_with(np.inf), "Input X contains infinity"),
    "minus inf": (rows_with(-np.inf), "Input X contains infinity"),
    "sparse inf": (sp.csr_array(rows_with(np.inf)), "Input X contains infinity"),
    "too large": (np.full((3, 9), 10**400, dtype=object), "int too large|too large"),
    "1-D": (rows()[0], "Expected 2D array, got 1D array"),
    "3-D": (np.zeros((2, 9, 2)), "Found array with dim 3"),
    "scalar": (np.float64(1), "Expected 2D array, got scalar"),
    "complex": (rows() + 1j, "Complex data not supported"),
    "complex sparse": (sp.csr_array(rows() + 1j), "Complex data not supported"),
    "strings": (np.full((3, 9), "a"), "could not convert string|dtype='numeric'|not compatible"),
    "object": (np.full((3, 9), "a", dtype=object), "could not convert string"),
    "no rows": (np.empty((0, 9)), r"Found array with 0 sample\(s\)"),
    "no columns": (np.empty((5, 0)), r"Found array with 0 feature\(s\)"),
    "no rows sparse": (sp.csr_array((0, 9)), r"Found array with 0 sample\(s\)"),
    "None": (None, "Expected 2D array|got scalar"),
}


@pytest.mark.parametrize("case", BAD_X)
@both
def test_bad_rows_are_refused(make, case):
    X, match = BAD_X[case]
    if case == "too large":
        refuses(make(), "fit", X, match=match, error=(ValueError, OverflowError))
        return
    fitted, warm = make().fit(rows()), make(warm_start=True).fit(rows())
    for estimator in (make(), fitted, warm):
        refuses(estimator, "fit", X, match=match)
        refuses(estimator, "partial_fit", X, match=match)
        refuses(estimator, "fit_transform", X, match=match)
    for method in ("transform", "score_samples", "score"):
        refuses(fitted, method, X, match=match)
    if case != "no columns":
        n_codes = fitted.transform(rows()).shape[1]
        codes = X[:, :n_codes] if getattr(X, "ndim", 0) == 2 else X
        refuses(fitted, "inverse_transform", codes, match=match)


def with_entry(array, value, place):
    array = array.copy()
    array[place] = value
    return array


def altered(X, name, change):
    """Put other indices into a sparse matrix, behind SciPy's back."""
    X = X.copy()
    if name in ("row", "col"):
        coords = list(X.coords)
        coords[("row", "col").index(name)] = change(coords[("row", "col").index(name)])
        X.coords = tuple(coords)
    else:
        setattr(X, name, change(getattr(X, name)))
    return X


FAR = 10**6  # a read so far away is of no memory of ours
INDICES = {
    "too large": lambda indices: with_entry(indices, FAR, 3),
    "too large by one": lambda indices: with_entry(indices, 40, 3),
    "negative": lambda indices: with_entry(indices, -FAR, 3),
    "minus one": lambda indices: with_entry(indices, -1, 3),
    "too few": lambda indices: indices[:-1].copy(),
}
POINTERS = {
    "beyond": lambda indptr: with_entry(indptr, FAR, -1),
    "not monotone": lambda indptr: with_entry(indptr, FAR, 2),
    "negative": lambda indptr: with_entry(indptr, -FAR, 2),
    "negative at the end": lambda indptr: with_entry(indptr, -FAR, -1),
    "nothing at the end": lambda indptr: with_entry(indptr, 0, -1),
    "wraps": lambda indptr: with_entry(
        with_entry(indptr, np.iinfo(indptr.dtype).max, 2), np.iinfo(indptr.dtype).min, 3
    ),
    "not from zero": lambda indptr: with_entry(indptr, 1, 0),
    "too short": lambda indptr: indptr[:-1].copy(),
    "too long": lambda indptr: np.append(indptr, indptr[-1]),
}
BAD_SPARSE = {
    f"{form}, {name} {case}": (form, name, change)
    for form, places in {
        "csr": {"indices": INDICES, "indptr": POINTERS},
        "csc": {"indices": INDICES, "indptr": POINTERS},
        "bsr": {"indices": INDICES, "indptr": POINTERS},
        "coo": {"row": INDICES, "col": INDICES},
    }.items()
    for name, cases in places.items()
    for case, change in cases.items()
}
WORDS = "index|indices|indptr|coordinate"


@cache
def unfitted_and_fitted():
    """Each estimator with the further arguments of its methods, before and after a fit."""
    y = np.arange(40) % 2
    supervised = dict(hidden_layer_sizes=(7, 5), **SMALL)
    return [
        (estimator, clone(estimator).fit(rows(), *more), more)
        for estimator, more in (
            (denoising(), ()),
            (stacked(), ()),
            (StackedAutoencoderClassifier(**supervised), (y,)),
            (StackedAutoencoderRegressor(**supervised), (y,)),
        )
    ]


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("case", BAD_SPARSE)
def test_indices_outside_a_sparse_matrix_are_refused(case, kind):
    """SciPy would read and write there. The caller's matrix must stay as it is."""
    form, name, change = BAD_SPARSE[case]
    make_sparse = getattr(sp, f"{form}_{kind}")
    options = {"blocksize": (1, 1)} if form == "bsr" else {}
    bad = altered(make_sparse(rows(), **options), name, change)
    before = pickle.dumps(vars(bad))
    for estimator, fitted, y in unfitted_and_fitted():
        classes = {"classes": [0, 1]} if hasattr(fitted, "classes_") else {}
        refuses(estimator, "fit", bad, *y, match=WORDS)
        refuses(estimator, "partial_fit", bad, *y, **classes, match=WORDS)
        refuses(fitted, "partial_fit", bad, *y, match=WORDS)
        refuses(fitted, "score", bad, *y, match=WORDS)
        for method in ("transform", "score_samples", "predict", "predict_proba"):
            if hasattr(fitted, method):
                refuses(fitted, method, bad, match=WORDS)
        if hasattr(fitted, "inverse_transform"):
            codes = altered(make_sparse(fitted.transform(rows()) + 1, **options), name, change)
            refuses(fitted, "inverse_transform", codes, match=WORDS)
    assert pickle.dumps(vars(bad)) == before


def test_pointers_of_a_sparse_matrix_without_values():
    """Which SciPy's check does not look at."""
    fitted = denoising().fit(rows())
    for pointers in ([0, 5, 0], [0, -5, 0], [0, 0, -5], [0, 2**31 - 1, -(2**31)]):
        bad = sp.csr_array((2, 9))
        bad.indptr[:] = pointers
        refuses(fitted, "transform", bad, match=WORDS)


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
@both
def test_a_sparse_matrix_is_only_read(make, form):
    """Nor its indices sorted, nor its attributes replaced."""
    X = rows()
    given = sp.csr_array(X).asformat(form)
    if form in ("csr", "csc"):
        given.indices[:2] = given.indices[:2][::-1]
        given.data[:2] = given.data[:2][::-1]
        for array in (given.indices, given.indptr, given.data):
            array.flags.writeable = False
    elif form in ("bsr", "coo", "dia"):
        given.data.flags.writeable = False
    before = pickle.dumps(vars(given))
    estimator = make().fit(given)
    assert_same_fit(estimator, make().fit(X))
    assert_array_equal(estimator.transform(given), estimator.transform(X))
    estimator.partial_fit(given)
    assert pickle.dumps(vars(given)) == before


@pytest.mark.parametrize("n_features", [8, 10])
@both
def test_wrong_width_is_refused(make, n_features):
    X = rows(n_features=n_features)
    match = f"X has {n_features} features, but .* is expecting 9 features"
    estimator = make(warm_start=True).fit(rows())
    for method in ("fit", "partial_fit", "transform", "score_samples", "score"):
        refuses(estimator, method, X, match=match)
        refuses(estimator, method, sp.csr_array(X), match=match)
    n_codes = estimator.transform(rows()).shape[1]
    refuses(
        estimator,
        "inverse_transform",
        rows(n_features=n_codes + 1),
        match=f"X has {n_codes + 1} features, but .*inverse_transform is expecting {n_codes} ",
    )


@both
def test_one_row_can_be_scored_but_not_fitted(make):
    refuses(make(), "fit", rows()[:1], match="minimum of 2 is required")
    refuses(make().fit(rows()), "fit", rows()[:1], match="minimum of 2 is required")
    estimator = make().partial_fit(rows()[:1])
    before = bytes_of(estimator)
    estimator.partial_fit(rows()[1:2])
    assert bytes_of(estimator) != before
    assert estimator.transform(rows()[:1]).shape[0] == 1
    assert_allclose(estimator.score(rows()[:1]), estimator.score_samples(rows()[:1])[0])


NO_DATA = {np.float32: np.float32(-3.4e38), np.float64: -1.7e308}


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", NO_DATA)
@both
def test_a_sample_at_the_end_of_the_floats_is_scored_alone(make, dtype, activation):
    """Its score is minus infinity; those of the others are what they are without it."""
    X = rows(dtype=dtype)
    estimator = make(activation=activation).fit(X)
    given, others = X.copy(), np.arange(40) != 17
    given[17] = NO_DATA[dtype]
    scores = estimator.score_samples(given)
    assert scores[17] == -np.inf
    assert_array_equal(scores[others], estimator.score_samples(X)[others])
    assert estimator.score(given) == -np.inf
    assert_array_equal(estimator.transform(given)[others], estimator.transform(X)[others])
    # Of one value as of all, and of a sparse matrix.
    given[17, 1:] = 0
    for container in (np.asarray, sp.csr_array):
        scores = estimator.score_samples(container(given))
        assert scores[17] == -np.inf and np.isfinite(scores[others]).all()


def test_transform_of_a_row_is_that_row_of_the_transform():
    X = rows(1100)
    for estimator in (denoising().fit(X), stacked().fit(X)):
        codes, scores = estimator.transform(X), estimator.score_samples(X)
        for k in (0, 511, 512, 1099):
            assert_allclose(estimator.transform(X[k : k + 1])[0], codes[k], rtol=1e-10, atol=1e-14)
            assert_allclose(estimator.score_samples(X[k : k + 1])[0], scores[k], rtol=1e-10)


BAD_WEIGHTS = {
    "negative": (np.r_[-1.0, np.ones(39)], "Negative values in .*sample_weight"),
    "all zero": (np.zeros(40), "sample_weight sums to zero|at least one non-zero"),
    "too few": (np.ones(39), r"sample_weight.shape == \(39,\), expected \(40,\)"),
    "too many": (np.ones(41), r"sample_weight.shape == \(41,\), expected \(40,\)"),
    "2-D": (np.ones((40, 1)), "Sample weights must be 1D|1D array or scalar"),
    "nan": (np.r_[np.nan, np.ones(39)], "sample_weight contains NaN"),
    "inf": (np.r_[np.inf, np.ones(39)], "sample_weight contains infinity"),
    "strings": (np.full(40, "a"), "could not convert string"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
@both
def test_bad_weights_are_refused(make, case):
    weights, match = BAD_WEIGHTS[case]
    for estimator in (make(), make().fit(rows()), make(warm_start=True).fit(rows())):
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, rows(), sample_weight=weights, match=match)


BAD_VALUES = {
    "activation": ["softplus", None, 1],
    "n_active": [0, -1, 2.5, None, "all", "3"],
    "transform_n_active": [0, -1, 2.5, "auto"],
    "sparse_output": ["yes", None, 2],
    "loss": ["mse", None],
    "tied_weights": ["yes", None],
    "corruption": ["salt", 0.3],
    "corruption_level": [-0.1, "high", None, np.nan],
    "sparsity_target": [0.0, 1.0, -1, None],
    "sparsity_penalty": [-1e-9, None],
    "joint": [None, ""],
    "code": ["bottom", None, True, 1],
    "joint_max_iter": [0, -1, 2.5, None],
    "joint_learning_rate_init": [0.0, -0.1, None, "auto"],
    "solver": ["lbfgs", None],
    "alpha": [-1e-9, None],
    "batch_size": [0, -1, 2.5, "all", None],
    "learning_rate": ["invscaling", "fast", 0.1],
    "learning_rate_init": [0.0, -0.1, None, "auto"],
    "max_iter": [0, -1, 2.5, None],
    "shuffle": [2, None, "no"],
    "random_state": ["seed", -1, 1.5],
    "tol": [-1e-9, "auto"],
    "verbose": ["loud", -1],
    "warm_start": ["yes", None],
    "momentum": [-0.1, 1.1, None],
    "nesterovs_momentum": ["yes", None],
    "early_stopping": ["auto", None],
    "validation_fraction": [0.0, 1.0, -1, None],
    "beta_1": [-0.1, 1.0],
    "beta_2": [-0.1, 1.0],
    "epsilon": [0.0, -1e-8],
    "n_iter_no_change": [0, -1, None, 2.5],
}
BAD_SIZES = {
    "n_components": [0, -1, 2.5, None, "auto"],
    "hidden_layer_sizes": [0, -1, 2.5, None, "all", (5, 0), (5, -1), (5, 2.5), (5, "a"), [[5]]],
}


def test_every_parameter_is_tried_with_a_bad_value():
    names = set(denoising().get_params()) | set(stacked().get_params())
    assert names == set(BAD_VALUES) | set(BAD_SIZES)


BAD_CASES = [
    (make, name, value)
    for make in (denoising, stacked)
    for name, values in {**BAD_VALUES, **BAD_SIZES}.items()
    if name in make().get_params()
    for value in [*values, object()]
]


@pytest.mark.parametrize(
    "make, name, value",
    BAD_CASES,
    ids=[
        f"{make.__name__}-{name}-{'object' if type(value) is object else value}"
        for make, name, value in BAD_CASES
    ],
)
def test_bad_parameter_is_refused_before_any_work(make, name, value):
    # sklearn names the parameter; the layers of a stack call their size n_components.
    match = rf"'{name}(\[\d\])?' parameter of {type(make()).__name__} must be"
    for estimator in (make(), make().fit(rows())):
        # As everywhere in scikit-learn, later calls of partial_fit do not validate again.
        methods = ["fit"] if hasattr(estimator, "n_iter_") else ["fit", "partial_fit"]
        if type(value) is object:
            before = {k: v for k, v in vars(estimator).items() if k != name}
            with pytest.raises(ValueError, match=match):
                estimator.set_params(**{name: value}).fit(None)
            assert {k: v for k, v in vars(estimator).items() if k != name} == before
            continue
        estimator.set_params(**{name: value})
        for method in methods:
            refuses(estimator, method, None, match=match)  # before X is even looked at


@pytest.mark.parametrize(
    "params, match",
    [
        ({"corruption": "masking", "corruption_level": 1.01}, r"corruption_level=1.01 .*\[0, 1\]"),
        ({"corruption": "salt_and_pepper", "corruption_level": 2}, "=2 is not a prob"),
        ({"sparsity_penalty": 0.1, "activation": "relu"}, "sparsity_penalty=0.1 .*'relu'"),
        ({"sparsity_penalty": 0.1, "activation": "identity"}, "'logistic' or 'tanh'"),
    ],
)  # fmt: skip
@both
def test_parameters_that_do_not_go_together_are_refused(make, params, match):
    for estimator in (make(**params), make().fit(rows()).set_params(**params)):
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, None, match=match)


@both
def test_gaussian_noise_may_exceed_one(make):
    estimator = make(corruption="gaussian", corruption_level=2.0).fit(rows())
    assert np.isfinite(estimator.score(rows()))


@pytest.mark.parametrize(
    "X, found",
    [
        (rows() * 16, "from 0 to 1[0-9]"),
        (rows() - 0.5, "from -0.5 to 0.49"),
        (sp.csr_array(rows() * 16), "from 0 to 1[0-9]"),
        (sp.csr_array(-rows()), "from -0.99.* to 0"),
        (rows().astype(np.float32) * 2, "from 0 to 1.9"),
        (rows(100) * 1.0001 / rows(100).max(), r"from 0 to 1\.0001"),
    ],
)
@both
def test_cross_entropy_outside_the_unit_interval_is_refused(make, X, found):
    params = {"loss": "cross_entropy", "activation": "logistic"}
    for estimator in (make(**params), make(**params, warm_start=True).fit(rows())):
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, X, match=rf"\[0, 1\].* {found}.*MinMaxScaler")


@both
def test_cross_entropy_forgives_rounding(make):
    X = rows()
    X[0, 0], X[1, 0] = -1e-16, 1 + 1e-15
    estimator = make(loss="cross_entropy", activation="logistic").fit(X)
    assert np.isfinite(estimator.score(X))


@both
def test_too_few_rows_to_hold_some_out(make):
    for estimator in (make(), make().fit(rows())):
        estimator.set_params(early_stopping=True, validation_fraction=0.9)
        refuses(estimator, "fit", rows()[:5], match="validation_fraction=0.9 of 5 samples")
    weights = np.r_[np.ones(5), np.zeros(35)]
    refuses(
        make(early_stopping=True, validation_fraction=0.9),
        "fit",
        rows(),
        sample_weight=weights,
        match="validation_fraction=0.9 of 5 samples",
    )
    make(early_stopping=True, validation_fraction=0.5).fit(rows()[:4])


@pytest.mark.parametrize("params", [{"early_stopping": True}, {"learning_rate": "cosine"}])
@both
def test_partial_fit_is_not_there_where_it_has_no_meaning(make, params):
    estimator = make(**params)
    assert not hasattr(estimator, "partial_fit")
    assert hasattr(make(), "partial_fit")
    refuses(estimator, "partial_fit", rows(), match="partial_fit", error=AttributeError)
    fitted = make().fit(rows()).set_params(**params)
    refuses(fitted, "partial_fit", rows(), match="partial_fit", error=AttributeError)


@both
def test_fits_that_continue_keep_the_network(make):
    name = "hidden_layer_sizes" if make is stacked else "n_components"
    size = (7, 6) if make is stacked else 6
    for change in ({name: size}, {"activation": "tanh"}, {"loss": "cross_entropy"},
                   {"tied_weights": True}):  # fmt: skip
        params = {"activation": "logistic", "warm_start": True}
        estimator = make(**params).fit(rows()).set_params(**change)
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, rows(), match="cannot change between fits")
        estimator.set_params(warm_start=False).fit(rows())
        assert_same_fit(estimator, make(**{**params, **change}).fit(rows()))


@pytest.mark.parametrize("method", ["transform", "inverse_transform", "score_samples", "score"])
@both
def test_not_fitted(make, method):
    refuses(make(), method, rows(), match="not fitted", error=NotFittedError)


@pytest.mark.parametrize("name", ["components_", "n_iter_", "intercept_hidden_", "layers_"])
@both
def test_nothing_learned_shows_before_the_fit(make, name):
    assert not hasattr(make(), name)


# -- a loss that is not finite, Ctrl-C ---------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@both
def test_a_loss_that_explodes_stops_the_fit(make, dtype, momentum, alpha):
    X = rows(dtype=dtype)
    wild = {"solver": "sgd", "momentum": momentum, "learning_rate_init": 1e6, "alpha": alpha,
            "max_iter": 50, "activation": "identity"}  # fmt: skip
    match = r"non-finite in epoch \d+.*smaller\s+learning_rate_init \(it is 1e\+06\)"
    for sparse in (False, True):
        given = sp.csr_array(X) if sparse else X
        refuses(make(**wild), "fit", given, match=match, trains=True)
    estimator = make(activation="identity", warm_start=True).fit(X).set_params(**wild)
    refuses(estimator, "fit", X, match=match, trains=True)
    # The remedy that the message names helps.
    estimator.set_params(learning_rate_init=1e-3).fit(X)
    assert np.isfinite(estimator.score(X))


LAST_STEPS = {  # two steps at most, of which the last one diverges
    "sgd": {"solver": "sgd"},
    "momentum": {"solver": "sgd", "momentum": 0.9},
    "adam": {},
    "several batches": {"batch_size": 20},
    "rectified": {"activation": "relu"},
    "untied": {"tied_weights": False},
}


@pytest.mark.parametrize("params", LAST_STEPS.values(), ids=LAST_STEPS)
@pytest.mark.parametrize("dtype, rate", [(np.float32, 1e30), (np.float64, 1e200)])
@both
def test_a_last_step_that_diverges_is_refused(make, params, dtype, rate):
    """The loss of an epoch is that before its last step, so it does not tell."""
    X = rows(dtype=dtype)
    wild = {"activation": "identity", "batch_size": 40, **params, "max_iter": 1,
            "learning_rate_init": rate}  # fmt: skip
    match = r"non-finite in epoch 1\. Try a smaller learning_rate_init \(it is 1e\+\d+\)"
    for method in ("fit", "partial_fit"):
        refuses(make(**wild), method, X, match=match, trains=True)
    good = {"activation": wild["activation"], "learning_rate_init": 1e-3}
    estimator = make(**{**wild, **good}, warm_start=True).fit(X)
    estimator.set_params(learning_rate_init=rate)
    match = match.replace("epoch 1", "epoch 2")
    for method in ("fit", "partial_fit"):
        refuses(estimator, method, X, match=match, trains=True)
    estimator.set_params(**good).fit(X)
    assert estimator.n_iter_ == 2 * len(getattr(estimator, "layers_", [0]))


@pytest.mark.parametrize("params", [{}, {"solver": "sgd"}], ids=str)
def test_a_last_step_of_joint_training_that_diverges_is_refused(params):
    wild = {"joint": True, "joint_max_iter": 1, "joint_learning_rate_init": 1e200,
            "activation": "identity", "batch_size": 40, **params}  # fmt: skip
    match = r"all layers: .*non-finite in epoch 1\. Try a smaller learning_rate_init"
    refuses(stacked(**wild), "fit", rows(), match=match, trains=True)


@both
def test_an_error_halfway_leaves_the_estimator_as_it_was(make, monkeypatch):
    for estimator in (make(), make(warm_start=True).fit(rows())):
        with monkeypatch.context() as patch:
            interrupt(patch, 3 * (2 if make is stacked else 1), error=MemoryError)
            refuses(estimator, "fit", rows(), match=None, error=MemoryError, trains=True)


# -- warnings ----------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("factor", [2.0**1014, 2.0**-900])
@both
def test_weights_near_the_limits_are_as_good_as_others(make, factor, early_stopping):
    """Only their ratios matter, and nothing overflows: a warning would be an error here."""
    X, weights = 30 * rows(), np.linspace(0.1, 3, 40)
    params = {"early_stopping": early_stopping, "validation_fraction": 0.5}
    for method in ("fit", "partial_fit")[: 2 - early_stopping]:
        one, other = (
            getattr(make(**params), method)(X, sample_weight=given)
            for given in (weights, factor * weights)
        )
        assert_same_fit(other, one)
        assert one.score(X, sample_weight=factor * weights) == one.score(X, sample_weight=weights)
    if early_stopping:
        for layer, its in zip(getattr(one, "layers_", [one]), getattr(other, "layers_", [other])):
            assert layer.validation_loss_curve_ == its.validation_loss_curve_
    huge = np.where(np.arange(40) == 3, 1e308, 1e290)
    alone = make(**params).fit(X, sample_weight=huge)
    assert_allclose(alone.score(X, sample_weight=huge), alone.score_samples(X)[3], rtol=1e-12)


@both
def test_samples_of_weight_zero_do_not_count_in_the_score(make):
    """Not even if their loss is infinite."""
    estimator, X = make().fit(rows()), rows()
    weights = np.linspace(0, 1, 40)
    expected = np.average(estimator.score_samples(X), weights=weights)
    X[0] = 1e200
    assert estimator.score_samples(X)[0] == -np.inf
    assert_allclose(estimator.score(X, sample_weight=weights), expected)


@both
def test_weights_whose_sum_is_infinite_are_refused(make):
    weights = np.full(40, 1e308)
    for method in ("fit", "partial_fit"):
        refuses(make(), method, rows(), sample_weight=weights, match="weight.*infinite sum")
    refuses(make().fit(rows()), "score", rows(), sample_weight=weights, match="infinite sum")


@both
def test_convergence_warning_only_where_it_is_asked_for(make):
    with pytest.warns(ConvergenceWarning, match=r"maximum iterations \(3\) reached"):
        make(tol=0.0).fit(rows())
    make().fit(rows())  # a warning would be an error here
    make(tol=1e3, n_iter_no_change=1).fit(rows())
    make(tol=0.0).partial_fit(rows())
