"""StackedAutoencoderImputer: imputation of missing values by deep autoencoders."""

from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.impute import MissingIndicator
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae._base import FLOATS
from skae._compat import (
    TransformerMixin,
    _check_feature_names_in,
    _fit_context,
    is_scalar_nan,
)
from skae._dataset import ArrayDataset, Samples
from skae._gaussian import evenly_spaced, fill, fit_precision
from skae._parameters import estimator, parameter
from skae._standardized import StandardizedStack, standardize
from skae._typing import ArrayLike, MatrixLike, NDArray

# Training rows per feature, and bounds of the number of rows and of the copies of each sample.
# Different values are hidden in each copy. More features need more training data.
ROWS_PER_FEATURE, N_ROWS, COPIES = 650, (20_000, 40_000), (2, 50)

# Range from which the proportion of hidden values of a copy is drawn.
HIDDEN = (0.05, 0.6)

# Shrinkage of the weight of a feature towards the common weight, relative to the sum of squares
# of an average feature.
PRIOR, TINY = 0.2, 1e-300


@estimator
class StackedAutoencoderImputer(TransformerMixin, StandardizedStack):
    """Imputation of missing values by denoising autoencoders.

    Missing values are first replaced by a linear estimate: their conditional mean given the
    observed values, in a multivariate normal distribution. Deep autoencoders then learn the
    nonlinear part. They reconstruct the samples from linear estimates and the mask of missing
    values, with additional values hidden. For each feature, the two estimates are combined with a
    weight that is learned from hidden values of samples not used to train the network.

    Observed values are not changed.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    weights_ : ndarray of shape (n_features_in_,)
        Weight of the autoencoders in the imputed values, between 0 and 1; the linear estimate has
        the remaining weight.
    precision_ : ndarray of shape (n_features_in_, n_features_in_) or None
        Inverse covariance of the standardised features, for the linear estimate. None for more
        than 128 features, where the mean of the feature is used instead.
    indicator_ : MissingIndicator or None
        Indicator of missing values; None if ``add_indicator=False``.
    {stack_attributes}
    {input_attributes}

    See Also
    --------
    sklearn.impute.KNNImputer : Impute the mean of the nearest neighbours.
    sklearn.impute.IterativeImputer : Predict each feature from the others, in turns.
    sklearn.impute.SimpleImputer : Impute the mean, the median or a constant.

    Notes
    -----
    Features are standardised internally. The networks are trained in single precision, whatever
    the dtype of X. They are trained in parallel, but one after the other with callbacks or
    `verbose`.

    Ctrl-C ends the training with a warning. The imputer then consists of the networks trained so
    far.

    References
    ----------
    .. [1] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked
       Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
       Denoising Criterion. Journal of Machine Learning Research 11, 3371-3408, 2010.
    .. [2] L. Gondara, K. Wang. MIDA: Multiple Imputation Using Denoising Autoencoders. PAKDD
       2018.
    .. [3] R. Little, D. Rubin. Statistical Analysis with Missing Data. Wiley, 2002. (The linear
       estimate.)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skae import StackedAutoencoderImputer
    >>> X = load_breast_cancer().data
    >>> missing = np.random.default_rng(0).random(X.shape) < 0.3
    >>> X_missing = np.where(missing, np.nan, X)
    >>> imputer = StackedAutoencoderImputer(random_state=0)
    >>> X_filled = imputer.fit_transform(X_missing)
    >>> errors = ((X_filled - X) / X.std(axis=0))[missing]
    >>> print(f"{np.sqrt(np.mean(errors**2)):.1f}")  # of the mean: 1.0
    0.4
    """

    missing_values: Any = parameter(
        default=np.nan,
        constraint=[Real],
        doc="""int, float or nan
        Placeholder of missing values. Missing values of pandas' nullable dtypes become nan.""",
    )
    add_indicator: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether to add an indicator column to the output for each feature that has missing values
        in ``fit``.""",
    )
    keep_empty_features: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether to keep features without any observed value in ``fit``, filled with 0, or to drop
        them from the output.""",
    )

    _noise = None, 0.0  # hidden values take its place

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = is_scalar_nan(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validate(self, X, **options):
        """Validate X, and replace missing values by nan."""
        as_nan = is_scalar_nan(self.missing_values)
        needed = {
            "accept_sparse": False,
            "ensure_all_finite": "allow-nan" if as_nan else True,
            "dtype": FLOATS,
        }
        X = super()._validate(X, **needed, **options)
        if isinstance(X, Samples):
            return X.made(partial(checked, needed, self.missing_values))
        return with_nan(X, self.missing_values)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the imputer.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples, at least four, with or without missing values.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample. Samples of weight zero are ignored.

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
        return self._fit(X, y, sample_weight)

    def _prepare(self, samples, weights):
        """Make copies of the samples with values hidden: linear estimates and targets."""
        (n_samples, d), standardize = samples.shape, self._standardize()
        observed, missing = np.any(samples.results(kinds_of_values), axis=0)
        self._observed, self.indicator_ = observed, None
        if self.add_indicator:
            example = np.where(missing, np.nan, 0.0)[np.newaxis]
            self.indicator_ = MissingIndicator(error_on_new=False).fit(example)
        some = evenly_spaced(n_samples)
        self.precision_ = fit_precision(
            standardize(samples.dataset().take(some)), None if weights is None else weights[some]
        )
        n_rows = np.clip(ROWS_PER_FEATURE * d, *N_ROWS)
        n_copies = int(np.clip(n_rows // n_samples, *COPIES))
        return samples.made(
            partial(with_values_hidden, standardize, self.precision_, n_copies, self._seed)
        )

    def _learn(self, left_out):
        """Set the weights, by hidden values of the samples held out from each network."""
        products, squares = np.zeros((2, self.n_features_in_))
        for stack, part in zip(self.autoencoders_, left_out):
            for its_products, its_squares in part.results(partial(steps, stack)):
                products += its_products
                squares += its_squares
        prior = PRIOR * squares.mean()
        overall = products.sum() / squares.sum() if squares.any() else 0.0
        weights = (products + prior * overall) / np.maximum(squares + prior, TINY)
        self.weights_ = np.where(self._varies, np.clip(weights, 0, 1), 0.0)

    # -- use --------------------------------------------------------------------------

    def transform(self, X: MatrixLike) -> Any:
        """Impute the missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features_out)
            Imputed samples, float32 if X is float32, else float64. Observed values are unchanged.
            Features without an observed value in ``fit`` are dropped, or filled with 0 with
            ``keep_empty_features=True``. Indicators of missing values are the last columns, with
            ``add_indicator=True``.
        """
        X = self._check_X(X)
        missing = np.isnan(X)
        filled, rows = X.copy(), np.flatnonzero(missing.any(axis=1))
        if len(rows):
            where = missing[rows]
            filled[rows] = np.where(where, self._estimates(X[rows]), X[rows])
        filled[:, ~self._observed] = 0
        if not self.keep_empty_features:
            filled = filled[:, self._observed]
        if self.indicator_ is None:
            return filled
        return np.hstack([filled, self.indicator_.transform(X).astype(filled.dtype)])

    def _estimates(self, X):
        """Estimate all values of the samples, in the units and the dtype of X.

        An estimate that overflows is replaced by the mean of the feature.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            Z = standardize(ArrayDataset(X, np.float64), self.mean_, self.scale_)
            linear, inputs = estimates_and_inputs(Z, self.precision_, X.dtype)
            mean = 0.0
            for stack in self.autoencoders_:
                mean = mean + outputs_of(stack, inputs) / len(self.autoencoders_)
            estimates = linear + self.weights_ * (mean - linear)
            estimates = (estimates * self.scale_ + self.mean_).astype(X.dtype)
        return np.where(np.isfinite(estimates), estimates, self.mean_).astype(X.dtype)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Get the names of the columns of the output.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only used to validate the names of the features of X.

        Returns
        -------
        feature_names_out : ndarray of str objects
            Names of the features, followed by those of the indicators.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        kept = names if self.keep_empty_features else names[self._observed]
        if self.indicator_ is None:
            return kept
        return np.concatenate([kept, self.indicator_.get_feature_names_out(names)])


def with_nan(X, missing_values):
    """Replace missing values by nan."""
    if is_scalar_nan(missing_values):
        return X
    return np.where(X == missing_values, X.dtype.type(np.nan), X)


# -- blocks of samples, in this process or on a cluster ---------------------------------


def checked(needed, missing_values, block, number):
    X = check_array(block, **needed, ensure_min_samples=0, input_name="X")
    return with_nan(X, missing_values)


def kinds_of_values(X):
    """Return masks of the features with observed values, and of those with missing values."""
    missing = np.isnan(X)
    return ~missing.all(axis=0), missing.any(axis=0)


def with_values_hidden(standardize, precision, n_copies, seed, X, number):
    """Make the inputs of the networks, from copies with values hidden, and the targets."""
    Z = standardize(X)
    rng, inputs = np.random.default_rng((seed, number)), []
    for _ in range(n_copies):
        mask = rng.random(Z.shape) < rng.uniform(*HIDDEN, (len(Z), 1))
        inputs.append(estimates_and_inputs(np.where(mask, np.nan, Z), precision, Z.dtype)[1])
    targets = np.hstack([Z, np.full_like(Z, np.nan)])  # the mask is not reconstructed
    return np.concatenate(inputs), np.tile(targets, (n_copies, 1))


def estimates_and_inputs(Z, precision, dtype):
    """Return the linear estimates, and the inputs of the networks: estimates and mask."""
    linear = fill(Z, precision)
    return linear, np.hstack([linear, np.isnan(Z)]).astype(dtype)


def outputs_of(stack, inputs):
    """Reconstruct the features by a network."""
    outputs = stack._toarray(stack._reconstructed(ArrayDataset(inputs)))
    return outputs[:, : inputs.shape[1] // 2]


def steps(stack, block):
    """Return the sums over the hidden values of a feature that determine its weight.

    A step is the difference to the linear estimate. The first sum is that of the network's step
    times the step to the true value, the second that of the network's squared step.
    """
    inputs, targets = block
    linear, missing = np.hsplit(inputs, 2)
    desired = np.hsplit(targets, 2)[0]
    hidden = (missing != 0) & ~np.isnan(desired)
    step = np.where(hidden, outputs_of(stack, inputs) - linear, 0.0)
    products = np.where(hidden, step * (desired - linear), 0.0)
    return products.sum(axis=0), (step * step).sum(axis=0)
