"""StackedAutoencoderClassifier and StackedAutoencoderRegressor: unlabelled rows teach the layers,
labelled rows fine-tune the whole.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import (
    ClassifierMixin,
    RegressorMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.utils import (
    check_array,
    check_random_state,
    column_or_1d,
    compute_sample_weight,
    get_tags,
)
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    has_fit_parameter,
)

from skae import _training
from skae._base import BaseEncoder, check_weights, unchanged_on_error
from skae._callbacks import Task
from skae._compat import HasMethods, Interval, StrOptions, _fit_context, available_if
from skae._kernel import _sgd
from skae._network import CODE_ACTIVATIONS, LOSSES, OUTPUT_ACTIVATION, Network
from skae._rows import Rows, codes_of, compute_dtype
from skae._stacked import StackedAutoencoder, per_layer
from skae._threads import blas_held
from skae._typing import ArrayLike, MatrixLike, NDArray, PerLayer

UNLABELLED = -1


# What the docstrings of both say of the parameters that both have.
PARAMETER_DOC = """\
hidden_layer_sizes : int or array-like of shape (n_layers,), default=None
    Length of the code of each layer, from the bottom up. None is (1000, 1000), or
    that of the stack in `pretrain`.
activation : {'relu', 'identity', 'logistic', 'tanh'} or list of them, default=None
    Activation of the codes, of all layers or of each. None is 'relu', or that of the stack in
    `pretrain`.
pretrain : bool, StackedAutoencoder or FrozenEstimator, default=True
    How the layers begin. True: a `StackedAutoencoder` with the two parameters above, else
    at its defaults, is fitted on all rows, labelled or not. An unfitted `StackedAutoencoder`: a
    clone of it is fitted so; its parameters can be searched as ``pretrain__corruption_level``.
    A fitted one is used as it is, and left untouched; put into
    `sklearn.frozen.FrozenEstimator` it stays fitted when this estimator is cloned, e.g. by a grid
    search. False: random weights.
fine_tune : {'all', 'top', 'top_then_all'}, default='all'
    What the labelled rows train: all layers end to end; the top alone, on codes that stay
    as they are (without dropout and adversarial rows); or first the top so and then all,
    `max_iter` epochs each.
final_estimator : estimator, default=None
    Fitted on the fine-tuned codes of the labelled rows, to predict in place of the top.
dropout : float or list of float, default=0.0
    Probability that the code of a hidden unit is dropped in fine-tuning, of all layers or of
    each [3]_. In [0, 1).
input_dropout : float, default=0.0
    The same for the features. In [0, 1).
max_norm : float, default=None
    Largest Euclidean norm of the weights into a unit, kept after each step. In (0, inf).
adversarial_radius : float, default=0.0
    Each step is taken at adversarial rows: every feature is moved by this much, up or down,
    whichever raises the loss of the row [4]_. In the units of X, in [0, inf). A step takes two
    thirds more time. On images it is worth more than dropout; a large one may keep a net that
    was not pretrained from starting to learn.
learning_rate_factors : array-like of shape (n_layers + 1,), default=None
    Factor of the learning rate for each layer and for the top, from the bottom up; zero leaves a
    layer as pretrained. Each in [0, inf). None is one for all.
warm_up : int, default=0
    Number of epochs in which the learning rate rises evenly to `learning_rate_init`.
    In [0, max_iter).
n_average : int, default=0
    Number of epochs, the last ones, of whose weights the mean is taken in the end; 0 keeps the
    weights of the last. Not with `early_stopping`.
