"""Data sets: dense blocks of the right type, without a copy where possible, never all of X."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from common import unaligned
from numpy.testing import assert_array_equal
from sklearn import clone, config_context

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
    rows = ArrayDataset(array, dtype)
    assert rows.zero_copy
    assert len(rows) == 23
    ((where, block),) = rows.blocks(5)
    assert where == slice(None)
    assert block is array
    (batches,) = rows.batches(ORDER, 5, 7, WEIGHTS)
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
    rows = ArrayDataset(INDIRECT[name], np.float64)
    seen = []
    for batch in rows.batches(ORDER, 6, 7, WEIGHTS):
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


# -- blocks follow the working memory ----------------------------------------------------------

WIDE = sp.random(600, 20_000, density=1e-3, random_state=0, format="csr")
FEW = dict(max_iter=1, batch_size=2, random_state=0)
FITTED = {
    make: make(sizes, **FEW, **params)
    for make, sizes, params in [
        (DenoisingAutoencoder, 8, {}),
        (StackedAutoencoder, (8, 4), {}),
        (StackedAutoencoderClassifier, (8, 4), {"pretrain": False}),
        (StackedAutoencoderRegressor, (8, 4), {"pretrain": False}),
    ]
}
USES = {
    "transform": FITTED,
    "score_samples": [DenoisingAutoencoder, StackedAutoencoder],
    "score": [DenoisingAutoencoder, StackedAutoencoder],
    "inverse_transform": [DenoisingAutoencoder, StackedAutoencoder],
    "predict": [StackedAutoencoderClassifier, StackedAutoencoderRegressor],
    "predict_proba": [StackedAutoencoderClassifier],
}


@pytest.fixture(scope="module")
def fitted():
    y = np.arange(20) % 3
    return {make: estimator.fit(WIDE[:20], y) for make, estimator in FITTED.items()}


def peak_memory(function, *args):
    """The most memory that a call takes beside what it returns, in MiB."""
    tracemalloc.start()
    try:
        result = function(*args)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - getattr(result, "nbytes", 0)) / 2**20


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("make, use", [(make, use) for use in USES for make in USES[use]])
def test_blocks_of_wide_samples_follow_the_working_memory(fitted, make, use, dtype):
    """512 samples would take 80 MiB, and more for the reconstructions."""
    estimator = fitted[make]
    X = WIDE.astype(dtype)
    if use == "inverse_transform":
        X = np.ones((600, estimator._n_features_out), dtype=dtype)
    peaks = []
    for working_memory in (16, 256):
        with config_context(working_memory=working_memory):
            peaks.append(peak_memory(getattr(estimator, use), X))
    converted = 3  # copies of the parameters, or of X, in another type
    assert peaks[0] < 1 + converted
    assert 4 < peaks[1] < 16 + converted


@pytest.mark.parametrize(
    "estimator",
    [
        DenoisingAutoencoder(2),
        StackedAutoencoder((2, 2), joint=True, joint_max_iter=1, corruption="salt_and_pepper"),
        StackedAutoencoderClassifier(2, fine_tune="top_then_all", pretrain=False),
        StackedAutoencoderRegressor(pretrain=StackedAutoencoder(2, **FEW)),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("working_memory", [0, 16])
def test_blocks_of_held_out_samples_follow_the_working_memory(estimator, working_memory):
    """With none of it, the codes of a layer below are computed for each block, too."""
    estimator = clone(estimator).set_params(early_stopping=True, validation_fraction=0.9, **FEW)
    with config_context(working_memory=working_memory):
        peak = peak_memory(estimator.fit, WIDE, np.arange(600) % 3)
    n_weights = 2 * 2 * WIDE.shape[1]
    noise = 16  # two blocks of 2**20 numbers, to learn the deviations of the features
    assert peak < working_memory / 16 + 20 * n_weights * 8 / 2**20 + noise


@pytest.mark.parametrize("n_features", [10, 10**9])
def test_a_block_has_one_sample_at_least(n_features):
    with config_context(working_memory=0):
        assert ArrayDataset(sp.csr_array((3, n_features))).block_size() == 1


def test_a_block_takes_a_sixteenth_of_the_working_memory():
    rows = ArrayDataset(sp.csr_array((3, 1000)), target=np.zeros((3, 10)))
    one = (1000 + 10 + 14) * 8
    for working_memory, size in [(1, 8), (16, 128), (64, 512), (1024, 512)]:
        with config_context(working_memory=working_memory):
            assert rows.block_size(14) == size == min(512, working_memory * 2**20 // 16 // one)


@pytest.mark.parametrize("width, size", [(8192 // 2, 512), (2 * 8192, 512), (8 * 8192, 128)])
def test_samples_of_usual_width_come_in_blocks_of_512(width, size):
    assert ArrayDataset(np.empty((1, width))).block_size() == size


@pytest.mark.parametrize("make, use", [(make, use) for use in USES for make in USES[use]])
def test_results_do_not_depend_on_the_size_of_blocks(fitted, make, use):
    estimator, X = fitted[make], WIDE[:50]
    if use == "inverse_transform":
        X = estimator.transform(X)
    expected = getattr(estimator, use)(X)
    for working_memory in (0, 20):
        with config_context(working_memory=working_memory):
            result = getattr(estimator, use)(X)
        np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-13)


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
