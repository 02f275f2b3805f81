"""MarginalizedAutoencoder: against its definition, in parts, on sparse X."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array, csr_matrix, issparse, random_array

from skae import MarginalizedAutoencoder

RNG = np.random.default_rng(0)
WORDS = (RNG.random((60, 12)) < RNG.uniform(0.1, 0.7, 12)).astype(float)
WORDS[:, 3] = WORDS[:, 5]  # two words that always occur together


def reference(X, targets, level, alpha, weights=None):
    """Minimise the mean squared error over all masks of the features, by enumeration."""
    n, d = X.shape
    w = np.ones(n) if weights is None else weights
    inputs, outputs, importance = [], [], []
    for mask in itertools.product([0, 1], repeat=d):
        probability = np.prod(np.where(mask, 1 - level, level))
        inputs.append(np.c_[X * mask, np.ones(n)])
        outputs.append(X[:, targets])
        importance.append(probability * w / w.sum())
    inputs, outputs = np.vstack(inputs), np.vstack(outputs)
    weighted = inputs * np.concatenate(importance)[:, np.newaxis]
    squares = weighted.T @ inputs
    # The penalty is in units of the mean square of a feature, for weights that see the fraction
    # 1 - level of the features.
    size = np.average(X**2, axis=0, weights=w).mean()
    squares[np.arange(d), np.arange(d)] += alpha * size * (1 - level)
    solution = np.linalg.solve(squares, weighted.T @ outputs)
    return solution[:-1], solution[-1]


@pytest.mark.parametrize("level", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_minimise_the_expected_error_over_all_masks(level, weighted):
    X = RNG.standard_normal((30, 5)) @ RNG.standard_normal((5, 5)) + 1
    weights = RNG.uniform(0, 3, 30) if weighted else None
    fitted = MarginalizedAutoencoder(corruption_level=level, alpha=0.01)
    fitted.fit(X, sample_weight=weights)
    targets = fitted.component_indices_
    coefs, intercept = reference(X, targets, level, 0.01, weights)
    assert_allclose(fitted.coefs_[0], coefs, rtol=1e-7, atol=1e-10)
    assert_allclose(fitted.intercepts_[0], intercept, rtol=1e-7, atol=1e-10)
    assert_allclose(fitted.transform(X), np.tanh(X @ coefs + intercept), atol=1e-9)


def test_the_most_frequent_features_are_reconstructed():
    fitted = MarginalizedAutoencoder(4).fit(WORDS)
    counts = (WORDS != 0).sum(axis=0)
    assert_array_equal(fitted.component_indices_, np.argsort(-counts, kind="stable")[:4])
    assert fitted.n_components_ == 4
    assert fitted.transform(WORDS).shape == (60, 4)


def test_a_masked_word_is_told_from_its_twin():
    fitted = MarginalizedAutoencoder(activation="identity").fit(WORDS)
    without = WORDS.copy()
    without[:, 3] = 0
    place = list(fitted.component_indices_).index(3)
    guess = fitted.transform(without)[:, place]
    assert guess[WORDS[:, 3] == 1].min() > guess[WORDS[:, 3] == 0].max()


def test_layers_of_groups_are_means_of_the_layers_of_each():
    fitted = MarginalizedAutoencoder(5, corruption_level=0.5).fit(WORDS)
    order = np.argsort(-(WORDS != 0).sum(axis=0), kind="stable")
    groups = [order[k::3] for k in range(3)]
    total = np.zeros((60, 5))
    for group in groups:
        centred = WORDS - WORDS.mean(axis=0)
        covariance = centred[:, group].T @ centred[:, group] / 60
        squares = (WORDS[:, group] ** 2).mean(axis=0)
        matrix = 0.5 * covariance + np.diag(0.5 * squares + 1e-5 * squares.mean())
        W = np.linalg.solve(matrix, centred[:, group].T @ centred[:, order[:5]] / 60)
        bias = WORDS[:, order[:5]].mean(axis=0) - 0.5 * WORDS[:, group].mean(axis=0) @ W
        total += (WORDS[:, group] @ W + bias) / 3
    assert_allclose(fitted.transform(WORDS), np.tanh(total), atol=1e-10)


def test_a_layer_is_one_fitted_to_the_codes_below():
    two = MarginalizedAutoencoder(n_layers=2, corruption_level=0.4).fit(WORDS)
    one = MarginalizedAutoencoder(corruption_level=0.4).fit(WORDS)
    above = MarginalizedAutoencoder(corruption_level=0.4).fit(one.transform(WORDS))
    assert_array_equal(two.coefs_[0], one.coefs_[0])
    back = np.argsort(above.component_indices_)
    assert_allclose(two.coefs_[1], above.coefs_[0][:, back], atol=1e-10)
    assert_allclose(two.transform(WORDS), above.transform(one.transform(WORDS))[:, back])


@pytest.mark.parametrize("store", [csr_matrix, csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [5, None])
def test_sparse_is_as_dense(store, dtype, n_components):
    X = WORDS.astype(dtype)
    fits = [MarginalizedAutoencoder(n_components, n_layers=2).fit(Z) for Z in (X, store(X))]
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    for name in ("coefs_", "intercepts_"):
        for dense, sparse in zip(*(getattr(fit, name) for fit in fits)):
            assert dense.dtype == sparse.dtype == dtype
            assert_allclose(dense, sparse, atol=tolerance)
    codes = [fit.transform(Z) for fit, Z in zip(fits, (X, store(X)))]
    assert codes[0].dtype == codes[1].dtype == dtype
    assert_allclose(*codes, atol=tolerance)


@pytest.mark.parametrize("n_layers", [1, 2])
def test_all_codes_beside_the_features(n_layers):
    beside = MarginalizedAutoencoder(7, n_layers=n_layers, concatenate=True)
    dense = beside.fit_transform(WORDS)
    sparse = beside.fit_transform(csr_array(WORDS))
    assert issparse(sparse) and sparse.format == "csr"
    assert_allclose(sparse.toarray(), dense, atol=1e-10)
    assert_array_equal(dense[:, :12], WORDS)
    assert dense.shape == (60, 12 + 7 * n_layers)
    top = MarginalizedAutoencoder(7, n_layers=n_layers).fit_transform(WORDS)
    assert_array_equal(dense[:, -7:], top)
    names = beside.get_feature_names_out()
    assert len(names) == dense.shape[1]
    assert names[:2].tolist() == ["x0", "x1"]
    assert names[12] == "marginalizedautoencoder0"


def test_parts_add_up_to_a_fit():
    weights = RNG.uniform(0, 2, 60)
    whole = MarginalizedAutoencoder(12).fit(WORDS, sample_weight=weights)
    parts = MarginalizedAutoencoder(12)
    for where in (slice(40), slice(40, 41), slice(41, 60)):
        parts.partial_fit(WORDS[where], sample_weight=weights[where])
    assert parts.n_samples_seen_ == 60
    order = [list(parts.component_indices_).index(k) for k in whole.component_indices_]
    assert_allclose(parts.coefs_[0][:, order], whole.coefs_[0], atol=1e-9)
    assert_allclose(parts.intercepts_[0][order], whole.intercepts_[0], atol=1e-9)


def test_an_upper_layer_also_learns_in_parts():
    parts = MarginalizedAutoencoder(n_layers=2).partial_fit(WORDS[:30])
    before = parts.coefs_[1].copy()
    parts.partial_fit(WORDS[30:])
    assert not np.allclose(parts.coefs_[1], before)
    assert np.isfinite(parts.transform(WORDS)).all()


@pytest.mark.parametrize("n_layers", [1, 2])
def test_weights_count_samples(n_layers):
    counts = RNG.integers(0, 3, 60)
    weighted = MarginalizedAutoencoder(6, n_layers=n_layers).fit(WORDS, sample_weight=counts)
    repeated = MarginalizedAutoencoder(6, n_layers=n_layers).fit(np.repeat(WORDS, counts, axis=0))
    for one, other in zip(weighted.coefs_, repeated.coefs_):
        assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2.0**-1050, 2.0**1010])
def test_scale_of_weights_changes_nothing(dtype, scale):
    X, weights = WORDS.astype(dtype), np.arange(60) % 5
    one = MarginalizedAutoencoder(6).fit(X, sample_weight=weights)
    other = MarginalizedAutoencoder(6).fit(X, sample_weight=scale * weights)
    assert_array_equal(one.coefs_[0], other.coefs_[0])


@pytest.mark.parametrize("seed", range(5))
def test_features_of_the_same_frequency_stay_in_their_order(seed):
    rng = np.random.default_rng(seed)
    X, weights = rng.uniform(1, 2, (50, 7)), rng.uniform(size=50)
    for Z in (X, csr_array(X), np.asfortranarray(X)):
        fitted = MarginalizedAutoencoder(3).fit(Z, sample_weight=weights)
        assert_array_equal(fitted.component_indices_, [0, 1, 2])


def test_scale_of_x_changes_only_the_scale_of_the_reconstruction():
    small, large = (
        MarginalizedAutoencoder(activation="identity", alpha=0.1).fit(c * WORDS) for c in (1, 1000)
    )
    assert_allclose(large.transform(1000 * WORDS), 1000 * small.transform(WORDS), rtol=1e-6)


def test_blocks_of_samples_change_nothing(monkeypatch):
    whole = MarginalizedAutoencoder(6, n_layers=2).fit(csr_array(WORDS))
    monkeypatch.setattr("skae._marginalized.BLOCK", 7)
    parts = MarginalizedAutoencoder(6, n_layers=2).fit(csr_array(WORDS))
    for one, other in zip(whole.coefs_, parts.coefs_):
        assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("n_components", [800, None])
def test_memory_is_three_matrices_of_weights(n_components):
    n_features = 4000 if n_components else 1500
    X = random_array((3000, n_features), density=0.01, format="csr", rng=0, dtype=np.float32)
    tracemalloc.start()
    fitted = MarginalizedAutoencoder(n_components).fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.25 * fitted.coefs_[0].nbytes + X.data.nbytes + X.indices.nbytes


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda one: one.partial_fit(WORDS[:, :5]), "features"),
        (lambda one: one.partial_fit(np.full((3, 12), np.nan)), "NaN"),
        (lambda one: one.set_params(n_layers=2).partial_fit(WORDS), "n_layers was 1"),
        (lambda one: one.set_params(n_components=3).partial_fit(WORDS), "n_components was 12"),
        (lambda one: one.partial_fit(WORDS, sample_weight=-np.ones(60)), "Negative"),
        (lambda one: one.partial_fit(1e200 * WORDS), "too large for float64"),
    ],
)
def test_a_refused_call_changes_nothing(act, message):
    fitted = MarginalizedAutoencoder(12).partial_fit(WORDS)
    before = fitted.transform(WORDS)
    params = fitted.get_params()
    with pytest.raises(ValueError, match=message):
        act(fitted)
    assert_array_equal(fitted.transform(WORDS), before)
    fitted.set_params(**params).partial_fit(WORDS)
    assert fitted.n_samples_seen_ == 120


@pytest.mark.parametrize("way", ["fit", "partial_fit", "transform"])
@pytest.mark.parametrize("name", ["alpha", "activation", "concatenate"])
def test_a_wrong_parameter_is_refused_after_a_fit_too(way, name):
    fitted = MarginalizedAutoencoder(12).partial_fit(WORDS).set_params(**{name: "x"})
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        getattr(fitted, way)(WORDS)
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        fitted.get_feature_names_out()


def test_parts_after_a_fit_start_from_scratch():
    fitted = MarginalizedAutoencoder(12).fit(WORDS[:30]).partial_fit(WORDS[30:])
    alone = MarginalizedAutoencoder(12).partial_fit(WORDS[30:])
    assert fitted.n_samples_seen_ == 30
    assert_array_equal(fitted.transform(WORDS), alone.transform(WORDS))


def test_dependent_features_without_noise_are_refused_in_clear_words():
    X = np.repeat([[0], [1]], 4, axis=1).astype(np.float32)
    with pytest.raises(ValueError, match="larger alpha"):
        MarginalizedAutoencoder(corruption_level=0, alpha=1e-30).fit(X)


def test_an_alpha_beyond_the_dtype_is_refused():
    with pytest.raises(ValueError, match=r"alpha=1e\+300 .* too large for float32"):
        MarginalizedAutoencoder(alpha=1e300).fit(WORDS.astype(np.float32))
    fitted = MarginalizedAutoencoder(alpha=1e300, activation="identity").fit(WORDS)
    assert_allclose(fitted.transform(WORDS)[0], WORDS.mean(axis=0)[fitted.component_indices_])


def test_input_is_not_written_to():
    X = csr_array(WORDS)
    X.indices[:2] = X.indices[1::-1]  # not sorted
    X.data[:2] = X.data[1::-1]
    X.has_sorted_indices = False
    before = X.indices.copy(), X.data.copy()
    MarginalizedAutoencoder(5, concatenate=True).fit_transform(X)
    assert_array_equal(X.indices, before[0])
    assert_array_equal(X.data, before[1])


@pytest.mark.parametrize("way", ["pickle", "skops"])
def test_parts_go_on_after_saving(way, tmp_path):
    half = MarginalizedAutoencoder(5, n_layers=2).partial_fit(WORDS[:30])
    if way == "pickle":
        loaded = pickle.loads(pickle.dumps(half))
    else:
        io = pytest.importorskip("skops.io")
        io.dump(half, tmp_path / "half.skops")
        unknown = io.get_untrusted_types(file=tmp_path / "half.skops")
        assert unknown == ["skae._marginalized.MarginalizedAutoencoder"]
        loaded = io.load(tmp_path / "half.skops", trusted=unknown)
    codes = [one.partial_fit(WORDS[30:]).transform(WORDS) for one in (half, loaded)]
    assert_array_equal(*codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "params", [{}, {"n_layers": 2, "concatenate": True}, {"activation": "identity"}]
)
def test_onnx_gives_the_codes(dtype, params):
    skl2onnx = pytest.importorskip("skl2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    import skae.onnx  # noqa: F401

    X = WORDS.astype(dtype)
    fitted = MarginalizedAutoencoder(6, **params).fit(X)
    graph = skl2onnx.to_onnx(fitted, X[:1]).SerializeToString()
    (codes,) = onnxruntime.InferenceSession(graph).run(None, {"X": X})
    assert codes.dtype == dtype
    assert_allclose(codes, fitted.transform(X), atol=1e-5)
