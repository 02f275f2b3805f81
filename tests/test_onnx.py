"""Export to ONNX: what onnxruntime makes of the graphs is what skae gives."""

import importlib
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from common import CODE_ACTIVATIONS, OUTPUT_ACTIVATION, hidden_output_activation
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor, StackingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
)

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")
importlib.import_module("skae.onnx")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    # skl2onnx reads them of each SVC.
    pytest.mark.filterwarnings("ignore:Attribute `prob._` was deprecated:FutureWarning"),
]

PIXELS, DIGITS = (part[:200] for part in load_digits(return_X_y=True))  # 0 to 16, 0 to 9
X = PIXELS / 16
MISSING = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
MISSING[0], MISSING[1] = np.nan, X[1]  # nothing observed, and everything
LABELS = np.column_stack([DIGITS > 4, DIGITS % 2, DIGITS % 3 == 0]).astype(int)
SCORES = {"reconstruct": True, "score_samples": True}
NO_MAP = {"zipmap": False}

assert_close = partial(assert_allclose, rtol=1e-5, atol=1e-5)
floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def denoising(**params):
    return DenoisingAutoencoder(12, **{"max_iter": 2, "random_state": 0, **params})


def stack(**params):
    return StackedAutoencoder((12, 8), **{"max_iter": 2, "random_state": 0, **params})


def classifier(**params):
    own = {"pretrain": False, "max_iter": 5, "random_state": 0}
    return StackedAutoencoderClassifier((12, 8), **{**own, **params})


def regressor(**params):
    own = {"pretrain": False, "max_iter": 5, "random_state": 0}
    return StackedAutoencoderRegressor((12, 8), **{**own, **params})


def detector(**params):
    own = {"n_estimators": 2, "max_iter": 3, "random_state": 0}
    return StackedAutoencoderDetector((12, 8), **{**own, **params})


def imputer(**params):
    own = {"n_estimators": 2, "max_iter": 3, "random_state": 0}
    return StackedAutoencoderImputer((12, 8), **{**own, **params})


def outputs_of(estimator, rows, options=None, **more):
    """Run a graph by onnxruntime; return its outputs by name."""
    model = skl2onnx.to_onnx(estimator, rows[:1], options=options, **more)
    onnx.checker.check_model(model)
    alone = onnxruntime.SessionOptions()
    alone.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), alone)
    values = session.run(None, {session.get_inputs()[0].name: rows})
    for output, value in zip(model.graph.output, values):
        if isinstance(value, np.ndarray):
            declared = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
            assert len(declared) == value.ndim
            assert all(n in (0, is_n) for n, is_n in zip(declared, value.shape))
    return {output.name: value for output, value in zip(model.graph.output, values)}


def check_scores(outputs, autoencoder, rows):
    codes = autoencoder.transform(rows)
    assert_close(outputs["reconstruct"], autoencoder.inverse_transform(codes))
    assert_close(outputs["score_samples"], autoencoder.score_samples(rows)[:, None])


def check_autoencoder(autoencoder, rows, **more):
    outputs = outputs_of(autoencoder, rows, SCORES, **more)
    assert list(outputs) == ["variable", "reconstruct", "score_samples"]
    expected = np.float64 if rows.dtype == np.float64 else np.float32
    assert all(output.dtype == expected for output in outputs.values())
    assert_close(outputs["variable"], autoencoder.transform(rows))
    check_scores(outputs, autoencoder, rows)


def check_classes(estimator, rows, scores="predict_proba", options=NO_MAP):
    outputs = outputs_of(estimator, rows, options)
    assert list(outputs) == ["label", "probabilities"]
    assert_array_equal(outputs["label"], estimator.predict(rows))
    expected = getattr(estimator, scores)(rows)
    if expected.ndim == 1:
        expected = np.column_stack([-expected, expected])
    assert outputs["probabilities"].dtype == rows.dtype
    assert_close(outputs["probabilities"], expected)


