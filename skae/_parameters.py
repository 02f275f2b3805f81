"""Shared parameters of the estimators: default, constraint and documentation in one place.

An estimator inherits groups of parameters, each decorated by `parameter_group`, and adds its own.
The decorator `estimator` makes ``__init__``, the constraints and the parameters section of the
docstring from them. For type checkers, both decorators make dataclasses. At run time they do not,
because the ``__init__`` of a dataclass is compiled at each import, which takes a millisecond per
estimator.
"""

from copy import copy
from inspect import Parameter, Signature
from numbers import Integral, Real
from typing import Any, dataclass_transform

import numpy as np

from skae._compat import Interval, StrOptions
from skae._network import CODE_ACTIVATIONS, OUTPUT_ACTIVATION

CORRUPTIONS = (
    *("dropout", "masking", "gaussian", "salt_and_pepper", "swap"),
    *("variable_masking", "variable_gaussian"),
)
GAUSSIAN = ("gaussian", "variable_gaussian")

POSITIVE_INT = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE_INT = Interval(Integral, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
BELOW_ONE = Interval(Real, 0, 1, closed="left")


class Declaration:
    """A declared parameter; `parameter_group` adds the annotation."""

    annotation: Any = None

    def __init__(self, default, constraint, doc, kw_only, for_each_layer=False):
        self.default, self.constraint, self.doc = default, constraint, doc
        self.kw_only, self.for_each_layer = kw_only, for_each_layer


def parameter(*, default: Any, constraint: list[Any], doc: str, kw_only: bool = True) -> Any:
    """Declare a parameter.

    The first line of `doc` is the type and range; the other lines are the description, indented by
    eight columns as in the docstring of a class. `constraint` has the format of scikit-learn's
    ``_parameter_constraints``.
    """
    return Declaration(default, constraint, doc, kw_only)


def with_default(group: Any, name: str, default: Any) -> Any:
    """Redeclare a parameter of a group with another default."""
    other = copy(group._declared[name])
    other.default = default
    return other


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(parameter,))
def parameter_group(cls):
    """Collect the parameters of a class: its own, then those of the groups that it inherits."""
    own = {name: value for name, value in vars(cls).items() if isinstance(value, Declaration)}
    inherited = {}
    for base in cls.__mro__[1:]:
        for name, declaration in vars(base).get("_declared", {}).items():
            inherited.setdefault(name, declaration)
    for name, declaration in own.items():
        declaration.annotation = cls.__annotations__[name]
        delattr(cls, name)  # only `__init__` has the default, as in any estimator
    new = {name: declaration for name, declaration in own.items() if name not in inherited}
    cls._declared = {**new, **inherited, **own}
    return cls


@dataclass_transform(eq_default=False, kw_only_default=True, field_specifiers=(parameter,))
def estimator(cls):
    """Make ``__init__``, constraints and documentation from the parameters of a class."""
    declared = sorted(parameter_group(cls)._declared.items(), key=lambda item: item[1].kw_only)
    cls._parameter_constraints = {name: one.constraint for name, one in declared}
    cls.__init__ = make_init(cls, dict(declared))
    if cls.__doc__:  # None under python -OO
        texts = {**getattr(cls, "_documentation", {}), "parameters": documentation(declared)}
        for place, text in texts.items():
            cls.__doc__ = fill_docstring(cls.__doc__, place, text)
    return cls


def documentation(declared):
    """Return the parameters section of a docstring."""
    text = ""
    for name, one in declared:
        kind, _, description = one.doc.partition("\n")
        text += f"    {name} : {kind}, default={one.default!r}\n{description}\n"
    return text


def fill_docstring(docstring, place, text):
    """Replace the line ``{place}`` by a text, indented as in the docstring of a class."""
    if f"    {{{place}}}\n" in docstring:
        return docstring.replace(f"    {{{place}}}\n", text)
    # Python 3.13 and later remove the indentation of docstrings at compile time.
    return docstring.replace(f"{{{place}}}\n", text.removeprefix("    ").replace("\n    ", "\n"))


