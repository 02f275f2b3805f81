"""Labels: which samples are unlabelled, what scores make of them, and weights of classes."""

from functools import partial

import common
import numpy as np
import pandas as pd
import pytest
from common import assert_same_fit, refuses, uniform
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import accuracy_score, r2_score, recall_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.utils import compute_class_weight

from skae import StackedAutoencoderClassifier, StackedAutoencoderRegressor

pytestmark = pytest.mark.usefixtures("one_thread")


SMALL = {
    **common.SMALL, "hidden_layer_sizes": (7, 5), "activation": "tanh", "pretrain": False,
    "max_iter": 4,
}  # fmt: skip
classifier = partial(StackedAutoencoderClassifier, **SMALL)
regressor = partial(StackedAutoencoderRegressor, **SMALL)

X = uniform()
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
BINARY = (CODES > 0).astype(int)
LETTERS = np.array(["a", "b", "c"])[CODES]  # in the order of the codes
LABELS = (X[:, :4] > [0.3, 0.5, 0.6, 0.5]).astype(int)
VALUES = 3 * X[:, 0] - 2 * X[:, 1] ** 2
PAIRS = np.column_stack([VALUES, X[:, 2]])
UNLABELLED = np.arange(60) % 3 == 1
PARTLY = np.where(UNLABELLED, -1, CODES)
PARTLY_VALUES = np.where(UNLABELLED, np.nan, VALUES)


def polars():
    return pytest.importorskip("polars")


def objects(y, missing):
    """y as Python objects, with something for the unlabelled samples."""
    return [missing if hidden else one for one, hidden in zip(y.tolist(), UNLABELLED)]


def array(y, missing):
    out = np.empty(len(y), dtype=object)
    out[:] = objects(y, missing)
    return out


# -- unlabelled samples ------------------------------------------------------------------


MIXED = [None, np.nan, pd.NA, -1, -1.0, np.float32("nan"), float("nan"), np.int8(-1)]
MISSING = {"None": None, "nan": np.nan, "NA": pd.NA, "-1": -1}
STRINGS = getattr(np.dtypes, "StringDType", None)  # of NumPy 2

FORMS = {  # of the codes, in which a third has no label
    **{f"list, {name}": partial(objects, missing=value) for name, value in MISSING.items()},
    **{f"array, {name}": partial(array, missing=value) for name, value in MISSING.items()},
    "all at once": lambda y: [
        MIXED[k % len(MIXED)] if UNLABELLED[k] else one for k, one in enumerate(y.tolist())
    ],
    "float": lambda y: np.where(UNLABELLED, np.nan, y),
    "single precision": lambda y: np.where(UNLABELLED, np.nan, y).astype(np.float32),
    **{
        f"pandas {dtype}": lambda y, dtype=dtype: pd.Series(objects(y, None), dtype=dtype)
        for dtype in ("Int64", "Int8", "UInt8", "Float64", "Float32", "float64", "object")
    },
    "pandas category": lambda y: pd.Series(objects(y, None), dtype="Int64").astype("category"),
    "pandas category of floats": lambda y: pd.Series(objects(y, np.nan)).astype("category"),
    "polars": lambda y: polars().Series(objects(y, None)),
    "polars Int8": lambda y: polars().Series(objects(y, None), dtype=polars().Int8),
    "polars float": lambda y: polars().Series([None if v is None else float(v) for v in
                                               objects(y, None)]),
    "polars nan": lambda y: polars().Series(np.where(UNLABELLED, np.nan, y)),
}  # fmt: skip


def enum(y):
    return polars().Series(objects(y, None), dtype=polars().Enum(["a", "b", "c"]))


