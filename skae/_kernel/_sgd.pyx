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
    What ``Network.workspace(rows)`` gives, for batches of up to so many rows.

A *tied* layer uses the matrix of an earlier one, its `partner`, transposed. Its input and
the delta of the partner lie one after the other in the workspace, and so do the other two,
so that both halves of the gradient are one product: ``[D_k; A_j]^T [A_k; D_j]``.

A batch is a sequence of phases: noise, each layer forwards, each layer backwards, the
gradients with the steps that they make. A phase is done in parts by a team of threads, each part
a stretch of columns (of rows, for the noise): its product by single-threaded BLAS, and then
what is done element by element, while the block is still in the cache.
"""

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from libc.math cimport NAN, isfinite, pow, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from skae._kernel._blas cimport gemm
from skae._kernel._team cimport TEAM_MOST, Team

cdef extern from "_elementwise.h" nogil:
    enum:
        LOSS_CROSS_ENTROPY
        LOSS_SOFTMAX
        NOISE_SALT_AND_PEPPER
        NOISE_DROPOUT
    uint64_t layer_key(uint64_t key, uint64_t layer, uint64_t row)
    void activate_f(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, float *)
    void activate_d(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, double *)
    void activation_backward_f(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, const float *,
                               float *)
    void activation_backward_d(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, const double *,
                               double *)
    double squared_error_f(int, Py_ssize_t, float, const float *, const float *, float *)
    double squared_error_d(int, Py_ssize_t, double, const double *, const double *, double *)
    double cross_entropy_f(Py_ssize_t, float, const float *, const float *, float *)
    double cross_entropy_d(Py_ssize_t, double, const double *, const double *, double *)
    double softmax_loss_f(Py_ssize_t, float, const float *, const float *, float *)
    double softmax_loss_d(Py_ssize_t, double, const double *, const double *, double *)
    void dropout_f(double, uint64_t, Py_ssize_t, Py_ssize_t, float *)
    void dropout_d(double, uint64_t, Py_ssize_t, Py_ssize_t, double *)
    void limit_norms_f(Py_ssize_t, Py_ssize_t, float, float *)
    void limit_norms_d(Py_ssize_t, Py_ssize_t, double, double *)
    void corrupt_f(int, double, uint64_t, Py_ssize_t, const double *, const double *,
                   const float *, float *)
    void corrupt_d(int, double, uint64_t, Py_ssize_t, const double *, const double *,
                   const double *, double *)
    void move_f(Py_ssize_t, Py_ssize_t, Py_ssize_t, float, const float *, float *)
    void move_d(Py_ssize_t, Py_ssize_t, Py_ssize_t, double, const double *, double *)
    void add_rows_f(Py_ssize_t, Py_ssize_t, Py_ssize_t, float, const float *, float *)
    void add_rows_d(Py_ssize_t, Py_ssize_t, Py_ssize_t, double, const double *, double *)
    double sparsity_f(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, double,
                      const float *, const float *, float *, float *)
    double sparsity_d(int, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, double,
                      const double *, const double *, double *, double *)
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


# What the parts of a batch have in common.
cdef struct Step:
    const Layer *net
    Py_ssize_t n_layers
    Py_ssize_t n_params
    bint is_float           # of which type the pointers without one are
    # the objective and the solver, see below
    int loss, sparse_layer
    double alpha, sparsity_target, sparsity_penalty, adversarial_radius
    const double *low
    const double *high
    int solver
    bint nesterov
    double learning_rate, momentum, beta_1, beta_2, epsilon, max_norm
    double bias_correction  # of Adam's moments, for this step
    # memory
    void *params
    void *gradient          # NULL: straight into the parameters
    void *workspace
    void *scale             # weight of each row in the batch
    void *scratch           # one number a unit
    void *moved             # where adversarial rows go: as large as the input of a batch
    const void *X
    const void *target
    # this batch
    const int64_t *rows
    const int64_t *ids
    Py_ssize_t m
    uint64_t key
    # this phase
    Phase phase
    Py_ssize_t k
    double[TEAM_MOST] sums  # what each part has to say

cdef enum Phase:
    NOISE
    FORWARD
    WHOLE_ROWS_LOSS
    BACKWARD
    MOVE
    GRADIENT

# Some of the columns of a matrix.
cdef struct Span:
    Py_ssize_t start
    Py_ssize_t size

# Columns in a unit of parts: what a vector holds, and half a cache line or a whole one.
cdef Py_ssize_t UNIT = 8

# Multiplications below which a part is not worth a thread's while: some microseconds.
cdef double WORK_OF_A_PART = 2.0**17


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
    adversarial_radius : float
        The loss is that of rows whose features are each moved by so much, to where the loss
        rises (Goodfellow, Shlens and Szegedy 2015); 0 leaves them where they are.
    low, high : ndarray of shape (n_features,), float64
        The extremes of each feature, which salt-and-pepper noise sets it to.
    """
    cdef public int loss, sparse_layer
    cdef public double alpha, sparsity_target, sparsity_penalty, adversarial_radius
    cdef readonly const double[::1] low, high

    def __init__(self, int loss, *, double alpha=0.0, int sparse_layer=-1,
                 double sparsity_target=0.05, double sparsity_penalty=0.0,
                 double adversarial_radius=0.0, low=None, high=None):
        self.loss = loss
        self.alpha = alpha
        self.sparse_layer = sparse_layer if sparsity_penalty > 0 else -1
        self.sparsity_target = sparsity_target
        self.sparsity_penalty = sparsity_penalty
        self.adversarial_radius = adversarial_radius
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

