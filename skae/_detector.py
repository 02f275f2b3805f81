"""StackedAutoencoderDetector: novelty detection by reconstruction error."""

from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np

from skae._compat import Interval, OutlierMixin, StrOptions, _fit_context
from skae._dataset import ArrayDataset
from skae._parameters import NOT_NEGATIVE, estimator, parameter
from skae._standardized import StandardizedStack
from skae._typing import ArrayLike, MatrixLike, NDArray

USUAL = 0.05  # the contamination of 'auto'


@estimator
class StackedAutoencoderDetector(OutlierMixin, StandardizedStack):
    """Novelty detection by the reconstruction error of a denoising autoencoder.

    Deep autoencoders learn to reconstruct the training samples from noisy ones. Both the fraction
    of noisy features and the standard deviation of the noise are drawn at random for each sample.
    A network thus learns to map samples back to the training data from any distance. The
    reconstruction error tells how unusual a sample is, and `feature_scores` tells which of its
    features are unusual.

    The training samples should be normal (novelty detection, as with
    ``LocalOutlierFactor(novelty=True)``). The networks also learn anomalies in the training data;
    if there are many, `sklearn.ensemble.IsolationForest` may work better.

    Features are standardised internally, so they may have any scale. Missing values (nan) are
    ignored, and the errors of the other features are scaled up accordingly.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    offset_ : float
        Threshold: ``decision_function(X) = score_samples(X) - offset_``.
    feature_errors_ : ndarray of shape (n_features_in_,)
        Usual error of each feature: mean squared error on samples not used to train the network,
        in squared standard deviations of the feature. Compare with ``-feature_scores(X)``.
    {stack_attributes}
    {input_attributes}

    See Also
    --------
    sklearn.ensemble.IsolationForest : Outlier detection, also in the training samples.
    sklearn.neighbors.LocalOutlierFactor : Compare the local density with that of the neighbours.
    StackedAutoencoder : The autoencoder by itself.

    Notes
    -----
    Each network scores the training samples that were held out from its training, and the
    threshold is a quantile of these scores. Scores of samples used in training are higher; with
    them, `predict` would flag more new samples than `contamination`.

    Small networks are trained in parallel, in as many threads as BLAS may use, but one after the
    other with callbacks or `verbose`. They are trained in single precision, whatever the dtype of
    X. Sparse X is converted to a dense float32 array in ``fit``, and a block at a time by the
    other methods.

    Ctrl-C ends the training with a warning. The detector then consists of the networks trained so
    far; fitting it again with ``warm_start=True`` trains the missing ones.

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

    #: As in `sklearn.neighbors.LocalOutlierFactor`: the threshold is for new samples.
    novelty = True

    contamination: float | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        doc="""'auto' or float in (0, 0.5]
        Proportion of new normal samples that `predict` flags as outliers. 'auto' is 0.05.""",
    )
    corruption_level: float = parameter(
        default=4.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Maximum standard deviation of the noise, in standard deviations of the feature; see
        ``corruption='variable_gaussian'`` of `StackedAutoencoder`.""",
    )

    @property
    def _noise(self):
        return "variable_gaussian", self.corruption_level

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the detector on normal samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Normal training samples, at least four. Missing values are nan.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in training. Samples of weight zero are ignored. All
            others have the same weight in the threshold.

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

    def fit_predict(
        self, X: MatrixLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit the detector and predict which of the training samples are outliers.

        If `contamination` is a number, this proportion of the samples of X, those with the lowest
        scores, are labelled outliers. (`predict` uses a threshold for new samples instead.)

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : Ignored
            Not used, present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in training.

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
        """Set the usual errors and the threshold, by the samples held out from each network."""
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
        """Compute the negative reconstruction error of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Higher is more normal. The negative squared error, in squared standard deviations of
            the features, summed over the features; nan for a sample without observed values.
        """
        X = self._check_X(X)
        with self.autoencoders_[0]._team(range(X.shape[0])):
            return sample_scores(self.autoencoders_, self._standardized(X))

    def feature_scores(self, X: MatrixLike) -> NDArray[np.float64]:
        """Compute the negative reconstruction error of each feature of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to score.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_features), float64
            The negative squared error of each feature, in its squared standard deviations;
            compare with ``-feature_errors_``. Rows sum to `score_samples`: missing values have
            score 0, and the others in their row are multiplied by n_features / n_observed.
        """
        X = self._check_X(X)
        scores = np.empty(X.shape)
        with self.autoencoders_[0]._team(range(X.shape[0])):
            for where, errors in feature_errors(self.autoencoders_, self._standardized(X)):
                np.negative(errors, out=scores[where])
        return scores

    def decision_function(self, X: MatrixLike) -> NDArray[np.float64]:
        """Compute the score of each sample relative to the threshold.

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
        """Predict which samples are outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            1 for inliers; -1 for outliers and for samples without observed values.
        """
        return labels_of(self.decision_function(X))


def labels_of(decision):
    return np.where(decision >= 0, np.int64(1), np.int64(-1))


def feature_errors(stacks, dataset):
    """Yield (where, errors) for consecutive samples: the squared error of each feature, float64.

    The errors are means over the networks. Missing values have error zero, and the other errors of
    the sample are scaled up; without observed values all are nan. If a network overflows, the
    error is infinite.
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
    """Return the sum of the errors of each feature, and the scores of the samples."""
    total, scores = np.zeros(Z.shape[1]), np.empty(len(Z))
    for where, errors in feature_errors([stack], ArrayDataset(Z)):
        total += np.nansum(errors, axis=0)
        scores[where] = -errors.sum(axis=1)
    return total, scores


def sample_scores(stacks, dataset):
    """Return the negative sum of the errors of each sample."""
    scores = np.empty(len(dataset))
    for where, errors in feature_errors(stacks, dataset):
        scores[where] = -errors.sum(axis=1)
    return scores
