"""The NumPy twin of the kernel: an oracle that is slow, short and meant to be obviously right.

It computes in float64, whatever the type of its arguments, and shares no code with the
kernel. `network` is a `skae._network.Network`, of which only the sizes and the views of the
parameters are used; `objective` and `solver` are any objects with the attributes of the
kernel's own.
"""

import numpy as np

# The codes of the table of a network, spelled out once more.
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "softmax")
LOSSES = ("squared_error", "cross_entropy", "log_loss")
NOISES = ("none", "masking", "gaussian", "salt_and_pepper", "dropout")

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
    """What stands for the key of an epoch in a layer above the first."""
    return (int(key) + layer * 0xD1B54A32D192ED03) & MASK_64


def column_bits(row_key, column):
    """The finaliser of MurmurHash3 over 32 bits, with both halves of the key of the row."""
    h = (column * 0x9E3779B1 + (row_key & MASK_32)) & MASK_32
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & MASK_32
    h = ((h ^ (row_key >> 32) ^ (h >> 13)) * 0xC2B2AE35) & MASK_32
    return h ^ (h >> 16)


def random_bits(key, ids, n_columns, *, second=False):
    """32 bits for each row and column; the second draw of an element has its own."""
    offset = 2**31 if second else 0
    keys = [row_key(int(key), int(i)) for i in ids]
    columns = [j + offset for j in range(n_columns)]
    bits = [[column_bits(k, j) for j in columns] for k in keys]
    return np.array(bits, dtype=np.int64).reshape(len(ids), n_columns)


def is_hit(bits, level):
    return bits // 2 < np.floor(level * 2**31)


def normal_draws(key, ids, n_columns):
    """Box and Muller, from the upper 24 bits of two draws."""
    u = (random_bits(key, ids, n_columns) // 256 + 1) / 2**24
    v = random_bits(key, ids, n_columns, second=True) // 256 / 2**24
    return -np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)


def corrupt(network, objective, X, ids, key):
    """The rows of X as the first layer sees them in training."""
    X = np.asarray(X, dtype=np.float64)
    kind = NOISES[network.layers[0]["noise"]]
    level = float(network.layers[0]["noise_level"])
    if kind == "none":
        return X
    if kind == "dropout":
        return X * dropout_factors(network, 0, ids, key)
    if kind == "gaussian":
        return X + level * normal_draws(key, ids, X.shape[1])
    bits = random_bits(key, ids, X.shape[1])
    if kind == "masking":
        instead = 0.0
    else:
        instead = np.where(bits % 2 == 1, np.asarray(objective.high), np.asarray(objective.low))
    return np.where(is_hit(bits, level), instead, X)


def dropout_factors(network, k, ids, key):
    """What the inputs of layer k are multiplied by: 0, or what keeps their mean."""
    layer = network.layers[k]
    if NOISES[layer["noise"]] != "dropout":
        return 1.0
    level = float(layer["noise_level"])
    hit = is_hit(random_bits(layer_key(key, k), ids, int(layer["n_in"])), level)
    return np.where(hit, 0.0, 1 / (1 - level))


# ---- layers ------------------------------------------------------------------------


def activate(kind, z):
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


def slope(kind, z):
    """The derivative of the activation."""
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
    inputs, logits = [np.asarray(X, dtype=np.float64)], []
    for k in range(len(network))[start:stop]:
        if k > start and ids is not None:
            inputs[-1] = inputs[-1] * dropout_factors(network, k, ids, key)
        logits.append(inputs[-1] @ network.weights(params, k).T + network.bias(params, k))
        inputs.append(activate(kinds(network)[k], logits[-1]))
    return inputs, logits


# ---- loss ----------------------------------------------------------------------------


def row_losses(network, objective, params, X, target, *, start=0, ids=None, key=None):
    """Squared error, cross-entropy or log loss (in nats) of each row, summed over its outputs."""
    inputs, logits = forward(network, params, X, start=start, ids=ids, key=key)
    target = np.asarray(target, dtype=np.float64)
    kind, z = LOSSES[objective.loss], logits[-1]
    if kind == "squared_error":
        return np.sum((target - inputs[-1]) ** 2, axis=1)
    if kind == "log_loss":
        return -np.sum(target * log_softmax(z), axis=1)
    return np.sum(target * np.logaddexp(0, -z) + (1 - target) * np.logaddexp(0, z), axis=1)


def shares(weights, n_rows):
    """What each row counts for in the mean over a batch."""
    weights = np.ones(n_rows) if weights is None else np.asarray(weights)
    return weights / weights.sum() if weights.sum() > 0 else np.zeros(n_rows)


def own_matrices(network):
    """The layers that do not borrow the matrix of another."""
    return [k for k in range(len(network)) if not network.layers[k]["tied"]]