def check_detector(estimator, rows, **more):
    options = {id(estimator): {"score_samples": True}}
    outputs = outputs_of(estimator, rows, options, **more)
    assert list(outputs) == ["label", "scores", "score_samples"]
    assert outputs["label"].dtype == np.int64
    assert outputs["scores"].dtype == outputs["score_samples"].dtype == rows.dtype
    assert all(output.shape == (len(rows), 1) for output in outputs.values())
    assert_array_equal(outputs["label"][:, 0], estimator.predict(rows))
    close = partial(assert_allclose, rtol=1e-5 if rows.dtype == np.float32 else 1e-12)
    close(outputs["score_samples"][:, 0], estimator.score_samples(rows))
    close(outputs["scores"][:, 0], estimator.decision_function(rows), atol=1e-4)


def check_imputer(estimator, rows, **more):
    outputs = outputs_of(estimator, rows, **more)
    assert list(outputs) == ["variable"]
    found, expected = outputs["variable"], estimator.transform(rows)
    assert found.dtype == expected.dtype == rows.dtype
    assert found.shape == expected.shape and np.isfinite(found).all()
    tolerance = 1e-5 if rows.dtype == np.float32 else 1e-12
    assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    return found


# ---- autoencoders ------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
@pytest.mark.parametrize("activation", CODE_ACTIVATIONS)
def test_denoising(activation, loss, tied):
    autoencoder = denoising(activation=activation, loss=loss, tied_weights=tied).fit(X)
    for dtype in (np.float32, np.float64):
        check_autoencoder(autoencoder, X.astype(dtype))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        ("relu", "squared_error"),
        (["tanh", "identity"], "squared_error"),
        (["logistic", "tanh"], ["squared_error", "cross_entropy"]),
        (["logistic", "relu"], ["cross_entropy", "squared_error"]),
    ],
)
def test_stack(activation, loss, joint, tied):
    autoencoder = stack(
        activation=activation, loss=loss, tied_weights=tied, joint=joint,
        joint_max_iter=2,
    ).fit(X)  # fmt: skip
    # What joint training makes of the hidden decoder, so that it is put to the test.
    below = activation if isinstance(activation, str) else activation[0]
    assert hidden_output_activation(autoencoder.layers_[1]) == (below if joint else None)
    for dtype in (np.float32, np.float64):
        check_autoencoder(autoencoder, X.astype(dtype))


@floats
def test_codes_of_all_layers(dtype):
    autoencoder = stack(code="all").fit(X)
    check_autoencoder(autoencoder, X.astype(dtype))
    check_autoencoder(autoencoder.set_params(code="top"), X.astype(dtype))
    pipe = make_pipeline(autoencoder.set_params(code="all"), LogisticRegression(max_iter=1000))
    check_classes(pipe.fit(X, DIGITS), X.astype(dtype))


@floats
@pytest.mark.parametrize("joint", [False, True])
def test_top_k_codes(joint, dtype):
    """Reconstructions do not depend on `transform_n_active`."""
    rows = X.astype(dtype)
    for n_active in (1, [4, 2]):
        autoencoder = stack(
            activation="top_k", n_active=n_active, joint=joint, joint_max_iter=2
        ).fit(X)
        codes = autoencoder.transform(rows)
        check_autoencoder(autoencoder, rows)
        for code in ("top", "all"):
            given = autoencoder.set_params(code=code, transform_n_active=5, sparse_output=True)
            outputs = outputs_of(given, rows, SCORES)
            expected = given.transform(rows).toarray()
            assert not np.array_equal(expected[:, -8:], codes)
            assert_close(outputs["variable"], expected)
            assert_array_equal(outputs["variable"] != 0, expected != 0)
            assert_close(outputs["reconstruct"], given.reconstruct(rows))
            assert_close(outputs["score_samples"], given.score_samples(rows)[:, None])
        autoencoder.set_params(code="top", transform_n_active=None, sparse_output=False)


