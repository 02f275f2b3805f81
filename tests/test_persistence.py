"""Saved and loaded again: equal to the last bit, from this version, and continued as if never
saved. That copies are equal and apart is in test_common.py.
"""

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from common import hasten_imputers, interrupt, record_epochs, unaligned
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
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
    __version__,
)
from skae._kernel import _sgd

X, y = load_digits(return_X_y=True)
X, y = (X[:300] / 16).astype(np.float32), y[:300]
MISSING = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X).astype(np.float32)

FEW = dict(max_iter=2, random_state=0, warm_start=True)
ESTIMATORS = {
    "layer": DenoisingAutoencoder(12, corruption="salt_and_pepper", **FEW),
    "stack": StackedAutoencoder((12, 6), corruption="gaussian", **FEW),
    "joint": StackedAutoencoder((12, 6), joint=True, joint_max_iter=2, **FEW),
    "top-k": StackedAutoencoder(
        (12, 6), activation="top_k", n_active=[3, "auto"], transform_n_active=4, **FEW
    ),
    "classifier, top-k": StackedAutoencoderClassifier(
        (12, 6), activation=["top_k", "relu"], n_active=2, **FEW
    ),
    "classifier": StackedAutoencoderClassifier((12, 6), dropout=0.2, **FEW),
    "regressor": StackedAutoencoderRegressor((12, 6), solver="sgd", **FEW),
    "detector": StackedAutoencoderDetector((12, 6), n_estimators=2, **FEW),
    "imputer": StackedAutoencoderImputer((12, 6), n_estimators=2, add_indicator=True, **FEW),
    "final": StackedAutoencoderClassifier(
        (12, 6), final_estimator=LogisticRegression(max_iter=2000), **FEW
    ),
}
SOLVERS = [{"solver": "adam"}, {"solver": "sgd", "learning_rate_init": 1e-4}]


@pytest.fixture(autouse=True)
def hasty_imputers(monkeypatch):
    hasten_imputers(monkeypatch)


