"""How many threads there are, and BLAS held to one in each of them."""

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

# The same when a network is used once, and the threads have to be started for that.
WORTH_STARTING_THREADS = 2**26

_lock = threading.Lock()
_users = 0
_originals: dict[Any, int] = {}  # of the limits of process-wide pools, while there are users
_n_threads = 1


class _Running(threading.local):
    """The team that this thread leads, if any."""

    team = None


_running = _Running()


@cache
def _pools():
    """The BLAS libraries of this process; those with a pool for all threads, and the others.

    From threadpoolctl 3.8 on, a limit of MKL or over OpenMP is that of the thread that sets it. It
    takes milliseconds to look for them.
    """
    shared, own = [], []
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        layer = getattr(library, "threading_layer", None)
        (own if library.internal_api == "mkl" or layer == "openmp" else shared).append(library)
    return shared, own


def _allowed():
    """How many threads BLAS may use now: what the environment, threadpoolctl or joblib say.

    One if threadpoolctl knows none of the libraries: what cannot be held may use its own.
    """
    found = [library.num_threads for pools in _pools() for library in pools]
    return min([cpu_count(), *filter(None, found)]) if any(found) else 1


def _set(library, limit):
    """Set a limit of BLAS from any thread.

    From threadpoolctl 3.8 on, the first thread to limit an OpenBLAS with a pool for all is
    the only one whose calls have an effect. Ours are counted over all threads.
    """
    unlock = getattr(library, "clear_controlling_thread", lambda force: None)
    unlock(force=True)
    library.set_num_threads(limit)
    unlock(force=True)


def _hold_own():
    """Hold to one what has a limit in each thread; how it was, by library."""
    originals = {library: library.num_threads for library in _pools()[1]}
    for library in originals:
        library.set_num_threads(1)
    return originals


@contextmanager
def blas_held():
    """Hold BLAS to one thread.

    A limit that is the process's is counted: fits that overlap in several threads share it, the
    first one notes how many threads they all may have, so that none changes the result of
    another, and the last one to end restores it.
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
        own = _hold_own()
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

    BLAS is held to one thread meanwhile. Within it, this thread gets the same team again.
    """
    if _running.team is not None:
        yield _running.team
        return
    with blas_held(), Team(_n_threads if work >= WORTH_THREADS else 1, _hold_own) as team:
        _running.team = team
        try:
            yield team
        finally:
            _running.team = None


@contextmanager
def team_to_apply(work):
    """The same for a network that is used and not trained; a small use sets no limit.

    Nor does any use where a team has no members but its leader: BLAS's own threads help then.
    """
    if _running.team is None and (work < WORTH_STARTING_THREADS or not HAS_MEMBERS):
        yield Team()
        return
    with team_for(work) as team:
        yield team


def _forget():
    """In a child of a fork: the fits of the other threads have not come along."""
    global _lock, _users
    _lock, _users = threading.Lock(), 0
    while _originals:
        _set(*_originals.popitem())
    _running.team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
