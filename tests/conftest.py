"""What several test modules share."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="module")
def one_thread():
    """Small matrices gain nothing from BLAS threads, and lose much on a busy machine."""
    with threadpool_limits(1):
        yield


def pytest_collection_modifyitems(items):
    """Scikit-learn's checks are slow, but for those of the first estimator of each class."""
    first = {}
    for item in items:
        if getattr(item, "originalname", "") == "test_scikit_learn_checks":
            estimator = item.callspec.params["estimator"]
            if first.setdefault(type(estimator), estimator) is not estimator:
                item.add_marker(pytest.mark.slow)
