"""How many threads there are, and what becomes of BLAS's own."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

from skae import DenoisingAutoencoder, StackedAutoencoder, _threads
from skae._kernel._team import Guard

pytestmark = pytest.mark.threads

LARGE = _threads.WORTH_THREADS

needs_two_cores = pytest.mark.skipif(
    _threads.cpu_count() < 2 or _threads._allowed() < 2, reason="needs two cores, and two threads"
)


def limits():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_is_held_to_one_thread_and_set_free_again():
    before = limits()
    with _threads.team_for(LARGE) as outer:
        assert set(limits()) == {1}
        with _threads.team_for(LARGE) as inner:
            assert inner.n_threads == outer.n_threads
        assert set(limits()) == {1}
    assert limits() == before
    with pytest.raises(RuntimeError), _threads.team_for(LARGE):
        raise RuntimeError
    assert limits() == before


@needs_two_cores
def test_as_many_threads_as_blas_may_use():
    for limit in (1, 2):
        with threadpool_limits(limit), _threads.team_for(LARGE) as team:
            assert team.n_threads == limit
    with threadpool_limits(2), _threads.team_for(LARGE - 1) as team:
        assert team.n_threads == 1
    with threadpool_limits(2), _threads.team_to_apply(_threads.WORTH_STARTING_THREADS) as team:
        assert team.n_threads == 2


class Interrupter:
    """A trace function that raises at one of the bytecodes of a module, counted from 1."""

    def __init__(self, module, at):
        self.file, self.at, self.count, self.place = module.__file__, at, 0, None

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename != self.file:
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "line"):
            self.count += 1
            if self.count == self.at:
                self.place = f"{frame.f_code.co_name}, line {frame.f_lineno}, {frame.f_lasti}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def interrupts(self, function):
        """Whether it raised in a call of the function, and that went on to the caller."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            function()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def lead_and_limit():
    with _threads.team_to_apply(_threads.WORTH_STARTING_THREADS), _threads.single_threaded_blas():
        assert set(limits()) == {1}


def assert_as_before(before, place):
    assert limits() == before, place
    assert not _threads._users, place
    assert not _threads._originals, place
    assert _threads._running.team is None, place
    lock = _threads.single_threaded_blas.lock
    free = []
    thread = threading.Thread(
        target=lambda: lock.acquire(blocking=False) and (lock.release(), free.append(True))
    )
    thread.start()
    thread.join()
    assert free, place


@pytest.mark.slow
@needs_two_cores
def test_an_interrupt_at_any_bytecode_leaves_no_limit():
    """Of all that limits BLAS and starts threads, one after the other."""
    before = limits()
    assert max(before) > 1
    lead_and_limit()
    places = set()
    for at in range(1, 10_000):
        interrupter = Interrupter(_threads, at)
        raised = interrupter.interrupts(lead_and_limit)
        if interrupter.place is None:
            break
        assert raised, interrupter.place
        assert_as_before(before, interrupter.place)
        places.add(interrupter.place.split(",")[0])
    assert at > 300
    assert places >= {"begin", "end", "_limit", "_restore", "_set", "team_for", "team_to_apply"}


@pytest.mark.slow
@needs_two_cores
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
def test_real_interrupts_leave_no_limit():
    """In a child, at random moments of what limits BLAS."""
    code = """
import random, signal, threading, time
import test_threads
before = test_threads.limits()
assert max(before) > 1
main, draw, hit, going = threading.main_thread().ident, random.Random(0), 0, True

def send():
    while going:
        time.sleep(draw.uniform(0, 2e-3))
        if waiting.is_set():
            waiting.clear()
            signal.pthread_kill(main, signal.SIGINT)

waiting = threading.Event()
sender = threading.Thread(target=send)
sender.start()
for _ in range(400):
    try:
        waiting.set()
        while waiting.is_set():
            test_threads.lead_and_limit()
        time.sleep(1)
    except KeyboardInterrupt:
        hit += 1
    test_threads.assert_as_before(before, "")
going = False
sender.join()
assert hit == 400
assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_the_end_of_a_guard_is_reached():
    """Also if it raises, and if the ``with`` statement never calls it."""
    calls = []

    class Guarded(Guard):
        def begin(self):
            return "begun"

        def end(self):
            calls.append("end")
            if len(calls) < 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Guarded() as result:
        assert result == "begun"
    assert len(calls) == 3
    guard = Guarded()
    guard.__enter__()
    with pytest.raises(RuntimeError):  # the one that is on its way when the guard is deleted
        try:
            raise RuntimeError
        finally:
            del guard
    assert len(calls) == 4
    Guarded()
    assert len(calls) == 4
    calls.clear()
    Guarded.begin = lambda self: 1 / 0
    with pytest.raises(KeyboardInterrupt), Guarded():
        pass
    assert len(calls) == 3


# ---- where threads cannot be started --------------------------------------------------------


def fits():
    """The weights and codes of a network whose batches are worth the threads."""
    X = np.random.default_rng(0).uniform(size=(500, 120)).astype(np.float32)
    model = DenoisingAutoencoder(110, batch_size=100, max_iter=1, random_state=0).fit(X)
    return model.components_, model.transform(X)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
@pytest.mark.parametrize("n_started", [0, 1])
def test_as_many_threads_as_can_be_started(n_started, error, monkeypatch):
    """And the bits are those of so many."""
    monkeypatch.setattr(_threads, "WORTH_STARTING_THREADS", 1)
    monkeypatch.setattr(_threads, "_allowed", lambda: 1 + n_started)
    desired = fits()
    start, started = threading.Thread.start, []

    def start_some(thread):
        if sum(other.is_alive() for other in started) == n_started:
            raise error
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    monkeypatch.setattr(_threads, "_allowed", lambda: 4)
    with _threads.team_for(LARGE) as team:
        assert team.n_threads == 1 + n_started
    assert not any(thread.is_alive() for thread in started)
    for mine, theirs in zip(fits(), desired, strict=True):
        assert_array_equal(mine, theirs)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the number of threads")
def test_a_process_that_may_have_one_thread_only():
    code = """
