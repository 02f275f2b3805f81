"""The NumPy reference for the kernel: slow, short and meant to be obviously right.

It computes in float64, whatever the type of its arguments, and shares no code with the
kernel. `network` is a `skae._network.Network`, of which only the sizes and the views of the
parameters are used; `problem`, `batches` and what they consist of are any objects with the
attributes of the kernel's own.
"""

import numpy as np

# The kernel's tables, spelled out once more; activations by their number.
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "top_k", "softmax")
LOSSES = ("squared_error", "cross_entropy", "log_loss")
NOISES = (
    None,
    "masking",
    "gaussian",
    "salt_and_pepper",
    "dropout",
    "swap",
    "variable_masking",
    "variable_gaussian",
)

MASK_32, MASK_64 = 2**32 - 1, 2**64 - 1

# Mean activations are kept this far from 0 and 1, where the divergence has no slope.
CLIP = 1e-6


# ---- noise: a hash of (key, row, column) -----------------------------------------


def row_key(key, row):
    """SplitMix64, in Python's integers."""
    z = (key + (row + 1) * 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def layer_key(key, layer):
    """The key of an epoch for a layer above the first."""
    return (int(key) + layer * 0xD1B54A32D192ED03) & MASK_64


def column_bits(row_key, column):
    """The finaliser of MurmurHash3 over 32 bits, with both halves of the key of the row."""
    h = (column * 0x9E3779B1 + (row_key & MASK_32)) & MASK_32
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & MASK_32
    h = ((h ^ (row_key >> 32) ^ (h >> 13)) * 0xC2B2AE35) & MASK_32
    return h ^ (h >> 16)


def random_bits(key, ids, n_columns, *, first=0):
    """32 bits for each row and column; further draws begin at another column."""
    keys = [row_key(int(key), int(i)) for i in ids]
    columns = [j + first for j in range(n_columns)]
    bits = [[column_bits(k, j) for j in columns] for k in keys]
    return np.array(bits, dtype=np.int64).reshape(len(ids), n_columns)


def row_draws(key, ids, which):
    """A number in (0, 1) for each row."""
    return (random_bits(key, ids, 1, first=3 * 2**29 + which) + 0.5) / 2**32


def is_hit(bits, level):
    return bits // 2 < np.floor(level * 2**31)


def normal_draws(key, ids, n_columns):
    """Box and Muller, from the upper 24 bits of two draws."""
    u = (random_bits(key, ids, n_columns) // 256 + 1) / 2**24
    v = random_bits(key, ids, n_columns, first=2**31) // 256 / 2**24
    return -np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


def corrupt(corruption, X, ids, key):
    """The rows of X as the first layer sees them in training."""
    noisy = corrupt_observed(corruption, np.asarray(X, dtype=np.float64), ids, key)
    return np.where(np.isnan(X) | np.isnan(noisy), 0.0, noisy)  # swap may take what is missing


def corrupt_observed(corruption, X, ids, key):
    kind, level = corruption.kind, corruption.level
    if kind is None:
        return X
    if kind == "dropout":
        return X * dropout_factors(level, X.shape[1], ids, key)
    if kind == "gaussian":
        return X + level * np.asarray(corruption.scale) * normal_draws(key, ids, X.shape[1])
    if kind == "variable_gaussian":
        share, power = row_draws(key, ids, 0), row_draws(key, ids, 1)
        size = level / 30**power * np.asarray(corruption.scale)
        hit = is_hit(random_bits(key, ids, X.shape[1], first=2**30), share)
        return np.where(hit, X + size * normal_draws(key, ids, X.shape[1]), X)
    bits = random_bits(key, ids, X.shape[1])
    if kind == "variable_masking":
        kind, level = "masking", level * row_draws(key, ids, 0)
    if kind == "masking":
        instead = 0.0
    elif kind == "swap":
        pool = np.asarray(corruption.pool)
        donors = random_bits(key, ids, X.shape[1], first=2**31) * len(pool) // 2**32
        instead = np.take_along_axis(pool, donors, axis=0)
    else:
        low, high = np.asarray(corruption.low), np.asarray(corruption.high)
        instead = np.where(bits % 2 == 1, high, low)
    return np.where(is_hit(bits, level), instead, X)


def dropout_factors(level, n_columns, ids, key):
    """Factors of the inputs of a layer: 0, or one that keeps their mean."""
    return np.where(is_hit(random_bits(key, ids, n_columns), level), 0.0, 1 / (1 - level))


def hidden_dropout(network, k, ids, key):
    """Factors of the inputs of layer k, which is above the first."""
    level, n_in = float(network.layers[k]["dropout"]), int(network.layers[k]["n_in"])
    return dropout_factors(level, n_in, ids, layer_key(key, k)) if level else 1.0


# ---- layers ------------------------------------------------------------------------


def activate(kind, z, n_active=None):
    if kind == "top_k":
        return np.where(is_active(z, n_active), z, 0)
    if kind == "logistic":
        return np.exp(-np.logaddexp(0, -z))
    if kind == "tanh":
        return np.tanh(z)
    if kind == "relu":
        return np.maximum(z, 0)
    if kind == "softmax":
        return np.exp(log_softmax(z))
    return z


def log_softmax(z):
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True)


def is_active(z, n_active):
    """Whether a unit is positive and one of the largest of its row; of equal ones, the first."""
    rank = np.argsort(np.argsort(-z, axis=1, kind="stable"), axis=1)
    return (rank < n_active) & (z > 0)


def slope(kind, z, n_active=None):
    """The derivative of the activation."""
    if kind == "top_k":
        return is_active(z, n_active).astype(float)
    if kind == "logistic":
        return activate(kind, z) * activate(kind, -z)
    if kind == "tanh":
        return 1 / np.cosh(z) ** 2
    if kind == "relu":
        return np.where(z > 0, 1.0, 0.0)
    return np.ones_like(z)


def kinds(network):
    return [ACTIVATIONS[layer["activation"]] for layer in network.layers]


def forward(network, params, X, *, start=0, stop=None, ids=None, key=None):
    """Input of each layer, with the output of the last behind them; pre-activations.

    With `ids` and `key`, there is dropout between the layers.
    """
    params = np.asarray(params, dtype=np.float64)
    inputs, logits = [np.nan_to_num(np.asarray(X, dtype=np.float64), nan=0.0)], []
    for k in range(len(network))[start:stop]:
        if k > start and ids is not None:
            inputs[-1] = inputs[-1] * hidden_dropout(network, k, ids, key)
        logits.append(inputs[-1] @ network.weights(params, k).T + network.bias(params, k))
        inputs.append(activate(kinds(network)[k], logits[-1], network.layers[k]["n_active"]))
    return inputs, logits


# ---- loss ----------------------------------------------------------------------------


def row_losses(network, objective, params, X, target, *, start=0, ids=None, key=None):
    """Squared error, cross-entropy or log loss (in nats) of each row, summed over its outputs.

    Missing targets count as much as the mean of the observed ones of their row.
    """
    inputs, logits = forward(network, params, X, start=start, ids=ids, key=key)
    target = np.asarray(target, dtype=np.float64)
    kind, z = objective.loss, logits[-1]
    if kind == "squared_error":
        losses = (target - inputs[-1]) ** 2
    elif kind == "log_loss":
        losses = -target * log_softmax(z)
    else:
        losses = target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z)
    return np.nansum(losses, axis=1) * completion(target)


