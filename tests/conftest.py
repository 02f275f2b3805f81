"""Fixtures that several test modules share, and what runs when."""

import pytest
from threadpoolctl import threadpool_limits

pytest.register_assert_rewrite("common")


@pytest.fixture(scope="module")
def one_thread():
    """Small matrices gain nothing from BLAS threads, and lose much on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def epochs(monkeypatch):
    """All calls of the kernel's `train` in a test, as a list of `common.Epoch`."""
    from common import record_epochs

    return record_epochs(monkeypatch)


@pytest.fixture
def splits(monkeypatch):
    """All splits into rows to train on and rows held out, as `common.record_splits` has them."""
    from common import record_splits

    return record_splits(monkeypatch)