@floats
@pytest.mark.parametrize("opset", [11, 17])
def test_ties_of_a_top_k_code(opset, dtype):
    """The first of equal units stay active."""
    autoencoder = denoising(activation="top_k", n_active=3).fit(X)
    autoencoder.components_[:] = 0.125
    autoencoder.intercept_hidden_[:] = np.arange(12) % 2  # six of two values each
    rows = X.astype(dtype)
    codes = autoencoder.transform(rows)
    assert_array_equal(np.flatnonzero(codes.all(axis=0)), [1, 3, 5])
    assert_array_equal(np.flatnonzero(codes.any(axis=0)), [1, 3, 5])
    outputs = outputs_of(autoencoder, rows, SCORES, target_opset=opset)
    assert_array_equal(outputs["variable"] != 0, codes != 0)
    assert_close(outputs["variable"], codes)
    check_scores(outputs, autoencoder, rows)


@floats
@pytest.mark.parametrize("pretrain", [False, stack()])
def test_predictors_with_top_k_codes(pretrain, dtype):
    shape = {"activation": "top_k", "n_active": [4, 2], "pretrain": pretrain}
    check_classes(classifier(**shape).fit(X, DIGITS), X.astype(dtype))
    reg = regressor(**shape).fit(X, DIGITS)
    (found,) = outputs_of(reg, X.astype(dtype)).values()
    assert_close(found.ravel(), reg.predict(X.astype(dtype)))


@floats
def test_fitted_and_converted_in_either_type(dtype):
    autoencoder = stack().fit(X.astype(np.float32))
    check_autoencoder(autoencoder, X.astype(dtype))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64])
def test_integers(dtype):
    rows = PIXELS.astype(dtype)
    check_autoencoder(stack(activation="tanh", tied_weights=True).fit(rows), rows)


@floats
def test_saturated_units_have_a_finite_loss(dtype):
    autoencoder = denoising(loss="cross_entropy").fit(X)
    autoencoder.decoder_components_[:] *= 1000
    scores = autoencoder.score_samples(X.astype(dtype))
    assert np.isfinite(scores).all() and scores.min() < -1000
    outputs = outputs_of(autoencoder, X.astype(dtype), SCORES)
    assert_allclose(outputs["score_samples"][:, 0], scores, rtol=1e-5)


@pytest.mark.parametrize("make", [denoising, stack])
def test_codes_alone_without_options(make):
    autoencoder = make().fit(X)
    assert list(outputs_of(autoencoder, X)) == ["variable"]
    assert list(outputs_of(autoencoder, X, {"reconstruct": True})) == ["variable", "reconstruct"]


def test_any_number_of_rows():
    autoencoder = stack().fit(X)
    check_autoencoder(autoencoder, X[:1])
    check_autoencoder(autoencoder, X[:7])


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_older_opsets(opset):
    check_autoencoder(denoising(loss="cross_entropy").fit(X), X, target_opset=opset)
    check_autoencoder(denoising().fit(X), X, target_opset=opset)
    clf = classifier().fit(X, DIGITS)
    outputs = outputs_of(clf, X, NO_MAP, target_opset=opset)
    assert_array_equal(outputs["label"], clf.predict(X))
    assert_close(outputs["probabilities"], clf.predict_proba(X))


# ---- where an autoencoder may stand ------------------------------------------------------


@floats
@pytest.mark.parametrize("make", [denoising, stack])
@pytest.mark.parametrize("last", [LogisticRegression(max_iter=1000), SVC()], ids=["linear", "svc"])
def test_pipeline(make, last, dtype):
    pipe = clone(make_pipeline(MinMaxScaler(), make(), last)).fit(PIXELS, DIGITS)
    scores = "predict_proba" if hasattr(pipe, "predict_proba") else "decision_function"
    check_classes(pipe, PIXELS.astype(dtype), scores)