def make_init(cls, declared):
    """Make the ``__init__`` of an estimator, which only stores its arguments."""
    kinds = {True: Parameter.KEYWORD_ONLY, False: Parameter.POSITIONAL_OR_KEYWORD}
    parameters = [
        Parameter(name, kinds[one.kw_only], default=one.default, annotation=one.annotation)
        for name, one in declared.items()
    ]
    itself = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    signature = Signature([itself, *parameters], return_annotation=None)
    defaults = {name: one.default for name, one in declared.items()}
    positional = [name for name, one in declared.items() if not one.kw_only]

    def __init__(self, *args, **kwargs):
        given = dict(zip(positional, args))
        values = {**defaults, **given, **kwargs}
        if len(values) > len(defaults) or len(args) > len(given) or given.keys() & kwargs:
            try:
                signature.bind(self, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{cls.__qualname__}.__init__(): {error}") from None
        for name, value in values.items():
            setattr(self, name, value)

    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    __init__.__signature__ = signature
    __init__.__annotations__ = {name: one.annotation for name, one in declared.items()}
    return __init__


@parameter_group
class TrainingParameters:
    """Parameters of training by stochastic gradient descent."""

    solver: str = parameter(
        default="adam",
        constraint=[StrOptions({"sgd", "adam"})],
        doc="""{'adam', 'sgd'}
        'adam' is the method of Kingma and Ba (2015); 'sgd' is stochastic gradient descent, plain
        with ``momentum=0`` and with momentum otherwise.""",
    )
    alpha: float = parameter(
        default=0.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Strength of the L2 penalty: ``alpha / 2`` times the sum of the squared weights is added
        to the cost of each mini-batch.""",
    )
    batch_size: int | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), POSITIVE_INT],
        doc="""int in [1, inf) or 'auto'
        Number of samples in a mini-batch; all samples if there are fewer. 'auto' is a hundredth of
        the training samples, at least 20 and at most 200.""",
    )
    learning_rate: str = parameter(
        default="constant",
        constraint=[StrOptions({"constant", "adaptive", "cosine"})],
        doc="""{'constant', 'adaptive', 'cosine'}
        Schedule of the learning rate. 'constant' keeps `learning_rate_init`. 'adaptive' divides
        it by 5 whenever the loss (the validation loss with early stopping) has not improved by
        more than `tol` for `n_iter_no_change` epochs, and stops training when it falls below 1e-6.
        'cosine' decreases it to zero along half a cosine over `max_iter` epochs.""",
    )
    learning_rate_init: float = parameter(
        default=0.001,
        constraint=[POSITIVE],
        doc="""float in (0, inf)
        Learning rate of the first epoch. The cost is a mean over the samples of a mini-batch and a
        sum over the features, so the learning rate need not change with the batch size.""",
    )
    max_iter: int | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), POSITIVE_INT],
        doc="""int in [1, inf) or 'auto'
        Number of epochs for each layer and each call of ``fit``. 'auto' means 40,000 samples in
        total, counting repetitions: ``ceil(40_000 / n_samples)`` epochs, at least 5 and at most
        1000. Small datasets need many epochs, because each has few steps.""",
    )
    shuffle: bool | str = parameter(
        default=True,
        constraint=["boolean", StrOptions({"blocks"})],
        doc="""bool or 'blocks'
        Whether to shuffle the samples in each epoch. 'blocks' is meant for a memory-mapped X:
        blocks of 256 consecutive samples are read in random order, and the samples of 64 blocks
        are shuffled together.""",
    )
    random_state: int | np.random.RandomState | None = parameter(
        default=None,
        constraint=["random_state"],
        doc="""int, RandomState instance or None
        Seed of the initial weights, the order of the samples, the noise and the held-out part.
        Pass an int for results that are exactly reproducible on the same machine with the same
        number of threads.""",
    )
    tol: float | None = parameter(
        default=None,
        constraint=[None, NOT_NEGATIVE],
        doc="""float in [0, inf) or None
        Training stops when the loss (the validation loss with early stopping) has not improved
        by more than `tol`, in the units of the loss, for `n_iter_no_change` epochs; a
        `ConvergenceWarning` is raised if that does not happen within `max_iter` epochs. None means
        training for `max_iter` epochs, as useful features do not need convergence; with
        `early_stopping` or ``learning_rate='adaptive'`` it means 0.""",
    )
    verbose: bool | int = parameter(
        default=False,
        constraint=["verbose"],
        doc="""bool or int
        Whether to print the losses, the time in seconds and the learning rate of each epoch, and
        for autoencoders also R^2 of the reconstruction.""",
    )
    warm_start: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether ``fit`` continues from the last call of ``fit`` or ``partial_fit``, with its
        weights, moments of the solver and epoch number.""",
    )
    momentum: float = parameter(
        default=0.9,
        constraint=[Interval(Real, 0, 1, closed="both")],
        doc="""float in [0, 1]
        Momentum of ``solver='sgd'``; 0 is plain gradient descent.""",
    )
    nesterovs_momentum: bool = parameter(
        default=True,
        constraint=["boolean"],
        doc="""bool
        Whether to use Nesterov's momentum. Only with ``solver='sgd'`` and ``momentum > 0``.""",
    )
    early_stopping: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether to hold out `validation_fraction` of the samples, stop when their loss (without
        corruption and penalties) has not improved by more than `tol` for `n_iter_no_change`
        epochs, and restore the weights of the best epoch.""",
    )
    validation_fraction: float = parameter(
        default=0.1,
        constraint=[Interval(Real, 0, 1, closed="neither")],
        doc="""float in (0, 1)
        Proportion of the samples to hold out for early stopping.""",
    )
    beta_1: float = parameter(
        default=0.9,
        constraint=[BELOW_ONE],
        doc="""float in [0, 1)
        Decay rate of the first moment of Adam.""",
    )
    beta_2: float = parameter(
        default=0.999,
        constraint=[BELOW_ONE],
        doc="""float in [0, 1)
        Decay rate of the second moment of Adam.""",
    )
    epsilon: float = parameter(
        default=1e-8,
        constraint=[POSITIVE],
        doc="""float in (0, inf)
        Value added to the denominator of Adam's steps, for numerical stability.""",
    )
    n_iter_no_change: int = parameter(
        default=10,
        constraint=[POSITIVE_INT],
        doc="""int in [1, inf)
        Number of epochs without improvement after which training stops, see `tol`.""",
    )


