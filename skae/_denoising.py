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
    CodeParameters,
    TrainingParameters,
    estimator,
    parameter,
)
from skae._typing import NDArray


@estimator
class DenoisingAutoencoder(
    BaseAutoencoder, AutoencoderParameters, CodeParameters, TrainingParameters
):
    """Denoising autoencoder: one layer of features, learned without labels.

    An encoder ``y = s(x~ W^T + b)`` and a decoder ``z = t(y W' + b')`` are trained to reconstruct
    each sample x from a corrupted version x~ of it. Features that achieve this must capture the
    dependencies between the columns of X [1]_. `transform` returns the code y (latent
    representation, embedding) of an uncorrupted sample, `reconstruct` its reconstruction z.

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
        averaged over the epoch while the weights change.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_loss_curve_ : list of float
        Mean reconstruction error of the held-out samples after each epoch, without corruption.
        Only with ``early_stopping=True``.
    best_loss_ : float
        Smallest value of `validation_loss_curve_`. Only with ``early_stopping=True``.
    {quality_attributes}
    dead_fraction_ : float
        Fraction of dead units: those that are not active for any of these samples. Only with
        ``activation='top_k'``. Set by ``fit``, removed by ``partial_fit``.
    n_iter_ : int
        Number of epochs, summed over all consecutive fits that continue each other.
    {input_attributes}

    See Also
    --------
    StackedAutoencoder : Several layers on top of each other.
    sklearn.neural_network.BernoulliRBM : Features of binary data, by a restricted Boltzmann
        machine.
    sklearn.decomposition.PCA : The linear case, exact and faster.

    Notes
    -----
    The noise is a hash of the seed, the epoch, the sample and the feature: it does not depend on
    the order of samples or the size of mini-batches. The sparsity penalty is that of [2]_.

    The initial weights are uniform: within ``4 sqrt(6 / (n_features + n_components))`` for
    'logistic', as in the Theano tutorial [3]_, ``sqrt(6 / n_in)`` for 'relu' and 'top_k' (He et
    al. 2015), n_in being the layer's inputs, and ``sqrt(6 / (n_features + n_components))``
    otherwise (Glorot and Bengio 2010).

    A top-k code keeps the largest units of each sample [4]_. Only the product with the encoder is
    dense if at most an eighth of the units are active: the decoder and both gradients use the
    active units alone. Against dead units, which are never active, the initial biases reconstruct
    the mean sample, the initial decoder has the directions of the encoder [5]_, and more units are
    active at first. Less corruption, and ``learning_rate_init=0.001`` with
    ``learning_rate='cosine'``, leave fewer of them dead than the defaults, see `dead_fraction_`.

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
    .. [4] Alireza Makhzani, Brendan Frey. k-Sparse Autoencoders. ICLR 2014.
    .. [5] L. Gao, T. Dupre la Tour, H. Tillman, G. Goh, R. Troll, A. Radford, I. Sutskever,
       J. Leike, J. Wu. Scaling and evaluating sparse autoencoders. ICLR 2025.

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
        Length of the code. A code shorter than the number of features compresses; a longer one
        (over-complete) works with corruption or a sparsity penalty.""",
    )

    def _fit(self, X, y, sample_weight, *, incremental):
        self._validate_params()  # scikit-learn does not if partial_fit continues a fit
        self._check_combination()
        self._check_transform()
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
        """Raise an error early for incompatible parameters.

        ``place(name)`` returns the name of a parameter in messages: in a stack, with an index.
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

    def _check_transform(self):
        """Raise an error early if `transform` could not return these codes."""
        if self.transform_n_active is not None:
            Network.autoencoder(**self._new_architecture(1)).with_active(self.transform_n_active)

    # -- a layer, alone or in a stack -----------------------------------------------

    def _fit_layer(self, dataset, first, incremental, task, name=None):
        """Train on samples or on codes of the layer below; return whether it was interrupted."""
        architecture = self._new_architecture(dataset.n_features)
        network = Network.autoencoder(**architecture)
        options = _training.Options.of(
            self, len(dataset), incremental=incremental, from_random=True
        )
        if first:
            seed = _training.draw_seed(self.random_state)
            state = _training.initial_state(network, options, dataset.dtype, seed)
            if self.activation == "top_k":
                with np.errstate(over="ignore", invalid="ignore"):  # training raises the error
                    network.centre(state.params, dataset.moments(by_weight=True)["mean"])
        else:
            self._check_continues(architecture)
            state = self._state
        dataset = dataset.astype(state.buffers.dtype)
        self._note_statistics(dataset, first, incremental)
        self._drop_training_attributes()  # a callback may copy the estimator
        self._architecture, self._state = architecture, state  # always consistent
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
        measures = options.max_iter > 0 and not incremental  # 0 epochs with joint="only"
        interrupted = measures and self._measure(dataset, state.seed, name)
        return task.end(lambda: state) or state.interrupted or interrupted

    def _dead_fraction(self, dataset, index):
        if self.activation != "top_k":
            return None
        return _inference.dead_fraction(self._encoded(dataset), index)

    def _new_architecture(self, n_features):
        """Return the arguments of `Network.autoencoder` for the network to train."""
        return {
            "sizes": [n_features, int(self.n_components)],
            "activations": [self.activation],
            "n_active": [self._n_active],
            "loss": self.loss,
            "tied": bool(self.tied_weights),
            "output": None,
        }

    @property
    def _n_active(self):
        """The parameter `n_active`, None if it has no effect."""
        if self.activation != "top_k":
            return None
        return "auto" if self.n_active == "auto" else int(self.n_active)

    @property
    def _lacks_epochs(self):
        return self._state.interrupted

    def _check_continues(self, architecture, size="n_components"):
        """Refuse a change of the fitted network; `size` is the parameter of its size."""
        # Joint training of a stack changes the output of a decoder, which is not a change here.
        if {**architecture, "output": None} != {**self._architecture, "output": None}:
            raise ValueError(
                f"{size}, activation, n_active, loss and tied_weights cannot change between fits "
                "that continue each other. Set them back, or fit with warm_start=False."
            )
        architecture["output"] = self._architecture["output"]

    def _continued_as(self, other, size):
        """Return a copy with the parameters of an unfitted layer, to be trained further."""
        self._check_continues(other._new_architecture(self.n_features_in_), size)
        # Keep the seed that the weights were drawn with.
        params = {**other.get_params(), "random_state": self.random_state}
        return copy(self).set_params(**params)

    def _note_statistics(self, dataset, first, incremental):
        """Store the statistics for the noise.

        Extremes are those of all samples so far; deviations those of this fit, or of a stream.
        """
        kind, earlier = self.corruption, None
        if not first and kind == self._noise["kind"] and (incremental or kind not in GAUSSIAN):
            earlier = self._noise["statistics"]
        self._noise = {"kind": kind, "statistics": statistics(kind, dataset, earlier)}

    def _corruption(self, dataset, seed):
        """Make the noise on the input, which is this data set."""
        rng = _training.random_stream(seed, _training.POOL)
        learned = self._noise["statistics"]
        return make_corruption(self.corruption, self.corruption_level, learned, dataset, rng)

    def _corrupted(self, X, seed):
        """Return dense samples, corrupted as in training."""
        dataset = ArrayDataset(X)
        block = dataset.take(slice(None))
        out, key = np.empty_like(block), _training.noise_key(seed, 0)
        corruption = self._corruption(dataset, seed)
        _sgd.corrupt_rows(corruption, block, np.arange(len(block)), key, out)
        return out

    def _encode_dataset(self, dataset):
        """Return the codes of a data set, as a data set."""
        dataset = dataset.astype(self._params().dtype)
        return dataset.encoded(self._applied(dataset.dtype, stop=1), self._n_features_out)

    def _encoded(self, dataset, n_active=None):
        """Return the codes of a data set, as a lazy data set of the same dtype."""
        encode = self._applied(dataset.dtype, n_active=n_active, stop=1)
        return EncodedDataset(dataset, encode, self._n_features_out)

    def _decoded(self, dataset):
        """Return the reconstructions from a data set of codes, as a lazy data set."""
        return EncodedDataset(
            dataset, self._applied(dataset.dtype, start=1), self._architecture["sizes"][0]
        )

    def _reconstructed(self, dataset):
        """Return the reconstructions of a data set, as a lazy data set."""
        return EncodedDataset(dataset, self._applied(dataset.dtype), dataset.n_features)

    @property
    def _trained_layers(self):
        return [self]

    def _with_parameters(self, parameters, output):
        """Return a copy with other weights and biases of encoder and decoder.

        `output` is the activation of the decoder, None for that of the loss. The moments of the
        solver are reset.
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

    def _applied(self, dtype, *, n_active=None, **layers):
        """Return a function that computes outputs of the layers `start` to `stop`.

        `n_active` is the number of active units in a top-k code, if it differs from training.
        """
        network = self._network if n_active is None else self._network.with_active(n_active)
        return partial(_inference.outputs, network, self._params(dtype), **layers)

    def _decode(self, codes):
        dataset = ArrayDataset(codes)
        return self._applied(dataset.dtype, start=1)(dataset)

    def _sample_losses(self, X, codes=None):
        """Compute the reconstruction error of each sample, from its code or from given codes."""
        dataset, objective = ArrayDataset(X), _sgd.Objective(self._architecture["loss"])
        return _inference.sample_losses(
            self._network, self._params(dataset.dtype), objective, dataset, codes=codes
        )
