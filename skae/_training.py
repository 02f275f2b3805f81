"""The epoch loop: order of the samples, schedules, early stopping, best weights, progress.

All estimators use this loop; the kernel takes the steps of an epoch.
"""

import time
import warnings
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skae import _inference
from skae._callbacks import FitTask
from skae._dataset import Dataset
from skae._kernel import _sgd
from skae._network import FIRST_ACTIVE, aligned_zeros
from skae._parameters import TrainingParameters
from skae._threads import team_for

# Divisor of the adaptive learning rate, and the rate below which training stops.
ADAPTIVE_FACTOR, ADAPTIVE_END = 5.0, 1e-6

# Independent streams of random numbers from one seed. Each draw specifies its stream and epoch, so
# no state of a generator needs to be saved.
_INITIAL, _SPLIT, _ORDER, _NOISE, POOL, ROUND = range(6)

# The attributes of a `TrainingState` that are curves.
CURVES = ("loss_curve", "validation_loss_curve", "validation_scores")

# With max_iter='auto', number of samples seen in training, counting repetitions, and bounds of the
# number of epochs. With batch_size='auto', bounds of the batch size.
N_SAMPLES_SEEN, EPOCHS, BATCHES = 40_000, (5, 1000), (20, 200)

# Minimum fraction of labelled samples in a mini-batch that also has unlabelled ones: numerator and
# denominator.
LABELLED_SHARE = 2, 7

# In the first 1 / OPENING of the epochs, unlabelled samples only have the smoothness loss, or
# pseudo-labels, because a network that is confident too early stays wrong.
OPENING = 4

# With shuffle='blocks', number of consecutive samples in a block, and number of blocks whose
# samples are shuffled together.
BLOCK, BLOCKS_TOGETHER = 256, 64

# Number of samples to check whether the last step diverged.
N_PROBES = 20

# Maximum number of samples to measure the quality of a fit on.
N_MEASURED = 10_000


class Options(SimpleNamespace):
    """Training options: `TrainingParameters`, and options of some estimators."""

    warm_start = False
    max_norm: float | None = None
    n_warmup_epochs: int = 0
    n_averaged_epochs: int = 0
    incremental = False  # whether this is a call of partial_fit
    from_random = False  # whether the weights of the first fit are random

    @classmethod
    def of(cls, estimator, n_samples, *, incremental=False, **others):
        """Make options from the parameters of an estimator; `others` take precedence.

        `n_samples` determines `max_iter` if it is 'auto'.
        """
        names = [*TrainingParameters._declared]
        names += [name for name in cls.__annotations__ if hasattr(estimator, name)]
        if incremental:
            others = {**others, "max_iter": 1, "incremental": True}
        options = cls(**{**{name: getattr(estimator, name) for name in names}, **others})
        options.max_iter = n_epochs(options.max_iter, n_samples)
        if options.n_warmup_epochs >= max(options.max_iter, 1) and not incremental:
            raise ValueError(
                f"n_warmup_epochs={options.n_warmup_epochs} must be less than "
                f"max_iter={options.max_iter}."
            )
        return options


