"""StackedAutoencoderRegressor: pretrained on all samples, fine-tuned on the labelled ones."""

from typing import Any, Self

import numpy as np

from skae._compat import RegressorMixin, _fit_context, available_if
from skae._fine_tuning import FineTunedStack, Labels, check_y
from skae._heads import Linear
from skae._parameters import estimator
from skae._typing import ArrayLike, MatrixLike, NDArray


@estimator
class StackedAutoencoderRegressor(RegressorMixin, FineTunedStack):
    """Regressor on a stack of autoencoders: pretrained on all samples, fine-tuned on targets.

    A `StackedAutoencoder` learns its layers from all samples, those whose y is nan (unlabelled)
    included. A linear output layer is added, and the whole network is trained on the labelled
    samples with the squared error, summed over the outputs [1]_ [2]_.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    loss_ : float
        Mean cost of the last epoch of fine-tuning: squared error of a sample,
        plus the L2 penalty.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_scores_ : list of float
        R^2 of the held-out samples after each epoch. Only with
        ``early_stopping=True``, as the next two.
    {fine_tuning_attributes}
    {input_attributes}

    See Also
    --------
    StackedAutoencoder : The layers alone, without labels.
    sklearn.neural_network.MLPRegressor : The same network without pretraining.

    Notes
    -----
    Early stopping holds out labelled samples only.

    References
    ----------
    {references}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skae import StackedAutoencoderRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = scale(X), scale(y)
    >>> reg = StackedAutoencoderRegressor((50, 20), random_state=0).fit(X, y)
    >>> bool(reg.score(X, y) > 0.4)
    True
    """

    _unlabelled_as = "nan"

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Pretrain the layers on all samples, and fine-tune them on the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. Scale the features, e.g. to [0, 1].
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; samples with nan are unlabelled. Scale the targets, see
            `sklearn.compose.TransformedTargetRegressor`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in the cost of its mini-batch, not negative. Samples of weight
            zero are left out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y, `sample_weight` or a parameter is not as described, or if the loss becomes
            infinite or nan. The estimator is then as it was before the call.
        """
        return self._fit(X, y, sample_weight)

    @available_if(lambda self: self._can_partial_fit())
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fine-tune for one epoch over the labelled samples of X.

        The first call pretrains on its own X as ``fit`` does; a later one without a labelled
        sample changes nothing. Not available with ``early_stopping=True``,
        ``learning_rate='cosine'`` or a `final_estimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for ``fit``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample in the cost of its mini-batch, not negative.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _read_labels(self, X, y, weights, first):
        y = check_y(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        mask = ~np.isnan(y if y.ndim == 1 else y.sum(axis=1))
        if weights is not None:
            mask &= weights > 0
        if not mask.any():
            return Labels(mask=mask)
        head = Linear(y.ndim)
        targets, strata = head.encode(y[mask])
        if not first and targets.shape[1] != self._architecture["sizes"][-1]:
            raise ValueError(
                f"y has {targets.shape[1]} outputs, but {self._architecture['sizes'][-1]} were "
                "fitted."
            )
        self._y_ndim = y.ndim
        weights = None if weights is None else weights[mask]
        return Labels(
            mask=mask, y=y[mask], targets=targets, strata=strata, sample_weight=weights, head=head
        )

    @property
    def _head(self):
        return Linear(self._y_ndim)

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the target, or targets, of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples to predict for.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predicted values, in the units of the y given to ``fit``.
        """
        return self._predict_by("predict", X)
