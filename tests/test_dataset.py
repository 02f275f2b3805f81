"""Data sets: dense blocks of the right type, without a copy where possible, never all of X."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from sklearn import config_context

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
)
from skae._dataset import ArrayDataset
from skae._kernel import _sgd

X = np.random.default_rng(0).uniform(size=(23, 4)) * (np.arange(4) != 2)
WEIGHTS = np.linspace(1, 2, 23)
ORDER = np.random.default_rng(1).permutation(23)[:17]

INDIRECT = {
    "csr_array": sp.csr_array(X),
    "csr_matrix": sp.csr_matrix(X),
    "Fortran order": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=1)[:, ::2],
    "another type": X.astype(np.float32),
}
indirect = pytest.mark.parametrize("name", INDIRECT)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_that_fits_is_passed_on_without_a_copy(dtype):
    array = X.astype(dtype)
    array.flags.writeable = False
    rows = ArrayDataset(array, dtype, sample_weight=WEIGHTS)
    assert rows.zero_copy
    assert len(rows) == 23
    ((where, block),) = rows.blocks(5)
    assert where == slice(None)
    assert block is array
    (batches,) = rows.batches(ORDER, 5, key=7)
    assert batches.X is batches.target is array
    assert batches.rows is batches.ids is ORDER
    assert batches.weights is WEIGHTS
    assert (batches.size, batches.key) == (5, 7)


@indirect
def test_what_does_not_fit_comes_a_block_at_a_time(name):
    rows = ArrayDataset(INDIRECT[name], np.float64)
    assert not rows.zero_copy
    assert len(rows) == 23
    parts = list(rows.blocks(5))
    assert [where for where, _ in parts] == [slice(k, min(k + 5, 23)) for k in (0, 5, 10, 15, 20)]
    for where, block in parts:
        assert isinstance(block, np.ndarray)
        assert block.dtype == np.float64
        assert block.flags.c_contiguous
        assert_array_equal(block, np.asarray(rows.take(slice(None)))[where])
    np.testing.assert_allclose(np.concatenate([block for _, block in parts]), X, rtol=1e-7)


@pytest.mark.parametrize("name", ["direct", *INDIRECT])
def test_blocks_of_an_index(name):
    rows = ArrayDataset(INDIRECT.get(name, X), np.float64)
    parts = list(rows.blocks(6, ORDER))
    assert [block.shape for _, block in parts] == [(6, 4), (6, 4), (5, 4)]
    for where, block in parts:
        np.testing.assert_allclose(block, X[ORDER[where]], rtol=1e-7)


@indirect
def test_mini_batches_follow_the_order_and_name_their_rows(name):
    rows = ArrayDataset(INDIRECT[name], np.float64, sample_weight=WEIGHTS)
    seen = []
    for batch in rows.batches(ORDER, 6, key=7):
        assert batch.target is batch.X
        assert (batch.size, batch.key) == (6, 7)
        assert_array_equal(batch.rows, np.arange(len(batch.X)))
        assert_array_equal(batch.weights, WEIGHTS[batch.ids])
        np.testing.assert_allclose(batch.X, X[batch.ids], rtol=1e-7)
        seen.append(batch.ids)
    assert [len(ids) for ids in seen] == [6, 6, 5]
    assert_array_equal(np.concatenate(seen), ORDER)


@pytest.mark.parametrize("name", ["direct", *INDIRECT])
def test_targets_go_with_their_rows(name):
    target = np.arange(46.0).reshape(23, 2)
    rows = ArrayDataset(INDIRECT.get(name, X), np.float64, target=target)
    seen = 0
    for batch in rows.batches(ORDER, 6, key=7):
        assert batch.weights is None
        np.testing.assert_allclose(batch.X[batch.rows], X[batch.ids], rtol=1e-7)
        assert_array_equal(batch.target[batch.rows], target[batch.ids])
        seen += len(batch.ids)
    assert seen == len(ORDER)


def test_single_precision_on_request():
    for array in INDIRECT.values():
        for _, block in ArrayDataset(array, np.float32).blocks(10):
            assert block.dtype == np.float32


def counted(method, sizes):
    def spy(matrix, *args, **kwargs):
        sizes.append(matrix.shape[0])
        return method(matrix, *args, **kwargs)

    return spy


@pytest.fixture
def densified(monkeypatch):
    """The numbers of rows of each sparse matrix that was made dense."""
    sizes = []
    for cls in (sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_array):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(cls, method, counted(getattr(cls, method), sizes))
    return sizes


@pytest.mark.parametrize("container", [sp.csr_array, sp.csr_matrix, sp.csc_array])
@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
@pytest.mark.parametrize("make", [DenoisingAutoencoder, StackedAutoencoder])
def test_sparse_rows_are_made_dense_a_mini_batch_at_a_time(make, corruption, container, densified):
    sparse = container(sp.random(1500, 30, density=0.1, random_state=0))
    estimator = make(
        4, batch_size=50, max_iter=2, corruption=corruption, early_stopping=True, random_state=0
    )
    estimator.fit(sparse)
    assert len(densified) >= 2 * (1350 // 50)
    assert max(densified) <= 512  # the held-out rows are measured by larger blocks
    estimator.set_params(early_stopping=False)
    densified.clear()
    estimator.partial_fit(sparse)
    assert max(densified) == 50
    for use in (estimator.transform, estimator.score_samples):
        densified.clear()
        use(sparse)
        assert densified
        assert max(densified) <= 512


def test_sparse_fit_needs_little_memory():
    sparse = sp.random(5_000, 1_000, density=1e-3, random_state=0, format="csr")
    estimator = DenoisingAutoencoder(2, max_iter=1, random_state=0)
    tracemalloc.start()
    try:
        estimator.fit(sparse)
        estimator.transform(sparse)
        estimator.score(sparse)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.5 * 5_000 * 1_000 * 8


# -- codes -------------------------------------------------------------------------------------


def encode(rows):
    return np.concatenate([block for _, block in rows.blocks(5)])[:, :3] * 2


def test_codes_are_held_where_there_is_room():
    rows = ArrayDataset(X, sample_weight=WEIGHTS)
    with config_context(working_memory=1):
        held = rows.encoded(encode, 3)
    assert held.zero_copy
    with config_context(working_memory=0):
        made = rows.encoded(encode, 3)
    assert not made.zero_copy
    for codes in (held, made):
        assert (len(codes), codes.n_features, codes.dtype) == (23, 3, np.float64)
        assert codes.sample_weight is WEIGHTS
        assert_array_equal(codes.take(ORDER), X[ORDER, :3] * 2)
        extremes = [X[:, :3].min(axis=0) * 2, X[:, :3].max(axis=0) * 2]
        assert_array_equal(codes.feature_ranges(), extremes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_room_for_codes_is_counted_in_mebibytes(dtype):
    """The unit of scikit-learn's `working_memory`."""
    n_codes = 2**20 // np.dtype(dtype).itemsize  # a row of them takes one
    one_row = np.zeros((1, 1), dtype=dtype)
    for n_rows, fits in ((3, True), (4, False)):
        rows = ArrayDataset(np.zeros((n_rows, 1), dtype=dtype))
        with config_context(working_memory=3):
            codes = rows.encoded(lambda rows: np.resize(one_row, (len(rows), n_codes)), n_codes)
        assert codes.zero_copy == fits


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, np.asfortranarray])
@pytest.mark.parametrize(
    "make",
    [
        lambda: StackedAutoencoder((6, 5, 4), max_iter=3, random_state=0),
        lambda: StackedAutoencoder(
            (6, 5), max_iter=3, corruption="salt_and_pepper", early_stopping=True, random_state=0
        ),
    ],
)
def test_stack_is_the_same_on_codes_made_anew(make, container):
    held = make().fit(container(X))
    with config_context(working_memory=0):
        made = make().fit(container(X))
    for one, other in zip(held.layers_, made.layers_, strict=True):
        np.testing.assert_allclose(other.components_, one.components_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.transform(X), held.transform(X), rtol=1e-9, atol=1e-12)


