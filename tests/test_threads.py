"""How many threads there are, and what becomes of BLAS's own."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from threadpoolctl import threadpool_info, threadpool_limits

from skae import DenoisingAutoencoder, StackedAutoencoder, _threads

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


def test_an_interrupt_leaves_no_limit(monkeypatch):
    """Wherever it comes: here between two libraries."""
    before = limits()

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(_threads, "_limit_thread_local_pools", interrupted)
    with pytest.raises(KeyboardInterrupt), _threads.single_threaded_blas():
        pass
    assert limits() == before
    assert _threads._users == 0


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
            with _threads._lock:
                fine = _threads._users == 0 and limits() == before
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
