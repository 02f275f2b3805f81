"""The kernel against central differences, its NumPy reference, and known values."""

import _thread
import ctypes
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from skae import _kernel
from skae._dataset import filled
from skae._kernel import _blas, _sgd
from skae._kernel._sgd import ACTIVATIONS, LOSSES
from skae._kernel._team import Team
from skae._network import CODE_ACTIVATIONS, OUTPUT_ACTIVATION, Network
from skae._parameters import CORRUPTIONS, GAUSSIAN

DTYPES = [np.float32, np.float64]
SMOOTH = ["identity", "logistic", "tanh"]
BOUNDED = ["logistic", "tanh"]
OUTPUTS = [name for name in CODE_ACTIVATIONS if name != "top_k"]  # activations with a loss
NOISES = [None, *CORRUPTIONS]
KEEP_ZEROS = [None, "dropout", "masking", "variable_masking"]
# Where a loss other than the squared error, which may be read off any units, is taken.
TOPS = {"cross_entropy": "logistic", "log_loss": "softmax"}
KEY = 0x0123456789ABCDEF

reproducible = settings(
    deadline=None,
    derandomize=True,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# ---- problems ------------------------------------------------------------------------


@dataclass
class Problem:
    """A network, its parameters, and a batch."""

    network: Network
    objective: _sgd.Objective
    corruption: _sgd.Corruption
    params: np.ndarray
    X: np.ndarray
    target: np.ndarray
    rows: np.ndarray
    ids: np.ndarray
    weights: np.ndarray | None
    key: int = KEY
    team: Team = field(default_factory=Team)

    @property
    def dtype(self):
        return self.params.dtype

    def workspace(self, rows):
        """Filled with nan, so that nothing may be read before it is written."""
        adversarial = self.objective.adversarial_radius > 0
        workspace = self.network.workspace(rows, self.dtype, adversarial=adversarial)
        workspace.fill(np.nan)
        return workspace

    def loss_and_gradient(self, params=None):
        params = self.params if params is None else params
        gradient = np.full_like(params, np.nan)
        solver = make_solver("sgd")
        problem = self.of_kernel(solver, make_state(solver, params))
        workspace = self.workspace(len(self.rows))
        # The size of the batches is not read: all rows are one.
        loss = _sgd.loss_and_gradient(problem, self.batches(1), self.team, gradient, workspace)
        np.testing.assert_array_equal(problem.state.buffers, params[None])
        assert problem.state.step == 0
        return loss, gradient

    def of_kernel(self, solver, state):
        return _sgd.Problem(self.network.layers, self.objective, solver, state, self.corruption)

    def batches(self, size, *, key=None, rows=None, ids=None):
        return _sgd.Batches(
            self.X,
            self.target,
            self.rows if rows is None else rows,
            self.ids if ids is None else ids,
            self.weights,
            size,
            self.key if key is None else key,
        )

    def reference_batch(self):
        """The batch, as the reference takes it."""
        weights = None if self.weights is None else self.weights[self.rows]
        return self.X[self.rows], self.target[self.rows], self.ids, weights, self.key

    def train(self, solver, state, batch_size, **changes):
        batches = self.batches(batch_size, **changes)
        size = self.params.size if solver.needs_gradient else 0
        gradient, workspace = np.empty(size, dtype=self.dtype), self.workspace(batch_size)
        return _sgd.train(self.of_kernel(solver, state), batches, self.team, gradient, workspace)

    def outputs(self, *, start=0, stop=None, workspace_rows=4, X=None):
        X = filled(self.X if X is None else X)
        layers = self.network.layers[start:stop]
        out = np.full((len(X), layers[-1]["n_out"]), np.nan, dtype=self.dtype)
        workspace = self.workspace(workspace_rows)
        _sgd.outputs(layers, self.team, self.params, workspace, workspace_rows, X, out)
        return out

    def row_losses(self, *, workspace_rows=4):
        out = np.full(len(self.X), np.nan)
        _sgd.row_losses(
            self.network.layers,
            self.objective,
            self.team,
            self.params,
            self.workspace(workspace_rows),
            workspace_rows,
            filled(self.X),
            self.target,
            out,
        )
        return out

    def corrupted(self, ids, *, X=None, key=None):
        X = self.X if X is None else X
        out = np.full_like(X, np.nan)
        key = self.key if key is None else key
        _sgd.corrupt_rows(self.corruption, X, ids, key, out)
        return out


def with_missing(X, seed):
    """A copy of which a third is missing, and sometimes a whole row."""
    rng = np.random.default_rng(seed)
    missing = rng.random(X.shape) < 0.3
    missing[0] |= rng.random() < 0.3
    return frozen(np.where(missing, np.nan, X).astype(X.dtype))


def frozen(array):
    array.flags.writeable = False
    return array


def draw_params(network, rng, dtype):
    """Weights that keep the scale of the activations, and biases that are not zero."""
    params = rng.normal(scale=0.5, size=network.n_params)
    for k in range(len(network)):
        weights = network.weights(params, k)
        weights[:] = rng.normal(size=weights.shape) / np.sqrt(weights.shape[1])
    return params.astype(dtype)


def make_problem(
    network,
    loss,
    *,
    seed=0,
    n=5,
    dtype=np.float64,
    rows=None,
    ids=None,
    weights=None,
    noise=None,
    level=0.3,
    dropout=(),
    key=KEY,
    **penalties,
):
    """Random data and parameters for a network. All that the kernel only reads is read-only.

    `dropout` has a level for each layer above the first, or none.
    """
    rng = np.random.default_rng(seed)
    d = network.layers["n_in"][0]
    network.layers["dropout"][1 : 1 + len(dropout)] = dropout
    low, high = np.sort(rng.normal(size=(2, d)), axis=0)
    rows = np.arange(n) if rows is None else np.asarray(rows)
    return Problem(
        network,
        _sgd.Objective(loss, **penalties),
        _sgd.Corruption(
            noise,
            level,
            low=frozen(low),
            high=frozen(high),
            scale=frozen(np.random.default_rng(seed + 1).uniform(0.2, 1, size=d)),
            pool=frozen(np.random.default_rng(seed + 2).uniform(size=(7, d)).astype(dtype)),
        ),
        draw_params(network, rng, dtype),
        frozen(rng.uniform(size=(n, d)).astype(dtype)),
        frozen(rng.uniform(size=(n, network.layers["n_out"][-1])).astype(dtype)),
        frozen(rows.astype(np.int64)),
        frozen(np.array(rows if ids is None else ids, dtype=np.int64)),
        None if weights is None else frozen(np.array(weights, dtype=np.float64)),
        key,
    )


def rectified(problem):
    """Pre-activations of the batch, for each layer of rectified units."""
    X, _, ids, *_ = problem.reference_batch()
    network = problem.network
    X = reference.corrupt(problem.corruption, X, ids, problem.key)
    _, logits = reference.forward(network, problem.params, X, ids=ids, key=problem.key)
    kinds = reference.kinds(network)
    return [z for kind, z in zip(kinds, logits) if kind in ("relu", "top_k")]


def distance_to_kink(problem):
    """Least distance of a unit to where the slope of a rectified or top-k code changes."""
    network, distances = problem.network, [np.inf]
    kinds = enumerate(reference.kinds(network))
    rectifying = [k for k, kind in kinds if kind in ("relu", "top_k")]
    for k, z in zip(rectifying, rectified(problem)):
        largest = -np.sort(-z, axis=1)
        last = int(network.layers[k]["n_active"]) or z.shape[1]
        if last == z.shape[1]:
            distances.append(np.abs(z).min())
            continue
        gap = largest[:, last - 1] - largest[:, last]
        distances += np.where(largest[:, last] > 0, gap, np.abs(z).min(axis=1)).tolist()
    return min(distances)


@st.composite
def problems(draw, *, train=False):
    """Any small problem; one row, one column, one unit and zero weights among them."""
    dtype = draw(st.sampled_from(DTYPES))
    noise = draw(st.sampled_from(NOISES))
    # Over many steps, a unit will sooner or later be so near a kink that the rounding of
    # single precision (which gaussian noise always has) puts it on the other side.
    exact = dtype == np.float64 and noise not in GAUSSIAN
    names = st.sampled_from(SMOOTH if train and not exact else list(CODE_ACTIVATIONS))
    d = draw(st.one_of(st.integers(1, 9), st.integers(60, 140)))
    hidden = draw(st.lists(st.integers(1, 9), max_size=2))
    activations = [draw(names) for _ in hidden]
    if "top_k" in activations and draw(st.booleans()):  # few of its units are active
        hidden[activations.index("top_k")] = draw(st.integers(64, 70))
    if hidden and draw(st.booleans()):
        loss = draw(st.sampled_from(list(OUTPUT_ACTIVATION)))
        tied = draw(st.booleans())
        network = Network.autoencoder([d, *hidden], activations, loss, tied=tied)
    else:
        loss = draw(st.sampled_from(list(LOSSES)))
        top = TOPS.get(loss) or draw(names.filter(OUTPUTS.__contains__))
        sizes = [d, *hidden, draw(st.integers(1, 9))]
        lists = noise in KEEP_ZEROS and draw(st.booleans())
        network = Network(sizes, [*activations, top], by_input=[0] * lists)
        if lists:
            network.list_features(d)
    dropout = draw(st.sampled_from([(), (0.0, 0.25), (0.5, 0.0), (0.25, 0.6)]))
    dropout = np.resize(dropout, len(network) - 1 if dropout else 0)
    if train:
        rates = st.sampled_from([0.0, 0.5, 1.0, 2.0])
        network.layers["learning_rate_scale"] = [draw(rates) for _ in range(len(network))]
    # Dropout may lift a mean activation above one, where the divergence has no slope.
    bounded = (
        []
        if len(dropout)
        else [k for k, kind in enumerate(reference.kinds(network)[:-1]) if kind in BOUNDED]
    )

    n = draw(st.integers(1, 12))
    rows = draw(st.permutations(range(n)))[: draw(st.integers(1, n))]
    ids = draw(st.none() | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=12, max_size=12))
    weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=n, max_size=n)
    problem = make_problem(
        network,
        loss,
        seed=draw(st.integers(0, 2**32 - 1)),
        n=n,
        dtype=dtype,
        rows=rows,
        ids=None if ids is None else ids[: len(rows)],
        weights=draw(st.none() | weights),
        noise=noise,
        level=draw(st.sampled_from([0.0, 0.25, 0.6] + [1.0] * (noise != "dropout"))),
        dropout=dropout,
        key=draw(st.integers(0, 2**64 - 1)),
        alpha=draw(st.sampled_from([0.0, 0.1])),
        sparse_layer=draw(st.sampled_from(bounded)) if bounded else -1,
        sparsity_target=0.2,
        sparsity_penalty=draw(st.sampled_from([0.0, 0.3])) if bounded else 0.0,
    )
    if draw(st.booleans()):  # missing values
        problem.X = with_missing(problem.X, draw(st.integers(0, 2**32 - 1)))
        if loss != "log_loss":
            problem.target = with_missing(problem.target, draw(st.integers(0, 2**32 - 1)))
    same_shape = problem.X.shape == problem.target.shape
    if same_shape and not (loss == "log_loss" and np.isnan(problem.X).any()):
        problem.target = problem.X if draw(st.booleans()) else problem.target
    if not train:
        assume(distance_to_kink(problem) > 1e-4)
    return problem