cdef void activate(int kind, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                   const floating *bias, floating *z) noexcept nogil:
    if floating is float:
        activate_f(kind, m, n, stride, bias, z)
    else:
        activate_d(kind, m, n, stride, bias, z)


cdef void activation_backward(int kind, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                              double keep, const floating *a, floating *d) noexcept nogil:
    if floating is float:
        activation_backward_f(kind, m, n, stride, keep, a, d)
    else:
        activation_backward_d(kind, m, n, stride, keep, a, d)


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


cdef void dropout(const Step *step, Py_ssize_t k, Span columns, floating *x) noexcept nogil:
    """Dropout of some columns of what goes into layer k, or of its gradient."""
    cdef:
        Py_ssize_t i, stride = step.net[k].n_in
        double level = step.net[k].noise_level
        uint64_t key
    for i in range(step.m):
        key = layer_key(step.key, k, step.ids[i])
        if floating is float:
            dropout_f(level, key, columns.start, columns.size, x + i * stride)
        else:
            dropout_d(level, key, columns.start, columns.size, x + i * stride)


cdef void limit_norms(Py_ssize_t m, Py_ssize_t n, double limit, floating *w) noexcept nogil:
    if floating is float:
        limit_norms_f(m, n, limit, w)
    else:
        limit_norms_d(m, n, limit, w)


cdef void move(Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, double radius,
               const floating *slope, floating *x) noexcept nogil:
    if floating is float:
        move_f(m, n, stride, radius, slope, x)
    else:
        move_d(m, n, stride, radius, slope, x)


cdef void add_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, floating alpha,
                   const floating *d, floating *out) noexcept nogil:
    if floating is float:
        add_rows_f(m, n, stride, alpha, d, out)
    else:
        add_rows_d(m, n, stride, alpha, d, out)


cdef double sparsity(const Step *step, int activation, Py_ssize_t n, Py_ssize_t stride,
                     const floating *scale, const floating *a, floating *d,
                     floating *scratch) noexcept nogil:
    if floating is float:
        return sparsity_f(activation, step.m, n, stride, step.sparsity_target,
                          step.sparsity_penalty, scale, a, d, scratch)
    else:
        return sparsity_d(activation, step.m, n, stride, step.sparsity_target,
                          step.sparsity_penalty, scale, a, d, scratch)


# ---- one batch ----------------------------------------------------------------

