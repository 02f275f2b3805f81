"""Fit estimators on Dask collections, and apply them to Dask collections.

The epoch loop runs in the client, as in every fit; the steps are taken in the workers that hold
the blocks of samples. Each replica of the network is trained on its own blocks, from a common
state. Several times per epoch, the states are averaged, and the change of the mean gets momentum
[1]_ [2]_.

The result depends on the seed, the blocks and the number of replicas, but not on the workers:
tasks are functions of their arguments, means are summed in a fixed order, and the noise of a
sample depends on its number in the whole data. If a worker dies, at most one round between two
averages is repeated.

References
----------
.. [1] A. Douillard, Q. Feng, A. Rusu, R. Chhaparia, Y. Donchev, A. Kuncoro, M. Ranzato, A. Szlam,
   J. Shen. DiLoCo: Distributed Low-Communication Training of Language Models. 2023.
.. [2] S. Stich. Local SGD Converges Fast and Communicates Little. ICLR 2019.
"""

from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from functools import partial, reduce
from numbers import Integral
from typing import Any
from weakref import WeakSet

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skae import _training
from skae._base import ACCEPTED, BaseModel, check_sparse, in_canonical_format
from skae._compat import Interval, validate_parameter_constraints
from skae._dataset import (
    ArrayDataset,
    ArraySamples,
    Dataset,
    Samples,
    check_number,
    chosen,
    compute_dtype,
    merge_moments,
)
from skae._network import aligned_zeros
from skae._threads import team_for

try:
    import dask
    import dask.array as da
    from dask.base import is_dask_collection
    from dask.utils import is_dataframe_like
    from distributed import CancelledError, Future, default_client, get_worker, wait
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise ImportError("skae.dask needs Dask. Install it with: pip install 'skae[dask]'") from error

__all__ = ["apply", "fit"]

# Averages per epoch and replica, bounds of the averages per epoch, and minimum number of steps of
# a replica between two averages.
AVERAGES_PER_REPLICA, AVERAGES, LEAST_STEPS = 2, (4, 16), 15

# Momentum amplifies the change of the mean of R replicas, just as learning rates are scaled with
# the batch size: by R / SLOWNESS for stochastic gradient descent, and by the square root of R for
# Adam, whose steps do not depend on the size of the gradient, so that the noise remains the same.
# For Adam, the factor is larger after a schedule has lowered the learning rate.
SLOWNESS = 0.6

# Maximum number of samples that early stopping holds out, as they are sent to the client.
MOST_HELD_OUT = 10_000

# Number of states added in one task, number of attempts of a round, seconds between checks whether
# all workers are alive, and seconds to wait for new workers.
FAN_IN, ATTEMPTS, LOOK_AFTER, PATIENCE = 8, 5, 5, 300

# Errors after the death of a worker.
LOST = (CancelledError, CommClosedError, KilledWorker, TimeoutError)


