"""The layout of a network: parameters, initial weights, workspace."""

import numpy as np
import pytest
import scipy.sparse as sp

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
    _training,
)
from skae._dataset import ArrayDataset
from skae._heads import HEADS, Linear
from skae._inference import outputs, sample_losses
from skae._kernel import _sgd
from skae._kernel._sgd import ACTIVATIONS, LAYER, LOSSES, NOISES
from skae._network import CODE_ACTIVATIONS, OUTPUT_ACTIVATION, Network
from skae._parameters import CORRUPTIONS

UNTIED = Network([5, 4, 3], ["relu", "identity"])
TIED = Network([5, 4, 5], ["logistic", "identity"], tied=True)
DEEP_UNTIED = Network.autoencoder([6, 5, 3], ["tanh", "relu"], "squared_error", tied=False)
DEEP_TIED = Network.autoencoder([6, 5, 3], ["tanh", "relu"], "squared_error", tied=True)
CLASSIFIER = Network([6, 5, 4, 3], ["relu", "tanh", "softmax"])
NETWORKS = [UNTIED, TIED, DEEP_UNTIED, DEEP_TIED, CLASSIFIER]


def top_k(sizes=(60, 40), n_active="auto", loss="squared_error", *, tied=False):
    n_layers = len(sizes) - 1
    return Network.autoencoder(
        sizes, ["top_k"] * n_layers, loss, tied=tied, n_active=[n_active] * n_layers
    )


TOO_WIDE = 2**63
MANY = 2**57  # units that cannot be addressed together with ten features


def own_layers(network):
    return [k for k in range(len(network)) if not network.layers[k]["transposed"]]


@pytest.mark.parametrize("network", NETWORKS)
def test_views_cover_the_parameters_once(network):
    params = np.zeros(network.n_params)
    for k in own_layers(network):
        network.weights(params, k)[:] += 1
    for k in range(len(network)):
        network.bias(params, k)[:] += 1
    np.testing.assert_array_equal(params, 1)


@pytest.mark.parametrize("network", NETWORKS)
def test_shapes_and_memory_of_the_views(network):
    params = np.arange(network.n_params, dtype=np.float32)
    for k, layer in enumerate(network.layers):
        weights, bias = network.weights(params, k), network.bias(params, k)
        assert weights.shape == (layer["n_out"], layer["n_in"])
        assert bias.shape == (layer["n_out"],)
        for view in (weights, bias):
            assert view.dtype == np.float32
            assert np.shares_memory(view, params)


@pytest.mark.parametrize("network", NETWORKS)
def test_matrices_come_before_biases(network):
    params = np.zeros(network.n_params)
    for k in range(len(network)):
        network.weights(params, k)[:] = 2
        network.bias(params, k)[:] = -1
    n_weights = sum(network.weights(params, k).size for k in own_layers(network))
    np.testing.assert_array_equal(params[:n_weights], 2)
    np.testing.assert_array_equal(params[n_weights:], -1)
    assert network.squared_weights(params) == 4 * n_weights


