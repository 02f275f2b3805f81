"""What the transformers share: validation of X, scores, a fit that leaves no trace of failure."""

from contextlib import contextmanager

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.sparsefuncs import min_max_axis
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._compat import _check_sample_weight

FLOATS = [np.float64, np.float32]

# How far outside [0, 1] the rounding of a scaler may put a value.
ROUNDING = 1e-6


@contextmanager
def unchanged_on_error(estimator):
    """Leave the estimator as it was if its fit raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_weights(sample_weight, X):
    """`sample_weight` as float64, or None."""
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weights.min() < 0:
        raise ValueError(f"Negative values in sample_weight: {weights.min():g} was found.")
    if weights.sum() == 0:
        raise ValueError("sample_weight sums to zero: there is nothing to train on.")
    return np.ascontiguousarray(weights)


def feature_range(X):
    """Smallest and largest value of each feature, shape (2, n_features), float64."""
    if hasattr(X, "tocsr"):
        return np.array(min_max_axis(X, axis=0), dtype=np.float64)
    return np.array([X.min(axis=0), X.max(axis=0)], dtype=np.float64)


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the transformers. Subclasses have `score_samples` and `_n_features_out`."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate(self, X, **options):
        return validate_data(self, X, accept_sparse="csr", dtype=FLOATS, **options)

    def _check_X(self, X):
        """Rows to encode or to score, by a fitted estimator."""
        check_is_fitted(self)
        return self._validate(X, reset=False)

    def _check_fit(self, X, sample_weight, loss, *, first, incremental):
        """Rows to learn from, and their weights; cross-entropy needs rows in [0, 1]."""
        # One row can only be learned by heart; a stream may well come in single rows.
        X = self._validate(X, reset=first, ensure_min_samples=1 if incremental else 2)
        if loss == "cross_entropy":
            low, high = X.min(), X.max()
            if low < -ROUNDING or high > 1 + ROUNDING:
                raise ValueError(
                    f"loss='cross_entropy' needs X in [0, 1], but its values range from {low:.7g} "
                    f"to {high:.7g}. Scale X, e.g. with sklearn.preprocessing.MinMaxScaler, or "
                    "use loss='squared_error'."
                )
        return X, check_weights(sample_weight, X)

    def _check_codes(self, X, n_components):
        """Codes to decode, shape (n_samples, n_components)."""
        X = check_array(X, accept_sparse="csr", dtype=FLOATS, input_name="X")
        if X.shape[1] != n_components:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__}.inverse_transform is "
                f"expecting {n_components} features as input: the codes that transform gives."
            )
        return X

    def score(self, X, y=None):
        """Mean of `score_samples`: minus the mean reconstruction error of the rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        score : float
            The higher, the better X is reconstructed. In the units of `score_samples`.
        """
        return float(np.mean(self.score_samples(X)))
