"""Top-k codes: what is active, sparse output, the first epochs, dead units.

Gradients are tested in test_kernel.py, initial weights in test_network.py.
"""

import pickle
from functools import partial

import common
import numpy as np
import pytest
import scipy.sparse as sp
from common import (
    assert_close_fit,
    assert_same_fit,
    interrupt,
    learned,
    limit_measured,
    record_active,
    record_networks,
    refuses,
    rows,
    same_fit,
    split,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import activate
from scipy.special import expit, softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skae import StackedAutoencoderClassifier, StackedAutoencoderRegressor

pytestmark = pytest.mark.usefixtures("one_thread")


X = rows(60)
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
VALUES = 3 * X[:, 0] - 2 * X[:, 1] ** 2

denoising = partial(common.denoising, activation="top_k", n_active=2, n_components=12)
stacked = partial(common.stacked, activation="top_k", n_active=[3, 2], hidden_layer_sizes=(12, 8))
SUPERVISED = dict(hidden_layer_sizes=(12, 8), activation="top_k", max_iter=4, batch_size=16,
                  learning_rate_init=0.01, random_state=0)  # fmt: skip
classifier = partial(StackedAutoencoderClassifier, **SUPERVISED)
regressor = partial(StackedAutoencoderRegressor, **SUPERVISED)
TARGETS = {classifier: CODES, regressor: VALUES}

floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])
unsupervised = pytest.mark.parametrize("make", [denoising, stacked], ids=["denoising", "stacked"])
supervised = pytest.mark.parametrize("make", TARGETS, ids=["classifier", "regressor"])


def pre_activations(layer, X):
    return X @ layer.components_.T + layer.intercept_hidden_


def codes_of(layers, X, n_active):
    """The codes of all layers by their formula."""
    codes = []
    for layer, n in zip(layers, n_active, strict=True):
        X = activate("top_k", pre_activations(layer, X), n)
        codes.append(X)
    return codes


def layers_of(estimator):
    return getattr(estimator, "layers_", [estimator])


# -- codes ------------------------------------------------------------------------------


@floats
@pytest.mark.parametrize("n_active", [1, 3, 11, 12])
def test_at_most_n_active_units_are_active(n_active, dtype):
    given = X.astype(dtype)
    codes = denoising(n_active=n_active).fit(given).transform(given)
    counts = np.count_nonzero(codes, axis=1)
    n_positive = np.count_nonzero(
        denoising(n_active=n_active, transform_n_active=12).fit(given).transform(given), axis=1
    )
    assert_array_equal(counts, np.minimum(n_positive, n_active))
    assert (codes >= 0).all()
    assert counts.max() == n_active or n_active > 3


def test_of_equal_units_the_first_are_active():
    estimator = denoising(n_active=3).fit(X)
    estimator.components_[:] = 0.5
    estimator.intercept_hidden_[:] = [0, 2, 1, 2, 0, 1, 2, 0, 0, 1, 1, 0]
    assert_array_equal(np.flatnonzero(estimator.transform(X).all(axis=0)), [1, 3, 6])
    for n, active in ((2, [1, 3]), (5, [1, 2, 3, 5, 6]), (8, [0, 1, 2, 3, 5, 6, 9, 10])):
        codes = estimator.set_params(transform_n_active=n).transform(X[X.any(axis=1)])
        assert_array_equal(np.flatnonzero(codes.all(axis=0)), active)
        assert_array_equal(np.flatnonzero(codes.any(axis=0)), active)


@pytest.mark.parametrize("n_components, n_active", [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3)])
def test_auto_is_the_square_root_rounded_up(n_components, n_active):
    auto = denoising(n_components=n_components, n_active="auto").fit(X)
    assert_same_fit(auto, denoising(n_components=n_components, n_active=n_active).fit(X))
    other = n_active + 1 if n_active < n_components else n_active - 1
    if other:
        assert not same_fit(auto, denoising(n_components=n_components, n_active=other).fit(X))


def test_auto_goes_by_the_size_of_each_layer():
    auto = stacked(n_active="auto").fit(X)
    assert_same_fit(auto, stacked(n_active=[4, 3]).fit(X))
    assert_same_fit(auto, stacked(n_active=np.array([4, 3])).fit(X))
    assert not same_fit(auto, stacked(n_active=[4, 2]).fit(X))


