"""Fits and results on Dask collections: those of the same estimator on the same samples in memory,
where there is one block and one replica; else such as do not depend on the workers.

Most tests have a client without processes; the last ones have a cluster. Private names of skae are
those of the module that is tested, and of what it is made of.
"""

import gc
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from common import (
    assert_close_fit,
    assert_same_fit,
    hasten_imputers,
    learned,
    state_of,
    weights_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import (
    Checkpoint,
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
    _training,
    resume,
)
from skae._dataset import ArrayDataset
from skae._kernel import _sgd

distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")

import dask  # noqa: E402

import skae.dask as skd  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_thread", "small", "time_limit"),
    pytest.mark.filterwarnings(r"default:::(distributed|dask|tornado)\b.*"),
]

X, y = load_digits(return_X_y=True)
X, y = X[:300] / 16, y[:300]
PARTLY = np.where(np.arange(300) % 3 == 0, y, -1)
LABELS = np.column_stack([y % 2, y > 4, y == 3]).astype(int)
WEIGHTS = np.random.default_rng(0).uniform(0.5, 2, 300) * (np.arange(300) % 7 > 0)

N_THREADS = skd.n_threads  # the tests have another one

SECONDS = 60  # most that a test may take

FEW = dict(max_iter=2, batch_size=20, learning_rate_init=0.01, random_state=0)
layer = partial(DenoisingAutoencoder, 12, **FEW)
stack = partial(StackedAutoencoder, (12, 6), **FEW)
classifier = partial(StackedAutoencoderClassifier, (12, 6), **FEW)
regressor = partial(StackedAutoencoderRegressor, (12, 6), **FEW)
detector = partial(StackedAutoencoderDetector, (12, 6), n_estimators=2, **FEW)
imputer = partial(StackedAutoencoderImputer, (12, 6), n_estimators=2, **FEW)


def wait(futures, real=skd.wait, **options):
    """Wait for futures of a cluster; those of `Client` are results."""
    if futures and isinstance(futures[0], distributed.Future):
        real(futures, **options)


@pytest.fixture
def small(monkeypatch):
    """Outside of workers, a task has one thread; a `max_iter` of 'auto' is two epochs."""
    monkeypatch.setattr(skd, "n_threads", lambda n_at_once: 1)
    monkeypatch.setattr(skd, "wait", wait)
    monkeypatch.setattr(_training, "EPOCHS", (2, 2))
    hasten_imputers(monkeypatch)


