"""StackedAutoencoderRegressor: pretrained on all samples, fine-tuned on the labelled ones."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.metrics import r2_score

from skae._compat import RegressorMixin, _fit_context, available_if
from skae._dataset import compute_dtype
from skae._fine_tuning import FineTunedStack
from skae._heads import Linear
from skae._labels import Labels, read_numbers
from skae._parameters import estimator
from skae._typing import ArrayLike, MatrixLike, NDArray


@estimator
class StackedAutoencoderRegressor(RegressorMixin, FineTunedStack):
    """Regressor on a stack of autoencoders: pretrained on all samples, fine-tuned on targets.

    A `StackedAutoencoder` learns its layers from all samples, including unlabelled ones (y is
    nan). A linear output layer is added, and the whole network is trained on the labelled samples
    with the squared error, summed over the outputs [1]_ [2]_. It is trained on standardised
    targets, and predicts in the units of y.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    loss_ : float
        Mean cost of the last epoch of fine-tuning: squared error per sample, for
        standardised targets, plus the L2 penalty.
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

    Targets are standardised: the mean of each output is subtracted, and the difference is divided
    by the power of two nearest to the standard deviation; both use the sample weights. `coefs_`
    and `intercepts_` of the output layer are in the units of y, whereas `max_norm` and `alpha` act
    on the weights for standardised targets. With ``partial_fit``, mean and standard deviation are
    those of all targets so far, and the output layer is rescaled so that its predictions stay the
    same.

    References
    ----------
    {references}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skae import StackedAutoencoderRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = scale(X)
    >>> reg = StackedAutoencoderRegressor((50, 20), random_state=0)
    >>> print(f"{reg.fit(X, y).score(X, y):.1f}")
    0.6
    """

    _unlabelled_as = "nan"

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Pretrain the layers on all samples, and fine-tune them on the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples. Scale the features, e.g. to [0, 1]. Missing values (nan) are
            replaced by zeros.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets, at any scale. Samples with nan or None are unlabelled.
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
            If X, y, `sample_weight` or a parameter is invalid, or if the loss becomes infinite or
            nan. The estimator is then left unchanged.
        """
        return self._fit(X, y, sample_weight)

    @available_if(lambda self: self._can_partial_fit())
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fine-tune for one epoch over the labelled samples of X.

        The first call pretrains on its X, as ``fit`` does. A later call without labelled samples
        changes nothing. Not available with ``early_stopping=True``,
        ``learning_rate='cosine'`` or a `final_estimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As in ``fit``.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample in the cost of its mini-batch.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _read_labels(self, X, y, weights, first, incremental):
        y, mask = read_numbers(self, X, y)
        n_labelled = int(mask.sum())
        if weights is not None:
            mask &= weights > 0
            weights = weights[mask]
        if not mask.any():
            return Labels(mask=mask)
        y = y[mask]
        n_outputs = y.size // len(y)
        if not first and n_outputs != self._architecture["sizes"][-1]:
            raise ValueError(
                f"y has {n_outputs} outputs, but {self._architecture['sizes'][-1]} were fitted."
            )
        dtype = compute_dtype(X) if first else self._params().dtype
        largest = np.abs(y).max()
        if largest > np.finfo(dtype).max / 4:
            raise ValueError(
                f"y has values up to {largest:g}, too large for {dtype}, the type of X. Scale y."
            )
        self._y_ndim = y.ndim
        earlier = self._y_units if incremental and not first else None
        self._y_units = units_of(y.reshape(len(y), -1), weights, dtype, earlier)
        head = Linear(y.ndim, self._y_units["mean"], self._y_units["scale"])
        return Labels(mask=mask, n_labelled=n_labelled, y=y, sample_weight=weights, head=head)

    def _set_state(self, state):
        """Store the state, with the output layer in the units of y."""
        units, network = self._y_units, self._network
        state = replace(state, buffers=state.buffers.copy())
        weights, bias = network.weights(state.params, -1), network.bias(state.params, -1)
        # Adding the mean rounds: keep the original bias to continue a fit exactly.
        self._trained_as = {**units, "bias": bias.copy()}
        weights *= units["scale"].astype(weights.dtype)[:, np.newaxis]
        bias[:] = bias * units["scale"] + units["mean"]
        return super()._set_state(state)

    def _state_to_train(self):
        units, old, network = self._y_units, self._trained_as, self._network
        network.check(self._state.buffers)
        state = replace(self._state, buffers=self._state.buffers.copy())
        weights, bias = network.weights(state.params, -1), network.bias(state.params, -1)
        weights /= units["scale"].astype(weights.dtype)[:, np.newaxis]
        if all(np.array_equal(units[name], old[name]) for name in ("mean", "scale")):
            bias[:] = old["bias"]
        else:  # keep the predictions
            bias[:] = (bias - units["mean"]) / units["scale"]
        return state

    def _labelled(self, X, y):
        y, mask = read_numbers(self, X, y)
        return y[mask], mask

    _metric = staticmethod(r2_score)

    @property
    def _head(self):
        return Linear(self._y_ndim)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R^2 of the predictions for the labelled samples.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Test samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; samples with nan are ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weight of each sample.

        Returns
        -------
        score : float
            Coefficient of determination, at most 1; the mean over the outputs.
        """
        return self._score(X, y, sample_weight)

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the targets of each sample.

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


def units_of(y, weights, dtype, earlier=None):
    """Compute weight, mean, standard deviation and scale of each output.

    The scale is the power of two nearest to the standard deviation, within the range of `dtype`,
    the type of the network: dividing or multiplying by it does not round. With the units of
    `earlier` targets, the result is for all targets so far.
    """
    size = np.abs(y).max(axis=0)
    size[size == 0] = 1.0
    y = y / size  # avoid overflow
    mean = np.average(y, axis=0, weights=weights)
    std = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weights))
    std[std < 1e-14] = 0.0  # rounding errors of constant targets
    mean, std = mean * size, std * size
    weight = float(len(y) if weights is None else weights.sum())
    if earlier is not None:
        share = weight / (weight + earlier["weight"])
        step = mean - earlier["mean"]
        within = np.hypot(np.sqrt(1 - share) * earlier["std"], np.sqrt(share) * std)
        std = np.hypot(within, np.sqrt(share * (1 - share)) * step)
        mean = earlier["mean"] + share * step
        weight += earlier["weight"]
    power = np.round(np.log2(np.where(std > 0, std, 1.0)))
    largest = np.finfo(dtype).maxexp
    scale = np.exp2(power.clip(-0.8 * largest, largest - 2).round())
    return {"weight": weight, "mean": mean, "std": std, "scale": scale}
