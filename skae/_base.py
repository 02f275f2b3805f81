"""Bases of the estimators: validation of X, fitted state, rollback of a failed fit, scores."""

import warnings
from contextlib import contextmanager
from copy import copy
from math import prod
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skae._compat import (
    BaseEstimator,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _check_feature_names_in,
    _check_sample_weight,
    _fit_context,
    _get_container_adapter,
    available_if,
    validate_parameter_constraints,
)
from skae._dataset import ArrayDataset, Samples, all_missing, dataset_of
from skae._inference import reconstruction_quality
from skae._threads import team_to_apply
from skae._training import TrainingState, measured
from skae._typing import ArrayLike, MatrixLike, NDArray
from skae._version import __version__

FLOATS = [np.float64, np.float32]

# Dtypes converted a block at a time; any other is cast to float64 up front.
ACCEPTED = [*FLOATS, *map(np.dtype, "?bBhHiIlLqQ")]

# Attributes of a fitted estimator about its training; the best one only with early stopping.
BEST = ("best_loss_", "best_validation_score_")
TRAINING_ATTRIBUTES = ("loss_", *BEST, "reconstruction_r2_", "baseline_loss_", "dead_fraction_")

# Tolerance of checks for [0, 1], as the values of a scaler are rounded.
UNIT_INTERVAL_TOLERANCE = 1e-6

STATES = ("_state", "_joint_state")  # attributes that are a `TrainingState` or None

# Set by scikit-learn during fit, and removed after it.
CALLBACK_ATTRIBUTES = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


@contextmanager
def unchanged_on_error(estimator):
    """Restore the estimator if its fit raises an error."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        now = vars(estimator)
        before |= {name: now[name] for name in CALLBACK_ATTRIBUTES if name in now}
        now.clear()
        now.update(before)
        raise


def check_weights(sample_weight, X, name="sample_weight"):
    """Validate sample weights: float64, or None."""
    if sample_weight is None:
        return None
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise ValueError(f"{name} contains NaN or infinity, or has an infinite sum.")
    if weights.min() < 0:
        raise ValueError(f"Negative values in {name}: {weights.min():g} was found.")
    if total == 0:
        raise ValueError(f"{name} sums to zero: no sample has any weight.")
    return np.require(weights, requirements=["C_CONTIGUOUS", "ALIGNED"])


def weights_of_mean(sample_weight, X):
    """Validate the weights of a mean: relative to the largest, so that no product overflows."""
    weights = check_weights(sample_weight, X)
    return None if weights is None else weights / weights.max()


def check_sparse(X):
    """Refuse a sparse matrix with out-of-bounds indices, at which SciPy would access memory.

    Returns X; for a sparse matrix, a copy that shares its arrays, as SciPy's check modifies it.
    """
    if not issparse(X):
        return X
    if X.format == "coo":
        return type(X)((X.data, X.coords), shape=X.shape)
    if X.format == "dia":
        return type(X)((X.data, X.offsets), shape=X.shape)
    X = copy(X) if hasattr(X, "check_format") else X.tocsr()
    if (X.indptr[1:] < X.indptr[:-1]).any():  # SciPy checks them only if there are values
        raise ValueError("X is not a valid sparse matrix: its index pointers decrease")
    try:
        X.check_format()
    except ValueError as error:
        raise ValueError(f"X is not a valid sparse matrix: {error}") from error
    return X


def in_canonical_format(X):
    """Return a sparse X in canonical format, copied if it was not; any other X as it is."""
    if issparse(X) and not X.has_canonical_format:
        X = X.copy()  # SciPy would sort the caller's indices in place
        X.sum_duplicates()
    return X


def check_parameters(estimator, *names):
    """Validate parameters that may be changed after the fit."""
    constraints = {name: estimator._parameter_constraints[name] for name in names}
    values = {name: getattr(estimator, name) for name in names}
    validate_parameter_constraints(constraints, values, type(estimator).__name__)


def is_collection(X):
    """Whether X is a Dask collection."""
    return hasattr(X, "__dask_graph__")


def refuse_collection(X):
    """Refuse a Dask collection, which NumPy would convert to an array in this process."""
    if is_collection(X):
        raise TypeError(
            f"X is a Dask collection, {type(X).__name__}. Use skae.dask.fit(estimator, X) to fit, "
            "and skae.dask.apply(estimator, X, method='transform') for all other methods."
        )


class BaseFitted(BaseEstimator):
    """Base of all estimators: persistence and validation of X."""

    _documentation = {
        "input_attributes": """\
    n_features_in_ : int
        Number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.
