"""The epoch loop: schedules, order of the rows, held-out rows, stopping, interruption."""

import _thread
import copy
import pickle
import signal
import threading
import tracemalloc
import warnings
from functools import partial

import common
import numpy as np
import pytest
import scipy.sparse as sp
from common import (
    Curve,
    Options,
    assert_close_fit,
    assert_same_fit,
    interrupt,
    make_solver,
    noise_key,
    random_stream,
    same_fit,
    split,
    state_of,
    train_classifier,
    uniform,
    weights_of,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
    _training,
)

pytestmark = pytest.mark.usefixtures("one_thread")


X = uniform(50, 6)

denoising = partial(
    common.denoising, n_components=4, activation="tanh", max_iter=5, batch_size=8,
    tied_weights=True,
)  # fmt: skip


def rates(epochs):
    return [epoch.learning_rate for epoch in epochs]


# -- schedules and the end ------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_constant_learning_rate(epochs, solver):
    denoising(solver=solver, learning_rate_init=0.02).fit(X)
    assert rates(epochs) == [0.02] * 5


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_cosine_learning_rate_falls_over_the_fit(epochs, solver):
    estimator = denoising(solver=solver, learning_rate="cosine", warm_start=True, max_iter=4)
    estimator.fit(X)
    expected = 0.01 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert_allclose(rates(epochs), expected)
    epochs.clear()
    estimator.fit(X)  # each fit has a schedule of its own
    assert_allclose(rates(epochs), expected)


@pytest.mark.parametrize("options", [{"tol": 1e6}, {"tol": 1e6, "early_stopping": True}])
def test_adaptive_learning_rate_is_divided_by_five_until_it_is_nothing(epochs, options):
    estimator = denoising(
        learning_rate="adaptive", n_iter_no_change=2, max_iter=1000, learning_rate_init=0.001,
        **options,
    ).fit(X)  # fmt: skip
    # The first epoch is an improvement on none at all.
    expected = [0.001] + [0.001 / 5**k for k in range(6) for _ in range(2)]
    assert_allclose(rates(epochs), expected)
    assert estimator.n_iter_ == len(expected)
    assert expected[-1] <= 1e-6 < expected[-3]


def test_adaptive_learning_rate_stays_while_the_loss_falls(epochs):
    estimator = denoising(learning_rate="adaptive", n_iter_no_change=1, corruption=None,
                          solver="sgd", momentum=0.0, batch_size=50).fit(X)  # fmt: skip
    assert np.all(np.diff(estimator.loss_curve_) < 0)
    assert rates(epochs) == [0.01] * 5


