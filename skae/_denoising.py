"""DenoisingAutoencoder: one layer of features learned without labels."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae import _training
from skae._base import BaseAutoencoder, feature_range, unchanged_on_error
from skae._compat import Interval, StrOptions, _fit_context
from skae._kernel import _sgd
from skae._network import ACTIVATIONS, LOSSES, NOISES, Network
from skae._rows import Rows

PROBABILITY_NOISES = ("masking", "salt_and_pepper")
SPARSE_ACTIVATIONS = ("logistic", "tanh")


class DenoisingAutoencoder(BaseAutoencoder):
    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "loss": [StrOptions(set(LOSSES))],
        "tied_weights": ["boolean"],
        "corruption": [StrOptions(set(NOISES) - {None}), None],
        "corruption_level": [Interval(Real, 0, None, closed="left")],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither")],
        "sparsity_penalty": [Interval(Real, 0, None, closed="left")],
        **_training.PARAMETER_CONSTRAINTS,
    }

    def __init__(
        self,
        n_components=256,
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
        self.n_components = n_components
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

    def _fit(self, X, sample_weight, *, incremental, name=None):
        self._check_combination()
        first = not (hasattr(self, "_training") and (incremental or self.warm_start))
        with unchanged_on_error(self):
            X, weights = self._check_fit(
                X, sample_weight, self.loss, first=first, incremental=incremental
            )
            architecture = {
                "sizes": [X.shape[1], int(self.n_components)],
                "activations": [self.activation],
                "loss": self.loss,
                "tied": bool(self.tied_weights),
            }
            network = Network.autoencoder(**architecture)
            network.corrupt_input(self.corruption, self.corruption_level)
            if first:
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
                state = _training.initial_state(network, self, X.dtype, seed)
            elif architecture == self._architecture:
                state = _training.State(**self._training)
            else:
                raise ValueError(
                    "n_components, activation, loss and tied_weights cannot change between fits "
                    "that continue each other. Set them back, or fit with warm_start=False."
                )
            limits = self._limits_of(X, first)
            state = _training.train(
                network,
                self._objective(limits),
                Rows(X, state.buffers.dtype, sample_weight=weights),
                state,
                self,
                max_iter=1 if incremental else self.max_iter,
                name=name or type(self).__name__,
            )
            self._architecture, self._limits = architecture, limits
            self._keep(state)
        return self

    def _check_combination(self):
        """Refuse what cannot work together, before any work."""
        if self.corruption in PROBABILITY_NOISES and self.corruption_level > 1:
            raise ValueError(
                f"corruption_level={self.corruption_level} is not a probability: with "
                f"corruption={self.corruption!r} it must be in [0, 1]."
            )
        if self.sparsity_penalty > 0 and self.activation not in SPARSE_ACTIVATIONS:
            raise ValueError(
                f"sparsity_penalty={self.sparsity_penalty} needs units with a bounded activation, "
                f"'logistic' or 'tanh', but activation={self.activation!r}."
            )

    def _limits_of(self, X, first):
        """Extremes of each feature seen so far, which salt-and-pepper noise sets it to."""
        if self.corruption != "salt_and_pepper":
            return None
        limits = feature_range(X)
        if not first and self._limits is not None:
            np.minimum(limits[0], self._limits[0], out=limits[0])
            np.maximum(limits[1], self._limits[1], out=limits[1])
        return limits

    def _objective(self, limits=None):
        low, high = (None, None) if limits is None else limits
        return _sgd.Objective(
            LOSSES[self.loss],
            alpha=self.alpha,
            sparse_layer=0,
            sparsity_target=self.sparsity_target,
            sparsity_penalty=self.sparsity_penalty,
            low=low,
            high=high,
        )

    def _keep(self, state):
        """Store a training state, and show of it what scikit-learn's networks show."""
        self._training = vars(state)
        self.loss_curve_ = state.loss_curve
        self.loss_ = state.loss_curve[-1] if state.loss_curve else np.nan
        self.n_iter_ = len(state.loss_curve)
        if self.early_stopping:
            self.validation_loss_curve_ = state.validation_loss_curve
            self.best_loss_ = state.best_loss

    # -- what was learned -----------------------------------------------------------

    @property
    def _network(self):
        return Network.autoencoder(**self._architecture)

    def _params(self, dtype=None):
        params = self._training["buffers"][0]
        return params if dtype is None else params.astype(dtype, copy=False)

    @property
    def _n_features_out(self):
        return self._architecture["sizes"][-1]

    @property
    def components_(self):
        check_is_fitted(self)
        return self._network.weights(self._params(), 0)

    @property
    def decoder_components_(self):
        check_is_fitted(self)
        return self._network.weights(self._params(), 1).T

    @property
    def intercept_hidden_(self):
        check_is_fitted(self)
        return self._network.bias(self._params(), 0)

    @property
    def intercept_visible_(self):
        check_is_fitted(self)
        return self._network.bias(self._params(), 1)

    # -- use --------------------------------------------------------------------------

    def transform(self, X):
        X = self._check_X(X)
        return self._network.outputs(self._params(X.dtype), Rows(X, X.dtype), stop=1)

    def inverse_transform(self, X):
        check_is_fitted(self)
        X = self._check_codes(X, self._n_features_out)
        return self._network.outputs(self._params(X.dtype), Rows(X, X.dtype), start=1)

    def score_samples(self, X):
        X = self._check_X(X)
        return -self._row_losses(X)

    def _row_losses(self, X, codes=None):
        """Loss of each row; of what is decoded from `codes`, if given, else from its own code."""
        return self._network.row_losses(
            self._params(X.dtype), self._objective(), Rows(X, X.dtype), codes=codes
        )
