"""Forward pass, loss, gradient and one epoch of stochastic gradient descent.

The kernel does not depend on scikit-learn, and does not allocate memory. The caller provides

``layers``
    The table of the network, an array of dtype `LAYER` made by `skae._network.Network`: for
    each layer its sizes, the positions of its weights and bias in a flat buffer, and the
    positions of its input and its delta in the workspace.
``buffers`` (n_buffers, n_params)
    Row 0 holds the parameters, the others the moments of the solver: none for plain SGD,
    the velocity for momentum, both moments for Adam. All share one layout.
``gradient`` (n_params,)
    Scratch in the same layout, most of which is never accessed; empty for plain SGD, which
    writes the gradient directly into the parameters.
``workspace``
    The result of ``Network.workspace(rows)``, for batches of up to `rows` rows.

The matrix of a layer is stored by output unit, or *transposed*, by input unit. In a tied pair, the
later layer uses the matrix of the earlier one, its `partner`, transposed. Its input and the delta
of the partner are adjacent in the workspace, and so are its delta and the input of the partner.
Therefore both terms of the gradient are one product: ``[D_k; A_j]^T [A_k; D_j]``.

If few units of a layer are active, as in a top-k code, and the rows of a matrix belong to them,
its products only use the lists of active units. So do those of the first layer with the features
of sparse samples that are not zero. The other elements of codes and deltas are zeros.

A step is a sequence of operations, see `take_step` and `forward_backward_smooth`. A team of
threads does each operation in parts. A part is a range of columns (of rows, for the corruption):
first its product, with single-threaded BLAS, then the elementwise loops, while the block is still
in the cache.
"""

import numpy

from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from libc.limits cimport INT_MAX
from libc.math cimport NAN, isfinite, log, pow, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from skae._kernel._blas cimport gemm
from skae._kernel._team cimport TEAM_MOST, Team

cdef extern from "_elementwise.h" nogil:
    enum:
        ACT_TOP_K, ACT_SOFTMAX
        LOSS_CROSS_ENTROPY, LOSS_SOFTMAX
        NOISE_GAUSSIAN, NOISE_SALT_AND_PEPPER, NOISE_SWAP, NOISE_VARIABLE_GAUSSIAN
        SOLVER_PLAIN_SGD, SOLVER_MOMENTUM, SOLVER_ADAM
    const char *ACTIVATION_NAMES
    const char *LOSS_NAMES
    const char *NOISE_NAMES
    const char *SOLVER_NAMES
    ctypedef struct CorruptionSettings "corruption_settings":
        int kind
        double level
        const double *low
        const double *high
        const double *scale
        const void *pool
        Py_ssize_t n_pool
    uint64_t layer_key(uint64_t key, uint64_t layer, uint64_t row)
    # Macros that choose between float and double; C checks the arguments in place of `...`.
    void activate(int kind, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, ...)
    void activation_backward(int kind, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, ...)
    bint list_nonzero(Py_ssize_t n, Py_ssize_t most, ...)
    void keep_largest(Py_ssize_t n, Py_ssize_t k, ...)
    void sum_active(Py_ssize_t m, Py_ssize_t n, ...)
    void dot_active(Py_ssize_t m, Py_ssize_t n, ...)
    void add_outer_active(Py_ssize_t m, Py_ssize_t n, ...)
    double inverse_share(Py_ssize_t n, ...)
    double squared_error(int activation, Py_ssize_t n, ...)
    double cross_entropy(Py_ssize_t n, ...)
    double softmax_loss(Py_ssize_t n, ...)
    void predict(int loss, Py_ssize_t n, ...)
    double divergence(int loss, Py_ssize_t n, ...)
    double uncertainty(int loss, Py_ssize_t n, ...)
    void start_direction(uint64_t key, Py_ssize_t n, ...)
    void displace(Py_ssize_t n, double length, ...)
    void dropout(double level, uint64_t key, Py_ssize_t first, Py_ssize_t n, ...)
    void corrupt(const CorruptionSettings *settings, uint64_t key, Py_ssize_t n, ...)
    void perturb(Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, double radius, ...)
    void scale_numbers(Py_ssize_t n, ...)
    void add_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, ...)
    double sparsity(int activation, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, ...)
    void limit_norms(Py_ssize_t m, Py_ssize_t n, double limit, ...)
    void limit_column_norms(Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride, double limit, ...)
    void momentum_update(Py_ssize_t size, ...)
    void adam_update(Py_ssize_t size, ...)

# A record of the table of the network.
cdef struct Layer:
    int64_t n_in
    int64_t n_out
    int64_t weight      # position in the flat buffer: (n_out, n_in), or transposed
    int64_t bias        # position in the flat buffer: (n_out,)
    int64_t partner     # the other layer with the same matrix, or -1
    int64_t transposed  # whether the matrix is stored by input unit
    int64_t activation
    int64_t n_active    # of a top-k code: number of units that stay active
    double dropout      # of the input, in training; ignored in the first layer
    double learning_rate_scale
    int64_t input       # position in the workspace, in columns: (rows, n_in)
    int64_t delta       # position in the workspace, in columns: (rows, n_out)
    int64_t active      # of its lists of active units, in columns: (rows, n_active + 1)
    int64_t n_nonzero   # of the first layer: maximum number of nonzero features; 0: uses all
    int64_t nonzero     # position of the lists of these, in columns: (rows, n_nonzero + 1)

cdef Layer one_layer

LAYER = numpy.asarray(<Layer[:1]> &one_layer).dtype


cdef numbered(const char *names):
    """Return the numbers of _elementwise.h by name; the name "none" becomes None."""
    return {None if name == "none" else name: number
            for number, name in enumerate(names.decode().split())}


ACTIVATIONS, LOSSES = numbered(ACTIVATION_NAMES), numbered(LOSS_NAMES)
NOISES, SOLVERS = numbered(NOISE_NAMES), numbered(SOLVER_NAMES)

cdef int STEPS_BETWEEN_SIGNALS = 64  # number of steps between checks for Ctrl-C

# Parts are multiples of this number of columns: a cache line of floats, the longest vector.
cdef Py_ssize_t UNIT = 16

# Size in bytes of the gradient that is computed at once: it fits into the second cache.
cdef Py_ssize_t UPDATE_BYTES = 2**19

# Divisor of the initial displacement of a moved row; value added to a mean before its logarithm.
cdef double FIRST_PART = 16.0, LEAST = 1e-8

# Products with a top-k code use the lists of active units if it has this many times as many units.
cdef Py_ssize_t SPARSE_RATIO = 8

# Minimum number of multiplications in a part, i.e. some microseconds of work for a thread.
cdef double MIN_WORK_PER_PART = 2.0**17


# ---- arguments ------------------------------------------------------------------

cdef check_name(name, dict table, str what):
    if name not in list(table):
        raise ValueError(f"{what} must be one of {list(table)}, got {name!r}")


cdef const double *first(const double[::1] values) noexcept nogil:
    if values is None:
        return NULL
    return &values[0]


cdef struct ObjectiveSettings:
    int loss, sparse_layer
    double alpha, sparsity_target, sparsity_penalty, adversarial_radius, smoothness_radius
    double entropy_weight, balance_weight
    const double *class_shares


