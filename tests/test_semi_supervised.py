"""Unlabelled samples in fine-tuning: smooth predictions, and labels along a graph of neighbours.

The kernel's part is tested in test_smooth_kernel.py. Private names of skae are those of the order
of a mixture and of the propagation of labels, and of what these are replaced in.
"""

import pickle
import warnings
from functools import partial

import common
import numpy as np
import pytest
import scipy.sparse as sp
from common import (
    assert_close_fit,
    assert_same_fit,
    interrupt,
    refuses,
    same_fit,
    state_of,
    uniform,
    weights_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from skae import (
    Checkpoint,
    StackedAutoencoderClassifier,
    _classifier,
    _propagation,
    _threads,
    _training,
    resume,
)
from skae._propagation import (
    ALPHA,
    N_NEIGHBORS,
    N_ROUNDS,
    SHARPNESS,
    class_shares,
    propagate,
)
from skae._training import LABELLED_SHARE, Mixture

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    **common.SMALL, "hidden_layer_sizes": (7, 5), "activation": "tanh", "pretrain": False,
    "max_iter": 8,
}  # fmt: skip


def classifier(**params):
    return StackedAutoencoderClassifier(**{**SMALL, **params})


X = uniform()
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
HIDDEN = np.arange(60) % 3 > 0  # two thirds of the samples
PARTLY = np.where(HIDDEN, -1, CODES)
BINARY = np.where(HIDDEN, -1, (CODES > 0).astype(int))
NAMES = np.where(HIDDEN, None, np.array(["pear", "apple", "fig"])[CODES])
LABELS = np.where(HIDDEN[:, np.newaxis], -1, X[:, :2] > 0.5)