@pytest.mark.parametrize("network", [TIED, DEEP_TIED])
def test_tied_matrices_are_transposes_in_the_same_memory(network):
    params = np.random.default_rng(0).normal(size=network.n_params)
    n = len(network)
    assert own_layers(network) == list(range(n // 2))
    for k in range(n):
        np.testing.assert_array_equal(
            network.weights(params, k), network.weights(params, n - 1 - k).T
        )
        network.weights(params, k)[0, -1] = 77.0
        assert network.weights(params, n - 1 - k)[-1, 0] == 77.0


def test_tying_halves_the_weights_only():
    n_weights = 6 * 5 + 5 * 3
    n_biases = 5 + 3 + 5 + 6
    assert DEEP_UNTIED.n_params == 2 * n_weights + n_biases
    assert DEEP_TIED.n_params == n_weights + n_biases


@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
@pytest.mark.parametrize("tied", [False, True])
def test_autoencoder_mirrors_its_encoder(tied, loss):
    network = Network.autoencoder([7, 5, 4, 2], ["relu", "tanh", "logistic"], loss, tied=tied)
    names = ["relu", "tanh", "logistic", "tanh", "relu", OUTPUT_ACTIVATION[loss]]
    assert network.layers["n_in"].tolist() == [7, 5, 4, 2, 4, 5]
    assert network.layers["n_out"].tolist() == [5, 4, 2, 4, 5, 7]
    assert network.layers["activation"].tolist() == [ACTIVATIONS[name] for name in names]
    assert network.layers.dtype == LAYER


@pytest.mark.parametrize(
    "sizes", [[5, 4, 3], [5, 4, 4, 5], [5, 5], [6, 5, 3, 4, 6]], ids=lambda sizes: str(sizes)
)
def test_tied_sizes_must_mirror(sizes):
    with pytest.raises(ValueError, match="are not those of a tied autoencoder"):
        Network(sizes, ["tanh"] * (len(sizes) - 1), tied=True)


@pytest.mark.parametrize("tied", [False, True])
def test_sizes_whose_parameters_cannot_be_addressed(tied):
    """Four arrays of float64 in one, as for Adam, must stay below 2**63 bytes."""

    def network(width):
        return Network([4, width, 4], ["relu", "identity"], tied=tied)

    per_unit = 4 + 1 if tied else 8 + 1
    most = (2**63 // 32 - 1 - 4) // per_unit
    assert network(most).n_params == most * per_unit + 4
    for width in (most + 1, TOO_WIDE, 2**100):
        with pytest.raises(ValueError, match=rf"\[4, {width}, 4\] units has .* be addressed"):
            network(width)


SUPERVISED = {
    StackedAutoencoderClassifier: [0, 1, 0, 1],
    StackedAutoencoderRegressor: np.arange(4),
}
UNADDRESSABLE = [
    DenoisingAutoencoder(TOO_WIDE),
    DenoisingAutoencoder(TOO_WIDE, tied_weights=False),
    DenoisingAutoencoder(MANY),
    *(
        make(sizes, **params)
        for sizes in (TOO_WIDE, (2, TOO_WIDE), (TOO_WIDE, 2), (2, MANY, 40))
        for make, params in [
            (StackedAutoencoder, {}),
            (StackedAutoencoder, {"joint": True}),
            *((make, {"pretrain": pretrain}) for make in SUPERVISED for pretrain in (True, False)),
        ]
    ),
]


@pytest.mark.parametrize("estimator", UNADDRESSABLE, ids=str)
def test_such_sizes_are_refused_before_any_work(estimator, monkeypatch):
    monkeypatch.delattr(_training, "train")
    with pytest.raises(ValueError, match=r"addressed .* fewer hidden units"):
        estimator.fit(np.ones((4, 10)), SUPERVISED.get(type(estimator)))
    assert not hasattr(estimator, "n_features_in_")


def test_sizes_that_can_be_addressed_but_not_held():
    with pytest.raises(MemoryError):
        DenoisingAutoencoder(2**50).fit(np.ones((4, 10)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "activation, bound",
    [
        ("identity", np.sqrt(6 / 100)),
        ("tanh", np.sqrt(6 / 100)),
        ("logistic", 4 * np.sqrt(6 / 100)),
        ("relu", np.sqrt(6 / 60)),
    ],
)
def test_initial_weights(activation, bound, tied, dtype):
    network = Network.autoencoder([60, 40], [activation], "squared_error", tied=tied)
    params = network.initialize(np.random.default_rng(3), dtype)
    assert params.shape == (network.n_params,) and params.dtype == dtype
    weights = network.weights(params, 0)
    largest = np.abs(weights).max()
    assert 0.99 * bound < largest <= bound * (1 + 1e-6)
    assert abs(weights.mean()) < 5 * bound / np.sqrt(3 * weights.size)
    assert weights.var() == pytest.approx(bound**2 / 3, rel=0.1)
    for k in range(2):
        np.testing.assert_array_equal(network.bias(params, k), 0)
    if not tied:
        decoder = network.weights(params, 1)
        assert np.abs(decoder).max() == pytest.approx(np.sqrt(6 / 100), rel=0.01)
        assert not np.array_equal(decoder, weights.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tied", [False, True])
def test_initial_weights_of_a_top_k_code(tied, dtype):
    """The decoder has the directions of the encoder, if it is not the same."""
    network = top_k(tied=tied)
    params = network.initialize(np.random.default_rng(3), dtype)
    assert params.dtype == dtype
    encoder, decoder = (network.weights(params, k) for k in range(2))
    bound = np.sqrt(6 / 60)
    assert 0.99 * bound < np.abs(encoder).max() <= bound * (1 + 1e-6)
    assert encoder.var() == pytest.approx(bound**2 / 3, rel=0.1)
    relu = Network.autoencoder([60, 40], ["relu"], "squared_error", tied=tied)
    same = relu.initialize(np.random.default_rng(3), dtype)
    np.testing.assert_array_equal(encoder, relu.weights(same, 0))
    for k in range(2):
        np.testing.assert_array_equal(network.bias(params, k), 0)
    if tied:
        np.testing.assert_array_equal(decoder, encoder.T)
        return
    norms = np.linalg.norm(decoder, axis=0)
    np.testing.assert_allclose(norms, 0.3, rtol=1e-5)
    directions = encoder / np.linalg.norm(encoder, axis=1, keepdims=True)
    np.testing.assert_allclose(decoder.T / norms[:, None], directions, rtol=1e-4, atol=1e-6)


def test_only_the_decoder_of_the_top_code_is_stored_by_its_input():
    """The decoders below reconstruct codes, by 'relu', and start as any layer does."""
    deep = top_k((60, 40, 20))
    assert deep.layers["transposed"].tolist() == [0, 0, 1, 0]
    assert deep.activations == ["top_k", "top_k", "relu", "identity"]
    params = deep.initialize(np.random.default_rng(0), np.float64)
    assert np.abs(deep.weights(params, 3)).max() == pytest.approx(np.sqrt(6 / 100), rel=0.01)
    assert top_k(tied=True).layers["transposed"].tolist() == [0, 1]
    assert Network([60, 40, 3], ["top_k", "softmax"]).layers["transposed"].tolist() == [0, 0]


@pytest.mark.parametrize("n_units", [1, 2, 3, 4, 5, 9, 10, 16, 17, 99, 100, 101])
def test_auto_is_the_square_root_of_the_units_rounded_up(n_units):
    expected = int(np.ceil(np.sqrt(n_units)))
    assert top_k((3, n_units)).layers["n_active"].tolist() == [expected, 0]


def test_only_layers_with_a_top_k_code_have_active_units():
    names = ["relu", "top_k", "tanh", "top_k", "softmax"]
    network = Network([8, 7, 6, 5, 4, 3], names, n_active=[5, 1, 5, "auto"])
    assert network.layers["n_active"].tolist() == [0, 1, 0, 2, 0]


def test_more_active_units_than_there_are():
    with pytest.raises(ValueError, match=r"n_active=5 must be at most 4, the length .* layer 2"):
        Network([6, 5, 4, 3], ["top_k", "top_k", "softmax"], n_active=[5, 5])
    network = top_k((6, 5, 4), 2)
    with pytest.raises(ValueError, match="transform_n_active=5 must be at most 4"):
        network.with_active(5)
    assert network.with_active(4).layers["n_active"].tolist() == [4, 4, 0, 0]
    assert network.layers["n_active"].tolist() == [2, 2, 0, 0]
    assert UNTIED.with_active(100).layers["n_active"].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loss", OUTPUT_ACTIVATION)
def test_the_initial_biases_reconstruct_the_mean(loss, tied, dtype):
    network = top_k(loss=loss, tied=tied)
    params = network.initialize(np.random.default_rng(0), dtype)
    mean = np.linspace(0.02, 0.98, 60)
    others = [network.weights(params, k).copy() for k in range(2)]
    network.centre(params, mean)
    for k in range(2):
        np.testing.assert_array_equal(network.weights(params, k), others[k])
    data = ArrayDataset(mean[None].astype(dtype), dtype)
    tolerance = {"rtol": 0, "atol": 1e-6 if dtype == np.float32 else 1e-14}
    pre_activation = others[0] @ mean + network.bias(params, 0)
    np.testing.assert_allclose(pre_activation, 0, **tolerance)
    np.testing.assert_allclose(outputs(network, params, data)[0], mean, **tolerance)


def test_the_initial_biases_are_finite_where_a_feature_is_constant():
    network = top_k(loss="cross_entropy")
    params = network.initialize(np.random.default_rng(0), np.float64)
    network.centre(params, np.repeat([0.0, 1.0], 30))
    expected = np.repeat([0.01, 0.99], 30)
    np.testing.assert_allclose(1 / (1 + np.exp(-network.bias(params, 1))), expected)


def test_initial_weights_follow_the_generator():
    first, again, other = (
        DEEP_UNTIED.initialize(np.random.default_rng(seed), np.float64) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


class CountingGenerator:
    """A generator that notes how many numbers it is asked for."""

    def __init__(self, seed):
        self.rng, self.sizes = np.random.default_rng(seed), []

    def uniform(self, low, high, size):
        self.sizes.append(size)
        return self.rng.uniform(low, high, size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(7, 5), (2, 40), (40, 2)])
def test_initial_weights_are_drawn_in_blocks(sizes, dtype, monkeypatch):
    """They are those of one draw a matrix, whatever the size of the blocks."""
    monkeypatch.setattr("skae._network.DRAW_SIZE", 32)
    network = Network.autoencoder(sizes, ["tanh"], "squared_error", tied=False)
    counting, at_once = CountingGenerator(0), np.random.default_rng(0)
    params = network.initialize(counting, dtype)
    bound = np.sqrt(6 / sum(sizes))
    for k in range(2):
        weights = network.weights(params, k)
        expected = at_once.uniform(-bound, bound, weights.shape)
        np.testing.assert_array_equal(weights, expected.astype(dtype))
    n_weights = sizes[0] * sizes[1]
    assert max(counting.sizes) <= 32
    assert len(counting.sizes) == 2 * -(-n_weights // 32)


def test_a_wide_layer_takes_few_draws():
    counting = CountingGenerator(0)
    Network.autoencoder([10**6, 3], ["relu"], "squared_error", tied=False).initialize(
        counting, np.float32
    )
    assert len(counting.sizes) == 2 * 3


@pytest.mark.parametrize("network", NETWORKS)
def test_workspace_places_fill_the_width_without_overlap(network):
    taken = np.zeros(network.workspace_width, dtype=int)
    for layer in network.layers:
        taken[layer["input"] : layer["input"] + layer["n_in"]] += 1
        taken[layer["delta"] : layer["delta"] + layer["n_out"]] += 1
    np.testing.assert_array_equal(taken, 1)


@pytest.mark.parametrize("network", [TIED, DEEP_TIED])
def test_workspace_of_a_tied_pair_is_adjacent(network):
    """[delta; input of the partner] and [input; delta of the partner]: one product does both."""
    for k in own_layers(network):
        layer = network.layers[k]
        partner = network.layers[layer["partner"]]
        assert partner["partner"] == k and partner["transposed"]
        assert partner["input"] == layer["delta"] + layer["n_out"]
        assert partner["delta"] == layer["input"] + layer["n_in"]
        assert (layer["n_in"], layer["n_out"]) == (partner["n_out"], partner["n_in"])


@pytest.mark.parametrize("network", [UNTIED, DEEP_UNTIED, CLASSIFIER])
def test_untied_layers_have_no_partner(network):
    assert (network.layers["partner"] == -1).all()
    assert not network.layers["transposed"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("network", NETWORKS)
def test_workspace_size(network, dtype):
    workspace = network.workspace(7, dtype)
    width = sum(layer["n_in"] + layer["n_out"] for layer in network.layers)
    assert workspace.dtype == dtype
    assert workspace.size == 7 * (width + 1) + network.layers["n_out"].max()


def test_every_layer_learns_at_the_full_rate_without_dropout_unless_told_otherwise():
    for network in NETWORKS:
        assert network.layers["dropout"].tolist() == [0.0] * len(network)
        assert network.layers["learning_rate_scale"].tolist() == [1.0] * len(network)


def test_what_serves_codes_and_reconstructions_is_known_to_the_kernel():
    assert set(ACTIVATIONS) - set(CODE_ACTIVATIONS) == {"softmax"}
    assert set(LOSSES) - set(OUTPUT_ACTIVATION) == {"log_loss"}
    assert set(NOISES) - set(CORRUPTIONS) == {None}
    heads = [*HEADS.values(), Linear]
    assert {head.loss for head in heads} == set(LOSSES)
    assert {*OUTPUT_ACTIVATION.values(), *(head.activation for head in heads)} <= set(ACTIVATIONS)


@pytest.mark.parametrize("network", NETWORKS)
def test_spans_are_where_the_views_are(network):
    params = np.arange(network.n_params, dtype=float)
    for k, layer in enumerate(network.layers):
        weights = network.weights(params, k)
        flat = weights.T.ravel() if layer["transposed"] else weights.ravel()
        np.testing.assert_array_equal(params[network.span(k, "weight")], flat)
        np.testing.assert_array_equal(params[network.span(k, "bias")], network.bias(params, k))


@pytest.mark.parametrize("network", NETWORKS)
def test_largest_matrix(network):
    params = np.zeros(network.n_params)
    sizes = [network.weights(params, k).size for k in range(len(network))]
    assert network.largest_matrix == max(sizes)


@pytest.mark.parametrize("network", [UNTIED, DEEP_UNTIED, CLASSIFIER])
def test_the_top_alone_does_what_it_does_in_the_network(network):
    rng = np.random.default_rng(0)
    params = rng.normal(size=network.n_params)
    X = rng.normal(size=(20, network.layers["n_in"][0]))
    top = network.output_layer()
    own = np.concatenate([params[network.span(-1, part)] for part in ("weight", "bias")])
    assert own.shape == (top.n_params,)
    codes = outputs(network, params, ArrayDataset(X, X.dtype), stop=-1)
    np.testing.assert_array_equal(
        outputs(top, own, ArrayDataset(codes, X.dtype)),
        outputs(network, params, ArrayDataset(X, X.dtype)),
    )


@pytest.mark.parametrize("n_rows", [3, 513, 1100])
@pytest.mark.parametrize("dense", [True, False])
def test_rows_of_an_index_are_those_rows_of_all(n_rows, dense):
    """Outputs, and losses against targets that are not the rows themselves."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 6))
    target = np.eye(3)[rng.integers(3, size=n_rows)]
    rows = ArrayDataset(X if dense else sp.csr_array(X), X.dtype, target=target)
    params = rng.normal(size=CLASSIFIER.n_params)
    objective = _sgd.Objective("log_loss")
    index = rng.permutation(n_rows)[: max(2, n_rows * 3 // 4)]
    out = outputs(CLASSIFIER, params, rows)
    losses = sample_losses(CLASSIFIER, params, objective, rows)
    # A product of other rows may round otherwise.
    np.testing.assert_allclose(losses, -np.log(out[target == 1]), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        outputs(CLASSIFIER, params, rows, index=index), out[index], rtol=1e-12
    )
    np.testing.assert_allclose(
        sample_losses(CLASSIFIER, params, objective, rows, index=index),
        losses[index],
        rtol=1e-11,
        atol=1e-13,
    )
