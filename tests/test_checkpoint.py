"""Checkpoints: a fit resumed from any of its files is that of a fit without interruption, to the
last bit; whenever the process ends, there is a whole file.
"""

import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from common import hasten_imputers, record_epochs, uniform
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import skae
from skae import (
    Checkpoint,
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
    _checkpoint,
    resume,
)

io = pytest.importorskip("skops.io")
pytestmark = pytest.mark.usefixtures("one_thread")

X = uniform()
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
PARTLY = np.where(np.arange(len(X)) % 3 == 0, -1, CODES)
VALUES = 300 + 30 * X[:, 0] - 20 * X[:, 1] ** 2
WEIGHTS = np.random.default_rng(0).uniform(size=len(X)) * (np.arange(len(X)) % 5 > 0)

SMALL = dict(max_iter=3, batch_size=16, learning_rate_init=0.01, random_state=0)
Layer = partial(DenoisingAutoencoder, 7, **SMALL)
Stack = partial(StackedAutoencoder, (7, 5), **SMALL)
PRETRAIN = Stack(max_iter=2)
Classifier = partial(StackedAutoencoderClassifier, (7, 5), pretrain=PRETRAIN, **SMALL)
Regressor = partial(StackedAutoencoderRegressor, (7, 5), pretrain=PRETRAIN, **SMALL)
Detector = partial(StackedAutoencoderDetector, (7, 5), n_estimators=3, **SMALL)
Imputer = partial(StackedAutoencoderImputer, (7, 5), n_estimators=2, **SMALL)

CASES = {
    "layer": (Layer(), None),
    "layer, stochastic": (Layer(random_state=None, corruption="swap"), None),
    "layer, auto": (Layer(max_iter="auto", batch_size=60, verbose=False), None),
    "layer, early stopping": (Layer(max_iter=9, early_stopping=True, learning_rate_init=0.5), None),
    "layer, adaptive": (Layer(learning_rate="adaptive", tol=10.0, n_iter_no_change=1), None),
    "layer, warm": (Layer(warm_start=True, solver="sgd"), None),
    "stack": (Stack(corruption="salt_and_pepper"), None),
    "stack, per layer": (Stack(max_iter=[1, 4], learning_rate="cosine"), None),
    "stack, stochastic": (Stack(random_state=None), None),
    "stack, generator": (Stack(random_state=np.random.RandomState(0)), None),
    "stack, warm": (Stack(warm_start=True), None),
    "joint": (Stack(joint=True, joint_max_iter=3, early_stopping=True), None),
    "joint, warm": (Stack(joint=True, joint_max_iter=3, warm_start=True), None),
    "joint only": (Stack(joint="only", joint_max_iter=4, learning_rate="cosine"), None),
    "classifier": (Classifier(dropout=0.2, input_dropout=0.1), CODES),
    "classifier, own stack": (Classifier(pretrain=True, random_state=None, max_iter=2), CODES),
    "classifier, stochastic": (
        Classifier(pretrain=Stack(random_state=None, max_iter=2), random_state=None), PARTLY),
    "classifier, partly": (Classifier(early_stopping=True, learning_rate="cosine"), PARTLY),
    "classifier, top": (Classifier(fine_tune="top"), CODES),
    "classifier, both": (Classifier(fine_tune="top_then_all", n_averaged_epochs=2), PARTLY),
    "classifier, joint": (
        Classifier(pretrain=Stack(max_iter=1, joint=True, joint_max_iter=2)), CODES),
    "classifier, warm": (Classifier(warm_start=True, fine_tune="top_then_all"), CODES),
    "classifier, not pretrained": (Classifier(pretrain=False, n_warmup_epochs=1), CODES),
    "classifier, given": (Classifier(pretrain=Stack().fit(X)), CODES),
    "classifier, frozen": (Classifier(pretrain=FrozenEstimator(Stack().fit(X))), CODES),
    "classifier, final": (
        Classifier(final_estimator=LogisticRegression(max_iter=500), max_norm=1.0), CODES),
    "classifier, final of skae": (Classifier(final_estimator=Classifier()), CODES),
    "regressor": (Regressor(solver="sgd"), VALUES),
    "regressor, both": (Regressor(fine_tune="top_then_all", early_stopping=True,
                                  validation_fraction=0.3), VALUES),
    "detector": (Detector(), None),
    "detector, stochastic": (Detector(random_state=None, early_stopping=True), None),
    "detector, warm": (Detector(warm_start=True), None),
    "imputer": (Imputer(add_indicator=True), None),
}  # fmt: skip
each_case = pytest.mark.parametrize("name", CASES)

# What `random_state` makes of a fit must be the same twice.
RANDOM = {"random_state", "pretrain__random_state"}


@pytest.fixture(autouse=True)
def hasty_imputers(monkeypatch):
    hasten_imputers(monkeypatch)


def assert_identical(one, other, place=""):
    """Assert that all attributes are equal, to the last bit, and those of attributes too."""
    assert type(one) is type(other), place
    if isinstance(one, BaseEstimator):
        one, other = one.__getstate__(), other.__getstate__()
    if isinstance(one, np.random.RandomState):
        one, other = one.get_state(), other.get_state()
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_identical(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for k, (mine, theirs) in enumerate(zip(one, other)):
            assert_identical(mine, theirs, f"{place}[{k}]")
    elif isinstance(one, np.ndarray):
        assert_array_equal(one, other, strict=True, err_msg=place)
    else:
        assert one == other or (one != one and other != other), place


def record_files(monkeypatch):
    """Return the list of all files, as bytes, that checkpoints write from now on."""
    files = []

    def spy(estimator, path, real=_checkpoint.write):
        real(estimator, path)
        files.append(Path(path).read_bytes())

    monkeypatch.setattr(_checkpoint, "write", spy)
    return files


def same_seed(estimator):
    """Let two fits of an estimator without a seed be the same, and differ from a third."""
    np.random.seed(0)
    return copy.deepcopy(estimator)


def fit_and_save(estimator, path, *args, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        files = record_files(patch)
        with Checkpoint(path):
            fitted = estimator.fit(*args, **kwargs)
    return fitted, files


def assert_resumes(estimator, path, *data, before=0, **kwargs):
    """Assert that a fit can be resumed from each of its files; return their number."""
    with pytest.MonkeyPatch.context() as patch:
        epochs = record_epochs(patch)
        whole = same_seed(estimator).fit(*data, **kwargs)
    saved, files = fit_and_save(same_seed(estimator), path, *data, **kwargs)
    assert_identical(saved, whole)
    for file in files:
        path.write_bytes(file)
        np.random.seed(1)
        assert_identical(resume(path, *data, **kwargs), whole)
    assert os.listdir(path.parent) == [path.name]
    return len(files), len(epochs)


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@each_case
def test_a_fit_is_resumed_from_any_epoch(name, tmp_path):
    estimator, y = CASES[name]
    n_files, n_epochs = assert_resumes(estimator, tmp_path / "fit.skops", X, y)
    assert 3 <= n_files <= n_epochs