WAYS = {
    "smooth": {"smoothness_radius": 0.5},
    "propagated": {"propagate_labels": True},
    "both": {"smoothness_radius": 0.5, "propagate_labels": True},
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
shuffles = pytest.mark.parametrize("shuffle", [False, True])


# -- the order of a mixture ----------------------------------------------------------------


@st.composite
def mixtures(draw, **fixed):
    """A mixture, and the number of samples that its positions are of."""
    n_labelled, n_unlabelled = draw(st.integers(1, 40)), draw(st.integers(1, 90))
    n_samples = n_labelled + n_unlabelled + draw(st.integers(0, 5))
    positions = np.random.default_rng(draw(st.integers(0, 99))).permutation(n_samples)
    parts = np.split(positions, [n_labelled, n_labelled + n_unlabelled])[:2]
    return Mixture(*map(np.sort, parts), draw(st.integers(1, 30))), n_samples


def cut(mixture, samples):
    """The mini-batches of an epoch: their labelled samples, and the others."""
    batches = np.split(samples, np.arange(mixture.batch_size, len(samples), mixture.batch_size))
    return zip(*[np.split(batch, [mixture.n_labelled]) for batch in batches])


orders = partial(given, mixtures(), st.booleans(), st.integers(0, 9), st.integers(0, 9))
few = settings(max_examples=60, deadline=None)


@few
@orders()
def test_each_mini_batch_has_labelled_samples_first_and_unlabelled_ones_then(
    made, shuffle, seed, epoch
):
    mixture, n_samples = made
    samples, _ = mixture.order(shuffle, seed, epoch, n_samples)
    labelled, others = cut(mixture, samples)
    assert len(labelled) == mixture.n_batches
    assert {len(part) for part in labelled} == {mixture.n_labelled}
    assert_array_equal(np.unique(np.concatenate(labelled)), mixture.labelled)
    assert_array_equal(np.unique(np.concatenate(others)), mixture.unlabelled)
    assert {len(part) for part in others[:-1]} <= {mixture.n_others}
    assert 0 < len(others[-1]) <= mixture.n_others


@few
@orders()
def test_each_repetition_of_a_sample_has_noise_of_its_own(made, shuffle, seed, epoch):
    mixture, n_samples = made
    samples, ids = mixture.order(shuffle, seed, epoch, n_samples)
    assert len(samples) == len(ids) == mixture.n_rows
    assert len(np.unique(ids)) == len(ids)
    assert_array_equal(ids % n_samples, samples)
    assert ids.min() >= 0


@few
@given(mixtures())
def test_samples_of_a_kind_are_drawn_as_often_as_each_other(made):
    """Once, unless there are too few of their kind."""
    mixture, n_samples = made
    samples, _ = mixture.order(True, 0, 0, n_samples)
    counts = np.bincount(samples, minlength=n_samples)
    kinds = [counts[part] for part in (mixture.labelled, mixture.unlabelled)]
    for of_kind in kinds:
        assert of_kind.max() - of_kind.min() <= 1
    full = [mixture.n_batches * n for n in (mixture.n_labelled, mixture.n_others)]
    assert kinds[0].sum() == full[0] and kinds[1].sum() <= full[1]
    if len(mixture.unlabelled) <= full[1] - mixture.n_others:  # not enough for all mini-batches
        assert kinds[1].sum() == full[1]
    else:
        assert np.all(kinds[1] == 1)


@settings(max_examples=300, deadline=None)
@orders()
def test_each_sample_is_in_each_epoch(made, shuffle, seed, epoch):
    mixture, n_samples = made
    samples, _ = mixture.order(shuffle, seed, epoch, n_samples)
    assert_array_equal(np.unique(samples), np.union1d(mixture.labelled, mixture.unlabelled))


@few
@given(mixtures(), st.integers(0, 9))
def test_samples_that_are_not_shuffled_keep_their_order(made, seed):
    mixture, n_samples = made
    samples, ids = mixture.order(False, seed, 0, n_samples)
    labelled, others = map(np.concatenate, cut(mixture, samples))
    assert_array_equal(others, np.resize(mixture.unlabelled, len(others)))
    assert_array_equal(labelled, np.resize(mixture.labelled, len(labelled)))
    for found, expected in zip((samples, ids), mixture.order(False, seed + 1, 7, n_samples)):
        assert_array_equal(found, expected)


def test_each_epoch_has_an_order_of_its_own():
    mixture = Mixture(np.arange(0, 60, 3), np.flatnonzero(HIDDEN), 16)
    found = {
        (seed, epoch): [part.tobytes() for part in mixture.order(True, seed, epoch, 60)]
        for seed in range(3)
        for epoch in range(3)
    }
    for part in range(2):
        assert len({parts[part] for parts in found.values()}) == 9
    for (seed, epoch), parts in found.items():
        assert [part.tobytes() for part in mixture.order(True, seed, epoch, 60)] == parts


@pytest.mark.parametrize("n_labelled, n_unlabelled, batch_size, in_batch", [
    (20, 40, 16, 6), (3, 90, 16, 3), (20, 980, 14, 4), (500, 500, 20, 10), (1, 1, 1, 1),
    (5, 500, 100, 5),
])  # fmt: skip
def test_a_mini_batch_has_at_least_two_sevenths_of_labelled_samples(
    n_labelled, n_unlabelled, batch_size, in_batch
):
    """As far as there are so many."""
    samples = np.arange(n_labelled + n_unlabelled)
    mixture = Mixture(samples[:n_labelled], samples[n_labelled:], batch_size)
    assert mixture.n_labelled == in_batch
    assert mixture.batch_size == max(batch_size, in_batch + 1)
    part, whole = LABELLED_SHARE
    least = batch_size * part / whole
    assert (in_batch >= least) == (n_labelled >= least)


@few
@given(mixtures())
def test_a_mini_batch_has_no_sample_twice(made):
    mixture, _ = made
    assert 1 <= mixture.n_labelled <= len(mixture.labelled)
    assert 1 <= mixture.n_others <= len(mixture.unlabelled)


# -- learning ------------------------------------------------------------------------------


DIGITS, NUMBERS = load_digits(return_X_y=True)
DIGITS = DIGITS / 16


def accuracy(seed, y, n_labelled=40, n_samples=600, **params):
    """Accuracy of the unlabelled ones of some digits."""
    index = np.random.default_rng(seed).permutation(len(y))[:n_samples]
    given, y = DIGITS[index], y[index]
    partly = np.where(np.arange(n_samples) < n_labelled, y, -1)
    estimator = StackedAutoencoderClassifier(
        (64,), pretrain=False, random_state=seed, batch_size=50, **params
    ).fit(given, partly)
    return estimator.score(given[n_labelled:], y[n_labelled:])


@each_way
@pytest.mark.parametrize("kind", ["several classes", "two classes"])
def test_unlabelled_samples_help(kind, way):
    """Better than with as many epochs, and more steps, on the labelled samples alone."""
    y = NUMBERS if kind == "several classes" else (NUMBERS >= 5).astype(int)
    way = {**way, "smoothness_radius": 0.8} if "smoothness_radius" in way else way
    alone = [accuracy(seed, y, max_iter=400) for seed in range(3)]
    found = [accuracy(seed, y, max_iter=60, **way) for seed in range(3)]
    assert np.mean(found) > np.mean(alone) + 0.03


@each_way
@pytest.mark.parametrize("y", [PARTLY, BINARY, NAMES, np.where(HIDDEN, np.nan, CODES)],
                         ids=["classes", "binary", "names", "nan"])  # fmt: skip
def test_every_kind_of_class(y, way):
    estimator = classifier(**way).fit(X, y)
    assert np.isfinite(estimator.loss_curve_).all()
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 8
    assert estimator.n_labelled_ == 20
    assert set(estimator.predict(X)) <= set(y[~HIDDEN])
    assert not same_fit(estimator, classifier().fit(X, y))
    codes = np.searchsorted(estimator.classes_, y[~HIDDEN].astype(estimator.classes_.dtype))
    as_codes = np.full(60, -1)
    as_codes[~HIDDEN] = codes
    assert_same_fit(estimator, classifier(**way).fit(X, as_codes))


@pytest.mark.parametrize("way", ["propagated", "both"])
def test_the_classes_minus_one_and_one(way):
    """Unlabelled samples are nan then."""
    y = np.where(HIDDEN, np.nan, np.where(BINARY == 1, 1, -1))
    estimator = classifier(**WAYS[way]).fit(X, y)
    assert_array_equal(estimator.classes_, [-1, 1])
    assert_same_fit(estimator, classifier(**WAYS[way]).fit(X, BINARY))


# -- the same fit --------------------------------------------------------------------------


@shuffles
@each_way
def test_the_seed_decides(way, shuffle):
    one, again, other = (
        classifier(**way, shuffle=shuffle, random_state=seed).fit(X, PARTLY) for seed in (0, 0, 1)
    )
    assert_same_fit(one, again)
    assert not same_fit(one, other)
    assert not same_fit(one, classifier(**way, shuffle=not shuffle).fit(X, PARTLY))


@pytest.mark.parametrize("params", [
    {"label_smoothing": 0.2}, {"dropout": 0.3}, {"input_dropout": 0.3}, {"max_norm": 0.5},
    {"adversarial_radius": 0.1}, {"alpha": 0.1}, {"solver": "sgd"}, {"learning_rate": "cosine"},
    {"n_averaged_epochs": 3}, {"n_warmup_epochs": 2}, {"learning_rate_factors": [0, 1, 2]},
    {"fine_tune": "top_then_all"}, {"activation": "relu"}, {"batch_size": 1},
    {"early_stopping": True, "validation_fraction": 0.3},
], ids=str)  # fmt: skip
@each_way
def test_other_parameters_go_with_them(way, params):
    one, again = (classifier(**way, **params).fit(X, PARTLY) for _ in range(2))
    assert_same_fit(one, again)
    assert np.isfinite(one.loss_curve_).all()
    assert not same_fit(one, classifier(**way).fit(X, PARTLY))
    assert not same_fit(one, classifier(**params).fit(X, PARTLY))


def test_each_parameter_has_an_effect_beside_the_other():
    fits = [classifier(**way).fit(X, PARTLY) for way in WAYS.values()]
    fits.append(classifier(smoothness_radius=0.6).fit(X, PARTLY))
    for k, one in enumerate(fits):
        assert not any(same_fit(one, other) for other in fits[k + 1 :])


def backwards(array):
    """The same array, with strides below zero."""
    return np.flip(np.flip(array).copy())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("store", [np.asfortranarray, backwards, common.unaligned, sp.csr_array,
                                   sp.csc_matrix])  # fmt: skip
@each_way
def test_what_the_samples_are_stored_in_does_not_matter(way, store, dtype):
    """Not to a bit: all fit into memory."""
    rows = (DIGITS[:90] > 0.4).astype(dtype) * DIGITS[:90].astype(dtype)
    y = np.where(np.arange(90) < 40, NUMBERS[:90], -1)
    one, other = (classifier(**way).fit(given, y) for given in (rows, store(rows)))
    assert {array.dtype for array in weights_of(other)} == {np.dtype(dtype)}
    assert_same_fit(one, other)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("way", ["propagated", "both"])
def test_sparse_samples_that_do_not_fit_into_memory(way, dtype, monkeypatch):
    """Their principal components are found in another way, and rounded otherwise."""
    calls = record_propagated(monkeypatch)
    rows = DIGITS[:90].astype(dtype)
    y = np.where(np.arange(90) < 40, NUMBERS[:90], -1)
    fits = []
    stored = sp.csr_array(rows)
    for memory, samples in [(0.02, rows), (1.0, stored), (0.02, stored)]:
        with config_context(working_memory=memory):
            fits.append(classifier(**WAYS[way]).fit(samples, y))
    assert [sp.issparse(call[0]) for call in calls] == [False, False, True]
    assert_same_fit(fits[0], fits[1])
    rtol = 1e-2
    assert_close_fit(fits[0], fits[2], rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("n_features", [2, 9])
def test_sparse_samples_of_few_features(n_features):
    rows = X[:, :n_features].copy()
    one, other = (
        classifier(propagate_labels=True).fit(given, PARTLY)
        for given in (rows, sp.csr_array(rows))
    )
    assert_same_fit(one, other)


@pytest.mark.threads
@pytest.mark.skipif(_threads.cpu_count() < 2, reason="needs two cores")
@each_way
def test_two_threads_give_the_same_fit(way, monkeypatch):
    monkeypatch.setattr(_threads, "WORTH_THREADS", 1)
    teams, fits = [], []

    def spy(*args, real=_training._sgd.train):
        teams[-1].add(args[2].n_threads)
        return real(*args)

    monkeypatch.setattr(_training._sgd, "train", spy)
    for n_threads in (1, 2):
        teams.append(set())
        with threadpool_limits(n_threads):
            fits.append(classifier(**way, hidden_layer_sizes=(40,)).fit(X, PARTLY))
    assert teams == [{1}, {2}]
    assert_close_fit(*fits, rtol=1e-7, atol=1e-9)


@each_way
def test_copies_are_fits_of_their_own(way):
    estimator = classifier(**way, warm_start=True).fit(X, PARTLY)
    loaded = pickle.loads(pickle.dumps(estimator))
    assert_same_fit(loaded, estimator)
    assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    assert_same_fit(loaded.fit(X, PARTLY), estimator.fit(X, PARTLY))
    assert estimator.n_iter_ == 16
    new = clone(estimator)
    assert {name: new.get_params()[name] for name in way} == way
    assert_same_fit(new.fit(X, PARTLY), classifier(**way, warm_start=True).fit(X, PARTLY))


# -- which samples, and what they weigh ------------------------------------------------------


@shuffles
@pytest.mark.parametrize("left_out", [[4], [3], [3, 4, 5, 59], np.flatnonzero(HIDDEN)[::2],
                                      np.flatnonzero(HIDDEN)], ids=str)  # fmt: skip
@each_way
def test_samples_of_weight_zero_are_left_out(way, left_out, shuffle):
    """To the last bit: they do not even have a number."""
    weights, kept = np.linspace(0.5, 2, 60), np.ones(60, dtype=bool)
    weights[left_out], kept[left_out] = 0.0, False
    options = {**way, "shuffle": shuffle, "input_dropout": 0.1}
    fitted = classifier(**options).fit(X, PARTLY, weights)
    assert_same_fit(fitted, classifier(**options).fit(X[kept], PARTLY[kept], weights[kept]))
    assert not same_fit(fitted, classifier(**options).fit(X, PARTLY, np.linspace(0.5, 2, 60)))


@shuffles
@each_way
def test_weights_of_zero_and_one_are_no_weights(way, shuffle):
    kept = np.arange(60) % 7 > 0
    options = {**way, "shuffle": shuffle}
    fitted = classifier(**options).fit(X, PARTLY, kept.astype(float))
    assert_same_fit(fitted, classifier(**options).fit(X[kept], PARTLY[kept]))


@pytest.mark.parametrize("factor", [2.0**1014, 2.0**-900, 4, 3.7])
@each_way
def test_only_the_ratios_of_weights_matter(way, factor):
    weights = np.linspace(0.5, 2, 60)
    one, other = (classifier(**way).fit(X, PARTLY, given) for given in (weights, factor * weights))
    assert_close_fit(one, other)
    if factor != 3.7:
        assert_same_fit(one, other)


@each_way
def test_weights_of_unlabelled_samples_count(way):
    """How they compare to those of labelled samples does only for propagated labels."""
    light = classifier(**way).fit(X, PARTLY, np.where(HIDDEN, 0.125, 1.0))
    assert same_fit(light, classifier(**way).fit(X, PARTLY)) == ("propagate_labels" not in way)
    early = classifier(**way).fit(X, PARTLY, np.where(np.arange(60) == 1, 9.0, 1.0))
    assert not same_fit(early, classifier(**way).fit(X, PARTLY))


def test_weights_of_unlabelled_samples_do_not_count_without():
    """Those of the labelled ones alone do."""
    weights = np.where(HIDDEN, 0.1, 1.0)
    assert_same_fit(classifier().fit(X, PARTLY, weights), classifier().fit(X, PARTLY))


PLANE = X[:, :2].copy()  # what decides on the classes, so that all of them are propagated


def weights_by_class(way, by_class):
    """Those of the labelled samples, and of those that are given a label by propagation."""
    codes = PARTLY
    if "propagate_labels" in way:
        codes = propagate(PLANE, PARTLY, 3, 0)[0]
        assert set(codes[HIDDEN]) == {0, 1, 2}
    return np.array([by_class.get(code, 1.0) for code in codes])


@pytest.mark.parametrize("class_weight", [{0: 2.0, 1: 5.0, 2: 3.0}, "balanced"], ids=str)
@pytest.mark.parametrize("name", ["smooth", "propagated"])
def test_class_weights_are_weights_of_the_samples_of_a_class(name, class_weight):
    way, by_class = WAYS[name], class_weight
    if class_weight == "balanced":
        by_class = dict(enumerate(20 / (3 * np.bincount(CODES[~HIDDEN]))))
    fitted = classifier(**way, class_weight=class_weight).fit(PLANE, PARTLY)
    weights = weights_by_class(way, by_class)
    assert_same_fit(fitted, classifier(**way).fit(PLANE, PARTLY, weights))
    assert not same_fit(fitted, classifier(**way).fit(PLANE, PARTLY))


@pytest.mark.parametrize("name", ["smooth", "propagated"])
def test_class_weights_and_weights(name):
    way, weights, by_class = WAYS[name], np.linspace(0.5, 2, 60), {0: 2.0, 1: 5.0, 2: 3.0}
    product = weights * weights_by_class(way, by_class)
    fitted = classifier(**way, class_weight=by_class).fit(PLANE, PARTLY, weights)
    assert_close_fit(fitted, classifier(**way).fit(PLANE, PARTLY, product))


@each_way
def test_a_class_of_weight_zero_is_left_out(way):
    """No sample is given its label, either."""
    weights, by_class = np.linspace(0.5, 2, 60), {0: 2.0, 1: 0.0, 2: 2.0}
    fitted = classifier(**way, class_weight=by_class).fit(PLANE, PARTLY, weights)
    weights[PARTLY == 1] = 0.0
    assert_same_fit(fitted, classifier(**way).fit(PLANE, PARTLY, weights))
    assert_array_equal(fitted.classes_, [0, 1, 2])


@pytest.mark.parametrize("way", ["propagated", "both"])
def test_balanced_classes_of_which_one_weighs_nothing(way):
    """As without propagated labels."""
    options = {"class_weight": "balanced"}
    weights = np.where(PARTLY == 1, 0.0, 1.0)
    classifier(**options).fit(PLANE, PARTLY, weights)
    fitted = classifier(**WAYS[way], **options).fit(PLANE, PARTLY, weights)
    assert np.isfinite(fitted.loss_curve_).all()


@each_way
def test_class_weights_that_are_equal_change_nothing(way):
    plain = classifier(**way).fit(PLANE, PARTLY)
    for weight, compare in [(8.0, assert_same_fit), (0.3, assert_close_fit)]:
        equal = dict.fromkeys(range(3), weight)
        compare(classifier(**way, class_weight=equal).fit(PLANE, PARTLY), plain)


def test_samples_that_are_all_labelled():
    """Their predictions can be smooth, but there is nothing to propagate."""
    plain = classifier().fit(X, CODES)
    smooth = classifier(smoothness_radius=0.5).fit(X, CODES)
    assert not same_fit(smooth, plain)
    assert_same_fit(classifier(propagate_labels=True).fit(X, CODES), plain)
    assert_same_fit(classifier(**WAYS["both"]).fit(X, CODES), smooth)


@each_way
def test_unlabelled_samples_that_all_weigh_nothing(way):
    weights = np.where(HIDDEN, 0.0, 1.0)
    smooth = {"smoothness_radius": way.get("smoothness_radius", 0.0)}
    expected = classifier(**smooth).fit(X[~HIDDEN], PARTLY[~HIDDEN])
    assert_same_fit(classifier(**way).fit(X, PARTLY, weights), expected)


@pytest.mark.parametrize("n_labelled, n_unlabelled", [(1, 1), (2, 1), (1, 2), (2, 40), (50, 1)])
@each_way
def test_few_samples(way, n_labelled, n_unlabelled):
    """Fewer than neighbours in the graph, too."""
    n_samples = n_labelled + n_unlabelled
    y = np.where(np.arange(n_samples) < n_labelled, np.arange(n_samples) % 2, -1)
    estimator = classifier(warm_start=True).partial_fit(X[:n_samples], y, classes=[0, 1])
    estimator.set_params(**way).fit(X[:n_samples], y)
    assert estimator.n_iter_ == 1 + 8
    assert np.isfinite(estimator.loss_curve_).all()
    assert np.isfinite(estimator.predict_proba(X)).all()


def test_one_unlabelled_sample_does_not_make_epochs_short(epochs):
    y = np.where(np.arange(60) == 7, -1, CODES)
    classifier(smoothness_radius=0.5, max_iter=1).fit(X, y)
    assert len(epochs[0].order) >= 60


@pytest.mark.parametrize("batch_size", [10**12, 10**30])
def test_a_mini_batch_may_be_larger_than_the_data(batch_size):
    """As without a smoothness_radius."""
    fits = [
        classifier(smoothness_radius=0.5, batch_size=size).fit(X, PARTLY)
        for size in (1000, batch_size)
    ]
    assert_same_fit(*fits)


def test_numbers_that_are_chosen_go_by_all_samples(monkeypatch, epochs):
    monkeypatch.setattr(_training, "N_SAMPLES_SEEN", 600)
    assert classifier(max_iter="auto").fit(X, PARTLY).n_iter_ == 30
    for way in WAYS.values():
        assert classifier(**way, max_iter="auto").fit(X, PARTLY).n_iter_ == 10
    rows, y = uniform(3000), np.resize(PARTLY, 3000)
    y[100:] = -1
    for way, expected in ({}, 20), (WAYS["smooth"], 30), (WAYS["propagated"], 30):
        epochs.clear()
        classifier(**way, max_iter=1, batch_size="auto").fit(rows, y)
        assert epochs[0].batch_size == expected


# -- the phases of a fit -----------------------------------------------------------------------


def phases(epochs):
    """For each epoch, whether it trains on propagated labels: it has no sample repeatedly then."""
    return [bool(epoch.order.max() < 60) for epoch in epochs]


@pytest.mark.parametrize("max_iter, n_pseudo", [(1, 0), (4, 1), (5, 1), (8, 2), (12, 3)])
def test_propagated_labels_are_trained_on_first(epochs, max_iter, n_pseudo):
    y = np.where(np.arange(60) < 6, CODES, -1)
    classifier(**{**WAYS["both"], "max_iter": max_iter}).fit(X, y)
    assert phases(epochs) == [k < n_pseudo for k in range(max_iter)]
    epochs.clear()
    classifier(**{**WAYS["propagated"], "max_iter": max_iter}).fit(X, y)
    assert phases(epochs) == [True] * max_iter
    for epoch in epochs:
        assert_array_equal(np.sort(epoch.order), np.arange(60))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_fits_with_both_begin_as_those_with_propagated_labels(class_weight):
    both, propagated = (
        classifier(**WAYS[name], class_weight=class_weight).fit(PLANE, PARTLY).loss_curve_
        for name in ("both", "propagated")
    )
    assert both[:2] == propagated[:2]
    assert both[2] != propagated[2]


@pytest.mark.parametrize("params", [{"tol": 1e-4}, {"learning_rate": "adaptive"}], ids=str)
def test_the_end_of_propagated_labels_is_no_end_of_progress(params, epochs):
    """The loss with smooth predictions is another one, and larger."""
    options = {**WAYS["both"], "max_iter": 100, "n_iter_no_change": 5, **params}
    classifier(**options).fit(X, PARTLY)
    rates = common.Curve([epoch.learning_rate for epoch in epochs])
    assert len(rates) > 25 + 5 + 1 and rates[25 + 6] == rates[0]


@pytest.mark.parametrize("params, n_epochs", [
    ({}, 5 + 2),  # the first loss after propagated labels is always the best
    ({"early_stopping": True, "validation_fraction": 0.3}, 5 + 1),  # by the same criterion
], ids=["loss", "score"])  # fmt: skip
def test_a_fit_does_not_stop_before_smooth_predictions(params, n_epochs):
    options = {**params, "max_iter": 20, "tol": 1e3, "n_iter_no_change": 1, "warm_start": True}
    assert classifier(**WAYS["propagated"], **options).fit(X, PARTLY).n_iter_ == 2
    whole = classifier(**WAYS["both"], **options).fit(X, PARTLY)
    assert whole.n_iter_ == n_epochs
    for _, half in halves({**WAYS["both"], **options}, range(1, n_epochs + 1)):
        assert_same_fit(half.fit(X, PARTLY), whole)


def test_the_output_layer_has_propagated_labels_in_all_epochs(epochs):
    y = np.where(np.arange(60) < 6, CODES, -1)
    classifier(**WAYS["both"], fine_tune="top_then_all").fit(X, y)
    assert phases(epochs) == [True] * (8 + 2) + [False] * 6


def test_propagated_labels_train_the_top():
    one, other = (
        classifier(fine_tune="top", propagate_labels=given).fit(X, PARTLY)
        for given in (False, True)
    )
    assert not np.allclose(one.coefs_[-1], other.coefs_[-1])


def test_a_final_estimator_has_the_labelled_samples():
    estimator = classifier(**WAYS["both"], final_estimator=LogisticRegression()).fit(X, PARTLY)
    expected = LogisticRegression().fit(estimator.transform(X[~HIDDEN]), PARTLY[~HIDDEN])
    assert_allclose(estimator.final_estimator_.coef_, expected.coef_, rtol=1e-9)


@pytest.mark.parametrize("way", ["propagated", "both"])
def test_partial_fit_is_not_there_with_propagated_labels(way):
    assert hasattr(classifier(**WAYS["smooth"]), "partial_fit")
    estimator = classifier(**WAYS[way])
    assert not hasattr(estimator, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        estimator.partial_fit(X, PARTLY, classes=range(3))
    assert "does not support propagate_labels=True" in str(caught.value.__cause__)
    fitted = estimator.fit(X, PARTLY)
    assert not hasattr(fitted, "partial_fit")
    assert fitted.set_params(propagate_labels=False).partial_fit(X, PARTLY).n_iter_ == 9


def test_partial_fit():
    estimator = classifier(**WAYS["smooth"])
    for k in range(3):
        some = slice(20 * k, 20 * k + 20)
        estimator.partial_fit(X[some], PARTLY[some], classes=[0, 1, 2])
        assert estimator.n_iter_ == len(estimator.loss_curve_) == k + 1
    before = [array.copy() for array in weights_of(estimator)]
    estimator.partial_fit(X, np.full(60, -1))  # nothing to fine-tune by
    assert all(map(np.array_equal, before, weights_of(estimator)))
    assert estimator.partial_fit(X, CODES).n_iter_ == 4  # all labelled
    assert np.isfinite(estimator.loss_curve_).all()


def test_weights_of_one_are_no_weights_in_a_stream():
    streams = [
        classifier(smoothness_radius=0.5)
        .partial_fit(X, PARTLY, classes=range(3), sample_weight=np.full(60, 64.0))
        .partial_fit(X, PARTLY, sample_weight=weights)
        for weights in (None, np.ones(60))
    ]
    assert_same_fit(*streams)


@each_way
def test_a_declared_class_without_a_sample(way):
    y = np.where(PARTLY == 1, -1, PARTLY)
    estimator = classifier(max_iter=30, warm_start=True).partial_fit(X, y, classes=[0, 1, 2])
    if "propagate_labels" in way:
        estimator.set_params(**way).fit(X, y)
    else:
        estimator.set_params(**way)
        for _ in range(30):
            estimator.partial_fit(X, y)
    assert np.isfinite(estimator.loss_curve_).all()
    assert estimator.predict_proba(X).shape == (60, 3)
    assert not np.any(estimator.predict(X) == 1)


# -- early stopping ------------------------------------------------------------------------------


STOPPING = {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 8}


def record_propagated(monkeypatch):
    """Return the list of all further arguments and results of the propagation."""
    calls = []

    def spy(X, y, *args):
        found = propagate(X, y, *args)
        calls.append((X, y.copy(), *found))
        return found

    monkeypatch.setattr(_propagation, "propagate", spy)
    return calls


@each_way
def test_labelled_samples_alone_are_held_out(way, splits, epochs):
    estimator = classifier(**way, **STOPPING).fit(X, PARTLY)
    training, held_out = splits[-1].training, splits[-1].validation
    assert len(splits[-1].X) == 60
    assert_array_equal(np.sort([*training, *held_out]), np.flatnonzero(~HIDDEN))
    seen = np.unique(np.concatenate([epoch.order % 60 for epoch in epochs]))
    assert_array_equal(seen, np.setdiff1d(np.arange(60), held_out))
    right = estimator.predict(X[held_out]) == CODES[held_out]
    assert_allclose(estimator.best_validation_score_, right.mean())
    splits.clear()
    classifier(**STOPPING).fit(X, PARTLY)  # holds out the same ones
    assert_array_equal(splits[-1].X[splits[-1].validation], X[held_out])


@pytest.mark.parametrize("way", ["propagated", "both"])
def test_labels_that_are_held_out_are_not_propagated(way, splits, monkeypatch):
    calls = record_propagated(monkeypatch)
    classifier(**WAYS[way], **STOPPING).fit(X, PARTLY)
    [(_, y, _, _)], held_out = calls, splits[-1].validation
    assert len(held_out) == 6
    expected = PARTLY.copy()
    expected[held_out] = -1
    assert_array_equal(y, expected)


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}], ids=str)
def test_the_shares_of_the_classes_are_those_of_the_labels_trained_on(params, monkeypatch, splits):
    """Those held out are not, and weights do not count."""
    shares = []

    def spy(*args, real=_classifier._sgd.Objective, **kwargs):
        if "class_shares" in kwargs:
            shares.append(kwargs["class_shares"])
        return real(*args, **kwargs)

    monkeypatch.setattr(_classifier._sgd, "Objective", spy)
    y, weights = np.where(np.arange(60) < 23, CODES, -1), np.linspace(0, 9, 60)
    classifier(smoothness_radius=0.5, **STOPPING, **params).fit(X, y, weights)
    assert len(splits[-1].X) == 59  # the first sample weighs nothing
    y = y[1:]
    counts = np.bincount(y[splits[-1].training], minlength=3)
    assert_allclose(shares[-1], class_shares(counts))


