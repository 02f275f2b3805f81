"""Threads of BLAS: small products are held to one, and what was limited is set free again."""

import threading
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

# Multiplications in the largest product of a step from which BLAS's threads pay. Below it they
# gain little on an idle machine, and lose much to any other busy process: measured, an epoch of
# batches of 100 at 1200 x 1200 took five times as long on two threads while one core was busy.
WORTH_THREADS = 2**28

_lock = threading.Lock()
_users = 0
_limiter = None


@cache
def _controller():
    return ThreadpoolController()  # looks through the loaded libraries, once


@contextmanager
def blas_threads_for(work):
    """Hold BLAS to one thread within, if `work` multiplications are not worth more.

    The limit is the process's. Fits that overlap in several threads share it; the last one
    to end restores what the first one found.
    """
    global _users, _limiter
    if work >= WORTH_THREADS:
        yield
        return
    with _lock:
        if _users == 0:
            _limiter = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limiter.restore_original_limits()
