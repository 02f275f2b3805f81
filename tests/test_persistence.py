"""Saved and loaded again: equal to the last bit, from this version, and continued as if never
saved. That copies are equal and apart is in test_common.py.
"""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
    __version__,
)

X, y = load_digits(return_X_y=True)
X, y = (X[:300] / 16).astype(np.float32), y[:300]

FEW = dict(max_iter=2, random_state=0, warm_start=True)
ESTIMATORS = {
    "layer": DenoisingAutoencoder(12, corruption="salt_and_pepper", **FEW),
    "stack": StackedAutoencoder((12, 6), corruption="gaussian", **FEW),
    "joint": StackedAutoencoder((12, 6), joint=True, joint_max_iter=2, **FEW),
    "classifier": StackedAutoencoderClassifier((12, 6), dropout=0.2, **FEW),
    "regressor": StackedAutoencoderRegressor((12, 6), solver="sgd", **FEW),
    "final": StackedAutoencoderClassifier(
        (12, 6), final_estimator=LogisticRegression(max_iter=2000), **FEW
    ),
}
SOLVERS = [{"solver": "adam"}, {"solver": "sgd", "learning_rate_init": 1e-4}]


def by_skops(estimator, path):
    """Loading may trust nothing but our own classes."""
    io = pytest.importorskip("skops.io")
    io.dump(estimator, path / "model.skops")
    unknown = io.get_untrusted_types(file=path / "model.skops")
    assert {name.split(".")[0] for name in unknown} <= {"skae"}
    assert all(
        name.split(".")[-1].endswith(("coder", "Classifier", "Regressor")) for name in unknown
    )
    return io.load(path / "model.skops", trusted=unknown)


WAYS = {
    "pickle": lambda estimator, path: pickle.loads(pickle.dumps(estimator)),
    "joblib": lambda estimator, path: joblib.load(joblib.dump(estimator, path / "model")[0]),
    "skops": by_skops,
}
each_way = pytest.mark.parametrize("way", WAYS)
each_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def outputs(fitted):
    methods = ["transform", "predict", "predict_proba", "score_samples"]
    return [getattr(fitted, name)(X) for name in methods if hasattr(fitted, name)]


def assert_equal(one, other):
    for mine, theirs in zip(outputs(one), outputs(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@each_way
@each_estimator
def test_what_is_loaded_equals_what_was_saved(name, way, tmp_path):
    fitted = clone(ESTIMATORS[name]).fit(X, y)
    loaded = WAYS[way](fitted, tmp_path)
    assert_equal(loaded, fitted)
    assert loaded.get_params().keys() == fitted.get_params().keys()


@pytest.mark.slow
@each_way
@each_estimator
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s["solver"])
def test_a_saved_fit_continues_as_if_it_had_not_been_saved(name, way, solver, tmp_path):
    half = clone(ESTIMATORS[name]).set_params(**solver).fit(X, y)
    whole = clone(ESTIMATORS[name]).set_params(**solver).fit(X, y).fit(X, y)
    assert_equal(WAYS[way](half, tmp_path).fit(X, y), whole)
    assert not np.array_equal(outputs(half)[0], outputs(whole)[0])


@each_way
@pytest.mark.parametrize("name", ["layer", "stack", "classifier", "regressor"])
def test_a_saved_stream_goes_on(name, way, tmp_path):
    halves = [(X[:150], y[:150]), (X[150:], y[150:])]
    whole, saved = clone(ESTIMATORS[name]), clone(ESTIMATORS[name])
    more = {"classes": np.unique(y)} if name == "classifier" else {}
    for part in halves:
        whole.partial_fit(*part, **more)
        saved = WAYS[way](saved.partial_fit(*part, **more), tmp_path)
    assert_equal(saved, whole)


@pytest.mark.parametrize("name", ["layer", "classifier", "regressor"])
def test_epochs_in_two_fits_are_the_epochs_of_one(name, tmp_path):
    """The pretraining of a supervised one is done once, by the first of them."""
    two = clone(ESTIMATORS[name]).fit(X, y)
    two = WAYS["pickle"](two, tmp_path).fit(X, y)
    one = clone(ESTIMATORS[name]).set_params(max_iter=4)
    assert_equal(one.fit(X, y), two)


def test_a_pipeline_is_saved_as_one(tmp_path):
    pipe = make_pipeline(MinMaxScaler(), clone(ESTIMATORS["stack"]), LogisticRegression())
    pipe.set_params(logisticregression__max_iter=2000).fit(X, y)
    loaded = WAYS["skops"](pipe, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


# ---- versions -----------------------------------------------------------------------------


@each_estimator
def test_another_version_warns(name):
    fitted = clone(ESTIMATORS[name]).fit(X, y)
    saved = pickle.dumps(fitted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(saved)
    old = saved.replace(__version__.encode(), b"0" * len(__version__))
    with pytest.warns(InconsistentVersionWarning, match=f"version 00.*when using.*{__version__}"):
        assert_equal(pickle.loads(old), fitted)


def test_a_pickle_without_a_version_warns():
    state = DenoisingAutoencoder(3).__getstate__()
    assert state.pop("_skae_version") == __version__
    with pytest.warns(InconsistentVersionWarning, match="unknown"):
        DenoisingAutoencoder().__setstate__(state)


def test_the_version_is_no_attribute_of_the_estimator():
    assert "_skae_version" not in vars(pickle.loads(pickle.dumps(DenoisingAutoencoder())))
