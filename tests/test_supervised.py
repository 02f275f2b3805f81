"""The classifier and the regressor: pretraining, fine-tuning, targets, input."""

import copy
import pickle
import re
import warnings
from functools import partial
from itertools import product

import common
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from common import (
    TRAINING_EFFECTS,
    assert_close_fit,
    assert_same_fit,
    bytes_of,
    refuses,
    same_fit,
    set_parameters,
    state_of,
    uniform,
    weights_of,
    with_value,
)
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, scale
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import compute_sample_weight

from skae import (
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
)

pytestmark = pytest.mark.usefixtures("one_thread")


SMALL = {
    **common.SMALL, "hidden_layer_sizes": (7, 5), "activation": "tanh", "pretrain": False,
    "max_iter": 4,
}  # fmt: skip


def classifier(**params):
    return StackedAutoencoderClassifier(**{**SMALL, **params})


def regressor(**params):
    return StackedAutoencoderRegressor(**{**SMALL, **params})


stack = partial(common.stacked, activation="tanh", max_iter=2, random_state=5)

both = pytest.mark.parametrize("make", [classifier, regressor])


X = uniform()
# Classes of different sizes, and what else can be learned from X.
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
BINARY = (CODES > 0).astype(int)
LABELS = (X[:, :4] > [0.3, 0.5, 0.6, 0.5]).astype(int)
VALUES = 3 * X[:, 0] - 2 * X[:, 1] ** 2
PAIRS = np.column_stack([VALUES, X[:, 2]])
NAMES = np.array(["pear", "apple", "fig"])[CODES]
UNLABELLED = np.arange(60) % 3 == 1  # a third of the rows

TARGETS = {
    "binary": (classifier, BINARY),
    "multiclass": (classifier, CODES),
    "multilabel": (classifier, LABELS),
    "strings": (classifier, NAMES),
    "signs": (classifier, 2 * BINARY - 1),
    "values": (regressor, VALUES),
    "pairs": (regressor, PAIRS),
}
targets = pytest.mark.parametrize("make, y", TARGETS.values(), ids=TARGETS)
CLASSES = ["binary", "multiclass", "multilabel", "strings", "signs"]
class_targets = pytest.mark.parametrize("y", [TARGETS[name][1] for name in CLASSES], ids=CLASSES)


def y_for(make):
    return CODES if make is classifier else VALUES


def unlabelled(y, hidden=UNLABELLED):
    """y as the estimators take it when these rows have no labels."""
    if y.dtype.kind == "f":
        y = y.copy()
        y[hidden] = np.nan
        return y
    y = y.astype(object) if y.dtype.kind == "U" else y.copy()
    y[hidden] = -1
    return y


def activate(name, z):
    return {
        "identity": lambda z: z,
        "logistic": special.expit,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
    }[name](z)


# -- predictions -------------------------------------------------------------------------


@targets
def test_learns_what_can_be_learned(make, y):
    estimator = make(max_iter=150, activation="relu", hidden_layer_sizes=(20,), batch_size=10)
    estimator.fit(X, y)
    assert estimator.score(X, y) > 0.9
    assert estimator.loss_curve_[-1] < estimator.loss_curve_[0]
    assert estimator.loss_ == estimator.loss_curve_[-1]
    assert estimator.n_iter_ == 150
    predicted = estimator.predict(X)
    assert predicted.shape == y.shape
    if make is classifier:
        assert predicted.dtype == y.dtype
        assert set(np.unique(predicted)) == set(np.unique(y))


@class_targets
def test_all_that_is_predicted_agrees(y):
    estimator = classifier(max_iter=20).fit(X, y)
    new = uniform(40, seed=1)
    scores, proba = estimator.decision_function(new), estimator.predict_proba(new)
    predicted = estimator.predict(new)
    assert len(np.unique(predicted)) > 1
    assert proba.dtype == scores.dtype == np.float64
    assert_allclose(np.exp(estimator.predict_log_proba(new)), proba, rtol=1e-12)
    if y.ndim == 2:
        assert_array_equal(estimator.classes_, np.arange(4))
        assert scores.shape == proba.shape == (40, 4)
        assert_allclose(proba, special.expit(scores))
        assert_array_equal(predicted, (proba > 0.5).astype(int))
        return
    assert_array_equal(estimator.classes_, np.unique(y))
    assert proba.shape == (40, len(estimator.classes_))
    assert_allclose(proba.sum(axis=1), 1)
    assert_array_equal(predicted, estimator.classes_[proba.argmax(axis=1)])
    if len(estimator.classes_) == 2:
        assert scores.shape == (40,)
        assert_allclose(proba[:, 1], special.expit(scores))
    else:
        assert_allclose(proba, special.softmax(scores, axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@class_targets
def test_log_probabilities_do_not_underflow(y, dtype):
    estimator = classifier().fit(X.astype(dtype), y)
    state_of(estimator).params[:] *= 1e5
    log_proba = estimator.predict_log_proba(X.astype(dtype))
    assert np.isfinite(log_proba).all()
    assert log_proba.min() < -1000
    assert (estimator.predict_proba(X.astype(dtype)) >= 0).all()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@targets
def test_a_forward_pass_by_hand(make, y, dtype, activation):
    """Shapes of coefs_ and intercepts_ are those of scikit-learn."""
    estimator = make(activation=activation).fit(X.astype(dtype), y)
    n_outputs = {"i": 3, "U": 3, "f": 1}[y.dtype.kind] if y.ndim == 1 else y.shape[1]
    if make is classifier and y.ndim == 1 and len(np.unique(y)) == 2:
        n_outputs = 1
    assert [w.shape for w in estimator.coefs_] == [(9, 7), (7, 5), (5, n_outputs)]
    assert [b.shape for b in estimator.intercepts_] == [(7,), (5,), (n_outputs,)]
    assert all(a.dtype == dtype for a in weights_of(estimator))
    codes = X.astype(dtype)
    for w, b in zip(estimator.coefs_[:-1], estimator.intercepts_[:-1]):
        codes = activate(activation, codes @ w + b)
    z = codes @ estimator.coefs_[-1] + estimator.intercepts_[-1]
    tol = {"rtol": 1e-4, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-13}
    found = estimator.transform(X.astype(dtype))
    assert found.dtype == dtype
    assert_allclose(found, codes, **tol)
    if make is regressor:
        found = estimator.predict(X.astype(dtype))
        assert found.dtype == dtype
        assert_allclose(found.reshape(z.shape), z, **tol)
        return
    expected = special.expit(z)
    if y.ndim == 1:
        expected = np.hstack([1 - expected, expected]) if n_outputs == 1 else special.softmax(z, 1)
    assert_allclose(estimator.predict_proba(X.astype(dtype)), expected, **tol)


@targets
def test_codes_and_their_names(make, y):
    frame = pd.DataFrame(X, columns=[f"column {k}" for k in range(9)])
    estimator = make().fit(frame, y)
    assert list(estimator.feature_names_in_) == list(frame.columns)
    names = estimator.get_feature_names_out()
    assert list(names) == [f"{type(estimator).__name__.lower()}{k}" for k in range(5)]
    plain, predicted = estimator.transform(frame), estimator.predict(frame)
    estimator.set_output(transform="pandas")
    codes = estimator.transform(frame)
    assert list(codes.columns) == list(names)
    assert_array_equal(codes.to_numpy(), plain)
    assert isinstance(estimator.predict(frame), np.ndarray)
    assert_array_equal(estimator.predict(frame), predicted)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(frame[frame.columns[::-1]])
    assert_array_equal(make().fit_transform(X, y), plain)


METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform"]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype, value", [(np.float32, -3.4e38), (np.float64, -1.7e308)])
@targets
def test_a_sample_at_the_end_of_the_floats_does_no_harm(make, y, dtype, value, activation):
    """The predictions for the others are what they are without it."""
    rows = X.astype(dtype)
    fits = [make(activation=activation).fit(rows, y)]
    if make is classifier and y.ndim == 1 and activation in ("logistic", "tanh"):
        final = LogisticRegression()  # which takes finite codes only
        fits.append(make(activation=activation, final_estimator=final).fit(rows, y))
    given, others = rows.copy(), np.arange(60) != 17
    given[17] = value
    for estimator, name in product(fits, METHODS):
        if hasattr(estimator, name):
            found, expected = (getattr(estimator, name)(part) for part in (given, rows))
            assert found.shape == expected.shape
            assert_array_equal(found[others], expected[others])


@pytest.mark.parametrize(
    "make, name",
    [(regressor, "predict"), (regressor, "score"), (classifier, "score")]
    + [(classifier, name) for name in METHODS],
)
def test_not_fitted(make, name):
    args = (X, CODES) if name == "score" else (X,)
    with pytest.raises(NotFittedError):
        getattr(make(), name)(*args)
    assert not hasattr(make(), "coefs_") and not hasattr(make(), "intercepts_")


# -- a step of training is that of scikit-learn ------------------------------------------


STEPS = {
    "plain": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "momentum": 0.8, "nesterovs_momentum": True},
    "adam": {"solver": "adam", "beta_1": 0.8, "beta_2": 0.9},
}
PEERS = {
    "binary": (classifier, MLPClassifier, BINARY),
    "multiclass": (classifier, MLPClassifier, CODES),
    "multilabel": (classifier, MLPClassifier, LABELS),
    # Of a mean of zero and a scale of one, which our regressor gives to any other.
    "values": (regressor, MLPRegressor, (VALUES - VALUES.mean()) / VALUES.std()),
}


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
@pytest.mark.parametrize("solver", STEPS)
@pytest.mark.parametrize("case", PEERS)
def test_epochs_are_those_of_scikit_learn(case, solver, activation):
    """From the same weights, with plain settings; MLPRegressor minimises half our loss."""
    make, peer, y = PEERS[case]
    options = {"activation": activation, "alpha": 0.0, "batch_size": 16, "shuffle": False}
    options |= STEPS[solver]
    rate, factor = 0.05, 2.0 if peer is MLPRegressor and solver != "adam" else 1.0
    ours = make(**options, hidden_layer_sizes=(7, 5), learning_rate_init=rate, warm_start=True)
    theirs = peer(
        hidden_layer_sizes=(7, 5), **options, learning_rate_init=rate * factor, random_state=1
    )
    if solver == "adam":  # whose epsilon knows the scale of a gradient
        ours.set_params(epsilon=1e-8)
        theirs.set_params(epsilon=1e-8 / (2 if peer is MLPRegressor else 1))
    classes = {"classes": np.unique(y)} if make is classifier and y.ndim == 1 else {}
    extra = {"classes": np.arange(4)} if case == "multilabel" else {}
    theirs.partial_fit(X, y, **classes, **extra)
    del theirs._optimizer  # which would hold moments, of the weights that were
    ours.fit(X, y)
    rng = np.random.default_rng(0)
    set_parameters(ours, rng.normal(size=len(state_of(ours).params)) / 2)
    theirs.coefs_ = [w.copy() for w in ours.coefs_]
    theirs.intercepts_ = [b.copy() for b in ours.intercepts_]
    before = [a.copy() for a in weights_of(ours)]
    ours.set_params(max_iter=2).fit(X, y)
    for _ in range(2):
        theirs.partial_fit(X, y)
    for was, mine, its in zip(before, weights_of(ours), [*theirs.coefs_, *theirs.intercepts_]):
        assert np.abs(mine - was).max() > 1e-4
        assert_allclose(mine, its, rtol=1e-9, atol=1e-11)


# -- unlabelled rows ---------------------------------------------------------------------