@pytest.mark.parametrize("n_iter_no_change", [1, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_tol_stops(n_iter_no_change, early_stopping):
    estimator = denoising(
        tol=1e6, n_iter_no_change=n_iter_no_change, early_stopping=early_stopping, max_iter=50
    ).fit(X)
    assert estimator.n_iter_ == 1 + n_iter_no_change
    assert len(estimator.loss_curve_) == estimator.n_iter_


@pytest.mark.parametrize("tol", [0.0, 1e-9])
def test_a_loss_that_falls_is_not_stopped(tol):
    estimator = denoising(tol=tol, n_iter_no_change=1, corruption=None, solver="sgd",
                          momentum=0.0, batch_size=50)  # fmt: skip
    with pytest.warns(ConvergenceWarning, match=r"DenoisingAutoencoder: maximum iterations \(5\)"):
        estimator.fit(X)
    assert estimator.n_iter_ == 5


def test_no_tol_runs_all_epochs():
    estimator = denoising(learning_rate_init=1e-30, n_iter_no_change=1, max_iter=20).fit(X)
    assert estimator.n_iter_ == 20


def test_the_count_of_stale_epochs_starts_afresh_with_each_fit():
    estimator = denoising(tol=1e6, n_iter_no_change=3, warm_start=True, max_iter=50).fit(X)
    assert estimator.fit(X).n_iter_ == 4 + 4


# -- order of the rows -------------------------------------------------------------------


def test_each_epoch_sees_each_row_once_in_an_order_of_its_own(epochs):
    denoising().fit(X)
    assert len(epochs) == 5
    for epoch in epochs:
        assert_array_equal(np.sort(epoch.order), np.arange(50))
    assert len({epoch.order.tobytes() for epoch in epochs}) == 5
    assert len({epoch.key for epoch in epochs}) == 5  # noise of its own, too
    # Made once a fit: what all epochs keep alive cannot be at the same address by chance.
    assert len({epoch.workspace.ctypes.data for epoch in epochs}) == 1


def test_no_shuffling(epochs):
    denoising(shuffle=False).fit(X)
    for epoch in epochs:
        assert_array_equal(epoch.order, np.arange(50))
    assert len({epoch.key for epoch in epochs}) == 5


@pytest.mark.parametrize("n_rows", [1, 3, 4, 12, 32, 60, 61])
def test_an_order_by_blocks_reads_a_few_stretches_at_a_time(n_rows, monkeypatch):
    """Three blocks of four consecutive rows are shuffled together, and then the next three."""
    monkeypatch.setattr(_training, "BLOCK", 4)
    monkeypatch.setattr(_training, "BLOCKS_TOGETHER", 3)
    index = 10 + 2 * np.arange(n_rows)  # the rows that are trained on need not be all
    order = _training.epoch_order(index, "blocks", 5, 2)
    assert_array_equal(np.sort(order), index)
    assert_array_equal(_training.epoch_order(index, "blocks", 5, 2), order)
    if n_rows % 4 == 0:
        for start in range(0, n_rows, 12):
            together = order[start : start + 12]
            numbers = np.unique((together - 10) // 2 // 4)
            assert len(numbers) == len(together) // 4
            expected = [index[4 * number : 4 * number + 4] for number in numbers]
            assert_array_equal(np.sort(together), np.concatenate(expected))


def test_orders_by_blocks_differ_between_epochs_seeds_and_parts():
    index = np.arange(1000)
    places = [(0, 0), (0, 1), (1, 0), (0, 0, 1), (0, 0, 2)]
    orders = [_training.epoch_order(index, "blocks", *place) for place in places]
    assert len({order.tobytes() for order in orders}) == len(orders)
    n_near = sum(np.abs(np.diff(order)) == 1 for order in orders).sum()
    assert n_near < 50  # rows of a group are shuffled, not its blocks alone


def test_shuffling_by_blocks(epochs, monkeypatch):
    monkeypatch.setattr(_training, "BLOCK", 4)
    monkeypatch.setattr(_training, "BLOCKS_TOGETHER", 2)
    made = denoising(shuffle="blocks").fit(X)
    for epoch in epochs:
        assert_array_equal(np.sort(epoch.order), np.arange(50))
    assert len({epoch.order.tobytes() for epoch in epochs}) == 5
    assert_same_fit(made, denoising(shuffle="blocks").fit(X))
    for other in (True, False):
        assert not same_fit(made, denoising(shuffle=other).fit(X))


def test_other_kinds_of_shuffling_are_refused():
    with pytest.raises(ValueError, match=r"'shuffle' parameter.*'blocks'.*Got 'rows'"):
        denoising(shuffle="rows").fit(X)


def test_continued_fits_go_on_with_the_orders_and_noises(epochs):
    denoising(max_iter=6).fit(X)
    whole = [(epoch.order.tobytes(), epoch.key, epoch.step) for epoch in epochs]
    epochs.clear()
    estimator = denoising(max_iter=2, warm_start=True).fit(X).partial_fit(X)
    estimator.set_params(max_iter=3).fit(X)
    assert [(epoch.order.tobytes(), epoch.key, epoch.step) for epoch in epochs] == whole


@pytest.mark.parametrize(
    "batch_size, n_rows, expected",
    [("auto", 15, 15), ("auto", 50, 20), ("auto", 4200, 42), (7, 50, 7), (99, 50, 50)],
)
def test_batch_size(epochs, batch_size, n_rows, expected):
    rows = np.resize(X, (n_rows, 6))
    denoising(batch_size=batch_size, max_iter=2).fit(rows)
    assert [epoch.batch_size for epoch in epochs] == [expected] * 2
    assert epochs[1].step == -(-n_rows // expected)


@pytest.mark.parametrize("n_rows, n_epochs", [(10, 1000), (60, 667), (7999, 6), (20_000, 5)])
def test_number_of_epochs(n_rows, n_epochs):
    """With 'auto', until 40,000 samples have been seen, but for the bounds."""
    rows = np.resize(X, (n_rows, 6))
    dae = denoising(max_iter="auto", batch_size="auto", learning_rate_init=1e-6)
    assert dae.fit(rows).n_iter_ == n_epochs
    assert dae.partial_fit(rows).n_iter_ == n_epochs + 1


def test_number_of_epochs_of_each_training():
    """Layers and joint training go by all samples, fine-tuning by those with a label."""
    stack = StackedAutoencoder(
        (3, 2), max_iter=["auto", 2], joint=True, joint_max_iter="auto", random_state=0
    ).fit(np.resize(X, (500, 6)))
    assert [layer.n_iter_ for layer in stack.layers_] == [80, 2]
    assert len(stack.loss_curve_) == 80
    y = np.resize([0, 1, -1, -1, -1], 500)
    clf = StackedAutoencoderClassifier(
        3, pretrain=StackedAutoencoder(3, max_iter=1), max_iter="auto", random_state=0
    ).fit(np.resize(X, (500, 6)), y)
    assert (clf.n_labelled_, clf.n_iter_) == (200, 200)
    clf.set_params(n_warmup_epochs=200)
    with pytest.raises(ValueError, match="n_warmup_epochs=200 must be less than max_iter=200"):
        clf.fit(np.resize(X, (500, 6)), y)


def test_held_out_rows_are_never_trained_on(epochs):
    weights = np.ones(50)
    weights[::7] = 0
    for sample_weight in (None, weights):
        epochs.clear()
        estimator = denoising(early_stopping=True, validation_fraction=0.3)
        estimator.fit(X, sample_weight=sample_weight)
        used = 50 if sample_weight is None else np.count_nonzero(weights)
        training, validation = split(estimator, X, sample_weight=sample_weight)
        assert len(validation) == np.ceil(0.3 * used)
        assert_array_equal(
            np.sort(np.r_[training, validation]),
            np.arange(50) if sample_weight is None else np.flatnonzero(weights),
        )
        for epoch in epochs:
            assert_array_equal(np.sort(epoch.order), training)


def test_the_held_out_rows_stay_held_out_when_a_fit_continues(epochs):
    estimator = denoising(early_stopping=True, warm_start=True).fit(X).fit(X)
    assert len(epochs) == 10
    assert len({np.sort(epoch.order).tobytes() for epoch in epochs}) == 1
    estimator.set_params(random_state=1, warm_start=False).fit(X)
    assert len({np.sort(epoch.order).tobytes() for epoch in epochs}) == 2


def test_rows_of_weight_zero_are_not_seen(epochs):
    weights = np.tile([0.0, 1.0], 25)
    denoising().fit(X, sample_weight=weights)
    for epoch in epochs:
        assert_array_equal(np.sort(epoch.order), np.arange(1, 50, 2))


@pytest.mark.parametrize(
    "params, kind, n_buffers",
    [
        ({"solver": "sgd", "momentum": 0.0}, "plain_sgd", 1),
        ({"solver": "sgd", "momentum": 0.5}, "momentum", 2),
        ({"solver": "adam"}, "adam", 3),
    ],
)
def test_each_solver_keeps_what_it_needs(epochs, params, kind, n_buffers):
    denoising(**params).fit(X)
    assert {(epoch.solver, epoch.n_buffers) for epoch in epochs} == {(kind, n_buffers)}


def test_the_solver_may_change_between_fits_that_continue():
    estimator = denoising(warm_start=True, corruption=None).fit(X)
    before = estimator.score(X)
    for params in ({"solver": "sgd"}, {"momentum": 0.0}, {"solver": "adam"}):
        estimator.set_params(**params).fit(X)
        assert estimator.score(X) > before
        before = estimator.score(X)


# -- early stopping ------------------------------------------------------------------------


def overfitting(**params):
    """Many units, few rows, no noise: the held-out loss falls, then rises."""
    options = dict(
        n_components=40, corruption=None, max_iter=60, early_stopping=True,
        validation_fraction=0.5, learning_rate_init=0.02, n_iter_no_change=5, tied_weights=False,
    )  # fmt: skip
    return denoising(**{**options, **params})


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_early_stopping_restores_the_best_weights(solver, dtype, weighted):
    rows = np.random.default_rng(2).normal(size=(30, 6)).astype(dtype)
    weights = np.linspace(0.1, 2, 30) if weighted else None
    estimator = overfitting(solver=solver).fit(rows, sample_weight=weights)
    curve = estimator.validation_loss_curve_
    best = int(np.argmin(curve))
    assert 0 < best < len(curve) - 1, "the test needs a best epoch in the middle"
    assert len(curve) == estimator.n_iter_ == best + 1 + 5
    assert estimator.best_loss_ == curve[best]
    _, held_out = split(estimator, rows, sample_weight=weights)
    losses = -estimator.score_samples(rows[held_out])
    found = np.average(losses, weights=None if weights is None else weights[held_out])
    assert_allclose(found, curve[best], rtol=1e-5 if dtype == np.float32 else 1e-12)
    # A fit that ends with that epoch comes to the same weights.
    short = overfitting(solver=solver, max_iter=best + 1).fit(rows, sample_weight=weights)
    assert_array_equal(short.components_, estimator.components_)
    assert_array_equal(short.intercept_visible_, estimator.intercept_visible_)


def test_a_continued_fit_that_finds_nothing_better_keeps_the_best_weights():
    rows = np.random.default_rng(2).normal(size=(30, 6))
    estimator = overfitting(warm_start=True).fit(rows)
    before, best = estimator.components_.copy(), estimator.best_loss_
    estimator.set_params(learning_rate_init=1.0, max_iter=3).fit(rows)
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_
    assert min(estimator.validation_loss_curve_[-3:]) > best
    assert_array_equal(estimator.components_, before)
    assert estimator.best_loss_ == best


def test_validation_curve_only_with_early_stopping():
    estimator = denoising().fit(X)
    assert not hasattr(estimator, "validation_loss_curve_")
    assert not hasattr(estimator, "best_loss_")
    assert estimator.loss_ == estimator.loss_curve_[-1]


# -- the loss curve ---------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_loss_curve_is_the_mean_cost_of_the_batches(alpha, weighted):
    """With a step too small to move anything, that is the loss of the initial network."""
    weights = np.linspace(0, 1, 50) if weighted else None
    estimator = denoising(alpha=alpha, corruption=None, learning_rate_init=1e-300, max_iter=1)
    estimator.fit(X, sample_weight=weights)
    expected = np.average(-estimator.score_samples(X), weights=weights)
    expected += alpha / 2 * np.sum(estimator.components_**2)
    assert_allclose(estimator.loss_, expected, rtol=1e-12)


def test_noise_raises_the_training_loss_but_not_the_validation_loss():
    quiet, noisy = (
        denoising(corruption="gaussian", corruption_level=level, learning_rate_init=1e-300,
                  max_iter=1, early_stopping=True).fit(X)
        for level in (0.0, 3.0)
    )  # fmt: skip
    assert noisy.loss_ > quiet.loss_ + 1
    assert noisy.validation_loss_curve_ == quiet.validation_loss_curve_


# -- weights of the samples, in all estimators -------------------------------------------------


WEIGHTS = np.random.default_rng(3).uniform(0.1, 3, size=50)
CODES = (X[:, 0] > 0.4).astype(int) + (X[:, 1] > 0.6)
VALUES = 15 * X[:, 0] - 10 * X[:, 1] ** 2
PLAIN = {
    **common.SMALL, "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05, "alpha": 0.0,
    "shuffle": False, "max_iter": 1,
}  # fmt: skip
UNSUPERVISED = {**PLAIN, "activation": "identity", "corruption": None}
WEIGHTED = {
    "layer": DenoisingAutoencoder(4, **UNSUPERVISED),
    "stack": StackedAutoencoder((4, 3), **UNSUPERVISED),
    "joint": StackedAutoencoder((4, 3), joint=True, joint_max_iter=1, **UNSUPERVISED),
    "classifier": StackedAutoencoderClassifier((4, 3), pretrain=False, **PLAIN),
    "regressor": StackedAutoencoderRegressor((4, 3), pretrain=False, **PLAIN),
}
each = pytest.mark.parametrize("name", WEIGHTED)
streams = pytest.mark.parametrize("name", [name for name in WEIGHTED if name != "joint"])


def weighted(name, weights, rows=slice(None), **params):
    """Fit to some of the rows, with these weights."""
    y = VALUES if name == "regressor" else CODES
    estimator = clone(WEIGHTED[name]).set_params(**params)
    return estimator.fit(X[rows], y[rows], sample_weight=weights)


def stream(name, weights, size, n_rows=50, **params):
    """Fit to chunks of so many rows, one after the other, with these weights."""
    y = VALUES if name == "regressor" else CODES
    estimator = clone(WEIGHTED[name]).set_params(**params)
    classes = {"classes": np.arange(3)} if name == "classifier" else {}
    for start in range(0, n_rows, size):
        part = slice(start, start + size)
        given = None if weights is None else weights[part]
        estimator.partial_fit(X[part], y[part], sample_weight=given, **classes)
    return estimator


@pytest.mark.parametrize(
    "params",
    [{"batch_size": 1}, {"batch_size": 7, "max_iter": 3, "solver": "adam", "shuffle": True},
     {"batch_size": 7, "max_iter": 3, "early_stopping": True}],
    ids=["single samples", "adam", "early stopping"],
)  # fmt: skip
@each
def test_only_the_ratios_of_weights_matter(name, params):
    """To the last bit if the factor is a power of two."""
    found = weighted(name, WEIGHTS, **params)
    for factor in (2.0**-30, 1024.0):
        assert_same_fit(found, weighted(name, factor * WEIGHTS, **params))
    assert_close_fit(found, weighted(name, 1e6 / 3 * WEIGHTS, **params), rtol=1e-7)
    assert_close_fit(weighted(name, None, **params), weighted(name, np.full(50, 0.7), **params))
    assert not same_fit(found, weighted(name, None, **params))


@pytest.mark.parametrize("size", [1, 7])
@streams
def test_only_the_ratios_of_weights_matter_in_a_stream(name, size):
    n_rows = 6 * size
    found = stream(name, WEIGHTS, size, n_rows)
    assert_same_fit(found, stream(name, 1024 * WEIGHTS, size, n_rows))
    assert_close_fit(found, stream(name, 1e6 / 3 * WEIGHTS, size, n_rows), rtol=1e-7)
    even = stream(name, np.full(50, 0.7), size, n_rows)
    assert_close_fit(stream(name, None, size, n_rows), even)


@each
def test_a_weight_of_two_is_a_row_seen_twice(name):
    """With all rows in one mini-batch."""
    params = {"batch_size": 1000, "max_iter": 5, "joint_max_iter": 5}
    params = {key: params[key] for key in params if hasattr(WEIGHTED[name], key)}
    weights = np.random.default_rng(0).integers(0, 4, size=50)
    twice = weighted(name, None, np.repeat(np.arange(50), weights), **params)
    assert_close_fit(weighted(name, weights, **params), twice)


@pytest.mark.parametrize("factor", [0.1, 10.0])
@each
def test_a_weight_counts_in_a_batch_of_its_own(name, factor):
    weights = np.where(np.arange(50) == 40, factor, 1.0)
    even, other = (weighted(name, w, batch_size=1) for w in (np.ones(50), weights))
    assert_close_fit(even, weighted(name, None, batch_size=1))
    moved = [np.abs(a - b).max() for a, b in zip(weights_of(even), weights_of(other), strict=True)]
    assert max(moved) > 1e-4


@pytest.mark.parametrize("size", [1, 5])
@streams
def test_a_weight_counts_in_a_stream(name, size):
    weights = np.where(np.arange(50) // size == 3, 10.0, 1.0)
    even, other = (stream(name, w, size, 6 * size) for w in (None, weights))
    moved = [np.abs(a - b).max() for a, b in zip(weights_of(even), weights_of(other), strict=True)]
    assert max(moved) > 1e-4


@pytest.mark.parametrize("first", ["weighted", "plain"])
@streams
def test_rows_of_a_stream_without_weights_have_a_weight_of_one(name, first):
    one, other = clone(WEIGHTED[name]), clone(WEIGHTED[name])
    y = VALUES if name == "regressor" else CODES
    classes = {"classes": np.arange(3)} if name == "classifier" else {}
    for start in range(0, 50, 10):
        part = slice(start, start + 10)
        has_weights = (start // 10) % 2 == (first == "plain")
        ones = np.ones(10)
        weights = [WEIGHTS[part]] * 2 if has_weights else [None, ones]
        for estimator, given in zip((one, other), weights):
            estimator.partial_fit(X[part], y[part], sample_weight=given, **classes)
    assert_close_fit(one, other)
    assert not same_fit(one, stream(name, None, 10))


def batches_of(size):
    return [np.arange(start, min(start + size, 50)) for start in range(0, 50, size)]


def linear_autoencoder_by_hand(estimator, steps):
    """Go down the gradient of ``sum(share * squared error)``; return codes' and outputs' W, b."""
    W, V, b, c = (array.copy() for array in weights_of(estimator))
    for rows, share in steps:
        codes = X[rows] @ W.T + b
        d_output = 2 * share[:, None] * (codes @ V + c - X[rows])
        d_codes = d_output @ V.T
        V, c = V - 0.05 * codes.T @ d_output, c - 0.05 * d_output.sum(axis=0)
        W, b = W - 0.05 * d_codes.T @ X[rows], b - 0.05 * d_codes.sum(axis=0)
    return [W, V, b, c]


def top_by_hand(codes, targets, steps):
    """The same for an output layer that begins at zero: softmax and log loss, or squared error."""
    W, b = np.zeros((codes.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
    for rows, share in steps:
        output = codes[rows] @ W + b
        if targets.shape[1] > 1:
            slope = special.softmax(output, axis=1) - targets[rows]
        else:
            slope = 2 * (output - targets[rows])
        slope *= share[:, None]
        W, b = W - 0.05 * codes[rows].T @ slope, b - 0.05 * slope.sum(axis=0)
    return W, b


def shares(size):
    """What the weight of each sample in a mini-batch comes to, in a fit."""
    return [(rows, WEIGHTS[rows] / (len(rows) * WEIGHTS.mean())) for rows in batches_of(size)]


def shares_in_stream(size):
    """The same if each mini-batch is a partial fit: the mean is that of all up to this one."""
    means = [WEIGHTS[: rows[-1] + 1].mean() for rows in batches_of(size)]
    return [(rows, WEIGHTS[rows] / (len(rows) * m)) for rows, m in zip(batches_of(size), means)]


sizes = pytest.mark.parametrize("size", [1, 7, 50])


@sizes
@pytest.mark.parametrize("name", ["layer", "stack", "joint"])
def test_a_step_by_hand(name, size):
    """Of the mean cost of the mini-batch, each sample by its weight relative to the mean one."""
    initial = weighted("layer", WEIGHTS, learning_rate_init=1e-300)
    found = {
        "layer": lambda: weighted("layer", WEIGHTS, batch_size=size),
        "stack": lambda: weighted(
            "stack", WEIGHTS, batch_size=size, hidden_layer_sizes=(4,)
        ).layers_[0],
        "joint": lambda: weighted(
            "joint", WEIGHTS, batch_size=size, hidden_layer_sizes=(4,),
            learning_rate_init=1e-300, joint_learning_rate_init=0.05,
        ).layers_[0],
    }[name]()  # fmt: skip
    if name != "layer":  # which draws another seed
        initial = weighted(
            "stack", WEIGHTS, hidden_layer_sizes=(4,), learning_rate_init=1e-300
        ).layers_[0]
    expected = linear_autoencoder_by_hand(initial, shares(size))
    for mine, by_hand, before in zip(
        weights_of(found), expected, weights_of(initial), strict=True
    ):
        assert_allclose(mine, by_hand, rtol=1e-10, atol=1e-12)
        assert np.abs(mine - before).max() > 1e-3


@sizes
def test_a_step_of_a_stream_by_hand(size):
    initial = weighted("layer", WEIGHTS, learning_rate_init=1e-300)
    found = stream("layer", WEIGHTS, size, batch_size=50)
    expected = linear_autoencoder_by_hand(initial, shares_in_stream(size))
    for mine, by_hand in zip(weights_of(found), expected, strict=True):
        assert_allclose(mine, by_hand, rtol=1e-10, atol=1e-12)


@sizes
@pytest.mark.parametrize("name", ["classifier", "classifier in a stream", "regressor"])
def test_a_step_of_the_output_layer_by_hand(name, size):
    """The regressor's targets are standardised, by the power of two next to their deviation."""
    params = {"fine_tune": "top", "batch_size": size}
    steps = shares(size)
    if name == "regressor":
        found = weighted(name, WEIGHTS, **params)
        mean = np.average(VALUES, weights=WEIGHTS)
        deviation = np.sqrt(np.average((VALUES - mean) ** 2, weights=WEIGHTS))
        scale = 2.0 ** np.round(np.log2(deviation))
        assert scale != 1
        targets = (VALUES[:, None] - mean) / scale
    else:
        mean, scale, targets = 0.0, 1.0, np.eye(3)[CODES]
        if name == "classifier":
            found = weighted(name, WEIGHTS, **params)
        else:
            found, steps = stream("classifier", WEIGHTS, size, **params), shares_in_stream(size)
    W, b = top_by_hand(found.transform(X), targets, steps)
    assert_allclose(found.coefs_[-1], W * scale, rtol=1e-9, atol=1e-12)
    assert_allclose(found.intercepts_[-1], b * scale + mean, rtol=1e-9, atol=1e-12)
    assert np.abs(W).max() > 1e-3


# -- pieces ------------------------------------------------------------------------------------


def test_random_streams_are_independent_and_repeatable():
    draws = {
        key: random_stream(*key).integers(2**62)
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1)]
    }
    assert len(set(draws.values())) == len(draws)
    for key, value in draws.items():
        assert random_stream(*key).integers(2**62) == value


def test_noise_keys_differ_by_seed_and_epoch():
    keys = {(seed, epoch): noise_key(seed, epoch) for seed in range(9) for epoch in range(9)}
    assert len(set(keys.values())) == 81
    assert all(0 <= key < 2**64 for key in keys.values())
    assert max(keys.values()) >= 2**63  # all 64 bits are used, and accepted
    assert keys[3, 4] == noise_key(3, 4)


def test_train_leaves_the_given_state_alone():
    state = run(max_iter=5, warm_start=True)
    before = copy.deepcopy(state)
    after = run(max_iter=2, state=state, warm_start=True)
    assert_array_equal(state.buffers, before.buffers)
    assert list(state.loss_curve) == list(before.loss_curve)
    assert state.step == before.step
    assert after.step == before.step + 2 * 7
    assert len(after.loss_curve) == 7
    assert not np.array_equal(after.params, before.params)


@pytest.mark.parametrize(
    "params, allowed",
    [({}, True), ({"early_stopping": True}, False), ({"learning_rate": "cosine"}, False),
     ({"learning_rate": "adaptive"}, True)],
)  # fmt: skip
def test_partial_fit_says_what_it_does_not_support(params, allowed):
    estimator = denoising(**params)
    assert hasattr(estimator, "partial_fit") == allowed
    if not allowed:
        ((name, value),) = params.items()
        with pytest.raises(AttributeError) as error:
            estimator.partial_fit(X)
        assert f"partial_fit does not support {name}={value!r}" in str(error.value.__cause__)


def test_another_solver_keeps_the_parameters_only():
    """Its moments and its step count start afresh; those of the first fit stay as they were."""
    first = denoising(solver="adam", warm_start=True).fit(X)
    before = state_of(first).buffers.copy()
    second = copy.deepcopy(first)
    second.set_params(solver="sgd", max_iter=1, learning_rate_init=1e-300)
    second.fit(X)
    assert_array_equal(second.components_, first.components_)
    state = state_of(second)
    assert state.buffers.shape == (2, before.shape[1])
    assert_allclose(state.buffers[1], 0, atol=1e-290)
    assert state.step == -(-len(X) // 8)
    assert_array_equal(state_of(first).buffers, before)


# -- what only the supervised estimators ask for --------------------------------------------


def classes(n_rows=50):
    """A target for the rows of X that can be learned, and the class of each."""
    codes = (X[:n_rows, 0] > 0.4).astype(int) + (X[:n_rows, 1] > 0.7)
    return np.eye(3)[codes], codes


def run(**options):
    """Train a small classifier on the rows of X with these options."""
    target, codes = classes()
    return train_classifier(X, target, strata=codes, **options)


def test_options_of_an_estimator():
    """Its parameters; neutral values for those it has not; others on request."""
    estimator = denoising(alpha=0.5)
    options = Options.of(estimator, 60, max_iter=77)
    for name, value in estimator.get_params().items():
        if hasattr(options, name):
            assert getattr(options, name) == (77 if name == "max_iter" else value)
    assert (options.max_norm, options.n_warmup_epochs, options.n_averaged_epochs) == (None, 0, 0)
    supervised = StackedAutoencoderClassifier(max_norm=2.0, n_warmup_epochs=3, n_averaged_epochs=4)
    options = Options.of(supervised, 60)
    assert (options.max_norm, options.n_warmup_epochs, options.n_averaged_epochs) == (2.0, 3, 4)
    assert make_solver(options).max_norm == 2.0
    assert make_solver(Options.of(estimator, 60)).max_norm == 0.0


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_learning_rate_warms_up(epochs, solver):
    run(solver=solver, n_warmup_epochs=3, max_iter=6, learning_rate_init=0.02)
    assert_allclose(rates(epochs), [0.005, 0.01, 0.015, 0.02, 0.02, 0.02])


def test_the_cosine_begins_after_the_warm_up(epochs):
    run(n_warmup_epochs=2, max_iter=6, learning_rate="cosine", learning_rate_init=0.03)
    falling = 0.03 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert_allclose(rates(epochs), [0.01, 0.02, *falling])


@pytest.mark.parametrize("n_averaged_epochs", [1, 3, 5, 8])
def test_weights_are_the_mean_of_the_last_epochs(n_averaged_epochs):
    """More epochs than there are means all of them."""
    ends = [run(max_iter=k).params for k in range(1, 6)]
    found = run(max_iter=5, n_averaged_epochs=n_averaged_epochs)
    assert_allclose(
        found.params, np.mean(ends[-n_averaged_epochs:], axis=0), rtol=1e-12, atol=1e-15
    )
    assert list(found.loss_curve) == list(run(max_iter=5).loss_curve)


def test_a_mean_is_taken_of_what_there_is_when_training_is_interrupted(monkeypatch):
    ends = [run(max_iter=k).params for k in range(1, 4)]
    interrupt(monkeypatch, 4)
    with pytest.warns(UserWarning, match="interrupted"):
        found = run(max_iter=5, n_averaged_epochs=4)
    assert_allclose(found.params, np.mean(ends[1:], axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("best", [0, 2, 4])
def test_early_stopping_goes_by_the_score_if_there_is_one(best):
    """Whatever the loss does: here the score is a script."""
    script, seen = np.zeros(5), []
    script[best] = 1.0

    def score(targets, outputs, weights):
        assert weights is None
        seen.append((targets.copy(), outputs.copy()))
        return script[len(seen) - 1]

    found = run(early_stopping=True, score=score)
    assert list(found.validation_scores) == script.tolist()
    assert len(found.validation_loss_curve) == 5
    assert found.best_loss == -1.0
    short = run(early_stopping=True, max_iter=best + 1)
    assert_array_equal(found.params, short.params if best == 0 else end_of(best + 1))
    # The score has the outputs of the held-out rows.
    assert len(seen) == 5
    for targets, outputs in seen:
        assert outputs.shape == targets.shape
        assert_allclose(outputs.sum(axis=1), 1)
        assert_array_equal(targets, seen[0][0])
    losses = [-np.mean(np.log(outputs[targets == 1])) for targets, outputs in seen]
    assert_allclose(list(found.validation_loss_curve), losses, rtol=1e-12)


def end_of(n_epochs):
    """Parameters after so many epochs on the rows that early stopping trains on."""
    rising = iter(range(n_epochs))
    return run(early_stopping=True, max_iter=n_epochs, score=lambda *_: next(rising)).params


def test_no_score_is_asked_for_without_held_out_rows():
    found = run(score=lambda *_: pytest.fail("there is nothing to score"))
    assert list(found.validation_scores) == []


@pytest.mark.parametrize("fraction, n_held_out", [(0.01, 3), (0.2, 10), (0.5, 25)])
def test_the_held_out_part_has_the_proportions_of_the_strata(fraction, n_held_out):
    estimator = denoising(early_stopping=True, validation_fraction=fraction)
    codes = np.sort(classes()[1])
    weights = np.ones(50)
    weights[::10] = 0.0
    for sample_weight in (None, weights):
        used = np.arange(50) if sample_weight is None else np.flatnonzero(weights)
        for seed in range(3):
            training, validation = split(
                estimator, X, seed, sample_weight=sample_weight, strata=codes
            )
            assert_array_equal(np.sort(np.r_[training, validation]), used)
            if sample_weight is None:
                assert len(validation) == n_held_out
            counts = np.bincount(codes[validation], minlength=3)
            shares = np.bincount(codes[used]) * len(validation) / len(used)
            assert np.abs(counts - shares).max() < 1


# -- long streams ------------------------------------------------------------------------------

STREAMS = {
    "layer": (denoising, {}),
    "stack": (common.stacked, {}),
    "classifier": (StackedAutoencoderClassifier, {"classes": [0, 1, 2]}),
    "regressor": (StackedAutoencoderRegressor, {}),
}


def stream_of(name, n_epochs):
    """Return a call of `partial_fit`, and its estimator, fitted for so many epochs."""
    make, more = STREAMS[name]
    estimator, y = make(random_state=0), classes()[1]
    if "hidden_layer_sizes" in estimator.get_params():
        estimator.set_params(hidden_layer_sizes=(4, 3))
    if "pretrain" in estimator.get_params():
        estimator.set_params(pretrain=False)

    def go_on():
        estimator.partial_fit(X, y, **more)

    go_on()
    for one in getattr(estimator, "layers_", [estimator]):
        curve = state_of(one).loss_curve
        state_of(one).loss_curve = type(curve)(np.linspace(9, 1, n_epochs).tolist())
    return go_on, estimator


def peak_of(call):
    """Return the bytes that a call takes beyond those held before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", STREAMS)
def test_a_call_of_a_long_stream_takes_no_more_memory_than_one_of_a_short_stream(name):
    peaks = []
    for n_epochs in (10, 20_000):
        go_on, estimator = stream_of(name, n_epochs)
        go_on()  # the list that is given to the state has no room
        peaks.append(min(peak_of(go_on) for _ in range(3)))
        for one in getattr(estimator, "layers_", [estimator]):
            if hasattr(one, "loss_curve_"):
                assert one.n_iter_ == len(one.loss_curve_) == n_epochs + 4
                assert one.loss_curve_[:n_epochs] == np.linspace(9, 1, n_epochs).tolist()
                assert one.loss_ == one.loss_curve_[-1]
    short, long = peaks
    assert long < short + 20_000  # bytes; a copy takes 160,000


@pytest.mark.parametrize("name", STREAMS)
def test_copies_of_a_stream_go_on_apart(name):
    go_on, estimator = stream_of(name, 3)
    shallow, deep = copy.copy(estimator), copy.deepcopy(estimator)

    def curves(estimator):
        return [one.loss_curve_ for one in getattr(estimator, "layers_", [estimator])]

    before = curves(estimator)
    go_on()
    go_on()
    after = curves(estimator)
    assert [len(curve) for curve in after] == [5] * len(after)
    assert curves(shallow) == curves(deep) == before
    y, more = classes()[1], STREAMS[name][1]
    for twin in (shallow, deep):
        twin.partial_fit(X[:20], y[:20], **more)
        assert [curve[:3] for curve in curves(twin)] == before
        assert [len(curve) for curve in curves(twin)] == [4] * len(after)
        assert curves(twin) != [curve[:4] for curve in after]
    assert curves(estimator) == after
    assert curves(shallow) == curves(deep)


def test_a_curve_is_a_list_whose_copies_share_what_they_have_in_common():
    curve = Curve([3.0, 2.0])
    one, other = copy.copy(curve), copy.copy(curve)
    one.append(1.0)
    other.append(0.5)
    one.append(0.0)
    assert (list(curve), list(one), list(other)) == ([3, 2], [3, 2, 1, 0], [3, 2, 0.5])
    assert (len(curve), len(one), len(other)) == (2, 4, 3)
    assert (curve[-1], one[-1], one[-4], other[2]) == (2, 0, 3, 0.5)
    for place in (2, -3):
        with pytest.raises(IndexError):
            curve[place]
    assert not Curve() and bool(curve)
    assert list(pickle.loads(pickle.dumps(curve))) == [3, 2]  # and nothing of the others
    assert pickle.dumps(curve) == pickle.dumps(Curve([3.0, 2.0]))


# -- Ctrl-C ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_fit_is_usable(monkeypatch, epoch, early_stopping, when):
    estimator = denoising(early_stopping=early_stopping, warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, epoch, when=when)
        with pytest.warns(UserWarning, match="DenoisingAutoencoder: training interrupted by user"):
            assert estimator.fit(X) is estimator
    assert estimator.n_iter_ == len(estimator.loss_curve_) == epoch - 1
    assert np.isfinite(estimator.transform(X)).all()
    assert np.isfinite(estimator.score(X))
    # What is there is what the finished epochs, and no others, came to.
    if epoch > 1 and when == "before" and not early_stopping:
        short = denoising(max_iter=epoch - 1).fit(X)
        assert_array_equal(estimator.components_, short.components_)
    estimator.fit(X)
    assert estimator.n_iter_ == 5  # the missing epochs


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_fit_continues_where_it_was_interrupted(monkeypatch, solver):
    estimator = denoising(warm_start=True, solver=solver)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.warns(UserWarning, match="interrupted"):
            estimator.fit(X)
    assert_same_fit(estimator.fit(X), denoising(solver=solver).fit(X))


def test_the_step_count_survives_an_interruption_within_an_epoch(monkeypatch):
    """Adam's moments must not go with a count that is behind: its correction would be wrong."""
    estimator = denoising()
    with monkeypatch.context() as patch:
        interrupt(patch, 1, when="after")
        with pytest.warns(UserWarning, match="interrupted"):
            estimator.fit(X)
    assert state_of(estimator).step == 7


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [False, True])
def test_ctrl_c_is_seen_within_an_epoch(epochs, sparse):
    n_rows = 100_003
    rows = np.random.default_rng(0).uniform(size=(n_rows, 60)).astype(np.float32)
    given = sp.csr_array(rows) if sparse else rows
    estimator = denoising(n_components=60, batch_size=1, max_iter=20)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, _thread.interrupt_main)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            timer.start()
            try:
                estimator.fit(given)
            except KeyboardInterrupt:
                pytest.fail("Ctrl-C went through the fit")
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, handler)
    assert ["interrupted by user" in str(warning.message) for warning in caught] == [True]
    assert estimator.n_iter_ < 20
    assert np.isfinite(estimator.score(rows[:100]))
    if not sparse:
        [steps_done] = [epoch.steps_done for epoch in epochs if epoch.interrupted]
        assert steps_done % n_rows != 0
