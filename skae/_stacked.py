"""StackedAutoencoder: a stack of denoising autoencoders, trained layer by layer."""

import warnings
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from skae import _training
from skae._base import BaseAutoencoder, check_parameters, unchanged_on_error
from skae._callbacks import FitTask
from skae._compat import StrOptions, validate_parameter_constraints
from skae._dataset import ArrayDataset, EncodedDataset, dataset_of
from skae._denoising import DenoisingAutoencoder
from skae._kernel import _sgd
from skae._network import Network, decoder_activation
from skae._parameters import (
    POSITIVE,
    POSITIVE_INT,
    AutoencoderParameters,
    CodeParameters,
    TrainingParameters,
    estimator,
    for_each_layer,
    parameter,
)
from skae._threads import single_threaded_blas
from skae._typing import ArrayLike, NDArray, PerLayer

# Number of layers with 'auto', and bounds and ratios for the size of the first. The size is a
# power of two, so that it rarely differs between the folds of a cross-validation.
N_LAYERS, SIZES, UNITS_PER_FEATURE, SAMPLES_PER_UNIT = 2, (64, 512), 8, 2


@estimator
class StackedAutoencoder(
    BaseAutoencoder, AutoencoderParameters, CodeParameters, TrainingParameters
):
    """Stacked autoencoder: layers of features, learned without labels one after the other.

    The first layer is a `DenoisingAutoencoder` of X, the second layer is one of the codes of the
    first, and so on. Each layer is trained while the layers below are fixed [1]_ [2]_. `transform`
    returns the code (latent representation, embedding) of the top layer, `reconstruct` the
    reconstruction from it.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    layers_ : list of DenoisingAutoencoder
        The fitted layers, from the bottom up, with their weights. Their loss curves and
        `reconstruction_r2_` are those of their own training, before any joint training.
    {quality_attributes}
    n_iter_ : int
        Number of epochs, summed over the layers, without joint training.
    loss_curve_ : list of float
        Mean cost of each epoch of the joint training. Only with ``joint=True``.
    loss_ : float
        Last value of `loss_curve_`. Only with ``joint=True``.
    validation_loss_curve_ : list of float
        Mean reconstruction error of the held-out samples after each epoch of the joint training.
        Only with ``joint=True`` and ``early_stopping=True``.
    best_loss_ : float
        Smallest value of `validation_loss_curve_`. Only with ``joint=True`` and
        ``early_stopping=True``.
    {input_attributes}

    See Also
    --------
    DenoisingAutoencoder : A single layer.
    sklearn.pipeline.Pipeline : Chain a scaler, the stack and a classifier.

    Notes
    -----
    Logistic layers with squared error do not stack well: their codes vary little, and the next
    layer learns little more than their mean. Use 'relu' or 'tanh', or cross-entropy.

    While a layer is trained, the codes of the layer below are kept in memory if they fit into the
    `working_memory` of `sklearn.set_config`; otherwise they are computed for each mini-batch.

    Early stopping holds out different samples in each layer, and in joint training.
    `reconstruction_r2_` is computed on the samples that joint training holds out, or else the
    first layer; other layers may have been trained on some of them.

    Ctrl-C ends the training with a warning. The stack then consists of the layers trained so far;
    fitting it again with ``warm_start=True`` trains the missing epochs and layers, and repeats the
    interrupted epoch.

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
    >>> X_train, X_test, y_train, y_test = train_test_split(
    ...     X, y, random_state=0
    ... )
    >>> sae = StackedAutoencoder((128, 64), random_state=0)
    >>> pipe = Pipeline(
    ...     [("scale", MinMaxScaler()), ("sae", sae), ("svm", SVC())]
    ... )
    >>> accuracy = pipe.fit(X_train, y_train).score(X_test, y_test)
    >>> print(f"{accuracy:.2f}")
    0.99

    Codes of all layers as features of a linear model:

    >>> pipe["sae"].set_params(code="all").transform(X_test / 16).shape
    (450, 192)
    >>> from sklearn.linear_model import LogisticRegression
    >>> pipe = pipe.set_params(
    ...     sae__code="all", svm=LogisticRegression(max_iter=1000)
    ... )
    >>> accuracy = pipe.fit(X_train, y_train).score(X_test, y_test)
    >>> print(f"{accuracy:.2f}")
    0.97
    """

    hidden_layer_sizes: PerLayer[int] | Literal["auto"] = parameter(
        default="auto",
        kw_only=False,
        constraint=[StrOptions({"auto"}), "array-like", POSITIVE_INT],
        doc="""'auto', int in [1, inf) or array-like of shape (n_layers,)
        Length of the code of each layer, from the bottom up. 'auto' is two layers. The size of the
        first is the largest power of two that is at most 8 times the number of features and half
        the number of samples, but at least 64 and at most 512; the second is half of it. The first
        call of ``partial_fit`` ignores the number of samples.""",
    )
    # mypy does not accept lists here, because a single layer has one value.
    activation: PerLayer[str] = for_each_layer("activation")  # type: ignore[assignment]
    n_active: PerLayer[int | str] = for_each_layer("n_active")  # type: ignore[assignment]
    loss: PerLayer[str] = for_each_layer("loss")  # type: ignore[assignment]
    corruption: PerLayer[str | None] = for_each_layer("corruption")  # type: ignore[assignment]
    corruption_level: PerLayer[float] = for_each_layer("corruption_level")  # type: ignore[assignment]
    learning_rate_init: PerLayer[float] = for_each_layer("learning_rate_init")  # type: ignore[assignment]
    max_iter: PerLayer[int | str] = for_each_layer("max_iter")  # type: ignore[assignment]
    joint: bool | str = parameter(
        default=False,
        constraint=["boolean", StrOptions({"only"})],
        doc="""bool or 'only'
        Whether to train all layers jointly after the layer-wise training, as one deep autoencoder
        that minimises the reconstruction error of X, with the corruption of the first layer [3]_.
        Each hidden decoder then uses the activation of the layer below, because it reconstructs
        that layer's codes. 'only' skips the layer-wise training, and trains all layers jointly
        from random initial weights.""",
    )
    joint_max_iter: int | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), POSITIVE_INT],
        doc="""int in [1, inf) or 'auto'
        Number of epochs of the joint training; 'auto' as for `max_iter`.""",
    )
    joint_learning_rate_init: float = parameter(
        default=0.001,
        constraint=[POSITIVE],
        doc="""float in (0, inf)
        Learning rate of the first epoch of the joint training.""",
    )

    code: str = parameter(
        default="top",
        constraint=[StrOptions({"top", "all"})],
        doc="""{'top', 'all'}
        Output of `transform`: the code of the top layer, or the concatenated codes of all layers,
        from the bottom up. Linear models often benefit from all codes. This has no effect on
        training, and can be changed after it.""",
    )

    _curves_of = "_joint_state"

    # Layers of an earlier fit that an interrupted fit has not reached.
    _layers_above: list[DenoisingAutoencoder] = []

    @property
    def _lacks_epochs(self):
        return self._interrupted

    @property
    def _title(self):
        """The name of this fit in messages; pretraining has another one."""
        return vars(self).get("_other_title", type(self).__name__)

    def _can_partial_fit(self):
        if self.joint:
            raise AttributeError("partial_fit does not support joint=True")
        return super()._can_partial_fit()

    def _fit(self, X, y, sample_weight, *, incremental):
        layers = self._new_layers()
        first = self._is_first_fit(incremental)
        one_by_one = first or self._joint_state is None
        n_stages = len(layers) * one_by_one + bool(self.joint)
        task = FitTask.fit_of(self, n_stages, incremental)
        with unchanged_on_error(self), single_threaded_blas():
            X, weights = self._check_fit(
                X, sample_weight, layers[0].loss, first=first, incremental=incremental
            )
            if layers[0].n_components is None:  # 'auto'
                fitted = [] if first else [layer._n_features_out for layer in self.layers_]
                set_auto_sizes(layers, X, weights, fitted, incremental)
            # Raise errors about too large sizes before any layer is trained.
            for layer in layers if self._gives_all_codes else layers[-1:]:
                layer._check_transform()
            unrolled([layer._new_architecture(X.shape[1]) for layer in layers])
            task.begin(X, y, weights)
            resumes = not first and self._interrupted and not incremental
            rng = check_random_state(self.random_state)
            seeds = list(self._seeds) if resumes else []  # a RandomState would now give others
            seeds += [_training.draw_seed(rng) for _ in layers[len(seeds) :]]
            for layer, seed in zip(layers, seeds):
                layer.random_state = seed
            n_done = sum(not one._lacks_epochs for one in self.layers_) if resumes else 0
            if not first:
                layers = self._continued(layers)
            self._seeds, self._layers_above = seeds, []
            self._interrupted = False
            self._drop_training_attributes()  # a callback may copy the estimator
            if one_by_one:
                dataset = dataset_of(X, sample_weight=weights)
                self._joint_state = None
                layers = self._fit_layers(layers, dataset, incremental, n_done, task)
            self._set_layers(layers)
            joint_done = resumes and self._joint_state and not self._joint_state.interrupted
            if self.joint and not self._interrupted and not joint_done:
                self._fit_jointly(X, weights, task)
            if not incremental:
                bottom = self.layers_[0]
                dataset = dataset_of(X, bottom._params().dtype, sample_weight=weights)
                seed = (self._joint_state or bottom._state).seed
                self._interrupted |= self._measure(dataset, seed, self._title)
            task.end()
        return self

    def _set_layers(self, layers):
        """Store the layers and the fitted attributes."""
        self.layers_ = layers
        self.n_iter_ = sum(layer.n_iter_ for layer in layers)
        return self

    def _fit_layers(self, layers, dataset, incremental, n_done, task):
        """Train each layer on the codes of the layer below; return the trained layers.

        The first `n_done` layers, completed by an interrupted fit, are not changed.
        """
        for depth, layer in enumerate(layers, start=1):
            name = f"{self._title}, layer {depth} of {len(layers)}"
            layer.n_features_in_ = dataset.n_features
            if depth > n_done:
                stage = task.subtask(
                    "layer",
                    1 if incremental else _training.n_epochs(layer.max_iter, len(dataset)),
                    fitted=partial(self._attributes_with, layers, depth),
                )
                first = not hasattr(layer, "n_iter_")
                self._interrupted = layer._fit_layer(dataset, first, incremental, stage, name)
            if depth < len(layers) and not self._interrupted:
                try:
                    dataset = layer._encode_dataset(dataset)
                except KeyboardInterrupt:
                    warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
                    self._interrupted = True
            if self._interrupted:
                self._layers_above = fitted_of(layers[depth:])
                return layers[:depth]
        return layers

    def _attributes_with(self, layers, depth, state):
        """Return the attributes of a stack of the first `depth` layers, the top one in `state`."""
        *below, top = layers[:depth]
        attributes = {
            "_joint_state": None,
            "_interrupted": state.interrupted or depth < len(layers) or bool(self.joint),
            "_layers_above": fitted_of(layers[depth:]),
        }
        return {**vars(copy(self)._set_layers([*below, top._fitted_as(state)])), **attributes}

    def _fit_jointly(self, X, weights, task):
        """Train the unrolled deep autoencoder, and store its weights in the layers."""
        bottom, network = self.layers_[0], self._network
        options = _training.Options.of(
            self,
            X.shape[0],
            max_iter=self.joint_max_iter,
            learning_rate_init=self.joint_learning_rate_init,
            from_random=self.n_iter_ == 0,  # no layer has been trained by itself
        )
        dtype = bottom.components_.dtype
        dataset = dataset_of(X, dtype, sample_weight=weights)
        bottom._note_statistics(dataset, False, False)
        state = self._joint_state
        if state is None:
            seed = _training.draw_seed(bottom.random_state)
            state = _training.initial_state(network, options, dtype, seed)
        else:
            if len(state.buffers):
                network.check(state.buffers)
            buffers = np.zeros((len(state.buffers) or 1, network.n_params), dtype)
            buffers[1:] = state.buffers[1:]
            state = replace(state, buffers=buffers)
        # The parameters are stored in the layers; the state only adds the solver's moments.
        for layer, (encoder, decoder) in zip(self.layers_, self._places()):
            network.weights(state.params, encoder)[:] = layer.components_
            network.bias(state.params, encoder)[:] = layer.intercept_hidden_
            network.weights(state.params, decoder)[:] = layer.decoder_components_.T
            network.bias(state.params, decoder)[:] = layer.intercept_visible_
        stage = task.subtask("joint training", options.max_iter, fitted=self._joint_attributes)
        state = _training.train(
            network,
            _sgd.Objective(bottom._architecture["loss"], alpha=self.alpha),
            dataset,
            state,
            options,
            name=f"{self._title}, all layers",
            corruption=bottom._corruption(dataset, state.seed),
            in_place=True,
            task=stage,
        )
        self._set_joint_state(state)
        self._interrupted = state.interrupted
        stage.end(is_last=True)

    @property
    def _network(self):
        return unrolled([layer._architecture for layer in self.layers_])

    def _places(self):
        """Return the positions of encoder and decoder of each layer in the unrolled network."""
        last = 2 * len(self.layers_) - 1
        return [(k, last - k) for k in range(len(self.layers_))]

    def _set_joint_state(self, state):
        """Store the state of joint training, and the weights in the layers."""
        network, output = self._network, None
        layers = []
        for layer, place in zip(self.layers_, self._places()):
            parameters = [
                (network.weights(state.params, k), network.bias(state.params, k)) for k in place
            ]
            layers.append(layer._with_parameters(parameters, output))
            output = decoder_activation(layer._architecture["activations"][0])
        self.layers_ = layers
        if len(state.buffers) == 1:  # no moments; the parameters are in the layers
            state = replace(state, buffers=state.buffers[:0])
        self._joint_state = state
        self._set_training_attributes(state)
        return self

    def _joint_attributes(self, state):
        """Return the attributes that the stack would have after `_set_joint_state`."""
        return {**vars(copy(self)._set_joint_state(state)), "_interrupted": state.interrupted}

    def _new_layers(self):
        """Make an unfitted autoencoder for each layer; raise errors about parameters early.

        With 'auto', sizes are None until `set_auto_sizes` gets the shape of X.
        """
        self._validate_params()  # scikit-learn does not if partial_fit continues a fit
        of_a_layer = DenoisingAutoencoder._parameter_constraints
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, str):  # 'auto'
            sizes = [None] * N_LAYERS
        else:
            sizes = list(sizes) if np.ndim(sizes) else [np.asarray(sizes).item()]
            if not sizes:
                raise ValueError("hidden_layer_sizes is empty.")
            check_each(self, "hidden_layer_sizes", sizes, of_a_layer["n_components"])
        lists = {}
        for name, declaration in self._declared.items():
            if declaration.for_each_layer:
                lists[name] = per_layer(name, getattr(self, name), len(sizes))
                check_each(self, name, lists[name], of_a_layer[name])
        names = set(DenoisingAutoencoder._declared) - {"n_components", *lists}
        shared = {name: getattr(self, name) for name in names}
        if self.joint == "only":
            lists["max_iter"] = [0] * len(sizes)
        layers = [
            DenoisingAutoencoder(size, **shared, **{name: lists[name][k] for name in lists})
            for k, size in enumerate(sizes)
        ]
        for k, layer in enumerate(layers):
            layer._check_combination(
                lambda name, k=k: f"{name}[{k}]" if np.ndim(getattr(self, name)) else name
            )
            if k > 0 and layer.loss == "cross_entropy" and layers[k - 1].activation != "logistic":
                raise ValueError(
                    f"loss='cross_entropy' in layer {k + 1} needs codes in [0, 1] from the layer "
                    f"below, whose activation is {layers[k - 1].activation!r}. Use "
                    "activation='logistic' there, or loss='squared_error' in this layer."
                )
        return layers

    def _continued(self, layers):
        """Return the fitted layers with the parameters of new ones, to be trained further."""
        fitted = [*self.layers_, *self._layers_above]
        n_fitted = len(fitted)
        if len(layers) != n_fitted and not (self._interrupted and len(layers) > n_fitted):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes} has {len(layers)} layers, but "
                f"{n_fitted} are fitted. Set it back, or fit with warm_start=False."
            )
        if self._joint_state is not None and not self.joint:
            raise ValueError(
                "The layers have been trained jointly, so they cannot be trained one by one: "
                "set joint=True to go on, or fit with warm_start=False."
            )
        continued = [
            old._continued_as(new, "hidden_layer_sizes") for old, new in zip(fitted, layers)
        ]
        return continued + layers[n_fitted:]

    @property
    def _gives_all_codes(self):
        """Whether `transform` returns the codes of all layers; `code` may be set after the fit."""
        check_parameters(self, "code")
        return self.code == "all"

    @property
    def _n_features_out(self):
        sizes = [layer._n_features_out for layer in self.layers_]
        return sum(sizes) if self._gives_all_codes else sizes[-1]

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Get output feature names.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only used to validate the names of the features of X.

        Returns
        -------
        feature_names_out : ndarray of str objects
            "stackedautoencoder0" and so on; with ``code='all'``, "stackedautoencoder_layer1_0"
            and so on.
        """
        names = super().get_feature_names_out(input_features)
        if not self._gives_all_codes:
            return names
        prefix = type(self).__name__.lower()
        return np.array(
            [
                f"{prefix}_layer{depth}_{k}"
                for depth, layer in enumerate(self.layers_, start=1)
                for k in range(layer._n_features_out)
            ],
            dtype=object,
        )

    def _transformed(self, dataset):
        if self._gives_all_codes:
            return self._all_encoded(dataset)
        return super()._transformed(dataset)

    def _decode(self, codes):
        codes = codes[:, -self.layers_[-1]._n_features_out :]  # the code of the top layer
        return self._toarray(self._decoded(ArrayDataset(codes), self.layers_))

    def _sample_losses(self, X):
        dataset = ArrayDataset(X)
        bottom, *others = self.layers_
        codes = self._decoded(self._encoded(dataset), others)
        with self._team(dataset):
            return bottom._sample_losses(X, codes)

    def _encoded(self, dataset, n_active=None):
        """Return the codes of the top layer, as a lazy data set."""
        *others, top = self.layers_
        for layer in others:
            dataset = layer._encoded(dataset)
        return top._encoded(dataset, n_active)

    def _all_encoded(self, dataset):
        """Return the codes of all layers, concatenated, as a lazy data set."""
        n_active = self.transform_n_active
        encoders, transformers = (
            [layer._applied(dataset.dtype, n_active=n, stop=1) for layer in self.layers_]
            for n in (None, n_active)
        )

        def encode(samples):
            codes = []
            for one, other in zip(encoders, transformers):
                code = one(samples)
                codes.append(code if n_active is None else other(samples))
                samples = ArrayDataset(code)
            return np.concatenate(codes, axis=1)

        return EncodedDataset(dataset, encode, self._n_features_out)

    def _decoded(self, dataset, layers):
        """Decode a data set by the layers, from the top down, as a lazy data set."""
        for layer in reversed(layers):
            dataset = layer._decoded(dataset)
        return dataset

    def _reconstructed(self, dataset):
        """Return the reconstructions of a data set, as a lazy data set."""
        return self._decoded(self._encoded(dataset), self.layers_)

    @property
    def _trained_layers(self):
        return self.layers_


def fitted_of(layers):
    return [layer for layer in layers if hasattr(layer, "n_iter_")]


def unrolled(architectures):
    """Return the deep autoencoder of some layers: all encoders, then all decoders."""
    bottom = architectures[0]
    return Network.autoencoder(
        [bottom["sizes"][0], *(one["sizes"][-1] for one in architectures)],
        [one["activations"][0] for one in architectures],
        bottom["loss"],
        tied=bottom["tied"],
        n_active=[one["n_active"][0] for one in architectures],
    )


def set_auto_sizes(layers, X, weights, fitted, incremental):
    """Set the sizes for 'auto'; `fitted` are the sizes of layers to be trained further."""
    sizes = [*fitted]
    if not sizes:
        most = UNITS_PER_FEATURE * X.shape[1]
        if not incremental:  # the length of a stream is unknown
            n_samples = X.shape[0] if weights is None else np.count_nonzero(weights)
            most = min(most, n_samples // SAMPLES_PER_UNIT)
        sizes.append(1 << int(np.clip(most, *SIZES)).bit_length() - 1)
    while len(sizes) < len(layers):
        sizes.append(max(sizes[-1] // 2, 1))
    for layer, size in zip(layers, sizes):
        layer.n_components = size


def per_layer(name, value, n_layers):
    """Make a list with one value per layer, from such a list or from a single value."""
    if np.ndim(value) == 0:
        return [value.item() if isinstance(value, np.ndarray) else value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} has {len(value)} values for {n_layers} layers: give one value per layer, or "
            "one for all."
        )
    return [item.item() if isinstance(item, np.generic) else item for item in value]


def check_each(estimator, name, values, constraint):
    """Validate each value of a list by the constraint; errors contain its index."""
    for k, value in enumerate(values):
        place = f"{name}[{k}]"
        validate_parameter_constraints(
            {place: constraint}, {place: value}, type(estimator).__name__
        )