import os, resource, threading
from skae import _threads
_threads._pools(), _threads.cpu_count()
_threads._allowed = lambda: 2
if os.getuid() == 0:  # who has no limit
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    with _threads.team_for(_threads.WORTH_THREADS) as team:
        print(team.n_threads)
else:
    print("not limited")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    if "not limited" in run.stdout:
        pytest.skip("this user may have any number of threads")
    assert run.stdout.strip() == "1"


def test_a_pool_of_each_thread_is_held_in_each(monkeypatch):
    """As MKL's: a stand-in whose limit is that of the thread."""

    class Library:
        def __init__(self):
            self.limits = {}

        @property
        def num_threads(self):
            return self.limits.get(threading.get_ident(), 4)

        def set_num_threads(self, limit):
            self.limits[threading.get_ident()] = limit

    library = Library()
    monkeypatch.setattr(_threads, "_pools", lambda: ([], [library]))
    monkeypatch.setattr(_threads, "cpu_count", lambda: 3)
    with _threads.team_for(LARGE) as team:
        assert team.n_threads == 3
        assert library.num_threads == 1
        for _ in range(100):
            if len(library.limits) == 3:
                break
            time.sleep(0.01)
        assert list(library.limits.values()) == [1, 1, 1]
    assert library.num_threads == 4


def test_a_blas_that_nobody_can_hold_has_its_own_threads(monkeypatch):
    monkeypatch.setattr(_threads, "_pools", lambda: ([], []))
    with _threads.team_for(LARGE) as team:
        assert team.n_threads == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_begins_afresh():
    """Forked by another thread than that which fits."""
    before = limits()
    with _threads.team_for(LARGE):
        child = os.fork()
        if child == 0:
            with _threads.single_threaded_blas.lock:
                fine = not _threads._users and limits() == before
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert set(limits()) == {1}


def test_a_small_use_of_a_network_leaves_blas_alone():
    before = limits()
    with _threads.team_to_apply(_threads.WORTH_STARTING_THREADS - 1) as team:
        assert team.n_threads == 1
        assert limits() == before


def team_size():
    with _threads.team_for(LARGE) as team:
        return team.n_threads


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_the_environment_is_honoured(variable):
    if "openblas" not in {pool["internal_api"] for pool in threadpool_info()}:
        pytest.skip("these variables are OpenBLAS's")
    code = (
        "from skae._threads import *\nwith team_for(WORTH_THREADS) as team: print(team.n_threads)"
    )
    others = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**others, variable: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "1"


@pytest.mark.slow
def test_processes_of_joblib_share_the_cores():
    sizes = Parallel(n_jobs=_threads.cpu_count())(delayed(team_size)() for _ in range(2))
    assert sizes == [1, 1]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_fits_beside_each_other_are_those_one_after_the_other(n_threads):
    X = np.random.default_rng(0).uniform(size=(200, 120)).astype(np.float32)

    def fit(seed):
        model = StackedAutoencoder((110, 90), batch_size=100, max_iter=10, random_state=seed)
        return model.fit(X).layers_[-1].components_

    with threadpool_limits(n_threads):
        before = limits()
        desired = [fit(seed) for seed in range(4)]
        found = [None] * 4

        def work(seed):
            found[seed] = fit(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert limits() == before
    for seed in range(4):
        assert_array_equal(found[seed], desired[seed])


@needs_two_cores
def test_weights_hardly_depend_on_the_number_of_threads():
    X = np.random.default_rng(0).uniform(size=(500, 120)).astype(np.float32)
    fits = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            model = DenoisingAutoencoder(
                110, solver="sgd", batch_size=100, max_iter=1, random_state=0
            )
            fits.append(model.fit(X).components_)
    np.testing.assert_allclose(*fits, atol=1e-5)
