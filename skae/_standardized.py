"""Base of detector and imputer: deep autoencoders of standardised features."""

from contextlib import nullcontext
from copy import copy
from functools import partial
from itertools import pairwise, takewhile
from numbers import Integral

import numpy as np
from sklearn.base import clone

from skae import _training
from skae._base import BaseModel, check_weights, unchanged_on_error
from skae._callbacks import FitTask
from skae._compat import Interval, StrOptions
from skae._dataset import ArrayDataset, ArraySamples, EncodedDataset, Samples, over
from skae._network import CODE_ACTIVATIONS
from skae._parameters import (
    POSITIVE_INT,
    TrainingParameters,
    parameter,
    parameter_group,
    with_default,
)
from skae._stacked import StackedAutoencoder, check_each, per_layer
from skae._threads import side_by_side
from skae._typing import PerLayer

# A top-k code does not suit these networks, whose parameters have no number of active units.
ACTIVATIONS = [name for name in CODE_ACTIVATIONS if name != "top_k"]

LEAST_SAMPLES = 4  # two for each of two networks


@parameter_group
class StandardizedStackParameters(TrainingParameters):
    """Parameters of a deep autoencoder of standardised features."""

    hidden_layer_sizes: PerLayer[int] = parameter(
        default=(128, 128),
        kw_only=False,
        constraint=["array-like", POSITIVE_INT],
        doc="""int in [1, inf) or array-like of shape (n_layers,)
        Length of the code of each layer, from the bottom up.""",
    )
    activation: PerLayer[str] = parameter(
        default="auto",
        constraint=[StrOptions({"auto", *ACTIVATIONS}), "array-like"],
        doc=f"""{{'auto', {", ".join(map(repr, ACTIVATIONS))}}}, or list with one per layer
        Activation of the codes. 'auto' is 'tanh' for the top layer and 'relu' for the others: a
        bounded code cannot represent samples far from the training data.""",
    )
    n_estimators: int = parameter(
        default=4,
        constraint=[Interval(Integral, 2, None, closed="left")],
        doc="""int in [2, inf)
        Number of networks. The samples are divided into this number of random parts, and each
        network is trained on all parts except one; the results of the networks are averaged. The
        held-out part estimates the error of a network on new samples.""",
    )
    alpha: float = with_default(TrainingParameters, "alpha", 1e-4)
    batch_size: int | str = with_default(TrainingParameters, "batch_size", 32)
    learning_rate: str = with_default(TrainingParameters, "learning_rate", "cosine")
    learning_rate_init: float = with_default(TrainingParameters, "learning_rate_init", 0.004)


