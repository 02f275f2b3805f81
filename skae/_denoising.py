"""DenoisingAutoencoder: one layer of features, learned without labels."""

from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae import _inference, _training
from skae._base import BaseAutoencoder, unchanged_on_error
from skae._callbacks import FitTask
from skae._corruption import make_corruption, statistics
from skae._dataset import ArrayDataset, EncodedDataset, dataset_of
from skae._kernel import _sgd
from skae._network import CODE_ACTIVATIONS, Network
from skae._parameters import (
    GAUSSIAN,
    POSITIVE_INT,
    AutoencoderParameters,
    TrainingParameters,
    estimator,
    parameter,
)
from skae._typing import NDArray


@estimator
class DenoisingAutoencoder(BaseAutoencoder, AutoencoderParameters, TrainingParameters):
    """Denoising autoencoder: one layer of features, learned without labels.

    An encoder ``y = s(x~ W^T + b)`` and a decoder ``z = t(y W' + b')`` are trained to reconstruct
    each sample x from a corrupted version x~ of it. Features that achieve this must capture the
    dependencies between columns [1]_. `transform` returns the code y (latent
    representation, embedding) of an uncorrupted sample, `reconstruct` what is decoded from it.

    Parameters
    ----------
    {parameters}

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
        Mean cost of the last epoch: reconstruction error of corrupted samples plus the penalties,
        averaged while the weights changed.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_loss_curve_ : list of float
        Mean reconstruction error of the held-out samples after each epoch, without corruption.
        Only with ``early_stopping=True``.
    best_loss_ : float
        Smallest value of `validation_loss_curve_`. Only with ``early_stopping=True``.
    {quality_attributes}
    n_iter_ : int
        Number of epochs, over all calls that continued each other.
    {input_attributes}

    See Also
    --------
    StackedAutoencoder : Several such layers on top of each other.
    sklearn.neural_network.BernoulliRBM : Features of binary data by a restricted Boltzmann
        machine.
    sklearn.decomposition.PCA : The linear case, exact and faster.

    Notes
    -----
    Corruption is a hash of the seed, the epoch, the sample and the feature: the order of samples
    and the size of mini-batches do not change it. The sparsity penalty is that of [2]_.

    The initial weights are uniform: within ``4 sqrt(6 / (n_features + n_components))`` for
    'logistic', as in the Theano tutorial [3]_, ``sqrt(6 / n_in)`` for 'relu' (He et al.
    2015), n_in being the layer's inputs, and ``sqrt(6 / (n_features + n_components))``
    otherwise (Glorot and Bengio 2010).

    Sparse X is converted to dense one mini-batch at a time.

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
    >>> dae.reconstruct(X).shape
    (1797, 64)
    >>> print(f"R2 of the reconstruction {dae.reconstruction_r2_:.1f}")
    R2 of the reconstruction 0.9
    """

    n_components: int = parameter(
        default=256,
        kw_only=False,
        constraint=[POSITIVE_INT],
        doc="""int in [1, inf)
        Length of the code. Fewer than there are features compresses; more ("over-complete") is
        fine with corruption or a sparsity penalty.""",
    )

    def _fit(self, X, y, sample_weight, *, incremental):
        self._validate_params()  # scikit-learn does not, when partial_fit continues a fit
        self._check_combination()
        first = self._is_first_fit(incremental)
        # With 'auto', the number of epochs is not known before X is validated.
        n_epochs = None if self.max_iter == "auto" else self.max_iter
        task = FitTask.fit_of(self, 1 if incremental else n_epochs, incremental)
        with unchanged_on_error(self):
            X, weights = self._check_fit(
                X, sample_weight, self.loss, first=first, incremental=incremental
            )
            task.begin(X, y, weights, self._fitted_attributes)
            dataset = dataset_of(X, sample_weight=weights)
            self._fit_layer(dataset, first, incremental, task)
        return self

    def _check_combination(self, place=str):
        """Refuse parameters that cannot work together, before any work.

        ``place(name)`` is what a message calls a parameter: in a stack, a value of a list.
        """
        level, drops = self.corruption_level, self.corruption == "dropout"
        if self.corruption not in (None, *GAUSSIAN) and (level > 1 or (drops and level == 1)):
            raise ValueError(
                f"{place('corruption_level')}={level} is not a probability: with "
                f"{place('corruption')}={self.corruption!r} it must be in [0, 1"
                f"{')' if drops else ']'}."
            )
        if self.sparsity_penalty > 0 and not CODE_ACTIVATIONS[self.activation].bounded:
            raise ValueError(
                f"sparsity_penalty={self.sparsity_penalty} needs units with a bounded activation, "
                f"'logistic' or 'tanh', but {place('activation')}={self.activation!r}."
            )

    # -- a layer, by itself or of a stack -----------------------------------------------

    def _fit_layer(self, dataset, first, incremental, task, name=None):
        """Train on samples, or on codes of the layer below; return whether it was interrupted."""
        architecture = self._new_architecture(dataset.n_features)
        network = Network.autoencoder(**architecture)
        options = _training.Options.of(self, len(dataset), incremental=incremental)
        if first:
            seed = _training.draw_seed(self.random_state)
            state = _training.initial_state(network, options, dataset.dtype, seed)
        else:
            self._check_continues(architecture)
            state = self._state
        dataset = dataset.astype(state.buffers.dtype)
        self._note_statistics(dataset, first, incremental)
        self._drop_training_attributes()  # a callback may copy the estimator
        self._architecture, self._state = architecture, state  # a pair that fits
        objective = _sgd.Objective(
            self.loss,
            alpha=self.alpha,
            sparse_layer=0,
            sparsity_target=self.sparsity_target,
            sparsity_penalty=self.sparsity_penalty,
        )
        name = name or type(self).__name__
        state = _training.train(
            network,
            objective,
            dataset,
            state,
            options,
            name=name,
            corruption=self._corruption(dataset, state.seed),
            in_place=first,
            task=task,
        )
        self._set_state(state)
        measures = options.max_iter > 0 and not incremental  # 0 in a stack with joint="only"
        interrupted = measures and self._measure(dataset, state.seed, name)
        return task.end(lambda: state) or state.interrupted or interrupted

    def _new_architecture(self, n_features):
        """Arguments of `Network.autoencoder` for the network to be trained."""
        return {
            "sizes": [n_features, int(self.n_components)],
            "activations": [self.activation],
            "loss": self.loss,
            "tied": bool(self.tied_weights),
            "output": None,
        }

    @property
    def _lacks_epochs(self):
        return self._state.interrupted

    def _check_continues(self, architecture, size="n_components"):
        """Refuse another network than the fitted one; `size` names the parameter of its size."""
        # The joint training of a stack gives a decoder another output, which may stay.
        if {**architecture, "output": None} != {**self._architecture, "output": None}:
            raise ValueError(
                f"{size}, activation, loss and tied_weights cannot change between fits that "
                "continue each other. Set them back, or fit with warm_start=False."
            )
        architecture["output"] = self._architecture["output"]

    def _continued_as(self, other, size):
        """A copy with the parameters of another, unfitted layer, to be trained further."""
        self._check_continues(other._new_architecture(self.n_features_in_), size)
        # The seed stays that of the weights.
        params = {**other.get_params(), "random_state": self.random_state}
        return copy(self).set_params(**params)

    def _note_statistics(self, dataset, first, incremental):
        """Store what the noise goes by: extremes up to now, deviations of a fit or a stream."""
        kind, earlier = self.corruption, None
        if not first and kind == self._noise["kind"] and (incremental or kind not in GAUSSIAN):
            earlier = self._noise["statistics"]
        self._noise = {"kind": kind, "statistics": statistics(kind, dataset, earlier)}

    def _corruption(self, dataset, seed):
        """The noise on the input, which is this data set."""
        rng = _training.random_stream(seed, _training.POOL)
        learned = self._noise["statistics"]
        return make_corruption(self.corruption, self.corruption_level, learned, dataset, rng)

    def _corrupted(self, X, seed):
        """Samples as training sees them, dense."""
        dataset = ArrayDataset(X)
        block = dataset.take(slice(None))
        out, key = np.empty_like(block), _training.noise_key(seed, 0)
        corruption = self._corruption(dataset, seed)
        _sgd.corrupt_rows(corruption, block, np.arange(len(block)), key, out)
        return out

    def _encode_dataset(self, dataset):
        """The codes of a data set, as one."""
        dataset = dataset.astype(self._params().dtype)
        return dataset.encoded(self._applied(dataset.dtype, stop=1), self._n_features_out)

    def _encoded(self, dataset):
        """The codes of a data set, as one that computes them when asked, in its own type."""
        return EncodedDataset(dataset, self._applied(dataset.dtype, stop=1), self._n_features_out)

    def _decoded(self, dataset):
        """The reconstructions from a data set of codes, in the same way."""
        return EncodedDataset(
            dataset, self._applied(dataset.dtype, start=1), self._architecture["sizes"][0]
        )

    def _reconstructed(self, dataset):
        """The reconstructions of samples, in the same way."""
        return EncodedDataset(dataset, self._applied(dataset.dtype), dataset.n_features)

    @property
    def _trained_layers(self):
        return [self]

    def _with_parameters(self, parameters, output):
        """A copy with other weights and biases of encoder and decoder.

        `output` is the activation of its decoder, None for that of the loss. The moments of
        the solver start afresh.
        """
        other = copy(self)
        other._architecture = {**self._architecture, "output": output}
        buffers = np.zeros_like(self._state.buffers[:1])
        other._state = replace(self._state, buffers=buffers, step=0, unfinished=None)
        network, params = other._network, other._params()
        for k, (weights, bias) in enumerate(parameters):
            network.weights(params, k)[:] = weights
            network.bias(params, k)[:] = bias
        return other

    # -- learned parameters -----------------------------------------------------------

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

    def _applied(self, dtype, **layers):
        """A function that gives the outputs of the layers `start` to `stop` for a data set."""
        return partial(_inference.outputs, self._network, self._params(dtype), **layers)

    def _encode(self, X):
        dataset = ArrayDataset(X)
        return self._applied(dataset.dtype, stop=1)(dataset)

    def _decode(self, codes):
        dataset = ArrayDataset(codes)
        return self._applied(dataset.dtype, start=1)(dataset)

    def _sample_losses(self, X, codes=None):
        """Reconstruction error of each sample, from a data set of codes or from its own code."""
        dataset, objective = ArrayDataset(X), _sgd.Objective(self._architecture["loss"])
        return _inference.sample_losses(
            self._network, self._params(dataset.dtype), objective, dataset, codes=codes
        )