@pytest.fixture
def time_limit():
    """Fail a test that waits for workers for ever."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def fail(*_):
        pytest.fail(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Client:
    """Does at once what a `distributed.Client` has done by workers; some of its calls fail.

    ``fails(number, name)`` gives the error that a call raises, or None; `calls` are their names.
    """

    def __init__(self, n_workers=1, fails=lambda number, name: None):
        self.n_workers, self.fails, self.calls, self.cancelled = n_workers, fails, [], []

    def _call(self, name):
        self.calls.append(name)
        if (error := self.fails(len(self.calls), name)) is not None:
            raise error

    def processing(self):
        return {f"w{k}": ("a task",) for k in range(self.n_workers)}

    def nthreads(self):
        return {f"w{k}": 1 for k in range(self.n_workers)}

    def compute(self, task, **where):
        return dask.compute(task, scheduler="sync")[0]

    def submit(self, function, *args, pure, **where):
        self._call("submit " + getattr(function, "func", function).__name__)
        return function(*args)

    def gather(self, futures, asynchronous=False):
        self._call("gather")
        return futures

    def sync(self, function, callback_timeout):
        return function()

    def scatter(self, values, *, hash):
        self._call("scatter")
        return values

    def cancel(self, futures):
        self.cancelled.append(futures)

    def wait_for_workers(self, n_workers, timeout):
        self._call("wait")


def fails_at(number, error):
    """Let one call of a client fail."""
    return lambda n, name: error if n == number else None


def in_blocks(X, *sizes):
    """A Dask array with blocks of so many samples; a single one if no sizes are given.

    No two have tasks of the same name: the scheduler counts in how many deaths each had a part.
    """
    return da.from_array(X, chunks=(sizes or (X.shape[0],), X.shape[1]), name=False)


def sparse_blocks(X, *sizes):
    return in_blocks(X, *sizes).map_blocks(sp.csr_matrix, meta=sp.csr_matrix((0, X.shape[1])))


def of_unknown_sizes(X, *sizes):
    collection = in_blocks(X, *sizes)
    collection = collection[da.ones(X.shape[0], chunks=(collection.chunks[0],)).astype(bool)]
    assert np.isnan(collection.shape[0])
    return collection


def frame(X, *sizes):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    names = [f"pixel{k}" for k in range(X.shape[1])]
    parts = np.split(X, np.cumsum(sizes or (X.shape[0],))[:-1])
    return dd.from_delayed(
        [dask.delayed(pd.DataFrame)(part, columns=names) for part in parts],
        meta=pd.DataFrame(X[:0], columns=names),
    )


def fit(estimator, X, y=None, sample_weight=None, client=None, **given):
    return skd.fit(clone(estimator), X, y, sample_weight, client=client or Client(), **given)


def state_bytes(estimator):
    """All of an estimator but its curves, which share what they have in common."""
    return pickle.dumps(vars(estimator))


# -- one block, one replica: the fit of the estimator itself ---------------------------------

NOISES = ["dropout", "masking", "gaussian", "salt_and_pepper", "swap", "variable_masking",
          "variable_gaussian"]  # fmt: skip

# Estimator, y, weights. The fits of a single network are equal to the bit; codes of a layer below
# are computed in other blocks, and so rounded otherwise.
FITS = {
    **{kind: (layer(corruption=kind), None, None) for kind in NOISES},
    "sgd": (layer(solver="sgd"), None, None),
    "tied": (layer(tied_weights=True, activation="logistic"), None, None),
    "cross-entropy": (layer(loss="cross_entropy", activation="logistic"), None, None),
    "weights": (layer(corruption="gaussian"), None, WEIGHTS),
    "held out": (layer(early_stopping=True), None, None),
    "held out, weights": (layer(early_stopping=True), None, WEIGHTS),
    "top-k": (layer(activation="top_k", n_active=2, max_iter=4), None, WEIGHTS),
    "top-k, held out": (layer(activation="top_k", early_stopping=True), None, None),
    "top-k, stack": (stack(activation="top_k", joint=True, joint_max_iter=2), None, None),
    "top-k, joint only": (stack(activation="top_k", joint="only", joint_max_iter=4), None, None),
    "top-k, classifier": (classifier(activation="top_k", n_active=2), PARTLY, None),
    "more than the epochs": (layer(max_iter=3, learning_rate="cosine", alpha=0.01), None, None),
    "stack": (stack(corruption="masking"), None, WEIGHTS),
    "joint": (stack(joint=True, joint_max_iter=2), None, None),
    "joint only": (stack(joint="only", joint_max_iter=3, corruption="swap"), None, WEIGHTS),
    "noise of each layer": (stack(corruption=["gaussian", "swap"]), None, None),
    "stack, held out": (stack(early_stopping=True), None, None),
    "classifier": (classifier(), y, None),
    "partly labelled": (classifier(input_dropout=0.2), PARTLY, WEIGHTS),
    "strata": (classifier(early_stopping=True), PARTLY, WEIGHTS),
    "labels": (classifier(), LABELS, None),
    "names": (classifier(), np.array(list("abcdefghij"))[y], None),
    "top": (classifier(fine_tune="top"), y, WEIGHTS),
    "top, then all": (classifier(fine_tune="top_then_all", early_stopping=True), PARTLY, None),
    "no pretraining": (classifier(pretrain=False, dropout=0.2), PARTLY, WEIGHTS),
    "adversarial": (classifier(pretrain=False, adversarial_radius=0.1, max_norm=2.0), y, None),
    "warm-up": (classifier(pretrain=False, n_warmup_epochs=1, n_averaged_epochs=2), y, None),
    "own stack": (classifier(pretrain=stack(corruption="swap", joint=True)), PARTLY, None),
    "fitted stack": (
        StackedAutoencoderClassifier(pretrain=FrozenEstimator(stack().fit(X)), **FEW),
        PARTLY,
        None,
    ),
    "regressor": (regressor(), y * 1.5, WEIGHTS),
    "regressor, partly": (regressor(early_stopping=True), np.where(y > 4, y, np.nan), None),
    "several targets": (regressor(), np.column_stack([y, -y]), None),
    "detector": (detector(), None, None),
    "detector, weights": (detector(n_estimators=3, early_stopping=True), None, WEIGHTS),
    "imputer": (imputer(), None, WEIGHTS),
    "imputer, held out": (imputer(early_stopping=True, missing_values=0), None, None),
}
# Those without layers below one that is trained.
ONE_BY_ONE = DenoisingAutoencoder, StackedAutoencoderDetector, StackedAutoencoderImputer


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("name", FITS)
def test_one_block_gives_the_fit_in_memory(name, shuffle, monkeypatch):
    """Each block is shuffled for itself, by its number: here as if that were not so."""
    made, target, weights = FITS[name]
    made = clone(made).set_params(shuffle=shuffle)
    given = {} if weights is None else {"sample_weight": weights}
    here = clone(made).fit(X, target, **given)
    real = _training.epoch_order
    monkeypatch.setattr(
        _training,
        "epoch_order",
        lambda index, shuffle, seed, epoch, *number: real(index, shuffle, seed, epoch),
    )
    there = fit(made, in_blocks(X), target, weights)
    exact = isinstance(made, ONE_BY_ONE) or getattr(made, "pretrain", True) is False
    (assert_same_fit if exact else assert_close_fit)(here, there)
    for attribute in ("loss_", "best_loss_", "reconstruction_r2_", "baseline_loss_", "n_iter_",
                      "dead_fraction_",
                      "n_labelled_", "best_validation_score_", "n_features_in_", "mean_", "scale_",
                      "offset_", "feature_errors_", "weights_", "precision_"):  # fmt: skip
        assert hasattr(here, attribute) == hasattr(there, attribute)
        if hasattr(here, attribute):
            assert_allclose(getattr(there, attribute), getattr(here, attribute), rtol=1e-6)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_of_replicas_goes_by_the_seed_and_not_by_the_workers(name):
    made, target, weights = FITS[name]
    one, other = (
        fit(made, in_blocks(X, 70, 130, 100), target, weights, Client(n_workers), replicas=2)
        for n_workers in (1, 3)
    )
    assert_same_fit(one, other)
    assert np.isfinite(np.concatenate([array.ravel() for array in learned(one)])).all()


def test_a_final_estimator_is_fitted_on_the_codes_of_the_labelled_samples():
    final = LogisticRegression(max_iter=1000)
    made = classifier(final_estimator=final, shuffle=False)
    here = clone(made).fit(X, PARTLY)
    there = fit(made, in_blocks(X), PARTLY)
    assert_allclose(there.final_estimator_.coef_, here.final_estimator_.coef_, rtol=1e-4)
    assert_array_equal(there.predict(X), here.predict(X))


def test_one_replica_has_nothing_to_be_averaged_with():
    made, client = layer(batch_size=5, shuffle=False), Client()
    there = fit(made, in_blocks(X), client=client, averages=8)
    assert client.calls.count("submit run") == made.max_iter
    assert_same_fit(there, clone(made).fit(X))


def test_rounds_are_parts_of_an_epoch():
    """A replica goes on from the mean: here from where it was, for the other one has no samples.

    What is summed in another order are the costs.
    """
    made = layer(batch_size=5, shuffle=False, max_iter=1)
    client = Client()
    there = fit(made, in_blocks(X, 300, 0), client=client, replicas=2)
    assert client.calls.count("submit run") == 60 // 2 // skd.LEAST_STEPS == 2
    here = clone(made).fit(X)
    for a, b in zip(weights_of(here), weights_of(there)):
        assert_array_equal(a, b)
    assert_allclose(there.loss_curve_, here.loss_curve_)


def test_averages_go_by_the_number_of_replicas():
    collection = in_blocks(X, *[30] * 10)
    found = {n: skd.Blocks(collection, Client(), n, None).averages for n in (1, 2, 3, 8, 10)}
    assert found == {1: 1, 2: 4, 3: 6, 8: 16, 10: 16}
    assert skd.Blocks(collection, Client(), 2, 3).averages == 3


@pytest.mark.parametrize("kind", NOISES)
def test_noise_goes_by_all_samples_and_not_by_those_of_a_block(kind):
    made = layer(corruption=kind, max_iter=1)
    here, there = clone(made).fit(X), fit(made, in_blocks(X, 0, 120, 1, 179), replicas=2)
    close = partial(assert_allclose, rtol=1e-9) if "gaussian" in kind else assert_array_equal
    close(there._corrupted(X, 0), here._corrupted(X, 0))


@pytest.mark.parametrize("made, target, labelled", [
    (layer(), None, np.arange(300)),
    (classifier(pretrain=False), PARTLY, np.flatnonzero(PARTLY >= 0)),
    (layer(early_stopping=True), None, np.arange(300)),
], ids=["all", "labelled", "trained on"])  # fmt: skip
@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
def test_a_sample_keeps_the_number_that_its_noise_goes_by(
    made, target, labelled, shuffle, monkeypatch
):
    """In each epoch each sample is stepped through once, with the key of the epoch."""
    seen = []

    def spy(problem, batches, *args, real=_sgd.train):
        seen.append((batches.key, batches.ids.copy(), batches.X[batches.rows]))
        return real(problem, batches, *args)

    monkeypatch.setattr(_sgd, "train", spy)
    made = clone(made).set_params(shuffle=shuffle)
    here = clone(made).fit(X, target)
    n_here = len(seen)
    there = fit(made, in_blocks(X, 0, 120, 1, 179), target, replicas=2)
    assert state_of(here).seed == state_of(there).seed
    of_epochs = {}
    for key, ids, samples in seen[n_here:]:
        assert_array_equal(samples, X[labelled[ids]])
        of_epochs.setdefault(key, []).extend(ids)
    expected = {key: sorted(ids) for key, ids, _ in seen[:n_here]}
    assert len(expected) == 2
    assert {key: sorted(ids) for key, ids in of_epochs.items()} == expected


# -- several replicas: the mathematics ---------------------------------------------------------


def test_replicas_are_averaged_by_their_samples():
    """A step of plain gradient descent on each of two blocks, by hand."""
    made = layer(solver="sgd", momentum=0.0, alpha=0.0, corruption=None, batch_size=1000,
                 max_iter=1, shuffle=False)  # fmt: skip
    there = fit(made, in_blocks(X, 100, 200), replicas=2)
    parts = [weights_of(clone(made).fit(part)) for part in (X[:100], X[100:])]
    for mean, one, other in zip(weights_of(there), *parts):
        assert_allclose(mean, (100 * one + 200 * other) / 300, rtol=1e-12, atol=1e-15)
        assert not np.allclose(one, other, rtol=1e-6)


def test_momentum_of_the_mean_begins_with_the_second_epoch():
    """Two epochs of one step each, by hand; the loss is that before the steps."""
    made = layer(solver="sgd", momentum=0.0, alpha=0.0, corruption=None, batch_size=1000,
                 shuffle=False, warm_start=True)  # fmt: skip
    first, second = (
        fit(clone(made).set_params(max_iter=n), in_blocks(X, 150, 150), replicas=2) for n in (1, 2)
    )
    parts = []
    for part in (X[:150], X[150:]):
        one = pickle.loads(pickle.dumps(first)).set_params(max_iter=1)
        parts.append(state_of(one.fit(part)).params)
    mean = (parts[0] + parts[1]) / 2
    before = state_of(first)
    change, momentum = mean - before.params, 1 - skd.SLOWNESS / 2
    velocity = momentum * before.outer_momentum + change
    assert_allclose(state_of(second).params, mean + momentum * velocity, rtol=1e-9, atol=1e-12)
    assert_allclose(state_of(second).outer_momentum, velocity, rtol=1e-9, atol=1e-12)


def test_outer_momentum_of_few_and_many_replicas():
    for solver in ("sgd", "adam"):
        assert skd.outer_momentum(solver, 1) == 0
        momenta = [skd.outer_momentum(solver, n) for n in (2, 3, 4, 10, 100)]
        assert momenta == sorted(momenta)
    amplified = [1 / (1 - skd.outer_momentum("sgd", n)) for n in (2, 10)]
    assert_allclose(amplified, [2 / 0.6, 10 / 0.6])
    amplified = [1 / (1 - skd.outer_momentum("adam", n)) for n in (2, 4, 100)]
    assert_allclose(amplified, [np.sqrt(2), 2, 10])
    amplified = [1 / (1 - skd.outer_momentum("adam", 4, decay)) for decay in (0.5, 0.1, 1e-9)]
    assert_allclose(amplified, [4, 4 / 0.6, 4 / 0.6])


def test_momentum_of_the_mean_grows_as_the_learning_rate_decays(monkeypatch):
    seen = []
    real = skd.outer_momentum
    spy = lambda *args: seen.append(args[-1]) or real(*args)
    monkeypatch.setattr(skd, "outer_momentum", spy)
    made = classifier(max_iter=5, learning_rate="cosine", n_warmup_epochs=2, pretrain=False)
    fit(made, in_blocks(X, 150, 150), y, replicas=2)
    expected = [0.5 * (1 + np.cos(np.pi * k / 3)) for k in range(3)]
    assert_allclose(seen, [1, *expected])  # not in the first epoch, nor by less in the warmup


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_move_is_nesterovs_momentum(dtype):
    rng = np.random.default_rng(0)
    buffers = rng.normal(size=(3, 5)).astype(dtype)
    state = _training.TrainingState(buffers.copy(), 0)
    velocity, params = np.zeros(5), buffers[0]
    for _ in range(3):
        mean = rng.normal(size=(3, 5)).astype(dtype)
        skd.move(state, mean, 0.7)
        velocity = 0.7 * velocity + (mean[0] - params)
        params = mean[0] + 0.7 * velocity
        assert_allclose(state.params, params, rtol=1e-5)
        assert_array_equal(state.buffers[1:], mean[1:])
        assert state.buffers.dtype == state.outer_momentum.dtype == dtype


def test_a_momentum_of_another_network_is_forgotten():
    state = _training.TrainingState(np.zeros((1, 3)), 0, outer_momentum=np.ones(5))
    skd.move(state, np.ones((1, 3)), 0.5)
    assert_array_equal(state.outer_momentum, np.ones(3))


def test_states_are_added_from_the_first_to_the_last():
    big = [np.array([[value]]) for value in (1e16, 1.0, -1e16)]
    total, step, cost = skd.added(*((one, n, n / 2) for n, one in enumerate(big)))
    assert total.item() == (1e16 + 1.0) - 1e16 == 0.0
    assert (step, cost) == (2, 1.5)
    assert big[0].item() == 1e16  # not changed in place


def test_many_states_are_added_in_groups(monkeypatch):
    monkeypatch.setattr(skd, "FAN_IN", 2)
    client = Client()
    made = layer(batch_size=1000, max_iter=1)
    one = fit(made, in_blocks(X, *[60] * 5), client=client, replicas=5)
    assert client.calls.count("submit added") == 3 + 2 + 1
    monkeypatch.setattr(skd, "FAN_IN", 8)
    assert_close_fit(one, fit(made, in_blocks(X, *[60] * 5), replicas=5))


@given(
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    batch_size=st.integers(1, 200),
    averages=st.integers(1, 10),
    data=st.data(),
)
def test_rounds_are_an_epoch_cut_in_parts(lengths, batch_size, averages, data):
    replicas = data.draw(st.integers(1, len(lengths)))
    cluster = skd.Cluster(None, len(lengths), replicas)
    dataset = SimpleNamespace(n_replicas=replicas, averages=averages, cluster=cluster)
    rounds = list(skd.BlockDataset._rounds(dataset, np.array(lengths), batch_size, 0, 3))
    assert len(rounds) <= averages
    if len(rounds) > 1:
        assert sum(lengths) // batch_size >= len(rounds) * replicas * skd.LEAST_STEPS
    seen = [np.zeros(length, dtype=int) for length in lengths]
    for pieces in rounds:
        assert len(pieces) == replicas and any(pieces)
        for replica, its in enumerate(pieces):
            for number, start, stop in its:
                assert number % replicas == replica
                assert start % batch_size == 0
                assert stop % batch_size == 0 or stop == lengths[number]
                seen[number][start:stop] += 1
    assert all((counts == 1).all() for counts in seen)


def test_the_order_of_blocks_changes_from_round_to_round_and_not_from_fit_to_fit():
    cluster = skd.Cluster(None, 20, 2)
    dataset = SimpleNamespace(n_replicas=2, averages=3, cluster=cluster)
    lengths = np.full(20, 300)
    orders = {
        (epoch, k, replica): [number for number, *_ in its]
        for epoch in range(2)
        for k, pieces in enumerate(skd.BlockDataset._rounds(dataset, lengths, 10, 0, epoch))
        for replica, its in enumerate(pieces)
    }
    assert len(orders) == 2 * 3 * 2
    assert len({tuple(order) for order in orders.values()}) == len(orders)
    again = [
        [number for number, *_ in its]
        for pieces in skd.BlockDataset._rounds(dataset, lengths, 10, 0, 0)
        for its in pieces
    ]
    assert again == [order for (epoch, *_), order in orders.items() if epoch == 0]


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(lambda its: sum(its) > 1),
    seed=st.integers(0, 1000),
    sparse=st.booleans(),
    missing=st.booleans(),
    weighted=st.booleans(),
    data=st.data(),
)
def test_a_data_set_of_blocks_is_that_of_the_whole_array(
    lengths, seed, sparse, missing, weighted, data
):
    rng = np.random.default_rng(seed)
    n_samples = sum(lengths)
    samples = rng.normal(size=(n_samples, 3)) * (rng.random((n_samples, 3)) < 0.7)
    if missing:
        samples[rng.random(samples.shape) < 0.2] = np.nan
    weights = rng.integers(0, 2, n_samples).astype(float) if weighted else None
    if weighted:  # a fit refuses weights that are all zero
        weights[-1] = 1
    make = sparse_blocks if sparse else in_blocks
    replicas = data.draw(st.integers(1, len(lengths)))
    blocks = skd.Blocks(make(samples, *lengths), Client(), replicas, 8)
    there = blocks.dataset(sample_weight=weights)
    whole = sp.csr_matrix(samples) if sparse else samples
    here = ArrayDataset(whole, sample_weight=weights)
    assert len(there) == len(here) and there.n_features == 3 and there.dtype == here.dtype
    assert_array_equal(there.weighted, here.weighted)
    index = np.array(data.draw(st.lists(st.integers(0, n_samples - 1), min_size=1)))
    for some in (slice(None), slice(1, None), slice(0, n_samples, 2), index):
        assert_array_equal(there.take(some), here.take(some))
    assert_array_equal(there.toarray(), here.toarray())
    part, place = there.part(index)
    assert_array_equal(part.take(place), here.take(index))
    if weighted:
        assert_array_equal(part.sample_weight[place], weights[index])
    assert_array_equal(there.feature_ranges(), here.feature_ranges())
    ours, theirs = here.moments(), there.moments()
    for name, values in ours.items():
        assert_allclose(theirs[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_moments_of_a_block_in_which_no_sample_has_weight():
    weights = np.repeat([1.0, 0.0, 1.0], 100)
    made = layer(corruption="gaussian", shuffle=False)
    there = fit(made, in_blocks(X, 100, 100, 100), None, weights)
    assert np.isfinite(there.loss_)


# -- detector and imputer -----------------------------------------------------------------------

MISSING = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
MISSING[:, 3] = np.nan


@pytest.mark.parametrize(
    "made, method", [(detector(), "feature_scores"), (imputer(), "transform")]
)
def test_networks_of_parts_learn_as_much_from_blocks(made, method):
    """From blocks of any lengths, with missing values; what is random in them is another."""
    made = clone(made).set_params(max_iter=40)
    here, there = clone(made).fit(MISSING), fit(made, in_blocks(MISSING, 0, 90, 3, 207))
    for name in ("mean_", "scale_", "precision_"):
        if hasattr(here, name):
            assert_allclose(getattr(there, name), getattr(here, name), atol=1e-6, err_msg=name)
    one, other = (getattr(fitted, method)(MISSING).ravel() for fitted in (here, there))
    assert one.shape == other.shape
    assert np.corrcoef(one, other)[0, 1] > 0.9
    if method == "feature_scores":
        assert_allclose(there.offset_, here.offset_, rtol=0.2)
    else:
        assert_array_equal(there.get_feature_names_out(), here.get_feature_names_out())
        assert_allclose(there.weights_.mean(), here.weights_.mean(), atol=0.1)


def test_indicators_and_missing_values_of_blocks():
    """A value may be missing in one block only, or a feature be observed in one only."""
    given = np.where(np.isnan(MISSING), -1, MISSING)
    given[:200, 5], given[200:, 6] = 0.5, -1
    made = imputer(missing_values=-1, add_indicator=True)
    here, there = clone(made).fit(given), fit(made, in_blocks(given, 100, 100, 100))
    assert_array_equal(there.indicator_.features_, here.indicator_.features_)
    assert_array_equal(there.get_feature_names_out(), here.get_feature_names_out())
    filled = skd.apply(there, in_blocks(given, 100, 200)).compute()
    assert_allclose(filled, there.transform(given))
    given[250, 7] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fit(made, in_blocks(given, 100, 100, 100))


def test_copies_of_the_samples_of_a_block_keep_their_weights_and_parts():
    samples = np.arange(12.0).reshape(6, 2)
    made = skd.Blocks(in_blocks(samples, 4, 0, 2), Client(), 1, 1).made(
        lambda X, number: (np.tile(X, (3, 1)), np.full((3 * len(X), 1), float(number)))
    )
    assert made.shape == (18, 2)
    mask = np.array([1, 0, 0, 1, 1, 0], dtype=bool)
    assert_array_equal(made.of_copies(samples[:, 0]), made.dataset().take(slice(None))[:, 0])
    some = made.selected(made.of_copies(mask))
    assert some.lengths.tolist() == [6, 0, 3]
    part, place = some.dataset().part([0, 3, 8])
    assert_array_equal(part.X[place], samples[[0, 3, 4]])
    assert_array_equal(part.target[place], [[0], [0], [2]])
    assert [len(target) for _, target in some.results(lambda block: block)] == [6, 3]


def test_sparse_blocks_are_for_the_detector_alone():
    assert_same_fit(
        fit(detector(), sparse_blocks(X, 100, 200)), fit(detector(), in_blocks(X, 100, 200))
    )
    with pytest.raises(TypeError, match="Sparse data was passed"):
        fit(imputer(), sparse_blocks(X, 100, 200))


def test_samples_too_large_to_standardise():
    with pytest.raises(ValueError, match=r"values up to 1e\+308, too large to standardise"):
        fit(detector(), in_blocks(np.where(X == 1, 1e308, 0), 100, 200))


def test_too_few_samples_for_networks_of_parts():
    with pytest.raises(ValueError, match=r"3 sample.*minimum of 4 is required by Stacked"):
        fit(imputer(), in_blocks(X[:3], 1, 2))
    weights = np.arange(300) < 3
    with pytest.raises(ValueError, match="not zero for 3 sample"):
        fit(detector(), in_blocks(X, 100, 200), None, weights)


def test_networks_that_are_trained_free_their_copies():
    """While one is trained, a worker holds X, the samples of all, and those of this network."""
    parts, most = [], []

    def n_alive():
        return len({id(part().X) for part in parts if part() is not None})

    class Counting(Client):
        def submit(self, function, *args, **given):
            result = super().submit(function, *args, **given)
            if isinstance(result, skd.Part):
                parts.append(weakref.ref(result))
                most.append(n_alive())
            return result

    fit(detector(n_estimators=5), in_blocks(X), client=Counting())
    assert len(most) >= 10 and max(most) <= 2
    assert n_alive() == 0


# -- workers that die, and Ctrl-C ---------------------------------------------------------------

LOST = [
    distributed.CancelledError("lost"),
    distributed.scheduler.KilledWorker("task", SimpleNamespace(address="w0"), 3),
    TimeoutError(),
    distributed.comm.CommClosedError("connection closed"),
]
WITH_ROUNDS = dict(batch_size=4, max_iter=2)  # 30 or more steps of each replica in an epoch


@pytest.mark.parametrize("made, target, weights", [
    (layer(**WITH_ROUNDS), None, None),
    (layer(corruption="swap", early_stopping=True), None, WEIGHTS),
    (stack(corruption="gaussian", max_iter=1, joint="only", joint_max_iter=1), None, None),
    (classifier(pretrain=False, early_stopping=True), PARTLY, WEIGHTS),
    (detector(max_iter=1), None, None),
    (imputer(max_iter=1, early_stopping=True), None, WEIGHTS),
], ids=["layer", "held out", "stack", "classifier", "detector", "imputer"])  # fmt: skip
def test_what_is_lost_is_computed_again(made, target, weights):
    """Whichever call the death of a worker comes to light in, the fit is the same."""
    client = Client(2)
    run = partial(fit, made, in_blocks(X, 150, 90, 60), target, weights, replicas=2)
    whole = run(client)
    places = [k for k, name in enumerate(client.calls, 1) if name in ("gather", "scatter")]
    assert len(places) > 5
    for k, place in enumerate(places):
        failing = Client(2, fails_at(place, LOST[k % len(LOST)]))
        assert_same_fit(run(failing), whole)
        assert failing.calls.count("wait") <= 1  # a result that only takes time is asked for again


def fails_from(place, error):
    return lambda n, name: error if n >= place and name == "gather" else None


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", [1, 12])
def test_workers_that_die_again_and_again(error, place):
    made = layer(warm_start=True).fit(X)
    before, client = state_bytes(made), Client(fails=fails_from(place, error))
    with pytest.raises(RuntimeError, match=f"{skd.ATTEMPTS} attempts.*{type(error).__name__}"):
        skd.fit(made, in_blocks(X, 100, 200), client=client)
    assert state_bytes(made) == before
    assert client.calls.count("wait") == skd.ATTEMPTS
    new = layer()
    with pytest.raises(RuntimeError, match="Do they have enough memory"):
        skd.fit(new, in_blocks(X), client=Client(fails=fails_from(place, error)))
    assert not hasattr(new, "n_features_in_") and not hasattr(new, "n_iter_")


@pytest.mark.parametrize("status, processing, stuck", [
    ("pending", {"w0": ()}, True),
    ("pending", {"w0": ("a task",)}, False),
    ("finished", {"w0": ()}, False),
])  # fmt: skip
def test_a_task_that_no_worker_does_is_given_up(status, processing, stuck, monkeypatch):
    """It waits for a worker that has died: so would all that have tasks in common with it."""
    waits = iter([TimeoutError()] * 5)

    def wait(*_, **options):
        for error in waits:
            raise error

    client = Client()
    monkeypatch.setattr(skd, "wait", wait)
    monkeypatch.setattr(client, "processing", lambda: processing)
    cluster, futures = skd.Cluster(client, 1, 1), [SimpleNamespace(status=status)]
    if stuck:
        with pytest.raises(skd.Stuck, match="no worker does anything"):
            cluster._gather(futures)
    else:
        assert cluster._gather(futures) == futures
    assert (len(list(waits)) > 0) == stuck


def test_what_is_placed_is_made_anew_if_it_is_stuck():
    made, client = [], Client()
    placed = skd.Placed(skd.Cluster(client, 2, 1), [0, 1], lambda k: made.append(k) or k)
    for everything, expected in [(False, [0, 1]), (True, [0, 1, 0, 1])]:
        placed.forget(everything)
        assert [placed[k] for k in (0, 1)] == [0, 1]
        assert made == expected


def test_an_error_of_a_task_is_not_tried_again():
    client = Client(fails=fails_at(3, ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        fit(layer(), in_blocks(X), client=client)
    assert "wait" not in client.calls and len(client.cancelled) <= 1


@pytest.mark.parametrize("made, target", [
    (layer(max_iter=4), None),
    (layer(max_iter=4, solver="sgd", learning_rate="cosine"), None),
    (layer(max_iter=4, early_stopping=True), None),
    (stack(), None),
    (stack(joint="only", joint_max_iter=3), None),
    (classifier(fine_tune="top_then_all"), PARTLY),
    (regressor(n_averaged_epochs=2), y / 9),
], ids=str)  # fmt: skip
def test_interrupted_fits_go_on_as_if_they_had_not_been(made, target):
    """With one average an epoch, an epoch that is interrupted has not begun."""
    made = clone(made).set_params(warm_start=True)
    client = Client()
    run = partial(skd.fit, X=in_blocks(X, 150, 90, 60), y=target, replicas=2, averages=1)
    whole = run(clone(made), client=client)
    rounds = [k for k, name in enumerate(client.calls, 1) if name == "submit added"]
    assert len(rounds) >= 3
    for place in rounds[1:4]:
        one = clone(made)
        with pytest.warns(UserWarning, match="training interrupted by user"):
            run(one, client=Client(fails=fails_at(place, KeyboardInterrupt)))
        assert_same_fit(run(one, client=Client()), whole)


@pytest.mark.parametrize("made, target", [
    (layer(max_iter=4, early_stopping=True), None),
    (stack(joint=True, joint_max_iter=2), None),
    (classifier(), PARTLY),
    (detector(max_iter=3), None),
    (imputer(max_iter=3), None),
], ids=lambda made: type(made).__name__)  # fmt: skip
def test_a_fit_whose_client_has_died_is_resumed_from_its_checkpoint(made, target, tmp_path):
    """Wherever it was, after the first epoch."""
    samples, path = in_blocks(X, 150, 90, 60), tmp_path / "fit.skops"
    client = Client()
    run = partial(skd.fit, X=samples, y=target, replicas=2, averages=1)
    whole = run(clone(made), client=client)
    rounds = np.flatnonzero(np.array(client.calls) == "submit run") + 1
    for place in rounds[4::7]:
        with Checkpoint(path), pytest.raises(SystemExit):
            run(clone(made), client=Client(fails=fails_at(place, SystemExit())))
        there = resume(path, samples, target, client=Client(), replicas=2, averages=1)
        assert_same_fit(there, whole)


def test_ctrl_c_while_it_waits_for_a_round_cancels_the_round():
    client = Client(fails=lambda n, name: KeyboardInterrupt if client.calls[-2:] == [
        "submit run", "gather"] else None)  # fmt: skip
    with pytest.warns(UserWarning, match="DenoisingAutoencoder: training interrupted by user"):
        made = fit(layer(), in_blocks(X), client=client)
    assert made.n_iter_ == 0 and len(client.cancelled) == 1


def test_ctrl_c_before_training_ends_the_call():
    new = layer()
    with pytest.raises(KeyboardInterrupt):
        skd.fit(new, in_blocks(X), client=Client(fails=fails_at(2, KeyboardInterrupt)))
    assert not hasattr(new, "n_features_in_")


# -- collections ---------------------------------------------------------------------------


def test_empty_blocks_make_no_difference():
    made = layer(shuffle=False)
    whole = fit(made, in_blocks(X))
    assert_same_fit(fit(made, in_blocks(X, 0, 300, 0)), whole)
    assert_same_fit(fit(made, frame(X, 0, 300, 0)), whole)
    assert fit(made, in_blocks(X, 0, 300, 0), replicas=3).n_iter_ == 2


def test_more_blocks_with_labels_than_without():
    """Blocks without a label have no part in fine-tuning."""
    partly = np.where(np.arange(300) < 120, y, -1)
    made = classifier(pretrain=False, shuffle=False)
    whole = clone(made).fit(X, partly)
    assert_same_fit(fit(made, in_blocks(X, 120, 80, 100), partly), whole)


MAKERS = {
    "columns in chunks": lambda X, *sizes: in_blocks(X, *sizes).rechunk({1: 7}),
    "unknown sizes": of_unknown_sizes,
    "sparse": sparse_blocks,
    "data frame": frame,
    "Fortran order": lambda X, *sizes: in_blocks(X, *sizes).map_blocks(np.asfortranarray),
}


@pytest.mark.parametrize("corruption", ["salt_and_pepper", "gaussian", "swap"])
@pytest.mark.parametrize("maker", MAKERS)
def test_the_kind_of_collection_makes_no_difference(maker, corruption):
    made = layer(corruption=corruption, early_stopping=True)
    sizes = 100, 50, 150
    whole = fit(made, in_blocks(X, *sizes), None, WEIGHTS, replicas=2)
    other = fit(made, MAKERS[maker](X, *sizes), None, WEIGHTS, replicas=2)
    assert_same_fit(other, whole)
    assert other.n_features_in_ == 64


@pytest.mark.parametrize("maker", MAKERS)
def test_a_classifier_on_each_kind_of_collection(maker):
    sizes = 100, 50, 150
    whole = fit(classifier(), in_blocks(X, *sizes), PARTLY, replicas=2)
    assert_same_fit(fit(classifier(), MAKERS[maker](X, *sizes), PARTLY, replicas=2), whole)


def test_names_of_features():
    named = frame(X, 100, 200)
    made = fit(layer(), named)
    assert made.feature_names_in_.tolist() == [f"pixel{k}" for k in range(64)]
    renamed = named.compute().rename(columns={"pixel3": "other"})
    with pytest.raises(ValueError, match="feature names should match"):
        made.transform(renamed)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        made.transform(X)
    clf = fit(classifier(), named, y)
    assert clf.feature_names_in_.tolist() == made.feature_names_in_.tolist()
    fitted = StackedAutoencoderClassifier(pretrain=FrozenEstimator(stack().fit(renamed)), **FEW)
    with pytest.raises(ValueError, match="feature names should match"):
        fit(fitted, named, y)
    assert not hasattr(fit(layer(), in_blocks(X)), "feature_names_in_")


def test_data_frames_with_nullable_dtypes():
    missing = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    nullable = frame(missing, 100, 200).astype("Float64")
    assert_same_fit(fit(layer(), nullable), fit(layer(), in_blocks(missing, 100, 200)))
    single = nullable.astype("Float32")
    here = layer().fit(single.compute())
    assert fit(layer(), single).components_.dtype == here.components_.dtype


def mixed(*parts):
    return da.concatenate([da.from_array(part, chunks=part.shape) for part in parts])


def of_own_dtypes(*parts):
    """Blocks of different dtypes, whatever the collection says."""
    return da.concatenate([
        da.from_delayed(dask.delayed(part), part.shape, np.float64) for part in parts
    ])  # fmt: skip


def test_dtypes():
    single = X.astype(np.float32)
    made = fit(stack(early_stopping=True), in_blocks(single, 100, 200), replicas=2)
    assert {array.dtype for array in weights_of(made)} == {np.dtype(np.float32)}
    for maker in (mixed, of_own_dtypes):
        both = fit(layer(), maker(single[:100], X[100:]))
        assert both.components_.dtype == np.float64
    single_after_all = fit(layer(), of_own_dtypes(single[:100], X[:0], single[100:]))
    assert single_after_all.components_.dtype == np.float32
    pixels = (X * 16).astype(np.uint8)
    few = layer(learning_rate_init=1e-4)
    for maker in (in_blocks, sparse_blocks):
        assert_same_fit(fit(few, maker(pixels, 100, 200)), fit(few, in_blocks(X * 16, 100, 200)))
    assert fit(layer(), in_blocks(X > 0.5)).components_.dtype == np.float64


def test_missing_values_are_taken_and_infinite_ones_are_not():
    missing = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    for corruption in ("gaussian", "salt_and_pepper", "swap"):
        made = layer(shuffle=False, corruption=corruption)
        assert_same_fit(fit(made, in_blocks(missing)), clone(made).fit(missing))
    missing[250, 3] = np.inf
    for maker in (in_blocks, sparse_blocks, frame):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            fit(layer(), maker(missing, 100, 200))


def as_series(values):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    return dd.from_pandas(pd.Series(values), npartitions=3)


@pytest.mark.parametrize("kind", [
    list, np.asarray, as_series, lambda values: da.from_array(values, chunks=70),
], ids=["list", "array", "Dask series", "Dask array"])  # fmt: skip
def test_kinds_of_y_and_of_weights(kind):
    given = in_blocks(X, 100, 200)
    whole = fit(classifier(pretrain=False), given, PARTLY, WEIGHTS)
    assert_same_fit(fit(classifier(pretrain=False), given, kind(PARTLY), kind(WEIGHTS)), whole)


def test_several_targets_in_dask_collections():
    given, labels = in_blocks(X, 100, 200), da.from_array(LABELS, chunks=(50, 1))
    whole = fit(classifier(pretrain=False), given, LABELS)
    assert_same_fit(fit(classifier(pretrain=False), given, labels), whole)
    assert_array_equal(whole.predict(X).shape, LABELS.shape)


def test_samples_of_weight_zero_are_left_out():
    """Here the zeros are spread over all blocks; the noise is none, for it goes by the place."""
    keep = WEIGHTS > 0
    made = layer(corruption=None, shuffle=False)
    sizes = [keep[start:stop].sum() for start, stop in ((0, 100), (100, 300))]
    assert_same_fit(
        fit(made, in_blocks(X, 100, 200), None, WEIGHTS),
        fit(made, in_blocks(X[keep], *sizes), None, WEIGHTS[keep]),
    )


@pytest.mark.parametrize("params", [
    {}, {"early_stopping": True}, {"learning_rate": "adaptive", "tol": 10.0},
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_second_fit_goes_on_with_warm_start(params):
    made = layer(warm_start=True, **params)
    given = in_blocks(X, 100, 200)
    whole = fit(clone(made).set_params(max_iter=4), given, replicas=2)
    twice = fit(made, given, replicas=2)
    skd.fit(twice, given, client=Client(), replicas=2)
    assert twice.n_iter_ == whole.n_iter_ == 4
    assert_same_fit(twice, whole)


def test_what_auto_stands_for(monkeypatch, epochs):
    monkeypatch.setattr(_training, "BATCHES", (1, 200))
    monkeypatch.setattr(_training, "N_SAMPLES_SEEN", 3000)
    monkeypatch.setattr(_training, "EPOCHS", (5, 1000))
    auto = stack(batch_size="auto", max_iter="auto").set_params(hidden_layer_sizes="auto")
    made = fit(auto, in_blocks(X, 100, 100, 100), replicas=3)
    here = clone(auto).fit(X)
    assert [one.n_iter_ for one in made.layers_] == [10, 10]
    assert made.transform(X).shape == here.transform(X).shape == (300, 64)
    assert [epoch.batch_size for epoch in epochs][:3] == [1, 1, 1]  # a hundredth for each replica
    assert epochs[-1].batch_size == 3


def test_verbose(capsys):
    fit(stack(verbose=True), in_blocks(X, 100, 200))
    lines = capsys.readouterr().out.splitlines()
    assert sum("layer 1 of 2] epoch" in line for line in lines) == 2
    fit(classifier(verbose=True), in_blocks(X, 100, 200), PARTLY)
    assert "100 of 300 samples are labelled" in capsys.readouterr().out


def test_the_most_held_out(monkeypatch):
    monkeypatch.setattr(skd.BlockDataset, "most_held_out", 7)
    splits = []

    def spy(*args, real=_training.split):
        splits.append(real(*args))
        return splits[-1]

    monkeypatch.setattr(_training, "split", spy)
    fit(layer(early_stopping=True, validation_fraction=0.5), in_blocks(X, 100, 200))
    assert {(len(training), len(held_out)) for training, held_out in splits} == {(293, 7)}


# -- the fitted estimator --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout", "joint", "partly labelled"])
def test_a_fitted_estimator_is_one_like_others(name):
    """It is pickled without a trace of Dask, cloned, and goes on in memory."""
    made, target, weights = FITS[name]
    made = fit(
        clone(made).set_params(warm_start=True), in_blocks(X, 100, 200), target, weights,
        replicas=2,
    )  # fmt: skip
    saved = pickle.dumps(made)
    assert b"dask" not in saved and b"Blocks" not in saved
    loaded = pickle.loads(saved)
    assert_array_equal(loaded.transform(X), made.transform(X))
    assert not hasattr(clone(made), "n_iter_")
    given = {} if weights is None else {"sample_weight": weights}
    n_epochs = made.n_iter_
    assert_same_fit(loaded.fit(X, target, **given), made.fit(X, target, **given))
    assert made.n_iter_ > n_epochs or name == "joint"
    if name != "joint":
        made.partial_fit(X[:50], *([] if target is None else [target[:50]]))


def test_callbacks():
    pytest.importorskip("sklearn.callback")  # scikit-learn 1.9
    from test_callbacks import Recorder

    recorder, given = Recorder(), in_blocks(X, 100, 200)
    made = skd.fit(layer(max_iter=3).set_callbacks(recorder), given, client=Client())
    assert recorder.names() == ["epoch"] * 3 + ["fit"]
    assert recorder.torn_down == 1 and not recorder.open
    assert all(seen is given for _, seen, *_ in recorder.calls)
    views = [shown.components_ for shown in recorder.fitted("epoch")]
    assert not np.array_equal(views[0], views[1])
    assert_array_equal(views[-1], made.components_)
    stopped = skd.fit(clone(made).set_callbacks(Recorder(stop="epoch")), given, client=Client())
    assert stopped.n_iter_ == 1
    recorder = Recorder()
    skd.fit(classifier().set_callbacks(recorder), given, PARTLY, client=Client())
    pretraining = (["epoch"] * 2 + ["layer"]) * 2 + ["fit"]
    assert recorder.names() == pretraining + ["epoch"] * 2 + ["fine-tune", "fit"]


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform", "score_samples",
                                    "reconstruct", "partial_fit"])  # fmt: skip
def test_methods_of_estimators_refuse_collections(method):
    made = layer().fit(X)
    with pytest.raises(TypeError, match=r"skae\.dask\.fit.*skae\.dask\.apply"):
        getattr(made, method)(in_blocks(X))


def test_inverse_transform_refuses_collections():
    with pytest.raises(TypeError, match=r"skae\.dask\.apply"):
        layer().fit(X).inverse_transform(da.ones((3, 12)))


def test_supervised_methods_refuse_collections():
    for made, target in ((classifier(), y), (regressor(), y)):
        with pytest.raises(TypeError, match=r"skae\.dask\.fit"):
            clone(made).fit(in_blocks(X), target)
        made = clone(made).fit(X, target)
        for collection in (in_blocks(X), frame(X)):
            with pytest.raises(TypeError, match=r"skae\.dask\.apply"):
                made.predict(collection)


@pytest.mark.parametrize("given", [X, X.tolist(), None], ids=lambda X: type(X).__name__)
def test_x_that_is_no_collection_is_refused(given):
    made = layer().fit(X)
    with pytest.raises(TypeError, match="X must be a Dask array or data frame, got"):
        fit(layer(), given)
    with pytest.raises(TypeError, match="X must be a Dask array or data frame, got"):
        skd.apply(made, given)


def test_a_delayed_value_is_refused():
    with pytest.raises(TypeError, match="X must be a Dask array or data frame, got Delayed"):
        fit(layer(), dask.delayed(X))


def test_a_bag_is_refused():
    bag = pytest.importorskip("dask.bag")
    with pytest.raises(TypeError, match="X must be a Dask array or data frame, got Bag"):
        fit(layer(), bag.from_sequence([1, 2]))


def test_a_file_that_is_missing_is_not_tried_again():
    client = Client(fails=fails_at(2, FileNotFoundError("part-7.npy")))
    with pytest.raises(FileNotFoundError, match=r"part-7\.npy"):
        fit(layer(), in_blocks(X), client=client)


def test_x_of_one_or_three_dimensions_is_refused():
    made = layer().fit(X)
    for collection in (da.ones(5), da.ones((5, 2, 2))):
        match = f"Expected 2D array, got {collection.ndim}D array instead"
        with pytest.raises(ValueError, match=match):
            fit(layer(), collection)
        with pytest.raises(ValueError, match=match):
            skd.apply(made, collection)
    with pytest.raises(TypeError, match="array or data frame, got Series"):
        fit(layer(), as_series(y))


@pytest.mark.parametrize("given, error, match", [
    ({"replicas": 0}, ValueError, "'replicas' parameter of skae.dask.fit must be an int"),
    ({"replicas": "2"}, ValueError, "'replicas' parameter"),
    ({"replicas": 1.0}, ValueError, "'replicas' parameter"),
    ({"averages": 0}, ValueError, "'averages' parameter"),
    ({"averages": 2.0}, ValueError, "'averages' parameter"),
    ({"replicas": 3}, ValueError, r"replicas=3, but X has 2 block\(s\)"),
], ids=str)  # fmt: skip
def test_parameters_are_checked(given, error, match):
    with pytest.raises(error, match=match):
        fit(layer(), in_blocks(X, 100, 200), **given)


@pytest.mark.parametrize("made", [
    LogisticRegression(), make_pipeline(MinMaxScaler(), layer()), DenoisingAutoencoder, None,
], ids=lambda made: type(made).__name__)  # fmt: skip
def test_other_estimators_are_refused(made):
    with pytest.raises(TypeError, match=r"skae\.dask\.fit takes estimators of skae, but got"):
        skd.fit(made, in_blocks(X), client=Client())


def test_no_client():
    with pytest.raises(ValueError, match=r"(?i)no.* clients? found"):
        skd.fit(layer(), in_blocks(X))


@pytest.mark.parametrize("made, target, weights, match", [
    (layer(), None, WEIGHTS[:299], r"sample_weight.shape == \(299,\), expected \(300,\)"),
    (layer(), None, -WEIGHTS, "Negative values in sample_weight"),
    (layer(), None, 0 * WEIGHTS, "sums to zero|at least one non-zero"),
    (layer(), None, np.where(WEIGHTS > 0, WEIGHTS, np.nan), "sample_weight contains NaN"),
    (classifier(), y[:299], None, "inconsistent numbers of samples"),
    (classifier(), None, None, "requires y to be passed"),
    (classifier(), np.full(300, -1), None, "no labelled samples"),
    (regressor(), y[1:], None, "inconsistent numbers of samples"),
    (classifier(n_warmup_epochs=2), y, None, "n_warmup_epochs=2 must be less than max_iter=2"),
    (layer(early_stopping=True, validation_fraction=0.999), None, None, "leaves none to train"),
    (layer(solver="sgd", learning_rate_init=1e200), None, None, "non-finite"),
    (classifier(solver="sgd", learning_rate_init=1e200, pretrain=False), y, None, "non-finite"),
], ids=str)  # fmt: skip
def test_what_a_fit_refuses_leaves_the_estimator_as_it_was(made, target, weights, match):
    made = clone(made)
    before = state_bytes(made)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match=match):
        skd.fit(made, in_blocks(X, 100, 200), target, weights, client=Client())
    assert state_bytes(made) == before


def test_cross_entropy_needs_the_unit_range_in_each_block():
    made = layer(loss="cross_entropy", activation="logistic")
    with pytest.raises(ValueError, match=r"its values range from 0 to 1\.5"):
        fit(made, in_blocks(np.vstack([X, [[1.5] * 64]]), 100, 200, 1))


def test_too_few_samples():
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2 is required by Denoising"):
        fit(layer(), in_blocks(X[:1], 0, 1))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        fit(layer(), in_blocks(X[:0], 0))


def test_blocks_of_different_widths_are_refused():
    parts = dask.delayed(X[:, :9]), dask.delayed(X[:, :8])
    given = da.concatenate([da.from_delayed(part, (300, 9), float) for part in parts])
    with pytest.raises(ValueError, match=r"different numbers of features: \[8, 9\]"):
        fit(layer(), given)


def test_a_collection_that_does_not_know_its_width():
    with pytest.raises(ValueError, match=r"different numbers of features: \[10, 64\]"):
        fit(layer(), in_blocks(X, 100, 200).map_blocks(lambda block: block[:, :10]))


def test_codes_are_computed_in_the_type_of_the_layer():
    codes = skd.Blocks(in_blocks(X), Client(), 1, 8).dataset().encoded(lambda data: data.X, 64)
    assert codes.astype(np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="computed in float64"):
        codes.astype(np.float32)


@pytest.mark.parametrize("name", ["dask", "distributed"])
def test_without_dask_the_import_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "skae.dask")
    match = r"skae\.dask needs Dask\. Install it with: pip install 'skae\[dask\]'"
    with pytest.raises(ImportError, match=match):
        importlib.import_module("skae.dask")


def test_skae_does_not_import_dask():
    code = "import sys, skae; assert 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- where tasks run -------------------------------------------------------------------------


@pytest.mark.parametrize("n_of_worker, n_at_once, expected", [(4, 1, 4), (4, 3, 1), (1, 2, 1)])
def test_the_tasks_of_a_worker_share_its_threads(n_of_worker, n_at_once, expected, monkeypatch):
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=n_of_worker))
    monkeypatch.setattr(skd, "get_worker", lambda: worker)
    assert N_THREADS(n_at_once) == expected


def test_replicas_are_spread_over_the_workers_and_stay_there():
    client = Client(2)
    cluster = skd.Cluster(client, 6, 3)
    homes = [cluster.home(block) for block in range(6)]
    assert homes == ["w0", "w1", "w0"] * 2
    assert cluster.n_at_once == 2
    client.n_workers = 5  # others have come
    assert [cluster.home(block) for block in range(6)] == homes
    client.n_workers = 1
    assert cluster.home(1) == "w0"
    client.n_workers = 0  # all have died: the scheduler waits for others
    assert cluster.n_at_once == 3


# -- apply ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    """One estimator of each kind, fitted in memory."""
    few, small = X[:, 20:30], dict(max_iter=2, random_state=0)
    with pytest.MonkeyPatch.context() as patch:
        hasten_imputers(patch)
        return {
            "layer": layer().fit(few),
            "stack": stack(code="all").fit(few),
            "classifier": classifier(pretrain=False).fit(few, y),
            "labels": classifier(pretrain=False).fit(few, LABELS),
            "names": classifier(pretrain=False).fit(few, np.array(list("abcdefghij"))[y]),
            "regressor": regressor(pretrain=False).fit(few, y),
            "detector": StackedAutoencoderDetector((6, 3), n_estimators=2, **small).fit(few),
            "imputer": StackedAutoencoderImputer((6, 3), n_estimators=2, **small).fit(few),
        }


METHODS = [
    *(("layer", method) for method in ("transform", "reconstruct", "score_samples")),
    *(("stack", method) for method in ("transform", "reconstruct", "score_samples")),
    *(("classifier", method) for method in (
        "transform", "predict", "predict_proba", "predict_log_proba", "decision_function")),
    ("labels", "predict"),
    ("names", "predict"),
    ("regressor", "predict"),
    *(("detector", method) for method in (
        "predict", "score_samples", "decision_function", "feature_scores")),
    ("imputer", "transform"),
]  # fmt: skip


@pytest.mark.parametrize("maker", ["dense", *MAKERS])
@pytest.mark.parametrize("name, method", METHODS)
def test_apply_is_the_method_on_each_block(name, method, maker, fitted):
    if maker == "sparse" and name == "imputer":
        pytest.skip("imputers take no sparse matrices")
    made, few = fitted[name], X[:, 20:30]
    expected = getattr(made, method)(few)
    make = {"dense": in_blocks, **MAKERS}[maker]
    with warnings.catch_warnings():  # those fitted without names, given names
        warnings.simplefilter("ignore", UserWarning)
        lazy = skd.apply(made, make(few, 100, 0, 150, 50), method)
        found = lazy.compute(scheduler="sync")
    assert type(found) is type(expected) is np.ndarray and found.shape == expected.shape
    assert found.dtype == expected.dtype == lazy.dtype
    assert lazy.ndim == expected.ndim and lazy.shape[1:] == expected.shape[1:]
    if expected.dtype.kind == "f":
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    else:
        assert_array_equal(found, expected)


@pytest.mark.parametrize("maker", [in_blocks, frame])
def test_apply_computes_nothing_before_it_is_asked_to(maker, fitted):
    calls = []

    def count(block):
        calls.append(len(block))
        return block

    given = maker(X[:, 20:30], 100, 200)
    if maker is frame:
        given = given.map_partitions(count, meta=given._meta)
    else:
        given = given.map_blocks(count, dtype=given.dtype, meta=np.empty((0, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lazy = skd.apply(fitted["layer"], given)
        assert calls == []
        lazy.compute(scheduler="sync")
    assert sorted(calls) == [100, 200]


def test_apply_keeps_float32():
    single = X.astype(np.float32)
    found = skd.apply(layer().fit(single), in_blocks(single, 100, 200))
    assert found.dtype == found.compute(scheduler="sync").dtype == np.float32


@pytest.mark.parametrize("maker", [in_blocks, frame, sparse_blocks])
def test_apply_gives_sparse_codes(maker):
    given, whole = maker(X, 100, 0, 200), maker(X).compute()
    made = fit(layer(activation="top_k", n_active=2, sparse_output=True), given)
    expected = made.transform(whole)
    lazy = skd.apply(made, given)
    found = lazy.compute(scheduler="sync")
    assert found.format == expected.format == "csr"
    assert lazy.dtype == found.dtype == expected.dtype
    assert found.nnz == expected.nnz > 300
    assert_allclose(found.toarray(), expected.toarray(), rtol=1e-9)
    dense = skd.apply(made, given, "reconstruct").compute(scheduler="sync")
    assert_allclose(dense, made.reconstruct(whole), rtol=1e-9)


def test_data_frames_from_data_frames():
    named = frame(X, 100, 0, 200)
    made = fit(layer(), named).set_output(transform="pandas")
    for method in ("transform", "reconstruct"):
        found = skd.apply(made, named, method)
        expected = getattr(made, method)(named.compute())
        assert list(found.columns) == list(expected.columns)
        found = found.compute(scheduler="sync")
        assert list(found.columns) == list(expected.columns)
        assert found.index.equals(expected.index)
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    scores = skd.apply(made, named, "score_samples").compute(scheduler="sync")
    assert_allclose(scores, made.score_samples(named.compute()))
    with pytest.raises(ValueError, match="feature names should match"):
        skd.apply(made, named.rename(columns={"pixel3": "other"}))


def test_an_array_gives_an_array_whatever_set_output_says():
    made = layer().fit(X)
    expected = made.transform(X)
    found = skd.apply(made.set_output(transform="pandas"), in_blocks(X, 100, 200))
    assert found.dtype == np.float64
    found = found.compute(scheduler="sync")
    assert found.dtype == np.float64
    assert_allclose(found, expected)


def test_apply_refuses_what_cannot_be_called():
    with pytest.raises(NotFittedError):
        skd.apply(layer(), in_blocks(X))
    made = layer().fit(X)
    for name in ("predict", "nothing", "n_components"):
        with pytest.raises(AttributeError, match=f"'DenoisingAutoencoder' object has no.*{name}"):
            skd.apply(made, in_blocks(X), name)
    with pytest.raises(ValueError, match="X has 9 features, but"):
        skd.apply(made, in_blocks(X[:, :9]))


def test_apply_does_not_fit():
    made = layer().fit(X)
    before = made.components_.copy()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        skd.apply(made, in_blocks(X), "partial_fit")
    assert_array_equal(made.components_, before)


def test_a_pipeline_is_applied_whole():
    made = make_pipeline(MinMaxScaler(), layer()).fit(X)
    found = skd.apply(made, in_blocks(X, 100, 200)).compute(scheduler="sync")
    assert_allclose(found, made.transform(X), rtol=1e-9)


# -- a cluster of processes ------------------------------------------------------------------


@contextmanager
def two_processes():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=None,
            worker_dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        yield client


@pytest.fixture(scope="module")
def client():
    with two_processes() as client:
        yield client


@pytest.fixture
def two_workers(client):
    """The cluster, with both workers alive."""
    client.wait_for_workers(2, timeout=SECONDS)
    return client


@pytest.fixture
def clean_after(two_workers):
    """The same; afterwards, nothing of the test may be left there."""
    yield two_workers
    assert n_left(two_workers) == 0


def n_left(client):
    """Number of tasks that the scheduler knows of, when it has had some time to forget them."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        gc.collect()
        n_tasks = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        if n_tasks == 0 and not client.futures:
            return 0
        time.sleep(0.05)
    return n_tasks


