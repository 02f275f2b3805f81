"""Who trains in training.py: the floor, skae, PyTorch and scikit-learn, on the same network.

Each is a function of an order of rows that goes through them once, a batch at a time. Those that
minimise the same cost return its mean over the batches.
"""

import numpy as np
from sklearn.neural_network import BernoulliRBM, MLPRegressor

from skae import DenoisingAutoencoder, StackedAutoencoder
from skae._kernel import _blas, _sgd
from skae._network import LOSSES, Network
from skae._threads import team_for
from skae._training import Options, solver_of

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    torch = None

TUTORIAL, WIDE = "784-500", "1000-1000"  # tied, logistic, cross-entropy
CLASSIFIER = "784-1000-1000-10"  # relu, dropout, softmax
SMALL = "64-32-8-32-64"  # relu, squared error
# In the names of scikit-learn, which are also those of skae's estimators. PyTorch's Adam adds
# epsilon after the correction for bias, theirs before: at this one, no cost shows the difference,
# which at 1e-8 is 5e-4 of the classifier's after an epoch.
SOLVERS = {
    "sgd": dict(solver="sgd", learning_rate_init=0.1, momentum=0.0),
    "momentum": dict(solver="sgd", learning_rate_init=0.01, momentum=0.9),
    "adam": dict(solver="adam", learning_rate_init=0.001, epsilon=1e-16),
}


def network_of(case, noisy=False):
    """The network of a case, and its loss."""
    if case.net == CLASSIFIER:
        network = Network(case.sizes, ["relu", "relu", "softmax"])
        for k, level in enumerate((0.2, 0.5, 0.5) if noisy else ()):
            network.corrupt("dropout", level, layer=k)
        return network, "log_loss"
    network = Network.autoencoder(case.sizes, ["logistic"], "cross_entropy", tied=True)
    if noisy and float(case.noise):
        network.corrupt("masking", float(case.noise))
    return network, "cross_entropy"


def initial_params(network, dtype):
    return network.initialize(np.random.default_rng(0), dtype)


# ---- the floor ----------------------------------------------------------------------------


def matmul(a, b, out):
    """``out = a @ b``, any of them transposed, as one call of BLAS."""
    if not out.flags.c_contiguous:
        a, b, out = b.T, a.T, out.T
    trans_a, trans_b = not a.flags.c_contiguous, not b.flags.c_contiguous
    _blas.matmul(a.T if trans_a else a, b.T if trans_b else b, out, trans_a, trans_b)


def floor(case, X):
    """The products of each step: each layer forwards, back (but for the first), the gradient."""
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


# ---- skae and PyTorch, from the same weights ------------------------------------------------


def same_trainers(case, X, y, noisy, compiled):
    """By name; with corruption or dropout if `noisy`, by torch.compile too if `compiled`."""
    network, loss = network_of(case, noisy)
    target = np.eye(10, dtype=X.dtype)[y] if case.net == CLASSIFIER else X
    found = {"skae": skae(network, loss, case, X, target)}
    if torch is None:
        return found
    torch.set_num_threads(case.threads)
    rows = torch.from_numpy(X)
    target = torch.from_numpy(y.astype(np.int64)) if case.net == CLASSIFIER else rows
    model_of = torch_classifier if case.net == CLASSIFIER else torch_autoencoder
    for name in ("torch", "compiled") if compiled else ("torch",):
        model, cost = model_of(network, initial_params(network, X.dtype))
        if name == "compiled":
            torch.compiler.reset()  # it falls back on eager when it has recompiled too often
            model = torch.compile(model)
        found[name] = pytorch(model, cost, case, rows, target)
    return found


def skae(network, loss, case, X, target):
    solver = solver_of(Options.of(DenoisingAutoencoder(**SOLVERS[case.solver])))
    buffers = np.zeros((solver.n_buffers, network.n_params), dtype=X.dtype)
    buffers[0] = initial_params(network, X.dtype)
    workspace = network.workspace(case.batch, X.dtype)
    objective = _sgd.Objective(LOSSES[loss])

    def epoch(order):
        data = (buffers, workspace, X, target, order, order, None, case.batch, 1)
        with team_for(case.batch * network.largest_matrix) as team:
            cost, weight = _sgd.train(network.layers, objective, solver, team, *data)
        return cost / weight

    return epoch


def pytorch(model, loss, case, X, target):
    optimizer = torch_optimizer(model.parameters(), **SOLVERS[case.solver])

    def epoch(order):
        total = 0.0
        # Quicker than its DataLoader, which fetches row by row.
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


def torch_autoencoder(network, params):
    class TiedAutoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = float(network.layers["noise_level"][0])
            self.weight = nn.Parameter(torch.tensor(network.weights(params, 0)))
            self.hidden_bias = nn.Parameter(torch.tensor(network.bias(params, 0)))
            self.visible_bias = nn.Parameter(torch.tensor(network.bias(params, 1)))

        def forward(self, x):
            if self.level:
                x = x * (torch.rand_like(x) > self.level)  # twice as quick as bernoulli
            code = torch.sigmoid(F.linear(x, self.weight, self.hidden_bias))
            return F.linear(code, self.weight.t(), self.visible_bias)

    def loss(z, x):
        return F.binary_cross_entropy_with_logits(z, x, reduction="sum") / len(x)

    return TiedAutoencoder(), loss


def torch_classifier(network, params):
    modules = []
    for k, layer in enumerate(network.layers):
        if layer["noise"]:
            modules.append(nn.Dropout(float(layer["noise_level"])))
        linear = nn.Linear(int(layer["n_in"]), int(layer["n_out"]))
        linear.weight = nn.Parameter(torch.tensor(network.weights(params, k)))
        linear.bias = nn.Parameter(torch.tensor(network.bias(params, k)))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]), F.cross_entropy


def torch_compiles():
    """Whether torch.compile is there and finds the compiler that it needs."""
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
    """One epoch of scikit-learn's models of the size of the tutorial's; they know no noise."""
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
    if case.solver == "sgd":  # it has no other
        found["rbm"] = lambda order: rbm.fit(X[: len(order)])
    return found


def small_nets(case, X):
    """A stack that has been pretrained, whose next `fit` is joint training alone, and an
    MLPRegressor with the same weights.

    scikit-learn steps along half of our gradient (though its cost is a mean over the features),
    so the same steps need another learning rate or, for Adam, another epsilon. The rate is
    scikit-learn's default: at those of the other networks, this one learns a mean row and no more.
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
        fine_tune=True,
        fine_tune_max_iter=1,
        **shared,
    )
    mlp.fit(X, X)
    stack.set_params(solver="sgd" if is_adam else "adam").fit(X)
    # Another solver than before starts afresh, as MLPRegressor's does.
    stack.set_params(solver=mlp.solver, momentum=mlp.momentum, epsilon=mlp.epsilon * 2)
    stack.set_params(fine_tune_learning_rate_init=rate if is_adam else rate / 2)
    up, down = stack.layers_, stack.layers_[::-1]
    weights = [layer.components_.T for layer in up]
    weights += [layer.decoder_components_ for layer in down]
    weights += [layer.intercept_hidden_ for layer in up]
    weights += [layer.intercept_visible_ for layer in down]
    for theirs, ours in zip(mlp.coefs_ + mlp.intercepts_, weights):
        theirs[:] = ours
    return stack, mlp