@pytest.mark.parametrize("by", [id, type])
def test_scores_from_within_a_pipeline(by):
    autoencoder = stack()
    pipe = make_pipeline(MinMaxScaler(), autoencoder, StandardScaler(), classifier())
    pipe.fit(PIXELS, DIGITS)
    outputs = outputs_of(pipe, PIXELS, {by(autoencoder): SCORES, id(pipe): NO_MAP})
    assert set(outputs) == {"reconstruct", "score_samples", "label", "probabilities"}
    check_scores(outputs, autoencoder, pipe[0].transform(PIXELS))
    assert_close(outputs["probabilities"], pipe.predict_proba(PIXELS))


def test_feature_union():
    union = make_union(denoising(), denoising(activation="tanh")).fit(X)
    first, second = (autoencoder for _, autoencoder in union.transformer_list)
    outputs = outputs_of(union, X, {DenoisingAutoencoder: {"score_samples": True}})
    assert set(outputs) == {"union", "score_samples", "score_samples_2"}
    assert_close(outputs["union"], union.transform(X))
    assert_close(outputs["score_samples"][:, 0], first.score_samples(X))
    assert_close(outputs["score_samples_2"][:, 0], second.score_samples(X))


def test_column_transformer():
    columns = make_column_transformer(
        (stack(), slice(0, 30)), (make_pipeline(StandardScaler(), denoising()), [40, 31, 33])
    )
    columns.fit(X)
    (output,) = outputs_of(columns, X).values()
    assert_close(output, columns.transform(X))


def test_grid_search_of_an_autoencoder():
    search = GridSearchCV(stack(), {"max_iter": [1, 2]}, cv=2).fit(X)
    outputs = outputs_of(search, X, {"score_samples": True})
    assert_close(outputs["variable"], search.transform(X))
    assert_close(outputs["score_samples"][:, 0], search.best_estimator_.score_samples(X))


# ---- classifier ----------------------------------------------------------------------


TARGETS = {
    "integers": DIGITS,
    "strings": np.array(["zero", "one", "two", "3", "4", "5", "6", "7", "8", "nine"])[DIGITS],
    "two": (DIGITS > 4).astype(int),
    "two strings": np.where(DIGITS > 4, "large", "small"),
    "signs": np.where(DIGITS > 4, 1, -1),
    "large": DIGITS + 2**40,
    "bool": DIGITS > 4,
    "float": DIGITS * 2.0,
    "labels": LABELS,
}
every_target = pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS.keys())


@pytest.mark.slow
@floats
@pytest.mark.parametrize("scores", ["predict_proba", "decision_function"])
@every_target
def test_classifier(y, scores, dtype):
    clf = clone(classifier(activation=["tanh", "logistic"])).fit(X, y)
    options = {**NO_MAP, "raw_scores": scores == "decision_function"}
    check_classes(clf, X.astype(dtype), scores, options)


@every_target
def test_classifier_of_integers(y):
    clf = classifier().fit(PIXELS, y)
    outputs = outputs_of(clf, PIXELS.astype(np.int64), NO_MAP)
    assert_array_equal(outputs["label"], clf.predict(PIXELS))
    assert_close(outputs["probabilities"], clf.predict_proba(PIXELS))


@every_target
def test_a_tie_goes_to_the_same_class(y):
    clf = classifier().fit(X, y)
    clf.coefs_[-1][:] = 0
    clf.intercepts_[-1][:] = 0
    outputs = outputs_of(clf, X, NO_MAP)
    assert_array_equal(outputs["label"], clf.predict(X))
    assert len(np.unique(outputs["probabilities"])) == 1


def test_pretrained_and_last_in_a_pipeline():
    clf = classifier(pretrain=stack(max_iter=1))
    check_classes(make_pipeline(MinMaxScaler(), clf).fit(PIXELS, DIGITS), PIXELS)