def tolerance(problem):
    if problem.dtype == np.float32:
        return 2e-5
    # The normal draws are in single precision for either type.
    return 1e-5 if problem.corruption.kind in GAUSSIAN else 1e-11


def assert_close(actual, desired, tolerance):
    """Up to a share of the largest element."""
    desired = np.asarray(desired)
    scale = max(1.0, np.abs(desired).max(initial=0.0))
    np.testing.assert_allclose(actual, desired, rtol=tolerance, atol=tolerance * scale)


# ---- matrix products -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("trans_b", [False, True])
@reproducible
@given(
    shape=st.tuples(*[st.integers(1, 17)] * 3),
    factors=st.sampled_from([(1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)]),
)
def test_matmul(dtype, trans_a, trans_b, shape, factors):
    rng = np.random.default_rng(0)
    m, k, n = shape
    alpha, beta = factors
    a = frozen(rng.normal(size=(k, m) if trans_a else (m, k)).astype(dtype))
    b = frozen(rng.normal(size=(n, k) if trans_b else (k, n)).astype(dtype))
    old = rng.normal(size=(m, n)).astype(dtype)
    out = old.copy() if beta else np.full_like(old, np.nan)  # beta = 0 reads nothing
    _blas.matmul(a, b, out, trans_a, trans_b, alpha, beta)
    desired = alpha * (a.T if trans_a else a) @ (b.T if trans_b else b) + beta * old
    assert_close(out, desired, 1e-5 if dtype == np.float32 else 1e-13)


def lying_apart(array, rng):
    """Copy it into a wider array of nan, so that its rows lie apart: the view, and the whole."""
    left, right = rng.integers(0, 5, 2)
    whole = np.full((len(array), left + array.shape[1] + right), np.nan, dtype=array.dtype)
    view = whole[:, left : left + array.shape[1]]
    view[:] = array
    return view, whole


# Rows, terms and columns on both sides of each limit and of whole tiles.
FEW_ROWS = st.one_of(
    st.tuples(st.integers(1, 45), st.integers(1, 300), st.integers(1, 120)),
    st.tuples(st.integers(95, 205), st.integers(1, 150), st.integers(1, 60)),
    st.tuples(st.integers(1, 6), st.integers(1000, 1150), st.integers(1, 50)),
    st.tuples(st.integers(1, 25), st.sampled_from([256, 512, 1024]), st.sampled_from([512, 1024])),
)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", _blas.INSTRUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["a b^T", "a b", "a^T b"])
@reproducible
@given(shape=FEW_ROWS, factors=st.sampled_from([(1.0, 0.0), (-0.5, 1.0), (2.0, 0.25)]))
def test_products_of_few_rows(instructions, dtype, kind, shape, factors):
    rng = np.random.default_rng(0)
    m, k, n = shape
    if kind == "a^T b":
        m, k = k, m
    else:
        factors = (1.0, 0.0)
    alpha, beta = factors
    a, _ = lying_apart(rng.normal(size=(k, m) if kind == "a^T b" else (m, k)).astype(dtype), rng)
    b, _ = lying_apart(rng.normal(size=(n, k) if kind == "a b^T" else (k, n)).astype(dtype), rng)
    old = rng.normal(size=(m, n)).astype(dtype)
    out, whole = lying_apart(old if beta else np.full_like(old, np.nan), rng)
    _blas.matmul(a, b, out, kind == "a^T b", kind == "a b^T", alpha, beta, instructions)
    left, right = a.astype(float), b.astype(float)
    left = left.T if kind == "a^T b" else left
    right = right.T if kind == "a b^T" else right
    scale = abs(alpha) * abs(left) @ abs(right) + abs(beta * old)  # of the rounding errors
    desired = alpha * left @ right + beta * old
    assert (abs(out - desired) <= 4 * np.sqrt(k + 4) * np.finfo(dtype).eps * scale).all()
    out[:] = np.nan
    assert np.isnan(whole).all()  # nothing beside it was written


