"""Threads of the kernel, and limits of the threads of BLAS."""

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

# Number of multiplications in the largest product of a batch that is worth a second thread.
WORTH_THREADS = 2**20

# The same for a single pass through a network, which includes the start of the threads.
WORTH_STARTING_THREADS = 2**26

_users: set[Any] = set()  # a token of each active `single_threaded_blas`
_originals: dict[Any, int] = {}  # limits of process-wide pools before the first user
_n_threads = 1


class _Running(threading.local):
    """The team that this thread leads, or None."""

    team = None


_running = _Running()


@cache
def _pools():
    """Return the BLAS libraries of this process: those with process-wide pools, and the others.

    With threadpoolctl 3.8 or later, a limit of MKL or OpenMP only applies to the thread that sets
    it. The search takes milliseconds, so its result is cached.
    """
    shared, own = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        layer = getattr(library, "threading_layer", None)
        (own if library.internal_api == "mkl" or layer == "openmp" else shared).append(library)
    return shared, own


def _allowed():
    """Return the number of threads that BLAS may use: set by environment, threadpoolctl, joblib.

    One if threadpoolctl does not support the libraries: a BLAS that cannot be limited keeps its
    own threads.
    """
    found = [library.num_threads for pools in _pools() for library in pools]
    return min([cpu_count(), *filter(None, found)]) if any(found) else 1


def _set(library, limit):
    """Set a limit of BLAS from any thread.

    With threadpoolctl 3.8 or later, only the first thread that limits an OpenBLAS with a
    process-wide pool can change the limit again. This module counts references to the limit over
    all threads, so it clears that restriction.
    """
    unlock = getattr(library, "clear_controlling_thread", lambda force: None)
    unlock(force=True)
    library.set_num_threads(limit)
    unlock(force=True)


def _limit(libraries, originals):
    """Limit libraries to one thread; store each original limit before it changes."""
    for library in libraries:
        originals[library] = library.num_threads
        _set(library, 1)


def _restore(originals):
    """Undo `_limit`; remove each original limit after it is restored."""
    while originals:
        library, limit = next(iter(originals.items()))
        _set(library, limit)
        originals.pop(library, None)


class single_threaded_blas(Guard):
    """Limit BLAS to one thread; a context manager.

    A process-wide limit is reference-counted: overlapping fits in several threads share it. The
    first one determines the number of threads for all of them, so that no fit changes the result
    of another. The last one to end restores the limit.
    """

    lock = threading.RLock()  # reentrant: a guard may be deleted while this thread holds the lock

    def __init__(self):
        self.token = object()  # not the guard itself, to which no reference may remain
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
    """Yield a team with as many threads as BLAS may use, or one thread for little `work`.

    `work` is a number of multiplications. `n_threads` replaces the number of threads of BLAS, if
    BLAS has been limited for another reason. BLAS is limited to one thread meanwhile. A nested
    call in the same thread yields the same team.
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
    """Yield a team for inference. Little work does not limit BLAS.

    If teams have only one thread on this platform, BLAS is never limited, so that its own threads
    are used.
    """
    if _running.team is None and (work < WORTH_STARTING_THREADS or not HAS_MEMBERS):
        yield Team()
        return
    with team_for(work) as team:
        yield team


def side_by_side(calls, work, name):
    """Make calls in parallel, in as many threads as BLAS may use.

    They are made one after the other in this thread if a step of a call, of `work`
    multiplications, is worth a team. Each call gets an event; when the event is set, by Ctrl-C or
    another call, the call should end. Ctrl-C gives a warning with this name, and calls that have
    not begun are skipped.
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
    """Reset the state in the child of a fork, where the other threads do not exist."""
    single_threaded_blas.lock = threading.RLock()
    _users.clear()
    _restore(_originals)
    _running.team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