@pytest.mark.parametrize("pretrain", [True, "stack"])
@targets
def test_unlabelled_rows_take_part_in_pretraining(make, y, pretrain):
    if np.unique(y).tolist() == [-1, 1]:
        y = BINARY  # with 1 and -1 there is no row without a label
    if y.dtype.kind == "i":
        y = y.astype(np.int64)
    estimator = make(pretrain=stack() if pretrain == "stack" else True, warm_start=True)
    estimator.fit(X, unlabelled(y))
    expected = clone(estimator.pretrained_).fit(X)
    assert_same_fit(estimator.pretrained_, expected)
    assert not same_fit(expected, clone(expected).fit(X[~UNLABELLED]))
    if pretrain == "stack":
        assert_same_fit(estimator.pretrained_, stack().fit(X))
        assert not hasattr(estimator.pretrain, "layers_")
    # Fine-tuning knows the labelled rows only.
    alone = make(pretrain=FrozenEstimator(expected)).fit(X[~UNLABELLED], y[~UNLABELLED])
    tuned = make(pretrain=FrozenEstimator(expected)).fit(X, unlabelled(y))
    assert_same_fit(tuned, alone)
    assert_array_equal(tuned.predict(X), alone.predict(X))
    if make is classifier:
        assert_array_equal(tuned.classes_, alone.classes_)
        assert not np.isin(-1, tuned.predict(X).astype(object))


@targets
def test_without_pretraining_unlabelled_rows_do_nothing(make, y):
    if np.unique(y).tolist() == [-1, 1]:
        y = BINARY
    for early_stopping in (False, True):
        estimator = make(early_stopping=early_stopping).fit(X, unlabelled(y))
        alone = make(early_stopping=early_stopping).fit(X[~UNLABELLED], y[~UNLABELLED])
        assert_same_fit(estimator, alone)
        assert not hasattr(estimator, "pretrained_")


def test_object_labels():
    names = NAMES.astype(object)
    estimator = classifier().fit(X, names)
    assert_same_fit(estimator, classifier().fit(X, NAMES))
    assert_array_equal(estimator.classes_, ["apple", "fig", "pear"])
    numbers = CODES.astype(object)
    assert_same_fit(classifier().fit(X, numbers), classifier().fit(X, CODES))
    hidden = classifier().fit(X, unlabelled(NAMES))
    assert_same_fit(hidden, classifier().fit(X[~UNLABELLED], NAMES[~UNLABELLED]))
    assert set(hidden.predict(X)) <= {"apple", "fig", "pear"}


@pytest.mark.parametrize("dtype", [int, float])
def test_minus_one_and_one_are_two_classes(dtype):
    y = (2 * BINARY - 1).astype(dtype)
    estimator = classifier(max_iter=40).fit(X, y)
    assert_same_fit(estimator, classifier(max_iter=40).fit(X, BINARY))
    assert_array_equal(estimator.classes_, [-1, 1])
    assert set(estimator.predict(X)) == {-1, 1}
    # With a third value, -1 is what it always is.
    y[0], y[1] = 1, 0
    hidden = classifier().fit(X, y)
    assert_array_equal(hidden.classes_, [0, 1])
    part = classifier().partial_fit(X[:20], y[:20] * 0 + 1, classes=[-1, 1])
    one_class = part.partial_fit(X[:5], np.full(5, -1))
    assert_array_equal(one_class.classes_, [-1, 1])


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_continued_fit_knows_its_classes(method):
    """Rows that hold one of two classes, and unlabelled ones, are no problem of -1 and 1."""
    few = np.where(BINARY[:20] == 1, 1, -1)
    assert set(few) == {-1, 1}
    estimator = classifier(warm_start=True).fit(X, BINARY)
    expected = copy.deepcopy(estimator)
    getattr(estimator, method)(X[:20], few)
    getattr(expected, method)(X[:20][few == 1], few[few == 1])
    assert_same_fit(estimator, expected)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_continued_fit_of_signs_may_see_one_of_them(method):
    estimator = classifier(warm_start=True).fit(X, 2 * BINARY - 1)
    expected = classifier(warm_start=True).fit(X, BINARY)
    none = BINARY == 0
    getattr(estimator, method)(X[none], np.full(none.sum(), -1))
    getattr(expected, method)(X[none], np.zeros(none.sum(), dtype=int))
    assert_same_fit(estimator, expected)


def test_rows_without_weight_count_as_unlabelled():
    weights = np.where(UNLABELLED, 0.0, 1.0)
    y = np.where(UNLABELLED, CODES[::-1], CODES)
    estimator = classifier().fit(X, y, sample_weight=weights)
    assert_same_fit(
        estimator,
        classifier().fit(X[~UNLABELLED], CODES[~UNLABELLED], np.ones((~UNLABELLED).sum())),
    )
    assert_array_equal(estimator.classes_, [0, 1, 2])


# -- pretraining -------------------------------------------------------------------------


@both
def test_what_was_pretrained_is_where_fine_tuning_begins(make):
    fitted = stack().fit(X)
    before = bytes_of(fitted)
    for pretrain in (fitted, FrozenEstimator(fitted)):
        estimator = make(pretrain=pretrain, learning_rate_init=1e-300, max_iter=1, warm_start=True)
        estimator.fit(X, y_for(make))
        for layer, w, b in zip(fitted.layers_, estimator.coefs_, estimator.intercepts_):
            assert_array_equal(w, layer.components_.T)
            assert_array_equal(b, layer.intercept_hidden_)
        assert_allclose(estimator.coefs_[-1], 0, atol=1e-290)
        assert_array_equal(estimator.transform(X), fitted.transform(X))
        estimator.set_params(learning_rate_init=0.1).fit(X, y_for(make))
        assert not np.array_equal(estimator.coefs_[0], fitted.layers_[0].components_.T)
        assert_same_fit(estimator.pretrained_, fitted)
        assert estimator.pretrained_ is not fitted
    assert bytes_of(fitted) == before


@both
def test_a_stack_is_told_from_its_own_parameters(make):
    """Sizes and activation of the stack need not be said again, and an unfitted one is cloned."""
    params = {"hidden_layer_sizes": None, "activation": None}
    mixed = stack(activation=["relu", "tanh"])
    said = make(pretrain=mixed, hidden_layer_sizes=(7, 5), activation=["relu", "tanh"])
    told = make(pretrain=mixed, **params)
    assert_same_fit(told.fit(X, y_for(make)), said.fit(X, y_for(make)))
    assert [w.shape[1] for w in told.coefs_[:-1]] == [7, 5]
    assert not hasattr(mixed, "layers_")
    # The seed of a stack without one comes from the estimator.
    seedless = make(pretrain=stack(random_state=None), **params)
    one, other = (clone(seedless).fit(X, y_for(make)) for _ in range(2))
    assert_same_fit(one, other)
    assert not same_fit(one, clone(seedless).set_params(random_state=1).fit(X, y_for(make)))


FRAME = pd.DataFrame(X, columns=[f"column {k}" for k in range(9)])
OTHER_COLUMNS = {
    "reversed": FRAME[FRAME.columns[::-1]],
    "two exchanged": FRAME[[*FRAME.columns[1::-1], *FRAME.columns[2:]]],
    "renamed": FRAME.rename(columns={"column 3": "weight"}),
    "one missing": FRAME.drop(columns="column 3"),
    "one more": FRAME.assign(more=0.0),
}
pretrained_ways = pytest.mark.parametrize("way", [lambda stack: stack, FrozenEstimator],
                                          ids=["fitted", "frozen"])  # fmt: skip


def partial_fit_options(make):
    return {"classes": [0, 1, 2]} if make is classifier else {}


@pretrained_ways
@pytest.mark.parametrize("case", OTHER_COLUMNS)
@both
def test_columns_must_be_those_of_the_stack(make, case, way):
    """In their order, too; said as `transform` says it."""
    fitted, frame = stack().fit(FRAME), OTHER_COLUMNS[case]
    with pytest.raises(ValueError, match="feature names should match") as error:
        fitted.transform(frame)
    match = f"^{re.escape(str(error.value))}$"
    estimator = make(pretrain=way(fitted))
    refuses(estimator, "fit", frame, y_for(make), match=match)
    options = partial_fit_options(make)
    refuses(estimator, "partial_fit", frame, y_for(make), match=match, **options)
    # The same columns are taken, without a warning.
    assert_same_fit(
        estimator.fit(FRAME, y_for(make)), make(pretrain=stack().fit(X)).fit(X, y_for(make))
    )


