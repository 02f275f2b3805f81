"""StackedAutoencoder: denoising autoencoders on top of each other, trained layer by layer."""

from copy import copy
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae import _training
from skae._base import BaseAutoencoder, unchanged_on_error
from skae._compat import Interval, _fit_context
from skae._denoising import DenoisingAutoencoder

# Parameters of a layer that may also be given as one value a layer.
PER_LAYER = ("activation", "loss", "corruption", "corruption_level", "learning_rate_init", "max_iter")


class StackedAutoencoder(BaseAutoencoder):
    _parameter_constraints: dict = {
        **DenoisingAutoencoder._parameter_constraints,
        **{
            name: [*DenoisingAutoencoder._parameter_constraints[name], "array-like"]
            for name in PER_LAYER
        },
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    }
    del _parameter_constraints["n_components"]

    def __init__(
        self,
        hidden_layer_sizes=(256, 128),
        *,
        activation="relu",
        loss="squared_error",
        tied_weights=True,
        corruption="masking",
        corruption_level=0.3,
        sparsity_target=0.05,
        sparsity_penalty=0.0,
        solver="adam",
        alpha=0.0,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        max_iter=100,
        shuffle=True,
        random_state=None,
        tol=None,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.tied_weights = tied_weights
        self.corruption = corruption
        self.corruption_level = corruption_level
        self.sparsity_target = sparsity_target
        self.sparsity_penalty = sparsity_penalty
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        return self._fit(X, sample_weight, incremental=False)

    @available_if(_training.can_partial_fit)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        return self._fit(X, sample_weight, incremental=True)

    def _fit(self, X, sample_weight, *, incremental):
        layers = self._new_layers()
        first = not (hasattr(self, "layers_") and (incremental or self.warm_start))
        with unchanged_on_error(self):
            X, weights = self._check_fit(
                X, sample_weight, layers[0].loss, first=first, incremental=incremental
            )
            if first:
                rng = check_random_state(self.random_state)
                for layer in layers:
                    layer.random_state = int(rng.randint(2**31 - 1))
            else:
                layers = self._continued(layers)
            self.layers_ = self._train(layers, X, weights, incremental)
            self.n_iter_ = sum(layer.n_iter_ for layer in self.layers_)
        return self

    def _train(self, layers, codes, weights, incremental):
        """Train each layer on the codes of the one below; return the trained ones."""
        for depth, layer in enumerate(layers, start=1):
            name = f"{type(self).__name__}, layer {depth} of {len(layers)}"
            layer._fit(codes, weights, incremental=incremental, name=name)
            if layer._training["interrupted"]:
                return layers[:depth]
            if depth < len(layers):
                codes = layer.transform(codes)
        return layers

    def _new_layers(self):
        """One unfitted autoencoder a layer; refuses what cannot work, before any work."""
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not sizes:
            raise ValueError("hidden_layer_sizes must name at least one layer, got an empty one.")
        shared = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in PER_LAYER and name != "hidden_layer_sizes"
        }
        each = {name: per_layer(name, getattr(self, name), len(sizes)) for name in PER_LAYER}
        layers = [
            DenoisingAutoencoder(
                n_components=size, **shared, **{name: each[name][k] for name in PER_LAYER}
            )
            for k, size in enumerate(sizes)
        ]
        for k, layer in enumerate(layers):
            layer._validate_params()
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
        if len(layers) != len(self.layers_):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes} has {len(layers)} layers, but "
                f"{len(self.layers_)} are fitted. Set it back, or fit with warm_start=False."
            )
        return [
            copy(old).set_params(
                **{**new.get_params(), "warm_start": True, "random_state": old.random_state}
            )
            for old, new in zip(self.layers_, layers)
        ]

    @property
    def _n_features_out(self):
        return self.layers_[-1]._n_features_out

    def transform(self, X):
        codes = self._check_X(X)
        for layer in self.layers_:
            codes = layer.transform(codes)
        return codes

    def inverse_transform(self, X):
        check_is_fitted(self)
        X = self._check_codes(X, self._n_features_out)
        for layer in reversed(self.layers_):
            X = layer.inverse_transform(X)
        return X

    def score_samples(self, X):
        X = self._check_X(X)
        codes = self.transform(X)
        for layer in reversed(self.layers_[1:]):
            codes = layer.inverse_transform(codes)
        return -self.layers_[0]._row_losses(X, codes)


def per_layer(name, value, n_layers):
    """A list of one value a layer, from such a list or from one value for all."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} has {len(value)} values for {n_layers} layers: give one value a layer, or "
            "one for all."
        )
    return [item.item() if isinstance(item, np.generic) else item for item in value]
