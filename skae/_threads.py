"""Number of threads, and BLAS limited to one thread in each of them."""

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import Any

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from skae._kernel._team import HAS_MEMBERS, Team

# Multiplications in the largest product of a batch from which a second thread pays.
WORTH_THREADS = 2**20

# The same for a single pass through a network, which has to start the threads.
WORTH_STARTING_THREADS = 2**26

_lock = threading.Lock()
_users = 0
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


def _limit_thread_local_pools():
    """Limit to one thread the pools that each thread has of its own; return the old limits."""
    originals = {library: library.num_threads for library in _pools()[1]}
    for library in originals:
        library.set_num_threads(1)
    return originals


@contextmanager
def single_threaded_blas():
    """Limit BLAS to one thread.

    A limit of the whole process is reference-counted: fits that overlap in several threads share
    it. The first one notes the number of threads for all of them, so that none changes the result
    of another; the last one to end restores the limit.
    """
    global _users, _n_threads
    counted, own = False, {}
    allowed = _allowed()
    try:
        with _lock:
            _users, counted = _users + 1, True
            if _users == 1:
                _n_threads = allowed
                for library in _pools()[0]:
                    _originals[library] = library.num_threads
                    _set(library, 1)
        own = _limit_thread_local_pools()
        yield
    finally:
        for library, limit in own.items():
            library.set_num_threads(limit)
        with _lock:
            _users -= counted
            while _users == 0 and _originals:
                _set(*_originals.popitem())


@contextmanager
def team_for(work):
    """A team of as many threads as BLAS may use, or of one if `work` multiplications are few.

    BLAS is limited to one thread meanwhile. A nested call in this thread gets the same team.
    """
    if _running.team is not None:
        yield _running.team
        return
    with (
        single_threaded_blas(),
        Team(_n_threads if work >= WORTH_THREADS else 1, _limit_thread_local_pools) as team,
    ):
        _running.team = team
        try:
            yield team
        finally:
            _running.team = None


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


def _forget():
    """Reset in a child of a fork, where the other threads and their fits do not exist."""
    global _lock, _users
    _lock, _users = threading.Lock(), 0
    while _originals:
        _set(*_originals.popitem())
    _running.team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