STRING_FORMS = {  # of the letters
    **{f"list, {name}": partial(objects, missing=value) for name, value in MISSING.items()},
    **{f"array, {name}": partial(array, missing=value) for name, value in MISSING.items()},
    "all at once": FORMS["all at once"],
    "pandas": lambda y: pd.Series(objects(y, None)),
    "pandas object": lambda y: pd.Series(objects(y, np.nan), dtype=object),
    "pandas string": lambda y: pd.Series(objects(y, None), dtype="string"),
    "pandas string, python": lambda y: pd.Series(objects(y, None), dtype="string[python]"),
    "pandas category": lambda y: pd.Series(objects(y, None), dtype="category"),
    "polars": lambda y: polars().Series(objects(y, None)),
    "polars categories": lambda y: polars().Series(
        objects(y, None), dtype=polars().Categorical),
    "polars enum": enum,
    "StringDType": lambda y: np.array(objects(y, None), dtype=STRINGS(na_object=None)),
    "StringDType, nan": lambda y: np.array(objects(y, np.nan), dtype=STRINGS(na_object=np.nan)),
}  # fmt: skip


def form_of(y, form):
    if form.startswith("StringDType") and STRINGS is None:
        pytest.skip("needs NumPy 2")
    return (STRING_FORMS if y.dtype.kind == "U" else FORMS)[form](y)


EACH_FORM = [(CODES, form) for form in FORMS] + [(LETTERS, form) for form in STRING_FORMS]
each_form = pytest.mark.parametrize(
    "y, form", EACH_FORM, ids=[f"{y.dtype.kind}, {form}" for y, form in EACH_FORM]
)


@each_form
def test_what_is_missing_is_unlabelled(y, form):
    """The bits of a fit are those of -1 among integers, whatever holds the labels."""
    given = form_of(y, form)
    found = classifier().fit(X, given)
    expected = classifier().fit(X, PARTLY)
    assert_same_fit(found, expected)
    assert_array_equal(found.classes_, np.unique(y))
    assert found.n_labelled_ == expected.n_labelled_ == 40
    assert_array_equal(found.predict(X), np.unique(y)[expected.predict(X)])
    # Scores and further fits read them in the same way.
    right = accuracy_score(y[~UNLABELLED], found.predict(X[~UNLABELLED]))
    assert found.score(X, given) == pytest.approx(right, rel=1e-12)
    classes = np.unique(y)
    stream = classifier().partial_fit(X, given, classes=classes).partial_fit(X, given)
    other = classifier().partial_fit(X, PARTLY, classes=[0, 1, 2]).partial_fit(X, PARTLY)
    assert_same_fit(stream, other)


@pytest.mark.parametrize(
    "make", [lambda y: pd.Series(y, dtype="boolean"), lambda y: polars().Series(y), np.array]
)
def test_booleans_may_be_missing(make):
    given = make([None if hidden else bool(one) for one, hidden in zip(BINARY, UNLABELLED)])
    found = classifier().fit(X, given)
    assert_same_fit(found, classifier().fit(X, np.where(UNLABELLED, -1, BINARY)))
    assert_array_equal(found.classes_, [False, True])
    assert found.n_labelled_ == 40


INDICATORS = {
    "nan": lambda y: np.where(UNLABELLED[:, None], np.nan, y),
    "list of NA": lambda y: [
        [pd.NA] * 4 if hidden else one for one, hidden in zip(y.tolist(), UNLABELLED)
    ],
    "pandas": lambda y: pd.DataFrame({k: objects(y[:, k], None) for k in range(4)}, dtype="Int64"),
    "polars": lambda y: polars().DataFrame({str(k): objects(y[:, k], None) for k in range(4)}),
    "all at once": lambda y: [
        [None, -1, np.nan, pd.NA] if hidden else one for one, hidden in zip(y.tolist(), UNLABELLED)
    ],
}


@pytest.mark.parametrize("form", INDICATORS)
def test_rows_of_an_indicator_may_be_missing(form):
    given = INDICATORS[form](LABELS)
    found = classifier().fit(X, given)
    assert_same_fit(found, classifier().fit(X, np.where(UNLABELLED[:, None], -1, LABELS)))
    assert found.n_labelled_ == 40
    right = accuracy_score(LABELS[~UNLABELLED], found.predict(X)[~UNLABELLED])
    assert found.score(X, given) == right