@pytest.mark.parametrize("n_active", [1, 2, 5, 12])
def test_transform_n_active_changes_the_codes_alone(n_active):
    estimator = denoising().fit(X)
    codes, reconstructed, scores = (
        getattr(estimator, name)(X) for name in ("transform", "reconstruct", "score_samples")
    )
    given = denoising(transform_n_active=n_active).fit(X)
    assert_same_fit(given, estimator)
    later = estimator.set_params(transform_n_active=n_active)
    expected = activate("top_k", pre_activations(estimator, X), n_active)
    for one in (given, later, pickle.loads(pickle.dumps(later))):
        assert_allclose(one.transform(X), expected, rtol=1e-12)
        assert_array_equal(one.reconstruct(X), reconstructed)
        assert_array_equal(one.score_samples(X), scores)
        assert one.score(X) == scores.mean()
    assert np.allclose(expected, codes) == (n_active == 2)
    assert_allclose(estimator.inverse_transform(codes), reconstructed, rtol=1e-12)
    assert_array_equal(later.set_params(transform_n_active=None).transform(X), codes)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("working_memory", [0, 1024])
def test_layers_below_have_n_active_units(working_memory, joint):
    """In a stack, `transform_n_active` is for the codes that are returned."""
    estimator = stacked(joint=joint, joint_max_iter=2).fit(X)
    reconstructed, scores = estimator.reconstruct(X), estimator.score_samples(X)
    bottom, top = estimator.layers_
    below = activate("top_k", pre_activations(bottom, X), 3)
    for n_active in (1, 5, 8):
        estimator.set_params(transform_n_active=n_active)
        expected = [
            activate("top_k", pre_activations(layer, given), n_active)
            for layer, given in ((bottom, X), (top, below))
        ]
        with config_context(working_memory=working_memory):
            estimator.set_params(code="top")
            assert_allclose(estimator.transform(X), expected[1], rtol=1e-11, atol=1e-14)
            estimator.set_params(code="all")
            assert_allclose(estimator.transform(X), np.hstack(expected), rtol=1e-11, atol=1e-14)
            assert_allclose(estimator.reconstruct(X), reconstructed, rtol=1e-12)
            assert_allclose(estimator.score_samples(X), scores, rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@unsupervised
def test_n_active_has_no_effect_on_other_codes(make, activation):
    plain = make(activation=activation, n_active="auto").fit(X)
    for n_active in (1, 100):
        given = make(activation=activation, n_active=n_active, transform_n_active=n_active)
        assert_same_fit(given.fit(X), plain)
        assert_array_equal(given.transform(X), plain.transform(X))
        given.set_params(warm_start=True, n_active=n_active + 1).fit(X)  # no change


def test_only_top_k_layers_of_a_stack_go_by_it():
    estimator = stacked(activation=["top_k", "relu"], code="all").fit(X)
    codes = estimator.transform(X)
    more = estimator.set_params(transform_n_active=6).transform(X)
    assert_array_equal(more[:, 12:], codes[:, 12:])
    assert np.count_nonzero(more[:, :12], axis=1).max() > 3
    estimator.set_params(transform_n_active=12).transform(X)  # more than the units of layer 2


# -- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "estimator, message",
    [
        (denoising(n_active=13), "n_active=13 must be at most 12, the length of the code"),
        (stacked(n_active=[12, 9]), "n_active=9 must be at most 8, .* layer 2"),
        (stacked(n_active=13), "n_active=13 must be at most 12, .* layer 1"),
        (stacked(hidden_layer_sizes="auto", n_active=40), "n_active=40 .* at most 32, .* layer 2"),
        (stacked(n_active=[9, 9], joint=True), "n_active=9 must be at most 8, .* layer 2"),
    ],
    ids=str,
)
def test_more_active_units_than_there_are(estimator, message, method):
    fitted = clone(estimator).set_params(n_active=1).fit(X).set_params(n_active=estimator.n_active)
    for one in (clone(estimator), fitted):
        if hasattr(one, method):
            refuses(one, method, X, match=message)


@pytest.mark.parametrize("pretrain", [True, False, stacked(n_active=1)])
@pytest.mark.parametrize("sizes, most", [((12, 8), 8), ("auto", 32), (5, 5)])
@supervised
def test_more_active_units_than_a_network_has(make, sizes, most, pretrain):
    estimator = make(hidden_layer_sizes=sizes, n_active=most + 1, pretrain=pretrain)
    message = f"n_active={most + 1} must be at most {most}, the length of the code"
    refuses(estimator, "fit", X, TARGETS[make], match=message)


