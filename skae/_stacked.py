"""StackedAutoencoder: denoising autoencoders on top of each other, trained layer by layer."""

import warnings
from copy import copy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae import _training
from skae._base import SHOWN, BaseAutoencoder, unchanged_on_error
from skae._callbacks import Task
from skae._compat import Interval
from skae._denoising import DenoisingAutoencoder
from skae._network import Network
from skae._rows import CHUNK_ROWS, Rows
from skae._threads import blas_held, team_to_apply
from skae._typing import MatrixLike, NDArray, PerLayer

# Those that are about the stack, not about each of its layers.
OF_THE_STACK = (
    "hidden_layer_sizes",
    "fine_tune",
    "fine_tune_max_iter",
    "fine_tune_learning_rate_init",
)

# Parameters of a layer that may also be given as one value a layer.
PER_LAYER = (
    "activation",
    "loss",
    "corruption",
    "corruption_level",
    "learning_rate_init",
    "max_iter",
)


@_training.documented({"batch_size": 20, "max_iter": 10})
class StackedAutoencoder(BaseAutoencoder):
    """Stacked autoencoder: layers of features, learned without labels one after the other.

    The first layer is a `DenoisingAutoencoder` of X, the second one of the first one's
    codes, and so on; a layer is left as it is once it has been trained [1]_ [2]_.
    `transform` gives the code of the top layer.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of shape (n_layers,), default=(1000, 1000)
        Length of the code of each layer, from the bottom up. Each in [1, inf).
    activation : {'relu', 'identity', 'logistic', 'tanh'} or list of them, default='relu'
        Activation of the codes, of all layers or of each.
    loss : {'squared_error', 'cross_entropy'} or list of them, default='squared_error'
        Reconstruction error of the layers, see `DenoisingAutoencoder`. 'cross_entropy' needs
        inputs in [0, 1]: of X in the first layer, and above it of codes that are 'logistic'.
    tied_weights : bool, default=False
        Whether the decoder of a layer uses the weights of its encoder.
    corruption : {'masking', 'gaussian', 'salt_and_pepper'}, None or list, default='masking'
        Noise on the input of the layers, in training only, see `DenoisingAutoencoder`.
    corruption_level : float or list of float, default=0.5
        Probability that an entry is hit, in [0, 1]; for 'gaussian' the standard deviation of
        the noise, in [0, inf).
    sparsity_target : float, default=0.05
        Mean activation that the sparsity penalty holds each unit to. In (0, 1).
    sparsity_penalty : float, default=0.0
        Weight of the Kullback-Leibler sparsity penalty of each layer, see
        `DenoisingAutoencoder`. Needs 'logistic' or 'tanh' activations. In [0, inf).
    fine_tune : bool, default=False
        Whether to train all layers together when each has been trained: the whole deep
        autoencoder, up and down again, under the reconstruction error of X, with the corruption
        of the first layer [3]_. A hidden decoder then ends in the activation of the layer
        below, whose codes it gives back.
    fine_tune_max_iter : int, default=10
        Number of epochs of the joint training. In [1, inf).
    fine_tune_learning_rate_init : float, default=0.001
        Learning rate of the first of them. In (0, inf).
    {training}

    Attributes
    ----------
    layers_ : list of DenoisingAutoencoder
        The fitted layers, from the bottom up, with their weights and loss curves.
    n_iter_ : int
        Epochs run, summed over the layers; those of the joint training are not counted.
    loss_curve_ : list of float
        Mean cost of each epoch of the joint training. Only with ``fine_tune=True``.
    loss_ : float
        The last of them. Only with ``fine_tune=True``.
    validation_loss_curve_ : list of float
        Mean reconstruction error of the held-out rows after each epoch of the joint training.
        Only with ``fine_tune=True`` and ``early_stopping=True``.
    best_loss_ : float
        The smallest of them. Only with ``fine_tune=True`` and ``early_stopping=True``.
    n_features_in_ : int
        Number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    See Also
    --------
    DenoisingAutoencoder : A single layer.
    sklearn.pipeline.Pipeline : To put a scaler before and a classifier behind.

    Notes
    -----
    Logistic layers under squared error do not stack well: their codes vary little, and the next
    layer learns not much more than their mean. Use 'relu' or 'tanh', or cross-entropy.

    `learning_rate_init` and `max_iter` may be lists too, with one value a layer.

    While a layer is trained, the codes of the one below are held in memory if they fit into the
    `working_memory` of `sklearn.set_config`, and are else computed anew for each mini-batch.

    Ctrl-C ends the training with a warning; the layers that have been trained by then make up
    the stack, and fitting it again with ``warm_start=True`` trains the missing ones too.

    References
    ----------
    .. [1] Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle. Greedy Layer-Wise Training of Deep
       Networks. NIPS 2006.
    .. [2] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked
       Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
       Denoising Criterion. Journal of Machine Learning Research 11, 3371-3408, 2010.
    .. [3] G. Hinton, R. Salakhutdinov. Reducing the Dimensionality of Data with Neural Networks.
       Science 313, 504-507, 2006.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import MinMaxScaler
    >>> from sklearn.svm import SVC
    >>> from skae import StackedAutoencoder
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> pipe = Pipeline([
    ...     ("scale", MinMaxScaler()),
    ...     ("sae", StackedAutoencoder(hidden_layer_sizes=(128, 64), random_state=0)),
    ...     ("svm", SVC()),
    ... ])
    >>> bool(pipe.fit(X_train, y_train).score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        **DenoisingAutoencoder._parameter_constraints,
        **{
            name: [*DenoisingAutoencoder._parameter_constraints[name], "array-like"]
            for name in PER_LAYER
        },
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "fine_tune": ["boolean"],
        "fine_tune_max_iter": [Interval(Integral, 1, None, closed="left")],
        "fine_tune_learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    }
    del _parameter_constraints["n_components"]

    def __init__(
        self,
        hidden_layer_sizes: PerLayer[int] = (1000, 1000),
        *,
        activation: PerLayer[str] = "relu",
        loss: PerLayer[str] = "squared_error",
        tied_weights: bool = False,
        corruption: PerLayer[str | None] = "masking",
        corruption_level: PerLayer[float] = 0.5,
        sparsity_target: float = 0.05,
        sparsity_penalty: float = 0.0,
        fine_tune: bool = False,
        fine_tune_max_iter: int = 10,
        fine_tune_learning_rate_init: float = 0.001,
        solver: str = "adam",
        alpha: float = 0.0,
        batch_size: int | str = 20,
        learning_rate: str = "constant",
        learning_rate_init: PerLayer[float] = 0.001,
        max_iter: PerLayer[int] = 10,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float | None = None,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.tied_weights = tied_weights
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.sparsity_target = sparsity_target
        self.sparsity_penalty = sparsity_penalty
        self.fine_tune = fine_tune
        self.fine_tune_max_iter = fine_tune_max_iter
        self.fine_tune_learning_rate_init = fine_tune_learning_rate_init
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change

    def _fit(self, X, y, sample_weight, *, incremental):
        layers = self._new_layers()
        first = not (hasattr(self, "layers_") and (incremental or self.warm_start))
        one_by_one = first or not self._tuned
        n_stages = len(layers) * one_by_one + self.fine_tune
        task = Task.fit_of(self, n_stages, incremental)
        with unchanged_on_error(self), blas_held():
            X, weights = self._check_fit(
                X, sample_weight, layers[0].loss, first=first, incremental=incremental
            )
            task.begin(X, y, weights)
            rng = check_random_state(self.random_state)
            for layer in layers:
                layer.random_state = int(rng.randint(2**31 - 1))
            if not first:
                layers = self._continued(layers)
            if one_by_one:
                layers = self._train(layers, Rows(X, sample_weight=weights), incremental, task)
                self._tuned = {}
            self._consist_of(layers)
            for name in SHOWN:  # of an earlier joint training
                vars(self).pop(name, None)
            if self.fine_tune and not layers[-1]._training["interrupted"]:
                self._train_jointly(X, weights, task)
            task.end()
        return self

    def _consist_of(self, layers):
        self.layers_ = layers
        self.n_iter_ = sum(layer.n_iter_ for layer in layers)
        return self

    def _train(self, layers, rows, incremental, task):
        """Train each layer on the codes of the one below; return the trained ones."""
        for depth, layer in enumerate(layers, start=1):
            name = f"{type(self).__name__}, layer {depth} of {len(layers)}"
            layer.n_features_in_ = rows.n_features

            def fitted(state, below=layers[: depth - 1], layer=layer):
                layers = [*below, copy(layer)._keep(state)]
                return {**vars(copy(self)._consist_of(layers)), "_tuned": {}}

            stage = task.subtask("layer", 1 if incremental else layer.max_iter, fitted=fitted)
            if layer._fit_rows(rows, incremental, stage, name):
                layer._training["interrupted"] = True  # by a callback
            if layer._training["interrupted"]:
                return layers[:depth]
            if depth < len(layers):
                try:
                    rows = layer._codes_of(rows)
                except KeyboardInterrupt:
                    warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
                    layer._training["interrupted"] = True
                    return layers[:depth]
        return layers

    def _train_jointly(self, X, weights, task):
        """Train the unrolled deep autoencoder, and hand its weights back to the layers."""
        bottom = self.layers_[0]
        network = Network.autoencoder(
            [X.shape[1], *(layer._n_features_out for layer in self.layers_)],
            [layer._architecture["activations"][0] for layer in self.layers_],
            bottom._architecture["loss"],
            tied=bottom._architecture["tied"],
        )
        network.corrupt(bottom.corruption, bottom.corruption_level)
        options = _training.Options.of(
            self,
            max_iter=self.fine_tune_max_iter,
            learning_rate_init=self.fine_tune_learning_rate_init,
        )
        dtype = bottom._params().dtype
        if self._tuned:
            state = _training.State(**self._tuned)
        else:
            state = _training.initial_state(network, options, dtype, bottom._training["seed"])
        # The layers have the parameters, before and after; the state adds the solver's moments.
        places = [(k, len(network) - 1 - k) for k in range(len(self.layers_))]
        buffers = state.buffers.copy() if self._tuned else state.buffers
        for layer, place in zip(self.layers_, places):
            single, params = layer._network, layer._params()
            for its, mine in enumerate(place):
                network.weights(buffers[0], mine)[:] = single.weights(params, its)
                network.bias(buffers[0], mine)[:] = single.bias(params, its)
        stage = task.subtask(
            "fine-tune",
            options.max_iter,
            fitted=lambda state: vars(copy(self)._take_back(network, places, state)),
        )
        state = _training.train(
            network,
            bottom._objective(bottom._limits, joint=True),
            Rows(X, dtype, sample_weight=weights),
            replace(state, buffers=buffers),
            options,
            name=f"{type(self).__name__}, all layers",
            in_place=True,
            task=stage,
        )
        self._take_back(network, places, state)
        stage.end()

    def _take_back(self, network, places, state):
        """Give each layer its weights from joint training."""
        bottom = self.layers_[0]
        self.layers_ = [
            layer._with_parameters(
                [network.weights(state.params, k) for k in place],
                [network.bias(state.params, k) for k in place],
                output=None if layer is bottom else below._architecture["activations"][0],
            )
            for layer, below, place in zip(self.layers_, [None, *self.layers_], places)
        ]
        self._tuned = vars(state)
        self._show(state)
        return self

    def _new_layers(self):
        """One unfitted autoencoder a layer; refuses what cannot work, before any work."""
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if np.ndim(sizes) else [np.asarray(sizes).item()]
        if not sizes:
            raise ValueError("hidden_layer_sizes must name at least one layer, got an empty one.")
        shared = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in PER_LAYER and name not in OF_THE_STACK
        }
        each = {name: per_layer(name, getattr(self, name), len(sizes)) for name in PER_LAYER}
        layers = [
            DenoisingAutoencoder(
                n_components=size, **shared, **{name: each[name][k] for name in PER_LAYER}
            )
            for k, size in enumerate(sizes)
        ]
        for k, layer in enumerate(layers):
            layer._check_combination()
            if k > 0 and layer.loss == "cross_entropy" and layers[k - 1].activation != "logistic":
                raise ValueError(
                    f"loss='cross_entropy' in layer {k + 1} needs codes in [0, 1] from the layer "
                    f"below, whose activation is {layers[k - 1].activation!r}. Use "
                    "activation='logistic' there, or loss='squared_error' in this layer."
                )
        return layers

    def _continued(self, layers):
        """The fitted layers with the parameters of the new ones, to be trained further."""
        interrupted = self.layers_[-1]._training["interrupted"]
        if len(layers) != len(self.layers_) and not (
            interrupted and len(layers) > len(self.layers_)
        ):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes} has {len(layers)} layers, but "
                f"{len(self.layers_)} are fitted. Set it back, or fit with warm_start=False."
            )
        if self._tuned and not self.fine_tune:
            raise ValueError(
                "The layers have been trained jointly, so they cannot be trained one by one: "
                "set fine_tune=True to go on, or fit with warm_start=False."
            )
        for old, new in zip(self.layers_, layers):
            old._check_continues(new._new_architecture(old.n_features_in_))
        return [
            copy(old).set_params(
                **{**new.get_params(), "warm_start": True, "random_state": old.random_state}
            )
            for old, new in zip(self.layers_, layers)
        ] + layers[len(self.layers_) :]

    @property
    def _n_features_out(self):
        return self.layers_[-1]._n_features_out

    def _encode(self, X):
        rows = Rows(X)
        out = np.empty((len(rows), self._n_features_out), dtype=rows.dtype)
        work = len(rows) * max(layer._network.largest_matrix for layer in self.layers_)
        with team_to_apply(work):
            for start in range(0, len(rows), CHUNK_ROWS):  # no codes but the last as a whole
                codes = rows.take(slice(start, start + CHUNK_ROWS))
                for layer in self.layers_:
                    codes = layer._encode(codes)
                out[start : start + CHUNK_ROWS] = codes
        return out

    def inverse_transform(self, X: MatrixLike) -> NDArray[Any]:
        """Decode codes, back through the decoders of all layers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, hidden_layer_sizes[-1])
            Codes, as `transform` gives them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Their reconstructions, in the units of the X given to ``fit``.
        """
        check_is_fitted(self)
        X = self._check_codes(X, self._n_features_out)
        for layer in reversed(self.layers_):
            X = layer.inverse_transform(X)
        return X

    def score_samples(self, X: MatrixLike) -> NDArray[np.float64]:
        """Minus the reconstruction error of each row, up and down all layers.

        Rows unlike the training data score low, so this is a score of normality for novelty
        detection.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to score. Cross-entropy takes values outside [0, 1] here; they score low
            or high without bound.

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            The higher, the more normal. Minus the squared error, in squared units of X, or
            minus the cross-entropy, in nats, summed over the features.
        """
        X = self._check_X(X)
        codes = self._encode(X)
        for layer in reversed(self.layers_[1:]):
            codes = layer.inverse_transform(codes)
        return -self.layers_[0]._row_losses(X, codes)


def per_layer(name, value, n_layers):
    """A list of one value a layer, from such a list or from one value for all."""
    if np.ndim(value) == 0:
        return [value.item() if isinstance(value, np.ndarray) else value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} has {len(value)} values for {n_layers} layers: give one value a layer, or "
            "one for all."
        )
    return [item.item() if isinstance(item, np.generic) else item for item in value]
