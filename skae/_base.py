"""What the transformers share: validation of X, scores, a fit that leaves no trace of failure."""

import warnings
from contextlib import contextmanager
from copy import copy
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skae import _training
from skae._compat import (
    CallbackSupportMixin,
    _check_sample_weight,
    _fit_context,
    available_if,
)
from skae._rows import compute_dtype
from skae._typing import ArrayLike, MatrixLike, NDArray
from skae._version import __version__

FLOATS = [np.float64, np.float32]

# What `_rows.Rows` makes floats of, a few rows at a time; the rest becomes float64 at once.
ACCEPTED = [*FLOATS, *map(np.dtype, "?bBhHiIlLqQ")]

# What a fit shows of its training; some of it only with early stopping.
SHOWN = (
    "loss_curve_",
    "loss_",
    "validation_loss_curve_",
    "best_loss_",
    "validation_scores_",
    "best_validation_score_",
)

# How far outside [0, 1] the rounding of a scaler may put a value.
ROUNDING = 1e-6


# What scikit-learn keeps in an estimator for its callbacks while it is fitted, and takes away.
OF_CALLBACKS = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


@contextmanager
def unchanged_on_error(estimator):
    """Leave the estimator as it was if its fit raises."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        before |= {name: vars(estimator)[name] for name in OF_CALLBACKS if name in vars(estimator)}
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_weights(sample_weight, X):
    """`sample_weight` as float64, or None."""
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if not np.isfinite(weights.sum()):
        raise ValueError("sample_weight contains NaN or infinity, or has an infinite sum.")
    if weights.min() < 0:
        raise ValueError(f"Negative values in sample_weight: {weights.min():g} was found.")
    if weights.sum() == 0:
        raise ValueError("sample_weight sums to zero: there is nothing to train on.")
    return np.ascontiguousarray(weights)


class BaseEncoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, BaseEstimator
):
    """Base of all estimators. Subclasses have `_encode` and `_n_features_out`."""

    def __getstate__(self):
        return {**super().__getstate__(), "_skae_version": __version__}

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop("_skae_version", "unknown")
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"{__version__} of skae",
                    original_sklearn_version=version,
                ),
                stacklevel=2,
            )
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _params(self, X=None):
        """The flat buffer of the fitted parameters, in the type that X is computed in."""
        params = self._training["buffers"][0]
        return params if X is None else params.astype(compute_dtype(X), copy=False)

    def _begins(self, incremental):
        """Whether a fit does not continue an earlier one."""
        return not (hasattr(self, "_training") and (incremental or self.warm_start))

    def _keep(self, state):
        """Be fitted, with this training state."""
        self._training = vars(state)
        self.n_iter_ = len(state.loss_curve)
        self._show(state)
        return self

    def _fitted(self, state):
        """The attributes that `_keep` would leave."""
        return vars(copy(self)._keep(state))

    def _show(self, state):
        """Show of a training state what scikit-learn's networks show, and nothing older."""
        for name in SHOWN:
            vars(self).pop(name, None)
        self.loss_curve_ = list(state.loss_curve)
        self.loss_ = state.loss_curve[-1] if state.loss_curve else np.nan
        if self.early_stopping:
            self.validation_loss_curve_ = list(state.validation_loss_curve)
            self._show_best(state)

    def _show_best(self, state):
        self.best_loss_ = state.best_loss

    def _validate(self, X, **options):
        return validate_data(self, X, accept_sparse="csr", dtype=ACCEPTED, **options)

    def _check_X(self, X):
        """Rows to encode or to score, by a fitted estimator."""
        check_is_fitted(self)
        return self._validate(X, reset=False)

    def transform(self, X: MatrixLike) -> NDArray[Any]:
        """Encode rows, without corruption.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_components)
            Their codes, of the top layer: float32 if X is float32, else float64.
        """
        return self._encode(self._check_X(X))


class BaseAutoencoder(BaseEncoder):
    """Base of the unsupervised ones. Subclasses have `_fit` and `score_samples`."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the features of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from, at least two. Scaled features train best, e.g. to [0, 1].
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative. Rows of weight zero are
            left out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, `sample_weight` or a parameter is not as described, or if the loss becomes
            infinite or nan. The estimator is then as it was before the call.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(_training.can_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Go on learning, with one epoch (of each layer) over X; for data that come in pieces.

        The first call does what ``fit`` does before its first epoch. Not available with
        ``early_stopping=True``, ``learning_rate='cosine'`` or, in a stack, ``fine_tune=True``,
        which need to know the end.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from, one or more.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As ``fit``.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _check_fit(self, X, sample_weight, loss, *, first, incremental):
        """Rows to learn from, and their weights; cross-entropy needs rows in [0, 1]."""
        # One row can only be learned by heart; a stream may well come in single rows.
        X = self._validate(X, reset=first, ensure_min_samples=1 if incremental else 2)
        if issparse(X) and not X.has_canonical_format:
            X = X.copy()  # SciPy would put the caller's in order, in place
            X.sum_duplicates()
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

    def score(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Mean of `score_samples`: minus the mean reconstruction error of the rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the mean, not negative.

        Returns
        -------
        score : float
            The higher, the better X is reconstructed. In the units of `score_samples`.
        """
        scores = self.score_samples(X)
        return float(np.average(scores, weights=check_weights(sample_weight, scores)))