def kill(client, n_workers=1):
    """Kill workers; their nannies start others."""
    pids = client.run(os.getpid)
    for _, pid in sorted(pids.items())[:n_workers]:
        os.kill(pid, signal.SIGKILL)


def killing(monkeypatch, client, name, number, n_workers=1, after=0.0):
    """Kill workers at a call of a method of the client; return the list of its calls."""
    owner = {"wait": skd, "_gather": skd.Cluster}.get(name, client)
    calls, real = [], getattr(owner, name)

    def call(*args, **given):
        calls.append(name)
        result = real(*args, **given) if name == "wait" else None
        if len(calls) == number:
            if after:
                threading.Timer(after, kill, (client, n_workers)).start()
            else:
                kill(client, n_workers)
        return result if name == "wait" else real(*args, **given)

    monkeypatch.setattr(owner, name, call)
    return calls


ON_CLUSTER = {name: FITS[name] for name in ("swap", "stack", "strata", "imputer")}


@pytest.mark.parametrize("name", ON_CLUSTER)
def test_two_workers_give_the_bits_of_one(name, clean_after):
    made, target, weights = ON_CLUSTER[name]
    given = in_blocks(X, 0, 100, 50, 150)
    there = fit(made, given, target, weights, clean_after, replicas=2)
    assert_same_fit(there, fit(made, given, target, weights, replicas=2))