def by_skops(estimator, path):
    """Loading may trust nothing but our own classes."""
    io = pytest.importorskip("skops.io")
    io.dump(estimator, path / "model.skops")
    unknown = io.get_untrusted_types(file=path / "model.skops")
    assert {name.split(".")[0] for name in unknown} <= {"skae"}
    assert all(
        name.split(".")[-1].endswith(("coder", "Classifier", "Regressor", "Detector", "Imputer"))
        for name in unknown
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
    given = MISSING if isinstance(fitted, StackedAutoencoderImputer) else X
    return [getattr(fitted, name)(given) for name in methods if hasattr(fitted, name)]


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
    assert not np.array_equal(outputs(half)[-1], outputs(whole)[-1])


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


UNFINISHED = {"early_stopping": True}, {"learning_rate": "cosine"}, {"n_averaged_epochs": 3}


@each_way
@each_estimator
@pytest.mark.parametrize("params", UNFINISHED, ids=str)
@pytest.mark.usefixtures("one_thread")  # two networks of an ensemble could both be in an epoch
def test_a_fit_that_was_interrupted_is_saved_with_what_it_lacks(name, way, params, tmp_path):
    """In pretraining or in the first layer, and two epochs before the end."""
    whole = clone(ESTIMATORS[name]).set_params(max_iter=5)
    if not params.keys() <= whole.get_params().keys():
        return
    whole.set_params(**params)
    with pytest.MonkeyPatch.context() as patch:
        epochs = record_epochs(patch)
        whole.fit(X, y)
    for epoch in (2, len(epochs) - 1):
        half = clone(whole)
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
            interrupt(patch, epoch)
            half.fit(X, y)
        assert_equal(WAYS[way](half, tmp_path).fit(X, y), whole)


def test_a_pipeline_is_saved_as_one(tmp_path):
    pipe = make_pipeline(MinMaxScaler(), clone(ESTIMATORS["stack"]), LogisticRegression())
    pipe.set_params(logisticregression__max_iter=2000).fit(X, y)
    loaded = WAYS["skops"](pipe, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


# ---- size ---------------------------------------------------------------------------------


WIDE = np.random.default_rng(0).uniform(size=(60, 200)).astype(np.float32)
CODES = (WIDE[:, 0] > 0.5).astype(int) + (WIDE[:, 1] > 0.5)
BRIEF = {"max_iter": 2, "random_state": 0}
SIZES = (100, 50)
FINAL = {"final_estimator": LogisticRegression(max_iter=2000)}
SAVED = {
    "layer": DenoisingAutoencoder(100, **BRIEF),
    "layer, tied": DenoisingAutoencoder(100, tied_weights=True, **BRIEF),
    "layer, salt and pepper": DenoisingAutoencoder(100, corruption="salt_and_pepper", **BRIEF),
    "stack": StackedAutoencoder(SIZES, **BRIEF),
    "joint": StackedAutoencoder(SIZES, joint=True, joint_max_iter=2, **BRIEF),
    "classifier": StackedAutoencoderClassifier(SIZES, **BRIEF),
    "classifier, stack": StackedAutoencoderClassifier(
        pretrain=StackedAutoencoder(SIZES, **BRIEF), **BRIEF
    ),
    "classifier, top": StackedAutoencoderClassifier(SIZES, fine_tune="top", **BRIEF),
    "classifier, both": StackedAutoencoderClassifier(SIZES, fine_tune="top_then_all", **BRIEF),
    "classifier, final": StackedAutoencoderClassifier(SIZES, **FINAL, **BRIEF),
    "regressor": StackedAutoencoderRegressor(SIZES, **BRIEF),
    "regressor, not pretrained": StackedAutoencoderRegressor(SIZES, pretrain=False, **BRIEF),
}


def n_bytes_needed(name):
    """The parameters that the methods of an estimator need, in single precision."""
    encoders = [200 * 100 + 100, 100 * 50 + 50]
    decoders = [100 * 200 + 200, 50 * 100 + 100]
    kind = name.split(", ")[0]
    if kind == "layer":
        return 4 * (encoders[0] + (200 if "tied" in name else decoders[0]))
    if kind in ("stack", "joint"):
        return 4 * sum(encoders + decoders)
    return 4 * (sum(encoders) + 51 * (3 if kind == "classifier" else 1))


@pytest.mark.parametrize("params", [{}, {"solver": "sgd", "learning_rate_init": 1e-3},
                                    {"early_stopping": True}], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", SAVED)
def test_what_is_saved_is_little_more_than_the_parameters(name, params):
    fitted = clone(SAVED[name]).set_params(**params).fit(WIDE, CODES)
    size = len(pickle.dumps(fitted)) - len(pickle.dumps(getattr(fitted, "final_estimator_", None)))
    assert n_bytes_needed(name) <= size <= 1.2 * n_bytes_needed(name)


@pytest.mark.parametrize("name", [name for name in SAVED if "final" not in name])
def test_a_new_fit_drops_what_a_stream_has_kept(name):
    """The moments and the pretrained stack are kept to go on from them only."""
    more = {"classes": [0, 1, 2]} if name.startswith("classifier") else {}
    fitted = clone(SAVED[name])
    if name == "joint":
        fitted.set_params(warm_start=True).fit(WIDE, CODES)
    else:
        fitted.partial_fit(WIDE, CODES, **more)
    assert len(pickle.dumps(fitted)) > 1.8 * n_bytes_needed(name)
    fitted.set_params(warm_start=False).fit(WIDE, CODES)
    assert len(pickle.dumps(fitted)) <= 1.2 * n_bytes_needed(name)
    assert not hasattr(fitted, "pretrained_")


@pytest.mark.parametrize("name", SAVED)
def test_warm_start_keeps_what_exact_continuation_needs(name, tmp_path):
    half = clone(SAVED[name]).set_params(warm_start=True).fit(WIDE, CODES)
    size = len(pickle.dumps(half)) - len(pickle.dumps(getattr(half, "final_estimator_", None)))
    assert size > 1.8 * n_bytes_needed(name)
    pretrains = name != "regressor, not pretrained" and hasattr(half, "coefs_")
    assert hasattr(half, "pretrained_") == pretrains
    loaded = WAYS["pickle"](half, tmp_path)
    if pretrains:
        codes = half.pretrained_.transform(WIDE)
        np.testing.assert_array_equal(loaded.pretrained_.transform(WIDE), codes)
    whole = clone(SAVED[name]).set_params(warm_start=True).fit(WIDE, CODES).fit(WIDE, CODES)
    found = loaded.fit(WIDE, CODES).transform(WIDE)
    np.testing.assert_array_equal(found, whole.transform(WIDE))
    if "top" not in name:
        assert not np.array_equal(half.transform(WIDE), found)
    if hasattr(whole, "predict"):
        np.testing.assert_array_equal(loaded.predict(WIDE), whole.predict(WIDE))


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


# ---- altered states -------------------------------------------------------------------------


SIZES = [0, -1, 1, 7, 64, 1000, 10**6, 10**9, 2**31, 2**61, 2**62, 2**70, 1.5, "7", None]
ALTERED_BUFFERS = [
    lambda a: a[:, :5].copy(),
    lambda a: a[:, :-1].copy(),
    lambda a: a[:, :0].copy(),
    lambda a: a[:1].copy(),
    lambda a: a[:0].copy(),
    lambda a: np.pad(a, ((0, 0), (0, 9))),
    lambda a: a.ravel(),
    lambda a: a[0],
    lambda a: a[None],
    lambda a: np.asfortranarray(a),
    lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    lambda a: a[:, ::-1],
    lambda a: unaligned(a),
    lambda a: np.broadcast_to(a[0], (4, a.shape[1])),
    lambda a: a.tolist(),
    lambda a: None,
    *(lambda a, dtype=dtype: a.astype(dtype) for dtype in ("f8", "f2", ">f4", "i8", "c8", "O")),
]
ACTIVATIONS = ["relu", "softmax", "identity", "logistic", "unheard of", None]


def alter(estimator, draw):
    """Change something of a fitted estimator, or of a layer of it; return what was changed."""
    parts = [estimator]
    for stack in [estimator, *getattr(estimator, "autoencoders_", [])]:
        parts += [stack, *getattr(stack, "layers_", [])]
    part = draw.choice(parts[1:])
    what = draw.choice(["sizes", "length", "activations", "tied", "buffers", "step", "features"])
    architecture = vars(part).get("_architecture", {})
    sizes, activations = architecture.get("sizes"), architecture.get("activations")
    states = [vars(part)[name] for name in ("_state", "_joint_state") if vars(part).get(name)]
    value = SIZES[draw.integers(len(SIZES))]
    if what == "features":
        part.n_features_in_ = value
    elif what in ("buffers", "step") and states:
        if what == "step":
            states[0].step = value
        else:
            change = ALTERED_BUFFERS[draw.integers(len(ALTERED_BUFFERS))]
            states[0].buffers = change(states[0].buffers)
    elif sizes and what == "length":
        place = draw.integers(len(sizes) + 1)
        sizes[place : place + draw.integers(3)] = [3] * draw.integers(2)
    elif activations and what == "activations":
        activations[draw.integers(len(activations))] = ACTIVATIONS[draw.integers(6)]
    elif what == "tied" and "tied" in architecture:
        architecture["tied"] = not architecture["tied"]
    elif sizes:
        sizes[draw.integers(len(sizes))] = value
        if draw.integers(2) and isinstance(sizes[0], int):
            part.n_features_in_ = sizes[0]
    return part, what, value


def use_altered(name, n_times):
    """Alter fitted estimators at random, and use each: an exception, or results of their shape.

    Run in a child, for a read outside memory may end the process.
    """
    warnings.simplefilter("ignore")
    hasten_imputers(pytest.MonkeyPatch())
    draw = np.random.default_rng(0)
    saved = pickle.dumps(clone(ESTIMATORS[name]).fit(X, y))
    counts = {"raised": 0, "gave": 0}
    for _ in range(n_times):
        estimator = pickle.loads(saved)
        alter(estimator, draw)
        if draw.integers(2):  # as if it came from a file
            try:
                state = estimator.__getstate__()
                estimator = type(estimator).__new__(type(estimator))
                estimator.__setstate__(state)
            except Exception:
                counts["raised"] += 1
                continue
        width = estimator.n_features_in_
        data = X[:20]
        if isinstance(width, int) and 0 < width <= 10**6 and width != X.shape[1]:
            data = np.zeros((20, width), dtype=np.float32)
        for method in draw.permutation(
            ["transform", "inverse_transform", "score_samples", "predict", "fit", "partial_fit"]
        ):
            if not hasattr(estimator, method):
                continue
            try:
                given = data
                if method == "inverse_transform":
                    given = np.zeros((20, estimator._n_features_out), dtype=np.float32)
                result = getattr(estimator, method)(given, *[y[:20]] * (method[-3:] == "fit"))
            except Exception:
                counts["raised"] += 1
            else:
                assert method[-3:] == "fit" or len(result) == 20
                if method == "transform" and hasattr(estimator, "_n_features_out"):
                    assert result.shape == (20, estimator._n_features_out)
                counts["gave"] += 1
    assert min(counts.values()) > n_times // 4, counts


@pytest.mark.slow
@each_estimator
def test_an_altered_estimator_never_reads_outside_memory(name):
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c"]
        + [f"import test_persistence; test_persistence.use_altered({name!r}, 300)"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", ["layer", "stack", "joint", "classifier", "regressor"])
def test_parameters_must_fit_their_architecture(name, tmp_path):
    """Also those from a file whose types are trusted."""
    match = "The parameters do not fit the architecture: it has .*"

    def altered():
        estimator = clone(ESTIMATORS[name]).fit(X, y)
        owner = estimator if name != "stack" else estimator.layers_[1]
        state = owner._joint_state if name == "joint" else owner._state
        state.buffers = state.buffers[:, :5].copy()
        return estimator

    if name != "joint":  # its methods use the layers
        with pytest.raises(ValueError, match=match + "shape is"):
            altered().transform(X)
    for way in WAYS.values():
        with pytest.raises(ValueError, match=match):
            way(altered(), tmp_path)
    estimator = altered()
    before = pickle.dumps(vars(estimator))
    if name != "joint":
        with pytest.raises(ValueError, match=match):
            estimator.partial_fit(X, y)
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y)
    assert pickle.dumps(vars(estimator)) == before


@pytest.mark.parametrize("name", ["layer", "stack", "joint", "classifier", "regressor"])
def test_a_copy_during_a_fit_of_other_sizes(name, monkeypatch):
    """As scikit-learn's callbacks make them: what is there of both fits must not clash."""
    estimator = clone(ESTIMATORS[name]).set_params(warm_start=False).fit(X, y)
    size = {"n_components": 9} if name == "layer" else {"hidden_layer_sizes": (9, 7, 5)}
    copies = []

    def copying(*args, real=_sgd.train):
        copies.append(pickle.loads(pickle.dumps(copy.copy(estimator))))
        return real(*args)

    monkeypatch.setattr(_sgd, "train", copying)
    estimator.set_params(**size).fit(X[:, :-3], y)
    assert len(copies) >= 2
    assert estimator.transform(X[:, :-3]).shape[1] == (9 if name == "layer" else 5)