@pytest.mark.slow
@floats
@every_target
def test_maps(y, dtype):
    """The default, for one classifier and in a pipeline; onnxruntime maps float32 only."""
    clf, rows = classifier().fit(X, y), X.astype(dtype)
    for estimator in (clf, make_pipeline(clf)):
        outputs = outputs_of(estimator, rows)
        assert_array_equal(outputs["output_label"], clf.predict(rows))
        assert all(list(row) == clf.classes_.tolist() for row in outputs["output_probability"])
        values = [list(row.values()) for row in outputs["output_probability"]]
        assert_close(values, clf.predict_proba(rows))


def test_maps_of_a_grid_search():
    search = GridSearchCV(classifier(), {"max_iter": [1, 2]}, cv=2).fit(X, DIGITS)
    outputs = outputs_of(search, X)
    assert_array_equal(outputs["output_label"], search.predict(X))
    values = [list(row.values()) for row in outputs["output_probability"]]
    assert_close(values, search.predict_proba(X))


def test_options_of_classifiers():
    clf = classifier().fit(X, TARGETS["two strings"])
    probabilities = clf.predict_proba(X)

    outputs = outputs_of(clf, X, {"zipmap": "columns"})
    assert list(outputs) == ["output_label", "slarge", "ssmall"]
    assert_close(np.column_stack([outputs["slarge"], outputs["ssmall"]]), probabilities)

    outputs = outputs_of(clf, X, {**NO_MAP, "output_class_labels": True})
    assert_array_equal(outputs["class_labels"], clf.classes_)

    outputs = outputs_of(clf, X, {"nocl": True})
    assert_array_equal(clf.classes_[outputs["output_label"]], clf.predict(X))
    assert all(list(row) == [0, 1] for row in outputs["output_probability"])


@pytest.mark.slow
@pytest.mark.parametrize("y", [DIGITS, TARGETS["two"]], ids=["integers", "two"])
@pytest.mark.parametrize(
    "around",
    [
        partial(CalibratedClassifierCV, cv=2),
        lambda clf: CalibratedClassifierCV(
            clone(clf).set_params(final_estimator=RandomForestClassifier(3, random_state=0)), cv=2
        ),
        lambda clf: StackingClassifier([("a", clf)], cv=2, stack_method="predict_proba"),
    ],
    ids=["calibrated scores", "calibrated probabilities", "stacking"],
)
def test_in_other_classifiers(around, y):
    check_classes(around(classifier()).fit(X, y), X)


def test_stacking_of_scores():  # of two classes, skl2onnx itself cannot
    clf = StackingClassifier([("a", classifier())], cv=2, stack_method="decision_function")
    check_classes(clf.fit(X, DIGITS), X)


# ---- regressor -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("y", [X[:, 2], X[:, 2:5]], ids=["one", "three"])
def test_regressor(y, dtype):
    rows = PIXELS.astype(dtype)
    reg = clone(make_pipeline(MinMaxScaler(), regressor(activation="tanh"))).fit(rows, y)
    outputs = outputs_of(reg, rows)
    assert list(outputs) == ["variable"]
    assert_close(outputs["variable"], reg.predict(rows).reshape(len(y), -1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [False, True], ids=["all labelled", "partly labelled"])
def test_regressor_of_targets_in_any_units(hidden, dtype):
    """Each output is compared in its own units, of which the graph knows nothing."""
    units, constants = np.array([1e-6, 1.0, 1e9, 1.0]), np.array([0.0, -3.0, 0.0, 1e4])
    y = X[:, 2:6] * units + constants
    if hidden:
        y[::3] = np.nan
    reg = regressor(activation="tanh", learning_rate_init=0.01).fit(X.astype(dtype), y)
    found = outputs_of(reg, X.astype(dtype))["variable"]
    expected = reg.predict(X.astype(dtype))
    assert (np.ptp(expected, axis=0) > 0.1 * units).all()
    # Near 1e4, single precision has steps of 0.001.
    atol = {"rtol": 0, "atol": 1e-5 if dtype == np.float64 else 4e-3}
    assert_allclose(found / units, expected / units, **atol)


# ---- final estimators ------------------------------------------------------------------


@pytest.mark.slow
@floats
@pytest.mark.parametrize("y", ["integers", "two strings"])
@pytest.mark.parametrize(
    "final",
    [
        LogisticRegression(max_iter=1000),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, cv=2),
        RandomForestClassifier(3, random_state=0),
        KNeighborsClassifier(3),
    ],
    ids=lambda final: type(final).__name__,
)
def test_final_classifier(final, y, dtype):
    clf = classifier(final_estimator=final).fit(X, TARGETS[y])
    check_classes(clf, X.astype(dtype))
    check_classes(make_pipeline(clf), X.astype(dtype))


