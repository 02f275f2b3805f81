"""MarginalizedAutoencoder: a linear denoising autoencoder in closed form, for sparse text."""

from typing import Any, Self

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import hstack, issparse
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from skae._base import (
    FLOATS,
    BaseFitted,
    check_weights,
    in_canonical_format,
    unchanged_on_error,
)
from skae._compat import (
    ClassNamePrefixFeaturesOutMixin,
    StrOptions,
    TransformerMixin,
    _check_feature_names_in,
    _fit_context,
)
from skae._parameters import BELOW_ONE, POSITIVE, POSITIVE_INT, estimator, parameter
from skae._typing import ArrayLike, MatrixLike

ACTIVATIONS = {"tanh": np.tanh, "identity": None}

# Samples whose moments are added together, and rows of a matrix that are computed together.
BLOCK, LINES = 4096, 64


@estimator
class MarginalizedAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseFitted):
    """Denoising autoencoder in closed form, for sparse text.

    A linear layer reconstructs the most frequent features from samples in which each feature is
    masked with probability `corruption_level` [1]_. Its expected squared error over all such
    masks is minimised exactly: there are no epochs, no learning rate and no random numbers. The
    codes are an activation of the reconstruction, and the input of the next layer. On bags of
    words it learns which words occur together, much faster than a `DenoisingAutoencoder`.

    The features are split into groups of at most `n_components`, each with features of all
    frequencies. A matrix of second moments is inverted for each group, and the reconstruction is
    the mean of those from all groups. So no matrix has more than `n_components` times
    `n_features` entries.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_inputs, n_components_)
        Weights of each layer. Its inputs are the features, or the codes of the layer below.
    intercepts_ : list of ndarray of shape (n_components_,)
        Biases of each layer.
    component_indices_ : ndarray of shape (n_components_,), int
        The features that the first layer reconstructs, the most frequent one first.
    n_components_ : int
        Number of features that are reconstructed: `n_components`, or `n_features_in_` if that is
        smaller.
    n_samples_seen_ : int
        Number of samples of ``fit``, or of all calls of ``partial_fit``.
    {input_attributes}

    See Also
    --------
    DenoisingAutoencoder : One layer trained by stochastic gradient descent.
    sklearn.decomposition.TruncatedSVD : A linear code for sparse X.

    References
    ----------
    .. [1] M. Chen, Z. Xu, K. Weinberger, F. Sha. Marginalized Denoising Autoencoders for Domain
       Adaptation. ICML 2012.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from skae import MarginalizedAutoencoder
    >>> documents = [
    ...     "the film has a plot",
    ...     "a film with a good plot",
    ...     "a book with chapters",
    ...     "the book has chapters",
    ... ]
    >>> X = CountVectorizer(binary=True).fit_transform(documents)
    >>> autoencoder = MarginalizedAutoencoder().fit(X)
    >>> autoencoder.transform(X).shape
    (4, 8)
    """

    n_components: int | None = parameter(
        default=1000,
        kw_only=False,
        constraint=[POSITIVE_INT, None],
        doc="""int in [1, inf) or None
        Number of features that are reconstructed, the most frequent ones, at most all of them.
        None is all: memory and time then grow with their square and their cube.""",
    )
    corruption_level: float = parameter(
        default=0.7,
        constraint=[BELOW_ONE],
        doc="""float in [0, 1)
        Probability that a feature is masked.""",
    )
    n_layers: int = parameter(
        default=1,
        constraint=[POSITIVE_INT],
        doc="""int in [1, inf)
        Number of layers. Each one after the first reconstructs the codes of the one below.""",
    )
    activation: str = parameter(
        default="tanh",
        constraint=[StrOptions(set(ACTIVATIONS))],
        doc="""{'tanh', 'identity'}
        Activation of the codes. With 'identity' the codes are the reconstruction.""",
    )
    concatenate: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether ``transform`` returns X and the codes of all layers side by side, as a CSR matrix
        if X is sparse. False: the codes of the last layer.""",
    )
    alpha: float = parameter(
        default=1e-5,
        constraint=[POSITIVE],
        doc="""float in (0, inf)
        L2 penalty (ridge), relative to the mean square of the inputs of a layer.""",
    )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Compute the weights of all layers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. A sparse matrix is not converted to a dense array.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample. A weight of 2 is the same as two samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, `sample_weight` or a parameter is invalid. The estimator is then left unchanged.
        """
        return self._learn(X, sample_weight, incremental=False)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Add samples, and compute the weights of all layers again.

        The first layer equals that of a single ``fit`` to all samples, except that the first call
        chooses the most frequent features. Each upper layer learns from the codes that the layers
        below had at the time of the call. ``fit`` does not keep the second moments of its samples,
        so the first call of ``partial_fit`` after it starts from scratch. The moments take at most
        twice the memory of the weights.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, `sample_weight` or a parameter is invalid, or if `n_components` or `n_layers`
            have changed since the first call. The estimator is then left unchanged.
        """
        return self._learn(X, sample_weight, incremental=True)

    def _learn(self, X, sample_weight, *, incremental):
        self._validate_params()  # scikit-learn does not if partial_fit continues
        first = not (incremental and getattr(self, "_moments", None))
        with unchanged_on_error(self):
            X = in_canonical_format(self._validate(X, reset=first))
            weights = check_weights(sample_weight, X)
            if weights is None:
                weights = np.ones(X.shape[0])
            if first:
                # A power of two, so that a division by it does not round.
                self._unit_of_weights = 2.0 ** (int(np.frexp(weights.max())[1]) - 1)
            with np.errstate(over="ignore", invalid="ignore"):  # refused in `_fit_layers`
                weights = weights / self._unit_of_weights
                if first:
                    self._groups, self.component_indices_ = split(X, weights, self.n_components)
                    self.n_components_ = len(self.component_indices_)
                    self.n_samples_seen_ = 0
                    self._moments = None
                else:
                    self._check_continues()
                self._fit_layers(X, weights, incremental)
            self.n_samples_seen_ += X.shape[0]
        return self

    def _check_continues(self):
        """Refuse to continue with another size."""
        n_components = min(self.n_components or self.n_features_in_, self.n_features_in_)
        now = {"n_layers": self.n_layers, "n_components": n_components}
        before = {"n_layers": len(self.coefs_), "n_components": self.n_components_}
        for name, value in now.items():
            if value != before[name]:
                raise ValueError(
                    f"{name} was {before[name]} in the first call of partial_fit, and is {value} "
                    "now. Use fit to start from scratch."
                )

    def _fit_layers(self, X, weights, incremental):
        kept = self._moments or [None] * self.n_layers
        coefs, intercepts, moments = [], [], []
        for depth, of_layer in enumerate(kept):
            groups, targets = self._groups, self.component_indices_
            if depth > 0:
                targets = np.arange(self.n_components_)
                groups = [targets]
            W = np.empty((sum(map(len, groups)), len(targets)), dtype=X.dtype)
            intercept = np.zeros(len(targets), dtype=W.dtype)
            added = []
            for k, group in enumerate(groups):
                if of_layer is None:
                    moment = Moments.zeros(len(group), len(targets), W.dtype)
                else:
                    moment = Moments(**of_layer[k]).copy()
                for batch in gen_batches(X.shape[0], BLOCK):
                    inputs = encode(X[batch], coefs, intercepts, self.activation)
                    moment.add(inputs[:, group], inputs[:, targets], weights[batch])
                if incremental:
                    added.append(vars(moment.copy()))
                weight, bias = moment.solve(self.corruption_level, self.alpha)
                weight /= len(groups)
                W[group] = weight
                intercept += bias / len(groups)
            if not np.isfinite(W.sum() + intercept.sum()):
                raise ValueError(f"A layer is too large for {W.dtype}. Use a larger alpha.")
            coefs.append(W)
            intercepts.append(intercept)
            moments.append(added)
        self.coefs_, self.intercepts_ = coefs, intercepts
        self._moments = moments if incremental else None

    def _validate(self, X, **options):
        return super()._validate(X, **{"ensure_all_finite": True, "dtype": FLOATS, **options})

    @property
    def _n_features_out(self):
        self._validate_params()
        if self.concatenate:
            return self.n_features_in_ + len(self.coefs_) * self.n_components_
        return self.n_components_

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Any:
        """Get the names of the columns of ``transform``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features; by default those seen in ``fit``, or x0, x1 and so on.

        Returns
        -------
        names : ndarray of str
            The class name in lower case and a number for each code; with `concatenate`, behind
            the names of the features.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        n_codes = self._n_features_out - self.concatenate * self.n_features_in_
        codes = [f"{type(self).__name__.lower()}{k}" for k in range(n_codes)]
        return np.array([*names, *codes] if self.concatenate else codes, dtype=object)

    def transform(self, X: MatrixLike) -> Any:
        """Encode samples, without corruption.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to encode.

        Returns
        -------
        codes : {ndarray, sparse matrix} of shape (n_samples, n_components_)
            Codes (latent representations) of the last layer, float32 if X is float32, else
            float64. With `concatenate`, X and the codes of all layers, which have
            ``n_features_in_ + n_layers * n_components_`` columns; in CSR format if X is sparse.
        """
        X = self._check_X(X)
        self._validate_params()
        if not self.concatenate:
            return encode(X, self.coefs_, self.intercepts_, self.activation)
        parts = [X]
        for W, b in zip(self.coefs_, self.intercepts_):
            parts.append(encode(parts[-1], [W], [b], self.activation))
        if issparse(X):
            return hstack([parts[0], *map(type(X), parts[1:])], format="csr")
        return np.hstack(parts)