def n_epochs(max_iter, n_samples):
    """Return the number of epochs, also if `max_iter` is 'auto'."""
    if max_iter != "auto":
        return max_iter
    return int(np.clip(-(-N_SAMPLES_SEEN // n_samples), *EPOCHS))


def n_in_batch(batch_size, n_samples):
    """Return the size of mini-batches, also if `batch_size` is 'auto'."""
    if batch_size != "auto":
        return batch_size
    return int(np.clip(n_samples // 100, *BATCHES))


class Curve:
    """A list with one number per epoch. Copies share the values that they have in common."""

    def __init__(self, values=()):
        self._values = list(values)
        self._length = len(self._values)

    def append(self, value):
        if self._length < len(self._values):  # another copy has appended values
            self._values = list(self)
        self._values.append(value)
        self._length += 1

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        return self._values[range(self._length)[index]]

    def __copy__(self):
        other = Curve()
        other._values, other._length = self._values, self._length
        return other

    def __reduce__(self):
        return Curve, (list(self),)


@dataclass(eq=False, repr=False)
class TrainingState:
    """The state of training between epochs, and between fits that continue each other.

    Attributes
    ----------
    buffers : ndarray of shape (n_buffers, n_params)
        Row 0 holds the parameters, the others the moments of the solver. A state that will not
        be continued exactly has only the parameters.
    seed : int
        Seed of all random numbers.
    step : int
        Number of steps taken so far, counted by the kernel.
    mean_weight : float
        Mean weight of the samples of the last fit, or of a stream of partial fits.
    n_samples : int
        Number of these samples.
    n_run_epochs : int
        Number of epochs of the last run.
    interrupted : bool
        Whether the last run ended before its last epoch.
    output_only : bool
        Whether the last run trained only the output layer.
    outer_momentum : ndarray of shape (n_params,) or None
        Momentum of the mean of several replicas; None for a single network.
    unfinished : dict or None
        Parameters and sums to resume an interrupted run from, if they differ from the returned
        ones.
    """

    buffers: np.ndarray
    seed: int
    step: int = 0
    learning_rate: float | None = None
    learning_rate_init: float | None = None
    best_loss: float = np.inf
    n_stale: int = 0
    loss_curve: Curve = field(default_factory=Curve)
    validation_loss_curve: Curve = field(default_factory=Curve)
    validation_scores: Curve = field(default_factory=Curve)
    mean_weight: float = 0.0
    n_samples: int = 0
    n_run_epochs: int = 0
    interrupted: bool = False
    output_only: bool = False
    outer_momentum: np.ndarray | None = None
    unfinished: dict | None = None

    @property
    def params(self):
        return self.buffers[0]

    @classmethod
    def from_dict(cls, values):
        """Restore a state from the result of `to_dict`."""
        return cls(**{**values, **{name: Curve(values[name]) for name in CURVES}})

    def to_dict(self):
        """Convert the state to a dict of types that skops trusts."""
        return {**vars(self), **{name: list(getattr(self, name)) for name in CURVES}}

    def as_complete(self):
        """Return this state marked as complete, to be followed by another run."""
        return replace(self, interrupted=False, unfinished=None)

    def changed(self, **changes):
        """Copy the state with other values; its curves grow independently."""
        curves = {name: copy(getattr(self, name)) for name in CURVES}
        return replace(self, **curves, **changes)


def draw_seed(random_state):
    """Draw the seed of a fit from scikit-learn's `random_state`."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def random_stream(seed, stream, *epoch):
    return np.random.default_rng((seed, stream, *(epoch or (0,))))


def noise_key(seed, epoch):
    """Return the kernel's 64-bit key for the noise of an epoch."""
    return int(np.random.SeedSequence((seed, _NOISE, epoch)).generate_state(1, np.uint64)[0])


def epoch_order(index, shuffle, seed, *epoch):
    """Return the order of samples in an epoch; more numbers in `epoch` make separate orders."""
    if not shuffle:
        return index
    rng = random_stream(seed, _ORDER, *epoch)
    if shuffle != "blocks":
        return rng.permutation(index)
    starts = rng.permutation(np.arange(0, len(index), BLOCK))
    together = []
    for k in range(0, len(starts), BLOCKS_TOGETHER):
        parts = [index[start : start + BLOCK] for start in starts[k : k + BLOCKS_TOGETHER]]
        together.append(rng.permutation(np.concatenate(parts)))
    return np.concatenate(together)


class Mixture:
    """Mini-batches with both labelled and unlabelled samples.

    An epoch uses each sample at least once. Samples of the kind that is too rare, usually the
    labelled ones, are repeated.

    Attributes
    ----------
    n_labelled : int
        Number of labelled samples in a mini-batch; they come first.
    n_rows : int
        Number of samples in an epoch, counting repetitions.
    """

    def __init__(self, labelled, unlabelled, batch_size):
        self.labelled, self.unlabelled = labelled, unlabelled
        shares = LABELLED_SHARE, (len(labelled), len(labelled) + len(unlabelled))
        wanted = max(-(-batch_size * part // whole) for part, whole in shares)
        self.n_labelled = min(wanted, len(labelled))
        self.n_others = min(max(1, batch_size - self.n_labelled), len(unlabelled))
        of_labelled, of_others = (
            -(-len(some) // n)
            for some, n in ((labelled, self.n_labelled), (unlabelled, self.n_others))
        )
        self.n_batches = max(of_labelled, of_others)
        # The last mini-batch may be shorter.
        n_drawn = (
            len(unlabelled) if of_others == self.n_batches else self.n_batches * self.n_others
        )
        self.n_drawn = self.n_batches * self.n_labelled, n_drawn
        self.n_rows = sum(self.n_drawn)

    @property
    def batch_size(self):
        return self.n_labelled + self.n_others

    def order(self, shuffle, seed, epoch, n_samples):
        """Return the samples of an epoch, in mini-batches, and the ids for their noise.

        Repetitions of a sample have different ids.
        """
        drawn = []
        for kind, (some, n) in enumerate(zip((self.labelled, self.unlabelled), self.n_drawn)):
            orders = [
                epoch_order(some, shuffle, seed, epoch, k, kind) for k in range(-(-n // len(some)))
            ]
            first = np.repeat(np.arange(len(orders)) * n_samples, len(some))[:n]
            drawn.append((np.concatenate(orders)[:n], first))
        stops = [np.arange(1, self.n_batches) * n for n in (self.n_labelled, self.n_others)]

        def mixed(labelled, others):
            parts = zip(np.split(labelled, stops[0]), np.split(others, stops[1]))
            return np.concatenate([part for both in parts for part in both])

        (labelled, first), (others, other_first) = drawn
        return mixed(labelled, others), mixed(labelled + first, others + other_first)


def make_solver(options):
    """Make the kernel's solver for these options."""
    name = options.solver
    if name == "sgd":
        name = "momentum" if options.momentum > 0 else "plain_sgd"
    return _sgd.Solver(
        name,
        learning_rate=options.learning_rate_init,
        momentum=options.momentum,
        nesterov=options.nesterovs_momentum,
        beta_1=options.beta_1,
        beta_2=options.beta_2,
        epsilon=options.epsilon,
        max_norm=options.max_norm or 0.0,
    )


def initial_state(network, options, dtype, seed):
    """Make the state before the first epoch, with initial weights drawn from the seed."""
    buffers = aligned_zeros((make_solver(options).n_buffers, network.n_params), dtype)
    buffers[0] = network.initialize(random_stream(seed, _INITIAL), dtype)
    return TrainingState(buffers, seed)


def split(dataset, options, seed):
    """Return the positions of training samples and held-out samples (None if not held out).

    Unlabelled samples and those of weight zero are in neither.
    """
    every = dataset.weighted
    if dataset.labelled is not None:
        every = every[dataset.labelled[every]]
    if not options.early_stopping:
        return every, None
    strata = None if dataset.strata is None else dataset.strata[every]
    held_out = max(2, int(np.ceil(options.validation_fraction * len(every))))  # R^2 needs two
    held_out = min(held_out, dataset.most_held_out)
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


def measured(dataset, options, seed):
    """Return positions of evenly spaced samples to measure the quality of a fit on.

    They are held-out samples, or training samples if none are held out.
    """
    training, held_out = split(dataset, options, seed)
    index = training if held_out is None else held_out
    if len(index) > N_MEASURED:
        places = np.arange(N_MEASURED) * len(index) // N_MEASURED
        index = places if isinstance(index, range) else index[places]
    return index


class Stepper:
    """Takes the steps of an epoch, or of a part of it; can be pickled for other processes."""

    def __init__(self, network, objective, solver, corruption, batch_size):
        self.network, self.objective, self.solver = network, objective, solver
        self.corruption, self.batch_size = corruption, batch_size

    def begin(self, state):
        """Allocate the memory for steps from this state on."""
        network, dtype = self.network, state.buffers.dtype
        self.workspace = network.workspace(
            self.batch_size,
            dtype,
            adversarial=self.objective.adversarial_radius > 0,
            smooth=self.objective.smoothness_radius > 0,
        )
        size = network.n_params if self.solver.needs_gradient else 0
        self.gradient = aligned_zeros(size, dtype)
        self.problem = _sgd.Problem(
            network.layers, self.objective, self.solver, state, self.corruption
        )

    def run(self, dataset, order, key, weights, team, **given):
        """Step through samples in this order; return the sum of their costs.

        Further arguments are passed to `Dataset.batches`.
        """
        cost = 0.0
        for batches in dataset.batches(order, self.batch_size, key, weights, **given):
            cost += _sgd.train(self.problem, batches, team, self.gradient, self.workspace)
        return cost


@dataclass
class Steps:
    """The steps of an epoch: through samples of a data set, or through a mixture of them."""

    dataset: Dataset
    index: np.ndarray | range
    weights: np.ndarray | None  # for all samples, relative to the mean
    stepper: Stepper
    mixture: Mixture | None = None

    @property
    def n_rows(self):
        return len(self.index) if self.mixture is None else self.mixture.n_rows

    def run(self, shuffle, seed, epoch, team):
        """Take the steps; return the sum of their costs."""
        given = {}
        if self.mixture is None:
            order = epoch_order(self.index, shuffle, seed, epoch)
        else:
            order, ids = self.mixture.order(shuffle, seed, epoch, len(self.dataset))
            given = {"n_labelled": self.mixture.n_labelled, "ids": ids}
        key = noise_key(seed, epoch)
        return self.stepper.run(self.dataset, order, key, self.weights, team, **given)


def train(
    network,
    objective,
    dataset,
    state,
    options,
    *,
    name,
    corruption=None,
    score=None,
    in_place=False,
    task=None,
):
    """Train a network for up to ``options.max_iter`` epochs, from `state` on.

    Parameters
    ----------
    network : Network
    objective : Objective
    dataset : Dataset
    state : TrainingState
    options : Options
    name : str
        Name of this run in messages.
    corruption : Corruption, default=None
        Noise on the input of the network.
    score : callable, default=None
        ``score(targets, outputs, sample_weight)``, higher is better: the criterion of early
        stopping in place of the loss.
    in_place : bool, default=False
        Whether to train in the buffers of `state`; otherwise they are copied.
    task : FitTask, default=None
        The parent of the epochs, for callbacks.

    Returns
    -------
    state : TrainingState
        The new state, with the parameters of the best epoch if `early_stopping`.

    Raises
    ------
    ValueError
        If the loss becomes infinite or nan, or the state does not fit the network.
    """
    network.check(state.buffers)
    if not in_place:
        buffers = aligned_zeros(state.buffers.shape, state.buffers.dtype)
        buffers[:] = state.buffers
        state = replace(state, buffers=buffers)
    loop = _Loop(
        network, objective, corruption, dataset, state, options, name, score, task or FitTask()
    )
    try:
        work = loop.largest_batch * network.largest_matrix if dataset.here else 0
        with team_for(work) as team:
            loop.run(team)
    except KeyboardInterrupt:
        warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
        loop.state.interrupted = True
    return loop.finish()


class _Loop:
    """A run of epochs, for `train`."""

    def __init__(self, network, objective, corruption, dataset, state, options, name, score, task):
        self.network, self.objective, self.dataset = network, objective, dataset
        self.options, self.name, self.score, self.task = options, name, score, task
        self.solver = make_solver(options)
        buffers, step = state.buffers, state.step
        if len(buffers) != self.solver.n_buffers:  # another solver, or no moments were kept
            buffers = aligned_zeros((self.solver.n_buffers, network.n_params), buffers.dtype)
            buffers[0], step = state.params, 0
        self.state = state.changed(buffers=buffers, step=step, interrupted=False, unfinished=None)
        # An interrupted run is resumed with its missing epochs.
        self.resumes = (
            state.interrupted
            and not options.incremental
            and 0 < state.n_run_epochs < options.max_iter
        )
        if not self.resumes:
            self.state.n_run_epochs = 0
        if (
            state.learning_rate_init != options.learning_rate_init
            or options.learning_rate != "adaptive"
        ):
            self.state.learning_rate = options.learning_rate_init
            self.state.learning_rate_init = options.learning_rate_init
        if not (options.incremental or self.resumes):
            self.state.best_loss, self.state.n_stale = np.inf, 0
        # The parameters of the best epoch, or the sum of those of the last epochs.
        self.best_params = self.state.params.copy() if options.early_stopping else None
        self.sum_params = np.zeros(network.n_params) if options.n_averaged_epochs else None
        self.n_summed = 0
        if self.resumes and state.unfinished is not None:
            self.state.params[:] = state.unfinished["params"]
            if self.sum_params is not None and state.unfinished["n_summed"]:
                self.sum_params[:] = state.unfinished["sum_params"]
                self.n_summed = state.unfinished["n_summed"]
        self.training, self.validation = split(dataset, options, state.seed)
        if self.validation is not None:
            self.held_out = dataset.part(self.validation)
        batch_size = n_in_batch(options.batch_size, len(dataset) // dataset.n_replicas)
        self.batch_size, mixture = min(batch_size, len(self.training)), None
        unlabelled = dataset.unlabelled
        if len(unlabelled) and objective.smoothness_radius > 0:
            mixture = Mixture(self.training, unlabelled, batch_size)
            self.batch_size = mixture.batch_size
        # Nothing but random weights is lost if more units of a top-k code are active at first.
        earlier = len(state.loss_curve) - (state.n_run_epochs if self.resumes else 0)
        starts = options.from_random and not options.incremental and not earlier
        self.n_falling = options.max_iter // 2 if starts and any(network.layers["n_active"]) else 0
        self.n_opening = 0 if mixture is None else options.max_iter // OPENING
        self.settling = objective.entropy_weight, objective.balance_weight
        self.stepper = Stepper(network, objective, self.solver, corruption, self.batch_size)
        weights = self.relative_weights(unlabelled)
        self.on_labels = Steps(dataset, self.training, weights, self.stepper, mixture)
        self.on_pseudo_labels, self.largest_batch = None, self.batch_size
        if dataset.pseudo_labels is not None:
            self.largest_batch = max(self.batch_size, min(batch_size, len(dataset)))
        if dataset.here:
            self.stepper.begin(self.state)

    def pseudo_labels_follow(self):
        """Whether the next epoch uses pseudo-labels."""
        pseudo = self.dataset.pseudo_labels
        return pseudo is not None and self.state.n_run_epochs < pseudo.n_epochs

    def pseudo_labelled(self):
        """Return the steps on pseudo-labels: of all samples that are not held out."""
        dataset, objective, its = self.dataset, self.objective, self.stepper
        target, weights = dataset.pseudo_labels.find(self.training)
        index = np.union1d(self.training, dataset.unlabelled)
        index = index[weights[index] > 0]
        plain = _sgd.Objective(
            objective.loss,
            alpha=objective.alpha,
            adversarial_radius=objective.adversarial_radius,
        )
        size = min(self.largest_batch, len(index))
        stepper = Stepper(its.network, plain, its.solver, its.corruption, size)
        stepper.begin(self.state)
        labelled = copy(dataset)
        labelled.target = target
        return Steps(labelled, index, weights / weights[index].mean(), stepper)

    @property
    def steps(self):
        """The steps of the next epoch."""
        return self.on_pseudo_labels if self.pseudo_labels_follow() else self.on_labels

    def relative_weights(self, unlabelled):
        """Divide sample weights by their mean, so that only their ratios matter.

        The mean is that of the training samples; for `partial_fit`, that of all calls so far.
        Unlabelled samples have a separate mean.
        """
        weights, state = self.dataset.sample_weight, self.state
        n_samples, mean = len(self.training), 1.0
        if weights is not None:
            mean = weights[self.training].mean()
        if not self.options.incremental:
            state.n_samples, state.mean_weight = 0, 0.0
        state.n_samples += n_samples
        state.mean_weight += (mean - state.mean_weight) * (n_samples / state.n_samples)
        if weights is None and state.mean_weight == 1.0:
            return None
        weights = np.ones(len(self.dataset)) if weights is None else weights
        relative = weights / state.mean_weight
        if len(unlabelled):
            relative[unlabelled] = weights[unlabelled] / weights[unlabelled].mean()
        return relative

    def run(self, team):
        if self.validation is not None and self.state.loss_curve and not self.resumes:
            # Baseline when a fit continues; the earlier one may have used another criterion.
            self.state.best_loss = self.monitored()[0]
        max_iter = self.options.max_iter
        if max_iter > 0 and self.pseudo_labels_follow():
            self.on_pseudo_labels = self.pseudo_labelled()
        for epoch in range(self.state.n_run_epochs, max_iter):
            task = self.task.subtask("epoch")
            begin = time.perf_counter()
            self.solver.learning_rate = self.rate(epoch)
            opening, objective = epoch < self.n_opening, self.objective
            settling = (0.0, 0.0) if opening else self.settling
            objective.entropy_weight, objective.balance_weight = settling
            with self.more_active(epoch):
                loss = self.epoch(team)
            self.state.loss_curve.append(loss)
            self.state.n_run_epochs = epoch + 1
            if epoch >= max_iter - self.options.n_averaged_epochs:
                self.sum_params += self.state.params
                self.n_summed += 1
            if self.validation is not None:
                loss = self.validate()
            self.report(time.perf_counter() - begin)
            stops = self.converged(loss, changing=epoch < self.n_falling)
            n_changing = max(self.n_opening, self.n_falling)
            if epoch < n_changing:
                stops = False
                if epoch + 1 == n_changing:  # the loss changes after this epoch
                    self.state.n_stale = 0
                    if not self.options.early_stopping:
                        self.state.best_loss = np.inf
            lacks = not stops and epoch + 1 < max_iter
            ends = task.end(partial(self.result, interrupted=lacks), is_last=not lacks) or stops
            self.state.interrupted = lacks and task.stopped
            if ends:
                return
        if self.options.tol is not None and max_iter > 0 and not self.options.incremental:
            warnings.warn(
                f"{self.name}: maximum iterations ({max_iter}) reached and the optimization "
                "hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )

    @contextmanager
    def more_active(self, epoch):
        """Let more units of top-k codes be active in one of the first epochs."""
        layers = self.network.layers
        final = layers["n_active"].copy()
        if epoch < self.n_falling:
            factor = FIRST_ACTIVE - (FIRST_ACTIVE - 1) * epoch / self.n_falling
            layers["n_active"] = np.minimum(np.rint(factor * final), layers["n_out"])
        try:
            yield
        finally:
            layers["n_active"] = final

    def rate(self, epoch):
        """Return the learning rate of an epoch; partial_fit counts epochs over all calls."""
        options, warmup = self.options, self.options.n_warmup_epochs
        if options.incremental:
            epoch = len(self.state.loss_curve)
        if epoch < warmup:
            return options.learning_rate_init * (epoch + 1) / (warmup + 1)
        if options.learning_rate == "cosine":
            progress = (epoch - warmup) / (options.max_iter - warmup)
            return options.learning_rate_init * 0.5 * (1.0 + np.cos(np.pi * progress))
        return self.state.learning_rate

    def epoch(self, team):
        """Step through all training samples once; return the mean cost of the mini-batches."""
        state, number = self.state, len(self.state.loss_curve)
        cost = self.dataset.epoch(self, number, team) / self.steps.n_rows
        if self.objective.alpha:
            cost += 0.5 * self.objective.alpha * self.network.squared_weights(state.params)
        self.check_finite(cost, number + 1)
        return cost

    def step_through(self, number, team):
        """Take the steps of an epoch on samples in this process; return the sum of the costs."""
        return self.steps.run(self.options.shuffle, self.state.seed, number, team)

    def check_finite(self, loss, epoch):
        """Raise an error if the loss is infinite or nan."""
        if not np.isfinite(loss):
            raise ValueError(
                f"{self.name}: the loss became non-finite in epoch {epoch}. Try a smaller "
                f"learning_rate_init (it is {self.options.learning_rate_init:g}), or scale the "
                "data, e.g. with sklearn.preprocessing.StandardScaler."
            )

    def monitored(self):
        """Compute the early-stopping criterion, the loss and the score on held-out samples.

        They exclude noise and penalties. A lower criterion is better. The score is None without a
        score function.
        """
        network, params = self.network, self.state.params
        dataset, index = self.held_out
        weights = dataset.weights_of_mean(index)
        losses = _inference.sample_losses(network, params, self.objective, dataset, index=index)
        with np.errstate(over="ignore"):
            loss = float(np.average(losses, weights=weights))
        self.check_finite(loss, len(self.state.loss_curve))
        if self.score is None:
            return loss, loss, None
        outputs = _inference.outputs(network, params, dataset, index=index)
        score = float(self.score(dataset.target[index], outputs, weights))
        return -score, loss, score

    def validate(self):
        """Record loss and score of the held-out samples; return the criterion."""
        monitored, loss, score = self.monitored()
        self.state.validation_loss_curve.append(loss)
        if score is not None:
            self.state.validation_scores.append(score)
        return monitored

    def converged(self, loss, *, changing=False):
        """Record whether the loss improved; return whether to stop.

        While the network is `changing`, a larger loss does not count.
        """
        state, options = self.state, self.options
        if changing or loss < state.best_loss - (options.tol or 0.0):
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
        epoch = len(state.loss_curve)
        line = f"[{self.name}] epoch {epoch}"
        if not self.options.incremental:
            line += f" of {epoch - state.n_run_epochs + self.options.max_iter}"
        line += f", loss = {state.loss_curve[-1]:.6g}"
        if self.validation is not None:
            line += f", validation loss = {state.validation_loss_curve[-1]:.6g}"
        if state.validation_scores:
            line += f", validation score = {state.validation_scores[-1]:.4f}"
        print(f"{line}, {seconds:.2f} s, learning rate = {self.solver.learning_rate:.3g}")

    def better_params(self):
        """Return the best or averaged parameters, or None if training returns the last ones."""
        if self.best_params is not None and self.state.validation_loss_curve:
            return self.best_params
        return self.sum_params / self.n_summed if self.n_summed else None

    def result(self, *, interrupted, in_place=False):
        """Return the state that training returns if it ends here.

        Moments are kept only if training may be continued, and `unfinished` values only if it is
        interrupted. With `in_place`, the result shares the buffers if moments are kept.
        """
        state, better, unfinished = self.state, self.better_params(), None
        keeps = interrupted or self.options.warm_start or self.options.incremental
        if interrupted and better is not None:
            unfinished = {
                "params": state.params.copy(),
                "sum_params": None if self.sum_params is None else self.sum_params.copy(),
                "n_summed": self.n_summed,
            }
        buffers = state.buffers
        if not (keeps and in_place):
            buffers = (buffers if keeps else buffers[:1]).copy()
        if better is not None:
            buffers[0] = better
        return state.changed(
            buffers=buffers,
            interrupted=interrupted,
            unfinished=unfinished,
            outer_momentum=state.outer_momentum if keeps else None,
        )

    def finish(self):
        state = self.result(interrupted=self.state.interrupted, in_place=True)
        if not np.isfinite(state.params).all():
            raise ValueError(
                f"{self.name}: the weights became non-finite in epoch {len(state.loss_curve)}. "
                f"Try a smaller learning_rate_init (it is {self.options.learning_rate_init:g})."
            )
        if self.validation is None and state.loss_curve:
            # The loss of an epoch is computed before each step: it excludes the last step.
            dataset, index = self.dataset.part(self.training[:N_PROBES])
            losses = _inference.sample_losses(
                self.network, state.params, self.objective, dataset, index=index
            )
            with np.errstate(over="ignore"):
                self.check_finite(losses.sum(), len(state.loss_curve))
        return state