@pytest.mark.parametrize("y", ["integers", "two strings"])
@pytest.mark.parametrize(
    "final",
    [
        LogisticRegression(),
        SVC(),
        LinearSVC(),
        make_pipeline(StandardScaler(), make_pipeline(SVC())),
    ],
    ids=["logistic", "svc", "linear svc", "pipeline"],
)
def test_raw_scores_of_a_final_classifier(final, y):
    clf = classifier(final_estimator=final).fit(X, TARGETS[y])
    check_classes(clf, X, "decision_function", {**NO_MAP, "raw_scores": True})


def test_raw_scores_are_probabilities_where_there_are_no_others():
    clf = classifier(final_estimator=KNeighborsClassifier(3)).fit(X, DIGITS)
    check_classes(clf, X, "predict_proba", {**NO_MAP, "raw_scores": True})


@pytest.mark.parametrize("y", ["strings", "two"])
@pytest.mark.parametrize("final", [SVC(), LinearSVC()], ids=["svc", "linear"])
def test_final_classifier_without_probabilities_has_no_map(final, y):
    clf, rows = classifier(final_estimator=final).fit(X, TARGETS[y]), X.astype(np.float32)
    outputs = outputs_of(clf, rows)
    assert list(outputs) == ["label", "probabilities"]
    assert_array_equal(outputs["label"], clf.predict(rows))


@floats
@pytest.mark.parametrize("y", [X[:, 2], X[:, 2:5]], ids=["one", "three"])
@pytest.mark.parametrize(
    "final",
    [Ridge(), make_pipeline(StandardScaler(), Ridge()), RandomForestRegressor(3, random_state=0)],
)
def test_final_regressor(final, y, dtype):
    reg = regressor(final_estimator=final).fit(X, y)
    rows = X.astype(dtype)
    outputs = outputs_of(reg, rows)
    assert outputs["variable"].dtype == dtype
    assert_close(outputs["variable"], reg.predict(rows).reshape(len(y), -1))


# ---- detector --------------------------------------------------------------------------


@floats
@pytest.mark.parametrize("n_estimators", [2, 3])
def test_detector(n_estimators, dtype):
    rows = np.concatenate([X, 3 * X]).astype(dtype)
    found = detector(n_estimators=n_estimators, contamination=0.2).fit(X)
    assert set(found.predict(rows)) == {1, -1}
    check_detector(found, rows)
    check_detector(found, rows[:1])


@floats
def test_detector_of_missing_values(dtype):
    found = detector(activation="relu").fit(MISSING)
    check_detector(found, MISSING.astype(dtype))
    assert found.predict(MISSING[:1]) == -1


@floats
def test_detector_in_any_units(dtype):
    """Single precision has steps of 0.06 near 1e6: the samples are standardised in double."""
    rows = (1e6 + 1e2 * X).astype(dtype)
    check_detector(detector().fit(rows), rows)