cdef class Objective:
    """The objective function: the mean loss of the rows plus the penalties."""
    cdef readonly object loss   # a name of LOSSES
    cdef public double alpha    # adds alpha / 2 times the squared weights (not the biases)
    cdef public int sparse_layer    # index of the layer with the sparsity penalty, or -1
    # Adds the penalty times the sum over units of KL(target || mean activation).
    cdef public double sparsity_target, sparsity_penalty
    # Takes the loss at x + radius * sign(dloss/dx): the fast gradient sign method (FGSM) of
    # Goodfellow, Shlens and Szegedy 2015.
    cdef public double adversarial_radius
    # Adds KL(p(x) || p(x + r)), where p are the predicted class probabilities, and r has this
    # length and the direction that changes them most: virtual adversarial training (VAT) of
    # Miyato, Maeda, Koyama and Ishii 2018. p(x) has no gradient.
    cdef public double smoothness_radius
    # With smoothness, the weights of the mean entropy of p(x), and of
    # KL(mean of p(x) || class_shares), for the samples without a target.
    cdef public double entropy_weight, balance_weight
    cdef readonly const double[::1] class_shares    # one per output; [1 - s, s] for one

    def __init__(self, loss, *, double alpha=0.0, int sparse_layer=-1,
                 double sparsity_target=0.05, double sparsity_penalty=0.0,
                 double adversarial_radius=0.0, double smoothness_radius=0.0,
                 double entropy_weight=0.0, double balance_weight=0.0, class_shares=None):
        check_name(loss, LOSSES, "loss")
        self.loss, self.alpha, self.adversarial_radius = loss, alpha, adversarial_radius
        self.smoothness_radius, self.entropy_weight = smoothness_radius, entropy_weight
        self.balance_weight, self.class_shares = balance_weight, class_shares
        self.sparse_layer = sparse_layer if sparsity_penalty > 0 else -1
        self.sparsity_target, self.sparsity_penalty = sparsity_target, sparsity_penalty

    cdef ObjectiveSettings settings(self):
        return ObjectiveSettings(
            LOSSES[self.loss], self.sparse_layer, self.alpha, self.sparsity_target,
            self.sparsity_penalty, self.adversarial_radius, self.smoothness_radius,
            self.entropy_weight, self.balance_weight, first(self.class_shares))

    def __reduce__(self):  # views are not pickled
        shares = None if self.class_shares is None else numpy.asarray(self.class_shares)
        return _objective, (
            self.loss, self.alpha, self.sparse_layer, self.sparsity_target, self.sparsity_penalty,
            self.adversarial_radius, self.smoothness_radius, self.entropy_weight,
            self.balance_weight, shares)


def _objective(loss, alpha, sparse_layer, sparsity_target, sparsity_penalty, adversarial_radius,
               smoothness_radius, entropy_weight, balance_weight, class_shares):
    return Objective(
        loss, alpha=alpha, sparse_layer=sparse_layer, sparsity_target=sparsity_target,
        sparsity_penalty=sparsity_penalty, adversarial_radius=adversarial_radius,
        smoothness_radius=smoothness_radius, entropy_weight=entropy_weight,
        balance_weight=balance_weight, class_shares=class_shares)


cdef struct SolverSettings:
    int kind
    bint nesterov
    double learning_rate, momentum, beta_1, beta_2, epsilon, max_norm


cdef class Solver:
    """The solver: computes a step from a gradient."""
    cdef readonly object kind           # a name of SOLVERS
    cdef public double learning_rate    # may change between two calls of `train`
    cdef public bint nesterov
    cdef public double momentum, beta_1, beta_2, epsilon
    cdef public double max_norm         # of the weights into a unit; 0 means no limit

    def __init__(self, kind, *, double learning_rate, double momentum=0.0,
                 bint nesterov=False, double beta_1=0.9, double beta_2=0.999,
                 double epsilon=1e-8, double max_norm=0.0):
        check_name(kind, SOLVERS, "solver")
        self.kind, self.learning_rate, self.max_norm = kind, learning_rate, max_norm
        self.momentum, self.nesterov = momentum, nesterov
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    cdef SolverSettings settings(self):
        return SolverSettings(
            SOLVERS[self.kind], self.nesterov, self.learning_rate, self.momentum,
            self.beta_1, self.beta_2, self.epsilon, self.max_norm)

    @property
    def n_buffers(self):
        """Number of rows of `buffers`: the parameters and the moments."""
        return {"plain_sgd": 1, "momentum": 2, "adam": 3}[self.kind]

    @property
    def needs_gradient(self):
        """Whether the gradient needs separate memory."""
        return self.kind != "plain_sgd"


cdef class Corruption:
    """The noise on the input of the network, in training only."""
    cdef readonly object kind   # a name of NOISES, or None
    cdef readonly double level  # probability of a hit, or factor of `scale`; or their maximum
    cdef readonly const double[::1] low, high   # extremes of each feature, for salt and pepper
    cdef readonly const double[::1] scale       # standard deviation of each, for Gaussian noise
    cdef readonly object pool   # samples from which 'swap' takes values, of the type of X

    def __init__(self, kind=None, double level=0.0, *, low=None, high=None, scale=None,
                 pool=None):
        check_name(kind, NOISES, "corruption")
        self.kind, self.level, self.low, self.high = kind, level, low, high
        self.scale, self.pool = scale, pool

    def __reduce__(self):  # views are not pickled
        views = [None if view is None else numpy.asarray(view)
                 for view in [<object> self.low, <object> self.high, <object> self.scale]]
        return _corruption, (self.kind, self.level, *views, self.pool)


def _corruption(kind, level, low, high, scale, pool):
    return Corruption(kind, level, low=low, high=high, scale=scale, pool=pool)


cdef CorruptionSettings settings_of(Corruption noise, const floating[:, ::1] X) except *:
    """Return the settings for the kernel; check that the noise fits the features of X."""
    cdef int kind = NOISES[noise.kind]
    cdef Py_ssize_t n_features = X.shape[1], n_pool = 0
    cdef const floating[:, ::1] pool
    cdef const void *values = NULL
    if kind == NOISE_SALT_AND_PEPPER and not (
            is_long(noise.low, n_features) and is_long(noise.high, n_features)):
        raise ValueError("salt-and-pepper noise needs the extremes of each feature")
    if kind in (NOISE_GAUSSIAN, NOISE_VARIABLE_GAUSSIAN) and not is_long(noise.scale, n_features):
        raise ValueError("Gaussian noise needs the standard deviation of each feature")
    if kind == NOISE_SWAP:
        pool = noise.pool
        if pool is None or pool.shape[0] == 0 or pool.shape[1] != n_features:
            raise ValueError("swap noise needs a pool of samples with these features")
        values, n_pool = &pool[0, 0], pool.shape[0]
    return CorruptionSettings(kind, noise.level, first(noise.low), first(noise.high),
                              first(noise.scale), values, n_pool)


cdef bint is_long(const double[::1] values, Py_ssize_t n):
    return values is not None and values.shape[0] == n


cdef class Problem:
    """The network and the settings of its training; made once per fit."""
    cdef readonly const Layer[::1] layers
    cdef readonly Objective objective
    cdef readonly Solver solver
    # An object with the attributes `buffers`, see above, and `step`, the number of steps taken so
    # far (for Adam's bias correction). Training changes both.
    cdef readonly object state
    cdef readonly Corruption corruption

    def __init__(self, const Layer[::1] layers not None, Objective objective not None,
                 Solver solver not None, state, Corruption corruption=None):
        self.layers, self.objective, self.solver = layers, objective, solver
        self.state, self.corruption = state, corruption or Corruption()