@pretrained_ways
@pytest.mark.parametrize("first, then", [(FRAME, X), (X, FRAME)], ids=["stack", "estimator"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@both
def test_columns_with_names_on_one_side_only(make, method, first, then, way):
    fitted = stack().fit(first)
    with pytest.warns(UserWarning, match="feature names") as expected:
        fitted.transform(then)
    options = partial_fit_options(make) if method == "partial_fit" else {}
    with pytest.warns(UserWarning) as found:
        getattr(make(pretrain=way(fitted)), method)(then, y_for(make), **options)
    assert [str(one.message) for one in found] == [str(one.message) for one in expected]


@pytest.mark.parametrize("pretrain", [True, stack()], ids=["own", "unfitted"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@both
def test_a_stack_that_is_pretrained_inside_learns_the_names(make, method, pretrain):
    options = partial_fit_options(make) if method == "partial_fit" else {}
    estimator = make(pretrain=pretrain, warm_start=True)
    getattr(estimator, method)(FRAME, y_for(make), **options)
    inside = estimator.pretrained_
    assert_array_equal(inside.feature_names_in_, FRAME.columns)
    assert_array_equal(inside.transform(FRAME), inside.transform(FRAME.copy()))
    with pytest.raises(ValueError, match="feature names should match"):
        inside.transform(OTHER_COLUMNS["reversed"])
    # So that it may be handed on.
    other = make(pretrain=inside)
    refuses(other, "fit", OTHER_COLUMNS["reversed"], y_for(make), match="feature names should")
    other.fit(FRAME, y_for(make))


@both
def test_pretraining_does_not_depend_on_the_codes_that_the_stack_gives(make):
    y = y_for(make)
    one, other = (make(pretrain=stack(code=code)).fit(X, y) for code in ("top", "all"))
    assert_same_fit(one, other)
    assert_array_equal(one.transform(X), other.transform(X))


def test_pretraining_takes_the_weights_of_the_rows():
    weights = np.linspace(0.1, 3, 60)
    estimator = classifier(pretrain=stack(), warm_start=True)
    estimator.fit(X, CODES, sample_weight=weights)
    assert_same_fit(estimator.pretrained_, stack().fit(X, sample_weight=weights))


def test_a_search_over_ways_of_pretraining():
    fitted = stack().fit(X)
    before = bytes_of(fitted)
    ways = [True, False, stack(max_iter=1), FrozenEstimator(fitted)]
    search = GridSearchCV(classifier(), {"pretrain": ways}, cv=2, error_score="raise")
    search.fit(X, CODES)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert bytes_of(fitted) == before
    frozen = clone(classifier(pretrain=FrozenEstimator(fitted), warm_start=True))
    frozen.fit(X[:30], CODES[:30])
    assert_same_fit(frozen.pretrained_, fitted)
    thawed = clone(classifier(pretrain=fitted, warm_start=True)).fit(X[:30], CODES[:30])
    assert_same_fit(thawed.pretrained_, stack().fit(X[:30]))


def test_a_search_over_parameters_of_the_stack():
    grid = {"pretrain__corruption_level": [0.0, 0.9], "fine_tune": ["top", "all"]}
    estimator = classifier(
        pretrain=stack(), hidden_layer_sizes=None, activation=None, warm_start=True
    )
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, CODES)
    level = search.best_params_["pretrain__corruption_level"]
    assert search.best_estimator_.pretrained_.corruption_level == level
    one, other = (
        clone(estimator).set_params(pretrain__corruption_level=level).fit(X, CODES)
        for level in (0.0, 0.9)
    )
    assert not same_fit(one, other)


@both
def test_parameters_of_the_stack_make_one_of_true(make):
    y = y_for(make)
    for true in (True, np.True_):
        estimator = make(pretrain=true, warm_start=True)
        assert estimator.set_params(pretrain__corruption_level=0.9) is estimator
        assert estimator.get_params()["pretrain__corruption_level"] == 0.9
        assert clone(estimator).get_params()["pretrain__corruption_level"] == 0.9
        given = make(pretrain=StackedAutoencoder(corruption_level=0.9), warm_start=True)
        assert_same_fit(estimator.fit(X, y), given.fit(X, y))
        assert_same_fit(estimator.pretrained_, given.pretrained_)
        assert estimator.pretrained_.corruption_level == 0.9
        assert_same_fit(clone(estimator).fit(X, y), given)
        assert not hasattr(estimator.pretrain, "layers_")
    assert not same_fit(estimator, make(pretrain=True).fit(X, y))
    # Step by step, and all at once.
    estimator.set_params(pretrain__max_iter=1, max_iter=2)
    expected = StackedAutoencoder(corruption_level=0.9, max_iter=1)
    assert estimator.pretrain.get_params() == expected.get_params()
    estimator.set_params(pretrain=True, pretrain__corruption_level=0.5)
    expected = StackedAutoencoder(corruption_level=0.5)
    assert estimator.pretrain.get_params() == expected.get_params()
    estimator.set_params(pretrain=stack(), pretrain__corruption_level=0.5)
    assert estimator.pretrain.get_params() == stack(corruption_level=0.5).get_params()
    # A clone has its own.
    other = make(pretrain=True)
    clone(other).set_params(pretrain__corruption_level=0.5)
    assert other.pretrain is True


@both
def test_parameters_of_no_stack_are_refused_as_scikit_learn_does(make):
    messages = []
    for estimator, name in (
        (make(pretrain=False), "pretrain"),
        (BaggingClassifier(estimator=False), "estimator"),
    ):
        with pytest.raises(AttributeError) as error:
            estimator.set_params(**{f"{name}__max_iter": 3})
        assert getattr(estimator, name) is False
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="Invalid parameter 'depth' for estimator StackedAuto"):
        make(pretrain=True).set_params(pretrain__depth=3)
    with pytest.raises(ValueError, match="Invalid parameter 'pretraining' for estimator"):
        make(pretrain=True).set_params(pretraining__max_iter=3)


def candidates(estimator, grid, y, prefix=""):
    """Search a grid; return its candidates, and what was fitted for each."""
    fitted = []

    def score(fit, *_):
        fitted.append(fit if not prefix else fit.named_steps[prefix[:-2]])
        return 0.0

    grid = {f"{prefix}{name}": values for name, values in grid.items()}
    one_split = [(np.arange(40), np.arange(40, 60))]
    search = GridSearchCV(
        estimator, grid, cv=one_split, scoring=score, refit=False, error_score="raise"
    ).fit(X, y)
    params = [
        {name.removeprefix(prefix): value for name, value in one.items()}
        for one in search.cv_results_["params"]
    ]
    assert len(fitted) == len(params) > 1
    return list(zip(params, fitted))


@both
def test_every_candidate_has_its_corruption(make):
    """At the default of `pretrain`."""
    y, sizes = y_for(make), [(3,), (4, 2), 5]
    grid = {"pretrain__corruption_level": [0.0, 0.3, 0.9], "hidden_layer_sizes": sizes}
    estimator = make(pretrain=True, warm_start=True)
    for params, fit in candidates(estimator, grid, y):
        level, size = params["pretrain__corruption_level"], params["hidden_layer_sizes"]
        assert {layer.corruption_level for layer in fit.pretrained_.layers_} == {level}
        assert [w.shape[1] for w in fit.coefs_[:-1]] == list(np.atleast_1d(size))
        alone = make(pretrain=StackedAutoencoder(corruption_level=level), hidden_layer_sizes=size)
        assert_same_fit(fit, alone.fit(X[:40], y[:40]))
    assert estimator.pretrain is True


@pytest.mark.parametrize("in_a_pipeline", [False, True])
@both
def test_every_candidate_has_its_sizes_and_its_stack(make, in_a_pipeline):
    y = y_for(make)
    stacks = [stack(corruption_level=0.1, activation="relu"), stack(corruption_level=0.6)]
    grid = {"hidden_layer_sizes": [(4,), (6, 3), None], "pretrain": stacks,
            "activation": ["logistic", None]}  # fmt: skip
    estimator, prefix = make(warm_start=True), ""
    if in_a_pipeline:
        prefix = "net__"
        estimator = Pipeline([("scale", FunctionTransformer()), ("net", estimator)])
    for params, fit in candidates(estimator, grid, y, prefix):
        given = params["pretrain"]
        sizes = params["hidden_layer_sizes"] or given.hidden_layer_sizes
        activation = params["activation"] or given.activation
        layers = fit.pretrained_.layers_
        assert [layer.n_components for layer in layers] == list(sizes)
        assert [w.shape[1] for w in fit.coefs_[:-1]] == list(sizes)
        assert {layer.activation for layer in layers} == {activation}
        assert {layer.corruption_level for layer in layers} == {given.corruption_level}
        expected = clone(given).set_params(hidden_layer_sizes=sizes, activation=activation)
        assert_same_fit(fit.pretrained_, expected.fit(X[:40]))
    assert [one.hidden_layer_sizes for one in stacks] == [(7, 5)] * 2
    assert not any(hasattr(one, "layers_") for one in stacks)


# -- fine-tuning -------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@both
def test_the_top_alone(make, sparse):
    """The layers below stay as they are, and the top is that of their codes."""
    y, fitted = y_for(make), stack().fit(X)
    given = sp.csr_array(X) if sparse else X
    estimator = make(pretrain=fitted, fine_tune="top", warm_start=True)
    top = make(hidden_layer_sizes=(7, 5), pretrain=fitted, fine_tune="all",
               learning_rate_factors=[0, 0, 1], warm_start=True)  # fmt: skip
    for _ in range(2):  # the second one continues
        estimator.fit(given, y)
        top.fit(given, y)
        for layer, w, b in zip(fitted.layers_, estimator.coefs_, estimator.intercepts_):
            assert_array_equal(w, layer.components_.T)
            assert_array_equal(b, layer.intercept_hidden_)
        assert np.abs(estimator.coefs_[-1]).min() > 0
        assert_close_fit(estimator, top)
    assert estimator.n_iter_ == 8


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@both
def test_the_top_first_and_then_all(make, solver, epochs):
    y, fitted = y_for(make), stack().fit(X)
    epochs.clear()
    options = {"pretrain": fitted, "solver": solver}
    estimator = make(**options, fine_tune="top_then_all").fit(X, y)
    top = make(**options, fine_tune="top").fit(X, y)
    assert estimator.n_iter_ == 8
    assert_array_equal(estimator.loss_curve_[:4], top.loss_curve_)
    assert not np.array_equal(estimator.coefs_[0], fitted.layers_[0].components_.T)
    # The same by hand: the solver begins afresh where the top ended.
    top.set_params(fine_tune="all", warm_start=True)
    state = state_of(top)
    state.buffers[1:] = 0
    state.step, state.best_loss, state.n_stale = 0, np.inf, 0
    assert_same_fit(estimator, top.fit(X, y))


def test_a_continued_fit_trains_the_top_first_only_once():
    estimator = classifier(pretrain=stack(), fine_tune="top_then_all", warm_start=True)
    estimator.fit(X, CODES)
    expected = copy.deepcopy(estimator).set_params(fine_tune="all").fit(X, CODES)
    assert_same_fit(estimator.fit(X, CODES), expected)
    assert estimator.n_iter_ == 12


@pytest.mark.parametrize("solver", STEPS)
@both
def test_a_factor_of_zero_freezes_a_layer(make, solver):
    y = y_for(make)
    begin = make(max_iter=1, learning_rate_init=1e-300, **STEPS[solver]).fit(X, y)
    found = make(learning_rate_factors=[1, 0, 0.5], alpha=0.1, **STEPS[solver]).fit(X, y)
    moved = [not np.array_equal(a, b) for a, b in zip(weights_of(begin), weights_of(found))]
    assert moved == [True, False, True] * 2
    ones = make(learning_rate_factors=(1.0, 1, 1), **STEPS[solver]).fit(X, y)
    assert_same_fit(ones, make(**STEPS[solver]).fit(X, y))


@pytest.mark.parametrize("params", [
    {"dropout": 0.5}, {"dropout": [0.5, 0]}, {"dropout": (0, 0.5)}, {"input_dropout": 0.5},
])  # fmt: skip
@both
def test_dropout_is_for_training_only(make, params):
    y = y_for(make)
    none = make(dropout=[0.0, 0.0], input_dropout=0.0, early_stopping=True).fit(X, y)
    assert_same_fit(none, make(early_stopping=True).fit(X, y))
    found = make(early_stopping=True, **params).fit(X, y)
    assert not same_fit(found, none)
    assert_same_fit(found, make(early_stopping=True, **params).fit(X, y))
    assert_array_equal(found.predict(X), found.predict(X))
    # A step too small to move anything: training sees the noise, validation does not.
    still = {"max_iter": 1, "learning_rate_init": 1e-300, "early_stopping": True}
    still |= {"pretrain": stack(), "max_iter": 1}
    quiet, noisy = (make(**still, **more) for more in ({}, params))
    for estimator in (quiet, noisy):
        estimator.fit(X, y)
        weights = state_of(estimator).params
        weights += 0.3 * np.sin(np.arange(len(weights)))  # a top of zero would hear no noise
        estimator.set_params(warm_start=True).fit(X, y)
    assert noisy.loss_curve_[-1] != quiet.loss_curve_[-1]
    assert_array_equal(noisy.validation_loss_curve_, quiet.validation_loss_curve_)


def test_dropout_of_each_hidden_layer():
    fits = [
        classifier(dropout=dropout).fit(X, CODES)
        for dropout in (0.5, [0.5, 0.5], [0.5, 0.0], [0.0, 0.5])
    ]
    assert_same_fit(fits[0], fits[1])
    assert not any(same_fit(fits[a], fits[b]) for a, b in [(0, 2), (0, 3), (2, 3)])


@pytest.mark.parametrize("y", [BINARY, CODES, LABELS], ids=["binary", "multiclass", "multilabel"])
def test_label_smoothing(y):
    """Confident outputs are what it takes away; the loss is that of the smoothed targets."""
    smooth = 0.3
    estimator = classifier(label_smoothing=smooth, max_iter=1, learning_rate_init=1e-300)
    estimator.fit(X, y)
    state_of(estimator).params[:] += 0.2
    estimator.set_params(warm_start=True).fit(X, y)
    log_proba = estimator.predict_log_proba(X)
    if y.ndim == 1:
        n = len(estimator.classes_)
        target = (1 - smooth) * np.eye(n)[y] + smooth / n
        losses = -(target * log_proba).sum(axis=1)
    else:
        target = (1 - smooth) * y + smooth / 2
        z = estimator.decision_function(X)
        losses = -(target * special.log_expit(z) + (1 - target) * special.log_expit(-z)).sum(
            axis=1
        )
    assert estimator.loss_ == pytest.approx(losses.mean(), rel=1e-10)
    long = {"max_iter": 150, "learning_rate_init": 0.05}
    plain, smoothed = (classifier(**long, label_smoothing=s).fit(X, y) for s in (0.0, smooth))
    extremes = [np.abs(e.decision_function(X)).max() for e in (plain, smoothed)]
    assert extremes[1] < extremes[0] / 2


@pytest.mark.parametrize("solver", STEPS)
@both
def test_norms_are_bounded(make, solver):
    y = y_for(make)
    options = {"max_iter": 20, "learning_rate_init": 0.05, **STEPS[solver]}
    free, bounded = (make(**options, max_norm=limit).fit(X, y) for limit in (None, 0.8))
    largest = [[np.linalg.norm(w, axis=0).max() for w in e.coefs_] for e in (free, bounded)]
    assert min(largest[0][:2]) > 0.9
    assert_allclose(largest[1], np.minimum(largest[1], 0.8), rtol=1e-12)
    assert max(largest[1]) == pytest.approx(0.8)
    assert_same_fit(free, make(**options, max_norm=1e9).fit(X, y))


def test_adversarial_rows_teach_to_withstand_them():
    """Two classes that one feature tells apart by much, and many others by little each."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = rng.normal(size=(400, 41), scale=0.1) + np.where(y == 1, 0.1, -0.1)[:, None]
    X[:, 0] = np.where(y == 1, 1.0, -1.0) + rng.normal(size=400, scale=0.3)
    options = {"hidden_layer_sizes": 8, "max_iter": 40, "pretrain": False, "random_state": 0}
    plain, hardened = (
        StackedAutoencoderClassifier(**options, adversarial_radius=r).fit(X, y) for r in (0, 0.3)
    )
    moved = X - 0.3 * np.where(y == 1, 1.0, -1.0)[:, None]  # all features, against the class
    assert plain.score(X, y) > 0.99 and hardened.score(X, y) > 0.98
    assert hardened.score(moved, y) > plain.score(moved, y) + 0.3


def test_class_weight_is_a_weight_of_the_rows():
    weights = compute_sample_weight("balanced", CODES)
    found = classifier(class_weight="balanced").fit(X, CODES)
    assert_same_fit(found, classifier().fit(X, CODES, sample_weight=weights))
    assert not same_fit(found, classifier().fit(X, CODES))
    own = classifier(class_weight={0: 2.0, 1: 0.5}).fit(X, CODES, sample_weight=np.arange(1.0, 61))
    both_weights = np.array([2.0, 0.5, 1.0])[CODES] * np.arange(1.0, 61)
    assert_same_fit(own, classifier().fit(X, CODES, sample_weight=both_weights))
    # Balanced among the labelled rows; by name.
    y = unlabelled(NAMES)
    named = classifier(class_weight="balanced").fit(X, y)
    weights[~UNLABELLED] = compute_sample_weight("balanced", NAMES[~UNLABELLED])
    assert_same_fit(named, classifier().fit(X, y, sample_weight=weights))


@both
def test_equal_weights_are_no_weights_and_others_are(make):
    y = y_for(make)
    plain = make().fit(X, y)
    even = make().fit(X, y, sample_weight=np.full(60, 2.0))
    assert_close_fit(plain, even)
    assert not same_fit(plain, make().fit(X, y, sample_weight=np.linspace(0.1, 1, 60)))
    # In one batch, a row of weight two is a row twice.
    one_batch = {"batch_size": 200, "solver": "sgd", "learning_rate_init": 0.1}
    twice = make(**one_batch).fit(np.vstack([X, X[:7]]), np.append(y, y[:7], axis=0))
    weighted = make(**one_batch).fit(X, y, sample_weight=np.where(np.arange(60) < 7, 2.0, 1.0))
    assert_close_fit(twice, weighted)


@pytest.mark.parametrize("fine_tune", ["all", "top"])
@both
def test_schedule_of_the_learning_rate(make, epochs, fine_tune):
    fitted = stack().fit(X)
    epochs.clear()
    make(pretrain=fitted, fine_tune=fine_tune, n_warmup_epochs=2, learning_rate="cosine",
         max_iter=6, learning_rate_init=0.03).fit(X, y_for(make))  # fmt: skip
    falling = 0.03 * 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert_allclose([epoch.learning_rate for epoch in epochs], [0.01, 0.02, *falling])


@both
def test_partial_fit_warms_up_as_a_fit_does_or_not_at_all(make, epochs):
    """One epoch a call must not mean that each is the first one of a warm-up."""
    estimator = make(n_warmup_epochs=2, max_iter=5)
    if not hasattr(estimator, "partial_fit"):
        return
    options = {"classes": np.unique(CODES)} if make is classifier else {}
    for _ in range(4):
        estimator.partial_fit(X, y_for(make), **options)
    rates = [epoch.learning_rate for epoch in epochs]
    assert_allclose(rates[2:], 0.01)


@pytest.mark.parametrize("n_averaged_epochs", [1, 3, 4])
@both
def test_mean_of_the_weights_of_the_last_epochs(make, n_averaged_epochs):
    y = y_for(make)
    ends = [weights_of(make(max_iter=k).fit(X, y)) for k in range(1, 5)]
    found = make(n_averaged_epochs=n_averaged_epochs).fit(X, y)
    for k, array in enumerate(weights_of(found)):
        assert_allclose(
            array,
            np.mean([end[k] for end in ends[-n_averaged_epochs:]], axis=0),
            rtol=1e-12,
            atol=1e-15,
        )


# -- early stopping ----------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_labelled_rows_of_each_class_are_held_out(splits, epochs, fraction):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2, -1], [70, 20, 10, 100]))
    big = uniform(200)
    estimator = classifier(early_stopping=True, validation_fraction=fraction)
    for seed in range(3):
        epochs.clear()
        estimator.set_params(random_state=seed).fit(big, y)
        made = splits[-1]
        assert_array_equal(np.sort(np.r_[made.training, made.validation]), np.arange(100))
        assert_array_equal(made.X, big[y != -1])
        counts = np.bincount(y[y != -1][made.validation])
        assert_allclose(counts, fraction * np.array([70, 20, 10]), atol=1e-9)
        for epoch in epochs:
            assert_array_equal(np.sort(epoch.order), made.training)
    assert len({made.validation.tobytes() for made in splits}) > 1


@pytest.mark.parametrize(
    "case, fine_tune",
    [*((case, "all") for case in TARGETS), ("multiclass", "top"), ("pairs", "top")],
)
def test_early_stopping_restores_the_best_weights(case, fine_tune, splits):
    make, y = TARGETS[case]
    options = {
        "early_stopping": True, "n_iter_no_change": 8, "max_iter": 150, "validation_fraction": 0.4,
        "learning_rate_init": 0.1, "solver": "sgd", "fine_tune": fine_tune, "batch_size": 4,
    }  # fmt: skip
    noisy = uniform(seed=3)  # of which only some can be learned
    estimator = make(**options).fit(noisy, y)
    scores = estimator.validation_scores_
    best = int(np.argmax(scores))
    assert estimator.n_iter_ == len(scores) == len(estimator.validation_loss_curve_) < 150
    assert len(scores) == best + 9
    assert estimator.best_validation_score_ == max(scores)
    assert max(scores) > scores[-1]
    index = splits[-1].validation
    assert len(index) == 24
    assert estimator.score(noisy[index], y[index]) == pytest.approx(max(scores), rel=1e-9)
    short = make(**{**options, "max_iter": best + 1}).fit(noisy, y)
    for a, b in zip(weights_of(short), weights_of(estimator)):
        assert_array_equal(a, b)
    estimator.set_params(early_stopping=False, max_iter=2).fit(noisy, y)
    for name in ("validation_scores_", "validation_loss_curve_", "best_validation_score_"):
        assert not hasattr(estimator, name)


def test_validation_scores_take_the_weights_of_the_rows(splits):
    weights = np.linspace(0.1, 5, 60)
    estimator = classifier(early_stopping=True, validation_fraction=0.5, max_iter=1)
    estimator.fit(X, CODES, sample_weight=weights)
    held_out = splits[-1].validation
    score = estimator.score(X[held_out], CODES[held_out], sample_weight=weights[held_out])
    assert estimator.validation_scores_ == [pytest.approx(score, rel=1e-12)]
    assert score != estimator.score(X[held_out], CODES[held_out])


def test_losses_and_scores_of_held_out_rows_take_their_weights(splits):
    """R^2 of the regressor, and the mean squared error in units of the standardised targets."""
    weights = np.linspace(0.1, 5, 60)
    estimator = regressor(early_stopping=True, validation_fraction=0.5, max_iter=1)
    estimator.fit(X, VALUES, sample_weight=weights)
    rows = splits[-1].validation
    predicted, given = estimator.predict(X[rows]), weights[rows]
    score = r2_score(VALUES[rows], predicted, sample_weight=given)
    assert estimator.validation_scores_ == [pytest.approx(score, rel=1e-12)]
    assert score != r2_score(VALUES[rows], predicted)
    mean = np.average(VALUES, weights=weights)
    std = np.sqrt(np.average((VALUES - mean) ** 2, weights=weights))
    unit = 2.0 ** np.round(np.log2(std))
    loss = np.average((VALUES[rows] - predicted) ** 2, weights=given) / unit**2
    assert estimator.validation_loss_curve_ == [pytest.approx(loss, rel=1e-12)]
    # Only their ratios matter.
    for factor in (2.0**20, 2.0**-20):
        other = clone(estimator).fit(X, VALUES, sample_weight=factor * weights)
        assert_same_fit(other, estimator)
        assert other.validation_scores_ == estimator.validation_scores_


def test_a_regressor_with_one_held_out_row_trains_or_says_why_not():
    """The coefficient of determination of a single row is not defined."""
    estimator = regressor(early_stopping=True, validation_fraction=0.1)
    try:
        estimator.fit(X[:10], VALUES[:10])
    except ValueError as error:
        assert "validation_fraction" in str(error)
    else:
        assert np.isfinite(estimator.validation_scores_).all()
        assert np.abs(estimator.coefs_[-1]).max() > 0


# -- targets of any scale ----------------------------------------------------------------


DIABETES, PROGRESSION = load_diabetes(return_X_y=True)
DIABETES = scale(DIABETES)
UNITS = {  # of y: a factor and a constant
    "as it is": (1.0, 0.0),
    "standardised": (1 / PROGRESSION.std(), -PROGRESSION.mean() / PROGRESSION.std()),
    "tiny": (1e-6, 0.0),
    "huge": (1e9, 0.0),
    "far away": (1.0, 1e6),
    "tiny and far away": (1e-6, -1.0),
    "negative": (-1e4, 0.0),
}


@pytest.mark.parametrize("hidden", [False, True], ids=["all labelled", "partly labelled"])
@pytest.mark.parametrize("unit", UNITS)
def test_the_units_of_targets_do_not_matter(unit, hidden):
    """The coefficient of determination is near that of a linear model, or better."""
    factor, constant = UNITS[unit]
    y = factor * PROGRESSION + constant
    labelled = np.arange(len(y)) % 4 != 1 if hidden else np.ones(len(y), dtype=bool)
    given = np.where(labelled, y, np.nan)
    own = regressor(hidden_layer_sizes=(20,), max_iter=20, learning_rate_init=0.005)
    own.fit(DIABETES, given)
    linear = Ridge().fit(DIABETES[labelled], y[labelled]).score(DIABETES, y)
    found = own.score(DIABETES, y)
    assert found == r2_score(y, own.predict(DIABETES))  # predictions are in the units of y
    assert found > linear - 0.02
    plain = clone(own).fit(DIABETES, np.where(labelled, PROGRESSION, np.nan))
    assert found == pytest.approx(plain.score(DIABETES, PROGRESSION), abs=0.02)


@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": True}, {"solver": "sgd", "max_norm": 1.0, "alpha": 0.01},
     {"fine_tune": "top_then_all", "pretrain": stack()}, {"n_averaged_epochs": 2}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("weights", [None, np.linspace(0.1, 2, 60)], ids=["even", "weighted"])
def test_a_power_of_two_in_the_targets_is_one_in_the_predictions(params, weights):
    """To the last bit, of each output by itself."""
    factor = 2.0 ** np.array([30, -17])
    y = np.where(UNLABELLED[:, None], np.nan, PAIRS)
    one, other = (
        regressor(**params, warm_start=True).fit(X, given, sample_weight=weights)
        for given in (y, factor * y)
    )
    for _ in range(2):
        assert_array_equal(other.predict(X), factor * one.predict(X))
        assert one.loss_curve_ == other.loss_curve_
        for k in (0, 1):
            assert_array_equal(other.coefs_[k], one.coefs_[k])
        one.fit(X, y, sample_weight=weights)
        other.fit(X, factor * y, sample_weight=weights)
    assert one.n_iter_ > 4


def test_a_power_of_two_in_a_stream_of_targets():
    one, other = regressor(), regressor()
    for part in (slice(0, 1), slice(1, 2), slice(2, 30), slice(30, 60)):
        one.partial_fit(X[part], VALUES[part])
        other.partial_fit(X[part], 2.0**30 * VALUES[part])
        assert_array_equal(other.predict(X), 2.0**30 * one.predict(X))


def test_a_stream_of_targets_far_from_unit_scale():
    y = 1e9 * VALUES + 1e10
    estimator = regressor(hidden_layer_sizes=(20,), learning_rate_init=0.03)
    for _ in range(12):
        for start in range(0, 60, 15):
            part = slice(start, start + 15)
            estimator.partial_fit(X[part], y[part])
    assert estimator.score(X, y) > 0.9


@pytest.mark.parametrize("value", [0.0, 7.0, -1e12, 1e-12])
def test_constant_targets_are_predicted(value):
    estimator = regressor().fit(X, np.full(60, value))
    assert_allclose(estimator.predict(X), value, rtol=1e-12, atol=0)
    pairs = regressor(max_iter=20).fit(X, np.column_stack([np.full(60, value), VALUES]))
    assert_allclose(pairs.predict(X)[:, 0], value, rtol=1e-12, atol=0)
    assert r2_score(VALUES, pairs.predict(X)[:, 1]) > 0.1


# -- fits that continue ------------------------------------------------------------------


@pytest.mark.parametrize("then", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("begin", [np.float32, np.float64, np.int32])
@both
def test_a_fit_goes_on_with_rows_of_another_type(make, begin, then):
    whole = np.round(4 * X)
    for fine_tune in ("all", "top"):
        model = make(fine_tune=fine_tune).fit(whole.astype(begin), y_for(make))
        dtype = model.coefs_[0].dtype
        model.partial_fit(whole.astype(then), y_for(make))
        assert model.coefs_[0].dtype == dtype


@pytest.mark.parametrize("params", [
    {}, {"solver": "sgd"}, {"dropout": 0.3, "input_dropout": 0.2, "max_norm": 1.0},
    {"adversarial_radius": 0.1}, {"pretrain": stack(), "fine_tune": "top"},
    {"learning_rate_factors": [0.1, 0.5, 1]},
], ids=str)  # fmt: skip
@targets
def test_warm_start_goes_on_to_the_last_bit(make, y, params):
    whole = make(max_iter=5, **params).fit(X, y)
    estimator = make(max_iter=2, warm_start=True, **params).fit(X, y)
    estimator = pickle.loads(pickle.dumps(estimator))
    assert_same_fit(estimator.set_params(max_iter=3).fit(X, y), whole)
    assert_array_equal(estimator.predict(X), whole.predict(X))
    again = make(max_iter=5, **params).fit(X, y).fit(X, y)
    assert_same_fit(again, whole)


@both
def test_partial_fit_is_an_epoch(make):
    y = y_for(make)
    options = {"classes": [0, 1, 2]} if make is classifier else {}
    estimator = make(max_iter=9)
    for _ in range(3):
        assert estimator.partial_fit(X, y, **options) is estimator
    assert_same_fit(estimator, make(max_iter=3).fit(X, y))


def test_partial_fit_of_chunks():
    """Classes that a chunk has not are those that were announced."""
    order = np.argsort(CODES, kind="stable")
    estimator = classifier(pretrain=stack())
    estimator.partial_fit(X[order[:20]], CODES[order[:20]], classes=[2, 1, 0])
    assert len(np.unique(CODES[order[:20]])) < 3
    assert_array_equal(estimator.classes_, [0, 1, 2])
    assert estimator.predict_proba(X).shape == (60, 3)
    assert_same_fit(estimator.pretrained_, stack().fit(X[order[:20]]))
    for _ in range(60):
        estimator.partial_fit(X[order[20:40]], CODES[order[20:40]])
        estimator.partial_fit(X[order[40:]], unlabelled(CODES)[order[40:]], classes=[0, 1, 2])
    assert estimator.n_iter_ == 121
    assert estimator.score(X, CODES) > 0.6


def announced(make):
    return {"classes": [0, 1, 2]} if make is classifier else {}


@pytest.mark.parametrize("pretrain", [True, stack()], ids=["True", "stack"])
@both
def test_a_stream_cannot_be_pretrained_on_one_row(make, pretrain):
    y = y_for(make)
    estimator = make(pretrain=pretrain)
    refuses(
        estimator, "partial_fit", X[:1], y[:1], **announced(make),
        match="pretrains the layers on its X.* 1 sample. Give at least 2 samples, .*pretrain=Fal",
    )  # fmt: skip
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    # Either remedy helps, and later calls may have one row.
    more = clone(estimator).partial_fit(X[:2], y[:2], **announced(make))
    estimator.set_params(pretrain=False).partial_fit(X[:1], y[:1], **announced(make))
    for fitted in (more, estimator):
        before = copy.deepcopy(fitted)
        assert not same_fit(fitted.partial_fit(X[5:6], y[5:6]), before)
        assert fitted.n_iter_ == 2
        assert np.isfinite(fitted.transform(X)).all()


@pytest.mark.parametrize("pretrain", [False, stack().fit(X), FrozenEstimator(stack().fit(X))],
                         ids=["False", "fitted", "frozen"])  # fmt: skip
@both
def test_a_stream_of_single_rows(make, pretrain):
    """A row alone is the same as that row beside one of weight zero."""
    y = y_for(make)
    one, other = make(pretrain=pretrain), make(pretrain=pretrain)
    for k in range(0, 10, 2):
        one.partial_fit(X[k : k + 1], y[k : k + 1], **announced(make))
        pair = slice(k, k + 2)
        other.partial_fit(X[pair], y[pair], **announced(make), sample_weight=[1.0, 0.0])
    assert_same_fit(one, other)
    assert one.n_iter_ == 5


def test_partial_fit_of_several_labels():
    estimator = classifier(max_iter=9)
    for _ in range(2):
        estimator.partial_fit(X, LABELS, classes=np.arange(4))
    assert_same_fit(estimator, classifier(max_iter=2).fit(X, LABELS))


def test_a_fit_forgets_the_classes_that_were_announced():
    estimator = classifier().partial_fit(X, BINARY, classes=[0, 1, 7]).fit(X, CODES)
    assert_same_fit(estimator, classifier().fit(X, CODES))
    assert_array_equal(estimator.classes_, [0, 1, 2])


@both
def test_refit_starts_afresh_and_forgets(make):
    final = {classifier: LogisticRegression(), regressor: Ridge()}[make]
    y = y_for(make)
    estimator = make(early_stopping=True, pretrain=stack(), final_estimator=final)
    estimator.fit(uniform(50, 6), y[:50])
    estimator.set_params(early_stopping=False, pretrain=False, final_estimator=None).fit(X, y)
    expected = make().fit(X, y)
    assert_same_fit(estimator, expected)
    assert set(vars(estimator)) == set(vars(expected))
    assert_array_equal(estimator.predict(X), expected.predict(X))


@targets
def test_the_kind_of_targets_may_change_with_a_new_fit(make, y):
    other = {classifier: (BINARY, CODES, LABELS), regressor: (VALUES, PAIRS)}[make]
    for first in other:
        estimator = make().fit(X, first).fit(X, y)
        expected = make().fit(X, y)
        assert_same_fit(estimator, expected)
        assert_array_equal(estimator.predict(X), expected.predict(X))


@both
def test_copies(make):
    y = y_for(make)
    estimator = make(pretrain=stack(), dropout=[0.1, 0.2]).fit(X, y)
    assert clone(estimator).get_params().keys() == estimator.get_params().keys()
    assert not hasattr(clone(estimator), "coefs_")
    before = bytes_of(estimator)
    for twin in (copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))):
        assert_array_equal(twin.predict(X), estimator.predict(X))
        twin.set_params(warm_start=True).fit(X, y)
        assert bytes_of(estimator) == before
    assert_same_fit(clone(estimator).fit(X, y), estimator)


# -- containers --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"pretrain": stack(), "fine_tune": "top_then_all"},
                                    {"input_dropout": 0.3, "dropout": 0.3}], ids=str)  # fmt: skip
@pytest.mark.parametrize("convert", [sp.csr_array, sp.csc_matrix, np.asfortranarray, pd.DataFrame])
@targets
def test_container_makes_no_difference(make, y, convert, params):
    estimator = make(early_stopping=True, **params)
    zeros = X * (X > 0.3)
    expected = clone(estimator).fit(zeros, y)
    found = clone(estimator).fit(convert(zeros), y)
    assert_same_fit(found, expected)
    assert_array_equal(found.validation_scores_, expected.validation_scores_)
    assert_array_equal(found.predict(convert(zeros)), expected.predict(zeros))
    assert_array_equal(found.transform(convert(zeros)), expected.transform(zeros))


SPARSE = [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.csc_array, sp.coo_array]


@pytest.mark.parametrize("convert", SPARSE)
@pytest.mark.parametrize("dtype", [int, bool, float])
def test_a_sparse_indicator_of_labels(convert, dtype):
    """As `MLPClassifier` takes it, and the same as the dense one."""
    y, weights = convert(LABELS.astype(dtype)), np.linspace(0, 1, 60)
    before = y.copy()
    dense = classifier().fit(X, LABELS)
    estimator = classifier().fit(X, y)
    assert_same_fit(estimator, dense)
    assert_array_equal(estimator.classes_, [0, 1, 2, 3])
    found = estimator.predict(X)
    assert_array_equal(found, dense.predict(X), strict=True)
    for given in (None, weights):
        expected = accuracy_score(LABELS, found, sample_weight=given)
        assert 0 < expected < 1
        assert estimator.score(X, y, given) == dense.score(X, LABELS, given) == expected
    streams = [
        classifier().partial_fit(X, labels, classes=range(4)).partial_fit(X, labels)
        for labels in (y, LABELS)
    ]
    assert_same_fit(*streams)
    assert type(y) is type(before) and (y != before).nnz == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = MLPClassifier((7,), max_iter=5, random_state=0).fit(X, y)
    expected = accuracy_score(LABELS, reference.predict(X).astype(int))
    assert reference.score(X, y) == expected


@pytest.mark.parametrize("convert", SPARSE)
def test_a_sparse_indicator_with_unlabelled_rows(convert):
    y = unlabelled(LABELS)
    estimator, dense = (classifier(pretrain=stack()).fit(X, given) for given in (convert(y), y))
    assert_same_fit(estimator, dense)
    assert estimator.n_labelled_ == dense.n_labelled_ == 40
    expected = dense.score(X[~UNLABELLED], LABELS[~UNLABELLED])
    assert estimator.score(X, convert(y)) == expected
    refuses(classifier(), "fit", X, convert(2 * LABELS), match="must hold an indicator")
    refuses(classifier(), "fit", X, convert(LABELS[:-1]), match="inconsistent numbers")


@targets
def test_single_precision_is_close_to_double(make, y):
    double, single = make().fit(X, y), make().fit(X.astype(np.float32), y)
    assert not same_fit(double, single)
    assert {array.dtype for array in weights_of(single)} == {np.dtype(np.float32)}
    assert_close_fit(double, single, rtol=1e-3, atol=1e-4)


@targets
def test_fit_leaves_its_arguments_alone(make, y):
    hidden = y if np.unique(y).tolist() == [-1, 1] else unlabelled(y)
    weights = np.linspace(0.5, 1, 60)
    before = X.copy(), hidden.copy(), weights.copy()
    make(pretrain=stack(), early_stopping=True, dropout=0.2).fit(X, hidden, weights)
    for array, was in zip((X, hidden, weights), before):
        assert_array_equal(array, was)


# -- another estimator on the codes ------------------------------------------------------


FINAL = {
    "svc": (classifier, SVC()),
    "trees": (classifier, HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=3)),
    "linear svc": (classifier, LinearSVC()),
    "ridge": (regressor, Ridge()),
}


@pytest.mark.parametrize("y", ["numbers", "names", "unlabelled", "unlabelled names"])
@pytest.mark.parametrize("case", FINAL)
def test_final_estimator(case, y):
    make, final = FINAL[case]
    known = np.full(60, True)
    if y.startswith("unlabelled"):
        known = ~UNLABELLED
    if make is regressor:
        if y.endswith("names"):
            return
        values = given = VALUES
    else:
        values = given = NAMES if y.endswith("names") else CODES
    if y.startswith("unlabelled"):
        given = unlabelled(values)
    estimator = make(final_estimator=final).fit(X, given)
    plain = make().fit(X, given)
    assert_same_fit(estimator, plain)
    assert not hasattr(final, "n_features_in_")
    expected = clone(final).fit(plain.transform(X)[known], values[known])
    assert_array_equal(estimator.predict(X), expected.predict(plain.transform(X)))
    for name in ("predict_proba", "decision_function"):
        assert hasattr(estimator, name) == hasattr(expected, name)
        assert hasattr(make(final_estimator=final), name) == hasattr(final, name)
        if hasattr(expected, name):
            found = getattr(estimator, name)(X)
            assert_array_equal(found, getattr(expected, name)(plain.transform(X)))
    assert hasattr(estimator, "predict_log_proba") == hasattr(expected, "predict_proba")
    assert not hasattr(estimator, "partial_fit")


def test_final_estimator_takes_numbers_that_are_objects():
    y = CODES.astype(object)
    estimator = classifier(final_estimator=SVC()).fit(X, y)
    expected = classifier(final_estimator=SVC()).fit(X, CODES)
    assert_array_equal(estimator.predict(X), expected.predict(X))


# -- among scikit-learn's own ------------------------------------------------------------


GOOD = {"max_iter": 60, "activation": "relu", "hidden_layer_sizes": (20,)}


def test_in_self_training():
    y = CODES.copy()
    y[UNLABELLED] = -1
    found = SelfTrainingClassifier(classifier(**GOOD), threshold=0.6).fit(X, y)
    assert (found.labeled_iter_[UNLABELLED] > 0).any()
    assert found.score(X, CODES) > 0.8


@pytest.mark.parametrize("y", [BINARY, CODES, NAMES], ids=["binary", "multiclass", "names"])
def test_calibrated(y):
    found = CalibratedClassifierCV(classifier(**GOOD), cv=2).fit(X, y)
    assert_allclose(found.predict_proba(X).sum(axis=1), 1)
    assert found.score(X, y) > 0.7


def test_in_a_pipeline_and_a_stacking_classifier():
    pipeline = make_pipeline(MinMaxScaler(), classifier(**GOOD)).fit(10 * X, NAMES)
    assert pipeline.score(10 * X, NAMES) > 0.8
    assert pipeline[:-1].transform(X).shape == (60, 9)
    features = make_pipeline(classifier(**GOOD), LogisticRegression()).fit(X, CODES)
    assert features.score(X, CODES) > 0.8
    stacking = StackingClassifier(
        [("net", classifier(**GOOD)), ("svm", LinearSVC())], LogisticRegression(), cv=2
    ).fit(X, NAMES)
    assert stacking.score(X, NAMES) > 0.8


def test_cross_validated_predictions():
    predicted = cross_val_predict(classifier(**GOOD), X, CODES, cv=3, method="predict_proba")
    assert predicted.shape == (60, 3)
    assert (predicted.argmax(axis=1) == CODES).mean() > 0.7
    values = cross_val_predict(regressor(**GOOD), X, VALUES, cv=3)
    assert np.corrcoef(values, VALUES)[0, 1] > 0.7


@pytest.mark.slow
def test_defaults_are_at_least_as_good_as_those_of_scikit_learn():
    """On the first of five folds; all of them would take long."""
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    train, test = next(StratifiedKFold(5).split(images, digits))
    scores = [
        cls(random_state=0).fit(images[train], digits[train]).score(images[test], digits[test])
        for cls in (StackedAutoencoderClassifier, MLPClassifier)
    ]
    assert scores[0] >= scores[1]


# -- every parameter does something ------------------------------------------------------


# Parameter: (what else to set, one value, another value).
EFFECTS = {
    "hidden_layer_sizes": ({}, (4, 3), (4, 4)),
    "activation": ({}, "tanh", "relu"),
    "n_active": ({"activation": "top_k"}, 1, 2),
    "pretrain": ({}, True, False),
    "fine_tune": ({}, "all", "top"),
    "dropout": ({}, 0.0, 0.3),
    "input_dropout": ({}, 0.0, 0.3),
    "label_smoothing": ({}, 0.0, 0.3),
    "class_weight": ({}, None, "balanced"),
    "max_norm": ({}, None, 0.5),
    "adversarial_radius": ({}, 0.0, 0.1),
    "smoothness_radius": ({}, 0.0, 0.5),
    "learning_rate_factors": ({}, None, [0.1, 0.2, 0.3]),
    "n_warmup_epochs": ({}, 0, 2),
    "n_averaged_epochs": ({}, 0, 2),
    **TRAINING_EFFECTS,
}
ELSEWHERE = {"verbose", "final_estimator", "propagate_labels"}


def names_of(make):
    return [name for name in make().get_params(deep=False) if name not in ELSEWHERE]


@pytest.mark.parametrize(
    "make, name", [(make, name) for make in (classifier, regressor) for name in names_of(make)]
)
def test_parameter_has_an_effect(make, name):
    options, one, other = EFFECTS[name]
    fits = []
    for value in (one, one, other):
        estimator = make(**{**options, name: value}).fit(X, y_for(make))
        fits.append(estimator.fit(X, y_for(make)) if name == "warm_start" else estimator)
    assert_same_fit(fits[0], fits[1])
    assert not same_fit(fits[0], fits[2])


@both
def test_verbose_prints_a_line_an_epoch(make, capsys):
    make().fit(X, y_for(make))
    assert capsys.readouterr().out == ""
    make(verbose=True, early_stopping=True, fine_tune="top_then_all").fit(X, y_for(make))
    lines = capsys.readouterr().out.splitlines()
    name = type(make()).__name__
    assert lines.pop(0) == f"[{name}] 60 of 60 samples are labelled"
    assert len(lines) == 8
    assert all("validation score = " in line for line in lines)
    assert lines[0].startswith(f"[{name}, output layer] epoch 1 of 4,")
    assert lines[-1].startswith(f"[{name}] epoch 8 of 8,")
    make(verbose=True, pretrain=True, max_iter=1).fit(X, y_for(make))
    out = capsys.readouterr().out
    assert f"[{name}, pretraining, layer 2 of 2] epoch 1 of " in out
    assert f"[{name}, pretraining] R^2 of the reconstruction = " in out
    assert f"[{name}] epoch 1 of 1, " in out


# -- bad input ---------------------------------------------------------------------------


RARE = np.where(np.arange(60) == 7, 9, CODES)
BAD_Y = {  # make, more parameters, y, what the error says
    "none, classifier": (classifier, {}, None, "requires y to be passed"),
    "none, regressor": (regressor, {}, None, "requires y to be passed"),
    "too short": (classifier, {}, CODES[:-1], "inconsistent numbers of samples"),
    "too long": (regressor, {}, np.append(VALUES, 1.0), "inconsistent numbers of samples"),
    "3-D": (classifier, {}, np.zeros((60, 2, 2), dtype=int), "dim 3"),
    "all unlabelled": (classifier, {}, np.full(60, -1), "no labelled samples: all are -1"),
    "all unlabelled, object": (classifier, {}, np.full(60, -1, dtype=object), "no labelled"),
    "all unlabelled, labels": (classifier, {}, np.full((60, 3), -1), "no labelled samples"),
    "all nan": (regressor, {}, np.full(60, np.nan), "no labelled samples: all are nan"),
    "all nan, pairs": (regressor, {}, np.full((60, 2), np.nan), "no labelled samples"),
    "one class": (classifier, {}, np.full(60, 4), "one class only, .*4"),
    "one class and unlabelled": (classifier, {}, np.where(BINARY == 1, 0, -1), "LabelEncoder"),
    "one class of names": (classifier, {}, np.full(60, "a"), "one class only, .*'a'"),
    "rare class": (classifier, {"early_stopping": True}, RARE, r"\[9\] have only 1 labelled"),
    "rare name": (
        classifier, {"early_stopping": True}, np.where(RARE == 9, "rare", "often"), "'rare'"),
    "inf": (classifier, {}, with_value(CODES, np.inf, 3), "y contains infinity"),
    "inf, regressor": (regressor, {}, with_value(VALUES, np.inf, 3), "y contains infinity"),
    "names, regressor": (regressor, {}, NAMES, "could not convert string"),
    "continuous": (classifier, {}, VALUES, "Unknown label type: continuous"),
    "continuous pairs": (classifier, {}, PAIRS, "continuous-multioutput"),
    "several classes": (classifier, {}, np.column_stack([CODES, CODES]), "must hold an indicator"),
    "labels that are not 0 or 1": (classifier, {}, LABELS + 1, "must hold an indicator"),
    "label unknown in part": (
        classifier, {}, with_value(LABELS, -1, (3, 1)).astype(int), "must hold an indicator"),
    "too few rows": (
        regressor, {"early_stopping": True, "validation_fraction": 0.99}, VALUES, "leaves none"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_Y)
def test_bad_targets_are_refused(case):
    make, params, y, match = BAD_Y[case]
    for pretrain in (False, stack()):
        refuses(make(**params, pretrain=pretrain), "fit", X, y, match=match)
    good = y_for(make)
    refuses(make().fit(X, good).set_params(**params), "fit", X, y, match=match)
    if not params:
        options = {"classes": [0, 1, 2]} if make is classifier else {}
        if case not in ("one class", "one class and unlabelled", "one class of names"):
            refuses(make(), "partial_fit", X, y, match=f"{match}|classes", **options)


FITTED = FrozenEstimator(stack().fit(X))
BAD_PARAMETERS = {  # for both estimators: what is set, what the error says
    "dropout one": ({"dropout": 1.0}, "'dropout' parameter"),
    "dropout below zero": ({"dropout": -0.1}, "'dropout' parameter"),
    "dropout of a layer": ({"dropout": [0.1, 1.0]}, r"'dropout\[1\]' parameter"),
    "dropout of a layer, nan": ({"dropout": [0.1, np.nan]}, r"'dropout\[1\]' parameter"),
    "dropout too short": ({"dropout": [0.1]}, "dropout has 1 values for 2 layers"),
    "dropout too long": ({"dropout": [0.1] * 3}, "dropout has 3 values for 2 layers"),
    "input dropout": ({"input_dropout": 1.0}, "'input_dropout' parameter"),
    "factors": ({"learning_rate_factors": [1, 1]}, "learning_rate_factors has 2 .* 3 layers"),
    "factor below zero": (
        {"learning_rate_factors": [1, -1, 1]}, r"'learning_rate_factors\[1\]' parameter"),
    "max_norm": ({"max_norm": 0.0}, "'max_norm' parameter"),
    "adversarial_radius": ({"adversarial_radius": -0.1}, "'adversarial_radius' parameter"),
    "fine_tune": ({"fine_tune": "bottom"}, "'fine_tune' parameter"),
    "n_warmup_epochs": ({"n_warmup_epochs": 4}, "n_warmup_epochs=4 must be less than max_iter=4"),
    "n_warmup_epochs below zero": ({"n_warmup_epochs": -1}, "'n_warmup_epochs' parameter"),
    "n_averaged_epochs": ({"n_averaged_epochs": 2, "early_stopping": True}, "use one of them"),
    "pretrain": ({"pretrain": "yes"}, "'pretrain' parameter"),
    "pretrain, another estimator": ({"pretrain": SVC()}, "'pretrain' parameter"),
    "pretrain, another estimator frozen": (
        {"pretrain": FrozenEstimator(SVC()), "activation": None}, "pretrain"),
    "sizes": ({"hidden_layer_sizes": (7, 0)}, "n_components|hidden_layer_sizes"),
    "no sizes": ({"hidden_layer_sizes": ()}, "hidden_layer_sizes is empty"),
    "activation": ({"activation": "softmax"}, "'activation' parameter"),
    "activation of a layer": ({"activation": ["tanh", "softmax"]}, r"'activation\[1\]' parameter"),
    "other sizes than the stack": (
        {"pretrain": FITTED, "hidden_layer_sizes": (7, 6)}, "of the fitted stack in pretrain is"),
    "fewer sizes than the stack": (
        {"pretrain": FITTED, "hidden_layer_sizes": (7,)}, "hidden_layer_sizes has 1 values"),
    "other activation than the stack": (
        {"pretrain": FITTED, "activation": "relu"}, "stack in pretrain is .'tanh', 'tanh'"),
    "stack of another width": (
        {"pretrain": FrozenEstimator(stack().fit(X[:, :8]))},
        "X has 9 features, but StackedAutoencoder is expecting 8"),
    "stack with bad parameters": (
        {"pretrain": stack(corruption="swap", corruption_level=7)}, "corruption_level=7"),
    "final_estimator": ({"final_estimator": "svm"}, "'final_estimator' parameter"),
    "final_estimator that is a class": ({"final_estimator": SVC}, "'final_estimator' parameter"),
    "final_estimator of another kind": ({"final_estimator": KMeans()}, r"Got KMeans\(\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PARAMETERS)
@both
def test_bad_parameters_are_refused(make, case):
    params, match = BAD_PARAMETERS[case]
    for estimator in (make(**params), make().fit(X, y_for(make)).set_params(**params)):
        refuses(estimator, "fit", X, y_for(make), match=match)


BAD_LISTS = {  # a list of which the second value is bad, or one value
    "hidden_layer_sizes": [(10, 0), (10, 2.5), 0],
    "activation": [["relu", "nonsense"], "nonsense"],
    "dropout": [[0.1, 1.0], 1.0],
    "learning_rate_factors": [[1.0, -1.0, 1.0]],
}
BAD_LISTS_OF_A_STACK = {
    "corruption": ["masking", "nonsense"],
    "corruption_level": [0.1, -2],
    "loss": ["squared_error", "nonsense"],
    "learning_rate_init": [0.1, 0.0],
    "max_iter": [3, 0],
}


@pytest.mark.parametrize("pretrain", [True, False, stack()], ids=["True", "False", "stack"])
@pytest.mark.parametrize("name", BAD_LISTS)
@both
def test_a_bad_value_of_a_list_is_named_as_it_was_given(make, name, pretrain):
    """With its place and the class of the user, and never as the parameter of a layer."""
    for value in BAD_LISTS[name]:
        place = "[1]" if np.ndim(value) else ""
        for estimator in (make(pretrain=pretrain), make().fit(X, y_for(make))):
            with pytest.raises(ValueError) as error:
                estimator.set_params(**{name: value}).fit(X, y_for(make))
            message = str(error.value)
            of = f"The '{name}{place}' parameter of {type(estimator).__name__} must be"
            assert of in message
            assert "n_components" not in message and "DenoisingAutoencoder" not in message


@pytest.mark.parametrize("name", BAD_LISTS_OF_A_STACK)
@both
def test_a_bad_value_of_a_list_of_the_stack_is_named_as_it_was_given(make, name):
    bad = stack(**{name: BAD_LISTS_OF_A_STACK[name]})
    with pytest.raises(ValueError) as error:
        make(pretrain=bad).fit(X, y_for(make))
    message = str(error.value)
    assert f"The '{name}[1]' parameter of StackedAutoencoder must be" in message
    assert "n_components" not in message and "DenoisingAutoencoder" not in message


@pytest.mark.parametrize("pretrain", [True, False, StackedAutoencoder(max_iter=1)])
@pytest.mark.parametrize("sizes", [None, "auto"])
@both
def test_sizes_by_the_shape_of_all_samples(make, sizes, pretrain):
    few = dict(hidden_layer_sizes=sizes, pretrain=pretrain, activation=None, max_iter=1)
    X, y = uniform(1500, 20), np.full(1500, -1.0 if make is classifier else np.nan)
    y[:9] = [0, 1, 2] * 3
    model = make(**few).fit(X, y)
    assert [weights.shape[1] for weights in model.coefs_][:-1] == [128, 64]
    model.set_params(warm_start=True).fit(X[:100], y[:100])
    assert [weights.shape[1] for weights in model.coefs_][:-1] == [128, 64]
    stream = make(**few)
    stream.partial_fit(X[:20], y[:20], *([[0, 1, 2]] if make is classifier else []))
    assert [weights.shape[1] for weights in stream.coefs_][:-1] == [128, 64]


@both
def test_corruption_that_is_no_probability_is_named_with_its_place(make):
    bad = stack(corruption="swap", corruption_level=[0.1, 2])
    match = r"^corruption_level\[1\]=2 is not a probability"
    refuses(make(pretrain=bad), "fit", X, y_for(make), match=match)


def test_the_final_estimator_is_of_the_same_kind():
    clf, reg = classifier(final_estimator=SVR()), regressor(final_estimator=SVC())
    refuses(clf, "fit", X, CODES, match="should be a classifier")
    refuses(reg, "fit", X, VALUES, match="should be a regressor")
    repr(clf), clf.get_params(), clone(clf)  # need no valid parameters


@pytest.mark.parametrize("classes", [[None, 1], [1, "a"], [np.nan, 1.0], ["a", None]], ids=str)
def test_classes_that_cannot_be_declared(classes):
    refuses(classifier(), "partial_fit", X, CODES, classes, match="all numbers or all strings")


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_at_the_end_of_a_type_are_clear_errors_or_numbers():
    y = CODES % 3
    clf = classifier(n_averaged_epochs=0).fit(X, y)
    clf.intercepts_[-1][:] = [1e308, -1e308, 0]
    clf.coefs_[-1][:] = [1e308, 0, -1e308]
    assert_allclose(clf.predict_proba(X).sum(axis=1), 1)
    assert not np.isnan(clf.predict_log_proba(X)).any()
    with pytest.raises(ValueError, match="too large for float32, the type of X"):
        clf.predict(X.astype(np.float32))
    clf = classifier(warm_start=True).fit(X.astype(np.float32), y)
    refuses(clf, "fit", X * 1e300, y, match="too large for float32, the type of the first fit")
    weights = np.full(len(X), 1e306)
    assert_allclose(clf.score(X, y, weights), clf.score(X, y))
    layers = stack().fit(X)
    assert_allclose(layers.score(X, sample_weight=weights), layers.score(X))
    held_out = {"early_stopping": True, "max_iter": 2}
    assert_same_fit(
        stack(**held_out).fit(X, sample_weight=np.full(len(X), 2.0**1010)),
        stack(**held_out).fit(X, sample_weight=np.ones(len(X))),
    )


@pytest.mark.parametrize(
    "params",
    [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"class_weight": "even"}],
    ids=str,
)
def test_bad_parameters_of_the_classifier_are_refused(params):
    refuses(classifier(**params), "fit", X, CODES, match=f"'{next(iter(params))}' parameter")


@pytest.mark.parametrize(
    "params", [{"early_stopping": True}, {"learning_rate": "cosine"}, {"final_estimator": SVC()}]
)
@both
def test_partial_fit_is_not_there_where_it_has_no_meaning(make, params):
    assert hasattr(make(), "partial_fit")
    assert not hasattr(make(**params), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        make(**params).partial_fit(X, y_for(make))


@pytest.mark.parametrize("classes", [[-1, 0, 1], [-1, 0], [-1.0, 2.0], [0, 1, -1, 2]], ids=str)
def test_minus_one_is_no_class_to_announce(classes):
    y = np.abs(np.resize(classes, 60))
    refuses(classifier(), "partial_fit", X, y, classes=classes, match="names -1.*LabelEncoder")


def test_classes_of_partial_fit():
    refuses(
        classifier(), "partial_fit", X, CODES, match="classes must be passed on the first call"
    )
    refuses(
        classifier(), "partial_fit", X, CODES, classes=[0, 1], match=r"classes \[2\].*declared"
    )
    refuses(classifier(), "partial_fit", X, CODES * 0, classes=[0], match="one class only")
    estimator = classifier().partial_fit(X, CODES, classes=[0, 1, 2])
    refuses(estimator, "partial_fit", X, CODES, classes=[0, 1], match="not the same as on last")
    refuses(estimator, "partial_fit", X, CODES + 1, match=r"classes \[3\].*declared")
    refuses(estimator, "partial_fit", X, LABELS, match="labels")
    fitted = classifier(warm_start=True).fit(X, CODES)
    for method in ("fit", "partial_fit"):
        refuses(fitted, method, X, CODES + 1, match=r"classes \[3\]")
    fitted = classifier(warm_start=True).fit(X, LABELS)
    refuses(fitted, "fit", X, LABELS[:, :3], match="y has 3 labels, but 4 were fitted")
    fitted = regressor(warm_start=True).fit(X, PAIRS)
    for method in ("fit", "partial_fit"):
        refuses(fitted, method, X, VALUES, match="y has 1 outputs, but 2 were fitted")


@pytest.mark.parametrize(
    "first, later",
    [(CODES, LABELS[:, :3]), (LABELS[:, :3], CODES), (BINARY, LABELS[:, :2]),
     (LABELS[:, :2], BINARY)],
)  # fmt: skip
def test_labels_do_not_follow_classes(first, later):
    """Another kind of target is refused, even with as many outputs."""
    estimator = classifier(warm_start=True).fit(X, first)
    for method in ("fit", "partial_fit"):
        refuses(estimator, method, X, later, match="label|class")


@pytest.mark.parametrize("change", [{"hidden_layer_sizes": (7, 6)}, {"activation": "relu"},
                                    {"hidden_layer_sizes": (7,)}], ids=str)  # fmt: skip
@both
def test_fits_that_continue_keep_the_network(make, change):
    """As those of the transformers: a change is refused, not overlooked."""
    estimator = make(warm_start=True).fit(X, y_for(make)).set_params(**change)
    for method in ("fit", "partial_fit"):
        refuses(estimator, method, X, y_for(make), match="cannot change|hidden_layer_sizes")


BAD_WEIGHTS = {
    "negative": (np.r_[-1.0, np.ones(59)], "Negative values in .*sample_weight"),
    "all zero": (np.zeros(60), "sample_weight sums to zero|at least one non-zero"),
    "too few": (np.ones(59), r"sample_weight.shape == \(59,\)"),
    "none for labelled rows": (np.where(UNLABELLED, 1.0, 0.0), "no labelled samples"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
@both
def test_bad_weights_are_refused(make, case):
    weights, match = BAD_WEIGHTS[case]
    y = unlabelled(y_for(make))
    refuses(make(pretrain=stack()), "fit", X, y, sample_weight=weights, match=match)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("factor", [2.0**1014, 2.0**-900])
@targets
def test_weights_near_the_limits_are_as_good_as_others(make, y, factor, early_stopping):
    """Only their ratios matter, and nothing overflows: a warning would be an error here."""
    weights = np.linspace(0.1, 3, 60)
    params = {"early_stopping": early_stopping, "validation_fraction": 0.5}
    one, other = (make(**params).fit(X, y, given) for given in (weights, factor * weights))
    assert_same_fit(other, one)
    assert_array_equal(other.predict(X), one.predict(X))
    if early_stopping:
        assert other.validation_loss_curve_ == one.validation_loss_curve_
    assert one.score(X, y, factor * weights) == one.score(X, y, weights)
    if not early_stopping and make is regressor:
        streams = [make().partial_fit(X, y, given) for given in (weights, factor * weights)]
        assert_same_fit(*streams)
        far = make().fit(X, y)
        assert far.score(X, y + 1e5, factor * weights) == far.score(X, y + 1e5, weights)


@both
def test_weights_whose_sum_is_infinite_are_refused(make):
    y, weights = y_for(make), np.full(60, 1e308)
    for method, more in (("fit", {}), ("partial_fit", announced(make))):
        refuses(make(), method, X, y, sample_weight=weights, match="weight.*infinite sum", **more)
    refuses(make().fit(X, y), "score", X, y, weights, match="infinite sum")


def test_class_weights_that_overflow_are_refused():
    estimator = classifier(class_weight={0: 1e10, 1: 1.0, 2: 1.0})
    refuses(estimator, "fit", X, CODES, np.full(60, 1e300), match="weight contains inf")


@pytest.mark.parametrize("size", [1e39, 1e60, 1e300])
def test_targets_too_large_for_the_type_of_the_rows_are_refused(size):
    """As a number that overflows when it is cast to float32."""
    y, given = with_value(VALUES, size, 3), X.astype(np.float32)
    match = r"y has values up to 1e\+\d+, too large for float32, the type of X\. Scale y"
    for method in ("fit", "partial_fit"):
        refuses(regressor(), method, given, y, match=match)
        refuses(regressor(), method, given, np.column_stack([VALUES, -y]), match=match)
    fitted = regressor(warm_start=True).fit(given, VALUES)
    for method in ("fit", "partial_fit"):
        refuses(fitted, method, given, y, match=match)
    assert np.isfinite(regressor().fit(X, y).predict(X)).all()  # in double precision


def test_targets_too_large_for_double_precision_are_refused():
    y = VALUES.astype(np.longdouble)
    if np.finfo(np.longdouble).max > np.finfo(float).max:
        refuses(regressor(), "fit", X, y * np.longdouble("1e4000"), match="y contains infinity")
    refuses(regressor(), "fit", X, with_value(VALUES, 1.5e308, 3), match="too large for float64")
    refuses(regressor(), "fit", X, [*VALUES[:-1], "1e400"], match="y contains infinity")


@pytest.mark.parametrize("size", [2.0**-100, 2.0**-200, 2.0**-1000])
def test_targets_too_small_for_single_precision(size):
    """They are predicted as well as numbers of that type can."""
    given = X.astype(np.float32)
    found = regressor().fit(given, VALUES * size).predict(given)
    expected = regressor().fit(given, VALUES).predict(given).astype(float) * size
    assert_allclose(found, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("label", [1e19, -1e300, 1e300])
def test_labels_beyond_integers_are_refused_as_scikit_learn_does(label):
    y = np.where(BINARY == 1, label, 0.0)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(X, y)
    refuses(classifier(), "fit", X, y, match="Unknown label type: continuous")
    refuses(classifier(), "fit", X, np.column_stack([y, y]), match="Unknown label type: cont")


def test_log_probabilities_of_zero():
    """Those of a tree, as the tree gives them: minus infinity, and no warning."""
    tree = DecisionTreeClassifier(random_state=0)
    for y in (BINARY, CODES, NAMES):
        estimator = classifier(final_estimator=tree).fit(X, y)
        codes = estimator.transform(X)
        found = estimator.predict_log_proba(X)
        assert np.isneginf(found).any()
        with np.errstate(divide="ignore"):
            expected = clone(tree).fit(codes, y).predict_log_proba(codes)
            assert_array_equal(found, np.log(estimator.predict_proba(X)))
        assert_array_equal(found, expected)


@pytest.mark.parametrize("n_features", [8, 10])
@both
def test_wrong_width_is_refused(make, n_features):
    estimator = make(warm_start=True).fit(X, y_for(make))
    other = uniform(n_features=n_features)
    match = f"X has {n_features} features, but .* is expecting 9 features"
    for method in ("predict", "transform"):
        refuses(estimator, method, other, match=match)
    for method in ("fit", "partial_fit"):
        refuses(estimator, method, other, y_for(make), match=match)


@both
def test_a_loss_that_explodes_leaves_the_estimator_as_it_was(make):
    estimator = make(activation="identity").fit(X, y_for(make))
    estimator.set_params(solver="sgd", learning_rate_init=1e200)
    refuses(estimator, "fit", X, y_for(make), match="non-finite in epoch 1", trains=True)


@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "sgd"}, {"fine_tune": "top"}, {"fine_tune": "top_then_all"},
     {"n_averaged_epochs": 1}, {"early_stopping": True}, {"learning_rate": "cosine"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    "make, dtype, rate",
    [(regressor, np.float32, 1e30), (regressor, np.float64, 1e200),
     (classifier, np.float32, 3e38), (classifier, np.float64, 1.7e308)],
)  # fmt: skip
def test_a_last_step_that_diverges_is_refused(make, params, dtype, rate):
    """The loss of an epoch is that before its last step, so it does not tell.

    The logarithmic loss is infinite only where the logits are.
    """
    given, y = (1000 * X).astype(dtype), y_for(make)
    params = {"activation": "identity", "max_iter": 1, "batch_size": 60, **params}
    match = r"non-finite in epoch 1\. Try a smaller learning_rate_init \(it is [\d.]+e\+\d+\)"
    wild = {**params, "learning_rate_init": rate}
    refuses(make(**wild), "fit", given, y, match=match, trains=True)
    streams = hasattr(make(**wild), "partial_fit")
    if streams:
        refuses(make(**wild), "partial_fit", given, y, match=match, trains=True, **announced(make))
    good = {"learning_rate_init": 1e-9}
    estimator = make(**params, **good, warm_start=True).fit(given, y)
    n_epochs = estimator.n_iter_
    estimator.set_params(learning_rate_init=rate)
    match = match.replace("epoch 1", f"epoch {n_epochs + 1}")
    for method in ("fit", "partial_fit")[: 1 + streams]:
        refuses(estimator, method, given, y, match=match, trains=True)
    assert estimator.set_params(**good).fit(given, y).n_iter_ == n_epochs + 1


def test_losses_that_are_finite_but_not_their_sum():
    """Refused as in an earlier epoch, and without a warning of NumPy."""
    wild = {"solver": "sgd", "learning_rate_init": 1.7e308, "batch_size": 60}
    for max_iter in (1, 2):
        refuses(
            classifier(**wild, activation="identity", max_iter=max_iter), "fit", X, CODES,
            match="the loss became non-finite in epoch", trains=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.2},
        {"input_dropout": 0.2},
        {"adversarial_radius": 0.1},
        {"learning_rate_factors": [1, 1, 2]},
    ],
    ids=str,
)
@both
def test_the_top_alone_takes_nothing_that_acts_below(make, params):
    estimator = make(fine_tune="top", hidden_layer_sizes=(6, 5), **params)
    refuses(estimator, "fit", X, y_for(make), match="fine_tune='top' does not train")


# -- sparse samples ---------------------------------------------------------------------


def one_hot(n_samples=80, seed=0):
    """CSR samples with three of 90 features, one of which tells the class, and the classes."""
    rng = np.random.default_rng(seed)
    columns = rng.integers(30, size=(n_samples, 3)) + [0, 30, 60]
    dense = np.zeros((n_samples, 90))
    np.put_along_axis(dense, columns, 1.0, axis=1)
    return sp.csr_array(dense), columns[:, 0] % 2


SPARSE_FITS = {
    "plain": {},
    "float32": {},
    "input dropout": {"input_dropout": 0.3, "dropout": 0.2},
    "limited norms": {"max_norm": 0.8, "solver": "sgd"},
    "pretrained": {"pretrain": True},
    "the top first": {"pretrain": True, "fine_tune": "top_then_all"},
    "held out": {"early_stopping": True},
    "perturbed": {"adversarial_radius": 0.1},
    "top-k": {"activation": "top_k", "hidden_layer_sizes": (40, 5), "n_active": 3},
}


@both
@pytest.mark.parametrize("case", SPARSE_FITS)
def test_very_sparse_samples_give_the_weights_of_dense_ones(make, case):
    """The first layer only uses their features that are not zero."""
    X, y = one_hot()
    X = X.astype(np.float32) if case == "float32" else X
    sparse, dense = (
        make(**SPARSE_FITS[case], random_state=0).fit(some, y) for some in (X, X.toarray())
    )
    perturbs = case == "perturbed"
    assert sparse._architecture["by_input"] == ([] if perturbs else [0])
    assert dense._architecture["by_input"] == []
    tolerance = 2e-4 if case == "float32" else 1e-7
    for mine, other in zip(sparse.coefs_, dense.coefs_, strict=True):
        assert_allclose(mine, other, rtol=tolerance, atol=tolerance)
    assert_allclose(sparse.loss_, dense.loss_, rtol=tolerance)
    assert_allclose(sparse.predict(X), dense.predict(X.toarray()), atol=tolerance)
    assert_allclose(sparse.transform(X.toarray()), dense.transform(X), atol=tolerance)
    assert_same_fit(pickle.loads(pickle.dumps(sparse)), sparse)


@both
@pytest.mark.parametrize(
    "change", ["dense", "more features a sample", "adversarial_radius", "max_norm"]
)
def test_a_fit_on_sparse_samples_continues_on_any(make, change):
    X, y = one_hot()
    params = {change: 0.5} if change in ("adversarial_radius", "max_norm") else {}
    if change == "dense":
        after = X.toarray()
    elif change == "more features a sample":
        after = sp.vstack([sp.csr_array(np.ones((1, 90))), X[1:]]).tocsr()
    else:
        after = X
    fits = []
    for first in (X, X.toarray()):
        estimator = make(random_state=0, warm_start=True).fit(first, y)
        fits.append(estimator.set_params(**params).fit(after, y))
    for mine, other in zip(fits[0].coefs_, fits[1].coefs_, strict=True):
        assert_allclose(mine, other, rtol=1e-7, atol=1e-7)


@both
def test_denser_samples_use_all_features(make):
    y = one_hot()[1]
    for n_columns, by_input in ((61, [0]), (59, [])):  # three of them are not zero
        some = np.zeros((80, n_columns))
        some[:, :3] = 1
        estimator = make(random_state=0).fit(sp.csr_array(some), y)
        assert estimator._architecture["by_input"] == by_input


@both
def test_sparse_samples_in_parts(make):
    X, y = one_hot()
    X = sp.vstack([X[:7], sp.csr_array((1, 90)), X[8:]]).tocsr()  # one without features
    given = {"classes": [0, 1]} if make is classifier else {}
    sparse, dense = make(random_state=0), make(random_state=0)
    for _ in range(3):
        sparse.partial_fit(X, y, **given)
        dense.partial_fit(X.toarray(), y, **given)
    for mine, other in zip(sparse.coefs_, dense.coefs_, strict=True):
        assert_allclose(mine, other, rtol=1e-7, atol=1e-7)


def test_unlabelled_sparse_samples():
    """Propagated labels are used; with a smoothness radius, features are perturbed."""
    X, y = one_hot()
    y = np.where(np.arange(len(y)) % 2, y, -1)
    for params in ({}, {"propagate_labels": True}, {"smoothness_radius": 0.5}):
        sparse, dense = (
            classifier(random_state=0, **params).fit(some, y) for some in (X, X.toarray())
        )
        assert sparse._architecture["by_input"] == [0] * ("smoothness_radius" not in params)
        for mine, other in zip(sparse.coefs_, dense.coefs_, strict=True):
            assert_allclose(mine, other, rtol=1e-6, atol=1e-6)
