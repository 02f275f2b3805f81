"""DenoisingAutoencoder: its formulas, what it learns, and how fits continue."""

import pickle
from functools import cache, partial

import common
import numpy as np
import pytest
from common import assert_close_fit, assert_same_fit, learned, ranges_of
from numpy.testing import assert_allclose, assert_array_equal
from reference import activate
from scipy.linalg import subspace_angles
from scipy.special import expit
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from skae import DenoisingAutoencoder
from skae._parameters import CORRUPTIONS, GAUSSIAN

pytestmark = pytest.mark.usefixtures("one_thread")


ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "top_k": lambda z: activate("top_k", z, 3),  # the square root of 7, rounded up
}
NOISES = [*CORRUPTIONS, None]
SOLVERS = {
    "adam": {"solver": "adam"},
    "momentum": {"solver": "sgd", "momentum": 0.9, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.9},
    "plain": {"solver": "sgd", "momentum": 0.0},
}

X = common.rows(60)

denoising = partial(common.denoising, activation="tanh")


@cache
def digits():
    """Pixels in [0, 1] and labels."""
    images, labels = load_digits(return_X_y=True)
    return images / 16.0, labels


# -- formulas ---------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_attributes_and_shapes(tied):
    estimator = denoising(tied_weights=tied, early_stopping=True)
    assert estimator.fit(X) is estimator
    assert estimator.components_.shape == (7, 9)
    assert estimator.decoder_components_.shape == (7, 9)
    assert np.array_equal(estimator.components_, estimator.decoder_components_) == tied
    assert estimator.intercept_hidden_.shape == (7,)
    assert estimator.intercept_visible_.shape == (9,)
    assert estimator.n_features_in_ == 9
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 3
    assert len(estimator.validation_loss_curve_) == 3
    assert estimator.loss_ == estimator.loss_curve_[-1]
    assert estimator.best_loss_ == min(estimator.validation_loss_curve_)
    assert all(type(value) is float for value in estimator.loss_curve_)
    assert all(type(value) is float for value in estimator.validation_loss_curve_)
    assert estimator.transform(X).shape == (60, 7)
    assert estimator.inverse_transform(estimator.transform(X)).shape == (60, 9)
    assert estimator.score_samples(X).shape == (60,)


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_code_reconstruction_and_score_are_what_the_formulas_say(
    activation, loss, tied, dtype, rtol
):
    rows = X.astype(dtype)
    estimator = denoising(activation=activation, loss=loss, tied_weights=tied).fit(rows)
    W, V = estimator.components_.astype(float), estimator.decoder_components_.astype(float)
    codes = ACTIVATIONS[activation](rows @ W.T + estimator.intercept_hidden_)
    assert_allclose(estimator.transform(rows), codes, rtol=rtol, atol=rtol)
    logits = codes @ V + estimator.intercept_visible_
    output = logits if loss == "squared_error" else expit(logits)
    found = estimator.inverse_transform(estimator.transform(rows))
    assert_allclose(found, output, rtol=rtol, atol=rtol)
    if loss == "squared_error":
        expected = -((rows - output) ** 2).sum(axis=1)
    else:
        expected = (rows * np.log(output) + (1 - rows) * np.log(1 - output)).sum(axis=1)
    scores = estimator.score_samples(rows)
    assert scores.dtype == np.float64
    assert_allclose(scores, expected, rtol=10 * rtol)
    assert_allclose(estimator.score(rows), expected.mean(), rtol=10 * rtol)


@pytest.mark.parametrize("tied", [True, False])
def test_what_was_not_seen_in_training_is_coded_by_the_same_formulas(tied):
    rows = np.random.default_rng(3).normal(size=(5, 9))
    estimator = denoising(tied_weights=tied).fit(X)
    codes = np.tanh(rows @ estimator.components_.T + estimator.intercept_hidden_)
    assert_allclose(estimator.transform(rows), codes)
    free = np.random.default_rng(4).normal(size=(5, 7))
    assert_allclose(
        estimator.inverse_transform(free),
        free @ estimator.decoder_components_ + estimator.intercept_visible_,
    )