def test_labels_that_are_missing_in_part_are_refused():
    for given in (
        common.with_value(LABELS, np.nan, (3, 1)),
        pd.DataFrame(LABELS, dtype="Int64").mask(common.with_value(LABELS * 0, 1, (3, 1)) == 1),
    ):
        refuses(classifier(), "fit", X, given, match="only some labels are missing")


NUMBERS = {
    "list of None": lambda y: objects(y, None),
    "array of nan": lambda y: array(y, np.nan),
    "array of NA": lambda y: array(y, pd.NA),
    "pandas": lambda y: pd.Series(objects(y, None), dtype="Float64"),
    "polars": lambda y: polars().Series(objects(y, None)),
}


@pytest.mark.parametrize("form", NUMBERS)
def test_targets_that_are_missing(form):
    found, given = regressor(), NUMBERS[form](VALUES)
    assert_same_fit(found.fit(X, given), regressor().fit(X, PARTLY_VALUES))
    assert_same_fit(found, regressor().fit(X[~UNLABELLED], VALUES[~UNLABELLED]))
    assert found.n_labelled_ == 40
    assert found.score(X, given) == found.score(X, PARTLY_VALUES)


def test_minus_one_is_a_number_to_the_regressor():
    y = np.where(UNLABELLED, -1.0, VALUES)
    found = regressor().fit(X, y)
    assert found.n_labelled_ == 60
    assert found.score(X, y) == pytest.approx(r2_score(y, found.predict(X)), rel=1e-12)


@pytest.mark.parametrize("missing", ["-1", ""])
@pytest.mark.parametrize(
    "make",
    [np.array, partial(np.array, dtype=object), pd.Series, list,
     partial(pd.Series, dtype="category"), lambda y: polars().Series(y)],
)  # fmt: skip
def test_strings_that_look_like_unlabelled_are_refused(make, missing):
    y = make(objects(LETTERS, missing))
    match = f"y has the string '{missing}'.*replace it by None"
    refuses(classifier(), "fit", X, y, match=match)
    refuses(classifier(), "partial_fit", X, y, classes=["a", "b", "c"], match=match)
    fitted = classifier().fit(X, LETTERS)
    refuses(fitted, "score", X, y, match=match)
    # The remedy of the message is one.
    y = np.array(objects(LETTERS, missing))
    assert_same_fit(
        classifier().fit(X, np.where(y == missing, None, y)), classifier().fit(X, PARTLY)
    )


def test_three_classes_with_minus_one_are_two():
    """As `fit` documents: -1 beside other numbers is unlabelled, even if none is meant to be."""
    y = CODES - 1
    found = classifier().fit(X, y)
    assert_array_equal(found.classes_, [0, 1])
    assert found.n_labelled_ == (y != -1).sum() < 60
    assert_same_fit(found, classifier().fit(X[y != -1], y[y != -1]))
    assert -1 not in found.predict(X)
    assert found.score(X, y) == accuracy_score(y[y != -1], found.predict(X[y != -1]))
    assert "Three classes -1, 0 and 1 are not" in " ".join(found.fit.__doc__.split())


