"""The kernel's steps with smooth predictions, against the reference and finite differences."""

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skae._kernel import _sgd
from skae._kernel._team import Team
from skae._network import Network, aligned_zeros
from skae._training import TrainingState

SMOOTH = ["identity", "logistic", "tanh"]


def made(n_outputs, n, n_labelled, seed=0, dtype=np.float64, activations=("tanh",), weighted=True,
         **options):  # fmt: skip
    """A network with random weights, and a batch whose first rows have targets."""
    rng = np.random.default_rng(seed)
    top = "softmax" if n_outputs > 1 else "logistic"
    sizes = [6, *rng.integers(3, 9, len(activations)).tolist(), n_outputs]
    network = Network(sizes, [*activations, top])
    network.layers["dropout"][1:] = 0.25
    shares = rng.uniform(0.5, 1, max(2, n_outputs))
    objective = _sgd.Objective(
        "log_loss" if n_outputs > 1 else "cross_entropy",
        **{"smoothness_radius": 0.5, "entropy_weight": 1.0, "balance_weight": 2.0, **options},
        class_shares=shares / shares.sum(),
    )
    params = aligned_zeros(network.n_params, dtype)
    params[:] = rng.normal(size=network.n_params)
    target = rng.integers(0, max(2, n_outputs), n)
    target = np.eye(n_outputs)[target] if n_outputs > 1 else target[:, np.newaxis]
    target = target.astype(dtype)
    target[n_labelled:] = np.nan
    problem = _sgd.Problem(
        network.layers,
        objective,
        _sgd.Solver("plain_sgd", learning_rate=0.1),
        TrainingState(params[np.newaxis].copy(), 0),
        _sgd.Corruption("masking", 0.2),
    )
    weights = rng.uniform(0.5, 2, n) if weighted else None
    batch = rng.normal(size=(n, 6)).astype(dtype), target, np.arange(n), weights
    return network, problem, batch


def kernel_gradient(network, problem, batch, n_labelled, n_threads=1, key=7):
    X, target, ids, weights = batch
    batches = _sgd.Batches(X, target, np.arange(len(X)), ids, weights, len(X), key, n_labelled)
    adversarial = problem.objective.adversarial_radius > 0
    workspace = network.workspace(len(X), X.dtype, adversarial=adversarial, smooth=True)
    workspace[:] = np.nan
    gradient = np.full(network.n_params, np.nan, dtype=X.dtype)
    with Team(n_threads) as team:
        cost = _sgd.loss_and_gradient(problem, batches, team, gradient, workspace)
    return cost, gradient


def reference_gradient(network, problem, batch, n_labelled, key=7):
    X, target, ids, weights = batch
    weights = np.ones(len(X)) if weights is None else weights
    params = problem.state.params
    rest = (target, ids, weights, key, n_labelled)
    fixed = reference.held_fixed(network, problem, params, X, *rest)

    def cost(params):
        return reference.smooth_cost(network, problem, params, fixed, *rest)

    return cost, params


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
@pytest.mark.parametrize("options", [
    {}, {"adversarial_radius": 0.1}, {"entropy_weight": 0.0}, {"balance_weight": 0.0},
], ids=str)  # fmt: skip
def test_the_gradient_of_the_reference_is_that_of_differences(n_outputs, options):
    network, problem, batch = made(n_outputs, 9, 4, **options)
    cost, params = reference_gradient(network, problem, batch, 4)
    gradient = cost(params)[1]
    for direction in np.random.default_rng(1).normal(size=(5, len(params))):
        h = 1e-6 * direction
        expected = (cost(params + h)[0] - cost(params - h)[0]) / 2e-6
        assert_allclose(gradient @ direction, expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    n_outputs=st.sampled_from([1, 2, 3, 7]),
    n=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    activations=st.lists(st.sampled_from(SMOOTH), min_size=1, max_size=2),
    adversarial=st.booleans(),
    weighted=st.booleans(),
    balance=st.sampled_from([0.0, 2.0]),
    dtype=st.sampled_from([np.float64, np.float32]),
    data=st.data(),
)
def test_the_kernel_agrees_with_the_reference(
    n_outputs, n, seed, activations, adversarial, weighted, balance, dtype, data
):
    n_labelled = data.draw(st.integers(1, n))
    options = {"adversarial_radius": 0.1 if adversarial else 0.0, "balance_weight": balance}
    given = (n_outputs, n, n_labelled, seed, dtype, activations, weighted)
    network, problem, batch = made(*given, **options)
    expected, slopes = reference_gradient(network, problem, batch, n_labelled)[0](
        problem.state.params
    )
    found, gradient = kernel_gradient(network, problem, batch, n_labelled)
    # The first directions are drawn in single precision; so are small differences.
    rtol = 1e-4 if dtype == np.float64 else 0.02
    assert_allclose(found, expected, rtol=rtol, atol=rtol)
    assert_allclose(gradient, slopes, rtol=rtol, atol=rtol * max(1, np.abs(slopes).max()))