def mean_activation(kind, share, a):
    """Of each unit, mapped to (0, 1)."""
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


def seen(network, objective, params, X, target, ids, weights, key):
    """The rows of a batch as the first layer sees them: with noise, and adversarially moved."""
    X = corrupt(network, objective, X, ids, key)
    if objective.adversarial_radius:
        slope = back_propagated(network, objective, params, X, target, ids, weights, key)[1]
        X = X + objective.adversarial_radius * np.sign(slope)
    return X


def cost(network, objective, params, X, target, ids, weights, key):
    """What is minimised over a batch, in two parts: without the L2 term, and that term."""
    X = seen(network, objective, params, X, target, ids, weights, key)
    share = shares(weights, len(X))
    inputs, _ = forward(network, params, X, ids=ids, key=key)
    loss = share @ row_losses(network, objective, params, X, target, ids=ids, key=key)
    penalty = sparsity(network, objective, share, inputs)
    return loss + penalty, l2(network, objective, params)


def gradient(network, objective, params, X, target, ids, weights, key):
    """Of both parts of the cost; as flat as the parameters."""
    X = seen(network, objective, params, X, target, ids, weights, key)
    out, _ = back_propagated(network, objective, params, X, target, ids, weights, key)
    for k in own_matrices(network):
        network.weights(out, k)[:] += objective.alpha * network.weights(params, k)
    return out


def back_propagated(network, objective, params, X, target, ids, weights, key):
    """The gradients of the cost without the L2 term, by the parameters and by the rows."""
    params = np.asarray(params, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    share = shares(weights, len(X))
    inputs, logits = forward(network, params, X, ids=ids, key=key)
    out = np.zeros_like(params)

    if LOSSES[objective.loss] == "squared_error":
        delta = 2 * (inputs[-1] - target) * slope(kinds(network)[-1], logits[-1])
    elif LOSSES[objective.loss] == "log_loss":
        delta = target.sum(axis=1, keepdims=True) * activate("softmax", logits[-1]) - target
    else:
        delta = activate("logistic", logits[-1]) - target
    delta = share[:, None] * delta

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
        below = below * dropout_factors(network, k, ids, key)
        delta = below * slope(kind, logits[k - 1])


# ---- steps -------------------------------------------------------------------------


def rates(network, solver):
    """The learning rate of each parameter; a matrix has that of the layer that owns it."""
    out = np.empty(network.n_params)
    for k in range(len(network)):
        rate = solver.learning_rate * network.layers[k]["rate"]
        network.bias(out, k)[:] = rate
        if k in own_matrices(network):
            network.weights(out, k)[:] = rate
    return out


def sgd_step(solver, buffers, g, rate):
    buffers[0] -= rate * g


def momentum_step(solver, buffers, g, rate):
    w, _, velocity = buffers
    velocity[:] = solver.momentum * velocity - rate * g
    if solver.nesterov:
        w += solver.momentum * velocity - rate * g
    else:
        w += velocity


def adam_step(solver, buffers, g, rate):
    w, _, mean, square = buffers
    mean[:] = solver.beta_1 * mean + (1 - solver.beta_1) * g
    square[:] = solver.beta_2 * square + (1 - solver.beta_2) * g**2
    unbiased = np.sqrt(1 - solver.beta_2**solver.step) / (1 - solver.beta_1**solver.step)
    w -= rate * unbiased * mean / (np.sqrt(square) + solver.epsilon)


STEPS = (sgd_step, momentum_step, adam_step)


def limit_norms(network, limit, params):
    """The weights into each unit, scaled back where they are longer than the limit."""
    for k in own_matrices(network):
        weights = network.weights(params, k)
        norms = np.linalg.norm(weights, axis=1, keepdims=True)
        weights *= np.where(norms > limit, limit / np.maximum(norms, limit), 1.0)


def train(network, objective, solver, buffers, X, target, rows, ids, weights, batch_size, key):
    """One epoch; changes `buffers` (float64) and ``solver.step``.

    Returns the sum of cost times weight over the batches, and the sum of the weights.
    """
    total, total_weight = 0.0, 0.0
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        w = None if weights is None else weights[batch]
        data = X[batch], target[batch], ids[start : start + batch_size], w, key
        weight = len(batch) if w is None else w.sum()
        total += weight * cost(network, objective, buffers[0], *data)[0]
        total_weight += weight
        solver.step += 1
        g = gradient(network, objective, buffers[0], *data)
        STEPS[solver.kind](solver, buffers, g, rates(network, solver))
        if solver.max_norm > 0:
            limit_norms(network, solver.max_norm, buffers[0])
    return total, total_weight