"""
    }

    def __copy__(self):
        """Make a shallow copy; the default one, by `__getstate__`, would copy all curves."""
        other = type(self).__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self):
        state = {**super().__getstate__(), "_skae_version": __version__}
        return {k: v.to_dict() if k in STATES and v else v for k, v in state.items()}

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
        super().__setstate__(
            {k: TrainingState.from_dict(v) if k in STATES and v else v for k, v in state.items()}
        )
        for trained in filter(None, map(vars(self).get, STATES)):
            if len(trained.buffers):
                self._network.check(trained.buffers)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def _validate(self, X, **options):
        if isinstance(X, Samples):
            validate_data(self, X.header, reset=options["reset"], skip_check_array=True)
            X.check(type(self).__name__, options.get("ensure_min_samples", 1))
            return X
        refuse_collection(X)
        X = check_sparse(X)
        usual = {"accept_sparse": "csr", "ensure_all_finite": "allow-nan", "dtype": ACCEPTED}
        return validate_data(self, X, **{**usual, **options})

    def _check_X(self, X):
        """Validate the X of a method of a fitted estimator."""
        check_is_fitted(self)
        return self._validate(X, reset=False)


class BaseModel(CallbackSupportMixin, BaseFitted):
    """Base of the estimators that are trained. Subclasses define `_lacks_epochs`.

    Attributes
    ----------
    _lacks_epochs : bool
        Whether the last fit was interrupted before its end.
    _to_resume : dict or None
        Information about an unfinished fit, in an estimator from a checkpoint. The next fit
        resumes that fit, whatever `warm_start` is.
    """

    _to_resume: dict[str, Any] | None = None

    def _is_first_fit(self, incremental=False):
        """Whether a fit starts from scratch."""
        continues = incremental or self.warm_start or self._to_resume is not None
        return not (hasattr(self, "n_iter_") and continues)


class BaseEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseModel):
    """Base of estimators with codes. Subclasses define `_encode`, `_n_features_out`, `_network`.

    Attributes
    ----------
    _state : TrainingState
        The parameters of the network and the moments of the solver. Pickled as a plain dict.
    """

    _curves_of = "_state"  # the attribute with the curves
    _interrupted = False  # whether the last fit was interrupted, e.g. by Ctrl-C

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _params(self, dtype=None):
        """Return the flat buffer of the fitted parameters, converted to `dtype` if it is given."""
        params = self._state.params
        if dtype is None:
            return params
        with np.errstate(over="raise"):
            try:
                return params.astype(dtype, copy=False)
            except FloatingPointError:
                raise ValueError(
                    f"The fitted parameters are too large for {dtype}, the type of X. Give X as "
                    f"{params.dtype}."
                ) from None

    def _set_state(self, state):
        """Store the training state and the fitted attributes."""
        self._state = state
        self.n_iter_ = len(state.loss_curve)
        self._set_training_attributes(state)
        return self

    def _fitted_as(self, state):
        """Return a copy of the estimator with this training state."""
        other = copy(self)
        return other if state is self._state else other._set_state(state)

    def _fitted_attributes(self, state):
        """Return the attributes that the estimator would have after `_set_state`."""
        return vars(self._fitted_as(state))

    def _set_training_attributes(self, state):
        """Set ``loss_`` etc.; drop those of an earlier fit."""
        self._drop_training_attributes()
        self.loss_ = state.loss_curve[-1] if state.loss_curve else np.nan
        if self.early_stopping:
            self._set_best(state)

    def _drop_training_attributes(self):
        for name in TRAINING_ATTRIBUTES:
            vars(self).pop(name, None)

    def _set_best(self, state):
        self.best_loss_ = state.best_loss

    @property
    def loss_curve_(self) -> list[float]:
        return self._curve("loss_curve", "loss_")

    @property
    def validation_loss_curve_(self) -> list[float]:
        return self._curve("validation_loss_curve", *BEST)

    def _curve(self, name, *beside):
        """Return a curve of the training state, if an attribute in `beside` is set."""
        if not any(attribute in vars(self) for attribute in beside):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute '{name}_'")
        return list(getattr(getattr(self, self._curves_of), name))

    def _can_partial_fit(self):
        """Return True, or raise AttributeError if training needs the number of epochs."""
        for name, value in {"early_stopping": True, "learning_rate": "cosine"}.items():
            if getattr(self, name) == value:
                raise AttributeError(f"partial_fit does not support {name}={value!r}")
        return True

    def transform(self, X: MatrixLike) -> NDArray[Any]:
        """Encode samples, without corruption.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode. Missing values (nan) are replaced by zeros.

        Returns
        -------
        codes : {ndarray, sparse matrix} of shape (n_samples, n_components)
            Codes (latent representations) of the top layer, or of all layers of a stack with
            ``code='all'``; float32 if X is float32, else float64.
        """
        return self._encode(self._check_X(X))


class BaseAutoencoder(BaseEncoder):
    """Base of the unsupervised estimators. Subclasses define `_fit`, `_encoded`, `_decode`,
    `_sample_losses`, `_reconstructed` and `_trained_layers`.
    """

    _documentation = {
        **BaseEncoder._documentation,
        "quality_attributes": """\
    reconstruction_r2_ : float
        R^2 of the reconstruction, without corruption: 1 minus the ratio of the squared errors of
        the reconstructions to those of the mean sample. 1 is perfect, 0 is as good as the mean;
        nan if the samples do not vary. It is computed on the held-out samples with
        ``early_stopping=True``, else on the training samples, on at most 10,000 of them, evenly
        spaced. Set by ``fit``, removed by ``partial_fit``.
    baseline_loss_ : float
        Mean loss of the same samples, in the units of `loss`, if each is reconstructed as their
        mean. Set by ``fit``, removed by ``partial_fit``.
