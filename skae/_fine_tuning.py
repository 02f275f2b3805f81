"""Base of classifier and regressor: pretraining, the network, fine-tuning with labels."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.validation import check_consistent_length, check_is_fitted, has_fit_parameter

from skae import _inference, _training
from skae._base import BaseEncoder, check_weights, unchanged_on_error
from skae._callbacks import FitTask
from skae._compat import HasMethods, StrOptions
from skae._dataset import ArrayDataset, compute_dtype
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
from skae._stacked import StackedAutoencoder, per_layer
from skae._threads import single_threaded_blas
from skae._typing import NDArray, PerLayer


class Labels(SimpleNamespace):
    """The labelled samples, as an estimator reads them from y.

    Attributes
    ----------
    mask : ndarray of bool, shape (n_samples,)
        Which samples are labelled. The other attributes are about those alone.
    y : ndarray of shape (n_labelled,) or (n_labelled, n_outputs)
    targets : ndarray of shape (n_labelled, n_outputs)
    strata : ndarray of shape (n_labelled,) or None
    sample_weight : ndarray of shape (n_labelled,) or None
    head : Head
    """

    def dataset(self, X, dtype):
        """The labelled samples of X, for training."""
        return ArrayDataset(
            X if self.mask.all() else X[self.mask],
            dtype,
            target=np.require(self.targets, dtype, ["C_CONTIGUOUS", "ALIGNED"]),
            sample_weight=self.sample_weight,
            strata=self.strata,
        )


def check_y(estimator, X, y, **options):
    """Validate y: one value a sample, or several columns."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            "is None."
        )
    y = check_array(y, ensure_2d=False, input_name="y", **options)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    return y


def final_estimator_has(name):
    """For `available_if`: whether the estimator that predicts has this method."""
    return lambda self: (
        self.final_estimator is None
        or hasattr(getattr(self, "final_estimator_", self.final_estimator), name)
    )