cdef Span part_of(Py_ssize_t n, int part, int n_parts) noexcept nogil:
    """A part of n columns; unless they are few, a multiple of what vectors and caches like."""
    cdef Span span
    cdef Py_ssize_t unit = UNIT if n >= 4 * UNIT * n_parts else 1
    cdef Py_ssize_t units = (n + unit - 1) // unit
    span.start = min(n, units * part // n_parts * unit)
    span.size = min(n, units * (part + 1) // n_parts * unit) - span.start
    return span


cdef double run(Team team, Step *step, Phase phase, Py_ssize_t k,
                double work) noexcept nogil:
    """A phase, of so many multiplications, by the team. Returns the sum of what its parts do."""
    cdef int part, n_parts = <int> min(<double> team.n_threads, 1.0 + work / WORK_OF_A_PART)
    cdef double total = 0.0
    step.phase, step.k = phase, k
    team.run(do_part, step, n_parts)
    for part in range(n_parts):
        total += step.sums[part]
    return total


cdef void do_part(void *context, int part, int n_parts) noexcept nogil:
    cdef Step *step = <Step *> context
    if step.is_float:
        step.sums[part] = phase_part[float](step, <float *> step.params, part, n_parts)
    else:
        step.sums[part] = phase_part[double](step, <double *> step.params, part, n_parts)


cdef double phase_part(Step *step, floating *params, int part, int n_parts) noexcept nogil:
    """A part of a phase; the pointer says of which type the numbers are."""
    cdef:
        floating *workspace = <floating *> step.workspace
        floating *z
        double result = 0.0
        Py_ssize_t k = step.k, top = step.n_layers - 1
        Span span
    if step.phase == NOISE:
        noise_rows[floating](step, workspace, step.m * part // n_parts,
                             step.m * (part + 1) // n_parts)
    elif step.phase == FORWARD:
        span = part_of(step.net[k].n_out, part, n_parts)
        if span.size > 0:
            z = workspace + step.m * (step.net[k].delta if k == top else step.net[k + 1].input)
            forward[floating](step.net, step.n_layers, k, params, step.m, span,
                              workspace + step.m * step.net[k].input, z)
            if k < top and step.net[k + 1].noise == NOISE_DROPOUT:
                dropout[floating](step, k + 1, span, z + span.start)
            elif k == top and step.loss != LOSS_SOFTMAX:
                result = losses[floating](step, params, span, z)
    elif step.phase == WHOLE_ROWS_LOSS:
        span.start, span.size = 0, step.net[top].n_out
        result = losses[floating](step, params, span, workspace + step.m * step.net[top].delta)
    elif step.phase == BACKWARD:
        span = part_of(step.net[k].n_in, part, n_parts)
        if span.size > 0:
            result = backward[floating](step, k, params, span, workspace)
    elif step.phase == MOVE:
        span = part_of(step.net[0].n_in, part, n_parts)
        if span.size > 0:
            move_rows[floating](step, params, span, workspace)
    else:
        for k in range(step.n_layers):
            gradient[floating](step, k, params, part_of(step.net[k].n_out, part, n_parts),
                               workspace)
    return result


cdef void noise_rows(const Step *step, floating *workspace, Py_ssize_t start,
                     Py_ssize_t stop) noexcept nogil:
    """Rows of X, corrupted, as the input of the first layer."""
    cdef Py_ssize_t i, n_in = step.net[0].n_in
    cdef const floating *X = <const floating *> step.X
    for i in range(start, stop):
        corrupt[floating](step.net, layer_key(step.key, 0, step.ids[i]), step.low, step.high,
                          X + step.rows[i] * n_in,
                          workspace + step.m * step.net[0].input + i * n_in)


cdef void forward(const Layer *net, Py_ssize_t n_layers, Py_ssize_t k, const floating *params,
                  Py_ssize_t m, Span units, const floating *x, floating *z) noexcept nogil:
    """x (m, n_in) through some units of layer k, into their columns of z (m, n_out).

    Those of the last layer are left as the product, without bias.
    """
    cdef:
        Py_ssize_t n_in = net[k].n_in, n_out = net[k].n_out
        bint tied = net[k].tied
        const floating *w = params + net[k].weight + units.start * (1 if tied else n_in)
    z += units.start
    gemm[floating](False, not tied, m, units.size, n_in, 1, x, n_in,
                   w, n_out if tied else n_in, 0, z, n_out)
    if k < n_layers - 1:
        activate(net[k].activation, m, units.size, n_out,
                 params + net[k].bias + units.start, z)


cdef double losses(const Step *step, const floating *params, Span units,
                   floating *z) noexcept nogil:
    """The loss of some columns of the output, weighted; they become its gradient."""
    cdef:
        const Layer *top = &step.net[step.n_layers - 1]
        const floating *scale = <const floating *> step.scale
        const floating *target = <const floating *> step.target + units.start
        const floating *bias = params + top.bias + units.start
        double cost = 0.0
        Py_ssize_t i
    z += units.start
    for i in range(step.m):
        cost += scale[i] * row_loss[floating](
            step.loss, top.activation, units.size, scale[i], bias,
            target + step.rows[i] * top.n_out, z + i * top.n_out)
    return cost


cdef double backward(const Step *step, Py_ssize_t k, const floating *params, Span columns,
                     floating *workspace) noexcept nogil:
    """The delta of layer k - 1, some columns of it. Returns their sparsity penalty."""
    cdef:
        const Layer *layer = &step.net[k]
        const Layer *below = &step.net[k - 1]
        Py_ssize_t m = step.m, n_in = layer.n_in, n_out = layer.n_out
        bint tied = layer.tied
        const floating *w = params + layer.weight + columns.start * (n_out if tied else 1)
        const floating *a = workspace + m * layer.input + columns.start
        floating *d = workspace + m * below.delta + columns.start
        double penalty = 0.0, keep = 1.0
    gemm[floating](False, tied, m, columns.size, n_out, 1, workspace + m * layer.delta, n_out,
                   w, n_out if tied else n_in, 0, d, n_in)
    if k - 1 == step.sparse_layer:
        penalty = sparsity(step, below.activation, columns.size, n_in,
                           <const floating *> step.scale, a, d,
                           <floating *> step.scratch + columns.start)
    if layer.noise == NOISE_DROPOUT:
        keep = 1.0 - layer.noise_level
        dropout[floating](step, k, columns, d)
    activation_backward[floating](below.activation, m, columns.size, n_in, keep, a, d)
    return penalty


cdef void move_rows(const Step *step, const floating *params, Span columns,
                    floating *workspace) noexcept nogil:
    """Some features of the rows, moved to where the loss rises, by the sign of its slope."""
    cdef:
        Py_ssize_t m = step.m, n_in = step.net[0].n_in, n_out = step.net[0].n_out
        floating *slope = <floating *> step.moved + columns.start
    gemm[floating](False, False, m, columns.size, n_out, 1, workspace + m * step.net[0].delta,
                   n_out, params + step.net[0].weight + columns.start, n_in, 0, slope, n_in)
    move(m, columns.size, n_in, step.adversarial_radius, slope,
         workspace + m * step.net[0].input + columns.start)


cdef void gradient(const Step *step, Py_ssize_t k, floating *params, Span units,
                   floating *workspace) noexcept nogil:
    """The gradient of the weights into some units of layer k, and the step that it makes.

    Plain SGD has no buffer for it: it goes straight into the parameters, weight decay
    included. The delta of a layer stands before its partner's input, and its input before the
    partner's delta, so a tied pair is the same product over twice the rows.
    """
    cdef:
        const Layer *layer = &step.net[k]
        Py_ssize_t m = step.m, n_in = layer.n_in, n_out = layer.n_out
        Py_ssize_t rows = m if layer.partner < 0 else 2 * m
        Py_ssize_t weight = layer.weight + units.start * n_in, bias = layer.bias + units.start
        double rate = step.learning_rate * layer.rate
        floating alpha = 1.0, beta = 0.0
        floating *out = <floating *> step.gradient
        const floating *delta = workspace + m * layer.delta + units.start
    if units.size <= 0:
        return
    if step.gradient == NULL:
        alpha, beta, out = -rate, 1.0 - rate * step.alpha, params
    else:
        memset(out + bias, 0, units.size * sizeof(floating))
    add_rows[floating](m, units.size, n_out, alpha, delta, out + bias)
    if not layer.tied:
        gemm[floating](True, False, units.size, n_in, rows, alpha, delta, n_out,
                       workspace + m * layer.input, n_in, beta, out + weight, n_in)
    if step.gradient != NULL:
        update[floating](step, rate, 0.0, bias, units.size, params)
        if not layer.tied:
            update[floating](step, rate, step.alpha, weight, units.size * n_in, params)
    if step.max_norm > 0 and not layer.tied:
        limit_norms[floating](units.size, n_in, step.max_norm, params + weight)


cdef void update(const Step *step, double rate, double decay, Py_ssize_t start,
                 Py_ssize_t size, floating *params) noexcept nogil:
    """A stretch of the parameters, one step on; what the solver keeps lies behind them."""
    cdef:
        floating *w = params + start
        floating *g = w + step.n_params
        floating *v = g + step.n_params
    if step.solver == _MOMENTUM:
        if floating is float:
            momentum_update_f(size, rate, step.momentum, step.nesterov, decay, g, v, w)
        else:
            momentum_update_d(size, rate, step.momentum, step.nesterov, decay, g, v, w)
    elif step.solver == _ADAM:
        rate *= step.bias_correction
        if floating is float:
            adam_update_f(size, rate, step.beta_1, step.beta_2, step.epsilon, decay,
                          g, v, v + step.n_params, w)
        else:
            adam_update_d(size, rate, step.beta_1, step.beta_2, step.epsilon, decay,
                          g, v, v + step.n_params, w)


cdef double up_and_down(Team team, Step *step) noexcept nogil:
    """All layers forwards and backwards, down to the delta of the first. Returns the cost."""
    cdef:
        Py_ssize_t k
        double cost = 0.0
    for k in range(step.n_layers):
        cost += run(team, step, FORWARD, k, work_of(step, k))
    if step.loss == LOSS_SOFTMAX:
        cost += run(team, step, WHOLE_ROWS_LOSS, 0, 0.0)
    for k in range(step.n_layers - 1, 0, -1):
        cost += run(team, step, BACKWARD, k, work_of(step, k))
    return cost


cdef double batch(Team team, Step *step, floating *workspace, Py_ssize_t workspace_rows,
                  const double *weights, double *weight) noexcept nogil:
    """Cost of a batch without the L2 term, and the weight of its rows; takes the step."""
    cdef:
        Py_ssize_t i, k, m = step.m
        # Behind the blocks of the layers: one number a row, and one a unit.
        floating *scale = workspace + workspace_rows * workspace_width(step.net, step.n_layers)
        double total = 0.0, cost, work = 0.0
    step.workspace, step.scale, step.scratch = workspace, scale, scale + workspace_rows
    step.moved = scale + workspace_rows + widest(step.net, step.n_layers)
    for i in range(m):
        total += 1.0 if weights == NULL else weights[step.rows[i]]
    for i in range(m):
        scale[i] = 0.0 if total == 0.0 else (
            (1.0 if weights == NULL else weights[step.rows[i]]) / total)
    weight[0] = total
    run(team, step, NOISE, 0, 8.0 * m * step.net[0].n_in)
    cost = up_and_down(team, step)
    if step.adversarial_radius > 0 and isfinite(cost):
        run(team, step, MOVE, 0, work_of(step, 0))
        cost = up_and_down(team, step)
    if isfinite(cost):
        for k in range(step.n_layers):
            work += work_of(step, k)
        run(team, step, GRADIENT, 0, work)
    return cost


cdef double work_of(const Step *step, Py_ssize_t k) noexcept nogil:
    """Multiplications of a batch and the matrix of layer k."""
    return <double> step.m * step.net[k].n_in * step.net[k].n_out


cdef Py_ssize_t widest(const Layer *net, Py_ssize_t n_layers) noexcept nogil:
    """Units of the widest layer."""
    cdef Py_ssize_t k, n_out = 0
    for k in range(n_layers):
        n_out = max(n_out, net[k].n_out)
    return n_out


cdef Py_ssize_t workspace_width(const Layer *net, Py_ssize_t n_layers) noexcept nogil:
    """Columns of the workspace that the inputs and deltas of the layers take."""
    cdef Py_ssize_t k, width = 0
    for k in range(n_layers):
        width += net[k].n_in + net[k].n_out
    return width


# ---- what Python calls ----------------------------------------------------------

cdef void describe(Step *step, const Layer[::1] layers, Objective objective,
                   Py_ssize_t n_params, uint64_t key):
    step.net, step.n_layers, step.n_params = &layers[0], layers.shape[0], n_params
    step.loss, step.alpha = objective.loss, objective.alpha
    step.sparse_layer = objective.sparse_layer
    step.sparsity_target = objective.sparsity_target
    step.sparsity_penalty = objective.sparsity_penalty
    step.adversarial_radius = objective.adversarial_radius
    step.low, step.high = first(objective.low), first(objective.high)
    step.key = key
    step.learning_rate = step.max_norm = 0.0
    step.solver = _PLAIN_SGD


cdef void describe_solver(Step *step, Solver solver):
    step.solver, step.nesterov, step.momentum = solver.kind, solver.nesterov, solver.momentum
    step.beta_1, step.beta_2, step.epsilon = solver.beta_1, solver.beta_2, solver.epsilon
    step.learning_rate, step.max_norm = solver.learning_rate, solver.max_norm


def train(const Layer[::1] layers, Objective objective, Solver solver, Team team,
          floating[:, ::1] buffers, floating[::1] workspace,
          const floating[:, ::1] X, const floating[:, ::1] target,
          const int64_t[::1] rows, const int64_t[::1] ids, const double[::1] weights,
          Py_ssize_t batch_size, uint64_t key):
    """Take a step for each batch of ``batch_size`` of `rows`, in their order.

    Parameters
    ----------
    layers, objective, solver
        Of the network; ``solver.step`` counts on.
    team : Team
        Who does it. The same number of threads gives the same bits.
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
        Step step
        Py_ssize_t start, n = rows.shape[0], n_batches = 0
        double total = 0.0, total_weight = 0.0, cost, weight = 0.0
        const double *weights_ = first(weights)
    _check(layers, objective, batch_size, workspace.shape[0], X.shape[1], target.shape[1], True)
    if buffers.shape[0] < solver.n_buffers or ids.shape[0] != n:
        raise ValueError("buffers or ids are too short")
    describe(&step, layers, objective, buffers.shape[1], key)
    describe_solver(&step, solver)
    step.is_float = floating is float
    step.params = &buffers[0, 0]
    step.gradient = NULL if solver.kind == _PLAIN_SGD else &buffers[1, 0]
    step.X, step.target = &X[0, 0], &target[0, 0]
    with nogil:
        start = 0
        while start < n:
            step.m = min(batch_size, n - start)
            step.rows, step.ids = &rows[start], &ids[start]
            step.bias_correction = sqrt(1.0 - pow(solver.beta_2, solver.step + 1)) / (
                1.0 - pow(solver.beta_1, solver.step + 1))
            cost = batch(team, &step, &workspace[0], batch_size, weights_, &weight)
            if not isfinite(cost):
                total = NAN
                break
            solver.step += 1
            total += cost * weight
            total_weight += weight
            n_batches += 1
            if n_batches % BATCHES_BETWEEN_SIGNALS == 0:
                with gil:
                    PyErr_CheckSignals()
            start += step.m
    return total, total_weight


def loss_and_gradient(const Layer[::1] layers, Objective objective, Team team,
                      floating[::1] params, floating[::1] gradient, floating[::1] workspace,
                      const floating[:, ::1] X, const floating[:, ::1] target,
                      const int64_t[::1] rows, const int64_t[::1] ids,
                      const double[::1] weights, uint64_t key):
    """Cost of one batch, L2 term included; its gradient goes to `gradient` (OUT)."""
    cdef:
        Step step
        Py_ssize_t k, j, start, n_rows = rows.shape[0]
        const double *weights_ = first(weights)
        double cost, weight = 0.0
    _check(layers, objective, n_rows, workspace.shape[0], X.shape[1], target.shape[1], True)
    if ids.shape[0] != n_rows or gradient.shape[0] != params.shape[0]:
        raise ValueError("ids or gradient is too short")
    describe(&step, layers, objective, params.shape[0], key)
    step.is_float = floating is float
    step.params, step.gradient = &params[0], &gradient[0]
    step.X, step.target = &X[0, 0], &target[0, 0]
    step.rows, step.ids, step.m = &rows[0], &ids[0], n_rows
    with nogil:
        cost = batch(team, &step, &workspace[0], n_rows, weights_, &weight)
        for k in range(step.n_layers):
            if layers[k].tied:
                continue
            start = layers[k].weight
            for j in range(start, start + layers[k].n_in * layers[k].n_out):
                cost += 0.5 * objective.alpha * params[j] * params[j]
                gradient[j] += objective.alpha * params[j]
    return cost


# What the parts have in common when nothing is learned: each has its share of the rows.
cdef struct Rows:
    const Layer *net
    Py_ssize_t n_layers
    bint is_float
    const void *params
    void *workspace
    Py_ssize_t workspace_size   # of each part, for so many rows
    Py_ssize_t workspace_rows
    Py_ssize_t n
    const void *X
    int loss
    const void *target          # NULL: the outputs are asked for, not the losses
    void *outputs
    double *losses


cdef void share_of_rows(void *context, int part, int n_parts) noexcept nogil:
    cdef Rows *rows = <Rows *> context
    cdef Py_ssize_t start = rows.n * part // n_parts, stop = rows.n * (part + 1) // n_parts
    cdef Py_ssize_t m
    while start < stop:
        m = min(rows.workspace_rows, stop - start)
        if rows.is_float:
            some_rows[float](rows, <const float *> rows.params, part, start, m)
        else:
            some_rows[double](rows, <const double *> rows.params, part, start, m)
        start += m


cdef void some_rows(const Rows *rows, const floating *params, int part, Py_ssize_t start,
                    Py_ssize_t m) noexcept nogil:
    """m rows through all layers, without noise, to their outputs or losses."""
    cdef:
        const Layer *net = rows.net
        Py_ssize_t i, k, top = rows.n_layers - 1, n_out = net[top].n_out
        Span units
        floating *workspace = <floating *> rows.workspace + part * rows.workspace_size
        const floating *x = <const floating *> rows.X + start * net[0].n_in
        const floating *target = <const floating *> rows.target
        const floating *bias = params + net[top].bias
        floating *z = NULL
    for k in range(rows.n_layers):
        units.start, units.size = 0, net[k].n_out
        if k < top:
            z = workspace + m * net[k + 1].input
        elif target == NULL:
            z = <floating *> rows.outputs + start * n_out
        else:
            z = workspace + m * net[top].delta
        forward[floating](net, rows.n_layers, k, params, m, units, x, z)
        x = z
    if target == NULL:
        activate[floating](net[top].activation, m, n_out, n_out, bias, z)
        return
    for i in range(m):
        rows.losses[start + i] = row_loss[floating](
            rows.loss, net[top].activation, n_out, 1, bias, target + (start + i) * n_out,
            z + i * n_out)


cdef void describe_rows(Rows *rows, const Layer[::1] layers, Team team,
                        Py_ssize_t workspace_size, Py_ssize_t workspace_rows):
    rows.net, rows.n_layers = &layers[0], layers.shape[0]
    rows.workspace_size, rows.workspace_rows = workspace_size // team.n_threads, workspace_rows
    rows.target, rows.outputs, rows.losses = NULL, NULL, NULL


def outputs(const Layer[::1] layers, Team team, const floating[::1] params,
            floating[::1] workspace, Py_ssize_t workspace_rows,
            const floating[:, ::1] X, floating[:, ::1] out):
    """out (OUT, shape (n_rows, n_out)) := the output of the last layer for the rows of X.

    The workspace has as many equal parts as the team has threads, for ``workspace_rows`` each.
    """
    cdef Rows rows
    describe_rows(&rows, layers, team, workspace.shape[0], workspace_rows)
    _check(layers, None, workspace_rows, rows.workspace_size, X.shape[1], out.shape[1])
    if X.shape[0] == 0:
        return
    rows.is_float, rows.params, rows.workspace = floating is float, &params[0], &workspace[0]
    rows.X, rows.n, rows.outputs = &X[0, 0], X.shape[0], &out[0, 0]
    with nogil:
        team.run(share_of_rows, &rows, team.n_threads)


def row_losses(const Layer[::1] layers, Objective objective, Team team,
               const floating[::1] params, floating[::1] workspace, Py_ssize_t workspace_rows,
               const floating[:, ::1] X, const floating[:, ::1] target, double[::1] out):
    """out (OUT, shape (n_rows,)) := the loss of each row, without noise and penalties."""
    cdef Rows rows
    describe_rows(&rows, layers, team, workspace.shape[0], workspace_rows)
    _check(layers, objective, workspace_rows, rows.workspace_size, X.shape[1], target.shape[1])
    if X.shape[0] == 0:
        return
    rows.is_float, rows.params, rows.workspace = floating is float, &params[0], &workspace[0]
    rows.X, rows.n, rows.losses = &X[0, 0], X.shape[0], &out[0]
    rows.loss, rows.target = objective.loss, &target[0, 0]
    with nogil:
        team.run(share_of_rows, &rows, team.n_threads)


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
            Py_ssize_t n_in, Py_ssize_t n_out, bint learns=False):
    """What would otherwise read or write outside an array."""
    cdef Py_ssize_t k, n_layers = layers.shape[0], width = 0, least
    for k in range(n_layers):
        # A slice of a table keeps the places of the whole network.
        width = max(width, layers[k].input + layers[k].n_in, layers[k].delta + layers[k].n_out)
    least = rows * (width + 1) + widest(&layers[0], n_layers)
    if learns and objective.adversarial_radius > 0:
        least += rows * layers[0].n_in
    if rows < 1 or size < least:
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