def completion(target):
    """Factor of each row that makes up for its missing targets; 0 if it has no others."""
    observed = np.sum(~np.isnan(target), axis=1)
    return np.where(observed, target.shape[1] / np.maximum(observed, 1), 0.0)


def factors(weights, n_rows):
    """Factors of the losses of the rows of a batch; the weights are relative to their mean."""
    return np.full(n_rows, 1 / n_rows) if weights is None else np.asarray(weights) / n_rows


def shares(factor):
    """Share of each row in the mean activation."""
    return factor / factor.sum() if factor.sum() > 0 else factor


def own_matrices(network):
    """The layers that do not borrow the matrix of another."""
    borrowed = (network.layers["partner"] >= 0) & (network.layers["transposed"] == 1)
    return [k for k in range(len(network)) if not borrowed[k]]


def mean_activation(kind, share, a):
    """Mean activation of each unit, mapped to (0, 1)."""
    rho = share @ a
    return np.clip((1 + rho) / 2 if kind == "tanh" else rho, CLIP, 1 - CLIP)


def sparsity(network, objective, share, inputs):
    k = objective.sparse_layer
    if k < 0:
        return 0.0
    t = objective.sparsity_target
    rho = mean_activation(kinds(network)[k], share, inputs[k + 1])
    divergence = t * np.log(t / rho) + (1 - t) * np.log((1 - t) / (1 - rho))
    return objective.sparsity_penalty * np.sum(divergence)


def l2(network, objective, params):
    params = np.asarray(params, dtype=np.float64)
    squares = [np.sum(network.weights(params, k) ** 2) for k in own_matrices(network)]
    return objective.alpha / 2 * sum(squares)