def test_top_is_the_same_on_codes_made_anew():
    y = np.arange(23) % 3
    tops = []
    for room in (1024, 0):
        with config_context(working_memory=room):
            model = StackedAutoencoderClassifier(8, fine_tune="top", max_iter=3, random_state=0)
            tops.append(model.fit(X, y).coefs_[-1])
    np.testing.assert_allclose(*tops, rtol=1e-9, atol=1e-12)


# -- memory that is not aligned ------------------------------------------------------------------


def unaligned(array):
    """Copy an array to where its numbers do not begin at multiples of their size."""
    array = np.asarray(array)
    space = np.empty(array.nbytes + 1, dtype=np.uint8)
    copy = space[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    assert not copy.flags.aligned
    return copy


def of_a_record(array):
    """Copy an array to a field of a packed record."""
    field = ("field", array.dtype, array.shape[1:])
    records = np.zeros(len(array), dtype=[("before", "u1"), field])
    records["field"] = array
    assert not records["field"].flags.aligned
    return records["field"]


@pytest.fixture
def aligned_calls(monkeypatch):
    """The names of the functions of the kernel that were called, each with aligned arrays only."""
    calls = []

    def watch(name):
        real = getattr(_sgd, name)

        def watched(*args):
            given = [*args]
            for arg in args:
                if isinstance(arg, _sgd.Batches):
                    given += [arg.X, arg.target, arg.rows, arg.ids, arg.weights]
                if isinstance(arg, _sgd.Problem):
                    given += [arg.state.buffers]
            arrays = [array for array in given if isinstance(array, np.ndarray)]
            assert all(array.flags.aligned for array in arrays)
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(_sgd, name, watched)

    for name in ("train", "outputs", "row_losses", "corrupt_rows"):
        watch(name)
    return calls


@pytest.mark.parametrize("displaced", [unaligned, of_a_record])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_unaligned_arrays_give_what_aligned_ones_do(
    displaced, dtype, early_stopping, aligned_calls
):
    given = X.astype(dtype)
    params = dict(
        max_iter=2, early_stopping=early_stopping, validation_fraction=0.3, random_state=0
    )
    results = []
    for place in (np.array, displaced):
        A, weights = place(given), place(WEIGHTS)
        result = []
        for model in (DenoisingAutoencoder(3, **params), StackedAutoencoder((3, 2), **params)):
            codes = model.fit(A, sample_weight=weights).transform(A)
            result += [codes, model.inverse_transform(place(codes)), model.score_samples(A)]
            result.append(model.score(A, sample_weight=weights))
        labels, numbers = place(np.arange(23) % 3), place(X[:, :2].astype(dtype))
        for model, y in (
            (StackedAutoencoderClassifier(3, **params), labels),
            (StackedAutoencoderRegressor(3, **params), numbers),
        ):
            result += [model.fit(A, y, sample_weight=weights).predict(A), model.transform(A)]
        results.append(result)
    for one, other in zip(*results, strict=True):
        assert_array_equal(one, other)
    assert {"train", "outputs", "row_losses"} <= set(aligned_calls)