"""

DEFAULTS = {"batch_size": 20, "max_iter": 10}


def _final_estimator_has(name):
    """For `available_if`: whether the estimator that predicts has this method."""

    def check(self):
        return self.final_estimator is None or hasattr(
            getattr(self, "final_estimator_", self.final_estimator), name
        )

    return check


def _are_signs(labels):
    """Whether these are the two classes -1 and 1."""
    return len(labels) == 2 and set(np.asarray(labels).tolist()) == {UNLABELLED, 1}


def _can_partial_fit(self):
    if self.final_estimator is not None:
        raise AttributeError("partial_fit does not support a final_estimator")
    return _training.can_partial_fit(self)


class _FineTuned(BaseEncoder):
    """What the classifier and the regressor share: pretraining, the network, fine-tuning.

    A subclass says what the targets of the labelled rows are (`_targets`), which loss the top
    has for them (`_loss`), how to score its outputs (`_score_outputs`), and how to predict.
    """

    _parameter_constraints: dict = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "activation": [StrOptions(set(CODE_ACTIVATIONS)), "array-like", None],
        "pretrain": ["boolean", StackedAutoencoder, FrozenEstimator],
        "fine_tune": [StrOptions({"all", "top", "top_then_all"})],
        "final_estimator": [None, HasMethods(["fit", "predict"])],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "input_dropout": [Interval(Real, 0, 1, closed="left")],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "adversarial_radius": [Interval(Real, 0, None, closed="left")],
        "learning_rate_factors": ["array-like", None],
        "warm_up": [Interval(Integral, 0, None, closed="left")],
        "n_average": [Interval(Integral, 0, None, closed="left")],
        **_training.PARAMETER_CONSTRAINTS,
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    # -- fit ----------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, *, incremental=False):
        options = _training.Options.of(self, **_training.one_epoch(incremental))
        first = self._begins(incremental)
        stack = self._check_parameters()
        task = Task.fit_of(self, self._n_stages(stack, first), incremental)
        with unchanged_on_error(self):
            X = self._validate(X, reset=first)
            y = self._check_y(X, y)
            weights = check_weights(sample_weight, X)
            labelled = self._labelled(y, first)
            if weights is not None:
                labelled &= weights > 0
            if incremental and not first and not labelled.any():
                return self  # a batch without labels has nothing to fine-tune by
            if not labelled.any():
                raise ValueError(
                    f"y has no labelled rows: all are {self._unlabelled_as}, or of weight zero."
                )
            targets, strata = self._targets(y[labelled], first)
            # Fits that continue each other are computed in the type of the first.
            dtype = compute_dtype(X) if first else self._params().dtype
            rows = self._labelled_rows(X, y, dtype, labelled, targets, weights, strata)
            y = y[labelled]
            task.begin(rows.X, y, rows.sample_weight, self._fitted)
            with blas_held():
                if first:
                    _training.split(rows, options, 0)  # refuse before any work
                    self._start(stack, X, weights, targets.shape[1], options, task)
                else:
                    self._check_continues(stack)
                self._keep(self._fine_tune(rows, options, first, task))
            vars(self).pop("final_estimator_", None)  # of an earlier fit
            if self.final_estimator is not None:
                self._fit_final_estimator(rows, y, task)
            task.end()
        return self

    def _n_stages(self, stack, first):
        """Parts of a fit that callbacks are told of."""
        pretrains = first and self.pretrain is not False and not hasattr(stack, "layers_")
        twice = first and self.fine_tune == "top_then_all"
        return pretrains + 1 + twice + (self.final_estimator is not None)

    def _fit_final_estimator(self, rows, y, task):
        final, given = clone(self.final_estimator), {}
        if rows.sample_weight is not None and has_fit_parameter(final, "sample_weight"):
            given["sample_weight"] = rows.sample_weight
        with task.delegated("final estimator", final):
            final.fit(self._encode(rows.X), y, **given)
        self.final_estimator_ = final

    def _check_y(self, X, y, **options):
        """y as an array of one value a row, or of several columns."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        y = check_array(y, ensure_2d=False, input_name="y", **options)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        return y

    def _labelled_rows(self, X, y, dtype, labelled, targets, weights, strata):
        everything = labelled.all()
        weights = self._row_weights(y[labelled], None if weights is None else weights[labelled])
        return Rows(
            X if everything else X[labelled],
            dtype,
            target=np.ascontiguousarray(targets, dtype=dtype),
            sample_weight=weights,
            strata=strata,
        )

    def _check_parameters(self):
        """The stack to start from, not fitted unless handed in so; refuses what cannot work."""
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
        if self.warm_up >= self.max_iter:
            raise ValueError(f"warm_up={self.warm_up} must be less than max_iter={self.max_iter}.")
        if self.n_average and self.early_stopping:
            raise ValueError(
                "n_average takes a mean of the last epochs, early_stopping=True the best one: "
                "use one of them."
            )
        return stack

    def _check_continues(self, stack):
        """A fit that continues another one keeps its network."""
        sizes, activations = self._architecture["sizes"], self._architecture["activations"]
        layers = stack._new_layers()
        if (
            [layer.n_components for layer in layers] != sizes[1:-1]
            or [layer.activation for layer in layers] != activations[:-1]
            or activations[-1] != OUTPUT_ACTIVATION[self._loss]
        ):
            raise ValueError(
                "hidden_layer_sizes, activation and the kind of y (classes, labels) cannot change "
                "between fits that continue each other. Set them back, or fit with "
                "warm_start=False."
            )

    def _start(self, stack, X, weights, n_outputs, options, task):
        """Pretrain, or take what was pretrained, and set up the network from it."""
        rng = check_random_state(self.random_state)
        fitted = self.pretrain is not False and hasattr(stack, "layers_")
        if fitted:
            if stack.n_features_in_ != X.shape[1]:
                raise ValueError(
                    f"X has {X.shape[1]} features, but the stack in pretrain was fitted on "
                    f"{stack.n_features_in_} features."
                )
            stack = deepcopy(stack)
        elif self.pretrain is not False:
            stack = clone(stack)
            if stack.random_state is None or self.pretrain is True:
                stack.set_params(random_state=int(rng.randint(2**31 - 1)))
            if self.pretrain is True:
                stack.set_params(verbose=self.verbose)
            with task.delegated("pretrain", stack):
                stack.fit(X, sample_weight=weights)
        layers = stack.layers_ if hasattr(stack, "layers_") else stack._new_layers()
        self._architecture = {
            "sizes": [
                X.shape[1],
                *(int(layer.n_components) for layer in layers),
                n_outputs,
            ],
            "activations": [
                *(layer.activation for layer in layers),
                OUTPUT_ACTIVATION[self._loss],
            ],
        }
        network = self._network
        seed = int(rng.randint(2**31 - 1))
        state = _training.initial_state(network, options, compute_dtype(X), seed)
        # The top starts at zero, as in the Theano tutorials: its first outputs favour nothing.
        network.weights(state.params, -1)[:] = 0
        if self.pretrain is not False:
            self.pretrained_ = stack
            for k, layer in enumerate(layers):
                network.weights(state.params, k)[:] = layer.components_
                network.bias(state.params, k)[:] = layer.intercept_hidden_
        else:
            vars(self).pop("pretrained_", None)
        self._training = vars(state)

    def _fine_tune(self, rows, options, first, task):
        network, objective = self._network, _sgd.Objective(LOSSES[self._loss], alpha=self.alpha)
        state = _training.State(**self._training)
        name = type(self).__name__
        if self.fine_tune != "all" and (first or self.fine_tune == "top"):
            state = self._fine_tune_top(network, objective, rows, state, options, name, task)
            if self.fine_tune == "top" or state.interrupted:
                return state
            # The solver has seen nothing of the other layers yet: begin its moments afresh.
            state.buffers[1:] = 0
            state = replace(state, step=0, best_loss=np.inf, n_stale=0)
        network.corrupt("dropout", self.input_dropout)
        for k, level in enumerate(per_layer("dropout", self.dropout, len(network) - 1), start=1):
            network.corrupt("dropout", level, layer=k)
        objective.adversarial_radius = self.adversarial_radius
        if self.learning_rate_factors is not None:
            network.layers["rate"] = self.learning_rate_factors
        stage = task.subtask("fine-tune", options.max_iter)
        state = _training.train(
            network,
            objective,
            rows,
            state,
            options,
            name=name,
            score=self._scorer(rows),
            in_place=first,
            task=stage,
        )
        stage.end(lambda: state)
        return state

    def _fine_tune_top(self, network, objective, rows, state, options, name, task):
        """Train the top alone, on the codes that the layers below give once and for all."""
        codes = codes_of(
            rows,
            lambda part: network.outputs(state.params, part, stop=-1),
            int(network.layers["n_in"][-1]),
        )
        place = np.r_[network.span(-1, "weight"), network.span(-1, "bias")]

        def whole(trained):
            buffers = np.zeros((len(trained.buffers), network.n_params), state.buffers.dtype)
            buffers[0] = state.params
            buffers[:, place] = trained.buffers
            return replace(trained, buffers=buffers)

        stage = task.subtask(
            "fine-tune top", options.max_iter, fitted=lambda top: self._fitted(whole(top))
        )
        trained = _training.train(
            network.top(),
            objective,
            codes,
            replace(state, buffers=np.ascontiguousarray(state.buffers[:, place])),
            options,
            name=f"{name}, top layer",
            score=self._scorer(rows),
            in_place=True,
            task=stage,
        )
        stage.end(lambda: trained)
        return whole(trained)

    def _scorer(self, rows):
        def score(outputs, index):
            weights = None if rows.sample_weight is None else rows.sample_weight[index]
            return self._score_outputs(rows.target[index], outputs, weights)

        return score

    def _show_best(self, state):
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
        return self._network.outputs(self._params(X), Rows(X), stop=-1)

    def _raw_outputs(self, X):
        """Outputs of the top before its activation, shape (n_samples, n_outputs)."""
        X = self._check_X(X)
        network = self._network
        network.layers["activation"][-1] = 0
        return network.outputs(self._params(X), Rows(X))


