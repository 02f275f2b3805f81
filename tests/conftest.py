"""Fixtures that several test modules share, and what runs when.

Imports that take long are made where they are needed: pytest-xdist's first process imports this
module before it starts those that run the tests.
"""

import signal

import pytest
from threadpoolctl import threadpool_limits

pytest.register_assert_rewrite("common")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread():
    """Hold BLAS to one thread, for small matrices gain nothing from more of them."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def epochs(monkeypatch):
    """Record all calls of the kernel's `train` in a test, as a list of `common.Epoch`."""
    from common import record_epochs

    return record_epochs(monkeypatch)


@pytest.fixture
def splits(monkeypatch):
    """Record all splits into rows to train on and rows held out, see `common.record_splits`."""
    from common import record_splits

    return record_splits(monkeypatch)


@pytest.fixture
def run_check(monkeypatch):
    """Run a check on an estimator, with data as the estimator takes them and of a given dtype.

    Checks adapt their data to the tags of an estimator in one function. There those for
    cross-entropy are squashed into [0, 1) here, with zeros left as they are. Three checks do not
    call it: for them, the estimator's validation squashes.
    """
    import numpy as np
    from common import needs_unit_range
    from sklearn.utils import estimator_checks

    adapt = estimator_checks._enforce_estimator_tags_X

    def squashed(X):
        return np.abs(X) / (1 + np.abs(X))

    def run(estimator, check, dtype=np.float64):
        validate = type(estimator)._validate
        if needs_unit_range(estimator) and check.func.__name__ in (
            "check_positive_only_tag_during_fit",
            "check_sample_weights_shape",
            "check_sample_weights_not_overwritten",
        ):
            monkeypatch.setattr(
                type(estimator),
                "_validate",
                lambda self, X, **options: squashed(validate(self, X, **options)),
            )

        def adapt_one(X):
            return (squashed(X) if needs_unit_range(estimator) else X).astype(dtype)

        def adapted(estimator, X, X_test=None, **options):
            found = adapt(estimator, X, X_test, **options)
            return adapt_one(found) if X_test is None else tuple(map(adapt_one, found))

        if needs_unit_range(estimator) or dtype != np.float64:
            monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", adapted)
        check(estimator)

    return run


def pytest_ignore_collect(collection_path, config):
    """Leave out at once what ``-m "not exhaustive"`` would: it takes seconds to collect."""
    if collection_path.name == "test_exhaustive.py" and "not exhaustive" in config.option.markexpr:
        return True