@pytest.mark.parametrize("corruption", NOISES)
def test_no_noise_on_rows_that_are_only_looked_at(corruption):
    estimator = denoising(corruption=corruption, corruption_level=0.9).fit(X)
    assert_array_equal(estimator.transform(X), estimator.transform(X))
    assert_array_equal(estimator.score_samples(X), estimator.score_samples(X))
    assert_allclose(
        estimator.transform(X),
        np.tanh(X @ estimator.components_.T + estimator.intercept_hidden_),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


# -- what it learns ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd", "learning_rate_init": 0.01, "max_iter": 100},
        {"solver": "adam", "learning_rate_init": 0.03, "max_iter": 100},
        {"solver": "adam", "learning_rate_init": 0.03, "max_iter": 200, "tied_weights": False},
    ],
    ids=["sgd", "adam", "adam, untied"],
)
def test_linear_autoencoder_spans_the_principal_subspace(params):
    rows, _ = digits()
    estimator = DenoisingAutoencoder(
        4, activation="identity", corruption=None, learning_rate="cosine", batch_size=100,
        random_state=0, **params,
    ).fit(rows)  # fmt: skip
    pca = PCA(4).fit(rows)
    codes = estimator.transform(rows)
    angles = subspace_angles(codes - codes.mean(axis=0), pca.transform(rows))
    assert angles.max() < 0.05
    assert subspace_angles(estimator.decoder_components_.T, pca.components_.T).max() < 0.05
    if estimator.tied_weights:  # else a pixel that is always 0 leaves its weights as they began
        assert subspace_angles(estimator.components_.T, pca.components_.T).max() < 0.05
    best = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(axis=1).mean()
    assert best <= -estimator.score(rows) < 1.001 * best


@pytest.mark.slow
def test_overcomplete_logistic_code_beats_raw_pixels():
    rows, labels = digits()
    autoencoder = DenoisingAutoencoder(
        256, activation="logistic", loss="cross_entropy", corruption="masking",
        corruption_level=0.3, solver="adam", learning_rate_init=0.003, max_iter=60, batch_size=20,
        random_state=0,
    )  # fmt: skip
    classifier = LogisticRegression(max_iter=5000)
    folds = StratifiedKFold(5)
    raw = cross_val_score(classifier, rows, labels, cv=folds).mean()
    coded = make_pipeline(autoencoder, classifier)
    assert cross_val_score(coded, rows, labels, cv=folds).mean() > raw


@pytest.mark.parametrize(
    "params",
    [
        {"activation": "relu"},
        {"activation": "tanh", "solver": "sgd", "learning_rate_init": 0.01},
        {"activation": "logistic", "loss": "cross_entropy"},
        {"activation": "relu", "loss": "cross_entropy", "corruption": "salt_and_pepper"},
    ],
)
def test_score_tells_digits_from_random_rows(params):
    rows, _ = digits()
    options = {"learning_rate_init": 0.003, "max_iter": 20, "batch_size": 50, "random_state": 0}
    estimator = DenoisingAutoencoder(64, **{**options, **params}).fit(rows[:900])
    random = np.random.default_rng(0).uniform(size=(897, 64))
    scores = np.r_[estimator.score_samples(rows[900:]), estimator.score_samples(random)]
    assert roc_auc_score(np.repeat([1, 0], 897), scores) > 0.99


@pytest.mark.parametrize(
    "activation, target", [("logistic", 0.05), ("logistic", 0.6), ("tanh", 0.1)]
)
def test_sparsity_moves_the_mean_activation_to_its_target(activation, target):
    rows, _ = digits()
    options = dict(
        n_components=30, activation=activation, corruption=None, max_iter=30, batch_size=100,
        learning_rate_init=0.01, random_state=0, sparsity_target=target,
    )  # fmt: skip

    def distance(penalty):
        codes = DenoisingAutoencoder(**options, sparsity_penalty=penalty).fit_transform(rows)
        if activation == "tanh":
            codes = (1 + codes) / 2  # as a probability
        return np.abs(codes.mean(axis=0) - target).mean()

    free, loose, tight = distance(0.0), distance(1.0), distance(30.0)
    assert loose < 0.7 * free
    assert tight < 0.02


