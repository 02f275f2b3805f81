"""Trainers compared in training.py: the floor, skae, PyTorch and scikit-learn.

Each trainer is a function that takes an order of the samples and trains for one epoch on them, one
batch at a time. Trainers that minimise the same cost return its mean.
"""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from sklearn.neural_network import BernoulliRBM, MLPRegressor

from skae import DenoisingAutoencoder, StackedAutoencoder
from skae._kernel import _blas, _sgd
from skae._network import Network, aligned_zeros
from skae._threads import team_for
from skae._training import Options, make_solver

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    torch = None

TUTORIAL, WIDE = "784-500", "1000-1000"  # tied, logistic, cross-entropy
CLASSIFIER = "784-1000-1000-10"  # relu, dropout, softmax
SMALL = "64-32-8-32-64"  # relu, squared error
# Parameter names of scikit-learn and skae. PyTorch's Adam adds epsilon after the bias correction,
# scikit-learn and skae before it. With this epsilon, the difference does not show in any cost;
# with 1e-8, it is 5e-4 of the classifier's cost after an epoch.
SOLVERS = {
    "sgd": dict(solver="sgd", learning_rate_init=0.1, momentum=0.0),
    "momentum": dict(solver="sgd", learning_rate_init=0.01, momentum=0.9),
    "adam": dict(solver="adam", learning_rate_init=0.001, epsilon=1e-16),
}


def network_of(case, noisy=False):
    """Return the network of a case, its loss, and the corruption of its input."""
    if case.net == CLASSIFIER:
        network = Network(case.sizes, ["relu", "relu", "softmax"])
        corruption = _sgd.Corruption("dropout", 0.2) if noisy else _sgd.Corruption()
        network.layers["dropout"][1:] = 0.5 if noisy else 0.0
        return network, "log_loss", corruption
    network = Network.autoencoder(case.sizes, ["logistic"], "cross_entropy", tied=True)
    level = float(case.noise) if noisy else 0.0
    return network, "cross_entropy", _sgd.Corruption("masking" if level else None, level)


def initial_params(network, dtype):
    return network.initialize(np.random.default_rng(0), dtype)


def multiplications(case):
    """Count the multiplications per sample in a step: forward, backward and gradients."""
    mirrored = [] if case.net in (CLASSIFIER, SMALL) else case.sizes[-2::-1]
    products = [n_in * n_out for n_in, n_out in pairwise([*case.sizes, *mirrored])]
    return 3 * sum(products) - products[0]


# ---- the floor ----------------------------------------------------------------------------


def matmul(a, b, out):
    """Compute ``out = a @ b`` in one call of BLAS; each array may be transposed."""
    if not out.flags.c_contiguous:
        a, b, out = b.T, a.T, out.T
    trans_a, trans_b = not a.flags.c_contiguous, not b.flags.c_contiguous
    a, b = a.T if trans_a else a, b.T if trans_b else b
    _blas.matmul(a, b, out, trans_a, trans_b, instructions="blas")


def floor(case, X):
    """Compute only the matrix products of each step: forward, backward and gradients."""
    network = network_of(case)[0]
    params = np.full(network.n_params, 1e-3, dtype=X.dtype)
    weights = [network.weights(params, k) for k in range(len(network))]
    gradients = [network.weights(np.empty_like(params), k) for k in range(len(network))]
    outputs = [np.empty((case.batch, n), dtype=X.dtype) for n in network.layers["n_out"]]
    deltas = [*map(np.empty_like, outputs[:-1]), outputs[-1]]

    def epoch(order):
        for start in range(0, len(order), case.batch):
            m = min(case.batch, len(order) - start)
            inputs = [X[start : start + m], *(out[:m] for out in outputs[:-1])]
            for a, w, out in zip(inputs, weights, outputs):
                matmul(a, w.T, out[:m])
            for k in range(len(weights) - 1, 0, -1):
                matmul(deltas[k][:m], weights[k], deltas[k - 1][:m])
            for delta, a, gradient in zip(deltas, inputs, gradients):
                matmul(delta[:m].T, a, gradient)

    return epoch


# ---- skae and PyTorch, same initial weights -------------------------------------------------


def same_trainers(case, X, y, noisy, compiled):
    """Return trainers by name; `noisy`: corruption or dropout, `compiled`: also torch.compile."""
    network, loss, corruption = network_of(case, noisy)
    target = np.eye(10, dtype=X.dtype)[y] if case.net == CLASSIFIER else X
    found = {"skae": skae(network, loss, corruption, case, X, target)}
    if torch is None:
        return found
    torch.set_num_threads(case.threads)
    samples = torch.from_numpy(X)
    target = torch.from_numpy(y.astype(np.int64)) if case.net == CLASSIFIER else samples
    model_of = torch_classifier if case.net == CLASSIFIER else torch_autoencoder
    for name in ("torch", "compiled") if compiled else ("torch",):
        model, cost = model_of(network, corruption, initial_params(network, X.dtype))
        if name == "compiled":
            torch.compiler.reset()  # it falls back to eager mode after too many compilations
            model = torch.compile(model)
        found[name] = pytorch(model, cost, case, samples, target)
    return found