""",
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the features of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, at least two. Scale the features, e.g. to [0, 1]. Missing values
            (nan) are replaced by zero, the mean of a standardised feature, and have no loss.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the cost of its mini-batch. Samples of weight
            zero are ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, `sample_weight` or a parameter is invalid, or if the loss becomes infinite or
            nan. The estimator is then left unchanged.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda self: self._can_partial_fit())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch (of each layer) over X; for incremental learning.

        The first call initialises the weights as ``fit`` does. Not available with
        ``early_stopping=True``, ``learning_rate='cosine'`` or, in a stack, ``joint=True``,
        which need the number of epochs in advance.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, one or more.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the cost of its mini-batch.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As in ``fit``.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _check_fit(self, X, sample_weight, loss, *, first, incremental):
        """Validate training samples and their weights; cross-entropy needs X in [0, 1]."""
        # fit needs two samples; partial_fit may get one.
        X = self._validate(X, reset=first, ensure_min_samples=1 if incremental else 2)
        X = in_canonical_format(X)
        if loss == "cross_entropy":
            ranges = dataset_of(X).feature_ranges()
            low, high = np.fmin.reduce(ranges[0]), np.fmax.reduce(ranges[1])
            if low < -UNIT_INTERVAL_TOLERANCE or high > 1 + UNIT_INTERVAL_TOLERANCE:
                raise ValueError(
                    f"loss='cross_entropy' needs X in [0, 1], but its values range from {low:.7g} "
                    f"to {high:.7g}. Scale X, e.g. with sklearn.preprocessing.MinMaxScaler, or "
                    "use loss='squared_error'."
                )
        return X, check_weights(sample_weight, X)

    def _encode(self, X):
        check_parameters(self, "transform_n_active", "sparse_output")
        if not self.sparse_output:
            return self._toarray(self._transformed(ArrayDataset(X)))
        container = _get_container_adapter("transform", self)
        if container is not None:
            raise ValueError(
                f"{container.container_lib.capitalize()} output does not support sparse data. Set "
                "sparse_output=False, or call set_output(transform='default')."
            )
        codes = self._transformed(ArrayDataset(X))
        with self._team(codes):
            return codes.tocsr()

    def _transformed(self, dataset):
        """Return the codes that `transform` returns, as a lazy data set."""
        return self._encoded(dataset, self.transform_n_active)

    def inverse_transform(self, X: MatrixLike) -> NDArray[Any]:
        """Decode codes: reconstruct the samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, as `transform` returns them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Reconstructions, in the units of the X given to ``fit``.
        """
        check_is_fitted(self)
        refuse_collection(X)
        X = check_sparse(X)
        X = check_array(X, accept_sparse="csr", dtype=FLOATS, input_name="X")
        n_components = self._n_features_out
        if X.shape[1] != n_components:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__}.inverse_transform is "
                f"expecting {n_components} features as input: codes, as transform returns them."
            )
        return self._decode(X)

    def reconstruct(self, X: MatrixLike) -> Any:
        """Encode samples and decode their codes, without corruption.

        This removes noise that the learned features do not represent. The result is that of
        ``inverse_transform(transform(X))``, computed in blocks to save memory.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to reconstruct.

        Returns
        -------
        X_reconstructed : ndarray or DataFrame of shape (n_samples, n_features)
            Reconstructions, in the units of the X given to ``fit``, float32 if X is float32,
            else float64. A data frame with the names of the features of X if `set_output`, or
            the global configuration, asks for data frames.
        """
        reconstructed = self._toarray(self._reconstructed(ArrayDataset(self._check_X(X))))
        adapter = _get_container_adapter("transform", self)
        if adapter is None:
            return reconstructed
        return adapter.create_container(reconstructed, X, columns=_check_feature_names_in(self))

    def _measure(self, dataset, seed, name):
        """Set the attributes of the reconstruction quality; return whether Ctrl-C interrupted."""
        self.reconstruction_r2_ = self.baseline_loss_ = np.nan
        try:
            dataset, index = dataset.part(measured(dataset, self, seed))
            with self._team(index):
                quality = reconstruction_quality(
                    dataset, self._reconstructed, index, self._trained_layers[0].loss
                )
                dead = self._dead_fraction(dataset, index)
        except KeyboardInterrupt:
            warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
            return True
        self.reconstruction_r2_, self.baseline_loss_ = quality
        if dead is not None:
            self.dead_fraction_ = dead
        if self.verbose:
            held_out = " of held-out samples" if self.early_stopping else ""
            line = f"[{name}] R^2 of the reconstruction{held_out} = {quality[0]:.3g}"
            print(line if dead is None else f"{line}, dead units: {dead:.1%}")
        return False

    def _dead_fraction(self, dataset, index):
        """Return the fraction of units that are not active for any sample, or None."""
        return None

    def _team(self, dataset):
        """Return a team for the largest layer, which all blocks of samples share."""
        largest = max(prod(layer._architecture["sizes"]) for layer in self._trained_layers)
        return team_to_apply(len(dataset) * largest)

    def _toarray(self, dataset):
        with self._team(dataset):
            return dataset.toarray()

    def score_samples(self, X: MatrixLike) -> NDArray[np.float64]:
        """Compute the negative reconstruction error of each sample, without corruption.

        Samples unlike the training data have low scores, as in novelty detection.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score. With cross-entropy, values outside [0, 1] are accepted; their
            scores are unbounded. The error of a missing value (nan) counts as the mean error of
            the sample's other features.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Higher is more normal. The negative squared error, in squared units of X, or the
            negative cross-entropy, in nats, summed over the features; nan for a sample without
            observed values.
        """
        X = self._check_X(X)
        losses = self._sample_losses(X)
        losses[np.isnan(losses)] = np.inf  # inf - inf, if the codes overflow
        losses[all_missing(X)] = np.nan
        return -losses

    def score(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> float:
        """Compute the mean of `score_samples`, the negative mean reconstruction error.

        For a unitless measure, see the attribute ``reconstruction_r2_``; ``-baseline_loss_`` is
        the score of the mean sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the mean.

        Returns
        -------
        score : float
            Higher is better. In the units of `score_samples`. Samples without observed values
            are ignored; nan if there are no others.
        """
        scores = self.score_samples(X)
        weights = weights_of_mean(sample_weight, scores)
        known = ~np.isnan(scores)
        if weights is not None:  # an infinite score times zero is nan
            known &= weights > 0
            weights = weights[known]
        if not known.any():
            return np.nan
        return float(np.average(scores[known], weights=weights))
