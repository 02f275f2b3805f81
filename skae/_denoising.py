"""DenoisingAutoencoder: one layer of features learned without labels."""

from copy import copy
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skae import _training
from skae._base import BaseAutoencoder, unchanged_on_error
from skae._callbacks import Task
from skae._compat import Interval, StrOptions
from skae._kernel import _sgd
from skae._network import (
    CODE_ACTIVATIONS,
    CORRUPTIONS,
    LOSSES,
    RECONSTRUCTION_LOSSES,
    Network,
)
from skae._rows import Rows, codes_of
from skae._typing import MatrixLike, NDArray

PROBABILITY_NOISES = ("masking", "salt_and_pepper")
SPARSE_ACTIVATIONS = ("logistic", "tanh")


@_training.documented({"batch_size": 20, "max_iter": 10})
class DenoisingAutoencoder(BaseAutoencoder):
    """Denoising autoencoder: one layer of features, learned without labels.

    An encoder ``y = s(x~ W^T + b)`` and a decoder ``z = t(y W' + b')`` are trained to restore
    each row x from a corrupted version x~ of it. Features that can do so have caught
    how the columns hang together [1]_. `transform` gives the code y of an uncorrupted row.

    Parameters
    ----------
    n_components : int, default=256
        Length of the code. Fewer than there are features compresses; more ("over-complete")
        is fine with corruption or a sparsity penalty. In [1, inf).
    activation : {'relu', 'identity', 'logistic', 'tanh'}, default='relu'
        Activation s of the code: max(0, a), a, 1 / (1 + exp(-a)) or tanh(a).
    loss : {'squared_error', 'cross_entropy'}, default='squared_error'
        Reconstruction error of a row, summed over its features: ``||x - z||^2`` with t the
        identity; or, with t the logistic function, the cross-entropy
        ``-sum_k [x_k log z_k + (1 - x_k) log(1 - z_k)]`` in nats, for X in [0, 1].
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weights, W' = W.
    corruption : {'masking', 'gaussian', 'salt_and_pepper'} or None, default='masking'
        Noise on the input, in training only, drawn anew each epoch. 'masking' sets entries
        to zero; 'gaussian' adds normal noise; 'salt_and_pepper' sets entries to the
        smallest or largest value of their feature in the training data, by a fair coin.
    corruption_level : float, default=0.5
        Probability that an entry is hit, in [0, 1]; for 'gaussian' the standard deviation of
        the noise, in the units of X, in [0, inf).
    sparsity_target : float, default=0.05
        Mean activation that the sparsity penalty holds each unit to (of a tanh unit: that of
        ``(1 + y) / 2``). In (0, 1).
    sparsity_penalty : float, default=0.0
        Weight of the sum over units of the Kullback-Leibler divergence between
        `sparsity_target` and the unit's mean activation in the batch [2]_. Needs a 'logistic' or
        'tanh' activation. In [0, inf).
    {training}

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights W of the encoder; row j is the filter of unit j. A view: copy it to keep it.
    intercept_hidden_ : ndarray of shape (n_components,)
        Bias b of the code.
    decoder_components_ : ndarray of shape (n_components, n_features)
        Weights W' of the decoder, the same as `components_` if tied.
    intercept_visible_ : ndarray of shape (n_features,)
        Bias b' of the reconstruction.
    loss_ : float
        Mean cost of the last epoch: reconstruction error a row, of corrupted rows while
        the weights moved, plus the penalties.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_loss_curve_ : list of float
        Mean reconstruction error of the held-out rows after each epoch, without corruption.
        Only with ``early_stopping=True``.
    best_loss_ : float
        Smallest value of `validation_loss_curve_`. Only with ``early_stopping=True``.
    n_iter_ : int
        Epochs run, over all calls that continued each other.
    n_features_in_ : int
        Number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    See Also
    --------
    StackedAutoencoder : Several such layers on top of each other.
    sklearn.neural_network.BernoulliRBM : Features of binary data by a restricted Boltzmann
        machine.
    sklearn.decomposition.PCA : What a linear autoencoder without corruption comes to.

    Notes
    -----
    Corruption is a hash of the seed, the epoch, the row and the column, so it does not depend
    on the order of the rows or the size of the batches.

    The initial weights are uniform: within ``4 sqrt(6 / (n_features + n_components))`` for
    'logistic', as in the Theano tutorial [3]_, ``sqrt(6 / n_in)`` for 'relu' (He et al.
    2015), n_in being the layer's inputs, and ``sqrt(6 / (n_features + n_components))``
    otherwise (Glorot and Bengio 2010).

    Sparse X is made dense a mini-batch at a time.

    References
    ----------
    .. [1] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked
       Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
       Denoising Criterion. Journal of Machine Learning Research 11, 3371-3408, 2010.
    .. [2] H. Lee, C. Ekanadham, A. Ng. Sparse deep belief net model for visual area V2. NIPS
       2007; the form with the Kullback-Leibler divergence: A. Ng. Sparse autoencoder. CS294A
       lecture notes, Stanford University, 2011.
    .. [3] Theano Development Team. Deep Learning Tutorials: Denoising Autoencoders (dA).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.preprocessing import minmax_scale
    >>> from skae import DenoisingAutoencoder
    >>> X = minmax_scale(load_digits().data)
    >>> dae = DenoisingAutoencoder(random_state=0).fit(X)
    >>> dae.transform(X).shape
    (1797, 256)
    >>> dae.inverse_transform(dae.transform(X)).shape
    (1797, 64)
    >>> bool(dae.score(X) > -2)  # the mean row in place of each would score -4.8
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(CODE_ACTIVATIONS))],
        "loss": [StrOptions(set(RECONSTRUCTION_LOSSES))],
        "tied_weights": ["boolean"],
        "corruption": [StrOptions(set(CORRUPTIONS)), None],
        "corruption_level": [Interval(Real, 0, None, closed="left")],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither")],
        "sparsity_penalty": [Interval(Real, 0, None, closed="left")],
        **_training.PARAMETER_CONSTRAINTS,
    }

    def __init__(
        self,
        n_components: int = 256,
        *,
        activation: str = "relu",
        loss: str = "squared_error",
        tied_weights: bool = False,
        corruption: str | None = "masking",
        corruption_level: float = 0.5,
        sparsity_target: float = 0.05,
        sparsity_penalty: float = 0.0,
        solver: str = "adam",
        alpha: float = 0.0,
        batch_size: int | str = 20,
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        max_iter: int = 10,
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

    def _fit(self, X, y, sample_weight, *, incremental):
        self._check_combination()
        first = self._begins(incremental)
        task = Task.fit_of(self, 1 if incremental else self.max_iter, incremental)
        with unchanged_on_error(self):
            X, weights = self._check_fit(
                X, sample_weight, self.loss, first=first, incremental=incremental
            )
            task.begin(X, y, weights, self._fitted)
            self._fit_rows(Rows(X, sample_weight=weights), incremental, task)
        return self

    def _fit_rows(self, rows, incremental, task, name=None):
        """What `fit` does once X has been checked; for a stack, whose codes need no check."""
        architecture = self._new_architecture(rows.n_features)
        network = Network.autoencoder(**architecture)
        options = _training.Options.of(self, **_training.one_epoch(incremental))
        network.corrupt(self.corruption, self.corruption_level)
        first = self._begins(incremental)
        if first:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            state = _training.initial_state(network, options, rows.dtype, seed)
        else:
            self._check_continues(architecture)
            state = _training.State(**self._training)
        limits = self._limits_of(rows, first)
        self._architecture, self._limits = architecture, limits
        state = _training.train(
            network,
            self._objective(limits),
            rows.astype(state.buffers.dtype),
            state,
            options,
            name=name or type(self).__name__,
            in_place=first,
            task=task,
        )
        self._keep(state)
        return task.end(lambda: state)

    def _codes_of(self, rows):
        """The codes of `Rows`, as such."""
        network, params = self._network, self._params()
        return codes_of(
            rows.astype(params.dtype),
            lambda part: network.outputs(params, part, stop=1),
            self._n_features_out,
        )

    def _new_architecture(self, n_features):
        """What `Network.autoencoder` needs to know of the network to be trained."""
        return {
            "sizes": [n_features, int(self.n_components)],
            "activations": [self.activation],
            "loss": self.loss,
            "tied": bool(self.tied_weights),
            "output": None,
        }

    def _check_continues(self, architecture):
        # The joint training of a stack gives a decoder another output, which may stay.
        if {**architecture, "output": None} != {**self._architecture, "output": None}:
            raise ValueError(
                "n_components, activation, loss and tied_weights cannot change between fits "
                "that continue each other. Set them back, or fit with warm_start=False."
            )
        architecture["output"] = self._architecture["output"]

    def _check_combination(self):
        """Refuse what cannot work, alone or together, before any work."""
        self._validate_params()  # scikit-learn does not, when partial_fit continues a fit
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

    def _limits_of(self, rows, first):
        """Extremes of each feature seen so far, which salt-and-pepper noise sets it to."""
        if self.corruption != "salt_and_pepper":
            return None
        limits = rows.extremes()
        if not first and self._limits is not None:
            np.minimum(limits[0], self._limits[0], out=limits[0])
            np.maximum(limits[1], self._limits[1], out=limits[1])
        return limits

    def _objective(self, limits=None, joint=False):
        """What is minimised; in joint training of a stack, without the penalty of one layer."""
        low, high = (None, None) if limits is None else limits
        return _sgd.Objective(
            LOSSES[self.loss],
            alpha=self.alpha,
            sparse_layer=0,
            sparsity_target=self.sparsity_target,
            sparsity_penalty=0.0 if joint else self.sparsity_penalty,
            low=low,
            high=high,
        )

    def _with_parameters(self, weights, biases, output):
        """A copy with the matrices and biases of encoder and decoder that are given.

        `output` is the activation of its decoder, None for that of the loss. The moments of
        the solver start afresh.
        """
        other = copy(self)
        other._architecture = {**self._architecture, "output": output}
        network, buffers = other._network, np.zeros_like(self._training["buffers"])
        for k in range(2):
            network.weights(buffers[0], k)[:] = weights[k]
            network.bias(buffers[0], k)[:] = biases[k]
        other._training = {**self._training, "buffers": buffers, "step": 0}
        return other

    def _corrupted(self, X, seed):
        """Rows as training sees them, dense."""
        network, rows = self._network, Rows(X).take(slice(None))
        network.corrupt(self.corruption, self.corruption_level)
        out = np.empty_like(rows)
        _sgd.corrupt_rows(
            network.layers,
            self._objective(self._limits),
            rows,
            np.arange(len(rows)),
            _training.noise_key(seed, 0),
            out,
        )
        return out

    # -- what was learned -----------------------------------------------------------

    @property
    def _network(self):
        return Network.autoencoder(**self._architecture)

    @property
    def _n_features_out(self):
        return self._architecture["sizes"][-1]

    @property
    def components_(self) -> NDArray[Any]:
        check_is_fitted(self)
        return self._network.weights(self._params(), 0)

    @property
    def decoder_components_(self) -> NDArray[Any]:
        check_is_fitted(self)
        return self._network.weights(self._params(), 1).T

    @property
    def intercept_hidden_(self) -> NDArray[Any]:
        check_is_fitted(self)
        return self._network.bias(self._params(), 0)

    @property
    def intercept_visible_(self) -> NDArray[Any]:
        check_is_fitted(self)
        return self._network.bias(self._params(), 1)

    # -- use --------------------------------------------------------------------------

    def _encode(self, X):
        return self._network.outputs(self._params(X), Rows(X), stop=1)

    def inverse_transform(self, X: MatrixLike) -> NDArray[Any]:
        """Decode codes: the reconstruction z of each.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_components)
            Codes, as `transform` gives them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Their reconstructions, in the units of the X given to ``fit``.
        """
        check_is_fitted(self)
        X = self._check_codes(X, self._n_features_out)
        return self._network.outputs(self._params(X), Rows(X), start=1)

    def score_samples(self, X: MatrixLike) -> NDArray[np.float64]:
        """Minus the reconstruction error of each row, without corruption.

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
        return -self._row_losses(X)

    def _row_losses(self, X, codes=None):
        """Loss of each row; of what is decoded from `codes`, if given, else from its own code."""
        objective = _sgd.Objective(LOSSES[self._architecture["loss"]])
        return self._network.row_losses(self._params(X), objective, Rows(X), codes=codes)