def test_more_active_units_in_transform_than_there_are():
    refuses(
        denoising().fit(X).set_params(transform_n_active=13), "transform", X,
        match="transform_n_active=13 must be at most 12, the length of the code",
    )  # fmt: skip
    estimator = stacked().fit(X).set_params(transform_n_active=9)
    for code in ("top", "all"):
        estimator.set_params(code=code)
        refuses(estimator, "transform", X, match="transform_n_active=9 must be at most 8")
        new = stacked(transform_n_active=9, code=code)
        refuses(new, "fit", X, match="transform_n_active=9 must be at most 8")
    refuses(denoising(transform_n_active=13), "fit", X, match="must be at most 12")
    rising = stacked(hidden_layer_sizes=(8, 12), transform_n_active=9).fit(X)
    assert np.count_nonzero(rising.transform(X), axis=1).max() > 2
    rising.set_params(code="all")
    refuses(rising, "transform", X, match="transform_n_active=9 must be at most 8")


@pytest.mark.parametrize(
    "params",
    [
        {"transform_n_active": 0},
        {"transform_n_active": 2.5},
        {"transform_n_active": "auto"},
        {"transform_n_active": [3, 2]},
        {"sparse_output": "yes"},
        {"sparse_output": None},
    ],
    ids=str,
)
@unsupervised
def test_wrong_parameters_after_the_fit(make, params):
    estimator = make().fit(X).set_params(**params)
    (name,) = params
    match = f"The '{name}' parameter of {type(estimator).__name__} must be"
    refuses(estimator, "transform", X, match=match)
    assert estimator.reconstruct(X).shape == X.shape  # they have no effect on it


@pytest.mark.parametrize("n_active", [1, "auto", [2, 2]])
@supervised
def test_another_n_active_than_that_of_a_fitted_stack(make, n_active):
    for pretrain in (stacked().fit(X), FrozenEstimator(stacked().fit(X))):
        estimator = make(pretrain=pretrain, n_active=n_active)
        message = r"n_active=.*, but that of the fitted stack in pretrain is \[3, 2\]"
        refuses(estimator, "fit", X, TARGETS[make], match=message)
        given = make(pretrain=pretrain, n_active=[3, 2]).fit(X, TARGETS[make])
        assert_same_fit(given, make(pretrain=pretrain).fit(X, TARGETS[make]))


def test_an_n_active_without_effect_is_no_other():
    stack = stacked(activation=["top_k", "relu"], n_active=[3, "auto"]).fit(X)
    plain = classifier(activation=None, pretrain=stack).fit(X, CODES)
    for n_active in (3, [3, "auto"], [3, 1]):
        given = classifier(activation=None, pretrain=stack, n_active=n_active)
        assert_same_fit(given.fit(X, CODES), plain)
    refuses(given.set_params(n_active=2), "fit", X, CODES, match="n_active=2, but that")


@pytest.mark.parametrize("n_active", [1, "auto"])
def test_n_active_cannot_change_when_a_fit_continues(n_active):
    message = "n_active.* cannot change between fits that continue each other"
    for make in (denoising, stacked, classifier, regressor):
        estimator = make(warm_start=True, n_active=2).fit(X, TARGETS.get(make))
        estimator.set_params(n_active=n_active)
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, X, TARGETS.get(make), match=message)


# -- sparse output ---------------------------------------------------------------------------


