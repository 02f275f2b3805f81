"""What several test modules share."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="module")
def one_thread():
    """Small matrices gain nothing from BLAS threads, and lose much on a busy machine."""
    with threadpool_limits(1):
        yield