def test_replicas_are_added_in_groups_by_workers(clean_after, monkeypatch):
    monkeypatch.setattr(skd, "FAN_IN", 2)
    given = in_blocks(X, 100, 50, 50, 100)
    there = fit(layer(), given, client=clean_after, replicas=4)
    assert_same_fit(there, fit(layer(), given, replicas=4))


def test_the_current_client_and_a_replica_for_each_worker(clean_after):
    given = sparse_blocks(X, 100, 50, 150)
    there = skd.fit(layer(), given)
    assert_same_fit(there, fit(layer(), given, replicas=2))
    assert_same_fit(skd.fit(layer(), in_blocks(X)), fit(layer(), in_blocks(X)))
    found = skd.apply(there, given).compute()
    assert_array_equal(found, skd.apply(there, given).compute(scheduler="sync"))


def test_data_frames_on_a_cluster(clean_after):
    named = frame(X, 100, 200)
    there = fit(classifier(), named, as_series(PARTLY), client=clean_after)
    assert_same_fit(there, fit(classifier(), named, PARTLY, replicas=2))
    assert there.feature_names_in_[1] == "pixel1"


def test_an_error_in_a_worker(clean_after):
    with pytest.raises(ValueError, match="Input X contains infinity"):
        fit(layer(), in_blocks(np.where(X == 1, np.inf, X), 100, 200), client=clean_after)
    diverging = layer(solver="sgd", learning_rate_init=1e200)
    with pytest.raises(ValueError, match="non-finite"):
        fit(diverging, in_blocks(X, 100, 200), client=clean_after)


