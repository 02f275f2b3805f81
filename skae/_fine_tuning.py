"""Base of classifier and regressor: pretraining, the network, fine-tuning with labels."""

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from skae import _inference, _training
from skae._base import BEST, BaseEncoder, check_weights, unchanged_on_error, weights_of_mean
from skae._callbacks import FitTask
from skae._compat import HasMethods, StrOptions
from skae._dataset import ArrayDataset, Samples, compute_dtype
from skae._denoising import DenoisingAutoencoder
from skae._kernel import _sgd
from skae._network import CODE_ACTIVATIONS, Network
from skae._parameters import (
    BELOW_ONE,
    NOT_NEGATIVE,
    NOT_NEGATIVE_INT,
    POSITIVE,
    POSITIVE_INT,
    TrainingParameters,
    parameter,
    parameter_group,
)
from skae._stacked import StackedAutoencoder, check_each, per_layer, set_auto_sizes
from skae._threads import single_threaded_blas
from skae._typing import NDArray, PerLayer

# Maximum density of a sparse X for which the first layer only uses the features that are not zero.
# At a density of 0.1, with mini-batches of 20, it takes as much time as using all features.
SPARSE_DENSITY = 0.05

# Parameters that define the layers, and their names in a single layer.
OF_A_LAYER = {
    "hidden_layer_sizes": "n_components",
    "activation": "activation",
    "n_active": "n_active",
}


def final_estimator_has(name):
    """Return a check for `available_if`: whether the predicting estimator has this method."""
    return lambda self: (
        self.final_estimator is None
        or hasattr(getattr(self, "final_estimator_", self.final_estimator), name)
    )


def tags_of(estimator):
    """Return the tags of an estimator; None for any other object."""
    try:
        return get_tags(estimator)
    except (AttributeError, TypeError):
        return None