def test_shares_of_classes_differ_as_far_as_chance_does_not_explain_it():
    assert_allclose(class_shares(np.array([10, 10, 10])), 1 / 3)
    assert_allclose(class_shares(np.array([9, 12, 9])), 1 / 3)
    assert_allclose(class_shares(np.array([900, 100])), [0.9, 0.1], atol=0.001)
    assert 0.8 < class_shares(np.array([18, 2]))[0] < 0.9
    assert class_shares(np.array([30, 0]))[1] > 0


@few
@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any))
def test_shares_of_classes(counts):
    counts = np.array(counts)
    shares = class_shares(counts)
    assert shares.sum() == pytest.approx(1) and np.all(shares > 0)
    order = np.argsort(counts, kind="stable")
    assert np.all(np.diff(shares[order]) >= -1e-12)
    equal, raw = 1 / len(counts), counts / counts.sum()
    assert np.all(np.abs(shares - equal) <= np.abs(raw - equal) + 1e-12)


# -- propagation -----------------------------------------------------------------------------


def reference(X, y, n_classes):
    """Label spreading with class mass normalisation, sample by sample."""
    n = len(X)
    distance = np.linalg.norm(X[:, np.newaxis] - X, axis=2)
    np.fill_diagonal(distance, np.inf)
    graph = np.zeros((n, n))
    for i in range(n):
        nearest = np.argsort(distance[i])[: min(N_NEIGHBORS, n - 1)]
        graph[i, nearest] = np.exp(
            -SHARPNESS * (distance[i, nearest] / distance[i, nearest[-1]]) ** 2
        )
    graph = graph + graph.T
    root = np.sqrt(graph.sum(axis=1))
    graph = graph / np.outer(root, root)
    start = np.zeros((n, n_classes))
    start[np.flatnonzero(y >= 0), y[y >= 0]] = 1.0
    found = start
    for _ in range(N_ROUNDS):
        before, found = found, ALPHA * graph @ found + (1 - ALPHA) * start
        if np.abs(found - before).sum() < 1e-3:
            break
    found /= found.sum(axis=1, keepdims=True)
    found *= class_shares(np.bincount(y[y >= 0], minlength=n_classes)) / found.sum(axis=0)
    confidence = found.max(axis=1) / found.sum(axis=1)
    return np.where(y >= 0, y, found.argmax(axis=1)), np.where(y >= 0, 1.0, confidence)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_samples", [5, 30, 60])