@pytest.mark.parametrize("n_outputs", [1, 10])
@pytest.mark.parametrize("adversarial_radius", [0.0, 0.1])
def test_threads_give_the_same_gradient(n_outputs, adversarial_radius):
    given = made(n_outputs, 60, 20, adversarial_radius=adversarial_radius)
    one = kernel_gradient(*given, 20)
    assert_allclose(kernel_gradient(*given, 20, n_threads=2)[1], one[1], rtol=1e-12)


def test_a_radius_of_zero_is_the_step_without():
    """The divergence goes by the square of the radius, and its gradient by the radius."""
    network, problem, batch = made(3, 8, 8, smoothness_radius=1e-5)
    smooth = kernel_gradient(network, problem, batch, -1)
    problem.objective.smoothness_radius = 0.0
    plain = kernel_gradient(network, problem, batch, -1)
    assert_allclose(smooth[0], plain[0], rtol=1e-8)
    assert_allclose(smooth[1], plain[1], rtol=1e-4, atol=1e-4)


def test_targets_of_unlabelled_rows_are_not_read():
    network, problem, batch = made(3, 8, 5)
    one = kernel_gradient(network, problem, batch, 5)
    batch[1][5:] = 1e300
    other = kernel_gradient(network, problem, batch, 5)
    assert one[0] == other[0]
    assert_array_equal(one[1], other[1])


def test_what_the_kernel_refuses():
    network, problem, batch = made(3, 8, 5)
    with pytest.raises(ValueError, match="beside others"):
        kernel_gradient(network, problem, batch, 0)
    problem.objective.smoothness_radius = 0.0
    with pytest.raises(ValueError, match="rows without a target"):
        kernel_gradient(network, problem, batch, 5)
    network, problem, batch = made(3, 8, 5)
    X, target, ids, weights = batch
    batches = _sgd.Batches(X, target, np.arange(8), ids, weights, 8, 7, 5)
    workspace = network.workspace(8, X.dtype, adversarial=True)
    with Team(1) as team, pytest.raises(ValueError, match="workspace is too small"):
        _sgd.loss_and_gradient(problem, batches, team, np.empty(network.n_params), workspace)
    for loss, shares, match in [
        ("squared_error", np.full(3, 1 / 3), "probabilities of classes"),
        ("cross_entropy", np.full(3, 1 / 3), "probabilities of classes"),
        ("log_loss", None, "share of each class"),
        ("log_loss", np.full(2, 1 / 2), "share of each class"),
    ]:
        objective = _sgd.Objective(loss, smoothness_radius=1.0, class_shares=shares)
        other = _sgd.Problem(network.layers, objective, problem.solver, problem.state)
        with pytest.raises(ValueError, match=match):
            kernel_gradient(network, other, batch, 5)