@parameter_group
class FineTuningParameters:
    """Parameters of a stack that is fine-tuned with labels."""

    hidden_layer_sizes: PerLayer[int] | Literal["auto"] | None = parameter(
        default=None,
        kw_only=False,
        constraint=[StrOptions({"auto"}), "array-like", POSITIVE_INT, None],
        doc="""int in [1, inf), array-like of shape (n_layers,), 'auto' or None
        Length of the code of each layer, from the bottom up. 'auto' depends on the shape of X, as
        in `StackedAutoencoder`. None means that of the stack in `pretrain`, or 'auto'.""",
    )
    activation: PerLayer[str] | None = parameter(
        default=None,
        constraint=[StrOptions(set(CODE_ACTIVATIONS)), "array-like", None],
        doc=f"""{{{", ".join(map(repr, CODE_ACTIVATIONS))}}}, list with one per layer, or None
        Activation of the codes. None means that of the stack in `pretrain`, or 'relu'.""",
    )
    n_active: PerLayer[int | str] | None = parameter(
        default=None,
        constraint=[StrOptions({"auto"}), POSITIVE_INT, "array-like", None],
        doc="""int in [1, inf), 'auto', list with one per layer, or None
        Number of units that stay active for each sample in a layer with ``activation='top_k'``;
        'auto' is the square root of its size, rounded up. None means that of the stack in
        `pretrain`, or 'auto'.""",
    )
    pretrain: bool | StackedAutoencoder | FrozenEstimator = parameter(
        default=True,
        constraint=["boolean", StackedAutoencoder, FrozenEstimator],
        doc="""bool, StackedAutoencoder or FrozenEstimator
        How the layers are initialised. True: a `StackedAutoencoder` with these
        `hidden_layer_sizes` and `activation` is fitted on all samples, labelled or not. An
        unfitted `StackedAutoencoder`: a clone of it is fitted in the same way, with the
        `hidden_layer_sizes` and `activation` of this estimator unless they are None. Its
        parameters can be set, and tuned in a search, as e.g. ``pretrain__corruption_level``; if
        `pretrain` is True, this replaces it by a `StackedAutoencoder`. A fitted stack is used
        without refitting, and is not changed; inside a `sklearn.frozen.FrozenEstimator` it stays
        fitted when this estimator is cloned, e.g. by a grid search. False: random weights.""",
    )
    fine_tune: str = parameter(
        default="all",
        constraint=[StrOptions({"all", "top", "top_then_all"})],
        doc="""{'all', 'top', 'top_then_all'}
        Which layers are trained on the labelled samples: 'all' layers, end to end; only the output
        layer ('top'), on fixed codes, without dropout and adversarial training; or first the
        output layer and then all layers, for `max_iter` epochs each.""",
    )
    final_estimator: Any = parameter(
        default=None,
        constraint=[None, HasMethods(["fit", "predict"])],
        doc="""estimator or None
        Estimator that is fitted on the fine-tuned codes of the labelled samples, and predicts
        instead of the output layer.""",
    )
    dropout: PerLayer[float] = parameter(
        default=0.0,
        constraint=[BELOW_ONE, "array-like"],
        doc="""float in [0, 1), or list with one per layer
        Probability that a hidden unit is dropped in fine-tuning [3]_.""",
    )
    input_dropout: float = parameter(
        default=0.0,
        constraint=[BELOW_ONE],
        doc="""float in [0, 1)
        Probability that a feature is dropped in fine-tuning.""",
    )
    max_norm: float | None = parameter(
        default=None,
        constraint=[POSITIVE, None],
        doc="""float in (0, inf) or None
        Maximum Euclidean norm of the weights into a unit, enforced after each step.""",
    )
    adversarial_radius: float = parameter(
        default=0.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Adversarial training by the fast gradient sign method [4]_: each step uses samples whose
        features are perturbed by this amount, in the units of X, in the direction that increases
        the loss. A step takes two thirds more time. On images it helps more than dropout. With a
        large radius, a network that was not pretrained may fail to train.""",
    )
    learning_rate_factors: Sequence[float] | NDArray[Any] | None = parameter(
        default=None,
        constraint=["array-like", None],
        doc="""array-like of shape (n_layers + 1,) or None
        Layer-wise factors of the learning rate, the output layer last, in [0, inf). 0 keeps the
        pretrained weights of a layer. None means 1 for all layers.""",
    )
    n_warmup_epochs: int = parameter(
        default=0,
        constraint=[NOT_NEGATIVE_INT],
        doc="""int in [0, max_iter)
        Number of epochs in which the learning rate rises linearly to `learning_rate_init`.""",
    )
    n_averaged_epochs: int = parameter(
        default=0,
        constraint=[NOT_NEGATIVE_INT],
        doc="""int in [0, inf)
        Weight averaging: the fitted weights are the mean of the weights after each of the last
        `n_averaged_epochs` epochs; 0 keeps the weights of the last epoch. Cannot be used with
        `early_stopping`.""",
    )


class FineTunedStack(BaseEncoder, FineTuningParameters, TrainingParameters):
    """Base of classifier and regressor.

    Subclasses define `_read_labels`, `_labelled`, `_head` and `_metric`.
    """

    _documentation = {
        **BaseEncoder._documentation,
        "fine_tuning_attributes": """\
    validation_loss_curve_ : list of float
        Mean loss of the held-out samples after each epoch, without dropout and penalty.
    best_validation_score_ : float
        Largest value of `validation_scores_`, that of the fitted weights.
    n_iter_ : int
        Number of epochs of fine-tuning, summed over all consecutive fits that continue each other.
    n_labelled_ : int
        Number of labelled samples in the y of the last fit.
    pretrained_ : StackedAutoencoder
        The pretrained stack, before fine-tuning. Only with ``warm_start=True`` or after
        ``partial_fit``, and not with ``pretrain=False``. To keep the stack in other cases, fit it
        first, and pass it as `pretrain`.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer after fine-tuning, the output layer last. Views: copy them to keep
        them.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    final_estimator_ : estimator
        The fitted `final_estimator`. Only if it is not None.
""",
        "references": """\
    .. [1] Y. Bengio, P. Lamblin, D. Popovici, H. Larochelle. Greedy Layer-Wise Training of Deep
       Networks. NIPS 2006.
    .. [2] P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol. Stacked
       Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local
       Denoising Criterion. Journal of Machine Learning Research 11, 3371-3408, 2010.
    .. [3] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov. Dropout: A
       Simple Way to Prevent Neural Networks from Overfitting. Journal of Machine Learning
       Research 15, 1929-1958, 2014.
    .. [4] I. Goodfellow, J. Shlens, C. Szegedy. Explaining and Harnessing Adversarial Examples.
       ICLR 2015.
""",
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @property
    def _lacks_epochs(self):
        output_only = self.fine_tune == "top_then_all" and self._state.output_only
        return self._interrupted or self._state.interrupted or output_only

    def _can_partial_fit(self):
        if self.final_estimator is not None:
            raise AttributeError("partial_fit does not support a final_estimator")
        return super()._can_partial_fit()

    def _perturbs(self):
        """Return whether a step perturbs the features; the regressor has no smoothness_radius."""
        return self.adversarial_radius > 0 or getattr(self, "smoothness_radius", 0) > 0

    def _n_nonzero(self, X):
        """Return the maximum number of nonzero features of a sample that a step uses.

        0 if it uses all features: if they are perturbed, or X is dense or not very sparse.
        """
        if self._perturbs() or not issparse(X) or X.nnz > SPARSE_DENSITY * math.prod(X.shape):
            return 0
        return int(np.clip(np.diff(X.indptr).max(), 1, X.shape[1]))

    @property
    def _no_labels(self):
        return f"y has no labelled samples: all are {self._unlabelled_as}, or have zero weight."

    # -- fit ----------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set the parameters of this estimator.

        Parameters
        ----------
        **params : dict
            Estimator parameters. ``pretrain__<name>`` sets a parameter of the stack in `pretrain`;
            if `pretrain` is True, it is replaced by a `StackedAutoencoder`.

        Returns
        -------
        self : object
            The estimator itself.
        """
        pretrain = params.get("pretrain", self.pretrain)
        own = isinstance(pretrain, bool | np.bool_) and pretrain
        if own and any(name.startswith("pretrain__") for name in params):
            params["pretrain"] = StackedAutoencoder()
        return super().set_params(**params)

    def _fit(self, X, y, sample_weight, *, incremental=False):
        first = self._is_first_fit(incremental)
        starts = first or self._interrupted  # fine-tuning has not begun yet
        stack, layers = self._check_parameters()
        pretrains = starts and stack is not None and not hasattr(stack, "layers_")
        task = FitTask.fit_of(self, self._n_stages(pretrains, starts), incremental)
        with unchanged_on_error(self):
            if first:
                self._interrupted = False
            given, n_least = X, 2 if pretrains and not incremental else 1
            X = self._validate(X, reset=first, ensure_min_samples=n_least)
            if pretrains and X.shape[0] < 2:
                raise ValueError(
                    "The first call of partial_fit pretrains the layers on its X, which has 1 "
                    "sample. Give at least 2 samples, or set pretrain=False."
                )
            if starts and hasattr(stack, "layers_"):  # X must have the features of the stack
                header = given.header if isinstance(given, Samples) else given
                validate_data(stack, header, reset=False, skip_check_array=True)
            weights = check_weights(sample_weight, X)
            labels = self._read_labels(X, y, weights, first, incremental)
            if not labels.mask.any():
                if incremental and not first:
                    return self  # nothing to fine-tune on
                raise ValueError(self._no_labels)
            self.n_labelled_ = labels.n_labelled
            if self.verbose:
                print(
                    f"[{type(self).__name__}] {labels.n_labelled} of {X.shape[0]} samples are "
                    "labelled"
                )
            if layers[0].n_components is None:  # 'auto'
                fitted = [] if first else self._architecture["sizes"][1:-1]
                set_auto_sizes(layers, X, weights, fitted, incremental)
                if pretrains:
                    with_attributes(stack, hidden_layer_sizes=shape_of(layers)[0])
            # Fits that continue each other use the dtype of the first.
            dataset = labels.dataset(X, compute_dtype(X) if first else self._params().dtype)
            samples = self._samples_to_train_on(dataset, labels, X, weights)
            options = _training.Options.of(self, len(samples), incremental=incremental)
            task.begin(dataset.X, labels.y, dataset.sample_weight, self._fitted_attributes)
            with single_threaded_blas():
                if starts:
                    _training.split(dataset, options, 0)  # raise errors before pretraining
                    state = self._start(stack, layers, X, weights, labels.head, options, task)
                else:
                    self._check_continues(layers, labels.head)
                    state = self._state_to_train()
                if not self._interrupted:
                    samples.pseudo_labels = self._pseudo_labels(
                        samples, labels, options, state.seed
                    )
                    state = self._fine_tune(samples, labels.head, state, options, starts, task)
                self._set_state(state)
            vars(self).pop("final_estimator_", None)  # of an earlier fit
            if self.final_estimator is not None:
                self._fit_final_estimator(dataset, labels.y, task)
            task.end()
        return self

    def _n_stages(self, pretrains, starts):
        """Return the number of subtasks of a fit, for callbacks."""
        in_output = starts or (self._state.output_only and self._state.interrupted)
        twice = in_output and self.fine_tune == "top_then_all"
        return pretrains + 1 + twice + (self.final_estimator is not None)

    def _check_parameters(self):
        """Validate the parameters; return the stack to start from, if any, and its layers.

        They are fitted only if `pretrain` is a fitted stack.
        """
        self._validate_params()
        stack = self.pretrain
        shape = {
            name: getattr(self, name) for name in OF_A_LAYER if getattr(self, name) is not None
        }
        if isinstance(stack, FrozenEstimator):
            stack = stack.estimator
            if not (isinstance(stack, StackedAutoencoder) and hasattr(stack, "layers_")):
                raise ValueError(
                    "A FrozenEstimator in pretrain must hold a fitted StackedAutoencoder, got "
                    f"{stack!r}."
                )
        for name, values in shape.items():
            if np.ndim(values):
                constraint = DenoisingAutoencoder._parameter_constraints[OF_A_LAYER[name]]
                check_each(self, name, values, constraint)
        if hasattr(stack, "layers_"):
            layers = stack.layers_
            its = dict(zip(OF_A_LAYER, shape_of(layers)))
            for name, mine in shape.items():
                pairs = zip(per_layer(name, mine, len(layers)), its[name])
                # None is an n_active without effect.
                if any(one != other for one, other in pairs if other is not None):
                    raise ValueError(
                        f"{name}={mine!r}, but that of the fitted stack in pretrain is "
                        f"{its[name]}. Set it to None to use that of the stack."
                    )
        else:
            given = isinstance(stack, StackedAutoencoder)
            stack = clone(stack) if given else StackedAutoencoder()
            layers = with_attributes(stack, **shape)._new_layers()
        n_layers = len(layers)
        dropout = per_layer("dropout", self.dropout, n_layers)
        check_each(self, "dropout", dropout, [BELOW_ONE])
        if self.learning_rate_factors is not None:
            name = "learning_rate_factors"
            factors = per_layer(name, self.learning_rate_factors, n_layers + 1)
            check_each(self, name, factors, [NOT_NEGATIVE])
        if self.fine_tune == "top" and (
            self.input_dropout
            or self._perturbs()
            or self.learning_rate_factors is not None
            or np.any(self.dropout)
        ):
            raise ValueError(
                "dropout, input_dropout, adversarial_radius, smoothness_radius and "
                "learning_rate_factors act on layers that fine_tune='top' does not train: leave "
                "them out, or fine-tune 'all'."
            )
        if self.final_estimator is not None:
            kind, final = get_tags(self).estimator_type, tags_of(self.final_estimator)
            if final is None or final.estimator_type != kind:
                raise ValueError(
                    f"The 'final_estimator' parameter should be a {kind}. Got "
                    f"{self.final_estimator!r}"
                )
        if self.n_averaged_epochs and self.early_stopping:
            raise ValueError(
                "n_averaged_epochs averages the last epochs, early_stopping=True takes the best "
                "one: use one of them."
            )
        return (stack if self.pretrain else None), layers

    def _check_continues(self, layers, head):
        """Refuse a change of the fitted network."""
        sizes, activations, n_active = shape_of(layers)
        if (
            sizes != self._architecture["sizes"][1:-1]
            or activations != self._architecture["activations"][:-1]
            or n_active != self._architecture["n_active"]
            or type(head).__name__ != self._output
        ):
            raise ValueError(
                "hidden_layer_sizes, activation, n_active and the kind of y (classes, labels) "
                "cannot change between fits that continue each other. Set them back, or fit with "
                "warm_start=False."
            )

    def _pretrained(self, stack, X, weights, task, fitted):
        """Return the stack to start from: fitted now, or a copy of a fitted one."""
        if hasattr(stack, "layers_"):
            return deepcopy(stack)
        begun = self.pretrained_ if self._interrupted else None
        if begun is not None and not begun._lacks_epochs:  # interrupted before fine-tuning
            stack = copy(begun)
        else:
            if not isinstance(self.pretrain, StackedAutoencoder):
                stack.set_params(verbose=self.verbose)
            if begun is not None:  # resume it
                its = {"random_state": begun.random_state, "_to_resume": begun._to_resume or {}}
                stack = with_attributes(copy(begun), **{**vars(stack), **its})
            stack._other_title = f"{type(self).__name__}, pretraining"
            with task.delegated("pretrain", stack, fitted):
                stack.fit(X, sample_weight=weights)
            del stack._other_title
        if hasattr(self, "feature_names_in_"):
            stack.feature_names_in_ = self.feature_names_in_
        return stack

    def _start(self, stack, layers, X, weights, head, options, task):
        """Pretrain, or use a pretrained stack; return the initial state of the network."""
        pretrains = stack is not None and not hasattr(stack, "layers_")
        if self._interrupted:  # drawing again from a RandomState would give another seed
            seed = self._state.seed
        else:
            rng = check_random_state(self.random_state)
            own = not isinstance(self.pretrain, StackedAutoencoder)
            if pretrains and (own or stack.random_state is None):
                with_attributes(stack, random_state=_training.draw_seed(rng))
            seed = _training.draw_seed(rng)
        sizes, activations, n_active = shape_of(layers)
        architecture = {
            "sizes": [X.shape[1], *sizes, head.n_outputs],
            "activations": [*activations, head.activation],
            "n_active": n_active,
            "by_input": [0] if self._n_nonzero(X) else [],
        }
        start = (architecture, type(head).__name__, options, compute_dtype(X), seed)

        def fitted(part):
            other = copy(self)
            state = other._set_start(part, True, *start)
            return vars(other._set_state(state))

        if stack is not None:
            stack = self._pretrained(stack, X, weights, task, fitted)
        return self._set_start(stack, pretrains and stack._lacks_epochs, *start)

    def _set_start(self, stack, interrupted, architecture, output, options, dtype, seed):
        """Store the state before fine-tuning, or the state of an interrupted pretraining."""
        network = Network(**architecture)
        state = _training.initial_state(network, options, dtype, seed)
        # The output layer starts at zero, as in the Theano tutorials, so the first predictions
        # are uniform.
        network.weights(state.params, -1)[:] = 0
        for k, layer in enumerate([] if stack is None else stack.layers_):
            network.weights(state.params, k)[:] = layer.components_
            network.bias(state.params, k)[:] = layer.intercept_hidden_
        # A callback may copy the estimator: set the state together with its architecture.
        self._architecture, self._state = architecture, state
        vars(self).pop("pretrained_", None)
        if stack is not None and (self.warm_start or options.incremental or interrupted):
            self.pretrained_ = stack
        self._interrupted, self._output = interrupted, output
        return state

    def _samples_to_train_on(self, dataset, labels, X, weights):
        """Return the data set to fine-tune on: labelled samples, possibly unlabelled ones too."""
        return dataset

    def _pseudo_labels(self, dataset, labels, options, seed):
        """Return the `PseudoLabels` of the unlabelled samples, or None."""

    def _objective(self, dataset, head, options, seed):
        return _sgd.Objective(
            head.loss, alpha=self.alpha, adversarial_radius=self.adversarial_radius
        )

    def _fine_tune(self, dataset, head, state, options, starts, task):
        """Train the output layer, all layers, or one after the other; return the state."""
        network = self._network
        in_output = starts or (state.output_only and state.interrupted)
        if self.fine_tune == "top" or (self.fine_tune == "top_then_all" and in_output):
            state = self._fine_tune_output(state, dataset, head, options, task)
            if self.fine_tune == "top" or state.interrupted:
                return state
        if state.output_only:
            # The solver has no moments for the other layers yet: reset all of them.
            state = replace(
                state, buffers=state.buffers[:1], best_loss=np.inf, n_stale=0, output_only=False
            ).as_complete()
        network.layers["dropout"][1:] = per_layer("dropout", self.dropout, len(network) - 1)
        if self.learning_rate_factors is not None:
            network.layers["learning_rate_scale"] = self.learning_rate_factors
        n_nonzero = self._n_nonzero(dataset.X)
        if n_nonzero and network.layers["transposed"][0]:
            network.list_features(n_nonzero)
        stage = task.subtask("fine-tune", options.max_iter)
        state = _training.train(
            network,
            self._objective(dataset, head, options, state.seed),
            dataset,
            state,
            options,
            name=type(self).__name__,
            corruption=_sgd.Corruption("dropout", self.input_dropout),
            score=head.score,
            in_place=starts,
            task=stage,
        )
        stage.end(lambda: state)
        return state

    def _fine_tune_output(self, state, dataset, head, options, task):
        """Train only the output layer, on the codes of the top layer."""
        network = self._network
        if not state.output_only:
            state = state.as_complete()
        codes = self._codes(dataset, state.params)
        if codes.pseudo_labels is not None:  # for all epochs of this stage
            codes.pseudo_labels = replace(codes.pseudo_labels, n_epochs=np.inf)
        place = self._output_layer_place()
        stage = task.subtask(
            "fine-tune output layer",
            options.max_iter,
            fitted=partial(self._attributes_with_output, state),
        )
        trained = _training.train(
            network.output_layer(),
            _sgd.Objective(head.loss, alpha=self.alpha),
            codes,
            replace(state, buffers=np.ascontiguousarray(state.buffers[:, place])),
            options,
            name=f"{type(self).__name__}, output layer",
            score=head.score,
            in_place=True,
            task=stage,
        )
        stage.end(lambda: trained)
        return self._with_output(state, trained)

    def _codes(self, dataset, params):
        """Return the codes of the top layer, as a data set."""
        encode = partial(_inference.outputs, self._network, params, stop=-1)
        return dataset.encoded(encode, self._n_features_out)

    def _output_layer_place(self):
        """Return the indices of the output layer's parameters in the flat buffer."""
        return np.r_[self._network.span(-1, "weight"), self._network.span(-1, "bias")]

    def _with_output(self, state, trained):
        """Combine a state of the whole network with a trained state of the output layer."""
        buffers = np.zeros((len(trained.buffers), state.buffers.shape[1]), state.buffers.dtype)
        buffers[0] = state.params
        buffers[:, self._output_layer_place()] = trained.buffers
        return replace(trained, buffers=buffers, output_only=True)

    def _attributes_with_output(self, state, trained):
        """Return the fitted attributes with the output layer of `trained`."""
        return self._fitted_attributes(self._with_output(state, trained))

    def _fit_final_estimator(self, dataset, y, task):
        final, given = clone(self.final_estimator), {}
        if dataset.sample_weight is not None and has_fit_parameter(final, "sample_weight"):
            given["sample_weight"] = dataset.sample_weight
        with task.delegated("final estimator", final):
            final.fit(self._codes(dataset, self._params()).toarray(), y, **given)
        self.final_estimator_ = final

    def _set_best(self, state):
        self.best_validation_score_ = -state.best_loss

    def _state_to_train(self):
        """Return the state for further training; `_set_state` may rescale the output layer."""
        return self._state

    # -- use ----------------------------------------------------------------------------

    @property
    def _network(self):
        return Network(**self._architecture)

    @property
    def validation_scores_(self) -> list[float]:
        return self._curve("validation_scores", *BEST)

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """Weights of each layer, shapes (n_in, n_out)."""
        check_is_fitted(self)
        network, params = self._network, self._params()
        return [network.weights(params, k).T for k in range(len(network))]

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """Biases of each layer, shapes (n_out,)."""
        check_is_fitted(self)
        network, params = self._network, self._params()
        return [network.bias(params, k) for k in range(len(network))]

    @property
    def _n_features_out(self):
        return self._architecture["sizes"][-2]

    def _encode(self, X):
        dataset = ArrayDataset(X)
        return _inference.outputs(self._network, self._params(dataset.dtype), dataset, stop=-1)

    def _predict_by(self, method, X):
        """Call a method of the final estimator, or of the head, for the samples of X."""
        X = self._check_X(X)
        if hasattr(self, "final_estimator_"):
            return getattr(self.final_estimator_, method)(self._encode(X))
        head, (*hidden, _) = self._head, self._architecture["activations"]
        linear = Network(**{**self._architecture, "activations": [*hidden, "identity"]})
        dataset = ArrayDataset(X)
        logits = _inference.outputs(linear, self._params(dataset.dtype), dataset)
        return getattr(head, method)(logits.astype(head.dtype or logits.dtype, copy=False))

    def _score(self, X, y, sample_weight):
        """Compute the metric on the labelled samples."""
        predicted = self.predict(X)
        weights = weights_of_mean(sample_weight, predicted)
        y, labelled = self._labelled(predicted, y)
        weights = None if weights is None else weights[labelled]
        if not labelled.any() or (weights is not None and not weights.any()):
            raise ValueError(self._no_labels)
        return float(self._metric(y, predicted[labelled], sample_weight=weights))


def with_attributes(stack, **values):
    """Set attributes of a stack, even if they are no parameters of its subclass; return it."""
    vars(stack).update(values)
    return stack


def shape_of(layers):
    """Return the code lengths, the activations and `n_active` of the layers."""
    sizes = [int(one.n_components) for one in layers]
    return sizes, [one.activation for one in layers], [one._n_active for one in layers]