@pytest.mark.parametrize(
    "make, y, n_labelled",
    [
        (classifier, CODES, 60),
        (classifier, PARTLY, 40),
        (classifier, array(LETTERS, None), 40),
        (classifier, 2 * BINARY - 1, 60),
        (regressor, VALUES, 60),
        (regressor, PARTLY_VALUES, 40),
        (regressor, common.with_value(PAIRS, np.nan, (7, 1)), 59),
    ],
)
def test_number_of_labelled_samples(make, y, n_labelled, capsys):
    estimator = make(verbose=True).fit(X, y)
    assert estimator.n_labelled_ == n_labelled
    line = f"[{type(estimator).__name__}] {n_labelled} of 60 samples are labelled"
    assert capsys.readouterr().out.splitlines()[0] == line
    # One of weight zero is labelled nevertheless; of a stream, it is the last y that counts.
    weights = np.where(np.arange(60) < 5, 0.0, 1.0)
    assert make().fit(X, y, sample_weight=weights).n_labelled_ == n_labelled
    estimator.partial_fit(X[:30], y[:30])
    plain = pd.DataFrame(np.array(y[:30].tolist(), dtype=object))
    missing = plain.isna() | ((plain == -1) & (make is classifier and n_labelled < 60))
    assert estimator.n_labelled_ == 30 - missing.any(axis=1).sum()
    assert f"{estimator.n_labelled_} of 30 samples are" in capsys.readouterr().out


# -- scores of partly labelled y ---------------------------------------------------------


SCORED = {
    "integers": (classifier, PARTLY, accuracy_score),
    "None": (classifier, array(CODES, None), accuracy_score),
    "letters": (classifier, array(LETTERS, None), accuracy_score),
    "several labels": (classifier, np.where(UNLABELLED[:, None], -1, LABELS), accuracy_score),
    "values": (regressor, PARTLY_VALUES, r2_score),
    "pairs": (regressor, np.where(UNLABELLED[:, None], np.nan, PAIRS), r2_score),
}
scored = pytest.mark.parametrize("make, y, metric", SCORED.values(), ids=SCORED)


def labelled_only(y, rows):
    """The labels of those of the rows that have one, and which rows these are."""
    known = rows[~UNLABELLED[rows]]
    return np.array(y[known].tolist()), known