def fit(
    estimator: Any,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    client: Any = None,
    replicas: int | None = None,
    averages: int | None = None,
) -> Any:
    """Fit an estimator on a Dask collection.

    This works like the ``fit`` of the estimator, including callbacks, early stopping and
    ``warm_start``; Ctrl-C ends the fit with a warning. No data remain on the cluster.

    Parameters
    ----------
    estimator : estimator
        Any estimator of skae. With ``warm_start=True`` it may be fitted already.
    X : dask Array or DataFrame of shape (n_samples, n_features)
        Training samples, in blocks of rows: NumPy arrays, sparse matrices or data frames. They
        should be in random order, because each replica is trained on some of the blocks.
    y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs), default=None
        As in the ``fit`` of the estimator. It is loaded in the client.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        As in the ``fit`` of the estimator. It is loaded in the client.
    client : distributed.Client, default=None
        Client of the cluster; None means the current one.
    replicas : int in [1, n_blocks], default=None
        Number of replicas of the network; the result depends on it. None means one per worker,
        but at most one per block. With more replicas, each takes fewer steps; increase the number
        of epochs so that each takes some thousand steps.
    averages : int in [1, inf), default=None
        Number of times per epoch that the replicas are averaged. None means twice the number of
        replicas, at least 4 and at most 16. The number is reduced if a replica would take fewer
        than 15 steps between two averages.

    Returns
    -------
    estimator : estimator
        The estimator itself, fitted.

    Raises
    ------
    TypeError
        If X is not a Dask collection, or the estimator cannot be fitted on one.
    ValueError
        If a parameter, X, y or `sample_weight` is invalid.
    RuntimeError
        If workers die repeatedly. The estimator is then left unchanged.

    See Also
    --------
    apply : Apply a fitted estimator to a Dask collection.

    Notes
    -----
    `batch_size`, also if it is 'auto', is that of each replica. The samples that early stopping
    holds out, at most 10,000, are sent to the client. Codes of the layers below are computed again
    in each epoch.

    A task uses the threads of its worker. With one thread per worker, the result is exactly the
    same for any number of workers.

    Examples
    --------
    >>> import dask.array as da
    >>> import skae.dask
    >>> from distributed import Client
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenoisingAutoencoder
    >>> X = da.from_array(load_digits().data / 16, chunks=(500, 64))
    >>> with Client(processes=False, n_workers=2, dashboard_address=":0"):
    ...     dae = skae.dask.fit(
    ...         DenoisingAutoencoder(64, max_iter=20, random_state=0), X
    ...     )
    ...     codes = skae.dask.apply(dae, X).compute()
    >>> codes.shape
    (1797, 64)
    >>> print(f"R2 of the reconstruction {dae.reconstruction_r2_:.1f}")
    R2 of the reconstruction 0.9
    """
    if not isinstance(estimator, BaseModel):
        raise TypeError(
            f"skae.dask.fit takes estimators of skae, but got {type(estimator).__name__}."
        )
    count = [Interval(Integral, 1, None, closed="left")]
    validate_parameter_constraints(
        {"replicas": [*count, None], "averages": [*count, None]},
        {"replicas": replicas, "averages": averages},
        "skae.dask.fit",
    )
    client = default_client() if client is None else client
    y, sample_weight = (
        values.compute() if is_dask_collection(values) else values for values in (y, sample_weight)
    )
    blocks = Blocks(X, client, replicas, averages)
    given = {} if sample_weight is None else {"sample_weight": sample_weight}
    return estimator.fit(blocks, y, **given)


def apply(estimator: Any, X: Any, method: str = "transform") -> Any:
    """Apply a method of a fitted estimator to a Dask collection, block by block.

    The result is lazy, and does not need a cluster.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator of any kind.
    X : dask Array or DataFrame of shape (n_samples, n_features)
        Samples, or codes.
    method : str, default="transform"
        Name of a method that takes X alone: "transform", "predict", "score_samples" and so on.

    Returns
    -------
    result : dask Array, DataFrame or Series
        The results of the method for all blocks: an array, or a data frame if X is one and the
        method returns data frames (see ``set_output``).

    Examples
    --------
    See `fit`.
    """
    check_is_fitted(estimator)
    if method.startswith(("fit", "partial_fit")):
        raise ValueError(
            f"method={method!r} does not apply a fitted estimator. Use skae.dask.fit."
        )
    if not callable(getattr(estimator, method, None)):
        raise AttributeError(f"{type(estimator).__name__!r} object has no method {method!r}")
    _, header = delayed_blocks(X)
    frames = hasattr(header, "columns")
    example = (
        header.iloc[:0].reindex([0]).fillna(0) if frames else np.zeros((1, X.shape[1]), X.dtype)
    )
    meta = getattr(estimator, method)(example)[:0]
    if frames:
        call = partial(called, estimator, method, meta)
        return X.map_partitions(call, meta=meta, token=method)
    X = with_whole_rows(X)
    meta = as_block(meta)
    shape = {"drop_axis": 1} if meta.ndim == 1 else {"chunks": (X.chunks[0], meta.shape[1:])}
    call = partial(called, estimator, method, meta)
    return X.map_blocks(call, token=method, dtype=meta.dtype, meta=meta, **shape)


# -- in a worker --------------------------------------------------------------------------


def called(estimator, method, meta, block):
    result = getattr(estimator, method)(block) if block.shape[0] else meta
    return result if hasattr(meta, "columns") else as_block(result)


def as_block(result):
    """Return a result as a block of a Dask array: an array or a sparse matrix."""
    return result if issparse(result) else np.asarray(result)