class StandardizedStack(BaseModel, StandardizedStackParameters):
    """Base of detector and imputer. Subclasses define `_noise`, `_prepare` and `_learn`.

    `_noise` is the kind and the level of the corruption. ``_prepare(samples, weights)`` converts
    `Samples` to those that the networks are trained on, possibly several copies of each.
    ``_learn(left_out)`` sets the other fitted attributes, given the held-out part of these samples
    for each network, including networks that Ctrl-C prevented.
    """

    _documentation = {
        **BaseModel._documentation,
        "stack_attributes": """\
    autoencoders_ : list of StackedAutoencoder
        The fitted networks on standardised features, with their weights, loss curves and
        ``reconstruction_r2_``.
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the observed values of each feature; 0 if there are none.
    scale_ : ndarray of shape (n_features_in_,)
        Standard deviation of the observed values of each feature; 1 if they do not vary.
    n_iter_ : int
        Number of epochs of each network, summed over all consecutive fits that continue each
        other.
""",
    }

    def _fit(self, X, y, sample_weight):
        self._validate_params()
        first = self._is_first_fit()
        resumes = not first and self._interrupted
        new = self._new_stack()
        task = FitTask.fit_of(self, self.n_estimators)
        with unchanged_on_error(self):
            X = self._validate(X, reset=first, ensure_min_samples=LEAST_SAMPLES)
            weights = check_weights(sample_weight, X)
            samples = X if isinstance(X, Samples) else ArraySamples(X)
            if weights is not None and not weights.all():
                samples, weights = samples.selected(weights > 0), weights[weights > 0]
                if len(weights) < LEAST_SAMPLES:
                    raise ValueError(
                        f"sample_weight is not zero for {len(weights)} sample(s), while a minimum "
                        f"of {LEAST_SAMPLES} is required by {type(self).__name__}."
                    )
            if first:
                self._seed = _training.draw_seed(self.random_state)
                dataset = samples.dataset(sample_weight=weights)
                self.mean_, self.scale_, self._varies = mean_and_scale(dataset)
            task.begin(samples, y, weights)
            left_out = parts(samples.shape[0], self.n_estimators, self._seed)
            fitted = [] if first else self.autoencoders_[: len(left_out)]
            stacks = [copy(one).set_params(**new.get_params()) for one in fitted]
            stacks += [clone(new) for _ in left_out[len(fitted) :]]
            for k, stack in enumerate(stacks):  # keep the seeds of the weights
                stack.set_params(random_state=self._seed + k)
            rows = self._prepare(samples, weights)
            done = self._done if resumes else []
            self._train(stacks, done, rows, weights, left_out, task)
            self._learn(rows.selected(rows.of_copies(part)) for part in left_out)
            task.end()
        return self

    def _new_stack(self):
        """Make an unfitted network; raise errors about parameters early."""
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes)).tolist()
        if not sizes:
            raise ValueError("hidden_layer_sizes is empty.")
        activations = self.activation
        if isinstance(activations, str) and activations == "auto":
            activations = ["relu"] * (len(sizes) - 1) + ["tanh"]
        activations = per_layer("activation", activations, len(sizes))
        check_each(self, "hidden_layer_sizes", sizes, [POSITIVE_INT])
        check_each(self, "activation", activations, [StrOptions(set(ACTIVATIONS))])
        names = set(TrainingParameters._declared) - {"max_iter", "learning_rate_init"}
        kind, level = self._noise
        stack = StackedAutoencoder(
            sizes,
            **{name: getattr(self, name) for name in names},
            activation=activations,
            corruption=kind,
            corruption_level=level,
            joint="only",
            joint_max_iter=self.max_iter,
            joint_learning_rate_init=self.learning_rate_init,
        )
        stack._new_layers()
        return stack

    @property
    def _lacks_epochs(self):
        return self._interrupted

    def _set_networks(self, stacks, done, before):
        """Store the networks up to the first that has not been trained.

        A network is completed if its index is in `done`, or if it is neither interrupted nor still
        in its state `before` this fit.
        """
        begun = list(takewhile(lambda stack: getattr(stack, "_joint_state", None), stacks))
        trained = list(takewhile(lambda stack: stack.loss_curve_, begun)) or begun[:1]
        if not trained:
            raise KeyboardInterrupt("no network has been trained")
        self.autoencoders_ = trained
        self._done = [
            k
            for k, stack in enumerate(trained)
            if k in done or not (stack._interrupted or stack._joint_state is before[k])
        ]
        self._interrupted = len(self._done) < len(stacks)
        self.n_iter_ = max(len(stack.loss_curve_) for stack in trained)
        return self

    def _train(self, stacks, done, rows, weights, left_out, task):
        """Train the networks that are not done, each without its held-out samples."""
        before = [vars(stack).get("_joint_state") for stack in stacks]
        # Callbacks, checkpoints and printed progress need sequential training.
        observed = self.verbose or hasattr(self, "_skl_callbacks") or task.saves

        def call(k):
            def fitted(part):
                parts = [*stacks[:k], part, *stacks[k + 1 :]]
                return vars(copy(self)._set_networks(parts, done, before))

            def train(stop):
                stack, kept = stacks[k], rows.of_copies(~left_out[k])
                of_these = None if weights is None else rows.of_copies(weights)[kept]
                private = {
                    "_other_title": f"{type(self).__name__}, network {k + 1} of {len(stacks)}"
                }
                if not observed:  # callbacks may pickle the stack, but not an event
                    private["_stop"] = stop
                vars(stack).update(private)
                try:
                    with task.delegated("network", stack, fitted) if observed else nullcontext():
                        stack.fit(rows.selected(kept), sample_weight=of_these)
                finally:
                    for name in private:
                        delattr(stack, name)
                if stack._interrupted:
                    stop.set()

            return train

        sizes = [rows.shape[1], *stacks[0].hidden_layer_sizes]
        batch_size = _training.n_in_batch(self.batch_size, rows.shape[0])
        work = batch_size * max(a * b for a, b in pairwise(sizes))
        calls = [call(k) for k in range(len(stacks)) if k not in done]
        one_by_one = observed or not rows.here
        side_by_side(calls, np.inf if one_by_one else work, type(self).__name__)
        self._set_networks(stacks, done, before)

    def _standardized(self, X):
        """Return the standardised features of samples, as a lazy data set."""
        return standardized(X, self.mean_, self.scale_)

    def _standardize(self):
        """Return a function that standardises samples and converts them to float32."""
        return partial(to_train_on, mean=self.mean_, scale=self.scale_)


def standardize(samples, mean, scale):
    with np.errstate(over="ignore", invalid="ignore"):
        return ((samples.X - mean) / scale).astype(samples.dtype)


def standardized(X, mean, scale):
    return EncodedDataset(
        ArrayDataset(X), partial(standardize, mean=mean, scale=scale), X.shape[1]
    )


def to_train_on(X, number=0, *, mean, scale):
    return standardized(X, mean, scale).toarray().astype(np.float32)


def parts(n_samples, n_parts, seed):
    """Return masks of a random division of the samples; each leaves out at least two samples."""
    order = np.random.default_rng(seed).permutation(n_samples)
    masks = []
    for part in np.array_split(order, min(n_parts, n_samples // 2)):
        masks.append(np.zeros(n_samples, dtype=bool))
        masks[-1][part] = True
    return masks


def mean_and_scale(dataset):
    """Compute mean and standard deviation of each feature, and whether its values vary."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = dataset.moments(by_weight=True)
        mean, scale = total["mean"], np.sqrt(over(total["squares"], total["weight"]))
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
        largest = np.nanmax(np.abs(dataset.feature_ranges()))
        raise ValueError(f"X has values up to {largest:g}, too large to standardise. Scale X.")
    # The standard deviation of a constant feature may be a small rounding error.
    varies = scale > 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(varies, scale, 1.0), varies
