"""Number of threads, and BLAS limited to one thread in each of them."""

import os
import threading
import warnings
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any

from joblib import cpu_count
from sklearn import config_context, get_config
from threadpoolctl import ThreadpoolController

from skae._kernel._team import HAS_MEMBERS, Guard, Team

# Multiplications in the largest product of a batch from which a second thread pays.
WORTH_THREADS = 2**20

# The same for a single pass through a network, which has to start the threads.
WORTH_STARTING_THREADS = 2**26

_users: set[Any] = set()  # a token of each `single_threaded_blas` that has begun
_originals: dict[Any, int] = {}  # limits of process-wide pools before the first user
_n_threads = 1


class _Running(threading.local):
    """The team that this thread leads, or None."""

    team = None


_running = _Running()


@cache
def _pools():
    """The BLAS libraries of this process: those with a pool for all threads, and the others.

    From threadpoolctl 3.8 on, a limit of MKL or OpenMP holds for the thread that sets it. The
    search takes milliseconds, so its result is cached.
    """
    shared, own = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        layer = getattr(library, "threading_layer", None)
        (own if library.internal_api == "mkl" or layer == "openmp" else shared).append(library)
    return shared, own


def _allowed():
    """Number of threads BLAS may use now, by the environment, threadpoolctl or joblib.

    One if threadpoolctl knows none of the libraries: a BLAS that cannot be limited keeps its own
    threads.
    """
    found = [library.num_threads for pools in _pools() for library in pools]
    return min([cpu_count(), *filter(None, found)]) if any(found) else 1


def _set(library, limit):
    """Set a limit of BLAS from any thread.

    From threadpoolctl 3.8 on, the first thread to limit an OpenBLAS with a pool for all threads
    is the only one whose calls have an effect. Limits are reference-counted over all threads here.
    """
    unlock = getattr(library, "clear_controlling_thread", lambda force: None)
    unlock(force=True)
    library.set_num_threads(limit)
    unlock(force=True)


def _limit(libraries, originals):
    """Limit libraries to one thread; note the limit of each before it changes."""
    for library in libraries:
        originals[library] = library.num_threads
        _set(library, 1)


def _restore(originals):
    """Undo what `_limit` has done; forget each limit after it is set."""
    while originals:
        library, limit = next(iter(originals.items()))
        _set(library, limit)
        originals.pop(library, None)


class single_threaded_blas(Guard):
    """Limit BLAS to one thread; a context manager.

    A limit of the whole process is reference-counted: fits that overlap in several threads share
    it. The first one notes the number of threads for all of them, so that none changes the result
    of another; the last one to end restores the limit.
    """

    lock = threading.RLock()  # a guard may be deleted, and so end, where this thread has it

    def __init__(self):
        self.token = object()  # not the guard itself, which could not be deleted then
        self.own = {}  # limits of the pools of this thread

    def begin(self):
        global _n_threads
        first = not _users
        if first:
            _n_threads = _allowed()
        _users.add(self.token)
        if first:
            _limit(_pools()[0], _originals)
        _limit(_pools()[1], self.own)

    def end(self):
        _restore(self.own)
        _users.discard(self.token)
        if not _users:
            _restore(_originals)


class _Lead(Guard):
    """Lead a team in this thread; a context manager."""

    def __init__(self, n_threads):
        self.team = Team(n_threads, lambda: _limit(_pools()[1], {}))

    def begin(self):
        _running.team = self.team.__enter__()
        return self.team

    def end(self):
        if _running.team is self.team:
            _running.team = None
        self.team.__exit__()


@contextmanager
def team_for(work, n_threads=None):
    """A team of as many threads as BLAS may use, or of one if `work` multiplications are few.

    `n_threads` says how many they are where BLAS has been limited for another reason.
    BLAS is limited to one thread meanwhile. A nested call in this thread gets the same team.
    """
    if _running.team is not None:
        yield _running.team
        return
    with single_threaded_blas():
        most = n_threads or _n_threads
        with _Lead(most if work >= WORTH_THREADS else 1) as team:
            yield team


@contextmanager
def team_to_apply(work):
    """A team to apply a network that is not trained. Little work sets no limit.

    Nor does any work where a team can have one thread only: then BLAS's own threads help.
    """
    if _running.team is None and (work < WORTH_STARTING_THREADS or not HAS_MEMBERS):
        yield Team()
        return
    with team_for(work) as team:
        yield team


def side_by_side(calls, work, name):
    """Make some calls, in as many threads as BLAS may use.

    They are made one after the other, here, if a step of each, of `work` multiplications, is
    worth a team. A call gets an event: once it is set, by Ctrl-C or another call, it should end.
    Ctrl-C is a warning with this name; calls that have not begun by then are not made.
    """
    stop, futures = threading.Event(), []
    with single_threaded_blas():
        n_threads = min(_n_threads, len(calls))
        config = get_config()  # of this thread

        def run(call):
            with config_context(**config), _Lead(1):
                if not stop.is_set():
                    call(stop)

        try:
            if n_threads == 1 or work >= WORTH_THREADS or not HAS_MEMBERS:
                for call in calls:
                    if not stop.is_set():
                        call(stop)
                return
            with ThreadPoolExecutor(n_threads) as pool:
                try:
                    for call in calls:
                        futures.append(pool.submit(run, call))
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:
                    if not all(future.done() for future in futures):
                        stop.set()
        except KeyboardInterrupt:
            warnings.warn(f"{name}: training interrupted by user.", stacklevel=2)
        for future in futures:
            future.result()


def _forget():
    """Reset in a child of a fork, where the other threads and their fits do not exist."""
    single_threaded_blas.lock = threading.RLock()
    _users.clear()
    _restore(_originals)
    _running.team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