def encode(X, coefs, intercepts, activation):
    """Return the codes of the last of these layers, in the dtype of X; X if there is no layer."""
    with np.errstate(over="ignore", invalid="ignore"):
        for W, b in zip(coefs, intercepts):
            X = X @ W.astype(X.dtype, copy=False)
            X += b
            if ACTIVATIONS[activation] is not None:
                ACTIVATIONS[activation](X, out=X)
    return X


def split(X, weights, n_components):
    """Split the features into groups of `n_components`, each with features of all frequencies.

    Returns
    -------
    groups : list of ndarray
        Indices of features.
    most_frequent : ndarray of shape (n_components,)
        Indices of the features with the most samples in which they are not zero, in decreasing
        order.
    """
    n_features = X.shape[1]
    counts = sum(weights[batch] @ (X[batch] != 0) for batch in gen_batches(X.shape[0], BLOCK))
    # Rounded, so that features of the same frequency stay in their order.
    order = np.argsort(-np.round(counts / weights.sum(), 12), kind="stable")
    n_components = min(n_components or n_features, n_features)
    n_groups = -(-n_features // n_components)
    return [order[k::n_groups] for k in range(n_groups)], order[:n_components]


class Moments:
    """Weighted sums over samples of a group of inputs and of the features to reconstruct.

    Parameters
    ----------
    total : float
        The sum of the weights.
    inputs, targets : ndarray of shape (n_inputs,) and (n_targets,)
        Sums of the values.
    square : ndarray of shape (n_inputs, n_inputs)
        Sums of the products of inputs.
    cross : ndarray of shape (n_targets, n_inputs)
        Sums of the products of targets and inputs.
    """

    def __init__(self, total, inputs, targets, square, cross):
        self.total, self.inputs, self.targets = total, inputs, targets
        self.square, self.cross = square, cross

    @classmethod
    def zeros(cls, n_inputs, n_targets, dtype):
        shapes = (n_inputs,), (n_targets,), (n_inputs, n_inputs), (n_targets, n_inputs)
        return cls(0.0, *(np.zeros(shape, dtype) for shape in shapes))

    def copy(self):
        return Moments(self.total, *(part.copy() for part in list(vars(self).values())[1:]))

    def add(self, inputs, targets, weights):
        """Add samples."""
        self.total += float(weights.sum())
        weights = weights.astype(self.square.dtype)
        self.inputs += weights @ inputs
        self.targets += weights @ targets
        if issparse(inputs):
            weighted = inputs.copy()
            weighted.data *= np.repeat(weights, np.diff(inputs.indptr))
        else:
            weighted = inputs * weights[:, np.newaxis]
        add_product(self.square, inputs, weighted)
        add_product(self.cross, targets, weighted)

    def solve(self, corruption_level, alpha):
        """Return the weights and biases that minimise the expected squared error.

        With masks integrated out, the normal equations have the covariance of the inputs times
        1 - `corruption_level`, and on the diagonal their mean squares times `corruption_level`.
        The moments are overwritten.
        """
        keep = 1 - corruption_level
        mean, mean_target = self.inputs / self.total, self.targets / self.total
        squares = np.diagonal(self.square).astype(np.float64) / self.total
        for product, left in ((self.square, mean), (self.cross, mean_target)):
            product /= self.total
            for rows in gen_batches(len(product), LINES):
                product[rows] -= left[rows, np.newaxis] * mean
        self.square *= keep
        diagonal = np.einsum("ii->i", self.square)  # a view
        diagonal += corruption_level * squares + alpha * (squares.mean() or 1.0)
        if not np.isfinite(diagonal).all():
            raise ValueError(
                f"The squares of X, or alpha={alpha:g} times their mean, are too large for "
                f"{diagonal.dtype}. Scale X, or use a smaller alpha."
            )
        try:
            # Transposed, they have the order of LAPACK, which then needs no copies.
            factor = cho_factor(self.square.T, overwrite_a=True, check_finite=False)
        except LinAlgError:
            raise ValueError(
                "The features are linearly dependent up to rounding errors. Use a larger alpha or "
                f"corruption_level (they are {alpha:g} and {corruption_level:g}), or float64."
            ) from None
        W = cho_solve(factor, self.cross.T, overwrite_b=True, check_finite=False)
        return W, mean_target - keep * (mean @ W)


def add_product(out, A, B):
    """Add A.T @ B to `out`, a part at a time; both may be sparse."""
    transposed = A.T.tocsr() if issparse(A) else A.T
    for rows in gen_batches(len(out), LINES):
        product = transposed[rows] @ B
        out[rows] += product.toarray() if issparse(product) else product