@pytest.fixture
def own_workers():
    """A cluster of their own for tests that kill workers.

    The nannies of distributed do not always start a worker anew that was killed while it started,
    and later tests would wait for it.
    """
    if sys.platform == "win32":
        pytest.skip("kills workers by a signal")
    with two_processes() as client:
        client.wait_for_workers(2, timeout=SECONDS)
        yield client


PLACES = {
    "before the blocks are there": ("compute", 1, 1, 0.0),
    "before a round": ("scatter", 2, 1, 0.0),
    "in a round": ("_gather", 6, 1, 0.0),
    "after a round": ("wait", 6, 1, 0.0),
    "at some time": ("scatter", 2, 1, 0.02),
    # Tasks that were to run in a worker that has died wait for it if there is no other at that
    # moment, whatever allow_other_workers says.
    "both": ("_gather", 6, 2, 0.0),
    "both after a round": ("wait", 6, 2, 0.0),
    "both before the blocks are there": ("_gather", 1, 2, 0.0),
}


@pytest.mark.parametrize("name, number, n_workers, after", PLACES.values(), ids=PLACES)
def test_a_worker_that_is_killed_costs_nothing_but_time(
    name, number, n_workers, after, own_workers, monkeypatch
):
    made, given = layer(max_iter=4, corruption="swap"), in_blocks(X, 100, 50, 150)
    whole = fit(made, given, None, WEIGHTS, replicas=2)
    calls = killing(monkeypatch, own_workers, name, number, n_workers, after)
    before = set(own_workers.run(os.getpid).values())
    there = fit(made, given, None, WEIGHTS, own_workers, replicas=2)
    assert len(calls) >= number
    own_workers.wait_for_workers(1, timeout=SECONDS)
    assert not before <= {*own_workers.run(os.getpid).values()} or after
    assert_same_fit(there, whole)


def test_a_worker_is_killed_in_the_fit_of_a_stack(own_workers, monkeypatch):
    made, target, weights = FITS["strata"]
    given = in_blocks(X, 100, 50, 150)
    killing(monkeypatch, own_workers, "scatter", 4)
    there = fit(made, given, target, weights, own_workers, replicas=2)
    assert_same_fit(there, fit(made, given, target, weights, replicas=2))


def test_nothing_is_left_after_a_worker_was_killed(own_workers, monkeypatch):
    killing(monkeypatch, own_workers, "_gather", 6)
    fit(layer(max_iter=4), in_blocks(X, 100, 200), client=own_workers, replicas=2)
    assert n_left(own_workers) == 0