cdef class Batches:
    """The samples of one call, and their division into mini-batches."""
    cdef readonly object X          # (n_rows, n_features); missing values (nan) are read as zero
    # (n_rows, n_outputs); X itself for an autoencoder. Missing values have no loss; that of the
    # other values of the row is scaled up accordingly.
    cdef readonly object target
    cdef readonly object rows       # int64: indices into X, target and weights, in order of use
    cdef readonly object ids        # int64: numbers of these rows that determine their noise
    # (n_rows,), float64, relative to the mean weight of all samples, or None for ones. The loss of
    # a row has the factor (weight / number of rows) in its mini-batch.
    cdef readonly object weights
    cdef readonly Py_ssize_t size   # of a mini-batch; the last one may have fewer rows
    cdef readonly uint64_t key      # of the noise; different in each epoch
    # Number of rows at the beginning of each mini-batch that have a target; the loss is their
    # mean. The targets of the others are not read. If it is negative, all rows have a target.
    cdef readonly Py_ssize_t n_labelled

    def __init__(self, X, target, rows, ids, weights, Py_ssize_t size, uint64_t key,
                 Py_ssize_t n_labelled=-1):
        self.X, self.target, self.rows, self.ids, self.weights = X, target, rows, ids, weights
        self.size, self.key = size, key
        self.n_labelled = n_labelled


# ---- one step -------------------------------------------------------------------

cdef enum Operation:
    WEIGH, CORRUPT, FORWARD, KEEP, LOSS, BACKWARD, PERTURB, UPDATE, LIMIT
    PREDICT, BEGIN_MOVE, SLOPE, MOVE, DIVERGE, SETTLE   # of samples moved to smooth predictions

cdef struct Step:
    const Layer *net
    Py_ssize_t n_layers, n_params
    ObjectiveSettings objective
    SolverSettings solver
    CorruptionSettings corruption
    bint is_float           # the type behind the pointers without one: float or double
    void *params
    void *gradient          # NULL: directly into the parameters
    void *workspace
    void *scale             # factor of the loss of each row: its weight / number of rows
    void *slope             # dloss/dx, for adversarial rows: as large as the input of a batch
    void *predicted         # probabilities of the classes, for moved rows
    void *scratch           # one number per unit of the widest layer
    const void *X
    const void *target
    const double *weights   # NULL: all rows have the same weight
    uint64_t key
    # this batch
    const int64_t *rows
    const int64_t *ids
    Py_ssize_t m
    Py_ssize_t n_labelled   # of these, the number of rows with a target
    Py_ssize_t height       # rows of the workspace: m, or 2 m with moved rows at the end
    double weight           # mean weight of the rows
    double bias_correction  # of Adam's moments
    # this operation and its rows
    Operation operation
    Py_ssize_t k
    Py_ssize_t start
    Py_ssize_t count
    double[TEAM_MOST] sums  # partial costs

# A range of columns.
cdef struct Span:
    Py_ssize_t start
    Py_ssize_t size


cdef double take_step(Team team, Step *step) noexcept nogil:
    """Train on a batch. Returns the cost without the L2 term; no step if it is not finite."""
    cdef double cost, work = 0.0
    cdef Py_ssize_t k
    cdef bint smooth = step.objective.smoothness_radius > 0
    step.height = (1 + smooth) * step.m
    step.start, step.count = 0, step.m
    step.weight = run(team, step, WEIGH, 0, 1.0 * step.m * step.net[step.n_layers - 1].n_out)
    if run(team, step, CORRUPT, 0, 8.0 * step.m * step.net[0].n_in) > 0:
        return NAN  # the lists of features are too short
    if smooth:
        cost = forward_backward_smooth(team, step)
    else:
        cost = forward_backward(team, step)
        if step.objective.adversarial_radius > 0 and isfinite(cost):
            run(team, step, PERTURB, 0, work_of(step, 0))
            cost = forward_backward(team, step)
    if isfinite(cost):
        step.start, step.count = 0, step.height
        for k in range(step.n_layers):
            work += work_of(step, k)
        run(team, step, UPDATE, 0, work)
        if step.solver.max_norm > 0:
            for k in range(step.n_layers):
                if step.net[k].transposed and owns_matrix(step.net, k):
                    run(team, step, LIMIT, k, work_of(step, k) / step.count)
    return cost


cdef double forward_backward(Team team, Step *step) noexcept nogil:
    """Run all layers forwards, and backwards to the delta of the first. Returns the cost."""
    cdef Py_ssize_t top = step.n_layers - 1
    cdef double cost = run_forwards(team, step)
    if step.objective.loss == LOSS_SOFTMAX:  # needs all columns of the output
        cost += run(team, step, LOSS, top, 0.0)
    return cost + run_backwards(team, step)


cdef double forward_backward_smooth(Team team, Step *step) noexcept nogil:
    """The same for virtual adversarial training: with rows, and moved copies of the rows.

    A row is first moved a short distance in a random direction. The gradient of the divergence of
    the predictions there gives its final direction: one step of the power method. Missing values
    stay zero. Adversarial training perturbs rows with a target after their copies were moved.
    """
    cdef Py_ssize_t m = step.m, top = step.n_layers - 1
    cdef double cost, per_row = 8.0 * m * step.net[0].n_in
    run_forwards(team, step)
    run(team, step, PREDICT, top, 0.0)
    run(team, step, BEGIN_MOVE, 0, per_row)
    step.start = m
    run_forwards(team, step)
    run(team, step, DIVERGE, top, 0.0)
    run_backwards(team, step)
    run(team, step, SLOPE, 0, work_of(step, 0))
    run(team, step, MOVE, 0, per_row)
    run_forwards(team, step)
    cost = run(team, step, DIVERGE, top, 0.0)
    step.start = 0
    if step.objective.adversarial_radius > 0 and isfinite(cost):
        run(team, step, LOSS, top, 0.0)
        run_backwards(team, step)
        run(team, step, PERTURB, 0, work_of(step, 0))
        run_forwards(team, step)
    cost += run(team, step, LOSS, top, 0.0)
    cost += run(team, step, SETTLE, top, 0.0)
    step.count = step.height
    return cost + run_backwards(team, step)


cdef double run_forwards(Team team, Step *step) noexcept nogil:
    cdef Py_ssize_t k
    cdef double cost = 0.0
    for k in range(step.n_layers):
        cost += run(team, step, FORWARD, k, work_of(step, k))
        if step.net[k].activation == ACT_TOP_K:
            run(team, step, KEEP, k, 8.0 * step.count * step.net[k].n_out)
    return cost


cdef double run_backwards(Team team, Step *step) noexcept nogil:
    cdef Py_ssize_t k
    cdef double cost = 0.0
    for k in range(step.n_layers - 1, 0, -1):
        cost += run(team, step, BACKWARD, k, work_of(step, k))
    return cost


cdef double work_of(const Step *step, Py_ssize_t k) noexcept nogil:
    """Number of multiplications in the product of the rows and the matrix of layer k."""
    return <double> step.count * step.net[k].n_in * step.net[k].n_out


cdef double run(Team team, Step *step, Operation operation, Py_ssize_t k,
                double work) noexcept nogil:
    """Do an operation with `work` multiplications. Returns the sum of its partial costs."""
    cdef int part, n_parts = <int> min(<double> team.n_threads, 1.0 + work / MIN_WORK_PER_PART)
    cdef double total = 0.0
    step.operation, step.k = operation, k
    team.run(do_part, step, n_parts)
    for part in range(n_parts):
        total += step.sums[part]
    return total


cdef void do_part(void *context, int part, int n_parts) noexcept nogil:
    cdef Step *step = <Step *> context
    if step.is_float:
        step.sums[part] = part_of(step, <float *> step.params, part, n_parts)
    else:
        step.sums[part] = part_of(step, <double *> step.params, part, n_parts)


