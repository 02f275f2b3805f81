"""Helpers that several test modules share.

Private names of skae stand here and nowhere else, but for the modules that test one private module
each (test_kernel, test_network, test_rows, test_threads).
"""

import pickle
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    _gaussian,
    _imputer,
    _inference,
    _training,
)
from skae._callbacks import FitTask  # noqa: F401
from skae._dataset import ArrayDataset
from skae._kernel import _sgd
from skae._network import CODE_ACTIVATIONS, OUTPUT_ACTIVATION, Network  # noqa: F401
from skae._training import Curve, Options, make_solver, noise_key, random_stream  # noqa: F401

# -- data and estimators ----------------------------------------------------------------


def uniform(n_rows=60, n_features=9, seed=0):
    """Draw rows of values in [0, 1)."""
    return np.random.default_rng(seed).uniform(size=(n_rows, n_features))


def rows(n_rows=40, n_features=9, dtype=np.float64, seed=0):
    """Draw rows of values in [0, 1), a third of them zero."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n_rows, n_features)) * (rng.uniform(size=(n_rows, n_features)) > 0.3)
    return X.astype(dtype)


def with_value(array, value, place):
    """Copy an array, with one value replaced."""
    array = np.array(array, dtype=float)
    array[place] = value
    return array


def unaligned(array):
    """Copy an array to where its numbers do not begin at multiples of their size."""
    array = np.asarray(array)
    space = np.empty(array.nbytes + 1, dtype=np.uint8)
    copy = space[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


SMALL = dict(max_iter=3, batch_size=16, learning_rate_init=0.01, random_state=0)


def denoising(**params):
    return DenoisingAutoencoder(**{"n_components": 7, **SMALL, **params})


def stacked(**params):
    return StackedAutoencoder(**{"hidden_layer_sizes": (7, 5), **SMALL, **params})


# The parameters of training: (what else to set, one value, another value that differs in effect).
TRAINING_EFFECTS = {
    "solver": ({}, "sgd", "adam"),
    "alpha": ({}, 0.0, 0.1),
    "batch_size": ({}, 5, "auto"),
    "learning_rate": ({}, "constant", "cosine"),
    "learning_rate_init": ({}, 0.01, 0.02),
    "max_iter": ({}, 2, 3),
    "shuffle": ({}, True, False),
    "random_state": ({}, 0, 1),
    "tol": ({"n_iter_no_change": 1}, None, 1e3),
    "warm_start": ({}, False, True),
    "momentum": ({"solver": "sgd"}, 0.5, 0.9),
    "nesterovs_momentum": ({"solver": "sgd"}, True, False),
    "early_stopping": ({}, True, False),
    "validation_fraction": ({"early_stopping": True}, 0.1, 0.5),
    "beta_1": ({}, 0.9, 0.5),
    "beta_2": ({}, 0.999, 0.9),
    "epsilon": ({}, 1e-8, 1e-2),
    "n_iter_no_change": ({"tol": 1e3}, 1, 2),
}


def needs_unit_range(estimator):
    """Tell whether an estimator takes rows in [0, 1] only."""
    return "cross_entropy" in np.ravel(getattr(estimator, "loss", None))


# -- what a fit has learned ---------------------------------------------------------------


def weights_of(estimator):
    """List the fitted weights and biases of any estimator."""
    if hasattr(estimator, "coefs_"):
        return [*estimator.coefs_, *estimator.intercepts_]
    if hasattr(estimator, "autoencoders_"):
        return [array for stack in estimator.autoencoders_ for array in weights_of(stack)]
    return [
        array
        for layer in getattr(estimator, "layers_", [estimator])
        for array in (
            layer.components_,
            layer.decoder_components_,
            layer.intercept_hidden_,
            layer.intercept_visible_,
        )
    ]


def learned(estimator):
    """List the fitted weights and biases, and the loss curves."""
    if hasattr(estimator, "autoencoders_"):
        return [array for stack in estimator.autoencoders_ for array in learned(stack)]
    fits = [estimator] if hasattr(estimator, "coefs_") else getattr(estimator, "layers_", None)
    return weights_of(estimator) + [np.array(fit.loss_curve_) for fit in fits or [estimator]]


def assert_same_fit(one, other):
    """Assert that two fits are equal to the last bit."""
    for a, b in zip(learned(one), learned(other), strict=True):
        assert_array_equal(a, b, strict=True)


def assert_close_fit(one, other, rtol=1e-9, atol=1e-12):
    """Assert that two fits are equal but for rounding."""
    for a, b in zip(learned(one), learned(other), strict=True):
        assert_allclose(a, b, rtol=rtol, atol=atol)


def same_fit(one, other):
    """Tell whether two fits have the same weights, to the last bit."""
    a, b = weights_of(one), weights_of(other)
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def bytes_of(estimator):
    """Serialize all attributes of an estimator, so that any change shows."""
    return pickle.dumps(vars(estimator))


def refuses(estimator, method, *args, match, error=ValueError, trains=False, **kwargs):
    """Assert that a call raises, and leaves the estimator as it was.

    Unless `trains`, it must do so before the first step of training.
    """
    before = bytes_of(estimator)
    guard = nullcontext() if trains else no_training()
    with guard, pytest.raises(error, match=match):
        getattr(estimator, method)(*args, **kwargs)
    assert bytes_of(estimator) == before


# -- the state of training ------------------------------------------------------------------


def state_of(estimator):
    """Return the training state of a fitted estimator: `buffers`, `params`, `step`, `seed`, ...

    Its attributes may be assigned.
    """
    return estimator._state


def joint_seed_of(stack):
    """Return the seed of the joint training of a stack."""
    return stack._joint_state.seed


def set_parameters(estimator, params):
    """Give a fitted supervised estimator other parameters, and moments of zero."""
    state = state_of(estimator)
    state.buffers[0], state.buffers[1:], state.step = params, 0, 0
    if hasattr(estimator, "_trained_as"):
        estimator._trained_as["bias"] = estimator.intercepts_[-1].copy()


def noise_of(estimator, X):
    """Return the kernel's noise for the samples of X, on the input of the (first) layer."""
    layer = getattr(estimator, "layers_", [estimator])[0]
    return layer._corruption(ArrayDataset(X), 0)