def seen(network, problem, params, X, target, ids, weights, key):
    """The rows of a batch as the first layer sees them: corrupted, and perturbed (FGSM)."""
    X = corrupt(problem.corruption, X, ids, key)
    radius = problem.objective.adversarial_radius
    if radius:
        batch = X, target, ids, weights, key
        X = X + radius * np.sign(back_propagated(network, problem.objective, params, *batch)[1])
    return X


def cost(network, problem, params, X, target, ids, weights, key):
    """The cost of a batch in two parts: without the L2 term, and that term."""
    objective = problem.objective
    X = seen(network, problem, params, X, target, ids, weights, key)
    factor = factors(weights, len(X))
    inputs, _ = forward(network, params, X, ids=ids, key=key)
    loss = factor @ row_losses(network, objective, params, X, target, ids=ids, key=key)
    share = shares(factor * completion(np.asarray(target)))
    penalty = sparsity(network, objective, share, inputs)
    return loss + penalty, l2(network, objective, params)


def gradient(network, problem, params, X, target, ids, weights, key):
    """Gradient of both parts of the cost; as flat as the parameters."""
    objective = problem.objective
    X = seen(network, problem, params, X, target, ids, weights, key)
    out, _ = back_propagated(network, objective, params, X, target, ids, weights, key)
    for k in own_matrices(network):
        network.weights(out, k)[:] += objective.alpha * network.weights(params, k)
    return out


