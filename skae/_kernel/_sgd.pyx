"""Forward pass, loss, gradient and one epoch of stochastic gradient descent.

The kernel knows no scikit-learn and allocates nothing. The caller owns

``layers``
    The table of the network, a structured array made by `skae._network.Network`: for
    each layer its sizes, where its weights and bias lie in a flat buffer, and where its
    input and its delta lie in the workspace.
``buffers`` (n_buffers, n_params)
    Row 0 holds the parameters; what follows depends on the solver: nothing for plain
    SGD, which writes the gradient straight into the parameters; gradient and velocity
    for momentum; gradient and both moments for Adam. All share one layout.
``workspace``
    ``Network.workspace_size(rows)`` numbers, for batches of up to so many rows.

A *tied* layer uses the matrix of an earlier one, its `partner`, transposed. Its input and
the delta of the partner lie one after the other in the workspace, and so do the other two,
so that both halves of the gradient are one product: ``[D_k; A_j]^T [A_k; D_j]``.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from libc.math cimport NAN, isfinite, pow, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from skae._kernel._blas cimport gemm

cdef extern from "_elementwise.h" nogil:
    enum:
        LOSS_CROSS_ENTROPY
        LOSS_SOFTMAX
        NOISE_SALT_AND_PEPPER
        NOISE_DROPOUT
    uint64_t layer_key(uint64_t key, uint64_t layer, uint64_t row)
    void activate_f(int, Py_ssize_t, Py_ssize_t, const float *, float *)
    void activate_d(int, Py_ssize_t, Py_ssize_t, const double *, double *)
    void activation_backward_f(int, Py_ssize_t, float, const float *, float *)
    void activation_backward_d(int, Py_ssize_t, double, const double *, double *)
    double squared_error_f(int, Py_ssize_t, float, const float *, const float *, float *)
    double squared_error_d(int, Py_ssize_t, double, const double *, const double *, double *)
    double cross_entropy_f(Py_ssize_t, float, const float *, const float *, float *)
    double cross_entropy_d(Py_ssize_t, double, const double *, const double *, double *)
    double softmax_loss_f(Py_ssize_t, float, const float *, const float *, float *)
    double softmax_loss_d(Py_ssize_t, double, const double *, const double *, double *)
    void dropout_f(double, uint64_t, Py_ssize_t, float *)
    void dropout_d(double, uint64_t, Py_ssize_t, double *)
    void limit_norms_f(Py_ssize_t, Py_ssize_t, float, float *)
    void limit_norms_d(Py_ssize_t, Py_ssize_t, double, double *)
    void corrupt_f(int, double, uint64_t, Py_ssize_t, const double *, const double *,
                   const float *, float *)
    void corrupt_d(int, double, uint64_t, Py_ssize_t, const double *, const double *,
                   const double *, double *)
    void add_rows_f(Py_ssize_t, Py_ssize_t, float, const float *, float *)
    void add_rows_d(Py_ssize_t, Py_ssize_t, double, const double *, double *)
    double sparsity_f(int, Py_ssize_t, Py_ssize_t, double, double, const float *,
                      const float *, float *, float *)
    double sparsity_d(int, Py_ssize_t, Py_ssize_t, double, double, const double *,
                      const double *, double *, double *)
    void momentum_update_f(Py_ssize_t, float, float, int, float, const float *, float *, float *)
    void momentum_update_d(Py_ssize_t, double, double, int, double, const double *, double *,
                           double *)
    void adam_update_f(Py_ssize_t, float, double, double, float, float, const float *, float *,
                       float *, float *)
    void adam_update_d(Py_ssize_t, double, double, double, double, double, const double *,
                       double *, double *, double *)

# A row of the network's table; skae._network.LAYER is the same struct for NumPy.
cdef struct Layer:
    int64_t n_in
    int64_t n_out
    int64_t weight      # where in the flat buffer: (n_out, n_in), or (n_in, n_out) if tied
    int64_t bias        # where in the flat buffer: (n_out,)
    int64_t partner     # the other layer that uses the same matrix, or -1
    int64_t tied        # this is the layer of the pair that uses it transposed
    int64_t activation
    int64_t noise       # on the input of this layer; above the first one dropout only
    double noise_level
    double rate         # factor of the learning rate
    int64_t input       # where in the workspace, in columns: (rows, n_in)
    int64_t delta       # where in the workspace, in columns: (rows, n_out)

# How many batches may pass before Ctrl-C is looked for.
cdef int BATCHES_BETWEEN_SIGNALS = 64

PLAIN_SGD, MOMENTUM, ADAM = range(3)
cdef enum:
    _PLAIN_SGD = 0
    _MOMENTUM = 1
    _ADAM = 2


cdef class Objective:
    """What is minimised: the mean loss of the rows plus the penalties.

    Parameters
    ----------
    loss : int
        A loss of `skae._network.LOSSES`, between the output and the target.
    alpha : float
        Adds ``alpha / 2`` times the sum of the squared weights (not of the biases).
    sparse_layer : int
        Index of the layer whose output is held sparse, -1 for none.
    sparsity_target, sparsity_penalty : float
        Adds the penalty times the sum over units of KL(target || mean activation).
    low, high : ndarray of shape (n_features,), float64
        The extremes of each feature, which salt-and-pepper noise sets it to.
    """
    cdef public int loss, sparse_layer
    cdef public double alpha, sparsity_target, sparsity_penalty
    cdef readonly const double[::1] low, high

    def __init__(self, int loss, *, double alpha=0.0, int sparse_layer=-1,
                 double sparsity_target=0.05, double sparsity_penalty=0.0, low=None, high=None):
        self.loss = loss
        self.alpha = alpha
        self.sparse_layer = sparse_layer if sparsity_penalty > 0 else -1
        self.sparsity_target = sparsity_target
        self.sparsity_penalty = sparsity_penalty
        self.low = low
        self.high = high


cdef class Solver:
    """How a gradient becomes a step. `learning_rate` and `step` change as training goes on.

    Parameters
    ----------
    kind : int
        `PLAIN_SGD`, `MOMENTUM` or `ADAM`.
    max_norm : float
        Largest Euclidean norm of the weights into a unit; 0 sets no limit.
    step : int
        Number of steps taken so far; Adam's bias correction depends on it.
    """
    cdef public int kind
    cdef public bint nesterov
    cdef public double learning_rate, momentum, beta_1, beta_2, epsilon, max_norm
    cdef public int64_t step

    def __init__(self, int kind, *, double learning_rate, double momentum=0.0,
                 bint nesterov=False, double beta_1=0.9, double beta_2=0.999,
                 double epsilon=1e-8, double max_norm=0.0, int64_t step=0):
        self.kind = kind
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.max_norm = max_norm
        self.step = step

    @property
    def n_buffers(self):
        """Rows of `buffers`: the parameters, and what the solver keeps beside them."""
        return (1, 3, 4)[self.kind]


cdef const double *first(const double[::1] values) noexcept nogil:
    if values is None:
        return NULL
    return &values[0]


# ---- the loops of _elementwise.h, by type ------------------------------------

cdef void activate(int kind, Py_ssize_t m, Py_ssize_t n, const floating *bias,
                   floating *z) noexcept nogil:
    if floating is float:
        activate_f(kind, m, n, bias, z)
    else:
        activate_d(kind, m, n, bias, z)


cdef void activation_backward(int kind, Py_ssize_t size, double keep, const floating *a,
                              floating *d) noexcept nogil:
    if floating is float:
        activation_backward_f(kind, size, keep, a, d)
    else:
        activation_backward_d(kind, size, keep, a, d)


cdef double row_loss(int loss, int activation, Py_ssize_t n, floating scale,
                     const floating *bias, const floating *target,
                     floating *d) noexcept nogil:
    if loss == LOSS_CROSS_ENTROPY:
        if floating is float:
            return cross_entropy_f(n, scale, bias, target, d)
        else:
            return cross_entropy_d(n, scale, bias, target, d)
    if loss == LOSS_SOFTMAX:
        if floating is float:
            return softmax_loss_f(n, scale, bias, target, d)
        else:
            return softmax_loss_d(n, scale, bias, target, d)
    if floating is float:
        return squared_error_f(activation, n, scale, bias, target, d)
    else:
        return squared_error_d(activation, n, scale, bias, target, d)


cdef void corrupt(const Layer *layer, uint64_t key, const double *low, const double *high,
                  const floating *x, floating *out) noexcept nogil:
    if floating is float:
        corrupt_f(layer.noise, layer.noise_level, key, layer.n_in, low, high, x, out)
    else:
        corrupt_d(layer.noise, layer.noise_level, key, layer.n_in, low, high, x, out)


cdef void dropout(const Layer *net, Py_ssize_t k, uint64_t key, const int64_t *ids,
                  Py_ssize_t m, floating *x) noexcept nogil:
    """Dropout of the rows x (m, n_in) that go into layer k, or of their gradient."""
    cdef Py_ssize_t i, n = net[k].n_in
    for i in range(m):
        if floating is float:
            dropout_f(net[k].noise_level, layer_key(key, k, ids[i]), n, x + i * n)
        else:
            dropout_d(net[k].noise_level, layer_key(key, k, ids[i]), n, x + i * n)


cdef void limit_norms(const Layer *net, Py_ssize_t n_layers, double limit,
                      floating *params) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n_layers):
        if not net[k].tied:
            if floating is float:
                limit_norms_f(net[k].n_out, net[k].n_in, limit, params + net[k].weight)
            else:
                limit_norms_d(net[k].n_out, net[k].n_in, limit, params + net[k].weight)


cdef void add_rows(Py_ssize_t m, Py_ssize_t n, floating alpha, const floating *d,
                   floating *out) noexcept nogil:
    if floating is float:
        add_rows_f(m, n, alpha, d, out)
    else:
        add_rows_d(m, n, alpha, d, out)


cdef double sparsity(const Layer *layer, Py_ssize_t m, double target, double penalty,
                     const floating *scale, const floating *a, floating *d,
                     floating *scratch) noexcept nogil:
    if floating is float:
        return sparsity_f(layer.activation, m, layer.n_out, target, penalty, scale, a, d, scratch)
    else:
        return sparsity_d(layer.activation, m, layer.n_out, target, penalty, scale, a, d, scratch)


# ---- one batch ----------------------------------------------------------------

cdef void forward(const Layer *net, Py_ssize_t n_layers, const floating *params,
                  const floating *x, Py_ssize_t m, floating *workspace, floating *out,
                  uint64_t key, const int64_t *ids) noexcept nogil:
    """x (m, n_in) through all layers; `out` gets the last one's products, without bias.

    `ids` name the rows to the dropout between the layers; NULL for none.
    """
    cdef Py_ssize_t k
    cdef floating *z
    for k in range(n_layers):
        z = out if k == n_layers - 1 else workspace + m * net[k + 1].input
        gemm[floating](False, not net[k].tied, m, net[k].n_out, net[k].n_in,
                       1, x, params + net[k].weight, 0, z)
        if k < n_layers - 1:
            activate(net[k].activation, m, net[k].n_out, params + net[k].bias, z)
            if ids != NULL and net[k + 1].noise == NOISE_DROPOUT:
                dropout[floating](net, k + 1, key, ids, m, z)
        x = z


cdef void weight_gradient(const Layer *net, Py_ssize_t k, Py_ssize_t m,
                          const floating *workspace, floating alpha, floating beta,
                          floating *out) noexcept nogil:
    """out := alpha (gradient of the matrix of layer k) + beta out.

    The delta of a layer stands before its partner's input, and its input before the
    partner's delta, so a tied pair is the same product over twice the rows.
    """
    cdef Py_ssize_t rows = m if net[k].partner < 0 else 2 * m
    gemm[floating](True, False, net[k].n_out, net[k].n_in, rows, alpha,
                   workspace + m * net[k].delta, workspace + m * net[k].input, beta, out)


cdef double backward(const Layer *net, Py_ssize_t n_layers, Objective objective,
                     floating *params, floating *gradient, double learning_rate,
                     uint64_t key, const int64_t *ids, Py_ssize_t m, const floating *scale,
                     floating *workspace, floating *scratch) noexcept nogil:
    """From the last delta down to the first layer. Returns the sparsity penalty.

    With `gradient` NULL, each gradient goes straight into the parameters as a step of
    `learning_rate`, weight decay included, as soon as nothing needs the old weights.
    """
    cdef:
        Py_ssize_t k
        double penalty = 0.0, rate, keep
        floating *out = params if gradient == NULL else gradient
        floating alpha = 1.0
        floating beta = 0.0
        floating *delta
        floating *below
    for k in range(n_layers - 1, -1, -1):
        delta = workspace + m * net[k].delta
        if gradient == NULL:
            rate = learning_rate * net[k].rate
            alpha, beta = -rate, 1.0 - rate * objective.alpha
        if k > 0:
            below = workspace + m * net[k - 1].delta
            gemm[floating](False, net[k].tied, m, net[k].n_in, net[k].n_out,
                           1, delta, params + net[k].weight, 0, below)
            if k - 1 == objective.sparse_layer:
                penalty = sparsity(
                    &net[k - 1], m, objective.sparsity_target, objective.sparsity_penalty,
                    scale, <const floating *> workspace + m * net[k].input, below, scratch)
            keep = 1.0
            if net[k].noise == NOISE_DROPOUT:
                keep = 1.0 - net[k].noise_level
                dropout[floating](net, k, key, ids, m, below)
            activation_backward[floating](net[k - 1].activation, m * net[k].n_in, keep,
                                          workspace + m * net[k].input, below)
        if not net[k].tied:
            weight_gradient[floating](net, k, m, workspace, alpha, beta, out + net[k].weight)
        if gradient != NULL:
            memset(gradient + net[k].bias, 0, net[k].n_out * sizeof(floating))
        add_rows[floating](m, net[k].n_out, alpha, delta, out + net[k].bias)
    return penalty


cdef double batch(const Layer *net, Py_ssize_t n_layers, Objective objective,
                  floating *params, floating *gradient, double learning_rate,
                  const floating *X, const floating *target, const int64_t *rows,
                  const int64_t *ids, const double *weights, uint64_t key,
                  Py_ssize_t m, floating *workspace, Py_ssize_t workspace_rows,
                  double *weight) noexcept nogil:
    """Cost of m rows without the L2 term; the gradient, or the step; their weight."""
    cdef:
        Py_ssize_t i, n_target = net[n_layers - 1].n_out, n_in = net[0].n_in
        const Layer *top = &net[n_layers - 1]
        # Behind the blocks of the layers: one number a row, and one a unit.
        floating *scale = workspace + workspace_rows * workspace_width(net, n_layers)
        floating *scratch = scale + workspace_rows
        floating *delta = workspace + m * top.delta
        const double *low = first(objective.low)
        const double *high = first(objective.high)
        double total = 0.0, cost = 0.0
    for i in range(m):
        total += 1.0 if weights == NULL else weights[rows[i]]
    for i in range(m):
        scale[i] = 0.0 if total == 0.0 else (
            (1.0 if weights == NULL else weights[rows[i]]) / total)
        corrupt[floating](net, layer_key(key, 0, ids[i]), low, high, X + rows[i] * n_in,
                          workspace + m * net[0].input + i * n_in)
    forward[floating](net, n_layers, params, workspace + m * net[0].input, m, workspace, delta,
                      key, ids)
    for i in range(m):
        cost += scale[i] * row_loss[floating](
            objective.loss, top.activation, n_target, scale[i], params + top.bias,
            target + rows[i] * n_target, delta + i * n_target)
    weight[0] = total
    return cost + backward[floating](net, n_layers, objective, params, gradient, learning_rate,
                                     key, ids, m, scale, workspace, scratch)


cdef Py_ssize_t workspace_width(const Layer *net, Py_ssize_t n_layers) noexcept nogil:
    """Columns of the workspace that the inputs and deltas of the layers take."""
    cdef Py_ssize_t k, width = 0
    for k in range(n_layers):
        width += net[k].n_in + net[k].n_out
    return width


cdef void update(const Layer *net, Py_ssize_t n_layers, Solver solver, double alpha,
                 floating *buffers, Py_ssize_t n_params) noexcept nogil:
    """One step from the gradient in row 1 of the buffers; L2 acts on weights only."""
    cdef Py_ssize_t k
    for k in range(n_layers):
        if not net[k].tied:
            update_stretch[floating](solver, net[k].rate, alpha, net[k].weight,
                                     net[k].n_in * net[k].n_out, buffers, n_params)
        update_stretch[floating](solver, net[k].rate, 0.0, net[k].bias, net[k].n_out,
                                 buffers, n_params)


cdef void update_stretch(Solver solver, double factor, double decay,
                         Py_ssize_t start, Py_ssize_t size,
                         floating *buffers, Py_ssize_t n_params) noexcept nogil:
    cdef:
        floating *w = buffers + start
        floating *g = w + n_params
        floating *v = g + n_params
        double rate = solver.learning_rate * factor
    if solver.kind == _MOMENTUM:
        if floating is float:
            momentum_update_f(size, rate, solver.momentum, solver.nesterov, decay, g, v, w)
        else:
            momentum_update_d(size, rate, solver.momentum, solver.nesterov, decay, g, v, w)
        return
    rate *= sqrt(1.0 - pow(solver.beta_2, solver.step)) / (1.0 - pow(solver.beta_1, solver.step))
    if floating is float:
        adam_update_f(size, rate, solver.beta_1, solver.beta_2, solver.epsilon, decay,
                      g, v, v + n_params, w)
    else:
        adam_update_d(size, rate, solver.beta_1, solver.beta_2, solver.epsilon, decay,
                      g, v, v + n_params, w)


# ---- what Python calls ----------------------------------------------------------

def train(const Layer[::1] layers, Objective objective, Solver solver,
          floating[:, ::1] buffers, floating[::1] workspace,
          const floating[:, ::1] X, const floating[:, ::1] target,
          const int64_t[::1] rows, const int64_t[::1] ids, const double[::1] weights,
          Py_ssize_t batch_size, uint64_t key):
    """Take a step for each batch of ``batch_size`` of `rows`, in their order.

    Parameters
    ----------
    layers, objective, solver
        Of the network; ``solver.step`` counts on.
    buffers : INOUT, shape (solver.n_buffers, n_params)
    workspace : TEMP
    X : IN, shape (n_rows, n_features)
    target : IN, shape (n_rows, n_outputs)
        X itself for an autoencoder.
    rows : IN
        Which rows of X, target and weights to use.
    ids : IN, as long as `rows`
        What names a row to the noise; `rows` itself unless X is an excerpt.
    weights : IN, shape (n_rows,), or None
    key : int
        Of the noise; another one each epoch.

    Returns
    -------
    cost : float
        Sum over batches of (cost without L2 term) x (weight); nan as soon as it is not finite.
    weight : float
        Sum of the weights of the rows seen.
    """
    cdef:
        Py_ssize_t start, m, n = rows.shape[0], n_params = buffers.shape[1]
        Py_ssize_t n_layers = layers.shape[0], n_batches = 0
        double total = 0.0, total_weight = 0.0, cost, weight = 0.0
        const double *weights_ = first(weights)
        floating *params = &buffers[0, 0]
        floating *gradient = NULL if solver.kind == _PLAIN_SGD else params + n_params
    _check(layers, objective, batch_size, workspace.shape[0], X.shape[1], target.shape[1])
    if buffers.shape[0] < solver.n_buffers or ids.shape[0] != n:
        raise ValueError("buffers or ids are too short")
    with nogil:
        start = 0
        while start < n:
            m = min(batch_size, n - start)
            cost = batch[floating](
                &layers[0], n_layers, objective, params, gradient, solver.learning_rate,
                &X[0, 0], &target[0, 0], &rows[start], &ids[start], weights_, key, m,
                &workspace[0], batch_size, &weight)
            if not isfinite(cost):
                total = NAN
                break
            solver.step += 1
            if gradient != NULL:
                update[floating](&layers[0], n_layers, solver, objective.alpha, params, n_params)
            if solver.max_norm > 0:
                limit_norms[floating](&layers[0], n_layers, solver.max_norm, params)
            total += cost * weight
            total_weight += weight
            n_batches += 1
            if n_batches % BATCHES_BETWEEN_SIGNALS == 0:
                with gil:
                    PyErr_CheckSignals()
            start += m
    return total, total_weight


def loss_and_gradient(const Layer[::1] layers, Objective objective,
                      floating[::1] params, floating[::1] gradient, floating[::1] workspace,
                      const floating[:, ::1] X, const floating[:, ::1] target,
                      const int64_t[::1] rows, const int64_t[::1] ids,
                      const double[::1] weights, uint64_t key):
    """Cost of one batch, L2 term included; its gradient goes to `gradient` (OUT)."""
    cdef:
        Py_ssize_t k, j, start, n_layers = layers.shape[0]
        const double *weights_ = first(weights)
        double cost, weight = 0.0
    _check(layers, objective, rows.shape[0], workspace.shape[0], X.shape[1], target.shape[1])
    if ids.shape[0] != rows.shape[0] or gradient.shape[0] != params.shape[0]:
        raise ValueError("ids or gradient is too short")
    with nogil:
        cost = batch[floating](&layers[0], n_layers, objective, &params[0], &gradient[0], 0.0,
                               &X[0, 0], &target[0, 0], &rows[0], &ids[0], weights_, key,
                               rows.shape[0], &workspace[0], rows.shape[0], &weight)
        for k in range(n_layers):
            if layers[k].tied:
                continue
            start = layers[k].weight
            for j in range(start, start + layers[k].n_in * layers[k].n_out):
                cost += 0.5 * objective.alpha * params[j] * params[j]
                gradient[j] += objective.alpha * params[j]
    return cost


def outputs(const Layer[::1] layers, const floating[::1] params, floating[::1] workspace,
            Py_ssize_t workspace_rows, const floating[:, ::1] X, floating[:, ::1] out):
    """out (OUT, shape (n_rows, n_out)) := the output of the last layer for the rows of X."""
    cdef:
        Py_ssize_t start, m, n = X.shape[0], n_layers = layers.shape[0]
        const Layer *top = &layers[n_layers - 1]
    _check(layers, None, workspace_rows, workspace.shape[0], X.shape[1], out.shape[1])
    with nogil:
        start = 0
        while start < n:
            m = min(workspace_rows, n - start)
            forward[floating](&layers[0], n_layers, &params[0], &X[start, 0], m, &workspace[0],
                              &out[start, 0], 0, NULL)
            activate[floating](top.activation, m, top.n_out, &params[top.bias], &out[start, 0])
            start += m


def row_losses(const Layer[::1] layers, Objective objective, const floating[::1] params,
               floating[::1] workspace, Py_ssize_t workspace_rows,
               const floating[:, ::1] X, const floating[:, ::1] target, double[::1] out):
    """out (OUT, shape (n_rows,)) := the loss of each row, without noise and penalties."""
    cdef:
        Py_ssize_t start, m, i, n = X.shape[0], n_layers = layers.shape[0]
        const Layer *top = &layers[n_layers - 1]
        floating *delta
    _check(layers, objective, workspace_rows, workspace.shape[0], X.shape[1], target.shape[1])
    with nogil:
        start = 0
        while start < n:
            m = min(workspace_rows, n - start)
            delta = &workspace[0] + m * top.delta
            forward[floating](&layers[0], n_layers, &params[0], &X[start, 0], m, &workspace[0],
                              delta, 0, NULL)
            for i in range(m):
                out[start + i] = row_loss[floating](
                    objective.loss, top.activation, top.n_out, 1, &params[top.bias],
                    &target[start + i, 0], delta + i * top.n_out)
            start += m


def corrupt_rows(const Layer[::1] layers, Objective objective, const floating[:, ::1] X,
                 const int64_t[::1] ids, uint64_t key, floating[:, ::1] out):
    """out (OUT) := the rows of X as the first layer sees them in training."""
    cdef:
        Py_ssize_t i
        const double *low = first(objective.low)
        const double *high = first(objective.high)
    _check_noise(layers, objective)
    for i in range(X.shape[0]):
        corrupt[floating](&layers[0], layer_key(key, 0, ids[i]), low, high, &X[i, 0], &out[i, 0])


cdef _check(const Layer[::1] layers, Objective objective, Py_ssize_t rows, Py_ssize_t size,
            Py_ssize_t n_in, Py_ssize_t n_out):
    """What would otherwise read or write outside an array."""
    cdef Py_ssize_t k, n_layers = layers.shape[0], widest = 0, width = 0
    for k in range(n_layers):
        widest = max(widest, layers[k].n_out)
        # A slice of a table keeps the places of the whole network.
        width = max(width, layers[k].input + layers[k].n_in, layers[k].delta + layers[k].n_out)
    if rows < 1 or size < rows * (width + 1) + widest:
        raise ValueError("the workspace is too small")
    if objective is not None:
        _check_noise(layers, objective)
    if n_in != layers[0].n_in or n_out != layers[n_layers - 1].n_out:
        raise ValueError("the widths of X or target do not fit the network")


cdef _check_noise(const Layer[::1] layers, Objective objective):
    if layers[0].noise == NOISE_SALT_AND_PEPPER and (
            objective.low is None or objective.low.shape[0] != layers[0].n_in
            or objective.high is None or objective.high.shape[0] != layers[0].n_in):
        raise ValueError("salt-and-pepper noise needs the extremes of each feature")