cdef double part_of(Step *step, floating *params, int part, int n_parts) noexcept nogil:
    """Do a part of the operation. Returns its partial cost."""
    cdef:
        floating *workspace = <floating *> step.workspace
        floating *z
        Py_ssize_t k = step.k, top = step.n_layers - 1
        Span inputs = span_of(step.net[k].n_in, part, n_parts)
        Span units = span_of(step.net[k].n_out, part, n_parts)
        bint smooth = step.objective.smoothness_radius > 0
    if step.operation == WEIGH:
        return weigh(step, span_of(step.m, part, n_parts), <floating *> step.scale)
    elif step.operation == CORRUPT:
        return corrupt_input(step, span_of(step.m, part, n_parts), workspace)
    elif step.operation == FORWARD and units.size > 0:
        z = outputs_of(step, k, workspace)
        forward(step.net, step.n_layers, k, params, step.count, units,
                <const floating *> inputs_of(step, k, workspace),
                lists_of(step, k - 1, workspace) if adds_active(step.net, k) else NULL, z)
        if k < top:
            if step.net[k].activation != ACT_TOP_K:
                drop(step, k + 1, units, z)
        elif step.objective.loss != LOSS_SOFTMAX and not smooth:
            return losses(step, params, units, z)
    elif step.operation == KEEP:
        keep(step, k, span_of(step.count, part, n_parts), workspace)
    elif step.operation == LOSS:
        return losses(step, params, units, deltas_of(step, k, workspace))
    elif step.operation == BACKWARD and inputs.size > 0:
        return backward(step, k, params, inputs, workspace)
    elif step.operation == PERTURB and inputs.size > 0:
        perturb_input(step, params, inputs, workspace)
    elif step.operation == UPDATE:
        for k in range(step.n_layers):
            update_bias(step, k, params, span_of(step.net[k].n_out, part, n_parts), workspace)
            if owns_matrix(step.net, k):
                update_weights(step, k, params, span_of(n_rows_of(step.net, k), part, n_parts),
                               workspace)
    elif step.operation == LIMIT and units.size > 0:
        limit_column_norms(step.net[k].n_in, units.size, step.net[k].n_out, step.solver.max_norm,
                           params + step.net[k].weight + units.start,
                           <floating *> step.scratch + units.start)
    elif step.operation == BEGIN_MOVE or step.operation == MOVE:
        move(step, span_of(step.m, part, n_parts), workspace)
    elif step.operation == SLOPE and inputs.size > 0:
        input_gradient(step, 0, params, inputs, workspace, <floating *> step.slope)
    elif step.operation == PREDICT:
        for k in range(step.m):
            predict(step.objective.loss, step.net[top].n_out, params + step.net[top].bias,
                    deltas_of(step, top, workspace) + k * step.net[top].n_out,
                    predicted_of(step, k, workspace))
    elif step.operation == DIVERGE:
        return diverge(step, params, workspace)
    elif step.operation == SETTLE:
        return settle(step, workspace)
    return 0.0


cdef floating *inputs_of(const Step *step, Py_ssize_t k, floating *workspace) noexcept nogil:
    """Input of layer k, from the first row of the operation on."""
    return (workspace + step.height * step.net[k].input
            + step.start * step.net[k].n_in)


cdef floating *deltas_of(const Step *step, Py_ssize_t k, floating *workspace) noexcept nogil:
    return (workspace + step.height * step.net[k].delta
            + step.start * step.net[k].n_out)


cdef floating *outputs_of(const Step *step, Py_ssize_t k, floating *workspace) noexcept nogil:
    """Place of the output of layer k: the input of the next layer, or the delta of the last."""
    if k == step.n_layers - 1:
        return deltas_of(step, k, workspace)
    return inputs_of(step, k + 1, workspace)


cdef floating *lists_of(const Step *step, Py_ssize_t k, floating *workspace) noexcept nogil:
    """Lists of the active units in the code that layer k returns; of features for k = -1."""
    return (workspace + step.height * (step.net[k].active if k >= 0 else step.net[0].nonzero)
            + step.start * list_size(step.net, k))


cdef Py_ssize_t list_size(const Layer *net, Py_ssize_t k) noexcept nogil:
    return 1 + (net[k].n_active if k >= 0 else net[0].n_nonzero)


cdef bint owns_matrix(const Layer *net, Py_ssize_t k) noexcept nogil:
    """Whether layer k does not use the matrix of its partner."""
    return not net[k].transposed or net[k].partner < 0


cdef Py_ssize_t n_rows_of(const Layer *net, Py_ssize_t k) noexcept nogil:
    """Number of rows of the matrix of layer k."""
    return net[k].n_in if net[k].transposed else net[k].n_out


cdef bint has_few_active(const Layer *layer) noexcept nogil:
    return (layer.activation == ACT_TOP_K
            and layer.n_active * SPARSE_RATIO <= layer.n_out)


cdef bint adds_active(const Layer *net, Py_ssize_t k) noexcept nogil:
    """Whether the input of layer k has few active units, which are the rows of its matrix."""
    return net[k].transposed and (net[0].n_nonzero > 0 if k == 0 else has_few_active(&net[k - 1]))


cdef bint has_active_rows(const Layer *net, Py_ssize_t k) noexcept nogil:
    """Whether the output of layer k has few active units, which are the rows of its matrix."""
    return not net[k].transposed and has_few_active(&net[k])


cdef floating *predicted_of(const Step *step, Py_ssize_t i, floating *like) noexcept nogil:
    return <floating *> step.predicted + i * step.net[step.n_layers - 1].n_out


cdef Py_ssize_t id_of(const Step *step, Py_ssize_t i) noexcept nogil:
    """Id of row i of the operation; a moved row has the id of its original."""
    i += step.start
    return step.ids[i if i < step.m else i - step.m]