@parameter_group
class FineTuningParameters:
    """Parameters of a stack that is fine-tuned with labels."""

    hidden_layer_sizes: PerLayer[int] | None = parameter(
        default=None,
        kw_only=False,
        constraint=["array-like", POSITIVE_INT, None],
        doc="""int in [1, inf), array-like of shape (n_layers,) or None
        Length of the code of each layer, from the bottom up. None is (1000, 1000), or that of
        the stack in `pretrain`.""",
    )
    activation: PerLayer[str] | None = parameter(
        default=None,
        constraint=[StrOptions(set(CODE_ACTIVATIONS)), "array-like", None],
        doc=f"""{{{", ".join(map(repr, CODE_ACTIVATIONS))}}}, list with one per layer, or None
        Activation of the codes. None is 'relu', or that of the stack in `pretrain`.""",
    )
    pretrain: bool | StackedAutoencoder | FrozenEstimator = parameter(
        default=True,
        constraint=["boolean", StackedAutoencoder, FrozenEstimator],
        doc="""bool, StackedAutoencoder or FrozenEstimator
        How the layers are initialised. True: a `StackedAutoencoder` of these `hidden_layer_sizes`
        and `activation` is fitted on all samples, labelled or not. An unfitted
        `StackedAutoencoder`: a clone of it is fitted so; its parameters can be searched as
        ``pretrain__corruption_level``. A fitted one is used as it is, and not changed; inside a
        `sklearn.frozen.FrozenEstimator` it stays fitted when this estimator is cloned, e.g. by a
        grid search. False: random weights.""",
    )
    fine_tune: str = parameter(
        default="all",
        constraint=[StrOptions({"all", "top", "top_then_all"})],
        doc="""{'all', 'top', 'top_then_all'}
        Which layers the labelled samples train: all of them end to end; the output layer alone,
        on fixed codes (without dropout and adversarial training); or first the output layer and
        then all, `max_iter` epochs each.""",
    )
    final_estimator: Any = parameter(
        default=None,
        constraint=[None, HasMethods(["fit", "predict"])],
        doc="""estimator or None
        Fitted on the fine-tuned codes of the labelled samples, to predict in place of the output
        layer.""",
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
        Largest Euclidean norm of the weights into a unit, enforced after each step.""",
    )
    adversarial_radius: float = parameter(
        default=0.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Adversarial training by the fast gradient sign method: each step is taken at samples whose
        features are moved by this much, in the units of X, in the direction that raises the loss
        [4]_. A step takes two thirds more time. On images it helps more than dropout; with a
        large radius, a network that was not pretrained may fail to train.""",
    )
    learning_rate_factors: Sequence[float] | NDArray[Any] | None = parameter(
        default=None,
        constraint=["array-like", None],
        doc="""array-like of shape (n_layers + 1,) or None
        Factor of the learning rate of each layer, the output layer last, in [0, inf). 0 leaves a
        layer as pretrained. None is 1 for all.""",
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
        Weight averaging: the fitted weights are the mean of those after each of so many last
        epochs; 0 keeps the weights of the last one. Not with `early_stopping`.""",
    )


class FineTunedStack(BaseEncoder, FineTuningParameters, TrainingParameters):
    """Base of classifier and regressor. Subclasses have `_read_labels` and `_head`."""

    _documentation = {
        **BaseEncoder._documentation,
        "fine_tuning_attributes": """\
    validation_loss_curve_ : list of float
        Mean loss of the held-out samples after each epoch, without dropout and penalty.
    best_validation_score_ : float
        Largest value of `validation_scores_`, that of the fitted weights.
    n_iter_ : int
        Number of epochs of fine-tuning, over all calls that continued each other.
    pretrained_ : StackedAutoencoder
        The pretrained stack, before fine-tuning. Not with ``pretrain=False``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer after fine-tuning, the output layer last. Views: copy them to keep
        them.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    final_estimator_ : estimator
        The fitted `final_estimator`. Only with one.
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

    def _can_partial_fit(self):
        if self.final_estimator is not None:
            raise AttributeError("partial_fit does not support a final_estimator")
        return super()._can_partial_fit()

    # -- fit ----------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, *, incremental=False):
        options = _training.Options.of(self, incremental=incremental)
        first = self._is_first_fit(incremental)
        stack = self._check_parameters()
        task = FitTask.fit_of(self, self._n_stages(stack, first), incremental)
        with unchanged_on_error(self):
            X = self._validate(X, reset=first)
            weights = check_weights(sample_weight, X)
            labels = self._read_labels(X, y, weights, first)
            if not labels.mask.any():
                if incremental and not first:
                    return self  # a batch without labels has nothing to fine-tune by
                raise ValueError(
                    f"y has no labelled samples: all are {self._unlabelled_as}, or have zero "
                    "weight."
                )
            # Fits that continue each other are computed in the type of the first.
            dataset = labels.dataset(X, compute_dtype(X) if first else self._params().dtype)
            task.begin(dataset.X, labels.y, dataset.sample_weight, self._fitted_attributes)
            with single_threaded_blas():
                if first:
                    _training.split(dataset, options, 0)  # refuse before any work
                    self._start(stack, X, weights, labels, options, task)
                else:
                    self._check_continues(stack, labels.head)
                self._set_state(self._fine_tune(dataset, labels.head, options, first, task))
            vars(self).pop("final_estimator_", None)  # of an earlier fit
            if self.final_estimator is not None:
                self._fit_final_estimator(dataset, labels.y, task)
            task.end()
        return self

    def _n_stages(self, stack, first):
        """Number of subtasks of a fit, for callbacks."""
        pretrains = first and self.pretrain is not False and not hasattr(stack, "layers_")
        twice = first and self.fine_tune == "top_then_all"
        return pretrains + 1 + twice + (self.final_estimator is not None)

    def _check_parameters(self):
        """Refuse what cannot work; return the stack to start from, fitted only if given so."""
        self._validate_params()
        stack = self.pretrain
        shape = {
            name: getattr(self, name)
            for name in ("hidden_layer_sizes", "activation")
            if getattr(self, name) is not None
        }
        if isinstance(stack, FrozenEstimator):
            stack = stack.estimator
            if not (isinstance(stack, StackedAutoencoder) and hasattr(stack, "layers_")):
                raise ValueError(
                    "A FrozenEstimator in pretrain must hold a fitted StackedAutoencoder, got "
                    f"{stack!r}."
                )
        if isinstance(stack, StackedAutoencoder):
            for name, mine in shape.items():
                its = getattr(stack, name)
                if not np.array_equal(np.atleast_1d(mine), np.atleast_1d(its)):
                    raise ValueError(
                        f"{name}={mine!r}, but that of the stack in pretrain is {its!r}. "
                        "Leave it at None to take that of the stack."
                    )
        else:
            stack = StackedAutoencoder(**shape)
        n_layers = len(stack._new_layers())
        for name, length in (("dropout", n_layers), ("learning_rate_factors", n_layers + 1)):
            values = getattr(self, name)
            if values is not None:
                low, high = (0, 1) if name == "dropout" else (0, np.inf)
                values = per_layer(name, values, length)
                if not all(isinstance(value, Real) and low <= value < high for value in values):
                    raise ValueError(f"{name} must be in [{low}, {high}), got {values}.")
        if self.fine_tune == "top" and (
            self.input_dropout
            or self.adversarial_radius
            or self.learning_rate_factors is not None
            or np.any(self.dropout)
        ):
            raise ValueError(
                "dropout, input_dropout, adversarial_radius and learning_rate_factors act on "
                "layers that fine_tune='top' does not train: leave them out, or fine-tune 'all'."
            )
        if self.n_warmup_epochs >= self.max_iter:
            raise ValueError(
                f"n_warmup_epochs={self.n_warmup_epochs} must be less than "
                f"max_iter={self.max_iter}."
            )
        if self.n_averaged_epochs and self.early_stopping:
            raise ValueError(
                "n_averaged_epochs averages the last epochs, early_stopping=True takes the best "
                "one: use one of them."
            )
        return stack

    def _check_continues(self, stack, head):
        """Refuse another network than the fitted one."""
        layers = stack._new_layers()
        if (
            [layer.n_components for layer in layers] != self._architecture["sizes"][1:-1]
            or [layer.activation for layer in layers] != self._architecture["activations"][:-1]
            or type(head).__name__ != self._output
        ):
            raise ValueError(
                "hidden_layer_sizes, activation and the kind of y (classes, labels) cannot change "
                "between fits that continue each other. Set them back, or fit with "
                "warm_start=False."
            )

    def _pretrained(self, stack, X, weights, rng, task):
        """The stack to start from: fitted now, or a copy of a fitted one."""
        if not hasattr(stack, "layers_"):
            stack = clone(stack)
            if stack.random_state is None or self.pretrain is True:
                stack.set_params(random_state=_training.draw_seed(rng))
            if self.pretrain is True:
                stack.set_params(verbose=self.verbose)
            with task.delegated("pretrain", stack):
                return stack.fit(X, sample_weight=weights)
        if stack.n_features_in_ != X.shape[1]:
            raise ValueError(
                f"X has {X.shape[1]} features, but the stack in pretrain was fitted on "
                f"{stack.n_features_in_} features."
            )
        return deepcopy(stack)

    def _start(self, stack, X, weights, labels, options, task):
        """Pretrain, or take a pretrained stack, and initialise the network from it."""
        rng = check_random_state(self.random_state)
        vars(self).pop("pretrained_", None)
        if self.pretrain is not False:
            stack = self.pretrained_ = self._pretrained(stack, X, weights, rng, task)
        layers = stack.layers_ if self.pretrain is not False else stack._new_layers()
        sizes = [int(layer.n_components) for layer in layers]
        self._architecture = {
            "sizes": [X.shape[1], *sizes, labels.targets.shape[1]],
            "activations": [*(layer.activation for layer in layers), labels.head.activation],
        }
        network = self._network
        seed = _training.draw_seed(rng)
        state = _training.initial_state(network, options, compute_dtype(X), seed)
        # The output layer starts at zero, as in the Theano tutorials, so the first predictions
        # are uniform.
        network.weights(state.params, -1)[:] = 0
        if self.pretrain is not False:
            for k, layer in enumerate(layers):
                network.weights(state.params, k)[:] = layer.components_
                network.bias(state.params, k)[:] = layer.intercept_hidden_
        self._state, self._output = state, type(labels.head).__name__

    def _fine_tune(self, dataset, head, options, first, task):
        """Train the output layer, all layers, or one after the other; return the state."""
        state, network = self._state, self._network
        if self.fine_tune != "all" and (first or self.fine_tune == "top"):
            state = self._fine_tune_output(state, dataset, head, options, task)
            if self.fine_tune == "top" or state.interrupted:
                return state
            # The solver has seen nothing of the other layers yet: begin its moments afresh.
            state.buffers[1:] = 0
            state = replace(state, step=0, best_loss=np.inf, n_stale=0)
        network.layers["dropout"][1:] = per_layer("dropout", self.dropout, len(network) - 1)
        if self.learning_rate_factors is not None:
            network.layers["learning_rate_scale"] = self.learning_rate_factors
        stage = task.subtask("fine-tune", options.max_iter)
        state = _training.train(
            network,
            _sgd.Objective(
                head.loss, alpha=self.alpha, adversarial_radius=self.adversarial_radius
            ),
            dataset,
            state,
            options,
            name=type(self).__name__,
            corruption=_sgd.Corruption("dropout", self.input_dropout),
            score=head.score,
            in_place=first,
            task=stage,
        )
        stage.end(lambda: state)
        return state

    def _fine_tune_output(self, state, dataset, head, options, task):
        """Train the output layer alone, on the codes of the layers below."""
        network = self._network
        codes = dataset.encoded(
            lambda part: _inference.outputs(network, state.params, part, stop=-1),
            self._n_features_out,
        )
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

    def _output_layer_place(self):
        """Places of the output layer's parameters in the flat buffer."""
        return np.r_[self._network.span(-1, "weight"), self._network.span(-1, "bias")]

    def _with_output(self, state, trained):
        """A state of the whole network, from one of the layers below and one of the top."""
        buffers = np.zeros((len(trained.buffers), state.buffers.shape[1]), state.buffers.dtype)
        buffers[0] = state.params
        buffers[:, self._output_layer_place()] = trained.buffers
        return replace(trained, buffers=buffers)

    def _attributes_with_output(self, state, trained):
        """The fitted attributes, with the output layer as `trained`."""
        return self._fitted_attributes(self._with_output(state, trained))

    def _fit_final_estimator(self, dataset, y, task):
        final, given = clone(self.final_estimator), {}
        if dataset.sample_weight is not None and has_fit_parameter(final, "sample_weight"):
            given["sample_weight"] = dataset.sample_weight
        with task.delegated("final estimator", final):
            final.fit(self._encode(dataset.X), y, **given)
        self.final_estimator_ = final

    def _set_best(self, state):
        self.validation_scores_ = list(state.validation_scores)
        self.best_validation_score_ = -state.best_loss

    # -- use ----------------------------------------------------------------------------

    @property
    def _network(self):
        return Network(**self._architecture)

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
        return _inference.outputs(self._network, self._params(X), ArrayDataset(X), stop=-1)

    def _predict_by(self, method, X):
        """Call a method of the final estimator, or of the head."""
        X = self._check_X(X)
        if hasattr(self, "final_estimator_"):
            return getattr(self.final_estimator_, method)(self._encode(X))
        head, (*hidden, _) = self._head, self._architecture["activations"]
        linear = Network(self._architecture["sizes"], [*hidden, "identity"])
        logits = _inference.outputs(linear, self._params(X), ArrayDataset(X))
        return getattr(head, method)(logits.astype(head.dtype or logits.dtype, copy=False))
