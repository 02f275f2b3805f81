"""Heads: targets, scores, probabilities and predictions from their definitions."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.metrics import accuracy_score, r2_score

from skae._heads import HEADS, Linear, Logistic, Multilabel, Softmax, classification_head
from skae._kernel._sgd import ACTIVATIONS, LOSSES

rng = np.random.default_rng(0)
CLASSES = np.array(["a", "b", "c"])
Y = np.array(["b", "c", "a", "b"])
LOGITS = rng.normal(size=(4, 3))
LABELS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
WEIGHTS = np.array([1.0, 2.0, 0.0, 3.0])


def test_each_head_is_known_to_the_kernel():
    for head in (*HEADS.values(), Linear):
        assert head.activation in ACTIVATIONS
        assert head.loss in LOSSES


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_softmax(smoothing):
    head = Softmax(CLASSES, smoothing)
    targets = head.encode(Y, np.float64)
    assert head.n_outputs == 3
    assert_array_equal(head.strata(Y), [1, 2, 0, 1])
    assert_allclose(targets.sum(axis=1), 1)
    assert_allclose(targets.max(axis=1), 1 - smoothing + smoothing / 3)
    assert_array_equal(CLASSES[targets.argmax(axis=1)], Y)
    power = np.exp(LOGITS)
    assert_allclose(head.predict_proba(LOGITS), power / power.sum(axis=1, keepdims=True))
    assert_array_equal(head.predict(LOGITS), CLASSES[LOGITS.argmax(axis=1)])
    assert head.decision_function(LOGITS) is LOGITS
    right = accuracy_score(Y, head.predict(LOGITS), sample_weight=WEIGHTS)
    assert head.score(targets, head.predict_proba(LOGITS), WEIGHTS) == pytest.approx(right)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_logistic(smoothing):
    head = Logistic(CLASSES[:2], smoothing)
    y, logits = np.array(["b", "a", "b", "a"]), LOGITS[:, :1]
    targets = head.encode(y, np.float64)
    assert head.n_outputs == 1
    assert_array_equal(head.strata(y), [1, 0, 1, 0])
    assert_allclose(targets[:, 0], np.where(y == "b", 1 - smoothing / 2, smoothing / 2))
    assert_allclose(head.predict_proba(logits)[:, 1], expit(logits[:, 0]))
    assert_array_equal(head.predict(logits), np.where(logits[:, 0] > 0, "b", "a"))
    assert_array_equal(head.decision_function(logits), logits[:, 0])
    right = accuracy_score(y, head.predict(logits), sample_weight=WEIGHTS)
    assert head.score(targets, expit(logits), WEIGHTS) == pytest.approx(right)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_multilabel(smoothing):
    head = classification_head(LABELS, None, smoothing)
    assert isinstance(head, Multilabel)
    targets = head.encode(LABELS, np.float64)
    assert head.n_outputs == 3 and head.strata(LABELS) is None
    assert_allclose(targets, np.where(LABELS == 1, 1 - smoothing / 2, smoothing / 2))
    assert_allclose(head.predict_proba(LOGITS), expit(LOGITS))
    assert_array_equal(head.predict(LOGITS), LOGITS > 0)
    right = accuracy_score(LABELS, head.predict(LOGITS), sample_weight=WEIGHTS)
    assert head.score(targets, expit(LOGITS), WEIGHTS) == pytest.approx(right)


@pytest.mark.parametrize("head", HEADS.values())
def test_log_probabilities(head):
    head, logits = head(CLASSES), LOGITS[:, :1] if head is Logistic else LOGITS
    assert_allclose(np.exp(head.predict_log_proba(logits)), head.predict_proba(logits))
    assert np.isfinite(head.predict_log_proba(logits * 1e6)).all()


@pytest.mark.parametrize("ndim", [1, 2])
def test_linear(ndim):
    y = rng.normal(size=4 if ndim == 1 else (4, 2))
    mean, scale = rng.normal(size=ndim), np.array([2.0, 0.25])[:ndim]
    head = Linear(ndim, mean, scale)
    targets = head.encode(y, np.float64)
    assert head.n_outputs == ndim and head.strata(y) is None
    assert_allclose(targets * scale + mean, y.reshape(4, -1))
    assert_array_equal(head.predict(y.reshape(4, -1)), y)
    outputs = targets + rng.normal(size=targets.shape)
    expected = r2_score(targets, outputs, sample_weight=WEIGHTS)
    assert head.score(targets, outputs, WEIGHTS) == expected


def test_two_classes_are_logistic_and_more_are_softmax():
    assert type(classification_head(Y)) is Softmax
    assert type(classification_head(Y[:2])) is Logistic
    assert_array_equal(classification_head(Y[:1], known=CLASSES).classes, CLASSES)


@pytest.mark.parametrize(
    "y, known, message",
    [
        (Y, CLASSES[:2], r"the classes \['c'\], which are not among"),
        (Y[:1], None, "one class only"),
        (LABELS * 2, None, "must hold an indicator"),
        (LABELS, np.arange(2), "3 labels, but 2 were fitted"),
    ],
)
def test_labels_that_do_not_fit(y, known, message):
    with pytest.raises(ValueError, match=message):
        classification_head(y, known)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_of_thousands_of_classes_take_one_matrix_of_their_type(dtype):
    n_samples, n_classes = 1000, 4000
    y = rng.integers(n_classes, size=n_samples)
    head = Softmax(np.arange(n_classes), 0.1)
    tracemalloc.start()
    targets = head.encode(y, dtype)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert targets.dtype == dtype and targets.shape == (n_samples, n_classes)
    assert peak < 1.1 * targets.nbytes