@floats
def test_detector_of_what_is_too_large(dtype):
    """A network that overflows gives a score of minus infinity."""
    rows = X.astype(dtype)
    found = detector().fit(rows * 1e-3)
    rows[0] = np.finfo(dtype).max
    rows[1, :30] = np.nan
    with np.errstate(over="ignore"):
        assert found.score_samples(rows)[0] == -np.inf
        check_detector(found, rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_detector_of_integers(dtype):
    rows = PIXELS.astype(dtype)
    found = detector().fit(rows)
    outputs = outputs_of(found, rows)
    assert list(outputs) == ["label", "scores"]
    assert_array_equal(outputs["label"][:, 0], found.predict(rows))
    assert_close(outputs["scores"][:, 0], found.decision_function(rows), atol=1e-4)


@floats
def test_detector_behind_other_steps(dtype):
    inner, rows = detector(), MISSING.astype(dtype)
    pipe = make_pipeline(imputer(), MinMaxScaler(), inner).fit(rows)
    outputs = outputs_of(pipe, rows, {id(inner): {"score_samples": True}})
    assert list(outputs) == ["label", "scores", "score_samples"]
    assert_close(outputs["scores"][:, 0], pipe.decision_function(rows), rtol=1e-4, atol=1e-4)
    assert_close(outputs["score_samples"][:, 0], pipe.score_samples(rows), rtol=1e-4)
    clear = abs(pipe.decision_function(rows)) > 1e-3
    assert_array_equal(outputs["label"][clear, 0], pipe.predict(rows)[clear])


# ---- imputer ---------------------------------------------------------------------------


@floats
@pytest.mark.parametrize("n_estimators", [2, 3])
def test_imputer(n_estimators, dtype):
    rows = MISSING.astype(dtype)
    fill = imputer(n_estimators=n_estimators).fit(MISSING)
    found = check_imputer(fill, rows)
    assert_array_equal(found[~np.isnan(rows)], rows[~np.isnan(rows)])
    for few in (rows[:1], rows[1:2], rows[2:3]):
        check_imputer(fill, few)


@floats
def test_imputer_adds_what_is_not_linear(dtype):
    """So that the networks are put to the test."""
    fill = imputer().fit(MISSING)
    fill.weights_[:] = np.linspace(0, 1, X.shape[1])
    check_imputer(fill, MISSING.astype(dtype))


@floats
def test_imputer_of_more_features_than_have_a_precision(dtype):
    rows = np.concatenate([MISSING, MISSING[:, ::-1], MISSING], axis=1).astype(dtype)
    fill = imputer().fit(rows)
    assert fill.precision_ is None
    check_imputer(fill, rows)


@floats
def test_imputer_of_features_that_depend_on_each_other(dtype):
    """Nearly singular: the linear estimate takes the most steps."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 100)) + rng.normal(size=100) * 1e3
    rows = np.where(rng.random(rows.shape) < 0.5, np.nan, rows).astype(dtype)
    check_imputer(imputer().fit(rows), rows)


@floats
@pytest.mark.parametrize("add_indicator", [False, True])
@pytest.mark.parametrize("keep_empty_features", [False, True])
def test_columns_of_an_imputer(keep_empty_features, add_indicator, dtype):
    params = {"keep_empty_features": keep_empty_features, "add_indicator": add_indicator}
    rows = MISSING[1:60].astype(dtype)
    rows[:, 50:] = X[1:60, 50:]  # not missing here: not indicated
    fill = imputer(**params)
    check_imputer(fill.fit(rows), rows)
    rows[:, [3, 60]] = np.nan
    fill.fit(rows)
    rows[0, 3] = 7  # as it has never been
    assert check_imputer(fill, rows).shape[1] == 62 + 2 * keep_empty_features + 51 * add_indicator


def test_indicator_of_nothing():
    check_imputer(imputer(add_indicator=True).fit(X), MISSING)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("missing_values", [-1, 0])
def test_imputer_of_other_missing_values(missing_values, dtype):
    rows = np.where(np.isnan(MISSING), missing_values, PIXELS).astype(dtype)
    fill = imputer(missing_values=missing_values, add_indicator=True).fit(rows)
    if dtype == np.int64:  # float32 in the graph
        assert_close(outputs_of(fill, rows)["variable"], fill.transform(rows))
    else:
        check_imputer(fill, rows)


@floats
def test_imputer_of_what_is_too_large(dtype):
    """What is filled in is finite; other samples do not suffer from it."""
    rows = MISSING[1:].astype(dtype)
    fill = imputer().fit(rows * 1e-3)
    rows[1, :5] = np.finfo(dtype).max / 2
    found = outputs_of(fill, rows)["variable"]
    assert np.isfinite(found).all()
    assert_array_equal(found[1, :5], rows[1, :5])
    assert_close(np.delete(found, 1, axis=0), fill.transform(np.delete(rows, 1, axis=0)))


@floats
def test_imputer_before_other_steps(dtype):
    rows = MISSING.astype(dtype)
    steps = [imputer(), StandardScaler(), stack(), LogisticRegression(max_iter=1000)]
    check_classes(make_pipeline(*steps).fit(rows, DIGITS), rows)


@floats
def test_imputer_behind_other_steps(dtype):
    rows = MISSING[1:].astype(dtype)
    pipe = make_pipeline(StandardScaler(), imputer(add_indicator=True)).fit(rows)
    assert_close(outputs_of(pipe, rows)["variable"], pipe.transform(rows))


def test_two_imputers():
    """The bodies of their loops have names of their own."""
    union = make_union(imputer(), make_pipeline(MinMaxScaler(), imputer())).fit(MISSING)
    assert_close(outputs_of(union, MISSING)["union"], union.transform(MISSING))


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_detector_and_imputer_in_older_opsets(opset):
    check_detector(detector().fit(MISSING), MISSING, target_opset=opset)
    check_imputer(imputer(add_indicator=True).fit(MISSING), MISSING, target_opset=opset)


# ---- what is refused ---------------------------------------------------------------------


def test_refuses_several_labels_with_a_final_estimator():
    clf = classifier(final_estimator=KNeighborsClassifier()).fit(X, LABELS)
    with pytest.raises(NotImplementedError, match="several labels a sample"):
        outputs_of(clf, X)


def test_refuses_options_that_do_not_go_with_the_final_estimator():
    final = GridSearchCV(LogisticRegression(), {"C": [0.1]}, cv=2)
    clf = classifier(final_estimator=final).fit(X, DIGITS)
    with pytest.raises(NotImplementedError, match="'nocl' does not go with a final_estimator"):
        outputs_of(clf, X, {"nocl": True})
    with pytest.raises(NotImplementedError, match="no option 'raw_scores' for GridSearchCV"):
        outputs_of(clf, X, {"raw_scores": True})


@pytest.mark.parametrize("make", [denoising, stack, classifier, regressor, detector, imputer])
def test_refuses_unknown_options_and_what_is_not_fitted(make):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        outputs_of(make(), X)
    with pytest.raises(NameError, match="Option 'depth' not in"):
        outputs_of(make().fit(X, DIGITS), X, {"depth": 1})


@pytest.mark.parametrize("make", [denoising, classifier, regressor, detector, imputer])
def test_refuses_several_inputs(make):
    """As it comes of a data frame, each of whose columns is an input of its own."""
    with pytest.raises(RuntimeError, match=r"at most 1 input\(s\) is\(are\) supported"):
        skl2onnx.to_onnx(make().fit(X, DIGITS), pd.DataFrame(X[:1]).rename(columns=str))


@pytest.mark.parametrize("missing", ["skl2onnx", "onnx"])
def test_says_what_to_install(missing, monkeypatch):
    for name in list(sys.modules):
        if name == "skae.onnx" or name.partition(".")[0] == "skl2onnx":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r'pip install "skae\[onnx\]"'):
        importlib.import_module("skae.onnx")