@pytest.mark.parametrize("instructions", [name for name in _blas.INSTRUCTIONS if name != "blas"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("trans_b", [False, True])
def test_bits_of_a_row_are_the_same_in_any_batch_and_any_columns(instructions, dtype, trans_b):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(23, 300)).astype(dtype)
    b = rng.normal(size=(130, 300)).astype(dtype)
    b = b if trans_b else np.ascontiguousarray(b.T)

    def product(rows, columns):
        part = b[columns] if trans_b else b[:, columns]
        out = np.empty((len(a[rows]), len(range(130)[columns])), dtype=dtype)
        _blas.matmul(a[rows], part, out, False, trans_b, instructions=instructions)
        return out

    whole = product(slice(None), slice(None))
    for i in range(23):
        np.testing.assert_array_equal(product(slice(i, i + 1), slice(None))[0], whole[i])
    for start, stop in [(0, 64), (64, 130), (16, 33), (90, 122)]:
        columns = slice(start, stop)
        np.testing.assert_array_equal(product(slice(None), columns), whole[:, columns])


@pytest.mark.parametrize("instructions", _blas.INSTRUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["a b^T", "a b", "a^T b"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row(instructions, dtype, kind, value):
    rng = np.random.default_rng(0)
    m, k, n = (75, 20, 67) if kind == "a^T b" else (20, 301, 67)
    a, b = rng.uniform(1, 2, (m, k)).astype(dtype), rng.uniform(1, 2, (k, n)).astype(dtype)
    desired = a @ b
    a[7, -2] = desired[7] = value
    a = np.ascontiguousarray(a.T) if kind == "a^T b" else a
    b = np.ascontiguousarray(b.T) if kind == "a b^T" else b
    out = np.empty((m, n), dtype=dtype)
    _blas.matmul(a, b, out, kind == "a^T b", kind == "a b^T", instructions=instructions)
    np.testing.assert_allclose(out, desired, rtol=1e-5)


def test_matmul_refuses_columns_that_lie_apart():
    a = np.zeros((4, 6))
    with pytest.raises(ValueError, match="next to each other"):
        _blas.matmul(a[:, ::2], a[:3, :3], np.zeros((4, 3)))


@pytest.mark.parametrize(
    "shapes, transposed",
    [
        ([(2, 3), (4, 5), (2, 5)], (False, False)),
        ([(2, 3), (3, 5), (2, 4)], (False, False)),
        ([(2, 3), (3, 5), (3, 5)], (False, False)),
        ([(2, 3), (3, 5), (2, 5)], (True, False)),
        ([(2, 3), (3, 5), (2, 5)], (False, True)),
    ],
)
def test_matmul_refuses_other_shapes(shapes, transposed):
    a, b, out = (np.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="do not fit"):
        _blas.matmul(a, b, out, *transposed)


# ---- gradients against central differences ---------------------------------------------


def central_differences(function, at, step=1e-3):
    """Differentiate to fourth order: an error of about step^4, and 1e-16 / step from rounding."""
    out = np.empty_like(at)
    for j in range(len(at)):

        def shifted(by, j=j):
            shifted = at.copy()
            shifted[j] += by * step
            return function(shifted)

        out[j] = (8 * (shifted(1) - shifted(-1)) - (shifted(2) - shifted(-2))) / (12 * step)
    return out


def away_from_kinks(make):
    """The first random problem that no step of the differences takes across a kink.

    It has pre-activations on either side of the kink, in each rectified layer.
    """
    for seed in range(1000):
        problem = make(seed)
        both_sides = all(z.min() < 0 < z.max() for z in rectified(problem))
        if both_sides and distance_to_kink(problem) > 0.02:
            return problem
    raise AssertionError("no seed keeps its distance from the kinks")


def assert_gradient(problem):
    def loss(params):
        return problem.loss_and_gradient(params)[0]

    _, gradient = problem.loss_and_gradient()
    numeric = central_differences(loss, problem.params)
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


PENALTIES = {
    "no_penalty": {},
    "l2": {"alpha": 0.3},
    "kl": {"sparsity_target": 0.1, "sparsity_penalty": 0.7},
    "l2_and_kl": {"alpha": 0.3, "sparsity_target": 0.3, "sparsity_penalty": 0.7},
}
WEIGHTS = {"unweighted": None, "weighted": [0.7, 2.0, 0.0, 1.1, 0.4]}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(
    "activation, penalty",
    [
        (activation, penalty)
        for activation in CODE_ACTIVATIONS
        for penalty in PENALTIES
        if activation in BOUNDED or "kl" not in penalty
    ],
)
@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("sizes", [[4, 3], [5, 4, 3]], ids=["shallow", "deep"])
def test_gradient(sizes, tied, loss, activation, penalty, weights):
    penalties = dict(PENALTIES[penalty])
    if "kl" in penalty:
        penalties["sparse_layer"] = len(sizes) - 2

    def make(seed):
        network = Network.autoencoder(sizes, [activation] * (len(sizes) - 1), loss, tied=tied)
        noise = "masking" if len(sizes) == 2 else "gaussian"
        return make_problem(network, loss, seed=seed, weights=weights, noise=noise, **penalties)

    assert_gradient(away_from_kinks(make))


@pytest.mark.parametrize("top", OUTPUTS)
@pytest.mark.parametrize("hidden", CODE_ACTIVATIONS)
def test_gradient_of_squared_error_at_any_output(hidden, top):
    """The output of a network in the middle of a stack has the activation of a code."""

    def make(seed):
        network = Network([4, 3, 2], [hidden, top])
        return make_problem(network, "squared_error", seed=seed, noise="salt_and_pepper")

    assert_gradient(away_from_kinks(make))


SUPERVISED = {  # loss: activation of the top
    "log_loss": "softmax",
    "cross_entropy": "logistic",
    "squared_error": "identity",
}
DROPOUT = {
    "no_dropout": (None, ()),
    "dropout": ("dropout", (0.0, 0.4)),
    "masking": ("masking", (0.5, 0.3)),
}


def supervised_problem(
    loss, hidden=(), activation="tanh", *, targets="soft", dropout=(None, ()), **options
):
    """A network with a top for targets of its own: probabilities, or one class or label."""
    n_outputs = 4
    sizes = [6, *hidden, n_outputs]
    network = Network(sizes, [*[activation] * len(hidden), SUPERVISED[loss]])
    noise, levels = dropout
    levels = levels[: len(hidden)]
    problem = make_problem(network, loss, noise=noise, dropout=levels, **options)
    target = problem.target.copy()
    if loss == "log_loss":
        target /= target.sum(axis=1, keepdims=True)
    if targets == "hard":
        top = target == target.max(axis=1, keepdims=True)
        target = (top if loss == "log_loss" else target > 0.5).astype(problem.dtype)
    problem.target = frozen(target)
    return problem


@pytest.mark.slow
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("dropout", DROPOUT.values(), ids=DROPOUT)
@pytest.mark.parametrize("targets", ["soft", "hard"])
@pytest.mark.parametrize("activation", CODE_ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)], ids=["top_alone", "shallow", "deep"])
@pytest.mark.parametrize("loss", SUPERVISED)
def test_gradient_of_a_top(loss, hidden, activation, targets, dropout, weights):
    """Dropout does not move while its key stands still, so the cost has a slope with it too."""

    def make(seed):
        return supervised_problem(
            loss, hidden, activation, targets=targets, dropout=dropout, seed=seed,
            weights=weights, alpha=0.1,
        )  # fmt: skip

    assert_gradient(away_from_kinks(make))


@pytest.mark.parametrize("activation", CODE_ACTIVATIONS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_gradient_with_dropout_between_the_layers_of_an_autoencoder(tied, activation):
    def make(seed):
        network = Network.autoencoder([5, 4, 3], [activation] * 2, "cross_entropy", tied=tied)
        return make_problem(
            network, "cross_entropy", seed=seed, dropout=(0.2, 0.3, 0.4), alpha=0.1
        )

    assert_gradient(away_from_kinks(make))


@pytest.mark.parametrize("sparse_layer", [0, 1, 2])
def test_gradient_with_any_hidden_layer_sparse(sparse_layer):
    network = Network.autoencoder([5, 4, 3], ["tanh", "logistic"], "cross_entropy", tied=True)
    problem = make_problem(
        network, "cross_entropy", sparse_layer=sparse_layer, **PENALTIES["l2_and_kl"]
    )
    assert_gradient(problem)


@pytest.mark.parametrize("hidden", [[3], [4, 3]], ids=["shallow", "deep"])
def test_tied_gradient_is_the_sum_of_both_halves(hidden):
    sizes, activations = [5, *hidden], ["tanh"] * len(hidden)
    tied, untied = (
        Network.autoencoder(sizes, activations, "cross_entropy", tied=tied)
        for tied in (True, False)
    )
    first = make_problem(tied, "cross_entropy", noise="masking")
    second = replace(first, network=untied, params=np.empty(untied.n_params))
    for k in range(len(tied)):
        untied.weights(second.params, k)[:] = tied.weights(first.params, k)
        untied.bias(second.params, k)[:] = tied.bias(first.params, k)

    loss, gradient = first.loss_and_gradient()
    untied_loss, halves = second.loss_and_gradient()
    assert loss == pytest.approx(untied_loss, rel=1e-12)
    for k in range(len(tied)):
        both = untied.weights(halves, k) + untied.weights(halves, len(tied) - 1 - k).T
        np.testing.assert_allclose(tied.weights(gradient, k), both, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(
            tied.bias(gradient, k), untied.bias(halves, k), rtol=1e-11, atol=1e-13
        )


# ---- the kernel and its reference --------------------------------------------------------


def test_the_reference_knows_all_names():
    assert _sgd.ACTIVATIONS == {name: k for k, name in enumerate(reference.ACTIVATIONS)}
    assert list(_sgd.LOSSES) == list(reference.LOSSES)
    assert list(_sgd.NOISES) == list(reference.NOISES)
    assert set(_sgd.NOISES) == set(NOISES)
    assert list(_sgd.SOLVERS) == list(reference.STEPS)
    assert set(_sgd.SOLVERS) == {kind for kind, _ in SOLVERS.values()}
    for table in (_sgd.ACTIVATIONS, _sgd.LOSSES, _sgd.NOISES, _sgd.SOLVERS):
        assert len(set(table.values())) == len(table)


@reproducible
@given(problem=problems())
def test_loss_and_gradient_agree_with_the_reference(problem):
    network, params = problem.network, problem.params
    before = params.copy()
    loss, gradient = problem.loss_and_gradient()
    batch = problem.reference_batch()
    desired = sum(reference.cost(network, problem, params, *batch))
    assert_close(loss, desired, tolerance(problem))
    desired = reference.gradient(network, problem, params, *batch)
    assert_close(gradient, desired, tolerance(problem))
    np.testing.assert_array_equal(params, before)


@reproducible
@given(problem=problems(), workspace_rows=st.integers(1, 14))
def test_row_losses_agree_with_the_reference(problem, workspace_rows):
    network, objective, params = problem.network, problem.objective, problem.params
    tol = 2e-5 if problem.dtype == np.float32 else 1e-12
    desired = reference.row_losses(network, objective, params, problem.X, problem.target)
    assert_close(problem.row_losses(workspace_rows=workspace_rows), desired, tol)


@reproducible
@given(problem=problems(), workspace_rows=st.integers(1, 14), data=st.data())
def test_outputs_of_any_layers_agree_with_the_reference(problem, workspace_rows, data):
    network = problem.network
    start = data.draw(st.integers(0, len(network) - 1))
    stop = data.draw(st.integers(start + 1, len(network)))
    width = network.layers["n_in"][start]
    X = np.random.default_rng(0).normal(size=(len(problem.X), width)).astype(problem.dtype)
    out = problem.outputs(start=start, stop=stop, workspace_rows=workspace_rows, X=frozen(X))
    inputs, _ = reference.forward(network, problem.params, X, start=start, stop=stop)
    assert_close(out, inputs[-1], 2e-5 if problem.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
def test_row_losses_of_the_last_layer_alone(loss, tied, dtype):
    network = Network.autoencoder([70, 4, 3], ["tanh", "relu"], loss, tied=tied)
    problem = make_problem(network, loss, n=9, dtype=dtype)
    codes = frozen(problem.outputs(stop=3))
    out = np.empty(9)
    _sgd.row_losses(
        network.layers[3:],
        problem.objective,
        problem.team,
        problem.params,
        problem.workspace(4),
        4,
        codes,
        problem.target,
        out,
    )
    np.testing.assert_array_equal(out, problem.row_losses())


@reproducible
@given(problem=problems())
def test_corruption_agrees_with_the_reference(problem):
    X = problem.X[problem.rows]
    actual = problem.corrupted(problem.ids, X=X)
    desired = reference.corrupt(problem.corruption, X, problem.ids, problem.key)
    kind = problem.corruption.kind
    if kind in GAUSSIAN:
        np.testing.assert_allclose(actual, desired, rtol=1e-6, atol=4e-6)
    elif kind == "dropout":  # kept elements are divided, which rounds
        np.testing.assert_allclose(actual, desired, rtol=3 * np.finfo(problem.dtype).eps)
    else:
        np.testing.assert_array_equal(actual, desired.astype(problem.dtype))


SOLVERS = {
    "sgd": ("plain_sgd", {}),
    "momentum": ("momentum", {"momentum": 0.8}),
    "nesterov": ("momentum", {"momentum": 0.8, "nesterov": True}),
    "adam": ("adam", {"beta_1": 0.8, "beta_2": 0.95}),
}


def make_solver(name, **options):
    kind, own = SOLVERS[name]
    return _sgd.Solver(kind, **{"learning_rate": 0.02, **own, **options})


def plain_state(problem):
    """A state for plain SGD."""
    return make_state(make_solver("sgd"), problem.params)


def make_state(solver, params, dtype=None):
    """A state before the first step."""
    buffers = np.zeros((solver.n_buffers, params.size), dtype=dtype or params.dtype)
    buffers[0] = params
    return SimpleNamespace(buffers=buffers, step=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVERS)
@reproducible
@given(
    problem=problems(train=True),
    batch_size=st.integers(1, 14),
    max_norm=st.sampled_from([0.0, 0.4, 1.5]),
)
def test_epochs_agree_with_the_reference(name, problem, batch_size, max_norm):
    """Factors of the learning rate and a limit of the norms included."""
    tol = tolerance(problem)
    # Adam takes a gradient of nothing but rounding errors for a large one, unless told otherwise.
    # Small enough that nothing diverges, which would make rounding errors grow.
    rate = 0.03 / int(problem.network.layers["n_in"].max() + 1)
    options = {
        "epsilon": 1e-6 if tol < 1e-10 else 1e-2,
        "learning_rate": rate,
        "max_norm": max_norm,
    }
    solver = make_solver(name, **options)
    state = make_state(solver, problem.params)
    desired_state = make_state(solver, problem.params, np.float64)
    for epoch in range(3):
        key = (problem.key + epoch) % 2**64
        actual = problem.train(solver, state, batch_size, key=key)
        desired = reference.train(
            problem.network,
            problem.of_kernel(solver, desired_state),
            problem.batches(batch_size, key=key),
        )
        assert_close(actual, desired, tol)
    assert state.step == desired_state.step == 3 * -(-len(problem.rows) // batch_size)
    for mine, desired in zip(state.buffers, desired_state.buffers, strict=True):
        assert_close(mine, desired, tol)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_longer_training_agrees_with_the_reference(dtype, name):
    """At a usual shape: more units than a vector has lanes, and a short last batch."""
    network = Network.autoencoder([33, 21], ["logistic"], "cross_entropy", tied=True)
    problem = make_problem(
        network, "cross_entropy", n=45, dtype=dtype, noise="masking", alpha=1e-3
    )
    problem.target = problem.X
    solver = make_solver(name, epsilon=1e-4)
    state = make_state(solver, problem.params)
    desired = make_state(solver, problem.params, np.float64)
    totals = []
    for epoch in range(10):
        totals.append(problem.train(solver, state, 10, key=epoch))
        reference.train(
            network, problem.of_kernel(solver, desired), problem.batches(10, key=epoch)
        )
    assert_close(state.buffers[0], desired.buffers[0], 1e-4 if dtype == np.float32 else 1e-11)
    assert totals[-1] < 0.99 * totals[0]


@pytest.mark.parametrize("name", SOLVERS)
def test_factor_of_the_learning_rate(name):
    """Zero holds a layer still, weight decay included; any other one scales its first step."""
    steps = {}
    for factor in (0.0, 0.5, 1.0):
        problem = supervised_problem("log_loss", (5, 4), alpha=0.1)
        problem.network.layers["learning_rate_scale"][1] = factor
        solver = make_solver(name)
        state = make_state(solver, problem.params)
        problem.train(solver, state, 5)
        step = state.buffers[0] - problem.params
        steps[factor] = [
            np.append(problem.network.weights(step, k), problem.network.bias(step, k))
            for k in range(3)
        ]
    for k in range(3):
        assert np.abs(steps[1.0][k]).min() > 0
        for factor in (0.0, 0.5):
            expected = steps[1.0][k] * (factor if k == 1 else 1.0)
            np.testing.assert_allclose(steps[factor][k], expected, rtol=1e-9, atol=1e-16)
    np.testing.assert_array_equal(steps[0.0][1], 0)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_are_limited_after_each_step(dtype, name):
    """Longer rows come to the limit exactly, shorter ones are not touched, biases neither."""
    limits, results = (0.0, 0.9), []
    for limit in limits:
        problem = supervised_problem("log_loss", (7, 8), dtype=dtype)
        solver = make_solver(name, max_norm=limit)
        state = make_state(solver, problem.params)
        problem.train(solver, state, 5)  # one batch
        results.append(state.buffers[0])
    free, limited = results
    network = problem.network
    for k in range(3):
        long = np.linalg.norm(network.weights(free, k), axis=1) > limit
        assert long.any() and not long.all()
        norms = np.linalg.norm(network.weights(limited, k), axis=1)
        np.testing.assert_allclose(norms[long], limit, rtol=1e-6)
        np.testing.assert_array_equal(
            network.weights(limited, k)[~long], network.weights(free, k)[~long]
        )
        np.testing.assert_array_equal(network.bias(limited, k), network.bias(free, k))


@pytest.mark.parametrize("name", SOLVERS)
def test_no_rows_no_step(name):
    network = Network.autoencoder([4, 3], ["tanh"], "squared_error", tied=True)
    problem = make_problem(network, "squared_error", rows=[], alpha=0.1)
    solver = make_solver(name)
    state = make_state(solver, problem.params)
    assert problem.train(solver, state, 3) == 0.0
    assert state.step == 0
    np.testing.assert_array_equal(state.buffers[0], problem.params)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_decay_of_plain_sgd_spares_the_biases(dtype):
    """With rows of no weight, nothing but the decay is left."""
    network = Network.autoencoder([4, 3], ["tanh"], "squared_error", tied=True)
    problem = make_problem(network, "squared_error", dtype=dtype, weights=[0.0] * 5, alpha=0.5)
    solver = make_solver("sgd", learning_rate=0.25)
    state = make_state(solver, problem.params)
    problem.train(solver, state, 5)
    buffers = state.buffers
    n_weights = 4 * 3
    assert (problem.params != 0).all()
    desired = 0.875 * problem.params[:n_weights]
    np.testing.assert_allclose(buffers[0, :n_weights], desired, rtol=1e-6)
    np.testing.assert_array_equal(buffers[0, n_weights:], problem.params[n_weights:])


# ---- the count of steps ------------------------------------------------------------------------


class TellingState:
    """A state that tells when training reads the number of its steps."""

    def __init__(self, buffers):
        self.buffers, self._step, self.is_read = buffers, 0, threading.Event()

    @property
    def step(self):
        self.is_read.set()
        return self._step

    @step.setter
    def step(self, value):
        self._step = value


def assert_steps_of(state, problem, solver, n_steps):
    """A state after so many batches of one row."""
    desired = make_state(solver, problem.params)
    rows = problem.rows[:n_steps]
    problem.train(solver, desired, 1, rows=rows, ids=rows)
    assert state.step == desired.step == n_steps
    np.testing.assert_array_equal(state.buffers, desired.buffers)


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_after_an_interrupt(name):
    rows = np.arange(2_000_000) % 5
    problem = make_problem(Network([2, 1], ["tanh"]), "squared_error", rows=rows)
    solver = make_solver(name, learning_rate=1e-6)
    state = TellingState(make_state(solver, problem.params).buffers)

    def interrupt():
        state.is_read.wait()
        time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        problem.train(solver, state, 1)
    thread.join()
    assert 0 < state.step < len(rows)
    assert_steps_of(state, problem, solver, state.step)


@pytest.mark.parametrize("name", SOLVERS)
def test_steps_before_a_cost_that_is_not_finite(name):
    problem = make_problem(Network([2, 1], ["tanh"]), "squared_error", n=9)
    problem.target = np.where(np.arange(9)[:, None] == 6, np.inf, problem.target)
    solver = make_solver(name)
    state = make_state(solver, problem.params)
    assert np.isnan(problem.train(solver, state, 1))
    assert_steps_of(state, problem, solver, 6)


def test_steps_go_on_from_those_of_the_state():
    """Adam's bias correction depends on them."""
    problem = make_problem(Network([2, 1], ["tanh"]), "squared_error", n=9)
    solver = make_solver("adam")
    state = make_state(solver, problem.params)
    for rows in (problem.rows[:4], problem.rows[4:]):
        problem.train(solver, state, 1, rows=rows, ids=rows)
    assert_steps_of(state, problem, solver, 9)


# ---- noise -----------------------------------------------------------------------------------


def noise_problem(kind, level, n_features, *, dtype=np.float64):
    network = Network([n_features, 1], ["identity"])
    return make_problem(network, "squared_error", n=1, dtype=dtype, noise=kind, level=level)


def noisy(kind, level, X, *, ids=None, key=KEY):
    """X with noise on it."""
    ids = np.arange(len(X)) if ids is None else ids
    return noise_problem(kind, level, X.shape[1], dtype=X.dtype).corrupted(ids, X=X, key=key)


def mask(n_rows, n_features, *, level=0.3, dtype=np.float64, key=KEY):
    return noisy("masking", level, np.ones((n_rows, n_features), dtype=dtype), key=key) == 0


def assert_binomial(hits, n, level):
    """Each count within five standard deviations of what a fair draw gives."""
    assert np.abs(np.asarray(hits) - n * level).max() <= 5 * np.sqrt(n * level * (1 - level))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_share_of_masked_elements(level, dtype):
    hit = mask(1000, 500, level=level, dtype=dtype)
    assert_binomial(hit.sum(), hit.size, level)
    assert_binomial(hit.sum(axis=0), len(hit), level)
    assert_binomial(hit.sum(axis=1), hit.shape[1], level)


@pytest.mark.parametrize("dtype", DTYPES)
def test_masking_leaves_the_others_alone(dtype):
    X = np.random.default_rng(0).normal(size=(50, 40)).astype(dtype)
    out = noisy("masking", 0.4, X)
    kept = out != 0
    assert 0.5 < kept.mean() < 0.7
    np.testing.assert_array_equal(out[kept], X[kept])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NOISES)
def test_level_zero_changes_nothing(kind, dtype):
    X = np.random.default_rng(0).normal(size=(500, 300)).astype(dtype)
    np.testing.assert_array_equal(noisy(kind, 0.0, X), X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_level_one_hits_everything(dtype):
    X = 5 + np.random.default_rng(0).uniform(size=(500, 300)).astype(dtype)
    np.testing.assert_array_equal(noisy("masking", 1.0, X), 0)
    out = noisy("salt_and_pepper", 1.0, X)
    corruption = noise_problem("salt_and_pepper", 1.0, 300).corruption
    low, high = (np.asarray(side).astype(dtype) for side in (corruption.low, corruption.high))
    assert ((out == low) | (out == high)).all()


@pytest.mark.parametrize("level", [0.25, 2.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_noise_is_normal(dtype, level):
    X = np.full((400, 250), 3.0, dtype=dtype)
    scale = np.asarray(noise_problem("gaussian", level, 250).corruption.scale)
    draws = ((noisy("gaussian", level, X) - 3.0).astype(np.float64) / (level * scale)).ravel()
    assert abs(draws.mean()) < 5 / np.sqrt(draws.size)
    assert abs(draws.std() - 1) < 5 / np.sqrt(2 * draws.size)
    assert stats.kstest(draws, "norm").pvalue > 0.01
    assert 3.5 < np.abs(draws).max() < 6
    # The tails, which the test of Kolmogorov and Smirnov hardly sees.
    for bound in (2.0, 3.0):
        share = 2 * stats.norm.sf(bound)
        assert_binomial((np.abs(draws) > bound).sum(), draws.size, share)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_mean(level, dtype):
    """It hits what masking hits, and divides the others by their share."""
    X = 1 + np.random.default_rng(0).uniform(size=(300, 200)).astype(dtype)
    out = noisy("dropout", level, X)
    np.testing.assert_array_equal(out == 0, noisy("masking", level, X) == 0)
    kept = out != 0
    np.testing.assert_allclose(out[kept], X[kept] / (1 - level), rtol=1e-6)
    share = np.sqrt(level / (1 - level) / X.size)
    assert abs((out / X).mean() - 1) < 5 * share


def test_dropout_of_each_layer_is_its_own():
    """Read off the gradient: units of an input that are hit give their weights none."""
    n, width = 300, 100
    network = Network([width, width, width, 1], ["identity"] * 3)
    problem = make_problem(
        network, "squared_error", n=n, noise="dropout", level=0.3, dropout=(0.3, 0.3)
    )
    for k in (0, 1):  # hidden units that are all one, whatever lies below
        network.weights(problem.params, k)[:] = 0
        network.bias(problem.params, k)[:] = 1
    problem.target = np.full((n, 1), 99.0)
    hits = np.empty((3, n, width))
    for i in range(n):
        problem.rows = problem.ids = np.array([i])
        _, gradient = problem.loss_and_gradient()
        hits[1:, i] = [(network.weights(gradient, k) == 0).all(axis=0) for k in (1, 2)]
    hits[0] = problem.corrupted(np.arange(n)) == 0
    for k in range(3):
        assert_binomial(hits[k].sum(), hits[k].size, 0.3)
    assert_uncorrelated(hits.reshape(3, -1).T)
    assert_uncorrelated(hits.transpose(1, 0, 2).reshape(n, -1))


def test_gaussian_draws_are_independent():
    draws = noisy("gaussian", 1.0, np.zeros((2000, 60)))
    for table in (draws, np.abs(draws)):
        assert_uncorrelated(table)


@pytest.mark.parametrize("dtype", DTYPES)
def test_salt_and_pepper_is_fair_to_each_feature(dtype):
    level, n = 0.4, 2000
    X = np.full((n, 100), 7.0, dtype=dtype)
    corruption = noise_problem("salt_and_pepper", level, 100).corruption
    out = noisy("salt_and_pepper", level, X)
    lows = (out == np.asarray(corruption.low).astype(dtype)).sum(axis=0)
    highs = (out == np.asarray(corruption.high).astype(dtype)).sum(axis=0)
    kept = (out == 7).sum(axis=0)
    np.testing.assert_array_equal(lows + highs + kept, n)
    for side in (lows, highs):
        assert_binomial(side, n, level / 2)
    assert_binomial(lows.sum(), X.size, level / 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_swap_takes_values_of_the_same_feature(dtype):
    level, n = 0.4, 2000
    X = np.full((n, 100), 7.0, dtype=dtype)
    pool = np.asarray(noise_problem("swap", level, 100, dtype=dtype).corruption.pool)
    out = noisy("swap", level, X)
    np.testing.assert_array_equal(out == 7, noisy("masking", level, X) == 7)
    from_row = out[:, None] == pool  # (n, rows of the pool, 100)
    np.testing.assert_array_equal(from_row.sum(axis=1), out != 7)
    for donors in from_row.sum(axis=0):  # each row gives as often as another
        assert_binomial(donors, n, level / len(pool))
    assert_uncorrelated(from_row.argmax(axis=1))


@pytest.mark.parametrize("level", [0.4, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_variable_masking_draws_the_share_of_each_row(dtype, level):
    out = noisy("variable_masking", level, np.ones((2000, 400), dtype=dtype))
    shares = (out == 0).mean(axis=1)
    assert stats.kstest(shares / level, "uniform").statistic < 0.05  # of 400, shares are coarse
    np.testing.assert_array_less(shares, level + 1e-12 + 5 * np.sqrt(0.25 / 400))
    assert_uncorrelated((out == 0)[shares < 0.6][:, :50] - shares[shares < 0.6][:, None])


@pytest.mark.parametrize("dtype", DTYPES)
def test_variable_gaussian_draws_share_and_deviation_of_each_row(dtype):
    level, n = 3.0, 2000
    scale = np.asarray(noise_problem("variable_gaussian", level, 500).corruption.scale)
    noise = noisy("variable_gaussian", level, np.zeros((n, 500), dtype=dtype)) / scale
    hit = noise != 0
    shares = hit.mean(axis=1)
    assert stats.kstest(shares, "uniform").pvalue > 0.01
    many = shares > 0.2
    sizes = np.array([row[at].std() for row, at in zip(noise[many], hit[many])])
    powers = np.log(level / sizes) / np.log(30)
    assert stats.kstest(powers, "uniform").statistic < 0.05
    assert abs(np.corrcoef(shares[many], powers)[0, 1]) < 5 / np.sqrt(many.sum())
    draws = np.concatenate([row[at] / row[at].std() for row, at in zip(noise[many], hit[many])])
    assert stats.kstest(draws[::50], "norm").pvalue > 0.01
    assert_uncorrelated(np.sign(noise[:, :60]))


def assert_uncorrelated(table):
    """All pairs of columns; the largest of many correlations stays below six deviations."""
    correlation = np.corrcoef(table, rowvar=False)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(table))


def test_columns_and_rows_are_uncorrelated():
    hit = mask(1500, 1500)
    assert_uncorrelated(hit[:, :200])
    assert_uncorrelated(hit[:200].T)
    # Neighbours, over the whole table, for anything too weak to show in one pair.
    for a, b in ((hit[1:], hit[:-1]), (hit[:, 1:], hit[:, :-1]), (hit[1:, 1:], hit[:-1, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_keys_are_uncorrelated():
    """Also those that differ in one bit, or by little."""
    keys = [0, 1, 2, 3, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1, KEY, KEY + 1, KEY ^ 2**40]
    table = np.stack([mask(300, 200, key=key).ravel() for key in keys], axis=1)
    assert_uncorrelated(table)
    # No pair of rows is the same draw, within a key or across keys.
    rows = np.concatenate([mask(300, 200, key=key) for key in keys])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_counts_of_hits_by_row_are_binomial():
    """Not more even, and not less, than independent elements make them."""
    counts = mask(5000, 40, level=0.25).sum(axis=1)
    low, high = 4, 17
    observed = np.bincount(np.clip(counts, low, high), minlength=high + 1)[low:]
    law = stats.binom(40, 0.25)
    inner = law.pmf(np.arange(low + 1, high))
    expected = 5000 * np.array([law.cdf(low), *inner, law.sf(high - 1)])
    assert stats.chisquare(observed, expected).pvalue > 0.01


@pytest.mark.parametrize("kind", NOISES[1:])
def test_noise_goes_with_the_id_of_a_row(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 30))
    ids = rng.integers(0, 2**62, size=60)
    whole = noisy(kind, 0.3, X, ids=ids)
    order = rng.permutation(60)[:40]
    np.testing.assert_array_equal(noisy(kind, 0.3, X[order], ids=ids[order]), whole[order])


@pytest.mark.parametrize("kind", NOISES[1:])
def test_noise_in_training_knows_no_batches_and_no_order(kind):
    """At a learning rate of zero the cost of an epoch is that of its corrupted rows."""
    network = Network.autoencoder([6, 4], ["tanh"], "squared_error", tied=True)
    problem = make_problem(network, "squared_error", n=23, noise=kind)
    corrupted = problem.corrupted(problem.ids)
    desired = reference.row_losses(
        network, problem.objective, problem.params, corrupted, problem.target
    ).sum()
    solver = make_solver("sgd", learning_rate=0.0)
    state = make_state(solver, problem.params)
    orders = [problem.rows, np.random.default_rng(0).permutation(23)]
    for rows in orders:
        for batch_size in (1, 5, 23, 40):
            total = problem.train(solver, state, batch_size, rows=rows, ids=rows)
            assert total == pytest.approx(desired, rel=1e-12)
    np.testing.assert_array_equal(state.buffers[0], problem.params)


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind not in GAUSSIAN])
def test_both_types_get_the_same_hits(kind):
    X = np.full((200, 150), 7.0)
    single, double = (noisy(kind, 0.5, X.astype(dtype)) for dtype in DTYPES)
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_both_types_get_the_same_gaussian_noise(kind):
    X = np.zeros((200, 150))
    single, double = (noisy(kind, 0.3, X.astype(dtype)) for dtype in DTYPES)
    np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-12)


# ---- numerics at the edges ---------------------------------------------------------------------


def extreme_values(dtype):
    huge = np.finfo(dtype).max
    wide = np.logspace(-30, np.log10(huge) - 1, 500)
    values = np.concatenate([np.linspace(-30, 30, 5001), wide, -wide, [0, huge, -huge]])
    values = np.concatenate([values, [np.inf, -np.inf], np.linspace(-800, 800, 1001)])
    return values.astype(dtype)


@pytest.mark.parametrize("along", ["columns", "rows"])
@pytest.mark.parametrize("dtype, bound", [(np.float32, 2e-7), (np.float64, 5e-16)])
@pytest.mark.parametrize("activation, exact", [("logistic", special.expit), ("tanh", np.tanh)])
def test_accuracy_of_the_activations(activation, exact, dtype, bound, along):
    values = extreme_values(dtype)
    n = len(values) if along == "columns" else 1
    network = Network([1, n], [activation])
    X = np.ones((1, 1), dtype=dtype) if along == "columns" else values[:, None]
    problem = make_problem(network, "squared_error", n=1, dtype=dtype)
    problem.params[:] = 0
    network.weights(problem.params, 0)[:, 0] = values if along == "columns" else 1
    out = problem.outputs(X=X).ravel()
    np.testing.assert_allclose(out, exact(values.astype(np.float64)), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", CODE_ACTIVATIONS)
def test_nan_gives_a_nan_activation(activation, dtype):
    network = Network([1, 40], [activation])
    problem = make_problem(network, "squared_error", n=1, dtype=dtype)
    problem.params[[0, 17, 39]] = np.nan
    out = problem.outputs(X=np.ones((1, 1), dtype=dtype)).ravel()
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(out)), [0, 17, 39])


SATURATED = [  # logit, target, cross-entropy
    (1e4, 1.0, 0.0),
    (1e4, 0.0, 1e4),
    (1e4, 0.25, 7.5e3),
    (-1e4, 0.0, 0.0),
    (-1e4, 1.0, 1e4),
    (-1e4, 0.25, 2.5e3),
    (0.0, 1.0, np.log(2)),
    (0.0, 0.25, np.log(2)),
]


@pytest.mark.parametrize("width", [1, 64, 200])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logit, x, loss", SATURATED)
def test_cross_entropy_of_saturated_logits(logit, x, loss, dtype, width):
    network = Network([1, width], ["logistic"])
    problem = make_problem(network, "cross_entropy", n=2, dtype=dtype)
    problem.X = np.full((2, 1), logit, dtype=dtype)
    problem.target = np.full((2, width), x, dtype=dtype)
    problem.params[:] = 0
    network.weights(problem.params, 0)[:] = 1
    rel = 1e-6 if dtype == np.float32 else 1e-14
    assert problem.row_losses() == pytest.approx([loss * width] * 2, rel=rel, abs=1e-30)
    cost, gradient = problem.loss_and_gradient()
    assert cost == pytest.approx(loss * width, rel=rel, abs=1e-30)
    slope = special.expit(logit) - x
    np.testing.assert_allclose(network.bias(gradient, 0), slope, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_over_all_logits(dtype):
    """Blocks of the widest range, in which one logarithm serves many units."""
    z = np.concatenate([np.linspace(-40, 40, 999), [-1e4, 1e4, -1e-30, 0.0]]).astype(dtype)
    network = Network([1, len(z)], ["logistic"])
    problem = make_problem(network, "cross_entropy", n=3, dtype=dtype)
    problem.X = np.ones((3, 1), dtype=dtype)
    problem.params[:] = 0
    network.weights(problem.params, 0)[:, 0] = z
    x, z = problem.target.astype(np.float64), z.astype(np.float64)
    desired = (x * np.logaddexp(0, -z) + (1 - x) * np.logaddexp(0, z)).sum(axis=1)
    rel = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(problem.row_losses(), desired, rtol=rel)


@pytest.mark.parametrize("dtype, bound", [(np.float32, 2e-7), (np.float64, 5e-16)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("width", [1, 2, 10, 200])
def test_accuracy_of_the_softmax(width, scale, dtype, bound):
    network = Network([1, width], ["softmax"])
    problem = make_problem(network, "log_loss", n=3, dtype=dtype)
    network.weights(problem.params, 0)[:] *= scale
    X = (problem.X + 1).astype(dtype)
    out = problem.outputs(X=X)
    z = X @ network.weights(problem.params, 0).T + network.bias(problem.params, 0)
    np.testing.assert_allclose(out, special.softmax(z.astype(np.float64), axis=1), atol=4 * bound)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=20 * bound)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", [0, 17, 39])
def test_nan_makes_the_whole_softmax_nan(place, dtype):
    network = Network([1, 40], ["softmax"])
    problem = make_problem(network, "log_loss", n=1, dtype=dtype)
    problem.params[place] = np.nan
    assert np.isnan(problem.outputs()).all()
    assert np.isnan(problem.row_losses()).all()
    assert np.isnan(problem.loss_and_gradient()[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [2, 5, 70])
@pytest.mark.parametrize("logit", [1e4, -1e4])
@pytest.mark.parametrize("right", [True, False])
def test_log_loss_of_saturated_logits(right, logit, width, dtype):
    """One logit far from all others, which are zero; the target is its class or another."""
    network = Network([1, width], ["softmax"])
    problem = make_problem(network, "log_loss", n=2, dtype=dtype)
    problem.X = np.ones((2, 1), dtype=dtype)
    problem.params[:] = 0
    network.weights(problem.params, 0)[1] = logit
    target = np.zeros((2, width))
    target[:, 1 if right else 0] = 1
    problem.target = target.astype(dtype)
    z = np.zeros(width)
    z[1] = logit
    loss = special.logsumexp(z) - target[0] @ z
    rel = 1e-6 if dtype == np.float32 else 1e-14
    assert problem.row_losses() == pytest.approx([loss] * 2, rel=rel, abs=1e-30)
    cost, gradient = problem.loss_and_gradient()
    assert cost == pytest.approx(loss, rel=rel, abs=1e-30)
    slope = special.softmax(z) - target[0]
    np.testing.assert_allclose(network.bias(gradient, 0), slope, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean", [0.0, 1.0], ids=["never_on", "always_on"])
@pytest.mark.parametrize("activation", BOUNDED)
def test_sparsity_of_a_dead_unit_is_finite(activation, mean, dtype):
    network = Network([2, 3, 2], [activation, "identity"])
    problem = make_problem(
        network, "squared_error", dtype=dtype, sparse_layer=0, **PENALTIES["kl"]
    )
    network.weights(problem.params, 0)[:] = 0
    network.bias(problem.params, 0)[:] = 1e3 if mean else -1e3
    loss, gradient = problem.loss_and_gradient()
    rho, t = np.clip(mean, 1e-6, 1 - 1e-6), 0.1
    divergence = t * np.log(t / rho) + (1 - t) * np.log((1 - t) / (1 - rho))
    without = problem.row_losses().mean()
    assert loss - without == pytest.approx(0.7 * 3 * divergence, rel=0.02)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("activation", CODE_ACTIVATIONS)
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_cost_that_is_not_finite_is_nan(loss, activation, name, dtype):
    """A single infinity, in the last of several batches."""
    network = Network([3, 4, 3], [activation, TOPS.get(loss, "identity")], tied=True)
    problem = make_problem(network, loss, n=7, dtype=dtype)
    target = problem.target.copy()
    target[6, 1] = np.inf
    problem.target = target
    solver = make_solver(name)
    state = make_state(solver, problem.params)
    total = problem.train(solver, state, 3)
    assert np.isnan(total)
    assert state.step == 2  # a batch of no finite cost takes no step, and does not count
    assert not np.isfinite(problem.loss_and_gradient()[0])
    losses = problem.row_losses()
    assert not np.isfinite(losses[6]) and np.isfinite(losses[:6]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_a_cost_that_grows_without_bound_is_nan(name, dtype):
    network = Network.autoencoder([3, 4], ["identity"], "squared_error", tied=False)
    problem = make_problem(network, "squared_error", n=200, dtype=dtype)
    solver = make_solver(name, learning_rate=1e6)
    state = make_state(solver, problem.params)
    total = problem.train(solver, state, 1)
    assert np.isnan(total)
    assert 0 < state.step < 200  # it stopped there


# ---- refusals --------------------------------------------------------------------------------


def small_problem():
    network = Network.autoencoder([4, 3], ["tanh"], "squared_error", tied=True)
    return make_problem(network, "squared_error")


CALLS = {
    "train": lambda p: p.train(make_solver("sgd"), plain_state(p), 5),
    "loss_and_gradient": lambda p: p.loss_and_gradient(),
    "outputs": lambda p: p.outputs(),
    "row_losses": lambda p: p.row_losses(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_workspace_too_small(call, monkeypatch):
    problem = small_problem()
    call(problem)
    whole = Network.workspace
    monkeypatch.setattr(Network, "workspace", lambda *args, **kwargs: whole(*args, **kwargs)[:-1])
    with pytest.raises(ValueError, match="workspace is too small"):
        call(problem)


@pytest.mark.parametrize("name", ["X", "target"])
@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_wrong_width(call, by, name):
    if name == "target" and call is CALLS["outputs"]:
        # There it is the array for the results.
        def call(problem):
            workspace, out = problem.workspace(4), np.empty_like(problem.target)
            _sgd.outputs(
                problem.network.layers, Team(), problem.params, workspace, 4, problem.X, out
            )

    problem = small_problem()
    call(problem)
    setattr(problem, name, np.zeros((5, 4 + by)))
    with pytest.raises(ValueError, match="widths of X or target do not fit"):
        call(problem)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_must_have_rows(batch_size):
    problem = small_problem()
    problem.workspace = lambda rows: np.empty(1000)
    with pytest.raises(ValueError, match="workspace is too small"):
        problem.train(make_solver("sgd"), plain_state(problem), batch_size)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_buffers_too_short(name):
    problem, solver = small_problem(), make_solver(name)
    state = make_state(solver, problem.params)
    state.buffers = state.buffers[:-1]
    with pytest.raises(ValueError, match="too short"):
        problem.train(solver, state, 5)


def test_an_id_for_each_row():
    problem = small_problem()
    with pytest.raises(ValueError, match="too short"):
        problem.train(make_solver("sgd"), plain_state(problem), 5, ids=problem.ids[:-1])


@pytest.mark.parametrize("name", ["X", "target", "rows", "ids", "weights", "buffers"])
def test_another_dtype(name):
    problem = small_problem()
    state = plain_state(problem)
    owner = state if name == "buffers" else problem
    if name == "weights":
        problem.weights = np.ones(5)
    dtype = np.int32 if name in ("rows", "ids") else np.float32
    setattr(owner, name, getattr(owner, name).astype(dtype))
    with pytest.raises(ValueError, match="dtype mismatch"):
        problem.train(make_solver("sgd"), state, 5)
    assert state.step == 0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_too_few_parameters(call):
    problem = small_problem()
    problem.params = problem.params[:-1].copy()
    with pytest.raises(ValueError, match="parameters are too few"):
        call(problem)


HUGE = [2**31, 2**61, 2**62, 2**63 - 1]
BROKEN = {
    "n_in": [0, -1, 3, 5, *HUGE],
    "n_out": [0, -1, 2, 4, *HUGE],
    "weight": [-1, -(2**62), 1000, *HUGE],
    "bias": [-1, -(2**62), 1000, *HUGE],
    "activation": [-1, 6, *HUGE],
    "input": [-1, -(2**62), 1000, *HUGE],
    "delta": [-1, -(2**62), 1000, *HUGE],
}
BROKEN_IN_TRAINING = {
    "partner": [-2, 0, 2, 1000, -(2**62), *HUGE],
    "transposed": [-1, 2, 2**32, *HUGE],
    "weight": [1],
    "input": [0],
    "delta": [0],
    "dropout": [-0.1, 1.0, np.nan, np.inf],
}


def tied_problem():
    """Of four layers, with one workspace for all tables."""
    network = Network([4, 3, 2, 3, 4], ["relu"] * 3 + ["identity"], tied=True)
    problem = make_problem(network, "squared_error", n=5)
    workspace = problem.workspace(5)
    problem.workspace = lambda rows: workspace
    return problem


def outputs_of_four(problem):
    layers, workspace, out = problem.network.layers, problem.workspace(5), np.empty((5, 4))
    _sgd.outputs(layers, problem.team, problem.params, workspace, 5, problem.X, out)


def broken_tables(layers, field, k, values):
    """Change a field of layer k to each of the values that differ, and back again."""
    given = layers.copy()
    for value in values:
        layers[field][k] = value
        if layers[k] != given[k]:
            yield value
        layers[:] = given


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("field", BROKEN)
@pytest.mark.parametrize("name", CALLS)
def test_a_broken_table(name, field, k):
    """No layer may be read or written outside the arrays."""
    call = outputs_of_four if name == "outputs" else CALLS[name]
    problem = tied_problem()
    call(problem)
    for _ in broken_tables(problem.network.layers, field, k, BROKEN[field]):
        with pytest.raises(ValueError, match=r"layer \d|too few|too small|widths of X or target"):
            call(problem)


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("field", BROKEN_IN_TRAINING)
def test_a_broken_pair(field, k):
    """Training takes a pair of tied layers as one; without it, a layer needs no partner."""
    problem = tied_problem()
    for _ in broken_tables(problem.network.layers, field, k, BROKEN_IN_TRAINING[field]):
        for name in ("train", "loss_and_gradient"):
            with pytest.raises(ValueError, match=rf"layer [{k}{3 - k}]"):
                CALLS[name](problem)


def test_softmax_is_an_output():
    problem = tied_problem()
    problem.network.layers["activation"] = ACTIVATIONS["softmax"]
    problem.outputs(start=3, X=np.zeros((5, 3)))
    with pytest.raises(ValueError, match="layer 0 has an unknown activation"):
        problem.outputs()


@pytest.mark.parametrize("row", [-1, 5, 2**62, -(2**63)])
@pytest.mark.parametrize("short", ["X", "target", "weights", None])
@pytest.mark.parametrize("name", ["train", "loss_and_gradient"])
def test_rows_that_are_not_there(name, short, row):
    problem = small_problem()
    problem.weights = np.ones(5)
    CALLS[name](problem)
    if short is None:
        problem.rows = np.array([0, 1, row, 3, 4])
    else:  # then the last row is missing there
        setattr(problem, short, getattr(problem, short)[:4])
    with pytest.raises(ValueError, match="rows must be those of X, target and weights"):
        CALLS[name](problem)


@pytest.mark.parametrize("size", [2**31, 2**61, 2**62, 2**63 - 1])
@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_batches_of_any_size_need_their_place(size, radius):
    problem = small_problem()
    problem.objective.adversarial_radius = radius
    problem.workspace = lambda rows: np.empty(1000)
    with pytest.raises(ValueError, match="workspace is too small"):
        problem.train(make_solver("sgd"), plain_state(problem), size)


@pytest.mark.parametrize(
    "extremes", [{}, {"low": 3}, {"low": 4, "high": 3}, {"low": 3, "high": 4}]
)
def test_salt_and_pepper_needs_the_extremes(extremes):
    problem = small_problem()
    extremes = {side: np.zeros(n) for side, n in extremes.items()}
    problem.corruption = _sgd.Corruption("salt_and_pepper", 0.3, **extremes)
    calls = CALLS["train"], CALLS["loss_and_gradient"], lambda p: p.corrupted(p.ids)
    for call in calls:
        with pytest.raises(ValueError, match="needs the extremes"):
            call(problem)


@pytest.mark.parametrize(
    "kind, wrong, match",
    [
        ("gaussian", {}, "needs the standard deviation"),
        ("variable_gaussian", {}, "needs the standard deviation"),
        ("gaussian", {"scale": np.ones(3)}, "needs the standard deviation"),
        ("swap", {}, "needs a pool"),
        ("swap", {"pool": np.ones((5, 3))}, "needs a pool"),
        ("swap", {"pool": np.ones((0, 4))}, "needs a pool"),
        ("swap", {"pool": np.ones((5, 4), dtype=np.float32)}, "Buffer dtype mismatch"),
    ],
)
def test_noise_needs_what_it_reads(kind, wrong, match):
    problem = small_problem()
    problem.corruption = _sgd.Corruption(kind, 0.3, **wrong)
    for call in (CALLS["train"], CALLS["loss_and_gradient"], lambda p: p.corrupted(p.ids)):
        with pytest.raises(ValueError, match=match):
            call(problem)


def test_a_row_of_results_for_each_row():
    problem = small_problem()
    layers, workspace, X = problem.network.layers, problem.workspace(4), problem.X
    arguments = layers, problem.team, problem.params, workspace, 4, X
    with pytest.raises(ValueError, match="for each of X"):
        _sgd.outputs(*arguments, np.empty((4, 4)))
    arguments = layers, problem.objective, *arguments[1:]
    for target, out in ((X[:4], np.empty(5)), (X, np.empty(4))):
        with pytest.raises(ValueError, match="for each of X"):
            _sgd.row_losses(*arguments, target, out)
    for ids, out in ((4, (5, 4)), (5, (4, 4)), (5, (5, 3))):
        with pytest.raises(ValueError, match="must fit X"):
            _sgd.corrupt_rows(problem.corruption, X, np.arange(ids), 0, np.empty(out))


@pytest.mark.parametrize("name", ["unheard_of", None, 1, ["adam"]])
def test_unknown_names(name):
    with pytest.raises(ValueError, match="loss must be one of"):
        _sgd.Objective(name)
    with pytest.raises(ValueError, match="solver must be one of"):
        _sgd.Solver(name, learning_rate=0.1)
    if name is not None:
        with pytest.raises(ValueError, match="corruption must be one of"):
            _sgd.Corruption(name)


# ---- adversarial rows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes, activations, loss",
    [
        ([7, 6, 5, 3], ["tanh", "logistic", "softmax"], "log_loss"),
        ([7, 6, 4], ["relu", "identity"], "squared_error"),
        ([7, 3], ["logistic"], "cross_entropy"),
    ],
)
def test_gradient_at_adversarial_rows(sizes, activations, loss):
    """The same as at rows that the reference has perturbed."""
    problem = make_problem(
        Network(sizes, activations), loss, n=6, noise="masking", adversarial_radius=0.07, alpha=0.1
    )
    actual_loss, gradient = problem.loss_and_gradient()
    X, target, *rest = problem.reference_batch()
    arguments = problem.network, problem, problem.params
    assert actual_loss == pytest.approx(sum(reference.cost(*arguments, X, target, *rest)))
    desired = reference.gradient(*arguments, X, target, *rest)
    np.testing.assert_allclose(gradient, desired, rtol=1e-9, atol=1e-12)

    perturbed = reference.seen(*arguments, X, target, *rest)
    corrupted = reference.corrupt(problem.corruption, X, *rest[::2])
    assert np.allclose(np.abs(perturbed - corrupted), 0.07)
    problem.objective.adversarial_radius = 0.0
    at_rest = sum(reference.cost(*arguments, X, target, *rest))
    assert actual_loss > at_rest  # that is what the rows were perturbed for


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_training_on_adversarial_rows(name):
    network = Network([7, 6, 3], ["tanh", "softmax"])
    problem = make_problem(
        network, "log_loss", n=23, noise="dropout", dropout=(0.3,), adversarial_radius=0.05
    )
    solver = make_solver(name)
    state, desired = (make_state(solver, problem.params) for _ in range(2))
    problem.train(solver, state, 5)
    reference.train(network, problem.of_kernel(solver, desired), problem.batches(5))
    np.testing.assert_allclose(state.buffers[0], desired.buffers[0], rtol=1e-8, atol=1e-11)


def test_adversarial_rows_need_a_place():
    problem = make_problem(Network([7, 3], ["softmax"]), "log_loss", adversarial_radius=0.05)
    problem.workspace = lambda rows: problem.network.workspace(rows, np.float64)
    with pytest.raises(ValueError, match="workspace is too small"):
        problem.train(make_solver("sgd"), plain_state(problem), 5)


# ---- top-k codes -------------------------------------------------------------------------------


@reproducible
@given(
    values=st.lists(
        st.sampled_from([-1.0, -0.0, 0.0, 1e-300, 0.5, 1.0, 1.0 + 2**-20, 3.0, np.inf]),
        min_size=1,
        max_size=40,
    ),
    n_active=st.integers(1, 40),
    dtype=st.sampled_from(DTYPES),
)
def test_the_largest_stay(values, n_active, dtype):
    """Of equal ones, the first."""
    z = np.array(values, dtype=dtype)
    network = Network([1, len(z)], ["top_k"], n_active=[min(n_active, len(z))])
    problem = make_problem(network, "squared_error", n=1, dtype=dtype)
    problem.params[: len(z)], problem.params[len(z) :] = 0, z
    out = problem.outputs(X=np.ones((1, 1), dtype=dtype))
    desired = np.where(reference.is_active(z[None], n_active), z, 0)
    np.testing.assert_array_equal(out, desired)


def test_nan_is_the_largest():
    network = Network([1, 5], ["top_k"], n_active=[2])
    problem = make_problem(network, "squared_error", n=1)
    problem.params[:] = [0, 0, 0, 0, 0, 1, np.nan, 3, np.inf, -np.nan]
    out = problem.outputs(X=np.ones((1, 1)))
    np.testing.assert_array_equal(out, [[0, np.nan, 0, 0, np.nan]])


TOP_K = {  # sizes and activations of the encoders, numbers of active units
    "few": ([5, 40], ["top_k"], [3]),
    "many": ([5, 40], ["top_k"], [15]),
    "all": ([5, 4], ["top_k"], [4]),
    "one": ([5, 40], ["top_k"], [1]),
    "two": ([4, 40, 24], ["top_k", "top_k"], [5, 3]),
    "below": ([5, 40, 3], ["top_k", "tanh"], [3, None]),
    "above": ([5, 4, 40], ["relu", "top_k"], [None, 3]),
}


@pytest.mark.parametrize("noise, dropout", [(None, ()), ("masking", (0.2, 0.3, 0.4))])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
@pytest.mark.parametrize("case", TOP_K)
def test_gradient_of_top_k_codes(case, loss, tied, noise, dropout):
    sizes, activations, n_active = TOP_K[case]
    network = Network.autoencoder(sizes, activations, loss, tied=tied, n_active=n_active)
    problem = top_k_problem(network, loss, noise, dropout[: len(network) - 1])
    assert_gradient(problem)
    _, actual = problem.loss_and_gradient()
    desired = reference.gradient(
        network,
        problem.of_kernel(make_solver("sgd"), make_state(make_solver("sgd"), problem.params)),
        problem.params,
        *problem.reference_batch(),
    )
    np.testing.assert_allclose(actual, desired, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [[5, 40], [4, 40, 24]], ids=["one", "two"])
@pytest.mark.parametrize("loss", SUPERVISED)
def test_gradient_of_top_k_codes_below_a_top(loss, sizes):
    n_hidden = len(sizes) - 1
    network = Network([*sizes, 3], ["top_k"] * n_hidden + [SUPERVISED[loss]], n_active=[3, 3])
    problem = top_k_problem(network, loss, "gaussian", (0.3,) * n_hidden)
    if loss == "log_loss":
        problem.target = frozen(np.eye(3)[[0, 2]])
    assert_gradient(problem)


def top_k_problem(network, loss, noise, dropout):
    """The first problem that no step of the differences takes to other active units."""
    for seed in range(1000):
        problem = make_problem(
            network, loss, n=2, seed=seed, noise=noise, dropout=dropout, alpha=0.1
        )
        if distance_to_kink(problem) > 2e-3:
            return problem
    raise AssertionError("no seed keeps its distance")


@pytest.mark.parametrize("radius", [0.0, 0.1])
@pytest.mark.parametrize("n_active", [6, 30])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("tied", [False, True])
def test_training_of_top_k_codes_by_a_team(tied, name, n_active, radius):
    """The products of skae add in the same order in any number of threads; BLAS may not."""
    network = Network.autoencoder(
        [96, 160], ["top_k"], "squared_error", tied=tied, n_active=[n_active]
    )
    problem = make_problem(
        network, "squared_error", n=96, noise="dropout", adversarial_radius=radius, alpha=0.01
    )

    def train(n_threads):
        solver = make_solver(name)
        state = make_state(solver, problem.params)
        with Team(n_threads) as problem.team:
            problem.train(solver, state, 32)
        return state.buffers

    alone = train(1)
    tolerance = 0 if "avx2" in _blas.INSTRUCTIONS else 1e-9
    for n_threads in (2, 3):
        np.testing.assert_allclose(train(n_threads), alone, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(train(3), train(3))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5])
def test_top_k_codes_by_a_team_are_the_same_bits(n_threads):
    network = Network([96, 160], ["top_k"], n_active=[12])
    problem = make_problem(network, "squared_error", n=50)
    X = np.round(problem.X * 4)  # many equal units
    problem.params[:] = np.round(problem.params * 2)
    desired = problem.outputs(X=X)
    assert (desired != 0).sum(axis=1).max() == 12
    with Team(n_threads) as problem.team:
        whole = problem.workspace
        problem.workspace = lambda rows: np.concatenate([whole(rows)] * n_threads)
        np.testing.assert_array_equal(problem.outputs(X=X), desired)


def test_a_unit_that_is_not_active_keeps_its_weights():
    network = Network.autoencoder([4, 40], ["top_k"], "squared_error", tied=False, n_active=[2])
    problem = make_problem(network, "squared_error", n=6)
    inputs, _ = reference.forward(network, problem.params, problem.X)
    unused = ~inputs[1].any(axis=0)
    solver, before = make_solver("sgd"), problem.params.copy()
    state = make_state(solver, problem.params)
    problem.train(solver, state, 6)
    changed = [
        (network.weights(state.buffers[0], k) != network.weights(before, k)).any(axis=1 - k)
        for k in (0, 1)
    ]
    assert 0 < unused.sum() < 40
    for some in changed:
        np.testing.assert_array_equal(some, ~unused)


@pytest.mark.parametrize("field", ["n_active", "active"])
@pytest.mark.parametrize("name", ["train", "loss_and_gradient"])
def test_broken_lists_of_active_units(name, field):
    network = Network.autoencoder([3, 20], ["top_k"], "squared_error", tied=False, n_active=[2])
    problem = make_problem(network, "squared_error", n=5)
    workspace = problem.workspace(5)
    problem.workspace = lambda rows: workspace
    CALLS[name](problem)
    values = [-1, -(2**62), 1000, *HUGE] + [0, 21] * (field == "n_active")
    for _ in broken_tables(network.layers, field, 0, values):
        with pytest.raises(ValueError, match=r"active units of layer 0|workspace is too small"):
            CALLS[name](problem)


def test_a_top_k_code_has_no_loss():
    problem = make_problem(Network([3, 20], ["top_k"]), "squared_error", n=5)
    for call in (problem.loss_and_gradient, problem.row_losses):
        with pytest.raises(ValueError, match="a top-k code has no loss"):
            call()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_norms_where_a_matrix_is_stored_by_input(n_threads, dtype):
    network = Network([90, 70, 2], ["tanh", "identity"], by_input=[0])
    problem = make_problem(network, "squared_error", n=5, dtype=dtype)
    network.weights(problem.params, 0)[3] = 0
    solver = make_solver("sgd", learning_rate=0.0, max_norm=0.9)
    state, desired = (make_state(solver, problem.params) for _ in range(2))
    with Team(n_threads) as problem.team:
        problem.train(solver, state, 5)
    reference.limit_norms(network, 0.9, desired.buffers[0])
    np.testing.assert_allclose(state.buffers, desired.buffers, rtol=1e-5, atol=1e-7)
    norms = np.linalg.norm(network.weights(state.buffers[0], 0), axis=1)
    assert norms.max() == pytest.approx(0.9) and 0 in norms


# ---- sparse samples ----------------------------------------------------------------------------


def sparse_problem(loss="log_loss", *, n_nonzero=4, noise="dropout", **options):
    """Of rows with at most four features that are not zero."""
    top = TOPS.get(loss, "identity")
    network = Network([30, 12, 3], ["tanh", top], by_input=[0])
    network.list_features(n_nonzero)
    problem = make_problem(network, loss, n=9, noise=noise, **options)
    X = np.zeros_like(problem.X)
    rng = np.random.default_rng(1)
    for row, size in zip(X, [0, 1, 2, 3, 4, 4, 4, 4, 4]):
        row[rng.choice(30, size, replace=False)] = rng.normal(size=size)
    X[5] = np.where(X[5] != 0, np.nan, 0)  # all missing
    problem.X = frozen(X)
    return problem


@pytest.mark.parametrize("noise", [None, "dropout", "masking", "variable_masking"])
@pytest.mark.parametrize("loss", SUPERVISED)
def test_gradient_for_sparse_samples(loss, noise):
    problem = sparse_problem(loss, noise=noise, dropout=(0.2,), alpha=0.1)
    assert_gradient(problem)
    loss, gradient = problem.loss_and_gradient()
    problem.network.layers["n_nonzero"] = 0  # use all features
    desired_loss, desired = problem.loss_and_gradient()
    assert loss == pytest.approx(desired_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, desired, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", SOLVERS)
def test_training_on_sparse_samples_by_a_team(name):
    problem = sparse_problem()

    def train(n_threads):
        solver = make_solver(name, max_norm=0.5)
        state = make_state(solver, problem.params)
        with Team(n_threads) as problem.team:
            problem.train(solver, state, 4)
        return state.buffers

    alone = train(1)
    for n_threads in (2, 3):
        np.testing.assert_allclose(train(n_threads), alone, rtol=1e-9, atol=1e-12)


def test_a_list_that_is_too_short_ends_the_training():
    problem = sparse_problem(n_nonzero=3, noise=None)
    solver = make_solver("sgd")
    state = make_state(solver, problem.params)
    assert np.isnan(problem.train(solver, state, 4))
    assert state.step == 1  # the first four samples are short enough
    assert np.isnan(problem.loss_and_gradient()[0])


@pytest.mark.parametrize("radius", ["adversarial_radius", "smoothness_radius"])
def test_perturbed_rows_have_no_lists(radius):
    shares = {"class_shares": np.ones(3) / 3} if radius == "smoothness_radius" else {}
    problem = sparse_problem(**{radius: 0.1}, **shares)
    with pytest.raises(ValueError, match="perturbed rows have no lists of features"):
        problem.loss_and_gradient()


@pytest.mark.parametrize("field", ["n_nonzero", "nonzero"])
@pytest.mark.parametrize("name", ["train", "loss_and_gradient"])
def test_broken_lists_of_features(name, field):
    problem = sparse_problem()
    workspace = problem.workspace(9)
    problem.workspace = lambda rows: workspace
    CALLS[name](problem)
    values = [-1, -(2**62), 1000, *HUGE] + [31] * (field == "n_nonzero")
    for _ in broken_tables(problem.network.layers, field, 0, values):
        with pytest.raises(ValueError, match=r"features of layer 0|workspace is too small"):
            CALLS[name](problem)


@pytest.mark.parametrize("change", ["another layer", "not transposed", "tied"])
def test_only_a_first_layer_with_a_matrix_of_its_own_has_lists(change):
    problem = sparse_problem()
    layers = problem.network.layers
    if change == "another layer":
        layers["n_nonzero"] = [0, 2]
    elif change == "not transposed":
        layers["transposed"] = 0
    else:
        layers["partner"][0] = 1
    with pytest.raises(ValueError, match=r"features of layer \d are out of range"):
        problem.loss_and_gradient()


# ---- threads -----------------------------------------------------------------------------------


def wide_problem(dtype=np.float64):
    """Large enough that every operation is done in parts, with all that acts on columns."""
    network = Network([150, 90, 130, 150], ["tanh", "logistic", "identity"])
    return make_problem(
        network,
        "squared_error",
        n=96,
        dtype=dtype,
        noise="masking",
        dropout=(0.3, 0.2),
        alpha=0.01,
    )


@pytest.mark.parametrize("n_threads", [2, 3, 5])
def test_gradient_in_parts(n_threads):
    problem = wide_problem()
    desired_loss, desired = problem.loss_and_gradient()
    with Team(n_threads) as problem.team:
        assert problem.team.n_threads == n_threads
        loss, gradient = problem.loss_and_gradient()
    assert loss == pytest.approx(desired_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, desired, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_gradient_in_parts_of_a_tied_autoencoder_with_sparse_codes(loss):
    network = Network.autoencoder([150, 130], ["logistic"], loss, tied=True)
    problem = make_problem(
        network, loss, n=64, sparse_layer=0, sparsity_target=0.1, sparsity_penalty=0.7
    )
    desired_loss, desired = problem.loss_and_gradient()
    with Team(3) as problem.team:
        actual_loss, gradient = problem.loss_and_gradient()
    assert actual_loss == pytest.approx(desired_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, desired, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_training_with_a_team(name, dtype):
    """As many threads, the same bits; another number, the same weights but for rounding."""
    problem = wide_problem(dtype)

    def train(n_threads):
        solver = make_solver(name)
        solver.max_norm = 1.0
        state = make_state(solver, problem.params)
        with Team(n_threads) as problem.team:
            cost = problem.train(solver, state, 40)
        return cost, state.buffers

    (cost, alone), (cost_2, two), (_, again) = train(1), train(2), train(2)
    np.testing.assert_array_equal(two, again)
    # Where a gradient is next to nothing, Adam's first steps are as large as elsewhere, and
    # rounding decides on them.
    tolerance = {np.float32: 1e-4 if name == "adam" else 1e-5, np.float64: 1e-10}[dtype]
    assert cost_2 == pytest.approx(cost, rel=tolerance)
    np.testing.assert_allclose(two[0], alone[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("workspace_rows", [1, 7, 200])
def test_rows_shared_among_a_team(workspace_rows):
    """Each thread has its part of the workspace, and none reads that of another."""
    problem = wide_problem()
    desired = problem.outputs(), problem.row_losses()
    with Team(3) as problem.team:
        whole = problem.workspace
        problem.workspace = lambda rows: np.concatenate([whole(rows)] * 3)
        found = (
            problem.outputs(workspace_rows=workspace_rows),
            problem.row_losses(workspace_rows=workspace_rows),
        )
    for actual, expected in zip(found, desired):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_a_team_alone_and_after_its_end():
    """Without its members, the leader does all parts."""
    problem = wide_problem()
    desired = problem.loss_and_gradient()[1]
    with Team(2) as team:
        pass
    for problem.team in (Team(2), team):
        np.testing.assert_allclose(problem.loss_and_gradient()[1], desired, rtol=1e-9, atol=1e-12)


def test_a_team_leaves_no_threads():
    before = threading.active_count()
    with Team(4):
        assert threading.active_count() == before + 3
        time.sleep(0.01)  # they have gone to sleep by then
    assert threading.active_count() == before


@pytest.mark.threads
def test_teams_beside_each_other():
    """Many short tasks, each a chance for a thread to miss its call."""
    problems = [wide_problem() for _ in range(3)]
    desired = problems[0].loss_and_gradient()[1]
    wrong = []

    def work(problem):
        with Team(3) as problem.team:
            for _ in range(100):
                gradient = problem.loss_and_gradient()[1]
                if not np.allclose(gradient, desired, rtol=1e-9, atol=1e-12):
                    wrong.append(gradient)

    threads = [threading.Thread(target=work, args=(problem,)) for problem in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not wrong


# ---- the build -------------------------------------------------------------------------------


WRAPPER = """
#include "_elementwise.h"
#define WRAP(suffix, real) \\
    void run_activate##suffix(int kind, ptrdiff_t n, const real *bias, real *z) \\
    { activate(kind, 1, n, n, bias, z); } \\
    void run_corrupt##suffix(int kind, double level, uint64_t key, ptrdiff_t n, \\
                             const double *low, const double *high, const double *scale, \\
                             const real *pool, const real *x, real *out) \\
    { \\
        const corruption_settings settings = {kind, level, low, high, scale, pool, 7}; \\
        corrupt(&settings, row_key(key, 0), n, x, out); \\
    }
WRAP(_f, float)
WRAP(_d, double)
"""


@pytest.fixture(scope="module")
def plain_library(tmp_path_factory):
    """The loops as strict C11, for the baseline of the machine."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or os.name == "nt":
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("plain")
    (folder / "plain.c").write_text(WRAPPER)
    flags = "-std=c11 -O1 -Wall -Wextra -pedantic -Werror -Wno-unknown-pragmas"
    flags += " -Wno-source-uses-openmp -Wno-unused-function -DSKAE_NO_TARGET_CLONES -shared -fPIC"
    include = f"-I{Path(_kernel.__file__).parent}"
    command = [compiler, *flags.split(), include, "plain.c", "-o", "plain.so", "-lm"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return ctypes.CDLL(str(folder / "plain.so"))


SUFFIX = {np.float32: "_f", np.float64: "_d"}


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", OUTPUTS)
def test_plain_build_gives_the_same_activations(plain_library, activation, dtype):
    z = np.linspace(-20, 20, 1001).astype(dtype)
    network = Network([1, len(z)], [activation])
    problem = make_problem(network, "squared_error", n=1, dtype=dtype)
    problem.params[: len(z)] = z
    desired = problem.outputs(X=np.ones((1, 1), dtype=dtype)).ravel()
    run = getattr(plain_library, "run_activate" + SUFFIX[dtype])
    bias = np.ascontiguousarray(network.bias(problem.params, 0))
    run(ACTIVATIONS[activation], ctypes.c_ssize_t(len(z)), pointer(bias), pointer(z))
    np.testing.assert_allclose(z, desired, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", NOISES[1:])
def test_plain_build_gives_the_same_noise(plain_library, kind, dtype):
    problem = noise_problem(kind, 0.3, 501, dtype=dtype)
    x = np.random.default_rng(0).uniform(size=(1, 501)).astype(dtype)
    desired = problem.corrupted(np.zeros(1, dtype=np.int64), X=x)
    out = np.empty_like(x)
    run = getattr(plain_library, "run_corrupt" + SUFFIX[dtype])
    noise = problem.corruption
    run(
        _sgd.NOISES[kind],
        ctypes.c_double(0.3),
        ctypes.c_uint64(KEY),
        ctypes.c_ssize_t(501),
        *(pointer(np.asarray(a)) for a in (noise.low, noise.high, noise.scale, noise.pool)),
        pointer(x),
        pointer(out),
    )
    np.testing.assert_allclose(out, desired, rtol=0, atol=0 if kind not in GAUSSIAN else 2e-6)


def test_other_threads_run_while_the_kernel_works():
    """One batch of a fraction of a second; the other thread notes when it had its turn."""
    n = 20_000
    network = Network.autoencoder([64, 128], ["logistic"], "cross_entropy", tied=True)
    problem = make_problem(network, "cross_entropy", n=n, noise="gaussian")
    state = plain_state(problem)
    workspace = problem.workspace(n)
    problem.workspace = lambda rows: workspace
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-3)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        problem.train(make_solver("sgd"), state, n)
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    margin = 0.1 * (end - start)
    assert sum(start + margin < t < end - margin for t in ticks) >= 3