def back_propagated(network, objective, params, X, target, ids, weights, key):
    """The gradients of the cost without the L2 term, by the parameters and by the rows."""
    params = np.asarray(params, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    factor = factors(weights, len(X)) * completion(target)
    share = shares(factor)
    inputs, logits = forward(network, params, X, ids=ids, key=key)

    if objective.loss == "squared_error":
        delta = 2 * (inputs[-1] - target) * slope(kinds(network)[-1], logits[-1])
    elif objective.loss == "log_loss":
        delta = target.sum(axis=1, keepdims=True) * activate("softmax", logits[-1]) - target
    else:
        delta = activate("logistic", logits[-1]) - target
    delta = factor[:, None] * np.where(np.isnan(target), 0.0, delta)
    return backwards(network, objective, params, inputs, logits, delta, share, ids, key)


def backwards(network, objective, params, inputs, logits, delta, share, ids, key):
    """The gradients by the parameters and by the rows, from that by the last pre-activations."""
    out = np.zeros_like(params)
    for k in reversed(range(len(network))):
        network.weights(out, k)[:] += delta.T @ inputs[k]  # both layers of a tied pair add
        network.bias(out, k)[:] += delta.sum(axis=0)
        below = delta @ network.weights(params, k)
        if k == 0:
            return out, below
        kind = kinds(network)[k - 1]
        if k - 1 == objective.sparse_layer:
            t = objective.sparsity_target
            rho = mean_activation(kind, share, inputs[k])
            pull = objective.sparsity_penalty * ((1 - t) / (1 - rho) - t / rho)
            below = below + share[:, None] * pull * (0.5 if kind == "tanh" else 1.0)
        below = below * hidden_dropout(network, k, ids, key)
        delta = below * slope(kind, logits[k - 1], network.layers[k - 1]["n_active"])


# ---- smooth predictions ------------------------------------------------------------------


def log_probabilities(objective, logits):
    """Of all classes: two, if there is one output."""
    if objective.loss == "log_loss":
        return log_softmax(logits)
    return -np.hstack([np.logaddexp(0, logits), np.logaddexp(0, -logits)])


def by_logits(objective, slopes):
    """Slopes by the logits of two classes, as the one of a single output."""
    return slopes if objective.loss == "log_loss" else slopes[:, 1:]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def held_fixed(network, problem, params, X, target, ids, weights, key, n_labelled):
    """What has no gradient: rows, those that are moved from them, and predictions of the rows."""
    objective, params = problem.objective, np.asarray(params, dtype=np.float64)
    X = corrupt(problem.corruption, X, ids, key)

    def predicted(rows):
        inputs, logits = forward(network, params, rows, ids=ids, key=key)
        return inputs, logits, np.exp(log_probabilities(objective, logits[-1]))

    p = predicted(X)[2]
    radius = objective.smoothness_radius
    direction = normal_draws(layer_key(key, len(network)), ids, X.shape[1])
    inputs, logits, q = predicted(X + radius / 16 * unit(direction))
    delta = by_logits(objective, q - p)
    pull = backwards(network, objective, params, inputs, logits, delta, None, ids, key)[1]
    moved = X + radius * unit(pull)
    if objective.adversarial_radius:
        some = slice(None, n_labelled)
        batch = X[some], target[some], ids[some], weights[some], key
        steepest = back_propagated(network, objective, params, *batch)[1]
        X = np.vstack([X[some] + objective.adversarial_radius * np.sign(steepest), X[n_labelled:]])
    return X, moved, p


def smooth_cost(network, problem, params, fixed, target, ids, weights, key, n_labelled):
    """The cost of a batch, and its gradient by the parameters, without the L2 term."""
    objective, params = problem.objective, np.asarray(params, dtype=np.float64)
    X, moved, p = fixed
    m, n_rest = len(X), len(X) - n_labelled
    some, rest = slice(None, n_labelled), slice(n_labelled, None)
    batch = X[some], target[some], ids[some], weights[some], key
    losses = row_losses(network, objective, params, batch[0], batch[1], ids=ids[some], key=key)
    total = weights[some] @ losses / n_labelled
    gradient = back_propagated(network, objective, params, *batch)[0]

    def add(rows, index, slopes):
        inputs, logits = forward(network, params, rows, ids=ids[index], key=key)
        nonlocal gradient
        delta = by_logits(objective, slopes(np.exp(log_probabilities(objective, logits[-1]))))
        given = inputs, logits, delta, None, ids[index], key
        gradient = gradient + backwards(network, objective, params, *given)[0]
        return log_probabilities(objective, logits[-1])

    log_q = add(moved, slice(None), lambda q: weights[:, None] / m * (q - p))
    total += weights @ np.sum(p * (np.log(p) - log_q), axis=1) / m
    if n_rest:
        w = weights[rest]

        def mean_of(q):
            return w @ q / w.sum()

        def slopes(q):
            pull = -objective.entropy_weight * w[:, None] / n_rest * np.log(q)
            ratio = np.log(mean_of(q) / objective.class_shares)
            pull = pull + objective.balance_weight * w[:, None] / w.sum() * ratio
            return q * (pull - np.sum(q * pull, axis=1, keepdims=True))

        log_q = add(X[rest], rest, slopes)
        q = np.exp(log_q)
        total -= objective.entropy_weight * (w @ np.sum(q * log_q, axis=1)) / n_rest
        mean = mean_of(q)
        total += objective.balance_weight * mean @ np.log(mean / objective.class_shares)
    return total, gradient


# ---- steps -------------------------------------------------------------------------


def rates(network, solver):
    """The learning rate of each parameter; a matrix has that of the layer that owns it."""
    out = np.empty(network.n_params)
    for k in range(len(network)):
        rate = solver.learning_rate * network.layers[k]["learning_rate_scale"]
        network.bias(out, k)[:] = rate
        if k in own_matrices(network):
            network.weights(out, k)[:] = rate
    return out


def sgd_step(solver, state, g, rate):
    state.buffers[0] -= rate * g


def momentum_step(solver, state, g, rate):
    w, velocity = state.buffers
    velocity[:] = solver.momentum * velocity - rate * g
    if solver.nesterov:
        w += solver.momentum * velocity - rate * g
    else:
        w += velocity


def adam_step(solver, state, g, rate):
    w, mean, square = state.buffers
    mean[:] = solver.beta_1 * mean + (1 - solver.beta_1) * g
    square[:] = solver.beta_2 * square + (1 - solver.beta_2) * g**2
    unbiased = np.sqrt(1 - solver.beta_2**state.step) / (1 - solver.beta_1**state.step)
    w -= rate * unbiased * mean / (np.sqrt(square) + solver.epsilon)


STEPS = {"plain_sgd": sgd_step, "momentum": momentum_step, "adam": adam_step}


def limit_norms(network, limit, params):
    """The weights into each unit, scaled back where they are longer than the limit."""
    for k in own_matrices(network):
        weights = network.weights(params, k)
        norms = np.linalg.norm(weights, axis=1, keepdims=True)
        weights *= np.where(norms > limit, limit / np.maximum(norms, limit), 1.0)


def train(network, problem, batches):
    """One epoch; changes ``problem.state``, whose buffers are float64.

    Returns the sum over the batches of cost times rows.
    """
    solver, state, weights = problem.solver, problem.state, batches.weights
    total = 0.0
    for start in range(0, len(batches.rows), batches.size):
        rows = batches.rows[start : start + batches.size]
        ids = batches.ids[start : start + batches.size]
        w = None if weights is None else weights[rows]
        data = batches.X[rows], batches.target[rows], ids, w, batches.key
        total += len(rows) * cost(network, problem, state.buffers[0], *data)[0]
        state.step += 1
        g = gradient(network, problem, state.buffers[0], *data)
        STEPS[solver.kind](solver, state, g, rates(network, solver))
        if solver.max_norm > 0:
            limit_norms(network, solver.max_norm, state.buffers[0])
    return total