def skae(network, loss, corruption, case, X, target):
    solver = make_solver(Options.of(DenoisingAutoencoder(**SOLVERS[case.solver]), len(X)))
    buffers = aligned_zeros((solver.n_buffers, network.n_params), X.dtype)
    buffers[0] = initial_params(network, X.dtype)
    workspace = network.workspace(case.batch, X.dtype)
    gradient = aligned_zeros(network.n_params if solver.needs_gradient else 0, X.dtype)
    state = SimpleNamespace(buffers=buffers, step=0)
    problem = _sgd.Problem(network.layers, _sgd.Objective(loss), solver, state, corruption)

    def epoch(order):
        batches = _sgd.Batches(X, target, order, order, None, case.batch, 1)
        with team_for(case.batch * network.largest_matrix) as team:
            cost = _sgd.train(problem, batches, team, gradient, workspace)
        return cost / len(order)

    return epoch


def pytorch(model, loss, case, X, target):
    optimizer = torch_optimizer(model.parameters(), **SOLVERS[case.solver])

    def epoch(order):
        total = 0.0
        # Faster than a DataLoader, which fetches samples one by one.
        for rows in torch.from_numpy(order).split(case.batch):
            x = X[rows]
            cost = loss(model(x), x if target is X else target[rows])
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            total += cost.item() * len(rows)
        return total / len(order)

    return epoch


def torch_optimizer(parameters, solver, learning_rate_init, momentum=0.0, epsilon=None):
    rate = learning_rate_init
    if solver == "adam":
        return torch.optim.Adam(parameters, lr=rate, eps=epsilon)
    return torch.optim.SGD(parameters, lr=rate, momentum=momentum, nesterov=momentum > 0)


def torch_autoencoder(network, corruption, params):
    class TiedAutoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = corruption.level
            self.weight = nn.Parameter(torch.tensor(network.weights(params, 0)))
            self.hidden_bias = nn.Parameter(torch.tensor(network.bias(params, 0)))
            self.visible_bias = nn.Parameter(torch.tensor(network.bias(params, 1)))

        def forward(self, x):
            if self.level:
                x = x * (torch.rand_like(x) > self.level)  # twice as fast as bernoulli
            code = torch.sigmoid(F.linear(x, self.weight, self.hidden_bias))
            return F.linear(code, self.weight.t(), self.visible_bias)

    def loss(z, x):
        return F.binary_cross_entropy_with_logits(z, x, reduction="sum") / len(x)

    return TiedAutoencoder(), loss


def torch_classifier(network, corruption, params):
    modules = []
    for k, layer in enumerate(network.layers):
        level = float(layer["dropout"]) if k else corruption.level
        if level:
            modules.append(nn.Dropout(level))
        linear = nn.Linear(int(layer["n_in"]), int(layer["n_out"]))
        linear.weight = nn.Parameter(torch.tensor(network.weights(params, k)))
        linear.bias = nn.Parameter(torch.tensor(network.bias(params, k)))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]), F.cross_entropy


def torch_compiles():
    """Return whether torch.compile is available and works."""
    if torch is None:
        return False
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
    except Exception as error:
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
        return False
    return True


# ---- scikit-learn ---------------------------------------------------------------------------


def other_models(case, X):
    """Return trainers of scikit-learn's models of the same size, for one epoch without noise."""
    if case.net != TUTORIAL:
        return {}
    shared = dict(batch_size=case.batch, random_state=0)
    mlp = MLPRegressor(
        hidden_layer_sizes=case.sizes[1:],
        activation="logistic",
        max_iter=1,
        alpha=0.0,
        **SOLVERS[case.solver],
        **shared,
    )
    rbm = BernoulliRBM(n_components=case.sizes[1], learning_rate=0.1, n_iter=1, **shared)
    found = {"mlp": lambda order: mlp.fit(X[: len(order)], X[: len(order)])}
    if case.solver == "sgd":  # its only solver
        found["rbm"] = lambda order: rbm.fit(X[: len(order)])
    return found


def small_nets(case, X):
    """Return a pretrained stack, and an MLPRegressor with the same weights.

    The next `fit` of the stack is joint training only. The gradient of scikit-learn is half of
    ours (although its cost is a mean over the features), so the same steps need a different
    learning rate or, for Adam, a different epsilon. The learning rate is scikit-learn's default:
    with those of the other networks, this one only learns the mean sample.
    """
    settings = SOLVERS[case.solver] | dict(learning_rate_init=0.001)
    is_adam, rate = settings["solver"] == "adam", settings["learning_rate_init"]
    shared = dict(batch_size=case.batch, warm_start=True, random_state=0, n_iter_no_change=10**9)
    mlp = MLPRegressor(
        hidden_layer_sizes=case.sizes[1:-1], max_iter=1, alpha=0.0, **settings, **shared
    )
    stack = StackedAutoencoder(
        case.sizes[1:3],
        corruption=None,
        max_iter=1,
        joint=True,
        joint_max_iter=1,
        **shared,
    )
    mlp.fit(X, X)
    stack.set_params(solver="sgd" if is_adam else "adam").fit(X)
    # A different solver starts without moments, like that of MLPRegressor.
    stack.set_params(solver=mlp.solver, momentum=mlp.momentum, epsilon=mlp.epsilon * 2)
    stack.set_params(joint_learning_rate_init=rate if is_adam else rate / 2)
    up, down = stack.layers_, stack.layers_[::-1]
    weights = [layer.components_.T for layer in up]
    weights += [layer.decoder_components_ for layer in down]
    weights += [layer.intercept_hidden_ for layer in up]
    weights += [layer.intercept_visible_ for layer in down]
    for theirs, ours in zip(mlp.coefs_ + mlp.intercepts_, weights):
        theirs[:] = ours
    return stack, mlp