def ranges_of(layer):
    """Return the smallest and the largest value of each feature that a layer has seen."""
    noise = layer._noise["statistics"]
    return noise["low"], noise["high"]


def hidden_output_activation(layer):
    """Return the activation of a layer's decoder if it is not that of its loss."""
    return layer._architecture["output"]


# -- calls of the kernel ----------------------------------------------------------------------


class Epoch:
    """A call of the kernel's `train`, by the names of what it was given."""

    def __init__(self, problem, batches, team, gradient, workspace):
        self.solver, self.learning_rate = problem.solver.kind, problem.solver.learning_rate
        self.n_buffers, self.step = len(problem.state.buffers), problem.state.step
        self.order, self.key, self.batch_size = batches.ids.copy(), batches.key, batches.size
        self.workspace = workspace
        self.steps_done = lambda: problem.state.step - self.step
        self.interrupted = False


def record_epochs(monkeypatch):
    """Return the list of all further calls of the kernel's `train`: one an epoch of dense rows."""
    epochs = []

    def spy(*args, real=_sgd.train):
        epoch = Epoch(*args)
        epochs.append(epoch)
        try:
            return real(*args)
        except KeyboardInterrupt:
            epoch.interrupted = True
            raise
        finally:
            epoch.steps_done = epoch.steps_done()

    monkeypatch.setattr(_sgd, "train", spy)
    return epochs


def record_active(monkeypatch):
    """Return the list of the numbers of active units of each layer, 0 if it has no top-k code.

    There is one entry for each further call of the kernel's `train`: one an epoch of dense rows.
    """
    active = []

    def spy(problem, *args, real=_sgd.train):
        active.append(np.asarray(problem.layers)["n_active"].tolist())
        return real(problem, *args)

    monkeypatch.setattr(_sgd, "train", spy)
    return active


def record_networks(monkeypatch):
    """Return the list of the networks of all further runs of the epoch loop."""
    networks = []

    def spy(network, *args, real=_training.train, **kwargs):
        networks.append(network)
        return real(network, *args, **kwargs)

    monkeypatch.setattr(_training, "train", spy)
    return networks


def record_outputs(monkeypatch):
    """Return the list of the numbers of features of all further samples that go through layers."""
    widths = []

    def spy(network, params, dataset, *, real=_inference.outputs, **kwargs):
        widths.append(dataset.n_features)
        return real(network, params, dataset, **kwargs)

    monkeypatch.setattr(_inference, "outputs", spy)
    return widths


def interrupt(monkeypatch, call, *, when="before", error=KeyboardInterrupt, function="train"):
    """Raise an error before or after a call of a function of the kernel, counted from 1."""
    calls, real = [], getattr(_sgd, function)

    def interrupted(*args):
        calls.append(args)
        if len(calls) == call and when == "before":
            raise error
        result = real(*args)
        if len(calls) == call:
            raise error
        return result

    monkeypatch.setattr(_sgd, function, interrupted)


@contextmanager
def no_training():
    """Fail the test if the kernel is asked for a step of training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sgd, "train", lambda *_: pytest.fail("training began"))
        yield


# -- the epoch loop ----------------------------------------------------------------------------


def split(estimator, X, seed=None, *, sample_weight=None, target=None, strata=None):
    """Return the positions of the rows to train on, and of those held out by early stopping."""
    data = ArrayDataset(X, X.dtype, target=target, sample_weight=sample_weight, strata=strata)
    if seed is None:
        seed = state_of(estimator).seed
    return _training.split(data, Options.of(estimator, len(X)), seed)


def record_splits(monkeypatch):
    """Return the list of all further splits, by `X`, `training` and `validation`."""
    splits = []

    def spy(data, *args, real=_training.split):
        training, validation = real(data, *args)
        splits.append(SimpleNamespace(X=data.X, training=training, validation=validation))
        return training, validation

    monkeypatch.setattr(_training, "split", spy)
    return splits


def limit_measured(monkeypatch, n_samples):
    """Let the quality of a fit be measured by this many samples at most."""
    monkeypatch.setattr(_training, "N_MEASURED", n_samples)


def hasten_imputers(monkeypatch):
    """Let imputers train on few copies of each sample, and estimate the covariance roughly."""
    monkeypatch.setattr(_imputer, "COPIES", (1, 2))
    monkeypatch.setattr(_gaussian, "N_ROUNDS", 1)


def train_classifier(X, target, *, strata=None, score=None, state=None, seed=0, **options):
    """Train a small classifier with these options of the epoch loop; return its state."""
    given = dict(
        solver="adam", alpha=0.0, batch_size=8, learning_rate="constant",
        learning_rate_init=0.01, max_iter=5, shuffle=True, tol=None, verbose=False,
        momentum=0.9, nesterovs_momentum=True, early_stopping=False, validation_fraction=0.2,
        beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10,
    )  # fmt: skip
    options = Options(**{**given, **options})
    network = Network([X.shape[1], 5, target.shape[1]], ["tanh", "softmax"])
    data = ArrayDataset(X, X.dtype, target=target, strata=strata)
    if state is None:
        state = _training.initial_state(network, options, X.dtype, seed)
    objective = _sgd.Objective("log_loss")
    return _training.train(network, objective, data, state, options, name="test", score=score)