@scored
@pytest.mark.parametrize("weights", [None, np.linspace(0.1, 3, 60)], ids=["even", "weighted"])
def test_score_is_that_of_the_labelled_samples(make, y, metric, weights):
    fitted = make(max_iter=20).fit(X, y)
    truth, known = labelled_only(y, np.arange(60))
    given = None if weights is None else weights[known]
    expected = metric(truth, fitted.predict(X[known]), sample_weight=given)
    assert fitted.score(X, y, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    assert 0 < abs(expected) < 1


@pytest.mark.parametrize("make, y", [(classifier, [-1, -1]), (classifier, [None, np.nan]),
                                     (regressor, [np.nan, None])])  # fmt: skip
def test_nothing_labelled_has_no_score(make, y):
    fitted = make().fit(X, CODES)
    refuses(fitted, "score", X[:2], y, match="no labelled samples")


def by_hand(estimator, y, metric, cv):
    """Fit on each training part, and score the labelled samples of the test part."""
    scores = []
    for train, test in cv.split(X):
        fitted = clone(estimator).fit(X[train], y[train])
        truth, known = labelled_only(y, test)
        scores.append(metric(truth, fitted.predict(X[known])))
    return scores


@scored
def test_cross_validation_scores_the_labelled_samples(make, y, metric):
    estimator, cv = make(max_iter=20), KFold(3, shuffle=True, random_state=0)
    found = cross_val_score(estimator, X, y, cv=cv, error_score="raise")
    assert_allclose(found, by_hand(estimator, y, metric, cv), rtol=1e-12)


@scored
def test_a_search_goes_by_the_labelled_samples(make, y, metric):
    cv = KFold(2, shuffle=True, random_state=0)
    grid = {"learning_rate_init": [0.001, 0.05]}
    search = GridSearchCV(make(max_iter=20), grid, cv=cv, error_score="raise").fit(X, y)
    means = [
        np.mean(by_hand(make(max_iter=20, learning_rate_init=rate), y, metric, cv))
        for rate in grid["learning_rate_init"]
    ]
    assert_allclose(search.cv_results_["mean_test_score"], means, rtol=1e-12)
    assert search.best_score_ == pytest.approx(max(means), rel=1e-12)
    truth, known = labelled_only(y, np.arange(60))
    assert search.score(X, y) == pytest.approx(metric(truth, search.predict(X[known])), rel=1e-12)


def test_stratified_folds_take_unlabelled_integers():
    """For the folds, -1 is one class more."""
    found = cross_val_score(classifier(max_iter=20), X, PARTLY, cv=3, error_score="raise")
    parts = StratifiedKFold(3).split(X, PARTLY)
    for score, (train, test) in zip(found, parts, strict=True):
        fitted = classifier(max_iter=20).fit(X[train], PARTLY[train])
        truth, known = labelled_only(PARTLY, test)
        assert score == accuracy_score(truth, fitted.predict(X[known]))


# -- classes without weight --------------------------------------------------------------


@pytest.mark.parametrize("peer", [MLPClassifier(max_iter=2), SGDClassifier()])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("y, nothing", [(CODES, 2), (CODES, 0), (BINARY, 1), (LETTERS, "b")],
                         ids=["last", "first", "one of two", "by name"])  # fmt: skip
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer:sklearn.exceptions.ConvergenceWarning")
def test_a_class_without_weight_is_a_class(y, nothing, early_stopping, peer):
    weights = np.where(y == nothing, 0.0, 1.0)
    expected = peer.fit(X, y, sample_weight=weights).classes_
    assert_array_equal(expected, np.unique(y))
    found = classifier(max_iter=40, early_stopping=early_stopping)
    found.fit(X, y, sample_weight=weights)
    assert_array_equal(found.classes_, expected)
    proba = found.predict_proba(X)
    assert proba.shape == (60, len(expected))
    assert_allclose(proba.sum(axis=1), 1)
    # Nothing speaks for it, so that it becomes the least probable.
    if not early_stopping:
        assert (proba.mean(axis=0).argmin()) == np.flatnonzero(expected == nothing)[0]
    assert found.n_labelled_ == 60


def test_a_class_of_class_weight_zero_is_a_class():
    found = classifier(class_weight={2: 0.0}).fit(X, CODES)
    assert_array_equal(found.classes_, [0, 1, 2])
    weights = np.where(CODES == 2, 0.0, 1.0)
    assert_same_fit(found, classifier().fit(X, CODES, sample_weight=weights))


@pytest.mark.parametrize("others", [np.zeros(60, dtype=int), BINARY], ids=["binary", "multiclass"])
def test_bagging_of_a_rare_class(others):
    """Most of its parts lack the only sample of a class, so that of two classes one is left."""
    rare = others.max() + 1
    y = np.where(np.arange(60) == 7, rare, others)
    bagging = BaggingClassifier(classifier(), n_estimators=10, random_state=0).fit(X, y)
    assert_array_equal(bagging.classes_, np.arange(rare + 1))
    drawn = [7 in samples for samples in bagging.estimators_samples_]
    assert any(drawn) and not all(drawn)
    assert bagging.predict(X).shape == (60,)
    proba = bagging.predict_proba(X)
    assert proba.shape == (60, rare + 1)
    assert_allclose(proba.sum(axis=1), 1)


# -- weights of classes ------------------------------------------------------------------


def test_balanced_weights_of_a_batch_are_refused():
    match = "class_weight 'balanced' is not supported for partial_fit"
    for estimator in (classifier(class_weight="balanced"), SGDClassifier(class_weight="balanced")):
        with pytest.raises(ValueError, match=match):
            estimator.partial_fit(X, CODES, classes=[0, 1, 2])
    balanced = classifier(class_weight="balanced")
    match += ".*compute_class_weight.*class_weight"
    refuses(balanced, "partial_fit", X, CODES, classes=[0, 1, 2], match=match)
    refuses(balanced.fit(X, CODES), "partial_fit", X, CODES, match=match)
    # What the message says to do is the same for all samples at once.
    weights = compute_class_weight("balanced", classes=np.arange(3), y=CODES)
    stream = classifier(class_weight=dict(zip([0, 1, 2], weights)))
    stream.partial_fit(X, CODES, classes=[0, 1, 2])
    assert_same_fit(stream, classifier(class_weight="balanced", max_iter=1).fit(X, CODES))


def test_a_class_weight_in_a_stream_is_a_weight_of_the_samples():
    stream = classifier(class_weight={0: 2.0, 2: 5.0}, batch_size=4)
    other = classifier(batch_size=4)
    weights = np.array([2.0, 1.0, 5.0])[CODES]
    for start in range(0, 60, 7):
        part = slice(start, start + 7)
        stream.partial_fit(X[part], CODES[part], classes=[0, 1, 2])
        other.partial_fit(X[part], CODES[part], classes=[0, 1, 2], sample_weight=weights[part])
    assert_same_fit(stream, other)


def test_held_out_scores_take_the_class_weight():
    one = classifier(class_weight={0: 2.0, 2: 5.0}, early_stopping=True, validation_fraction=0.4)
    other = clone(one).set_params(class_weight=None)
    one.fit(X, CODES)
    other.fit(X, CODES, sample_weight=np.array([2.0, 1.0, 5.0])[CODES])
    assert_same_fit(one, other)
    assert one.validation_scores_ == other.validation_scores_
    assert one.validation_loss_curve_ == other.validation_loss_curve_
    plain = clone(other).fit(X, CODES)
    assert plain.validation_loss_curve_ != one.validation_loss_curve_


def test_a_batch_may_lack_a_class_that_has_a_weight():
    """As `SGDClassifier` takes it; what is there has a weight of one."""
    without = CODES < 2
    weight = {2: 5.0}
    SGDClassifier(class_weight=weight).partial_fit(X[without], CODES[without], classes=[0, 1, 2])
    one, other = classifier(class_weight=weight), classifier()
    for estimator in (one, other):
        estimator.partial_fit(X[without], CODES[without], classes=[0, 1, 2])
    assert_same_fit(one, other)
    # The weight counts when the class comes.
    weights = np.array([1.0, 1.0, 5.0])[CODES]
    one.partial_fit(X, CODES)
    other.partial_fit(X, CODES, sample_weight=weights)
    assert_same_fit(one, other)


def test_a_warm_started_fit_may_lack_a_class_that_has_a_weight():
    without = CODES < 2
    one = classifier(class_weight={2: 5.0}, warm_start=True).fit(X, CODES)
    other = classifier(warm_start=True)
    other.fit(X, CODES, sample_weight=np.array([1.0, 1.0, 5.0])[CODES])
    assert_same_fit(one, other)
    assert_same_fit(one.fit(X[without], CODES[without]), other.fit(X[without], CODES[without]))
    assert_array_equal(one.classes_, [0, 1, 2])


@pytest.mark.parametrize("batch_size", [1, 20, 200])
def test_balanced_weights_find_a_rare_class_at_any_batch_size(batch_size):
    """As logistic regression does, which knows no batches."""
    rng = np.random.default_rng(0)
    y = (np.arange(2000) % 50 == 0).astype(int)
    rows = rng.normal(size=(2000, 5)) + 1.2 * y[:, None] * [1, 1, 0, 0, 0]
    expected = LogisticRegression(class_weight="balanced").fit(rows, y)
    # As many steps for each size, smaller ones where they are noisier.
    rate, epochs = {1: (0.0003, 3), 20: (0.003, 10), 200: (0.01, 30)}[batch_size]
    found = classifier(
        hidden_layer_sizes=(4,), class_weight="balanced", batch_size=batch_size,
        learning_rate_init=rate, max_iter=epochs,
    ).fit(rows, y)  # fmt: skip
    one, other = (recall_score(y, estimator.predict(rows)) for estimator in (found, expected))
    assert other > 0.7
    assert one == pytest.approx(other, abs=0.1)
