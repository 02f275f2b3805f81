"""How many threads train, and BLAS held to one in each of them."""

import threading
from contextlib import contextmanager
from functools import cache

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from skae._kernel._team import Team

# Multiplications in the largest product of a batch from which a second thread pays.
WORTH_THREADS = 2**20

# The same when a network is used once, and the threads have to be started for that.
WORTH_STARTING_THREADS = 2**26

_lock = threading.Lock()
_users = 0
_limiter = None
_n_threads = 1


@cache
def _blas():
    """The BLAS libraries in this process; it takes milliseconds to look for them."""
    return ThreadpoolController().select(user_api="blas")


def _allowed():
    """How many threads BLAS may use now: what the environment, threadpoolctl or joblib say."""
    found = [library.num_threads for library in _blas().lib_controllers]
    return min([cpu_count(), *found])


def _unlock_limits():
    """Let any thread set the limits of BLAS, this one too.

    From threadpoolctl 3.8 on, the first thread to set the limit of an OpenBLAS with a pool of its
    own is the only one whose calls have an effect. Ours are counted over all threads.
    """
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


@contextmanager
def team_for(work):
    """A team of as many threads as BLAS may use, or of one if `work` multiplications are few.

    BLAS is held to one thread meanwhile. That limit is the process's: fits that overlap in
    several threads share it, each with a team as large as the first one found it could be, so
    that none changes the result of another; the last one to end restores the limit.
    """
    global _users, _limiter, _n_threads
    with _lock:
        if _users == 0:
            _n_threads = _allowed()
            _unlock_limits()
            _limiter = _blas().limit(limits=1)
        _users += 1
        n_threads = _n_threads if work >= WORTH_THREADS else 1
    try:
        with Team(n_threads) as team:
            yield team
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _unlock_limits()
                _limiter.restore_original_limits()
                _unlock_limits()


@contextmanager
def team_to_apply(work):
    """The same for a network that is used and not trained; a small use sets no limit."""
    if work < WORTH_STARTING_THREADS:
        yield Team()
        return
    with team_for(work) as team:
        yield team
