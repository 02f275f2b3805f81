"""The epoch loop: order of the rows, schedules, early stopping, best weights, progress.

Every estimator is trained here. What happens within an epoch is the kernel's business.
"""

import time
import warnings
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from textwrap import indent

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skae._callbacks import Task
from skae._compat import Interval, StrOptions
from skae._kernel import _sgd
from skae._threads import team_for

# What each estimator asks of the parameters that are used here.
PARAMETER_CONSTRAINTS = {
    "solver": [StrOptions({"sgd", "adam"})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "adaptive", "cosine"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [None, Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
}

# What the docstring of each estimator says of them, where it has the line `{training}`.
PARAMETER_DOC = """\
solver : {'adam', 'sgd'}, default='adam'
    'adam' is the method of Kingma and Ba (2015); 'sgd' is stochastic gradient descent, plain with
    ``momentum=0`` and with momentum otherwise.
alpha : float, default=0.0
    Strength of the L2 penalty: ``alpha / 2`` times the sum of the squared weights is
    added to the cost of each batch. In [0, inf).
batch_size : int or 'auto', default=<batch_size>
    Rows in a mini-batch; more than there are means all of them. 'auto' is
    ``min(200, n_samples)``.
learning_rate : {'constant', 'adaptive', 'cosine'}, default='constant'
    Schedule of the learning rate. 'constant' keeps `learning_rate_init`. 'adaptive' divides
    it by 5 whenever the loss (the validation loss with early stopping) has not improved by
    more than `tol` for `n_iter_no_change` epochs, and stops when it has fallen below 1e-6.
    'cosine' takes it down to zero along half a cosine over `max_iter` epochs.
learning_rate_init : float, default=0.001
    Learning rate of the first epoch. In (0, inf). The cost is a mean over the rows of a
    batch and a sum over their features, so that the same rate serves any batch size.
max_iter : int, default=<max_iter>
    Number of epochs (of each call of ``fit``, and of each layer). In [1, inf).
shuffle : bool, default=True
    Whether to draw a new order of the rows each epoch.
random_state : int, RandomState instance or None, default=None
    Seed of the initial weights, the order of the rows, the noise and the held-out part. An
    int makes a fit repeat to the last bit, on the same machine with as many threads.
tol : float or None, default=None
    Training stops when the loss (the validation loss with early stopping) has not improved
    by more than `tol`, in the units of the loss, for `n_iter_no_change` epochs; a
    `ConvergenceWarning` says so if that does not happen within `max_iter` epochs. None
    trains for `max_iter` epochs: what is trained for its features need not converge.
    The rules of `early_stopping` and 'adaptive' read None as 0.
verbose : bool or int, default=False
    Whether to print a line an epoch: losses, seconds, learning rate.
warm_start : bool, default=False
    Whether ``fit`` goes on where the last call of ``fit`` or ``partial_fit`` ended: weights,
    moments of the solver, number of the epoch.
momentum : float, default=0.9
    Momentum of ``solver='sgd'``; 0 is plain gradient descent. In [0, 1].
nesterovs_momentum : bool, default=True
    Whether momentum is Nesterov's. Only with ``solver='sgd'`` and ``momentum > 0``.
early_stopping : bool, default=False
    Whether to hold out `validation_fraction` of the rows, stop when their loss (without
    corruption and penalties) has not improved by more than `tol` for `n_iter_no_change`
    epochs, and return to the weights of the best epoch.
validation_fraction : float, default=0.1
    Part of the rows that early stopping holds out. In (0, 1).
beta_1, beta_2 : float, default=0.9 and 0.999
    Decay of Adam's first and second moment. In [0, 1).
epsilon : float, default=1e-8
    Added to the denominator of Adam's step. In (0, inf).
n_iter_no_change : int, default=10
    Number of epochs without improvement that stop the training, see `tol`. In [1, inf).
"""

# The adaptive schedule divides the learning rate by this, and stops below that.
ADAPTIVE_FACTOR, ADAPTIVE_END = 5.0, 1e-6

# Independent streams of random numbers, all from one seed. Each draw names its stream and
# epoch, so there is no generator whose state would have to be saved with a fit.
_INITIAL, _SPLIT, _ORDER, _NOISE = range(4)


@dataclass(frozen=True)
class Options:
    """How to train: the parameters of an estimator that are used here, or their neutral values."""

    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    max_iter: int
    shuffle: bool
    tol: float | None
    verbose: bool | int
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: int
    max_norm: float | None = None
    warm_up: int = 0
    n_average: int = 0
    incremental: bool = False  # one epoch of many, by partial_fit

    @classmethod
    def of(cls, estimator, **others):
        """Those of an estimator; `others` take precedence."""
        own = {
            f.name: getattr(estimator, f.name) for f in fields(cls) if hasattr(estimator, f.name)
        }
        return cls(**{**own, **others})


@dataclass
class State:
    """What training carries from one epoch, or one call, to the next.

    Attributes
    ----------
    buffers : ndarray of shape (n_buffers, n_params)
        Row 0 holds the parameters; behind it what the solver keeps (see the kernel).
    seed : int
        Of all random numbers.
    """

    buffers: np.ndarray
    seed: int
    step: int = 0
    learning_rate: float | None = None
    learning_rate_init: float | None = None
    best_loss: float = np.inf
    n_stale: int = 0
    loss_curve: list = field(default_factory=list)
    validation_loss_curve: list = field(default_factory=list)
    validation_scores: list = field(default_factory=list)
    interrupted: bool = False

    @property
    def params(self):
        return self.buffers[0]


def documented(defaults, **fragments):
    """Decorator: put texts that classes share into a docstring, in place of lines `{name}`.

    `PARAMETER_DOC` stands for `{training}`; `defaults` fill its ``<name>``.
    """

    def document(cls):
        for place, text in {"training": PARAMETER_DOC, **fragments}.items():
            for name, value in defaults.items():
                text = text.replace(f"<{name}>", str(value))
            if cls.__doc__:  # there is none under python -OO
                cls.__doc__ = cls.__doc__.replace(f"    {{{place}}}\n", indent(text, "    "))
        return cls

    return document


def random_stream(seed, stream, epoch=0):
    return np.random.default_rng((seed, stream, epoch))


def noise_key(seed, epoch):
    """The kernel's key for the noise of an epoch: 64 bits."""
    return int(np.random.SeedSequence((seed, _NOISE, epoch)).generate_state(1, np.uint64)[0])


def solver_of(options):
    """The kernel's solver for these options."""
    if options.solver == "adam":
        kind = _sgd.ADAM
    else:
        kind = _sgd.MOMENTUM if options.momentum > 0 else _sgd.PLAIN_SGD
    return _sgd.Solver(
        kind,
        learning_rate=options.learning_rate_init,
        momentum=options.momentum,
        nesterov=options.nesterovs_momentum,
        beta_1=options.beta_1,
        beta_2=options.beta_2,
        epsilon=options.epsilon,
        max_norm=options.max_norm or 0.0,
    )


def initial_state(network, options, dtype, seed):
    """A state before the first epoch, with initial weights drawn from the seed."""
    buffers = np.zeros((solver_of(options).n_buffers, network.n_params), dtype=dtype)
    buffers[0] = network.initialize(random_stream(seed, _INITIAL), dtype)
    return State(buffers, seed)


def split(rows, options, seed):
    """Positions of the rows to train on, and of those held out (None without early stopping).

    Rows of weight zero are left out of both.
    """
    weights = rows.sample_weight
    every = np.arange(len(rows)) if weights is None else np.flatnonzero(weights)
    if not options.early_stopping:
        return every, None
    strata = None if rows.strata is None else rows.strata[every]
    held_out = max(2, int(np.ceil(options.validation_fraction * len(every))))  # two have an R^2
    if strata is not None:
        held_out = max(held_out, len(np.unique(strata)))
    if held_out >= len(every):
        raise ValueError(
            f"validation_fraction={options.validation_fraction} of {len(every)} samples leaves "
            "none to train on. Lower it, or give more samples."
        )
    parts = train_test_split(
        every,
        test_size=held_out,
        random_state=int(random_stream(seed, _SPLIT).integers(2**31)),
        stratify=strata,
    )
    return tuple(np.sort(part) for part in parts)


def one_epoch(incremental):
    """What `Options` differ in when ``partial_fit`` asks for them."""
    return {"max_iter": 1, "incremental": True} if incremental else {}


def can_partial_fit(options):
    """True, or an AttributeError for parameters that need to know where training ends."""
    ends = {"early_stopping": True, "learning_rate": "cosine", "fine_tune": True}
    for name, value in ends.items():
        if getattr(options, name, None) == value:
            raise AttributeError(f"partial_fit does not support {name}={value!r}")
    return True


def train(
    network, objective, rows, state, options, *, name, score=None, in_place=False, task=None
):
    """Train a network for up to ``options.max_iter`` epochs, from `state` on.

    Parameters
    ----------
    network : Network
    objective : Objective
    rows : Rows
    state : State
    options : Options
    name : str
        What to call this training in messages.
    score : callable, default=None
        ``score(outputs, index)`` of the outputs for the rows of `index`, the higher the better;
        what early stopping goes by instead of the loss.
    in_place : bool, default=False
        Whether the buffers of `state` may be written to: nobody else has them.
    task : Task, default=None
        What the epochs are parts of, for callbacks.

    Returns
    -------
    state : State
        The new one. With early stopping, the parameters are those of the best epoch.

    Raises
    ------
    ValueError
        If the loss becomes infinite or nan.
    """
    if not in_place:
        state = replace(state, buffers=state.buffers.copy())
    loop = _Loop(network, objective, rows, state, options, name, score, task or Task())
    try:
        with team_for(loop.batch_size * network.largest_matrix) as team:
            loop.run(team)
    except KeyboardInterrupt:
        warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
        loop.state.step = loop.solver.step  # the moments have come as far as that
        loop.state.interrupted = True
    return loop.finish()


class _Loop:
    """One run of epochs over one state; `train` is its only user."""

    def __init__(self, network, objective, rows, state, options, name, score, task):
        self.network, self.objective, self.rows = network, objective, rows
        self.options, self.name, self.score, self.task = options, name, score, task
        self.solver = solver_of(options)
        buffers, self.solver.step = state.buffers, state.step
        if len(buffers) != self.solver.n_buffers:  # another solver: keep the parameters only
            buffers = np.zeros((self.solver.n_buffers, network.n_params), dtype=buffers.dtype)
            buffers[0], self.solver.step = state.params, 0
        self.state = replace(
            state,
            buffers=buffers,
            loss_curve=list(state.loss_curve),
            validation_loss_curve=list(state.validation_loss_curve),
            validation_scores=list(state.validation_scores),
            interrupted=False,
        )
        if (
            state.learning_rate_init != options.learning_rate_init
            or options.learning_rate != "adaptive"
        ):
            self.state.learning_rate = options.learning_rate_init
            self.state.learning_rate_init = options.learning_rate_init
        if not options.incremental:
            self.state.best_loss, self.state.n_stale = np.inf, 0
        # The parameters of the best epoch, or the mean of those of the last ones.
        self.best_params = self.state.params.copy() if options.early_stopping else None
        self.sum_params = np.zeros(network.n_params) if options.n_average else None
        self.n_summed = 0
        self.training, self.validation = split(rows, options, state.seed)
        size = options.batch_size
        self.batch_size = min(200 if size == "auto" else size, len(self.training))
        self.workspace = network.workspace(
            self.batch_size, state.buffers.dtype, adversarial=objective.adversarial_radius > 0
        )

    def run(self, team):
        if self.validation is not None and self.state.loss_curve:
            # What to improve on, when a fit continues: an earlier one may have gone by another.
            self.state.best_loss = self.monitored()[0]
        max_iter = self.options.max_iter
        for epoch in range(max_iter):
            task = self.task.subtask("epoch")
            begin = time.perf_counter()
            self.solver.learning_rate = self.rate(epoch)
            loss = self.epoch(team)
            self.state.step = self.solver.step
            self.state.loss_curve.append(loss)
            if epoch >= max_iter - self.options.n_average:
                self.sum_params += self.state.params
                self.n_summed += 1
            if self.validation is not None:
                loss = self.validate()
            self.report(time.perf_counter() - begin)
            stops = self.converged(loss)
            if task.end(self.snapshot) or stops:
                return
        if self.options.tol is not None and not self.options.incremental:
            warnings.warn(
                f"{self.name}: maximum iterations ({max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def rate(self, epoch):
        """Learning rate of an epoch of this run; partial_fit counts them over all its calls."""
        options = self.options
        if options.incremental:
            epoch = len(self.state.loss_curve)
        if epoch < options.warm_up:
            return options.learning_rate_init * (epoch + 1) / (options.warm_up + 1)
        if options.learning_rate == "cosine":
            progress = (epoch - options.warm_up) / (options.max_iter - options.warm_up)
            return options.learning_rate_init * 0.5 * (1.0 + np.cos(np.pi * progress))
        return self.state.learning_rate

    def epoch(self, team):
        """Step through all training rows once; return the mean cost of the batches."""
        state, number = self.state, len(self.state.loss_curve)
        order = self.training
        if self.options.shuffle:
            order = random_stream(state.seed, _ORDER, number).permutation(order)
        key = noise_key(state.seed, number)
        cost = weight = 0.0
        for X, target, index, ids, weights in self.rows.batches(order, self.batch_size):
            batch_cost, batch_weight = _sgd.train(
                self.network.layers,
                self.objective,
                self.solver,
                team,
                state.buffers,
                self.workspace,
                X,
                target,
                index,
                ids,
                weights,
                self.batch_size,
                key,
            )
            cost += batch_cost
            weight += batch_weight
        cost = cost / weight if weight else np.nan  # not finite from the first batch on
        if self.objective.alpha:
            cost += 0.5 * self.objective.alpha * self.network.squared_weights(state.params)
        if not np.isfinite(cost):
            raise ValueError(
                f"{self.name}: the loss became non-finite in epoch {number + 1}. Try a smaller "
                f"learning_rate_init (it is {self.options.learning_rate_init:g}), or scale the "
                "data, e.g. with sklearn.preprocessing.StandardScaler."
            )
        return cost

    def monitored(self):
        """What early stopping is to make small, and the loss and score of the held-out rows.

        Without noise and penalties; the score is None if there is no function for it.
        """
        state, index, weights = self.state, self.validation, self.rows.sample_weight
        losses = self.network.row_losses(state.params, self.objective, self.rows, index=index)
        loss = float(np.average(losses, weights=None if weights is None else weights[index]))
        if self.score is None:
            return loss, loss, None
        outputs = self.network.outputs(state.params, self.rows, index=index)
        score = float(self.score(outputs, index))
        return -score, loss, score

    def validate(self):
        """Note loss and score of the held-out rows; return what is to be made small."""
        monitored, loss, score = self.monitored()
        self.state.validation_loss_curve.append(loss)
        if score is not None:
            self.state.validation_scores.append(score)
        return monitored

    def converged(self, loss):
        """Note an improvement or its absence; True when it is time to stop."""
        state, options = self.state, self.options
        if loss < state.best_loss - (options.tol or 0.0):
            state.n_stale = 0
        else:
            state.n_stale += 1
        if loss < state.best_loss:
            state.best_loss = loss
            if self.best_params is not None:
                self.best_params[:] = state.params
        if state.n_stale < options.n_iter_no_change:
            return False
        if options.learning_rate == "adaptive" and state.learning_rate > ADAPTIVE_END:
            state.learning_rate /= ADAPTIVE_FACTOR
            state.n_stale = 0
            return False
        stops = options.early_stopping or options.learning_rate == "adaptive"
        if options.tol is None and not stops:
            return False
        return True

    def report(self, seconds):
        if not self.options.verbose:
            return
        state = self.state
        line = f"[{self.name}] epoch {len(state.loss_curve)}, loss = {state.loss_curve[-1]:.6g}"
        if self.validation is not None:
            line += f", validation loss = {state.validation_loss_curve[-1]:.6g}"
        if state.validation_scores:
            line += f", validation score = {state.validation_scores[-1]:.4f}"
        print(f"{line}, {seconds:.2f} s, learning rate = {self.solver.learning_rate:.3g}")

    def final_params(self):
        """The parameters that training ends with, if it ends here."""
        if self.best_params is not None and self.state.validation_loss_curve:
            return self.best_params
        if self.n_summed:
            return self.sum_params / self.n_summed
        return self.state.params

    def snapshot(self):
        """The state that training ends with, if it ends here; what goes on leaves it as it is."""
        state = deepcopy(self.state)
        state.params[:] = self.final_params()
        return state

    def finish(self):
        state = self.state
        state.params[:] = self.final_params()
        if not np.isfinite(state.params).all():
            raise ValueError(
                f"{self.name}: the weights became non-finite in epoch {len(state.loss_curve)}. "
                f"Try a smaller learning_rate_init (it is {self.options.learning_rate_init:g})."
            )
        return state
