"""StackedAutoencoderDetector: samples that a deep autoencoder reconstructs badly are novel."""

from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np

from skae._compat import Interval, OutlierMixin, StrOptions, _fit_context
from skae._dataset import ArrayDataset
from skae._parameters import NOT_NEGATIVE, estimator, parameter
from skae._standardized import StandardizedStack
from skae._typing import ArrayLike, MatrixLike, NDArray

USUAL = 0.05  # the share of normal samples that are flagged with contamination='auto'


@estimator
class StackedAutoencoderDetector(OutlierMixin, StandardizedStack):
    """Novelty detection by the reconstruction error of a denoising autoencoder.

    Deep autoencoders learn to reconstruct the training samples from noisy ones. The noise is of
    all sizes: it hits a share of the features that is drawn for each sample, with a standard
    deviation that is drawn, too. So a network brings a sample back to where the training
    samples are, from near and from far. The way back tells how unusual the sample is, and
    `feature_scores` tells which of its features are.

    The training samples should be normal ones ("novelty detection", as with
    ``LocalOutlierFactor(novelty=True)``). With anomalies among them, the network learns these,
    too, and `sklearn.ensemble.IsolationForest` may serve better.

    Features are standardised inside, so they may have any scale. Missing values, nan, have no
    error, and the others count for them.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    feature_errors_ : ndarray of shape (n_features_in_,)
        Mean squared error of each feature, in its squared standard deviations, of samples that
        were not trained on: what is usual. Compare with minus `feature_scores`.
    {stack_attributes}
    {input_attributes}

    See Also
    --------
    sklearn.ensemble.IsolationForest : Finds outliers among the training samples themselves.
    sklearn.neighbors.LocalOutlierFactor : Compares the density with that of the neighbours.
    StackedAutoencoder : The network, and more that can be done with it.

    Notes
    -----
    Each network scores the training samples that it has not seen, and the threshold is a
    quantile of these scores. Those of samples that it has seen are higher, so that more of the
    new ones would be flagged than was asked for.

    Small networks are trained side by side, in as many threads as BLAS may use; one after the
    other if there are callbacks or `verbose` is set. They are trained in single precision,
    whatever the type of X. Sparse X is converted to a dense matrix of that type in ``fit``, and a
    block at a time afterwards.

    Ctrl-C ends the training with a warning. The networks that have been trained by then make up
    the detector; fitting it again with ``warm_start=True`` makes up for the missing ones.

    References
    ----------
    .. [1] S. Hawkins, H. He, G. Williams, R. Baxter. Outlier Detection Using Replicator Neural
       Networks. DaWaK 2002.
    .. [2] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked
       Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
       Denoising Criterion. Journal of Machine Learning Research 11, 3371-3408, 2010.
    .. [3] A. Mahmood, J. Oliva, M. Styner. Multiscale Score Matching for Out-of-Distribution
       Detection. ICLR 2021. (Noise of many sizes.)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.metrics import roc_auc_score
    >>> from skae import StackedAutoencoderDetector
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> benign = np.flatnonzero(y == 1)
    >>> detector = StackedAutoencoderDetector(random_state=0)
    >>> detector = detector.fit(X[benign[:200]])
    >>> rest = np.r_[benign[200:], np.flatnonzero(y == 0)]
    >>> auc = roc_auc_score(y[rest], detector.score_samples(X[rest]))
    >>> print(f"{auc:.2f}")
    0.96
    >>> detector.predict(X[benign[200:203]])
    array([1, 1, 1])
    >>> detector.feature_scores(X[rest]).shape
    (369, 30)
    """

    #: As in `sklearn.neighbors.LocalOutlierFactor`: the threshold is one for new samples.
    novelty = True

    contamination: float | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        doc="""'auto' or float in (0, 0.5]
        Share of samples like the training samples that `predict` calls outliers. 'auto' is
        0.05.""",
    )
    corruption_level: float = parameter(
        default=4.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Largest standard deviation of the noise, in standard deviations of the feature; see
        ``corruption='variable_gaussian'`` of `StackedAutoencoder`.""",
    )

    @property
    def _noise(self):
        return "variable_gaussian", self.corruption_level

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Learn what normal samples are like.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples, at least four, normal ones. Missing values are nan.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in training, not negative. Samples of weight zero are left
            out. The threshold counts the others once each.

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
        return self._fit(X, y, sample_weight)

    def fit_predict(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit, and tell which of the training samples are outliers.

        With a `contamination` that is a number, this share of the samples of X are outliers: those
        with the lowest scores. The threshold of `predict` is one for new samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in training, not negative.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers.
        """
        self.fit(X, y, sample_weight)
        if isinstance(self.contamination, str):  # 'auto'
            return self.predict(X)
        scores = self.score_samples(X)
        return labels_of(scores - np.nanpercentile(scores, 100 * self.contamination))

    def _prepare(self, samples, weights):
        return samples.made(self._standardize())

    def _learn(self, left_out):
        """Set the usual errors and the threshold, by networks that have not seen the samples."""
        found = [
            result
            for stack, part in zip(self.autoencoders_, left_out)
            for result in part.results(partial(errors_and_scores, stack))
        ]
        total = sum(errors for errors, _ in found)
        scores = np.concatenate([scores for _, scores in found])
        if np.isnan(scores).all():
            raise ValueError("X has no observed values.")
        self.feature_errors_ = total / np.count_nonzero(~np.isnan(scores))
        share = USUAL if self.contamination == "auto" else self.contamination
        self.offset_ = float(np.nanquantile(scores, share))

    # -- use --------------------------------------------------------------------------

    def score_samples(self, X: MatrixLike) -> NDArray[np.float64]:
        """Minus the reconstruction error of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Higher is more normal: minus the squared error in squared standard deviations of the
            features, summed over them. nan for a sample of which nothing is observed.
        """
        X = self._check_X(X)
        with self.autoencoders_[0]._team(range(X.shape[0])):
            return sample_scores(self.autoencoders_, self._standardized(X))

    def feature_scores(self, X: MatrixLike) -> NDArray[np.float64]:
        """Minus the reconstruction error of each feature: which give a sample away.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_features), float64
            Minus the squared error of each feature, in its squared standard deviations; compare
            with minus `feature_errors_`. Rows sum to `score_samples`: with missing values,
            which have 0, the others are multiplied by n_features / n_observed.
        """
        X = self._check_X(X)
        scores = np.empty(X.shape)
        with self.autoencoders_[0]._team(range(X.shape[0])):
            for where, errors in feature_errors(self.autoencoders_, self._standardized(X)):
                np.negative(errors, out=scores[where])
        return scores

    def decision_function(self, X: MatrixLike) -> NDArray[np.float64]:
        """Score of each sample beyond the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            ``score_samples(X) - offset_``: negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: MatrixLike) -> NDArray[np.int64]:
        """Tell which samples are outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers, and for samples of which nothing is observed.
        """
        return labels_of(self.decision_function(X))


def labels_of(decision):
    return np.where(decision >= 0, np.int64(1), np.int64(-1))


def feature_errors(stacks, dataset):
    """Yield (where, errors) for consecutive samples: the squared error of each feature, float64.

    It is the mean over the networks. What is missing has none, and the others of its sample are
    scaled up; all are nan if nothing is observed. Infinite if a network overflows.
    """
    for where, block in dataset.blocks(dataset.block_size(4 * dataset.n_features)):
        errors, samples = np.zeros(block.shape), ArrayDataset(block)
        with np.errstate(over="ignore", invalid="ignore"):
            for stack in stacks:
                decoded = stack._reconstructed(samples).take(slice(None))
                errors += np.subtract(block, decoded, dtype=np.float64) ** 2
        errors /= len(stacks)
        errors[np.isnan(errors)] = np.inf
        missing = np.isnan(block)
        if missing.any():
            n_observed = block.shape[1] - missing.sum(axis=1, keepdims=True)
            errors[missing] = 0.0
            with np.errstate(invalid="ignore", divide="ignore"):
                errors *= block.shape[1] / n_observed  # 0 * inf if nothing is observed
        yield where, errors
        del block, samples, decoded, errors


def errors_and_scores(stack, Z):
    """The sum of the errors of each feature, and the scores of the samples."""
    total, scores = np.zeros(Z.shape[1]), np.empty(len(Z))
    for where, errors in feature_errors([stack], ArrayDataset(Z)):
        total += np.nansum(errors, axis=0)
        scores[where] = -errors.sum(axis=1)
    return total, scores


def sample_scores(stacks, dataset):
    """Minus the sum of the errors of each sample."""
    scores = np.empty(len(dataset))
    for where, errors in feature_errors(stacks, dataset):
        scores[where] = -errors.sum(axis=1)
    return scores