@dataclass
class Part:
    """The samples of a block to fit on: all of them, or those with labels.

    `ids` are their numbers in the whole data, `rows` the positions of the training samples.
    """

    X: Any
    ids: np.ndarray
    rows: np.ndarray
    target: np.ndarray | None = None
    sample_weight: np.ndarray | None = None

    def dataset(self, dtype, below=(), index=slice(None)):
        """Return the samples as a data set; with layers below, the codes of those of `index`."""
        labels = {"target": self.target, "sample_weight": self.sample_weight, "ids": self.ids}
        dataset = ArrayDataset(self.X, dtype, **labels)
        if not below:
            return dataset
        X = dataset.take(index)
        for encode in below:
            X = encode(ArrayDataset(X))
        labels = {k: None if values is None else values[index] for k, values in labels.items()}
        return ArrayDataset(X, dtype, **labels)


def checked(block):
    """Validate a block of samples."""
    X = check_array(
        check_sparse(block),
        accept_sparse="csr",
        ensure_all_finite="allow-nan",
        dtype=ACCEPTED,
        ensure_min_samples=0,
        input_name="X",
    )
    return in_canonical_format(X)


def facts(block):
    X = ArraySamples(block).X
    return X.shape, compute_dtype(X), isinstance(block, tuple)


def make_part(block, mask, first_id, encode, y, sample_weight):
    samples = ArraySamples(block if mask is None else chosen(block, mask))
    ids = np.arange(first_id, first_id + samples.shape[0])
    target = samples.target if encode is None else encode(y)
    return Part(samples.X, ids, np.arange(len(ids)), target, sample_weight)


def with_rows(part, rows):
    return replace(part, rows=rows)


def feature_ranges(part, dtype, below):
    return part.dataset(dtype, below).feature_ranges()


def moments(part, dtype, below, by_weight):
    with np.errstate(over="ignore", invalid="ignore"):  # training raises the error
        return part.dataset(dtype, below).moments(by_weight=by_weight)


def taken(part, dtype, below, index):
    return part.dataset(dtype, below, index).X if below else part.dataset(dtype).take(index)


def taken_targets(part, dtype, below, index):
    return part.target[index].astype(dtype, copy=False)


@dataclass
class Replica:
    """A replica of the network: its settings, which are the same in each round of an epoch."""

    stepper: _training.Stepper
    seed: int
    shuffle: bool | str
    mean_weight: float
    below: tuple[Callable[..., Any], ...]
    n_at_once: int  # replicas in a worker

    def run(self, state, rate, epoch, share, pieces, *parts):
        """Take the steps of a round; return `share` times the new state, and the sum of the costs.

        A piece is the number of a block, and a range of its samples in their order in this epoch.
        """
        buffers, step = state
        own = aligned_zeros(buffers.shape, buffers.dtype)
        own[:] = buffers
        state = _training.TrainingState(own, self.seed, step=step)
        stepper = copy(self.stepper)
        stepper.solver = copy(stepper.solver)
        stepper.solver.learning_rate = rate
        stepper.begin(state)
        key, cost = _training.noise_key(self.seed, epoch), 0.0
        work = stepper.batch_size * stepper.network.largest_matrix
        with team_for(work, n_threads(self.n_at_once)) as team:
            for (number, start, stop), part in zip(pieces, parts):
                order = _training.epoch_order(part.rows, self.shuffle, self.seed, epoch, number)
                order = order[start:stop]
                dataset = part.dataset(buffers.dtype, self.below, order)
                if self.below:
                    order = np.arange(len(order))
                weights = dataset.sample_weight
                if weights is not None:
                    weights = weights / self.mean_weight
                cost += stepper.run(dataset, order, key, weights, team)
        own *= own.dtype.type(share)
        return own, state.step, cost


def run(replica, *args):
    return replica.run(*args)