@floats
@pytest.mark.parametrize("sparse_input", [False, True])
@pytest.mark.parametrize(
    "make, params",
    [
        (denoising, {}),
        (denoising, {"transform_n_active": 5}),
        (denoising, {"activation": "relu"}),
        (denoising, {"activation": "tanh"}),
        (stacked, {}),
        (stacked, {"code": "all"}),
        (stacked, {"code": "all", "transform_n_active": 4}),
    ],
)
def test_sparse_codes_are_the_dense_ones(make, params, sparse_input, dtype):
    given = X.astype(dtype)
    given = sp.csr_array(given) if sparse_input else given
    dense = make(**params).fit(given)
    sparse = make(**params, sparse_output=True).fit(given)
    assert_same_fit(sparse, dense)
    expected = dense.transform(given)
    assert isinstance(expected, np.ndarray)
    with config_context(working_memory=0):
        in_blocks = sparse.transform(given)
    fitted = make(**params, sparse_output=True).fit_transform(given)
    for found in (sparse.transform(given), fitted, in_blocks):
        assert sp.issparse(found) and found.format == "csr"
        assert found.dtype == dtype and found.shape == expected.shape
        assert found.has_canonical_format
        assert found.nnz == np.count_nonzero(expected)
        assert_allclose(found.toarray(), expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    later = dense.set_params(sparse_output=True).transform(given)
    assert_array_equal(later.toarray(), expected)
    assert_array_equal(sparse.inverse_transform(later), dense.inverse_transform(expected))
    assert_array_equal(sparse.reconstruct(given), dense.reconstruct(given))


def test_sparse_codes_in_several_blocks():
    many = rows(1300)
    estimator = denoising().fit(many)
    expected = estimator.transform(many)
    found = estimator.set_params(sparse_output=True).transform(many)
    assert_array_equal(found.toarray(), expected)


@unsupervised
def test_sparse_codes_of_few_samples(make):
    estimator = make(sparse_output=True).fit(X)
    whole = estimator.transform(X).toarray()
    assert_allclose(estimator.transform(X[:1]).toarray(), whole[:1], rtol=1e-12)
    assert estimator.transform(X[:1]).shape == (1, 12 if make is denoising else 8)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        estimator.transform(X[:0])


def test_sparse_codes_without_active_units():
    estimator = denoising(sparse_output=True).fit(X)
    estimator.intercept_hidden_[:] = -1e3
    codes = estimator.transform(X)
    assert codes.nnz == 0 and codes.shape == (60, 12) and codes.dtype == np.float64
    decoded = np.tile(estimator.intercept_visible_, (60, 1))
    assert_array_equal(estimator.inverse_transform(codes), decoded)


@unsupervised
def test_sparse_codes_in_a_pipeline(make):
    predictions = [
        make_pipeline(make(sparse_output=sparse), LogisticRegression(max_iter=1000))
        .fit(X, CODES)
        .predict_proba(X)
        for sparse in (False, True)
    ]
    assert_allclose(*predictions, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("container", ["pandas", "polars"])
@unsupervised
def test_data_frames_are_not_sparse(make, container):
    pytest.importorskip(container)
    estimator = make(sparse_output=True).fit(X).set_output(transform=container)
    match = f"{container.capitalize()} output does not support sparse data.*sparse_output=False"
    refuses(estimator, "transform", X, match=match)
    assert estimator.set_params(sparse_output=False).transform(X).shape[0] == 60
    estimator = make(sparse_output=True).fit(X)
    with config_context(transform_output=container):
        refuses(estimator, "transform", X, match=match)
    assert sp.issparse(estimator.transform(X))


@supervised
def test_sparse_output_of_a_stack_has_no_effect_on_pretraining(make):
    y = TARGETS[make]
    pretrain = stacked(max_iter=2)
    plain = make(pretrain=pretrain).fit(X, y)
    for stack in (pretrain, clone(pretrain).fit(X)):
        other = clone(stack) if not hasattr(stack, "layers_") else stack
        other.set_params(sparse_output=True, transform_n_active=1)
        given = make(pretrain=other).fit(X, y)
        assert_same_fit(given, plain)
        assert isinstance(given.transform(X), np.ndarray)
        assert_array_equal(given.transform(X), plain.transform(X))


# -- training: the first epochs -----------------------------------------------------------------


@pytest.fixture
def active(monkeypatch):
    return record_active(monkeypatch)


def falling(n_epochs, *sizes_and_numbers):
    """The active units of each epoch by their definition: from four times as many downwards."""
    half = n_epochs // 2
    return [
        [
            min(int(np.rint((4 - 3 * epoch / half) * n)) if epoch < half else n, size)
            for size, n in sizes_and_numbers
        ]
        for epoch in range(n_epochs)
    ]


@pytest.mark.parametrize("max_iter", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("n_components, n_active", [(12, 2), (12, 3), (7, 2), (12, 12), (3, 1)])
def test_more_units_are_active_at_first(active, max_iter, n_components, n_active):
    denoising(max_iter=max_iter, n_components=n_components, n_active=n_active).fit(X)
    found = [encoder for encoder, _ in active]
    assert found == [n for (n,) in falling(max_iter, (n_components, n_active))]
    assert found[-1] == n_active and [decoder for _, decoder in active] == [0] * max_iter
    if max_iter > 1 and n_components >= 4 * n_active:
        assert found[0] == 4 * n_active


def test_active_units_of_eight_epochs(active):
    denoising(max_iter=8).fit(X)
    assert [encoder for encoder, _ in active] == [8, 6, 5, 4, 2, 2, 2, 2]


def test_each_layer_begins_with_more(active):
    stacked(max_iter=[4, 6]).fit(X)
    found = [encoder for encoder, _ in active]
    expected = falling(4, (12, 3)) + falling(6, (8, 2))
    assert found == [n for (n,) in expected]


def test_nothing_falls_without_a_top_k_code(active):
    denoising(activation="relu", max_iter=4).fit(X)
    stacked(activation=["relu", "top_k"], max_iter=4).fit(X)
    assert active[:8] == [[0, 0]] * 8
    assert active[8:] == [[8, 0], [5, 0], [2, 0], [2, 0]]


@unsupervised
def test_nothing_falls_when_a_fit_continues(make, active):
    final = [[n, 0] for n in ((2,) if make is denoising else (3, 2))]
    estimator = make(max_iter=4, warm_start=True).fit(X)
    active.clear()
    estimator.fit(X)
    assert active == [one for one in final for _ in range(4)]
    active.clear()
    estimator.partial_fit(X)
    assert active == final
    active.clear()
    stream = make(max_iter=4, warm_start=True).partial_fit(X)
    assert active == final
    active.clear()
    stream.fit(X)
    assert active == [one for one in final for _ in range(4)]
    active.clear()
    stream.set_params(warm_start=False).fit(X)
    assert active[0] == [8, 0] if make is denoising else [12, 0]


def test_joint_training_begins_with_more_units_only_from_random_weights(active):
    whole = stacked(joint="only", joint_max_iter=6, warm_start=True).fit(X)
    expected = [[*one, 0, 0] for one in falling(6, (12, 3), (8, 2))]
    assert active == expected and expected[0] == [12, 8, 0, 0]
    active.clear()
    whole.fit(X)
    assert active == [[3, 2, 0, 0]] * 6
    active.clear()
    stacked(joint=True, joint_max_iter=6).fit(X)
    assert active[6:] == [[3, 2, 0, 0]] * 6
    active.clear()
    stacked(warm_start=True).fit(X).set_params(joint="only", joint_max_iter=6).fit(X)
    assert active[6:] == [[3, 2, 0, 0]] * 6


@supervised
def test_fine_tuning_begins_with_the_final_number(make, active):
    y = TARGETS[make]
    make(pretrain=stacked(max_iter=4), n_active=[3, 2]).fit(X, y)
    assert active[0] == [12, 0] and active[4] == [8, 0]
    assert active[8:] == [[3, 2, 0]] * 4
    active.clear()
    make(pretrain=False, n_active=[3, 2]).fit(X, y)
    assert active == [[3, 2, 0]] * 4


@pytest.mark.parametrize("fails", [None, KeyboardInterrupt, MemoryError])
def test_the_network_gets_back_its_final_number(fails, monkeypatch):
    networks = record_networks(monkeypatch)
    estimator = denoising(max_iter=8)
    if fails is None:
        estimator.fit(X)
    else:
        interrupt(monkeypatch, 2, error=fails)
        with (pytest.warns if fails is KeyboardInterrupt else pytest.raises)(
            UserWarning if fails is KeyboardInterrupt else fails
        ):
            estimator.fit(X)
    (network,) = networks
    assert network.layers["n_active"].tolist() == [2, 0]
    if fails is not MemoryError:
        counts = np.count_nonzero(estimator.transform(X), axis=1)
        assert counts.max() == 2


@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_first_half_does_not_stop(early_stopping):
    """After it, patience begins anew; without held-out samples, so does the best loss."""
    estimator = denoising(
        tol=1e6, n_iter_no_change=1, max_iter=20, early_stopping=early_stopping
    ).fit(X)
    assert estimator.n_iter_ == (11 if early_stopping else 12)
    other = clone(estimator).set_params(activation="relu").fit(X)
    assert other.n_iter_ == 2


# -- training: with all else ----------------------------------------------------------------------


@floats
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tied_weights": True},
        {"loss": "cross_entropy"},
        {"loss": "cross_entropy", "tied_weights": True},
        {"solver": "sgd"},
        {"early_stopping": True},
        {"alpha": 0.01, "learning_rate": "cosine"},
        {"corruption": "swap"},
        {"n_active": 12},
    ],
    ids=str,
)
def test_a_fit_goes_by_its_seed(params, dtype):
    given = X.astype(dtype)
    options = {"max_iter": 8, **params}
    one, other = (denoising(**options).fit(given) for _ in range(2))
    assert_same_fit(one, other)
    assert not same_fit(one, denoising(**options, random_state=1).fit(given))
    assert {array.dtype for array in common.weights_of(one)} == {np.dtype(dtype)}
    assert_same_fit(denoising(**options).fit(sp.csr_array(given)), one)
    assert_same_fit(pickle.loads(pickle.dumps(one)), one)
    assert np.isfinite(np.concatenate([array.ravel() for array in learned(one)])).all()
    with config_context(working_memory=0):
        assert_same_fit(denoising(**options).fit(given), one)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_single_precision_is_close_to_double(loss):
    double, single = (
        denoising(loss=loss, max_iter=4).fit(X.astype(dtype)) for dtype in (np.float64, np.float32)
    )
    assert not same_fit(double, single)
    assert_close_fit(double, single, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_training_begins_at_the_mean_sample(missing, weighted, loss, tied):
    """Missing values are no part of it, nor are samples of weight zero."""
    weights = np.arange(60) % 4 * 1.0 if weighted else None
    given = X.copy()
    if missing:
        given[np.random.default_rng(0).uniform(size=X.shape) < 0.3] = np.nan
    if weighted:
        given[weights == 0] = 1.0
    estimator = denoising(max_iter=1, learning_rate_init=1e-300, loss=loss, tied_weights=tied).fit(
        given, sample_weight=weights
    )
    known = np.ma.masked_invalid(given)
    mean = np.ma.average(known, axis=0, weights=weights).filled()
    bias = estimator.intercept_visible_
    assert_allclose(expit(bias) if loss == "cross_entropy" else bias, mean, rtol=1e-12)
    assert_allclose(pre_activations(estimator, mean), 0, atol=1e-12)


def test_layers_above_begin_at_the_mean_code():
    estimator = stacked(max_iter=[4, 1], learning_rate_init=[0.01, 1e-300]).fit(X)
    bottom, top = estimator.layers_
    assert_allclose(top.intercept_visible_, bottom.transform(X).mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_samples_of_weight_zero_are_not_there(solver):
    weights = np.arange(60) % 3 * 1.0
    garbage = np.where(weights[:, None] == 0, 1e6, X)
    options = {"solver": solver, "corruption": None, "max_iter": 6}
    with_them = denoising(**options).fit(garbage, sample_weight=weights)
    kept = weights > 0
    without = denoising(**options).fit(X[kept], sample_weight=weights[kept])
    assert_same_fit(with_them, without)
    assert with_them.dead_fraction_ == without.dead_fraction_


def test_a_weight_of_two_is_a_sample_seen_twice():
    weights = np.arange(60) % 4
    options = {"batch_size": 1000, "corruption": None, "shuffle": False, "solver": "sgd",
               "max_iter": 20}  # fmt: skip
    weighted = denoising(**options).fit(X, sample_weight=weights)
    repeated = denoising(**options).fit(np.repeat(X, weights, axis=0))
    assert_close_fit(weighted, repeated, atol=1e-9)


@floats
@unsupervised
def test_missing_values_are_learned_from(make, dtype):
    given = X.astype(dtype)
    given[np.random.default_rng(0).uniform(size=X.shape) < 0.3] = np.nan
    given[0] = np.nan
    estimator = make(max_iter=8).fit(given)
    layers, numbers = layers_of(estimator), [2] if make is denoising else [3, 2]
    expected = codes_of(layers, np.nan_to_num(given), numbers)[-1]
    assert_allclose(estimator.transform(given), expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(estimator.reconstruct(given)).all()
    assert estimator.reconstruction_r2_ > 0.1


def test_it_learns_which_atoms_a_sample_has():
    """Sums of two of eight directions, each by a unit of its own."""
    rng = np.random.default_rng(0)
    atoms = np.linalg.qr(rng.normal(size=(20, 8)))[0].T
    present = np.array([rng.permutation(8) < 2 for _ in range(600)])
    given = (present * rng.uniform(1, 2, size=present.shape)) @ atoms
    estimator = denoising(
        n_components=16, n_active=2, corruption=None, max_iter=150, learning_rate_init=0.01,
        learning_rate="cosine",
    ).fit(given)  # fmt: skip
    assert estimator.reconstruction_r2_ > 0.999
    codes = estimator.transform(given)
    codes = codes[:, codes.any(axis=0)]
    similar = np.corrcoef(codes.T, present.T)[: codes.shape[1], codes.shape[1] :]
    assert (similar.max(axis=0) > 0.95).all()


def test_defaults_leave_few_units_dead_on_digits():
    images = load_digits().data / 16
    estimator = common.denoising(
        n_components=64, activation="top_k", max_iter=30, batch_size=50, learning_rate_init=0.003
    ).fit(images)
    assert estimator.dead_fraction_ < 0.2
    assert estimator.reconstruction_r2_ > 0.7


# -- training: predictors -----------------------------------------------------------------------


@pytest.mark.parametrize("pretrain", [True, False, stacked(max_iter=2, n_active=1)])
@floats
def test_predictions_are_what_the_formulas_say(pretrain, dtype):
    given, rtol = X.astype(dtype), 1e-4 if dtype == np.float32 else 1e-10
    for make, y in TARGETS.items():
        estimator = make(pretrain=pretrain, n_active=[3, 2]).fit(given, y)
        codes = given
        for W, b, n in zip(estimator.coefs_, estimator.intercepts_, (3, 2)):
            codes = activate("top_k", codes @ W + b, n)
        assert_allclose(estimator.transform(given), codes, rtol=rtol, atol=rtol)
        logits = codes @ estimator.coefs_[-1] + estimator.intercepts_[-1]
        if make is classifier:
            expected = softmax(logits, axis=1)
            assert_allclose(estimator.predict_proba(given), expected, rtol=rtol, atol=rtol)
        else:
            assert_allclose(estimator.predict(given), logits[:, 0], rtol=rtol, atol=rtol)


@supervised
def test_n_active_of_the_stack_in_pretrain(make):
    y, own = TARGETS[make], stacked(max_iter=2)
    as_given = make(pretrain=own, n_active=[3, 2], warm_start=True).fit(X, y)
    by_stack = make(pretrain=own, activation=None, hidden_layer_sizes=None).fit(X, y)
    assert_same_fit(by_stack, as_given)
    assert as_given.pretrained_.layers_[1].n_active == 2
    other = make(pretrain=own, n_active=1, warm_start=True).fit(X, y)
    assert [layer.n_active for layer in other.pretrained_.layers_] == [1, 1]
    assert own.n_active == [3, 2] and not hasattr(own, "layers_")
    auto = make(pretrain=True, warm_start=True).fit(X, y)
    assert [layer.n_active for layer in auto.pretrained_.layers_] == ["auto"] * 2
    assert np.count_nonzero(auto.transform(X), axis=1).max() == 3


@supervised
def test_predictors_learn(make):
    y = TARGETS[make]
    for pretrain in (stacked(n_active=4, max_iter=20), False):
        estimator = make(pretrain=pretrain, n_active=4, max_iter=150).fit(X, y)
        assert estimator.score(X, y) > 0.8
        assert_same_fit(clone(estimator).fit(X, y), estimator)


# -- dead units ---------------------------------------------------------------------------------

# One of many units is active, so that most are dead.
few = partial(denoising, n_components=40, n_active=1)


def dead(codes):
    return (codes == 0).all(axis=0).mean()


@floats
@pytest.mark.parametrize("sparse", [False, True])
def test_dead_units_are_never_active(sparse, dtype):
    given = X.astype(dtype)
    given = sp.csr_array(given) if sparse else given
    estimator = few().fit(given)
    assert type(estimator.dead_fraction_) is float
    assert 0 < estimator.dead_fraction_ < 1
    assert_allclose(estimator.dead_fraction_, dead(estimator.transform(given)), atol=1e-12)
    with config_context(working_memory=0):
        assert few().fit(given).dead_fraction_ == estimator.dead_fraction_
    for params in ({"transform_n_active": 40}, {"sparse_output": True}):
        assert few(**params).fit(given).dead_fraction_ == estimator.dead_fraction_


def test_dead_units_of_held_out_samples():
    estimator = few(early_stopping=True, validation_fraction=0.3).fit(X)
    training, held_out = split(estimator, X)
    codes = estimator.transform(X)
    assert_allclose(estimator.dead_fraction_, dead(codes[held_out]), atol=1e-12)
    assert dead(codes[held_out]) != dead(codes[training])


def test_dead_units_are_those_of_the_measured_samples(monkeypatch):
    limit_measured(monkeypatch, 10)
    estimator = few().fit(X)
    codes = estimator.transform(X)
    assert_allclose(estimator.dead_fraction_, dead(codes[::6]), atol=1e-12)
    assert dead(codes[::6]) > dead(codes)


def test_no_unit_need_be_dead():
    assert denoising(n_active=12, n_components=12).fit(X).dead_fraction_ == 0.0


def test_dead_units_of_each_layer():
    estimator = stacked(hidden_layer_sizes=(40, 30), n_active=1).fit(X)
    codes = codes_of(estimator.layers_, X, (1, 1))
    for layer, its in zip(estimator.layers_, codes):
        assert_allclose(layer.dead_fraction_, dead(its), atol=1e-12)
    assert len({layer.dead_fraction_ for layer in estimator.layers_}) == 2
    assert not hasattr(estimator, "dead_fraction_")
    mixed = stacked(activation=["relu", "top_k"]).fit(X)
    assert [hasattr(layer, "dead_fraction_") for layer in mixed.layers_] == [False, True]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_only_top_k_codes_have_dead_units(activation):
    assert not hasattr(denoising(activation=activation).fit(X), "dead_fraction_")
    estimator = denoising().fit(X)
    assert hasattr(estimator, "dead_fraction_")
    estimator.set_params(activation=activation).fit(X)
    assert not hasattr(estimator, "dead_fraction_")


def test_dead_units_go_with_partial_fit():
    estimator = stacked().fit(X)
    assert all(hasattr(layer, "dead_fraction_") for layer in estimator.layers_)
    estimator.partial_fit(X)
    for layer in [*estimator.layers_, denoising().partial_fit(X)]:
        assert not hasattr(layer, "dead_fraction_")
    alone = few(warm_start=True).fit(X).partial_fit(X)
    assert not hasattr(alone, "dead_fraction_")
    assert_allclose(alone.fit(X).dead_fraction_, dead(alone.transform(X)), atol=1e-12)


def test_an_interrupted_fit_has_dead_units(monkeypatch):
    estimator = few(max_iter=8)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.warns(UserWarning, match="interrupted"):
            estimator.fit(X)
    assert estimator.n_iter_ == 2
    assert_allclose(estimator.dead_fraction_, dead(estimator.transform(X)), atol=1e-12)


def test_ctrl_c_while_dead_units_are_counted(monkeypatch):
    whole = few(warm_start=True).fit(X)
    for call in (1, 2):  # the reconstructions come first
        estimator = few()
        with monkeypatch.context() as patch:
            interrupt(patch, call, function="outputs")
            with pytest.warns(UserWarning, match="training interrupted by user"):
                estimator.fit(X)
        assert not hasattr(estimator, "dead_fraction_")
        assert np.isnan(estimator.reconstruction_r2_)
        assert_array_equal(estimator.transform(X), whole.transform(X))


def test_verbose_says_how_many_are_dead(capsys):
    estimator = few(verbose=True).fit(X)
    told = f"= {estimator.reconstruction_r2_:.3g}, dead units: {estimator.dead_fraction_:.1%}"
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"[DenoisingAutoencoder] R^2 of the reconstruction {told}"
    stack = stacked(verbose=True, early_stopping=True).fit(X)
    lines = capsys.readouterr().out.splitlines()
    for k, layer in enumerate(stack.layers_, start=1):
        ends = f"dead units: {layer.dead_fraction_:.1%}"
        name = f"[StackedAutoencoder, layer {k} of 2] R^2"
        assert [line.endswith(ends) for line in lines if line.startswith(name)] == [True]
    assert lines[-1].startswith("[StackedAutoencoder] R^2") and "dead" not in lines[-1]