def test_alpha_shrinks_the_weights():
    norms = [
        np.linalg.norm(denoising(alpha=a, max_iter=20).fit(X).components_) for a in (0, 1e-2, 1)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_denoising_restores_what_was_masked():
    """Trained with noise, it reconstructs masked rows better than trained without."""
    rows, _ = digits()
    keep = np.random.default_rng(0).uniform(size=rows.shape) > 0.3
    options = dict(n_components=64, activation="relu", max_iter=20, batch_size=50, random_state=0,
                   learning_rate_init=0.003)  # fmt: skip

    def error(corruption):
        estimator = DenoisingAutoencoder(corruption=corruption, **options).fit(rows[:900])
        restored = estimator.inverse_transform(estimator.transform((rows * keep)[900:]))
        return ((restored - rows[900:]) ** 2).sum(axis=1).mean()

    assert error("masking") < 0.7 * error(None)


# -- weights of the rows ------------------------------------------------------------------

EXACT = {"batch_size": 1000, "corruption": None, "shuffle": False, "max_iter": 20}


@pytest.mark.parametrize("solver", ["momentum", "nesterov", "plain"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_a_weight_of_two_is_a_row_seen_twice(loss, tied, solver):
    weights = np.random.default_rng(0).integers(0, 4, size=60)
    options = {**EXACT, **SOLVERS[solver], "loss": loss, "tied_weights": tied, "alpha": 0.01}
    weighted = denoising(**options).fit(X, sample_weight=weights)
    repeated = denoising(**options).fit(np.repeat(X, weights, axis=0))
    assert_close_fit(weighted, repeated, atol=1e-9)


def test_a_weight_of_two_is_a_row_seen_twice_by_the_sparsity_penalty():
    weights = np.random.default_rng(0).integers(0, 4, size=60)
    options = {**EXACT, **SOLVERS["plain"], "sparsity_penalty": 0.5, "activation": "logistic"}
    weighted = denoising(**options).fit(X, sample_weight=weights)
    repeated = denoising(**options).fit(np.repeat(X, weights, axis=0))
    assert_close_fit(weighted, repeated, atol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_weight_zero_might_as_well_not_be_there(solver, early_stopping):
    weights = np.random.default_rng(0).integers(0, 3, size=60).astype(float)
    garbage = np.where(weights[:, None] == 0, 1e6, X)
    options = {**SOLVERS[solver], "corruption": None, "early_stopping": early_stopping}
    with_them = denoising(**options).fit(garbage, sample_weight=weights)
    without = denoising(**options).fit(X[weights > 0], sample_weight=weights[weights > 0])
    assert_same_fit(with_them, without)


@pytest.mark.parametrize("solver", SOLVERS)
def test_only_the_ratios_of_weights_matter(solver):
    weights = np.random.default_rng(0).uniform(size=60)
    one = denoising(**SOLVERS[solver]).fit(X, sample_weight=weights)
    assert_same_fit(one, denoising(**SOLVERS[solver]).fit(X, sample_weight=1024 * weights))
    equal = denoising(**SOLVERS[solver]).fit(X, sample_weight=np.full(60, 0.5))
    assert_close_fit(equal, denoising(**SOLVERS[solver]).fit(X), atol=1e-9)


def test_heavier_rows_are_reconstructed_better():
    heavy = np.where(np.arange(60) < 10, 50.0, 1.0)
    options = {"max_iter": 100, "n_components": 2, "corruption": None}
    plain = denoising(**options).fit(X).score_samples(X[:10]).mean()
    assert denoising(**options).fit(X, sample_weight=heavy).score_samples(X[:10]).mean() > plain


# -- fits that continue ---------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("corruption", NOISES)
def test_three_epochs_and_four_are_seven(corruption, solver, pickled):
    options = {**SOLVERS[solver], "corruption": corruption}
    whole = denoising(**options, max_iter=7).fit(X)
    estimator = denoising(**options, max_iter=3, warm_start=True).fit(X)
    if pickled:
        estimator = pickle.loads(pickle.dumps(estimator))
    estimator.set_params(max_iter=4).fit(X)
    assert_same_fit(estimator, whole)
    assert estimator.n_iter_ == 7


def test_salt_and_pepper_goes_by_the_extremes_of_all_rows_so_far():
    estimator = denoising(corruption="salt_and_pepper")
    for rows in (X, 0.2 + 0.5 * X):  # the later rows lie within the earlier ones
        estimator.partial_fit(rows)
        assert_array_equal(ranges_of(estimator), [X.min(axis=0), X.max(axis=0)])


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("corruption", NOISES)
def test_partial_fits_over_all_rows_are_the_epochs_of_a_fit(corruption, solver, pickled):
    options = {**SOLVERS[solver], "corruption": corruption}
    estimator = denoising(**options)
    for _ in range(4):
        estimator.partial_fit(X)
        if pickled:
            estimator = pickle.loads(pickle.dumps(estimator))
    # The deviations of a stream are sums of all its samples, which rounds.
    assert_equal = assert_close_fit if corruption in GAUSSIAN else assert_same_fit
    assert_equal(estimator, denoising(**options, max_iter=4).fit(X))
    estimator.set_params(warm_start=True).fit(X)
    assert_equal(estimator, denoising(**options, max_iter=7).fit(X))


@pytest.mark.parametrize(
    "params",
    [
        {"activation": "logistic", "sparsity_penalty": 0.2, "alpha": 0.01},
        {"tied_weights": False, "loss": "cross_entropy"},
        {"shuffle": False},
        {"learning_rate": "adaptive", "n_iter_no_change": 1, "corruption_level": 0.9},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_more_that_continues_to_the_last_bit(params, dtype):
    rows, weights = X.astype(dtype), np.linspace(0, 1, 60)
    whole = denoising(**params, max_iter=7).fit(rows, sample_weight=weights)
    estimator = denoising(**params, max_iter=3, warm_start=True).fit(rows, sample_weight=weights)
    estimator.set_params(max_iter=4).fit(rows, sample_weight=weights)
    assert_same_fit(estimator, whole)


def test_partial_fit_learns_from_a_stream():
    rows, _ = digits()
    estimator = DenoisingAutoencoder(
        32, corruption_level=0.3, learning_rate_init=0.003, random_state=0
    )
    scores = []
    for _ in range(3):
        for part in np.array_split(rows[:1500], 15):
            estimator.partial_fit(part)
        scores.append(estimator.score(rows[1500:]))
    assert scores == sorted(scores)
    assert scores[-1] > 0.7 * -rows[1500:].var(axis=0).sum()
    assert estimator.n_iter_ == 45


def test_salt_and_pepper_remembers_the_extremes_of_a_stream():
    """Rows that came earlier widen the noise that later rows get."""
    narrow = np.full((20, 3), 0.5) + np.linspace(-0.1, 0.1, 20)[:, None]
    wide = np.vstack([narrow, np.full((1, 3), 9.0)])
    options = dict(corruption="salt_and_pepper", corruption_level=1.0, learning_rate_init=1e-300,
                   activation="identity")  # fmt: skip
    costs = []
    for first in (narrow, wide):
        estimator = denoising(**options).partial_fit(first).partial_fit(narrow)
        costs.append(estimator.loss_curve_[-1])
    assert costs[1] > 10 * costs[0]


def test_fit_without_warm_start_begins_anew():
    estimator = denoising().fit(X).partial_fit(X).fit(X)
    assert_same_fit(estimator, denoising().fit(X))
    other = denoising().fit(X[:, :5]).fit(X)
    assert_same_fit(other, estimator)
    assert other.n_features_in_ == 9


def test_what_was_learned_before_does_not_change_when_a_fit_continues():
    estimator = denoising(warm_start=True).fit(X)
    before = learned(estimator)
    copies = [array.copy() for array in before]
    curve = estimator.loss_curve_
    estimator.fit(X)
    for array, its in zip(before, copies, strict=True):
        assert_array_equal(array, its)
    assert len(curve) == 3