@_training.documented(DEFAULTS, shared=PARAMETER_DOC)
class StackedAutoencoderClassifier(ClassifierMixin, _FineTuned):
    """Classifier on a stack of autoencoders: learned from all rows, fine-tuned by the labelled.

    A `StackedAutoencoder` learns its layers from all rows, those with ``y == -1`` (unlabelled)
    included. A linear top is put on it, and the whole is trained on the labelled rows
    [1]_ [2]_: softmax for several classes, a logistic unit for two, or one for each label.
    Pretraining can only pay where labelled rows are few and unlabelled ones many.

    Parameters
    ----------
    {shared}
    label_smoothing : float, default=0.0
        Part of each target that is spread evenly over the classes. In [0, 1).
    class_weight : dict, 'balanced' or None, default=None
        Weight of the rows of each class in fine-tuning, as in scikit-learn's classifiers.
    {training}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes; with several labels a row, their numbers.
    pretrained_ : StackedAutoencoder
        The stack as pretrained, before fine-tuning. Not with ``pretrain=False``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer after fine-tuning, the top last. Views: copy them to keep them.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    final_estimator_ : estimator
        The fitted `final_estimator`. Only with one.
    loss_ : float
        Mean cost of the last epoch of fine-tuning: log loss of a row in nats,
        plus the L2 penalty.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_scores_ : list of float
        Accuracy of the held-out rows after each epoch. Only with
        ``early_stopping=True``, as the next two.
    validation_loss_curve_ : list of float
        Mean loss of the held-out rows after each epoch, without dropout and penalty.
    best_validation_score_ : float
        Largest value of `validation_scores_`, that of the weights kept.
    n_iter_ : int
        Epochs of fine-tuning run, over all calls that continued each other.
    n_features_in_ : int
        Number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    See Also
    --------
    StackedAutoencoder : The layers alone, without labels.
    sklearn.neural_network.MLPClassifier : The same net without pretraining.

    Notes
    -----
    Early stopping holds out labelled rows only, of each class in proportion.

    References
    ----------
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

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import StackedAutoencoderClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
    >>> y_train[100:] = -1  # only 100 rows keep their labels
    >>> clf = StackedAutoencoderClassifier((256, 128), random_state=0).fit(X_train, y_train)
    >>> bool(clf.score(X_test, y_test) > 0.8)
    True
    """

    _unlabelled_as = "-1"
    _parameter_constraints: dict = {
        **_FineTuned._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: PerLayer[int] | None = None,
        *,
        activation: PerLayer[str] | None = None,
        pretrain: bool | StackedAutoencoder | FrozenEstimator = True,
        fine_tune: str = "all",
        final_estimator: Any = None,
        dropout: PerLayer[float] = 0.0,
        input_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: dict[Any, float] | str | None = None,
        max_norm: float | None = None,
        adversarial_radius: float = 0.0,
        learning_rate_factors: Sequence[float] | NDArray[Any] | None = None,
        warm_up: int = 0,
        n_average: int = 0,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.pretrain = pretrain
        self.fine_tune = fine_tune
        self.final_estimator = final_estimator
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.max_norm = max_norm
        self.adversarial_radius = adversarial_radius
        self.learning_rate_factors = learning_rate_factors
        self.warm_up = warm_up
        self.n_average = n_average
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        final = self.final_estimator
        tags.classifier_tags.multi_label = (
            final is None or get_tags(final).classifier_tags.multi_label
        )
        return tags

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the layers from all rows, and fine-tune them by the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from. Scaled features train best, e.g. to [0, 1].
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels: numbers, strings, or an indicator of several labels a row. Rows with -1 (in all
            columns) are unlabelled, unless -1 and 1 are the only labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative. Rows of weight zero are
            left out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y, `sample_weight` or a parameter is not as described, or if the loss becomes
            infinite or nan. The estimator is then as it was before the call.
        """
        with unchanged_on_error(self):
            if not self.warm_start:
                self.__dict__.pop("_announced", None)  # by an earlier partial_fit
            return self._fit(X, y, sample_weight)

    @available_if(_can_partial_fit)
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Go on fine-tuning, with one epoch over the labelled rows of X.

        The first call pretrains on its own X as ``fit`` does; a later one without a labelled
        row changes nothing. Not available with
        ``early_stopping=True``, ``learning_rate='cosine'`` or a `final_estimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            As for ``fit``.
        classes : array-like of shape (n_classes,), default=None
            All classes that y may hold, now or later. Needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        announced = getattr(self, "_announced", None)
        if classes is not None:
            classes = self._check_announced(np.unique(classes))
        elif announced is None and not hasattr(self, "_training"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        with unchanged_on_error(self):
            self._announced = classes if classes is not None else announced
            return self._fit(X, y, sample_weight, incremental=True)

    def _check_announced(self, classes):
        known = getattr(self, "classes_", classes)
        if not np.array_equal(known, classes):
            raise ValueError(
                f"`classes={classes}` is not the same as on last call to partial_fit, was: {known}"
            )
        if UNLABELLED in classes.tolist() and not _are_signs(classes):
            raise ValueError(
                f"classes={classes} names -1, which marks unlabelled rows in y. Encode the "
                "classes otherwise, e.g. with sklearn.preprocessing.LabelEncoder."
            )
        return classes

    # -- targets ------------------------------------------------------------------------

    def _check_y(self, X, y):
        """y as an array of one label a row, or of an indicator a class."""
        y = super()._check_y(X, y, dtype=None)
        if y.dtype.kind == "O" and all(isinstance(label, Real) for label in y.ravel()):
            y = np.array(y.tolist())
        return y

    def _labelled(self, y, first):
        """Which rows have labels. Two classes -1 and 1 are classes, with no row unlabelled."""
        if y.ndim == 2:
            return ~(y == UNLABELLED).all(axis=1)
        if y.dtype.kind in "US":
            return np.ones(len(y), dtype=bool)
        labelled = np.array([label != UNLABELLED for label in y], dtype=bool)
        known = getattr(self, "_announced", None)
        if known is None and not first:
            known = self.classes_
        if known is None:
            known = np.unique(y) if y.dtype.kind != "O" else ()
        if _are_signs(known):
            labelled[:] = True
        return labelled

    def _targets(self, y, first):
        """What the top is to give for each labelled row, and the strata for a split."""
        check_classification_targets(y)
        if y.ndim == 2:
            return self._indicator_targets(y, first)
        y = np.array(y.tolist()) if y.dtype.kind == "O" else y
        announced = getattr(self, "_announced", None)
        if first:
            classes = np.unique(y) if announced is None else announced
        else:
            classes = self.classes_
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                f"y has the classes {unknown.tolist()}, which are not among those announced or "
                f"fitted before: {classes.tolist()}."
            )
        if len(classes) < 2:
            raise ValueError(
                f"The labelled rows of y have one class only, {classes[0]!r}; at least 2 classes "
                "are needed. Rows with y == -1 count as unlabelled: if -1 is a class, encode the "
                "classes otherwise, e.g. with sklearn.preprocessing.LabelEncoder."
            )
        self.classes_ = classes
        codes = np.searchsorted(classes, y)
        self._check_strata(codes)
        self._loss = "cross_entropy" if len(classes) == 2 else "log_loss"
        targets = np.eye(len(classes))[codes]
        smooth = self.label_smoothing
        targets = (1 - smooth) * targets + smooth / len(classes)
        return (targets[:, 1:] if len(classes) == 2 else targets), codes

    def _indicator_targets(self, y, first):
        if type_of_target(y) != "multilabel-indicator" or not np.isin(y, (0, 1)).all():
            raise ValueError(
                "y with several columns must hold an indicator, 0 or 1, for each label (a row of "
                f"-1 is unlabelled), but it is of type {type_of_target(y)!r}."
            )
        if not first and len(self.classes_) != y.shape[1]:
            raise ValueError(f"y has {y.shape[1]} labels, but {len(self.classes_)} were fitted.")
        self.classes_ = np.arange(y.shape[1])
        self._loss = "cross_entropy"
        return (1 - self.label_smoothing) * y + self.label_smoothing / 2, None

    def _check_strata(self, codes):
        if self.early_stopping:
            counts = np.bincount(codes, minlength=len(self.classes_))
            if counts[counts > 0].min() < 2:
                rare = self.classes_[np.flatnonzero(counts == 1)].tolist()
                raise ValueError(
                    f"early_stopping=True holds out labelled rows of each class, but the classes "
                    f"{rare} have only 1 labelled row. Label more, or set early_stopping=False."
                )

    def _row_weights(self, y, weights):
        if self.class_weight is None:
            return weights
        balance = compute_sample_weight(self.class_weight, y)
        return check_weights(balance if weights is None else balance * weights, y)

    def _score_outputs(self, targets, outputs, weights):
        if self._loss == "log_loss":
            right = outputs.argmax(axis=1) == targets.argmax(axis=1)
        else:
            right = ((outputs > 0.5) == (targets > 0.5)).all(axis=1)
        return np.average(right, weights=weights)

    def _logits(self, X):
        # In single precision, a probability near one would round to one.
        return self._raw_outputs(X).astype(np.float64)

    # -- predict ------------------------------------------------------------------------

    def _multilabel(self):
        return self._loss == "cross_entropy" and self._architecture["sizes"][-1] > 1

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the class, or the indicator of the labels, of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Predicted classes; never -1 for unlabelled.
        """
        if hasattr(self, "final_estimator_"):
            return self.final_estimator_.predict(self._encode(self._check_X(X)))
        outputs = self._logits(X)
        if self._loss == "log_loss":
            return self.classes_[outputs.argmax(axis=1)]
        if self._multilabel():
            return (outputs > 0).astype(int)
        return self.classes_[(outputs[:, 0] > 0).astype(int)]

    @available_if(_final_estimator_has("decision_function"))
    def decision_function(self, X: MatrixLike) -> NDArray[Any]:
        """Score of each class, or label, before it becomes a probability.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; of the second class if there are two. The `final_estimator`'s own
            scores if there is one.
        """
        if hasattr(self, "final_estimator_"):
            return self.final_estimator_.decision_function(self._encode(self._check_X(X)))
        outputs = self._logits(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    @available_if(_final_estimator_has("predict_proba"))
    def predict_proba(self, X: MatrixLike) -> NDArray[Any]:
        """Probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`. With several labels a row, the probability of each.
        """
        if hasattr(self, "final_estimator_"):
            return self.final_estimator_.predict_proba(self._encode(self._check_X(X)))
        outputs = self._logits(X)
        if self._loss == "log_loss":
            return softmax(outputs, axis=1)
        if self._multilabel():
            return expit(outputs)
        return expit(np.hstack([-outputs, outputs]))

    @available_if(_final_estimator_has("predict_proba"))
    def predict_log_proba(self, X: MatrixLike) -> NDArray[Any]:
        """Logarithm of the probability of each class, or of each label.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to classify.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            As `predict_proba`, computed so that none underflows.
        """
        if hasattr(self, "final_estimator_"):
            return np.log(self.final_estimator_.predict_proba(self._encode(self._check_X(X))))
        outputs = self._logits(X)
        if self._loss == "log_loss":
            return log_softmax(outputs, axis=1)
        return log_expit(outputs if self._multilabel() else np.hstack([-outputs, outputs]))


@_training.documented(DEFAULTS, shared=PARAMETER_DOC)
class StackedAutoencoderRegressor(RegressorMixin, _FineTuned):
    """Regressor on a stack of autoencoders: learned from all rows, fine-tuned by the labelled.

    A `StackedAutoencoder` learns its layers from all rows, those whose y is nan (unlabelled)
    included. A linear top is put on it, and the whole is trained on the labelled rows under the
    squared error, summed over the outputs [1]_ [2]_.

    Parameters
    ----------
    {shared}
    {training}

    Attributes
    ----------
    pretrained_ : StackedAutoencoder
        The stack as pretrained, before fine-tuning. Not with ``pretrain=False``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer after fine-tuning, the top last. Views: copy them to keep them.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    final_estimator_ : estimator
        The fitted `final_estimator`. Only with one.
    loss_ : float
        Mean cost of the last epoch of fine-tuning: squared error of a row,
        plus the L2 penalty.
    loss_curve_ : list of float
        `loss_` after each epoch.
    validation_scores_ : list of float
        R^2 of the held-out rows after each epoch. Only with
        ``early_stopping=True``, as the next two.
    validation_loss_curve_ : list of float
        Mean loss of the held-out rows after each epoch, without dropout and penalty.
    best_validation_score_ : float
        Largest value of `validation_scores_`, that of the weights kept.
    n_iter_ : int
        Epochs of fine-tuning run, over all calls that continued each other.
    n_features_in_ : int
        Number of features seen during ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had names that are all strings.

    See Also
    --------
    StackedAutoencoder : The layers alone, without labels.
    sklearn.neural_network.MLPRegressor : The same net without pretraining.

    Notes
    -----
    Early stopping holds out labelled rows only.

    References
    ----------
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

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from skae import StackedAutoencoderRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X, y = scale(X), scale(y)
    >>> reg = StackedAutoencoderRegressor((50, 20), random_state=0).fit(X, y)
    >>> bool(reg.score(X, y) > 0.4)
    True
    """

    _unlabelled_as = "nan"
    _loss = "squared_error"

    def __init__(
        self,
        hidden_layer_sizes: PerLayer[int] | None = None,
        *,
        activation: PerLayer[str] | None = None,
        pretrain: bool | StackedAutoencoder | FrozenEstimator = True,
        fine_tune: str = "all",
        final_estimator: Any = None,
        dropout: PerLayer[float] = 0.0,
        input_dropout: float = 0.0,
        max_norm: float | None = None,
        adversarial_radius: float = 0.0,
        learning_rate_factors: Sequence[float] | NDArray[Any] | None = None,
        warm_up: int = 0,
        n_average: int = 0,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.pretrain = pretrain
        self.fine_tune = fine_tune
        self.final_estimator = final_estimator
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.max_norm = max_norm
        self.adversarial_radius = adversarial_radius
        self.learning_rate_factors = learning_rate_factors
        self.warm_up = warm_up
        self.n_average = n_average
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

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn the layers from all rows, and fine-tune them by the labelled ones.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from. Scaled features train best, e.g. to [0, 1].
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; rows with nan are unlabelled. Scaled targets train best, see
            `sklearn.compose.TransformedTargetRegressor`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative. Rows of weight zero are
            left out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, y, `sample_weight` or a parameter is not as described, or if the loss becomes
            infinite or nan. The estimator is then as it was before the call.
        """
        return self._fit(X, y, sample_weight)

    @available_if(_can_partial_fit)
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Go on fine-tuning, with one epoch over the labelled rows of X.

        The first call pretrains on its own X as ``fit`` does; a later one without a labelled
        row changes nothing. Not available with
        ``early_stopping=True``, ``learning_rate='cosine'`` or a `final_estimator`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to learn from.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for ``fit``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the cost of its batch, not negative.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _check_y(self, X, y):
        """y as floats, nan where a row is not labelled."""
        return super()._check_y(X, y, dtype=np.float64, ensure_all_finite="allow-nan")

    def _labelled(self, y, first):
        return ~np.isnan(y if y.ndim == 1 else y.sum(axis=1))

    def _targets(self, y, first):
        targets = y.reshape(len(y), -1)
        if not first and targets.shape[1] != self._architecture["sizes"][-1]:
            raise ValueError(
                f"y has {targets.shape[1]} outputs, but {self._architecture['sizes'][-1]} were "
                "fitted."
            )
        self._flat = y.ndim == 1
        return targets, None

    def _row_weights(self, y, weights):
        return weights

    def _score_outputs(self, targets, outputs, weights):
        return r2_score(targets, outputs, sample_weight=weights)

    def predict(self, X: MatrixLike) -> NDArray[Any]:
        """Predict the target, or targets, of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to predict for.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predicted values, in the units of the y given to ``fit``.
        """
        if hasattr(self, "final_estimator_"):
            return self.final_estimator_.predict(self._encode(self._check_X(X)))
        outputs = self._raw_outputs(X)
        return outputs[:, 0] if self._flat else outputs