def test_propagation_is_that_of_the_reference(n_samples, seed):
    rows = uniform(n_samples, 4, seed)
    y = np.where(np.arange(n_samples) < max(3, n_samples // 4), np.arange(n_samples) % 3, -1)
    found, confidence = propagate(rows, y, 3, 0)
    expected, expected_confidence = reference(rows, y, 3)
    assert_allclose(confidence, expected_confidence, rtol=1e-4)
    assert_array_equal(found, expected)
    assert np.all(confidence >= 1 / 3) and confidence.max() == 1.0


def chains(n_samples=40, distance=8.0):
    """Samples along two lines, and the number of the line of each."""
    place = np.random.default_rng(0).uniform(0, 10, size=(n_samples, 2))
    line = np.arange(n_samples) % 2
    return np.column_stack([place[:, 0], distance * line]), line


def test_labels_go_along_chains():
    rows, line = chains()
    y = np.full(40, -1)
    y[:2] = line[:2]
    found, confidence = propagate(rows, y, 2, 0)
    assert_array_equal(found, line)
    assert_allclose(confidence, 1.0)


def test_classes_get_the_shares_of_their_labels():
    """Where a sample might be of either class."""
    rows, _ = chains(200, distance=0.0)
    rows[:, 1] = np.random.default_rng(1).uniform(0, 10, 200)
    found = []
    for n_of_one in (2, 6, 10):
        y = np.full(200, -1)
        y[:12] = np.arange(12) < n_of_one
        found_labels, _ = propagate(rows, y, 2, 0)
        found.append(found_labels.mean())
    assert found[0] < found[1] < found[2]
    assert_allclose(found, [2 / 12, 6 / 12, 10 / 12], atol=0.15)


def test_samples_that_no_label_comes_to_are_not_trained_on():
    """Those of a group without any: as if they were not there."""
    far = 50 + uniform(12, seed=1)
    rows, y = np.vstack([X, far]), np.append(PARTLY, np.full(12, -1))
    _, confidence = propagate(rows, y, 3, 0)
    assert np.all(confidence[60:] == 0) and np.all(confidence[:60] > 0)
    options = {"propagate_labels": True, "shuffle": False}
    fitted = classifier(**options).fit(rows, y)
    assert_close_fit(fitted, classifier(**options).fit(X, PARTLY), rtol=1e-6)


@pytest.mark.parametrize("store", [np.asarray, sp.csr_array])
def test_samples_that_are_there_several_times(store):
    rows = np.tile(uniform(8, 6), (10, 1))
    y = np.where(np.arange(80) < 8, np.arange(80) % 2, -1)
    found, confidence = propagate(store(rows), y, 2, 0)
    assert_array_equal(found, np.arange(80) % 2)
    assert_allclose(confidence, 1.0)
    estimator = classifier(propagate_labels=True, smoothness_radius=0.1).fit(store(rows), y)
    assert np.isfinite(estimator.loss_curve_).all()


EQUAL = {
    "equal": np.ones((60, 9)),
    "equal, sparse": sp.csr_array(np.ones((60, 9))),
    "nothing": sp.csr_array((60, 9)),
    "one feature, sparse": sp.csr_array(X[:, :1]),
    "all of one number": np.full((60, 9), 1e300),
    "almost equal": X * 1e-200,
    "subnormal": X * 1e-310,
    "large": X * 1e200,
    "large and small": X * np.append(1e300, np.ones(8)),
    "large, sparse": sp.csr_array(X * 1e200),
}


@pytest.mark.parametrize("case", EQUAL)
def test_samples_without_principal_components(case):
    """As the network takes them, without a warning."""
    classifier().fit(EQUAL[case], PARTLY)
    estimator = classifier(**WAYS["both"]).fit(EQUAL[case], PARTLY)
    assert np.isfinite(estimator.loss_curve_).all()


@pytest.mark.parametrize("case, n_bytes", [
    ("nothing", 1000), ("large, sparse", 1000), ("almost equal", 1000), ("large", 1000),
    ("equal", 1000),
    ("equal, sparse", 1000),
    ("all of one number", 1000),
    ("one feature, sparse", 400),
    ("subnormal", 1000),
])  # fmt: skip
def test_samples_without_principal_components_that_do_not_fit_into_memory(
    case, n_bytes, monkeypatch
):
    calls = record_propagated(monkeypatch)
    samples = sp.csr_array(EQUAL[case])
    with config_context(working_memory=n_bytes / 2**20), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Could not adhere to working_memory")
        estimator = classifier(propagate_labels=True).fit(samples, PARTLY)
    assert sp.issparse(calls[0][0])
    assert np.isfinite(estimator.loss_curve_).all()


@pytest.mark.parametrize("store", [np.asarray, np.asfortranarray, sp.csr_array])
@each_way
def test_missing_values_are_zeros(way, store):
    holes = np.where(X < 0.2, np.nan, X)
    holes[5] = np.nan
    given, expected = store(holes), store(np.where(np.isnan(holes), 0.0, holes))
    fits = [classifier(**way).fit(one, PARTLY) for one in (given, expected)]
    if store is sp.csr_array:
        fits[1] = classifier(**way).fit(np.where(np.isnan(holes), 0.0, holes), PARTLY)
    assert_close_fit(*fits)


def test_the_type_of_what_is_propagated_does_not_matter():
    found, confidence = propagate(
        DIGITS[:200], np.where(np.arange(200) < 50, NUMBERS[:200], -1), 10, 0
    )
    single = propagate(
        DIGITS[:200].astype(np.float32), np.where(np.arange(200) < 50, NUMBERS[:200], -1), 10, 0
    )
    assert np.mean(single[0] == found) > 0.98
    assert_allclose(single[1], confidence, atol=0.01)
    assert np.mean(found == NUMBERS[:200]) > 0.8


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("params, match", [
    ({"smoothness_radius": -0.1}, "'smoothness_radius' parameter"),
    ({"smoothness_radius": np.nan}, "'smoothness_radius' parameter"),
    ({"smoothness_radius": np.inf}, "'smoothness_radius' parameter"),
    ({"smoothness_radius": "auto"}, "'smoothness_radius' parameter"),
    ({"smoothness_radius": None}, "'smoothness_radius' parameter"),
    ({"propagate_labels": 0.5}, "'propagate_labels' parameter"),
    ({"propagate_labels": "yes"}, "'propagate_labels' parameter"),
    ({"propagate_labels": None}, "'propagate_labels' parameter"),
    ({"smoothness_radius": 0.5, "fine_tune": "top"}, "fine_tune='top' does not train"),
], ids=str)  # fmt: skip
def test_bad_parameters_are_refused(params, match):
    for y in (PARTLY, CODES):
        refuses(classifier(**params), "fit", X, y, match=match)
        if not params.get("propagate_labels"):  # there is no such method then
            refuses(classifier(**params), "partial_fit", X, y, classes=range(3), match=match)
    fitted = classifier(warm_start=True).fit(X, PARTLY).set_params(**params)
    refuses(fitted, "fit", X, PARTLY, match=match)


@each_way
def test_several_labels_a_sample_are_refused(way):
    for y in (LABELS, (X[:, :2] > 0.5).astype(int)):
        for name in way:
            refuses(classifier(**way), "fit", X, y, match=f"{name}=.*several labels a sample")
        classifier(smoothness_radius=0.0, propagate_labels=False).fit(X, y)


def test_nothing_but_unlabelled_samples_is_refused():
    for way in WAYS.values():
        refuses(classifier(**way), "fit", X, np.full(60, -1), match="no labelled samples")


@pytest.mark.filterwarnings(r"default:::(distributed|dask|tornado)\b.*")
@each_way
def test_dask_collections_are_for_labelled_samples(way, monkeypatch):
    pytest.importorskip("distributed")
    da = pytest.importorskip("dask.array")
    import test_dask

    monkeypatch.setattr(test_dask.skd, "n_threads", lambda n_at_once: 1)
    monkeypatch.setattr(test_dask.skd, "wait", test_dask.wait)
    collection, [name, *_] = da.from_array(X, chunks=(60, 9)), way
    with common.no_training(), pytest.raises(ValueError, match=f"{name}=.*Dask collection"):
        test_dask.fit(classifier(**way), collection, PARTLY)
    fitted = test_dask.fit(classifier(**way), collection, CODES)
    assert_same_fit(fitted, classifier(**way).fit(X, CODES))


# -- interruption ---------------------------------------------------------------------------------


def halves(params, epochs=range(1, 9)):
    """For each epoch, a fit that has been interrupted before it."""
    for epoch in epochs:
        half = classifier(**params)
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning) as caught:
            interrupt(patch, epoch)
            half.fit(X, PARTLY)
        assert len(caught) == 1 and "interrupted by user" in str(caught[0].message)
        yield epoch, half


@pytest.mark.parametrize("more", [
    {}, {"solver": "sgd", "learning_rate": "cosine"}, {"dropout": 0.2, "input_dropout": 0.2},
    {"early_stopping": True, "validation_fraction": 0.3}, {"n_averaged_epochs": 7},
    {"random_state": None},
], ids=str)  # fmt: skip
@each_way
def test_an_interrupted_fit_goes_on(way, more):
    """In the epochs with propagated labels, and in those after them."""
    params = {**way, **more, "warm_start": True}
    np.random.seed(0)  # noqa: NPY002
    whole = classifier(**params).fit(X, PARTLY)
    np.random.seed(0)  # noqa: NPY002
    drawn = np.random.get_state()  # noqa: NPY002
    for epoch in range(1, 9):
        np.random.set_state(drawn)  # noqa: NPY002
        [(_, half)] = halves(params, [epoch])
        assert half.n_iter_ == epoch - 1
        assert np.isfinite(half.predict_proba(X)).all()
        again = pickle.loads(pickle.dumps(half)).fit(X, PARTLY)
        assert_same_fit(again, whole)
        assert state_of(again).step == state_of(whole).step


def interrupt_propagation(estimator):
    """Fit, with Ctrl-C while labels are propagated."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning) as caught:
        patch.setattr(_propagation, "propagate", interrupted)
        estimator.fit(X, PARTLY)
    [message] = [str(one.message) for one in caught]
    assert message.endswith("training interrupted by user.")
    return estimator


TRAININGS = pytest.mark.parametrize("fine_tune, way", [
    ("all", "propagated"), ("all", "both"), ("top", "propagated"),
    ("top_then_all", "propagated"), ("top_then_all", "both"),
])  # fmt: skip


def goes_on(params, before=lambda estimator: estimator, n_times=1):
    """Assert that a fit goes on after Ctrl-C in the propagation as if nothing had happened."""
    make = lambda: before(classifier(**params, warm_start=True))
    whole, half = make().fit(X, PARTLY), make()
    for _ in range(n_times):
        half = pickle.loads(pickle.dumps(interrupt_propagation(half)))
    assert np.isfinite(half.predict_proba(X)).all()
    assert_same_fit(half.fit(X, PARTLY), whole)
    assert state_of(half).step == state_of(whole).step


@pytest.mark.parametrize("more", [
    {}, {"solver": "sgd", "learning_rate": "adaptive"}, {"n_averaged_epochs": 7},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"pretrain": common.stacked(max_iter=2), "activation": None},
], ids=str)  # fmt: skip
@TRAININGS
def test_a_fit_that_is_interrupted_while_labels_are_propagated_goes_on(fine_tune, way, more):
    params = {**WAYS[way], "fine_tune": fine_tune, **more}
    assert interrupt_propagation(classifier(**params)).n_iter_ == 0
    goes_on(params)


@pytest.mark.parametrize("fine_tune", [
    "all", "top", "top_then_all",
])  # fmt: skip
def test_a_fit_that_is_interrupted_twice_while_labels_are_propagated_goes_on(fine_tune):
    goes_on({**WAYS["propagated"], "fine_tune": fine_tune}, n_times=2)


@TRAININGS
def test_a_second_fit_that_is_interrupted_while_labels_are_propagated_goes_on(fine_tune, way):
    goes_on({**WAYS[way], "fine_tune": fine_tune}, lambda estimator: estimator.fit(X, PARTLY))


@pytest.mark.parametrize("first, then", [
    ({}, {"max_iter": 12}), ({"tol": 1e3, "n_iter_no_change": 2}, {}),
], ids=["more epochs", "converged"])  # fmt: skip
@pytest.mark.parametrize("fine_tune", ["all", "top_then_all"])
def test_a_fit_after_a_shorter_one_goes_on(fine_tune, first, then):
    goes_on(
        {**WAYS["propagated"], "fine_tune": fine_tune, **first},
        lambda estimator: estimator.fit(X, PARTLY).set_params(**then),
    )


def interrupted_before(epoch):
    def fit(estimator):
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
            interrupt(patch, epoch)
            return estimator.fit(X, PARTLY)

    return fit


@pytest.mark.parametrize("more", [{}, {"n_averaged_epochs": 7}], ids=str)
@pytest.mark.parametrize("fine_tune, epoch", [
    ("all", 1), ("all", 3), ("top", 1), ("top", 3),
    ("top_then_all", 1),
    ("top_then_all", 3), ("top_then_all", 9), ("top_then_all", 11),
])  # fmt: skip
def test_a_fit_that_is_interrupted_in_an_epoch_and_in_the_propagation(fine_tune, epoch, more):
    params = {**WAYS["propagated"], "fine_tune": fine_tune, **more}
    goes_on(params, interrupted_before(epoch))


@pytest.mark.parametrize("fine_tune", ["all", "top_then_all"])
def test_a_fit_after_one_of_the_top_goes_on(fine_tune):
    goes_on(
        {**WAYS["propagated"], "fine_tune": "top"},
        lambda estimator: estimator.fit(X, PARTLY).set_params(fine_tune=fine_tune),
    )


@each_way
def test_an_interrupted_epoch_keeps_the_steps_that_were_taken(way):
    for epoch in (1, 8):
        half = classifier(**way)
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
            interrupt(patch, epoch, when="after")
            half.fit(X, PARTLY)
        whole = classifier(**way).fit(X, PARTLY)
        assert half.n_iter_ == epoch - 1
        assert (state_of(half).step == state_of(whole).step) == (epoch == 8)


def test_a_fit_that_is_interrupted_in_pretraining_goes_on():
    params = {**WAYS["both"], "pretrain": common.stacked(max_iter=2), "warm_start": True,
              "activation": None}  # fmt: skip
    whole = classifier(**params).fit(X, PARTLY)
    for _, half in halves(params, [1, 3, 5, 7]):
        assert_same_fit(half.fit(X, PARTLY), whole)


@pytest.mark.parametrize("more", [{}, {"fine_tune": "top_then_all", "max_iter": 4}], ids=str)
@each_way
def test_a_checkpoint_is_resumed(way, more, tmp_path):
    pytest.importorskip("skops.io")
    params, path = {**way, **more}, tmp_path / "fit.skops"
    whole = classifier(**params).fit(X, PARTLY)
    for epoch in sorted({2, 3, 8, whole.n_iter_}):
        with Checkpoint(path):
            [_] = halves(params, [epoch])
        assert_same_fit(resume(path, X, PARTLY), whole)


# -- callbacks ---------------------------------------------------------------------------------


class Recorder:
    """Records the data and the estimators that it is shown."""

    max_propagation_depth = None

    def __init__(self):
        self.shown = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.shown.append((context.task_name, X, y, metadata))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.shown.append((context.task_name, X, y, metadata))
        if context.task_name == "epoch":
            assert fitted_estimator.predict(X).shape == y.shape


@pytest.mark.parametrize("weights", [None, np.linspace(0, 1, 60)], ids=["none", "weights"])
@each_way
def test_callbacks_see_the_labelled_samples(way, weights):
    pytest.importorskip("sklearn.callback")
    recorder = Recorder()
    classifier(**way).set_callbacks(recorder).fit(X, PARTLY, weights)
    assert [name for name, *_ in recorder.shown].count("epoch") == 2 * 8
    n_samples = 20 if weights is None else 19
    for _, rows, y, metadata in recorder.shown:
        if rows is not None:
            assert_array_equal(rows, X[~HIDDEN][-n_samples:])
            assert_array_equal(y, PARTLY[~HIDDEN][-n_samples:])
            if weights is not None:
                assert len(metadata["sample_weight"]) == n_samples
    assert any(rows is not None for _, rows, *_ in recorder.shown)