@parameter_group
class AutoencoderParameters:
    """Parameters of an autoencoder layer."""

    activation: str = parameter(
        default="relu",
        constraint=[StrOptions(set(CODE_ACTIVATIONS))],
        doc=f"""{{{", ".join(map(repr, CODE_ACTIVATIONS))}}}
        Activation of the code: {", ".join(a.formula for a in CODE_ACTIVATIONS.values())}.""",
    )
    n_active: int | str = parameter(
        default="auto",
        constraint=[StrOptions({"auto"}), POSITIVE_INT],
        doc="""int in [1, n_components] or 'auto'
        Number of units that stay active for each sample with ``activation='top_k'``; of equal
        ones, the first. 'auto' is the square root of the length of the code, rounded up. A fit
        from random weights starts with four times as many units and decreases their number to
        `n_active` over the first half of its epochs, so that fewer units remain unused.""",
    )
    loss: str = parameter(
        default="squared_error",
        constraint=[StrOptions(set(OUTPUT_ACTIVATION))],
        doc="""{'squared_error', 'cross_entropy'}
        Reconstruction error of a sample x, summed over its features: ``||x - z||^2`` for a linear
        reconstruction z; or, for a logistic one, the cross-entropy
        ``-sum_k [x_k log z_k + (1 - x_k) log(1 - z_k)]`` in nats. The latter needs input in
        [0, 1].""",
    )
    tied_weights: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether the decoder uses the transposed weights of the encoder.""",
    )
    corruption: str | None = parameter(
        default="gaussian",
        constraint=[StrOptions(set(CORRUPTIONS)), None],
        doc="""{'gaussian', 'dropout', 'masking', 'salt_and_pepper', 'swap', \
        'variable_gaussian', 'variable_masking'} or None
        Noise on the input, in training only, drawn again in each epoch. 'gaussian' adds normal
        noise. 'dropout' sets entries to zero, and divides the others by ``1 - corruption_level``,
        which preserves the expected input of the layer. 'masking' only sets entries to zero, as in
        Vincent et al.; reconstructions of clean samples are then too large. 'salt_and_pepper' sets
        entries to the minimum or the maximum of their feature in the training data, with equal
        probability. 'swap' replaces an entry by that of the same feature in another sample. With
        the last two kinds, the amount of noise is drawn for each sample. 'variable_masking' draws
        the proportion of masked entries between 0 and `corruption_level`; this suits imputation.
        'variable_gaussian' draws the proportion of noisy entries between 0 and 1, and the standard
        deviation of their noise, log-uniformly, between ``corruption_level / 30`` and
        `corruption_level`; this suits novelty detection.""",
    )
    corruption_level: float = parameter(
        default=0.5,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, 1], for 'dropout' in [0, 1), for Gaussian noise in [0, inf)
        Probability that an entry is corrupted; for Gaussian noise, its standard deviation in
        standard deviations of the feature. For variable noise, this is the maximum.""",
    )
    sparsity_target: float = parameter(
        default=0.05,
        constraint=[Interval(Real, 0, 1, closed="neither")],
        doc="""float in (0, 1)
        Target of the sparsity penalty for the mean activation of each unit; for a tanh unit y, for
        the mean of ``(1 + y) / 2``.""",
    )
    sparsity_penalty: float = parameter(
        default=0.0,
        constraint=[NOT_NEGATIVE],
        doc="""float in [0, inf)
        Weight of the sum over units of the Kullback-Leibler divergence between `sparsity_target`
        and the mean activation of the unit in the mini-batch. Needs a 'logistic' or 'tanh'
        activation.""",
    )
    learning_rate_init: float = with_default(TrainingParameters, "learning_rate_init", 0.003)


@parameter_group
class CodeParameters:
    """Parameters of the codes that `transform` returns."""

    transform_n_active: int | None = parameter(
        default=None,
        constraint=[POSITIVE_INT, None],
        doc="""int in [1, n_components] or None
        Number of units that stay active in `transform` with ``activation='top_k'``. None means
        `n_active`. More units often suit a classifier better. This has no effect on training and
        reconstructions, and can be changed after the fit.""",
    )
    sparse_output: bool = parameter(
        default=False,
        constraint=["boolean"],
        doc="""bool
        Whether `transform` returns a sparse matrix in CSR format, for codes with many zeros as
        with ``activation='top_k'``. This can be changed after the fit.""",
    )


def for_each_layer(name):
    """Redeclare a shared parameter that also accepts a list with one value per layer."""
    shared = {**TrainingParameters._declared, **AutoencoderParameters._declared}[name]
    kind, _, text = shared.doc.partition("\n")
    doc = f"{kind}, or list with one per layer\n{text}"
    return Declaration(
        shared.default, [*shared.constraint, "array-like"], doc, kw_only=True, for_each_layer=True
    )