cdef Span span_of(Py_ssize_t n, int part, int n_parts) noexcept nogil:
    """A part of n columns, aligned to vector width unless n is small. It may be empty."""
    cdef Py_ssize_t unit = UNIT if n >= 4 * UNIT * n_parts else 1
    cdef Py_ssize_t units = (n + unit - 1) // unit
    cdef Py_ssize_t start = min(n, units * part // n_parts * unit)
    return Span(start, min(n, units * (part + 1) // n_parts * unit) - start)


# ---- the operations, by parts ---------------------------------------------------

cdef double weigh(const Step *step, Span rows, floating *scale) noexcept nogil:
    """Set the factors of some rows. Returns their part of the mean weight.

    The weight of a row is scaled up to make up for missing values of its target.
    """
    cdef Py_ssize_t i, n_out = step.net[step.n_layers - 1].n_out
    cdef const floating *target = <const floating *> step.target
    cdef double weight, total = 0.0
    for i in range(rows.start, min(rows.start + rows.size, step.n_labelled)):
        weight = inverse_share(n_out, target + step.rows[i] * n_out) * weight_of(step, i)
        scale[i] = weight / step.n_labelled
        total += weight
    return total / step.n_labelled


cdef double weight_of(const Step *step, Py_ssize_t i) noexcept nogil:
    return 1.0 if step.weights == NULL else step.weights[step.rows[i]]


cdef Py_ssize_t corrupt_input(const Step *step, Span rows, floating *workspace) noexcept nogil:
    """Corrupt some rows of X, and store them as the input of the first layer.

    Returns the number of rows that have too many features for a list.
    """
    cdef Py_ssize_t i, n_in = step.net[0].n_in, n_nonzero = step.net[0].n_nonzero, n_failed = 0
    cdef const floating *X = <const floating *> step.X
    cdef floating *x = inputs_of(step, 0, workspace)
    cdef floating *lists = lists_of(step, -1, workspace)
    for i in range(rows.start, rows.start + rows.size):
        corrupt(&step.corruption, layer_key(step.key, 0, step.ids[i]), n_in,
                X + step.rows[i] * n_in, x + i * n_in)
        if n_nonzero > 0:
            n_failed += not list_nonzero(n_in, n_nonzero, lists + i * (n_nonzero + 1),
                                         x + i * n_in)
    return n_failed


cdef void forward(const Layer *net, Py_ssize_t n_layers, Py_ssize_t k, const floating *params,
                  Py_ssize_t m, Span units, const floating *x, const floating *lists,
                  floating *z) noexcept nogil:
    """Apply some units of layer k to x (m, n_in), and store their columns of z (m, n_out).

    For the last layer this is only the product; bias and activation are part of the loss. With
    `lists`, x is a code of which only these units are active.
    """
    cdef:
        Py_ssize_t n_in = net[k].n_in, n_out = net[k].n_out
        bint transposed = net[k].transposed
        const floating *w = params + net[k].weight + units.start * (1 if transposed else n_in)
    z += units.start
    if lists != NULL:
        sum_active(m, units.size, lists, list_size(net, k - 1), x, n_in, w, n_out, n_out, z)
    else:
        gemm[floating](False, not transposed, m, units.size, n_in, 1, x, n_in,
                       w, n_out if transposed else n_in, 0, z, n_out)
    if k < n_layers - 1:
        activate(net[k].activation, m, units.size, n_out,
                 params + net[k].bias + units.start, z)


cdef void keep(const Step *step, Py_ssize_t k, Span rows, floating *workspace) noexcept nogil:
    """Keep the largest units in some rows of the code that layer k returns."""
    cdef:
        Py_ssize_t i, n_out = step.net[k].n_out, n_active = step.net[k].n_active
        floating *z = outputs_of(step, k, workspace)
        floating *lists = lists_of(step, k, workspace)
    for i in range(rows.start, rows.start + rows.size):
        keep_largest(n_out, n_active, lists + i * (n_active + 1), z + i * n_out)
        drop_row(step, k + 1, i, Span(0, n_out), z)


cdef void drop(const Step *step, Py_ssize_t k, Span columns, floating *x) noexcept nogil:
    """Apply dropout to some columns of the input of layer k, or of its gradient."""
    cdef Py_ssize_t i
    for i in range(step.count):
        drop_row(step, k, i, columns, x)


cdef void drop_row(const Step *step, Py_ssize_t k, Py_ssize_t i, Span columns,
                   floating *x) noexcept nogil:
    if step.net[k].dropout > 0:
        dropout(step.net[k].dropout, layer_key(step.key, k, id_of(step, i)),
                columns.start, columns.size, x + columns.start + i * step.net[k].n_in)


cdef double losses(const Step *step, const floating *params, Span units,
                   floating *z) noexcept nogil:
    """Compute the weighted loss of some columns of the output; replace them by its gradient."""
    cdef:
        const Layer *top = &step.net[step.n_layers - 1]
        const floating *scale = <const floating *> step.scale
        const floating *target = <const floating *> step.target + units.start
        const floating *bias = params + top.bias + units.start
        double cost = 0.0
        Py_ssize_t i
    z += units.start
    if step.n_labelled < step.m:
        memset(z + step.n_labelled * top.n_out, 0,
               (step.m - step.n_labelled) * top.n_out * sizeof(floating))
    for i in range(step.n_labelled):
        cost += scale[i] * row_loss(
            step.objective.loss, top.activation, units.size, scale[i], bias,
            target + step.rows[i] * top.n_out, z + i * top.n_out)
    return cost


cdef double row_loss(int loss, int activation, Py_ssize_t n, floating scale,
                     const floating *bias, const floating *target,
                     floating *d) noexcept nogil:
    if loss == LOSS_CROSS_ENTROPY:
        return cross_entropy(n, scale, bias, target, d)
    if loss == LOSS_SOFTMAX:
        return softmax_loss(n, scale, bias, target, d)
    return squared_error(activation, n, scale, bias, target, d)


cdef double backward(const Step *step, Py_ssize_t k, const floating *params, Span columns,
                     floating *workspace) noexcept nogil:
    """Compute some columns of the delta of layer k - 1. Returns their sparsity penalty."""
    cdef:
        const Layer *layer = &step.net[k]
        const Layer *below = &step.net[k - 1]
        Py_ssize_t m = step.count, n_in = layer.n_in
        const floating *a = inputs_of(step, k, workspace) + columns.start
        floating *d = deltas_of(step, k - 1, workspace)
        double penalty = 0.0
    input_gradient(step, k, params, columns, workspace, d)
    if k - 1 == step.objective.sparse_layer:
        penalty = sparsity(below.activation, m, columns.size, n_in,
                           step.objective.sparsity_target, step.objective.sparsity_penalty,
                           step.weight, <const floating *> step.scale, a, d + columns.start,
                           <floating *> step.scratch + columns.start)
    drop(step, k, columns, d)
    activation_backward(below.activation, m, columns.size, n_in, 1.0 - layer.dropout, a,
                        d + columns.start)
    return penalty


cdef void input_gradient(const Step *step, Py_ssize_t k, const floating *params, Span columns,
                         floating *workspace, floating *out) noexcept nogil:
    """Compute some columns of the gradient of the loss by the input of layer k."""
    cdef:
        const Layer *layer = &step.net[k]
        Py_ssize_t m = step.count, n_in = layer.n_in, n_out = layer.n_out, first = columns.start
        const floating *w = params + layer.weight
        const floating *d = deltas_of(step, k, workspace)
    if adds_active(step.net, k):
        dot_active(m, n_out, lists_of(step, k - 1, workspace), list_size(step.net, k - 1),
                   first, columns.size, d, w, n_in, out)
    elif has_active_rows(step.net, k):
        sum_active(m, columns.size, lists_of(step, k, workspace), list_size(step.net, k), d, n_out,
                   w + first, n_in, n_in, out + first)
    elif layer.transposed:
        gemm[floating](False, True, m, columns.size, n_out, 1, d, n_out, w + first * n_out, n_out,
                       0, out + first, n_in)
    else:
        gemm[floating](False, False, m, columns.size, n_out, 1, d, n_out, w + first, n_in,
                       0, out + first, n_in)


cdef void perturb_input(const Step *step, const floating *params, Span columns,
                        floating *workspace) noexcept nogil:
    """x := x + radius * sign(dloss/dx) (FGSM), for some columns."""
    input_gradient(step, 0, params, columns, workspace, <floating *> step.slope)
    perturb(step.count, columns.size, step.net[0].n_in, step.objective.adversarial_radius,
            <const floating *> step.slope + columns.start,
            inputs_of(step, 0, workspace) + columns.start)


cdef void move(const Step *step, Span rows, floating *workspace) noexcept nogil:
    """Set some moved rows to x plus a step in their directions, which is short at first."""
    cdef:
        Py_ssize_t i, n_in = step.net[0].n_in
        floating *x = workspace + step.height * step.net[0].input
        floating *moved = x + step.m * n_in
        floating *direction = <floating *> step.slope
        double length = step.objective.smoothness_radius
        bint begins = step.operation == BEGIN_MOVE
    if begins:
        length /= FIRST_PART
    for i in range(rows.start, rows.start + rows.size):
        if begins:  # a key of its own: no layer has this number
            start_direction(layer_key(step.key, step.n_layers, step.ids[i]), n_in,
                            direction + i * n_in)
        displace(n_in, length, <const floating *> x + i * n_in,
                 <const floating *> direction + i * n_in, moved + i * n_in)


cdef double diverge(const Step *step, const floating *params,
                    floating *workspace) noexcept nogil:
    """Compute the mean divergence between the predictions of original and moved rows."""
    cdef:
        const Layer *top = &step.net[step.n_layers - 1]
        floating *z = deltas_of(step, step.n_layers - 1, workspace)
        floating scale
        double cost = 0.0
        Py_ssize_t i
    for i in range(step.m):
        scale = weight_of(step, i) / step.m
        cost += scale * divergence(step.objective.loss, top.n_out, scale, params + top.bias,
                                   <const floating *> predicted_of(step, i, workspace),
                                   z + i * top.n_out)
    return cost


cdef double settle(const Step *step, floating *workspace) noexcept nogil:
    """Compute the entropy and balance terms of the rows without a target.

    They favour confident predictions whose mean is the class shares. The gradient is added to that
    of the loss.
    """
    cdef:
        const ObjectiveSettings *objective = &step.objective
        Py_ssize_t n_out = step.net[step.n_layers - 1].n_out, i, j
        Py_ssize_t n_classes = max(2, n_out), n_rows = step.m - step.n_labelled
        floating *d = deltas_of(step, step.n_layers - 1, workspace)
        floating *mean = <floating *> step.scratch  # later the slope of the balance term
        floating *p
        double cost = 0.0, total = 0.0, weight
    memset(mean, 0, n_classes * sizeof(floating))
    for i in range(step.n_labelled, step.m):
        weight = weight_of(step, i)
        p = predicted_of(step, i, workspace)
        total += weight
        for j in range(n_out):
            mean[j + (n_out == 1)] += weight * p[j]
    if total == 0:
        return 0.0
    if n_out == 1:
        mean[0] = total - mean[1]
    for j in range(n_classes):
        weight = log((mean[j] / total + LEAST) / objective.class_shares[j])
        cost += objective.balance_weight * mean[j] / total * weight
        mean[j] = objective.balance_weight * weight
    for i in range(step.n_labelled, step.m):
        weight = weight_of(step, i)
        cost += weight / n_rows * uncertainty(
            objective.loss, n_out, objective.entropy_weight, weight / n_rows, weight / total,
            <const floating *> predicted_of(step, i, workspace), <const floating *> mean,
            d + i * n_out)
    return cost


cdef void update_bias(const Step *step, Py_ssize_t k, floating *params, Span units,
                      floating *workspace) noexcept nogil:
    """Compute the gradient of the biases of some units of layer k, and take the step."""
    cdef:
        const Layer *layer = &step.net[k]
        Py_ssize_t bias = layer.bias + units.start
        double rate = step.solver.learning_rate * layer.learning_rate_scale
        const floating *delta = workspace + step.height * layer.delta + units.start
        floating *out = <floating *> step.gradient
    if step.gradient == NULL:
        add_rows(step.height, units.size, layer.n_out, -rate, delta, params + bias)
    else:
        memset(out + bias, 0, units.size * sizeof(floating))
        add_rows(step.height, units.size, layer.n_out, 1.0, delta, out + bias)
        step_parameters(step, rate, 0.0, bias, units.size, out + bias, params)


cdef void update_weights(const Step *step, Py_ssize_t k, floating *params, Span units,
                         floating *workspace) noexcept nogil:
    """Compute the gradient of some rows of the matrix of layer k, and take the step.

    Plain SGD has no buffer for the gradient: it is added directly to the parameters, with weight
    decay. The delta of a layer is followed by its partner's input in the workspace, and its input
    by the partner's delta, so a tied pair needs one product over twice the rows.
    """
    cdef:
        const Layer *layer = &step.net[k]
        bint transposed = layer.transposed
        Py_ssize_t m = step.height, rows = m if layer.partner < 0 else 2 * m
        Py_ssize_t n = layer.n_out if transposed else layer.n_in, n_units = n_rows_of(step.net, k)
        Py_ssize_t weight = layer.weight + units.start * n
        Py_ssize_t block = max(1, UPDATE_BYTES // (n * <Py_ssize_t> sizeof(floating)))
        Py_ssize_t size, done = 0
        double rate = step.solver.learning_rate * layer.learning_rate_scale
        double decay = step.objective.alpha
        floating alpha = 1.0, beta = 0.0
        # The gradient is y^T x.
        const floating *x = workspace + m * (layer.delta if transposed else layer.input)
        const floating *y = workspace + m * (layer.input if transposed else layer.delta)
        floating *out = <floating *> step.gradient
    if step.gradient == NULL:
        alpha, beta, out = -rate, 1.0 - rate * decay, params
    out += weight
    if step.solver.kind == SOLVER_PLAIN_SGD:  # the gradient is not read again
        block = units.size
    while done < units.size:
        size = min(block, units.size - done)
        weight_gradient(step, k, Span(units.start + done, size), alpha, y, n_units, rows, x, n,
                        beta, workspace, out)
        # Each block uses the same memory, which is in the cache.
        step_parameters(step, rate, decay, weight + done * n, size * n, out, params)
        done += size
    if step.solver.max_norm > 0 and not transposed:
        limit_norms(units.size, n, step.solver.max_norm, params + weight)


cdef void weight_gradient(const Step *step, Py_ssize_t k, Span units, floating alpha,
                          const floating *y, Py_ssize_t n_units, Py_ssize_t rows,
                          const floating *x, Py_ssize_t n, floating beta, floating *workspace,
                          floating *out) noexcept nogil:
    """out := beta out + alpha y^T x for some units, the columns of y (rows, n_units)."""
    cdef Py_ssize_t m = step.height, part, start, code = k - step.net[k].transposed
    cdef const Layer *net = step.net
    # In a tied pair, the same units must be active in both layers.
    if not ((adds_active(net, k) or has_active_rows(net, k))
            and (rows == m or net[k].partner == k + 1)):
        gemm[floating](True, False, units.size, n, rows, alpha, y + units.start, n_units, x, n,
                       beta, out, n)
        return
    if beta != 1:
        scale_numbers(units.size * n, beta, out)
    for part in range(rows // m):
        start = part * m
        add_outer_active(m, n, lists_of(step, code, workspace), list_size(net, code),
                         units.start, units.size, alpha, y + start * n_units, n_units,
                         x + start * n, out)


cdef void step_parameters(const Step *step, double rate, double decay, Py_ssize_t start,
                          Py_ssize_t size, const floating *gradient,
                          floating *params) noexcept nogil:
    """Take the solver's step for a range of parameters, followed by moments in memory."""
    cdef:
        const SolverSettings *solver = &step.solver
        floating *w = params + start
        floating *v = w + step.n_params
    if solver.kind == SOLVER_MOMENTUM:
        momentum_update(size, rate, solver.momentum, solver.nesterov, decay, gradient, v, w)
    elif solver.kind == SOLVER_ADAM:
        adam_update(size, rate * step.bias_correction, solver.beta_1, solver.beta_2,
                    solver.epsilon, decay, gradient, v, v + step.n_params, w)


# ---- training -------------------------------------------------------------------

def train(Problem problem not None, Batches batches not None, Team team not None,
          floating[::1] gradient, floating[::1] workspace):
    """Take a step for each batch, in the order of the rows.

    ``state.step`` counts the steps taken, even if an interrupt or a non-finite cost ends them. The
    result is exactly reproducible with the same number of threads.

    Returns
    -------
    cost : float
        Sum over batches of (cost without L2 term) x (rows); nan if a cost is not finite.
    """
    cdef:
        Step step
        floating[:, ::1] buffers = problem.state.buffers
        int64_t n_steps = problem.state.step
        Py_ssize_t n = describe(&step, problem, batches, batches.size, buffers, workspace)
        double total = 0.0, cost
    step.solver = problem.solver.settings()
    if problem.solver.needs_gradient:
        step.gradient = first_of(gradient, step.n_params)
    else:
        step.gradient = NULL
    try:
        with nogil:
            while n > 0:
                step.m = min(batches.size, n)
                step.n_labelled = labelled_of(batches.n_labelled, step.m)
                step.bias_correction = sqrt(1.0 - pow(step.solver.beta_2, n_steps + 1)) / (
                    1.0 - pow(step.solver.beta_1, n_steps + 1))
                cost = take_step(team, &step)
                if not isfinite(cost):
                    total = NAN
                    break
                n_steps += 1
                total += cost * step.m
                n, step.rows, step.ids = n - step.m, step.rows + step.m, step.ids + step.m
                if n_steps % STEPS_BETWEEN_SIGNALS == 0:
                    with gil:
                        PyErr_CheckSignals()
    finally:
        problem.state.step = n_steps
    return total


def loss_and_gradient(Problem problem not None, Batches batches not None, Team team not None,
                      floating[::1] gradient, floating[::1] workspace):
    """Compute the cost of all rows as a batch, with L2 term, and its `gradient` (OUT)."""
    cdef:
        Step step
        floating[:, ::1] buffers = problem.state.buffers
        Py_ssize_t n = len(batches.rows), k, j, start
        double alpha = problem.objective.alpha, cost
    step.m = describe(&step, problem, batches, n, buffers, workspace)
    step.n_labelled = labelled_of(batches.n_labelled, step.m)
    step.gradient = first_of(gradient, step.n_params)
    step.solver.kind, step.solver.learning_rate, step.solver.max_norm = SOLVER_PLAIN_SGD, 0, 0
    with nogil:
        cost = take_step(team, &step)
        for k in range(step.n_layers):
            start = step.net[k].weight
            if owns_matrix(step.net, k):
                for j in range(start, start + step.net[k].n_in * step.net[k].n_out):
                    cost += 0.5 * alpha * buffers[0, j] * buffers[0, j]
                    gradient[j] += alpha * buffers[0, j]
    return cost


cdef Py_ssize_t labelled_of(Py_ssize_t n_labelled, Py_ssize_t m) noexcept nogil:
    return m if n_labelled < 0 else min(n_labelled, m)


cdef floating *first_of(floating[::1] gradient, Py_ssize_t n_params) except NULL:
    """Return a pointer to the gradient, which must fit the parameters."""
    if gradient.shape[0] != n_params:
        raise ValueError("the gradient does not fit the parameters")
    return &gradient[0]


cdef Py_ssize_t describe(Step *step, Problem problem, Batches batches, Py_ssize_t size,
                         floating[:, ::1] buffers, floating[::1] workspace) except -1:
    """Check all sizes, and set the common fields for batches of up to `size` rows. Returns n_rows.

    The pointers outlive the local views: the caller holds `batches`, which holds the arrays.
    """
    cdef:
        const Layer[::1] layers = problem.layers
        const floating[:, ::1] X = batches.X, target = batches.target
        const int64_t[::1] rows = batches.rows, ids = batches.ids
        const double[::1] weights = batches.weights
        Py_ssize_t n_rows = min(X.shape[0], target.shape[0]), width, height = size
        Py_ssize_t slopes = 0, predictions = 0
        floating *scale
    step.objective = problem.objective.settings()
    step.corruption = settings_of(problem.corruption, X)
    if step.objective.adversarial_radius > 0 or step.objective.smoothness_radius > 0:
        slopes = X.shape[1]
        if layers[0].n_nonzero > 0:
            raise ValueError("perturbed rows have no lists of features")
    if step.objective.smoothness_radius > 0:
        height, predictions = 2 * size, target.shape[1]
        check_smoothness(problem.objective, target.shape[1])
    width = check(layers, height, size, 1 + slopes + predictions, workspace.shape[0],
                  buffers.shape[1], X.shape[1], target.shape[1])
    check_has_loss(layers)
    check_for_training(layers)
    if batches.n_labelled == 0 or (batches.n_labelled > 0 and predictions == 0):
        raise ValueError("rows without a target are for smooth predictions, beside others")
    if weights is not None:
        n_rows = min(n_rows, weights.shape[0])
    if not all_below(rows, n_rows):
        raise ValueError("rows must be those of X, target and weights")
    if buffers.shape[0] < problem.solver.n_buffers or ids.shape[0] != rows.shape[0]:
        raise ValueError("buffers or ids are too short")
    step.net, step.n_layers, step.n_params = &layers[0], layers.shape[0], buffers.shape[1]
    step.is_float = floating is float
    step.params, step.X, step.target = &buffers[0, 0], &X[0, 0], &target[0, 0]
    step.rows, step.ids, step.key = &rows[0], &ids[0], batches.key
    step.weights = first(weights)
    scale = &workspace[0] + height * width
    step.workspace, step.scale, step.slope = &workspace[0], scale, scale + size
    step.predicted = scale + size + size * slopes
    step.scratch = scale + size + size * (slopes + predictions)
    return rows.shape[0]


cdef int check_smoothness(Objective objective, Py_ssize_t n_out) except -1:
    """Refuse outputs that are not the probabilities of classes."""
    if not (objective.loss == "log_loss" or objective.loss == "cross_entropy" and n_out == 1):
        raise ValueError("smoothness is one of the probabilities of classes")
    if objective.sparse_layer >= 0:
        raise ValueError("smoothness and sparsity do not go together")
    if not is_long(objective.class_shares, max(2, n_out)):
        raise ValueError("smoothness needs the share of each class")


cdef Py_ssize_t check(const Layer[::1] layers, Py_ssize_t height, Py_ssize_t rows,
                      Py_ssize_t beside, Py_ssize_t workspace_size, Py_ssize_t n_params,
                      Py_ssize_t n_in, Py_ssize_t n_out) except -1:
    """Refuse sizes that would access memory outside an array. Returns the workspace width.

    The workspace has `height` rows; `rows` of them have `beside` more numbers than the layers use.
    """
    cdef Py_ssize_t k, n_layers = layers.shape[0], width = 0, max_units = 2
    cdef const Layer *layer
    if n_layers < 1 or n_in != layers[0].n_in or n_out != layers[n_layers - 1].n_out:
        raise ValueError("the widths of X or target do not fit the network")
    for k in range(n_layers):
        layer = &layers[k]
        if not (0 < layer.n_in <= INT_MAX and 0 < layer.n_out <= INT_MAX):  # the integers of BLAS
            raise ValueError(f"the sizes of layer {k} are out of range")
        if k > 0 and layer.n_in != layers[k - 1].n_out:
            raise ValueError(f"layer {k} does not fit the layer below")
        # Softmax is for the output only: `activation_backward` does not support it.
        if not 0 <= layer.activation <= ACT_SOFTMAX - (k < n_layers - 1):
            raise ValueError(f"layer {k} has an unknown activation")
        if not 0 <= layer.transposed <= 1:
            raise ValueError(f"layer {k} is neither transposed nor not")
        if layer.activation == ACT_TOP_K and not (
                0 < layer.n_active <= layer.n_out
                and lies_within(workspace_size, layer.active, 1, layer.n_active + 1)):
            raise ValueError(f"the active units of layer {k} are out of range")
        if layer.n_nonzero != 0 and not (
                k == 0 and layer.transposed and layer.partner < 0
                and 0 < layer.n_nonzero <= layer.n_in
                and lies_within(workspace_size, layer.nonzero, 1, layer.n_nonzero + 1)):
            raise ValueError(f"the features of layer {k} are out of range")
        if not (lies_within(n_params, layer.weight, layer.n_out, layer.n_in)
                and lies_within(n_params, layer.bias, 1, layer.n_out)):
            raise ValueError("the parameters are too few for the network")
        if not (lies_within(workspace_size, layer.input, 1, layer.n_in)
                and lies_within(workspace_size, layer.delta, 1, layer.n_out)):
            raise ValueError("the workspace is too small")
        # A slice of a table has the positions of the whole network.
        width = max(width, layer.input + layer.n_in, layer.delta + layer.n_out)
        if layer.activation == ACT_TOP_K:
            width = max(width, layer.active + layer.n_active + 1)
        if layer.n_nonzero > 0:
            width = max(width, layer.nonzero + layer.n_nonzero + 1)
        max_units = max(max_units, layer.n_out)
    # The products for BLAS have up to two rows for each row of a batch.
    if not (0 < rows and height <= INT_MAX // 2
            and lies_within(workspace_size - max_units, 0, height, width)
            and lies_within(workspace_size - max_units, height * width, rows, beside)):
        raise ValueError("the workspace is too small")
    return width


cdef int check_has_loss(const Layer[::1] layers) except -1:
    if layers[layers.shape[0] - 1].activation == ACT_TOP_K:
        raise ValueError("a top-k code has no loss")
    return 0


cdef int check_for_training(const Layer[::1] layers) except -1:
    """Refuse pairs of layers that `update` cannot handle."""
    cdef Py_ssize_t k, n_layers = layers.shape[0]
    cdef const Layer *layer
    cdef const Layer *other
    for k in range(n_layers):
        layer = &layers[k]
        if not 0.0 <= layer.dropout < 1.0:
            raise ValueError(f"the dropout of layer {k} is not in [0, 1)")
        if not -1 <= layer.partner < n_layers or (
                layer.partner >= 0 and layer.transposed != (layer.partner < k)):
            raise ValueError(f"layer {k} has no such partner")
        other = &layers[max(0, layer.partner)]
        if layer.partner >= 0 and (
                other.partner != k or other.weight != layer.weight
                or other.n_in != layer.n_out or other.n_out != layer.n_in
                or not layer.transposed and (other.input != layer.delta + layer.n_out
                                             or other.delta != layer.input + layer.n_in)):
            raise ValueError(f"layer {k} does not fit its partner")
    return 0


cdef bint lies_within(int64_t size, int64_t place, int64_t m, int64_t n) noexcept nogil:
    """Whether an array (m, n) at `place` fits into memory for `size` numbers."""
    return 0 <= place <= size and m <= (size - place) // n  # a product could overflow


cdef bint all_below(const int64_t[::1] values, Py_ssize_t limit) noexcept nogil:
    """Whether all values are in [0, limit)."""
    cdef Py_ssize_t i
    cdef uint64_t largest = 0  # a negative value would be larger than any limit
    for i in range(values.shape[0]):
        largest = max(largest, <uint64_t> values[i])
    return values.shape[0] == 0 or largest < <uint64_t> limit


# ---- inference: each thread handles a share of the rows ------------------------------

cdef struct Inference:
    const Layer *net
    Py_ssize_t n_layers
    bint is_float
    const void *params
    void *workspace
    Py_ssize_t workspace_size   # for each thread
    Py_ssize_t workspace_rows   # that fit into it
    Py_ssize_t n_rows
    const void *X
    int loss
    const void *target
    void *outputs
    double *losses              # NULL: compute the outputs


cdef void infer_share(void *context, int part, int n_parts) noexcept nogil:
    cdef Inference *job = <Inference *> context
    cdef Py_ssize_t start = job.n_rows * part // n_parts, m
    cdef Py_ssize_t stop = job.n_rows * (part + 1) // n_parts
    while start < stop:
        m = min(job.workspace_rows, stop - start)
        if job.is_float:
            infer_chunk(job, <const float *> job.params, part, start, m)
        else:
            infer_chunk(job, <const double *> job.params, part, start, m)
        start += m


cdef void infer_chunk(const Inference *job, const floating *params, int part, Py_ssize_t start,
                      Py_ssize_t m) noexcept nogil:
    """Compute the outputs or losses of m rows, without noise."""
    cdef:
        const Layer *net = job.net
        Py_ssize_t i, k, top = job.n_layers - 1, n_out = net[top].n_out
        floating *workspace = <floating *> job.workspace + part * job.workspace_size
        const floating *x = <const floating *> job.X + start * net[0].n_in
        const floating *target = <const floating *> job.target
        const floating *bias = params + net[top].bias
        floating *z = NULL
    for k in range(job.n_layers):
        if k < top:
            z = workspace + m * net[k + 1].input
        elif job.losses == NULL:
            z = <floating *> job.outputs + start * n_out
        else:
            z = workspace + m * net[top].delta
        forward(net, job.n_layers, k, params, m, Span(0, net[k].n_out), x, NULL, z)
        if k == top and job.losses == NULL:
            activate(net[top].activation, m, n_out, n_out, bias, z)
        if net[k].activation == ACT_TOP_K:
            for i in range(m):
                keep_largest(net[k].n_out, net[k].n_active, NULL, z + i * net[k].n_out)
        x = z
    if job.losses == NULL:
        return
    for i in range(m):
        job.losses[start + i] = inverse_share(n_out, target + (start + i) * n_out) * row_loss(
            job.loss, net[top].activation, n_out, <floating> 1.0, bias,
            target + (start + i) * n_out, z + i * n_out)


cdef describe_inference(Inference *job, const Layer[::1] layers, Team team,
                        const floating[::1] params, floating[::1] workspace,
                        Py_ssize_t workspace_rows, const floating[:, ::1] X, Py_ssize_t n_out):
    job.workspace_size, job.workspace_rows = workspace.shape[0] // team.n_threads, workspace_rows
    check(layers, workspace_rows, workspace_rows, 1, job.workspace_size, params.shape[0],
          X.shape[1], n_out)
    job.net, job.n_layers, job.is_float = &layers[0], layers.shape[0], floating is float
    job.params, job.workspace = &params[0], &workspace[0]
    job.X, job.n_rows = &X[0, 0], X.shape[0]
    job.target = job.losses = NULL


def outputs(const Layer[::1] layers, Team team not None, const floating[::1] params,
            floating[::1] workspace, Py_ssize_t workspace_rows,
            const floating[:, ::1] X, floating[:, ::1] out):
    """out (OUT, shape (n_rows, n_out)) := the output of the last layer for the rows of X.

    The workspace has an equal part for each thread of the team, for ``workspace_rows`` rows.
    """
    cdef Inference job
    describe_inference(&job, layers, team, params, workspace, workspace_rows, X, out.shape[1])
    if out.shape[0] != X.shape[0]:
        raise ValueError("out must have a row for each of X")
    job.outputs = &out[0, 0]
    with nogil:
        team.run(infer_share, &job, team.n_threads)


def row_losses(const Layer[::1] layers, Objective objective not None, Team team not None,
               const floating[::1] params, floating[::1] workspace, Py_ssize_t workspace_rows,
               const floating[:, ::1] X, const floating[:, ::1] target, double[::1] out):
    """out (OUT, shape (n_rows,)) := the loss of each row, without noise and penalties."""
    cdef Inference job
    describe_inference(&job, layers, team, params, workspace, workspace_rows, X, target.shape[1])
    check_has_loss(layers)
    if target.shape[0] != X.shape[0] or out.shape[0] != X.shape[0]:
        raise ValueError("target and out must have a row for each of X")
    job.loss, job.target, job.losses = LOSSES[objective.loss], &target[0, 0], &out[0]
    with nogil:
        team.run(infer_share, &job, team.n_threads)


def corrupt_rows(Corruption corruption not None, const floating[:, ::1] X,
                 const int64_t[::1] ids, uint64_t key, floating[:, ::1] out):
    """out (OUT) := the rows of X, corrupted as in training."""
    cdef CorruptionSettings settings = settings_of(corruption, X)
    cdef Py_ssize_t i
    if ids.shape[0] != X.shape[0] or out.shape[0] != X.shape[0] or out.shape[1] != X.shape[1]:
        raise ValueError("ids and out must fit X")
    for i in range(X.shape[0]):
        corrupt(&settings, layer_key(key, 0, ids[i]), X.shape[1], &X[i, 0], &out[i, 0])
