"""What a noise goes by: deviations, extremes, samples to swap values with."""

import numpy as np
import pytest
import scipy.sparse as sp
from common import assert_close_fit, assert_same_fit, denoising, noise_of, stacked, uniform
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder
from skae._parameters import CORRUPTIONS, GAUSSIAN

pytestmark = pytest.mark.usefixtures("one_thread")

X = uniform() * np.linspace(0.1, 10, 9)
CONTAINERS = {
    "dense": lambda X: X,
    "fortran": np.asfortranarray,
    "csr": sp.csr_array,
    "integers": lambda X: (10 * X).astype(int),
}
both = pytest.mark.parametrize("make", [denoising, stacked])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("container", CONTAINERS)
@both
def test_gaussian_noise_is_in_deviations_of_each_feature(make, container, dtype):
    given = CONTAINERS[container](X.astype(dtype))
    noise = noise_of(make(corruption="gaussian", corruption_level=0.5).fit(given), given)
    dense = given.toarray() if sp.issparse(given) else given
    assert noise.level == 0.5
    assert_allclose(noise.scale, dense.astype(np.float64).std(axis=0), rtol=1e-12)


def test_many_samples_far_from_zero():
    """As many as several blocks have; the deviation is small beside the mean."""
    rows = np.random.default_rng(0).normal(1e6, 1e-2, size=(1500, 3))
    estimator = denoising(corruption="gaussian", max_iter=1, learning_rate_init=1e-20).fit(rows)
    assert_allclose(noise_of(estimator, rows).scale, rows.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("kind", [k for k in CORRUPTIONS if "masking" not in k])
@both
def test_units_of_features_do_not_matter(make, kind):
    """By powers of two: all is the same but for the units, to the last bit."""
    units = np.exp2([3, -2, 0, 5, 1, -4, 2, 0, 7])
    one, other = (
        make(corruption=kind, corruption_level=0.3, max_iter=1).fit(rows)
        for rows in (X, X * units)
    )
    noises = [noise_of(one, X), noise_of(other, X * units)]
    for name in ("scale", "low", "high", "pool"):
        mine, others = (getattr(noise, name) for noise in noises)
        if mine is not None:
            assert_array_equal(np.asarray(mine) * units, others)


@both
def test_a_feature_that_does_not_vary_gets_no_gaussian_noise(make):
    rows = X.copy()
    rows[:, 4] = 0.3
    assert noise_of(make(corruption="gaussian").fit(rows), rows).scale[4] < 1e-15


@both
def test_noise_of_a_stream_goes_by_all_its_samples(make):
    estimator = make(corruption="gaussian")
    for rows in np.array_split(X, [1, 7, 30]):
        estimator.partial_fit(rows)
    assert_allclose(noise_of(estimator, X).scale, X.std(axis=0), rtol=1e-12)
    estimator.fit(X[:20])
    assert_allclose(noise_of(estimator, X).scale, X[:20].std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", [*GAUSSIAN, "swap"])
@both
def test_samples_of_weight_zero_are_left_out(make, kind):
    weights = np.ones(len(X))
    weights[::3] = 0
    estimator = make(corruption=kind).fit(X, sample_weight=weights)
    kept = X[weights > 0]
    if kind in GAUSSIAN:
        assert_allclose(noise_of(estimator, X).scale, kept.std(axis=0), rtol=1e-12)
        return
    wild = np.where(weights[:, np.newaxis] > 0, X, 1e3)
    assert_same_fit(estimator, make(corruption=kind).fit(wild, sample_weight=weights))


@pytest.mark.parametrize("kind", [*GAUSSIAN, "dropout", "swap"])
@pytest.mark.parametrize("container", ["fortran", "csr"])
@both
def test_noise_is_the_same_whatever_holds_the_samples(make, container, kind):
    params = {"corruption": kind, "corruption_level": 0.3}
    assert_close_fit(
        make(**params).fit(X), make(**params).fit(CONTAINERS[container](X)), rtol=1e-9
    )


def test_swapped_values_are_those_of_the_same_feature():
    rows = np.random.default_rng(0).normal(size=(3000, 5)) + 100 * np.arange(5)
    pool = np.asarray(noise_of(denoising(corruption="swap", max_iter=1).fit(rows), rows).pool)
    assert pool.shape == (1024, 5)
    for column in range(5):
        assert set(pool[:, column]) <= set(rows[:, column])
    wide = sp.random_array((40, 2**20), density=1e-5, random_state=0, format="csr")
    layer = DenoisingAutoencoder(1, corruption="swap", max_iter=1, random_state=0).fit(wide)
    assert noise_of(layer, wide).pool.shape == (2, 2**20)  # not much memory


def test_dropout_reconstructs_at_the_right_size():
    """Masking at one half teaches a layer to make its input larger; dropout does not."""
    rng = np.random.default_rng(0)
    rows = StandardScaler().fit_transform(rng.normal(size=(400, 2)) @ rng.normal(size=(2, 12)))
    sizes = {}
    for kind in ("masking", "dropout"):
        layer = DenoisingAutoencoder(
            40, corruption=kind, corruption_level=0.5, max_iter=60, random_state=0
        ).fit(rows)
        sizes[kind] = np.vdot(layer.reconstruct(rows), rows) / np.vdot(rows, rows)
    assert 0.8 < sizes["dropout"] < 1.1
    assert sizes["masking"] > 1.3


@pytest.mark.parametrize("level", [1, 1.0, 2])
@both
def test_dropout_of_everything_is_refused(make, level):
    with pytest.raises(ValueError, match=r"not a probability: .* in \[0, 1\)"):
        make(corruption="dropout", corruption_level=level).fit(X)
