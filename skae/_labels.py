"""Validation of y: labels, and the mask of the labelled samples.

A sample is unlabelled if its y is None, nan or a missing value of pandas or polars; in a
classifier also if its y is -1.
"""

from numbers import Real
from types import SimpleNamespace

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from skae._dataset import ArrayDataset, Samples

UNLABELLED = -1

# Strings that often mark a missing label.
MISSING_STRINGS = {"-1", ""}


class Labels(SimpleNamespace):
    """The samples to fine-tune on: labelled, with nonzero weight.

    Attributes
    ----------
    mask : ndarray of bool, shape (n_samples,)
        Mask of these samples. `y` and `sample_weight` are those of these samples only.
    n_labelled : int
        Number of labelled samples, of any weight.
    y : ndarray of shape (mask.sum(),) or (mask.sum(), n_outputs)
    sample_weight : ndarray of shape (mask.sum(),) or None
    head : Head
    unlabelled : ndarray of bool, shape (n_samples,)
        Mask of the unlabelled samples with nonzero weight.
    """

    def dataset(self, X, dtype):
        """Return the labelled samples of X, for training."""
        if isinstance(X, Samples):
            return X.labelled(self, dtype)
        return ArrayDataset(
            X if self.mask.all() else X[self.mask],
            dtype,
            target=self.head.encode(self.y, dtype),
            sample_weight=self.sample_weight,
            strata=self.head.strata(self.y),
        )

    def mixture(self, X, dtype, weights):
        """Return labelled and unlabelled samples; `weights` are those of all samples, or None."""
        kept = self.mask | self.unlabelled
        labelled = self.mask[kept]
        target = np.zeros((len(labelled), self.head.n_outputs), dtype)
        target[labelled] = self.head.encode(self.y, dtype)
        strata = np.full(len(labelled), -1)
        strata[labelled] = self.head.strata(self.y)
        if not (weights is None and self.sample_weight is None):
            weights = np.ones(len(kept)) if weights is None else weights.copy()
            if self.sample_weight is not None:
                weights[self.mask] = self.sample_weight
            weights = weights[kept]
        return ArrayDataset(
            X if kept.all() else X[kept],
            dtype,
            target=target,
            sample_weight=weights,
            strata=strata,
            labelled=labelled,
        )


def read_numbers(estimator, X, y):
    """Validate the targets of a regressor; return y as float64, and the mask of labelled ones."""
    y = _as_array(estimator, X, y)
    if y.dtype.kind == "O":
        y = np.where(is_missing(y), np.nan, y)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow gives inf, which is refused
        y = check_array(
            y, ensure_2d=False, dtype=np.float64, ensure_all_finite="allow-nan", input_name="y"
        )
    return y, ~np.isnan(y.reshape(len(y), -1)).any(axis=1)


def read_classes(estimator, X, y, known=None):
    """Validate the labels of a classifier; return those of the labelled samples, and their mask.

    Parameters
    ----------
    estimator : estimator
    X : array-like
    y : array-like or sparse matrix
    known : ndarray of shape (n_classes,), default=None
        Classes from `partial_fit` or from an earlier fit.
    """
    y = _as_array(estimator, X, y)
    missing = is_missing(y)
    if y.ndim == 2:
        unlabelled = missing.copy()
        unlabelled[~missing] = y[~missing] == UNLABELLED  # pandas' NA cannot be compared
        mask = ~unlabelled.all(axis=1)
        if missing[mask].any():
            raise ValueError(
                "y has samples of which only some labels are missing. Each sample must have all "
                "labels or none (missing or -1 in all columns)."
            )
        labels = plain(y[mask])
    else:
        mask = ~missing
        labels = plain(y[mask])
        _refuse_strings_for_missing(labels)
        labelled = is_label(labels, known)
        mask[mask] = labelled
        labels = plain(labels[labelled])
    if mask.any():
        with np.errstate(invalid="ignore"):  # it casts to find integers
            check_classification_targets(labels)
    return labels, mask


def read_declared(classes):
    """Validate the `classes` of `partial_fit`; return them sorted and unique."""
    if not hasattr(classes, "__array__"):
        classes = np.array(classes, dtype=object)
    labels = plain(column_or_1d(classes))
    if labels.dtype.kind == "O" or is_missing(labels).any():
        raise ValueError(
            f"classes must be all numbers or all strings, none of them missing, got {classes!r}."
        )
    return np.unique(labels)


def is_plus_minus_one(labels):
    """Whether the classes are -1 and 1, so that -1 does not mark unlabelled samples."""
    return len(labels) == 2 and set(np.asarray(labels).tolist()) == {UNLABELLED, 1}


def _as_array(estimator, X, y):
    """Convert y to an array with a row for each sample of X; missing values are allowed."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    if issparse(y):
        y = y.toarray()
    elif not hasattr(y, "__array__"):
        y = np.array(y, dtype=object)  # else NumPy converts None and nan among strings to strings
    y = np.asarray(y)
    if y.dtype.kind == "T":  # variable-width strings, with missing values
        y = y.astype(object)
    if y.dtype.kind == "O":
        y = plain(y)
    y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite="allow-nan", input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    return y


def plain(y):
    """Convert an array of objects to numbers or strings, if it has only one of them."""
    if y.dtype.kind != "O":
        return y
    for kinds in ((Real, np.bool_), str):
        if all(isinstance(value, kinds) for value in y.flat):
            return np.array(y.tolist()).reshape(y.shape)
    return y


def is_missing(y):
    """Return the mask of the values that are None, nan or a missing value of pandas."""
    if y.dtype.kind == "O":
        flat = [
            value is None or type(value).__name__ == "NAType" or value != value for value in y.flat
        ]
        return np.array(flat, dtype=bool).reshape(y.shape)
    return np.isnan(y) if y.dtype.kind == "f" else np.zeros(y.shape, dtype=bool)


def is_label(labels, known=None):
    """Return the mask of the values that are labels, not -1 for unlabelled."""
    if labels.dtype.kind == "O":  # strings and -1, or an invalid mixture
        return np.array([not isinstance(v, Real) or v != UNLABELLED for v in labels], dtype=bool)
    if labels.dtype.kind in "iuf":
        if not is_plus_minus_one(np.unique(labels) if known is None else known):
            return labels != UNLABELLED
    return np.ones(len(labels), dtype=bool)


def _refuse_strings_for_missing(labels):
    """Refuse strings that probably mark unlabelled samples, and are not classes."""
    if labels.dtype.kind not in "UO":
        return
    strings = {label for label in labels.tolist() if isinstance(label, str)}
    if found := strings & MISSING_STRINGS:
        name = max(found)
        raise ValueError(
            f"y has the string {name!r} among its labels. If it marks unlabelled samples, replace "
            f"it by None, e.g. y = np.where(y == {name!r}, None, y); if it is a class, rename the "
            "class, or use numbers instead of strings."
        )
