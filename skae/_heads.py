"""Heads: the meaning of the output layer of a supervised estimator.

A head defines the activation and the loss of the output layer, how y is converted to targets, and
how logits (outputs before the activation) are converted to scores, probabilities, predictions and
ONNX nodes. No other module depends on the kind of output.
"""

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import r2_score
from sklearn.utils.multiclass import type_of_target


class Softmax:
    """Multiclass output: class probabilities that sum to one.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    label_smoothing : float, default=0.0
        Part of each target that is distributed evenly over the classes.
    """

    activation, loss = "softmax", "log_loss"
    dtype = np.float64  # of logits: in float32, probabilities near one would round to one
    label_ndim = 1  # dimensions of the predictions

    def __init__(self, classes, label_smoothing=0.0):
        self.classes, self.label_smoothing = classes, label_smoothing

    @property
    def n_outputs(self):
        return len(self.classes)

    def strata(self, y):
        """Return the class indices of y, to stratify by."""
        return np.searchsorted(self.classes, y)

    def encode(self, y, dtype):
        """Convert labels to targets of shape (n_samples, n_outputs)."""
        spread = self.label_smoothing / self.n_outputs
        targets = np.full((len(y), self.n_outputs), spread, dtype=dtype)
        targets[np.arange(len(y)), self.strata(y)] += 1 - self.label_smoothing
        return targets

    def score(self, targets, outputs, sample_weight):
        """Compute the accuracy from outputs after the activation."""
        right = outputs.argmax(axis=1) == targets.argmax(axis=1)
        return np.average(right, weights=sample_weight)

    def predict(self, logits):
        return self.classes[logits.argmax(axis=1)]

    def decision_function(self, logits):
        return logits

    def predict_proba(self, logits):
        return softmax(bounded(logits), axis=1)

    def predict_log_proba(self, logits):
        return log_softmax(bounded(logits), axis=1)

    def onnx(self, graph, logits, labels):
        """Make the nodes of label, scores and probabilities; `labels` are the classes in ONNX."""
        label = self._onnx_largest(graph, logits, labels)
        return label, logits, graph.node("Softmax", logits, axis=1)

    @staticmethod
    def _onnx_largest(graph, scores, labels):
        return graph.node("Gather", labels, graph.node("ArgMax", scores, axis=1, keepdims=0))


class Logistic(Softmax):
    """Binary output: the probability of the second class."""

    activation, loss = "logistic", "cross_entropy"

    n_outputs = 1

    def encode(self, y, dtype):
        return self._smoothed((y == self.classes[1])[:, np.newaxis], dtype)

    def _smoothed(self, indicator, dtype):
        """Convert an indicator to targets, with one logistic unit per column."""
        targets = indicator.astype(dtype)
        targets *= 1 - self.label_smoothing
        targets += self.label_smoothing / 2
        return targets

    def score(self, targets, outputs, sample_weight):
        right = ((outputs > 0.5) == (targets > 0.5)).all(axis=1)
        return np.average(right, weights=sample_weight)

    def predict(self, logits):
        return self.classes[(logits[:, 0] > 0).astype(int)]

    def decision_function(self, logits):
        return logits[:, 0]

    def predict_proba(self, logits):
        return expit(np.hstack([-logits, logits]))

    def predict_log_proba(self, logits):
        return log_expit(np.hstack([-logits, logits]))

    def onnx(self, graph, logits, labels):
        scores = graph.node("Concat", graph.node("Neg", logits), logits, axis=1)
        label = self._onnx_largest(graph, scores, labels)
        return label, scores, graph.node("Sigmoid", scores)


class Multilabel(Logistic):
    """Multilabel output: the probability of each label."""

    label_ndim = 2
    n_outputs = Softmax.n_outputs

    def strata(self, y):
        return None

    def encode(self, y, dtype):
        return self._smoothed(y, dtype)

    def predict(self, logits):
        return (logits > 0).astype(int)

    def decision_function(self, logits):
        return logits

    def predict_proba(self, logits):
        return expit(logits)

    def predict_log_proba(self, logits):
        return log_expit(logits)

    def onnx(self, graph, logits, labels):
        positive = graph.node("Greater", logits, np.zeros(1, dtype=graph.dtype))
        return graph.cast_to_int(positive), logits, graph.node("Sigmoid", logits)


class Linear:
    """Regression output: one or several numbers per sample.

    Parameters
    ----------
    ndim : int
        Dimensions of y.
    mean, scale : ndarray of shape (n_outputs,), default=None
        The network is trained on ``(y - mean) / scale``. Not needed to predict.
    """

    activation, loss = "identity", "squared_error"
    dtype = None  # the dtype of X

    def __init__(self, ndim, mean=None, scale=None):
        self.ndim, self.mean, self.scale = ndim, mean, scale

    @property
    def n_outputs(self):
        return len(self.mean)

    def strata(self, y):
        return None

    def encode(self, y, dtype):
        targets = np.empty((len(y), self.n_outputs), dtype=dtype)
        np.subtract(y.reshape(targets.shape), self.mean, out=targets, casting="same_kind")
        targets /= self.scale.astype(dtype)
        return targets

    def score(self, targets, outputs, sample_weight):
        """Compute R^2."""
        return r2_score(targets, outputs, sample_weight=sample_weight)

    def predict(self, logits):
        return logits[:, 0] if self.ndim == 1 else logits


def bounded(logits):
    """Clip infinite logits to large numbers with finite differences."""
    limit = np.finfo(logits.dtype).max / 4
    return logits.clip(-limit, limit)


HEADS = {head.__name__: head for head in (Softmax, Logistic, Multilabel)}


def classification_head(y, known=None, label_smoothing=0.0):
    """Make the head for labels y; raise ValueError if they do not match the `known` classes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        Labels of the labelled samples.
    known : ndarray of shape (n_classes,), default=None
        Classes from `partial_fit` or from an earlier fit.
    label_smoothing : float, default=0.0
    """
    if y.ndim == 2:
        if type_of_target(y) != "multilabel-indicator" or not np.isin(y, (0, 1)).all():
            raise ValueError(
                "y with several columns must hold an indicator, 0 or 1, for each label (a sample "
                f"of -1 is unlabelled), but it is of type {type_of_target(y)!r}."
            )
        if known is not None and len(known) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} labels, but {len(known)} were fitted.")
        return Multilabel(np.arange(y.shape[1]), label_smoothing)
    classes = np.unique(y) if known is None else known
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y has the classes {unknown.tolist()}, which are not among those declared or "
            f"fitted before: {classes.tolist()}."
        )
    if len(classes) < 2:
        raise ValueError(
            f"The labelled samples of y have one class only, {classes[0]!r}; at least 2 classes "
            "are needed. Samples with y == -1 count as unlabelled: if -1 is a class, encode the "
            "classes differently, e.g. with sklearn.preprocessing.LabelEncoder."
        )
    return (Logistic if len(classes) == 2 else Softmax)(classes, label_smoothing)