def n_threads(n_at_once):
    """Return the number of threads of this worker for each of its simultaneous tasks."""
    return max(1, get_worker().state.nthreads // n_at_once)


def added(*results):
    """Add the results of replicas, in order."""
    total = results[0][0].copy()
    for buffers, *_ in results[1:]:
        total += buffers
    return total, max(step for _, step, _ in results), sum(cost for *_, cost in results)


# -- in the client ----------------------------------------------------------------------


def delayed_blocks(X):
    """Return the blocks of a collection, and an X with the same features and no samples."""
    frame = is_dask_collection(X) and is_dataframe_like(X)
    if not (frame or isinstance(X, da.Array)):
        raise TypeError(
            f"X must be a Dask array or data frame, got {type(X).__name__}. Make one with "
            "dask.array.from_array(X), or call the method of the estimator."
        )
    if frame:
        return list(X.to_delayed()), X._meta
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
    X = with_whole_rows(X)
    return X.to_delayed().ravel().tolist(), np.empty((0, X.shape[1]), X.dtype)


def with_whole_rows(X):
    """Rechunk an array so that its blocks have all features."""
    return X.rechunk({1: -1}) if X.numblocks[1] > 1 else X


class Cluster:
    """Placement of the blocks and the replicas of a fit on workers."""

    def __init__(self, client, n_blocks, n_replicas):
        self.client, self.n_replicas = client, n_replicas
        self.blocks_of = [range(k, n_blocks, n_replicas) for k in range(n_replicas)]
        self.homes, self.placed = {}, WeakSet()

    def home(self, block):
        """Return the worker for the replica of a block: always the same one, while it is alive."""
        replica, workers = block % self.n_replicas, sorted(self.client.nthreads())
        if workers and self.homes.get(replica) not in workers:
            self.homes[replica] = workers[replica % len(workers)]
        return self.homes.get(replica)

    @property
    def n_at_once(self):
        """Maximum number of replicas in a worker."""
        return -(-self.n_replicas // max(1, len(self.client.nthreads())))

    def place(self, block):
        """Return arguments of Dask's client that place the tasks of a block."""
        home = self.home(block)
        return {} if home is None else {"workers": [home], "allow_other_workers": True}

    def submit(self, block, function, *args):
        """Submit a function to the worker that has the replica of a block."""
        return self.client.submit(function, *args, pure=False, **self.place(block))

    def results(self, submit):
        """Gather the futures that ``submit()`` returns; try again if a worker has died."""
        for _ in range(ATTEMPTS):
            futures = []
            try:
                futures = submit()
                return self._gather(futures)
            except LOST as error:
                lost, everything = f"{type(error).__name__}: {error}", isinstance(error, Stuck)
            except BaseException:
                self.client.cancel(futures)
                raise
            finally:
                let_go(futures)
            self.client.cancel(futures)
            with suppress(TimeoutError):
                self.client.wait_for_workers(1, timeout=PATIENCE)
            for placed in self.placed:
                placed.forget(everything)
        raise RuntimeError(
            f"Workers died in each of {ATTEMPTS} attempts at the same work, the last time with "
            f"{lost}. Do they have enough memory?"
        )

    def _gather(self, futures):
        """Gather futures; raise TimeoutError if a worker dies, for which they could wait."""
        client, seconds, self.n_idle = self.client, LOOK_AFTER, 0
        while True:
            try:
                wait(futures, timeout=LOOK_AFTER)
                break
            except TimeoutError:
                self._check_that_all_live()
                self._check_that_work_goes_on(futures)
        gather = partial(client.gather, futures, asynchronous=True)
        while seconds < PATIENCE:
            with suppress(TimeoutError):
                return client.sync(gather, callback_timeout=seconds)
            self._check_that_all_live()
            self._check_that_work_goes_on(futures)
            seconds *= 2  # the results may be large
        return client.gather(futures)

    def _check_that_all_live(self):
        if not {*self.homes.values()} <= {*self.client.nthreads()}:
            raise TimeoutError("a worker has died")

    def _check_that_work_goes_on(self, futures):
        """Raise an error if, twice in a row, all workers are idle but futures are pending."""
        works = any(self.client.processing().values())
        idle = not works and any(future.status == "pending" for future in futures)
        self.n_idle = self.n_idle + 1 if idle else 0
        if self.n_idle == 2:
            raise Stuck("no worker does anything")


class Stuck(TimeoutError):
    """Raised if no worker does anything: a task may wait for a worker that has died."""


def let_go(futures):
    """Release futures at once.

    A reference cycle may keep a future until garbage collection. If all workers die, Dask would
    compute it again in the worker that had it, and futures that share tasks with it would wait.
    """
    for future in futures:
        if isinstance(future, Future):
            future.release()


class Placed:
    """Futures of blocks, each in the worker that has the replica of the block.

    A future is made by ``make(block)``, and made again if the worker has died. Dask would compute
    it in another worker, but if there is none at that time, the task would wait for the dead
    worker, and so would all others that share tasks with it.
    """

    def __init__(self, cluster, blocks, make):
        self.cluster, self.blocks, self.make, self.made = cluster, blocks, make, {}
        cluster.placed.add(self)

    def __getitem__(self, block):
        if block not in self.made:
            self.made[block] = self.cluster.home(block), self.make(block)
        return self.made[block][1]

    def forget(self, everything=False):
        """Forget the futures in dead workers, or all futures."""
        alive = self.cluster.client.nthreads()
        for block, (home, future) in list(self.made.items()):
            if everything or home not in alive:
                del self.made[block]
                let_go([future])

    def results(self, function, *args):
        """Apply a function to each block; return the results in the order of the blocks."""
        submit = self.cluster.submit
        return self.cluster.results(
            lambda: [submit(k, function, self[k], *args) for k in self.blocks]
        )


class Blocks(Samples):
    """The blocks of a Dask collection, which a fit can take instead of X."""

    here = False

    def __init__(self, X, client, replicas, averages):
        blocks, self.header = delayed_blocks(X)
        if replicas is None:
            replicas = max(1, min(len(client.nthreads()), len(blocks)))
        elif replicas > len(blocks):
            raise ValueError(f"replicas={replicas}, but X has {len(blocks)} block(s).")
        if averages is None:
            averages = int(np.clip(AVERAGES_PER_REPLICA * replicas, *AVERAGES))
        self.given, self.averages = X, averages if replicas > 1 else 1
        self.cluster = cluster = Cluster(client, len(blocks), replicas)

        def make(k):
            return client.compute(dask.delayed(checked)(blocks[k]), **cluster.place(k))

        self._set_blocks(Placed(cluster, range(len(blocks)), make), {self.header.shape[1]})

    def _set_blocks(self, blocks, widths=()):
        """Set the blocks and their common properties; blocks without a future have length 0."""
        found = dict(zip(blocks.blocks, blocks.results(facts)))
        widths = sorted({*widths, *(shape[1] for shape, _, _ in found.values())})
        if len(widths) > 1:
            raise ValueError(f"X has blocks with different numbers of features: {widths}.")
        self.blocks, n_blocks = blocks, sum(map(len, self.cluster.blocks_of))
        self.lengths = np.array([found[k][0][0] if k in found else 0 for k in range(n_blocks)])
        self.shape = int(self.lengths.sum()), widths[0]
        filled = [(dtype, paired) for shape, dtype, paired in found.values() if shape[0]]
        single = all(dtype == np.float32 for dtype, _ in filled)
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.paired = any(paired for _, paired in filled)

    def check(self, name, least):
        check_number(self.shape, name, least)

    def dataset(self, dtype=None, *, sample_weight=None):
        return BlockDataset(self, dtype or self.dtype, self.lengths, sample_weight=sample_weight)

    def labelled(self, labels, dtype):
        return BlockDataset(
            self,
            dtype,
            np.array([part.sum() for part in split(labels.mask, self.lengths)]),
            mask=None if labels.mask.all() else labels.mask,
            y=labels.y,
            encode=partial(labels.head.encode, dtype=np.dtype(dtype)),
            sample_weight=labels.sample_weight,
            strata=labels.head.strata(labels.y),
        )

    def _filled(self, make):
        """Return futures of the blocks that are not empty."""
        return Placed(self.cluster, np.flatnonzero(self.lengths).tolist(), make)

    def results(self, function):
        return self._filled(self.blocks.__getitem__).results(function)

    def made(self, function):
        blocks, submit, other = self.blocks, self.cluster.submit, copy(self)
        other._set_blocks(self._filled(lambda k: submit(k, function, blocks[k], k)))
        other.header = np.empty((0, other.shape[1]), other.dtype)
        other.copied_lengths = self.lengths
        return other

    def selected(self, mask):
        blocks, submit, other = self.blocks, self.cluster.submit, copy(self)
        masks = split(mask, self.lengths)
        other._set_blocks(self._filled(lambda k: submit(k, chosen, blocks[k], masks[k])))
        return other

    def of_copies(self, values):
        n_copies = self.shape[0] // len(values)
        return np.concatenate(
            [np.tile(one, n_copies) for one in split(values, self.copied_lengths)]
        )


def split(values, lengths):
    """Split an array with one value per sample, or None, into blocks."""
    if values is None:
        return [None] * len(lengths)
    return np.split(values, np.cumsum(lengths)[:-1])


class BlockDataset(Dataset):
    """Samples of a Dask collection, or their codes.

    Parameters
    ----------
    blocks : Blocks
    dtype : dtype
    lengths : ndarray of shape (n_blocks,)
        Number of selected samples of each block.
    mask : ndarray of bool, default=None
        Mask of the selected samples; all if None.
    y : ndarray, default=None
        Labels of the selected samples; ``encode(y)`` converts them to targets.
    encode : callable, default=None
    """

    here, most_held_out = False, MOST_HELD_OUT

    def __init__(self, blocks, dtype, lengths, *, mask=None, y=None, encode=None, **labels):
        super().__init__(dtype, **labels)
        self.X, self.n_features, self.averages = blocks, blocks.shape[1], blocks.averages
        self.cluster, self.lengths, self.y, self.encode = blocks.cluster, lengths, y, encode
        self.n_replicas, self.below, self.trained = self.cluster.n_replicas, (), None
        self.starts = starts = np.cumsum(lengths) - lengths
        masks, ys = split(mask, blocks.lengths), split(y, lengths)
        weights, submit = split(self.sample_weight, lengths), self.cluster.submit

        def make(k):  # no reference to self, so that futures are freed with it
            first_id = int(starts[k])
            return submit(
                k, make_part, blocks.blocks[k], masks[k], first_id, encode, ys[k], weights[k]
            )

        self.parts = Placed(self.cluster, np.flatnonzero(lengths).tolist(), make)
        self.paired = blocks.paired

    def __len__(self):
        return int(self.lengths.sum())

    @property
    def weighted(self):
        return range(len(self)) if self.sample_weight is None else super().weighted

    def astype(self, dtype):
        if self.below and dtype != self.dtype:
            raise ValueError(f"these codes are computed in {self.dtype}")
        other = copy(self)
        other.dtype = np.dtype(dtype)
        return other

    def encoded(self, encode, n_components):
        other = copy(self)
        other.below, other.n_features = (*self.below, encode), n_components
        return other

    def feature_ranges(self):
        found = self._of_parts(feature_ranges)
        return np.array(
            [
                reduce(np.fmin, (one[0] for one in found)),
                reduce(np.fmax, (one[1] for one in found)),
            ]
        )

    def moments(self, total=None, *, by_weight=False):
        found = self._of_parts(moments, by_weight)
        return reduce(merge_moments, filter(None, found), total)  # all weights may be zero

    def _of_parts(self, function, *args):
        return self.parts.results(function, self.dtype, self.below, *args)

    def take(self, index):
        return self._of_samples(taken, index)

    def _of_samples(self, function, index):
        """Apply a function to the samples of an index; return an array with a row for each."""
        index = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        block = np.searchsorted(self.starts + self.lengths, index, side="right")
        places = {k: np.flatnonzero(block == k) for k in np.unique(block).tolist()}
        found = self.cluster.results(
            lambda: [
                self.cluster.submit(
                    k,
                    function,
                    self.parts[k],
                    self.dtype,
                    self.below,
                    index[place] - self.starts[k],
                )
                for k, place in places.items()
            ]
        )
        width = found[0].shape[1] if found else self.n_features
        out = np.empty((len(index), width), dtype=self.dtype)
        for place, rows in zip(places.values(), found):
            out[place] = rows
        return out

    def toarray(self):
        return self.take(slice(None))

    def part(self, index):
        index, target, weights = np.asarray(index), None, self.sample_weight
        if self.encode is not None:
            target = self.encode(self.y[index])
        elif self.paired:
            target = self._of_samples(taken_targets, index)
        labels = {"target": target, "sample_weight": None if weights is None else weights[index]}
        return ArrayDataset(self.take(index), self.dtype, **labels), np.arange(len(index))

    # -- an epoch ----------------------------------------------------------------------------

    def epoch(self, loop, number, team):
        state, cost = loop.state, 0.0
        parts, lengths = self._trained_parts(loop.training)
        replica = Replica(
            loop.stepper,
            state.seed,
            loop.options.shuffle,
            state.mean_weight,
            self.below,
            self.cluster.n_at_once,
        )
        momentum = 0.0
        if number:  # in the first epoch, momentum could kill units
            decay = 1.0
            if state.n_run_epochs >= loop.options.n_warmup_epochs:
                decay = loop.solver.learning_rate / loop.options.learning_rate_init
            momentum = outer_momentum(loop.options.solver, self.n_replicas, decay)
        for pieces in self._rounds(lengths, loop.batch_size, state.seed, number):
            rate = loop.solver.learning_rate
            mean, step, its_cost = self._round(replica, state, rate, number, pieces, parts)
            move(state, mean, momentum)
            state.step, cost = step, cost + its_cost
        return cost

    def _trained_parts(self, training):
        """Return the parts of the blocks, and the number of training samples of each."""
        if len(training) == len(self):
            return self.parts, self.lengths
        if self.trained is None or self.trained[0] is not training:
            rows = np.split(training, np.searchsorted(training, self.starts[1:]))
            submit, parts, starts = self.cluster.submit, self.parts, self.starts
            trained = Placed(
                self.cluster,
                parts.blocks,
                lambda k: submit(k, with_rows, parts[k], rows[k] - starts[k]),
            )
            self.trained = training, trained, np.array([len(one) for one in rows])
        return self.trained[1:]

    def _rounds(self, lengths, batch_size, seed, epoch):
        """Yield the pieces of each replica in each round: some samples of each of its blocks."""
        n_steps = int(lengths.sum()) // batch_size // self.n_replicas
        n_rounds = int(np.clip(n_steps // LEAST_STEPS, 1, self.averages))
        for k in range(n_rounds):
            # Split between whole batches, so that few batches are shorter.
            first, last = (
                np.minimum(-(-lengths * j // (n_rounds * batch_size)) * batch_size, lengths)
                for j in (k, k + 1)
            )
            pieces = []
            for replica, numbers in enumerate(self.cluster.blocks_of):
                rng = _training.random_stream(seed, _training.ROUND, epoch, k, replica)
                its = [(i, int(first[i]), int(last[i])) for i in rng.permutation(numbers).tolist()]
                pieces.append([piece for piece in its if piece[1] < piece[2]])
            if any(pieces):
                yield pieces

    def _round(self, replica, state, rate, epoch, pieces, parts):
        """Run a round; return the mean of the replicas, the step count and the sum of costs."""
        counts = [sum(stop - start for _, start, stop in its) for its in pieces]
        client = self.cluster.client

        def submit():
            # To one worker: a broadcast would wait for a dead worker.
            there = client.scatter([replica, (state.buffers, state.step)], hash=False)
            found = [
                self.cluster.submit(
                    k,
                    run,
                    *there,
                    rate,
                    epoch,
                    counts[k] / sum(counts),
                    its,
                    *(parts[number] for number, *_ in its),
                )
                for k, its in enumerate(pieces)
                if its
            ]
            while len(found) > 1:
                groups = [found[k : k + FAN_IN] for k in range(0, len(found), FAN_IN)]
                found = [client.submit(added, *group, pure=False) for group in groups]
            return found

        return self.cluster.results(submit)[0]


def outer_momentum(solver, n_replicas, decay=1.0):
    """Return the momentum of the mean; `decay` is the learning rate relative to its start."""
    most = n_replicas / SLOWNESS
    gain = most if solver == "sgd" else min(most, n_replicas**0.5 / decay)
    return 1.0 - 1.0 / gain if n_replicas > 1 else 0.0


def move(state, mean, momentum):
    """Set a state to the mean of its replicas, with Nesterov's momentum on the parameters."""
    change, velocity = mean[0] - state.params, state.outer_momentum
    if velocity is None or len(velocity) != len(change):
        velocity = np.zeros_like(change)
    velocity = velocity * change.dtype.type(momentum) + change
    state.params[:] = mean[0] + change.dtype.type(momentum) * velocity
    state.buffers[1:] = mean[1:]
    state.outer_momentum = velocity
