"""StackedAutoencoder: greedy layers, their composition, grid search, the defaults."""

import pickle
from copy import copy
from functools import partial

import common
import numpy as np
import pytest
import scipy.sparse as sp
from common import (
    assert_same_fit,
    bytes_of,
    interrupt,
    ranges_of,
    record_outputs,
    refuses,
    same_fit,
    state_of,
    uniform,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import activate
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from skae import DenoisingAutoencoder, StackedAutoencoder

pytestmark = pytest.mark.usefixtures("one_thread")


X = uniform()

stacked = partial(common.stacked, hidden_layer_sizes=(7, 5, 4), activation="tanh")


# -- layers -----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(7, 5, 4), [7, 5, 4], np.array([7, 5, 4])])
def test_layers(sizes):
    estimator = stacked(hidden_layer_sizes=sizes)
    assert estimator.fit(X) is estimator
    assert all(type(layer) is DenoisingAutoencoder for layer in estimator.layers_)
    shapes = [layer.components_.shape for layer in estimator.layers_]
    assert shapes == [(7, 9), (5, 7), (4, 5)]
    assert [layer.n_components for layer in estimator.layers_] == [7, 5, 4]
    assert estimator.n_features_in_ == 9
    assert estimator.n_iter_ == sum(layer.n_iter_ for layer in estimator.layers_) == 9
    assert estimator.transform(X).shape == (60, 4)


def test_one_size_is_one_layer():
    one, other = (stacked(hidden_layer_sizes=sizes).fit(X) for sizes in (6, (6,)))
    assert len(one.layers_) == 1
    assert_same_fit(one.layers_[0], other.layers_[0])
    assert_array_equal(one.transform(X), other.transform(X))
    assert_array_equal(one.score_samples(X), one.layers_[0].score_samples(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tied_weights": False},
        {"activation": "logistic", "loss": "cross_entropy"},
        {"activation": ("relu", "tanh", "logistic"), "early_stopping": True},
        {"activation": "top_k"},
    ],
)
def test_composition(params, dtype):
    rows = X.astype(dtype)
    estimator = stacked(**params).fit(rows)
    codes = [rows]
    for layer in estimator.layers_:
        codes.append(layer.transform(codes[-1]))
    assert_array_equal(estimator.transform(rows), codes[-1], strict=True)
    back = codes[-1]
    for layer in estimator.layers_[::-1]:
        back = layer.inverse_transform(back)
    assert_array_equal(estimator.inverse_transform(codes[-1]), back, strict=True)
    back = back.astype(np.float64)
    if estimator.loss == "cross_entropy":
        expected = (rows * np.log(back) + (1 - rows) * np.log1p(-back)).sum(axis=1)
    else:
        expected = -((rows - back) ** 2).sum(axis=1)
    scores = estimator.score_samples(rows)
    assert scores.dtype == np.float64
    assert_allclose(scores, expected, rtol=1e-4 if dtype == np.float32 else 1e-10)
    assert_allclose(estimator.score(rows), expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_layer_is_a_denoising_autoencoder_of_the_codes_below(dtype, weighted):
    codes, weights = X.astype(dtype), np.linspace(0, 1, 60) if weighted else None
    estimator = stacked(corruption=("masking", "gaussian", "salt_and_pepper"), early_stopping=True)
    estimator.fit(codes, sample_weight=weights)
    for layer in estimator.layers_:
        alone = clone(layer).fit(codes, sample_weight=weights)
        assert_same_fit(alone, layer)
        codes = alone.transform(codes)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("joint", [False, True])
def test_codes_of_all_layers(joint, dtype, sparse):
    rows = X.astype(dtype)
    estimator = stacked(code="all", joint=joint).fit(sp.csr_array(rows) if sparse else rows)
    codes = [rows]
    for layer in estimator.layers_:
        codes.append(layer.transform(codes[-1]))
    found = estimator.transform(sp.csr_array(rows) if sparse else rows)
    assert found.dtype == dtype
    assert_allclose(found, np.hstack(codes[1:]), rtol=1e-5 if dtype == np.float32 else 1e-12)
    top = copy(estimator).set_params(code="top")
    back = top.inverse_transform(top.transform(rows))
    assert_allclose(estimator.inverse_transform(found), back, rtol=1e-5)
    assert_allclose(estimator.inverse_transform(sp.csr_array(found)), back, rtol=1e-5)
    assert_array_equal(estimator.reconstruct(rows), top.reconstruct(rows))
    assert_array_equal(estimator.score_samples(rows), top.score_samples(rows))


def test_code_has_no_effect_on_training_and_may_change_after_it():
    one, other = stacked().fit(X), stacked(code="all").fit(X)
    assert_same_fit(one, other)
    assert_array_equal(one.set_params(code="all").transform(X), other.transform(X))
    assert_array_equal(pickle.loads(pickle.dumps(one)).transform(X), other.transform(X))
    assert one.transform(X).shape == (60, 16)
    assert one.set_params(code="top").transform(X).shape == (60, 4)


def test_names_of_the_codes_of_all_layers():
    estimator = stacked(code="all").fit(X).set_output(transform="pandas")
    names = [f"stackedautoencoder_layer{k + 1}_{j}" for k in range(3) for j in range((7, 5, 4)[k])]
    assert list(estimator.get_feature_names_out()) == names
    assert list(estimator.transform(X).columns) == names
    estimator.set_params(code="top")
    assert list(estimator.transform(X).columns) == [f"stackedautoencoder{k}" for k in range(4)]


def test_each_layer_is_computed_once(monkeypatch):
    estimator = stacked(code="all").fit(X)
    widths = record_outputs(monkeypatch)
    estimator.transform(X)
    assert widths == [9, 7, 5]


def test_codes_of_all_layers_in_small_blocks():
    estimator = stacked(code="all").fit(X)
    expected = estimator.transform(X)
    with config_context(working_memory=0):
        assert_allclose(estimator.transform(X), expected, rtol=1e-12)


def test_wrong_code_after_the_fit():
    estimator = stacked().fit(X)
    codes = estimator.transform(X)
    estimator.set_params(code="bottom")
    for method in ("transform", "inverse_transform"):
        with pytest.raises(ValueError, match="'code' parameter of StackedAutoencoder must be"):
            getattr(estimator, method)(X if method == "transform" else codes)
    with pytest.raises(ValueError, match="is expecting 16 features"):
        estimator.set_params(code="all").inverse_transform(codes)


def test_lower_layers_do_not_depend_on_upper_ones():
    tall, short = stacked().fit(X), stacked(hidden_layer_sizes=(7, 5)).fit(X)
    for one, other in zip(tall.layers_, short.layers_):
        assert_same_fit(one, other)


def test_layers_draw_differently():
    estimator = stacked(hidden_layer_sizes=(9, 9, 9)).fit(X)
    assert len({layer.random_state for layer in estimator.layers_}) == 3


EACH = {
    "activation": ("tanh", "logistic", "relu"),
    "n_active": (3, 2, 1),
    "loss": ("squared_error", "squared_error", "cross_entropy"),
    "corruption": ("gaussian", None, "masking"),
    "corruption_level": (2.0, 0.0, 0.5),
    "learning_rate_init": (0.1, 0.02, 0.003),
    "max_iter": (1, 2, 4),
}


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_one_value_a_layer(kind):
    params = {name: kind(values) for name, values in EACH.items()}
    params["corruption"] = list(EACH["corruption"])
    estimator = stacked(**params).fit(X)
    codes = X
    for k, layer in enumerate(estimator.layers_):
        for name, values in EACH.items():
            assert getattr(layer, name) == values[k]
        alone = DenoisingAutoencoder(
            (7, 5, 4)[k], batch_size=16, random_state=layer.random_state,
            **{name: values[k] for name, values in EACH.items()},
        ).fit(codes)  # fmt: skip
        assert_same_fit(alone, layer)
        codes = alone.transform(codes)
    assert [layer.n_iter_ for layer in estimator.layers_] == [1, 2, 4]
    assert estimator.n_iter_ == 7


@pytest.mark.parametrize("name", EACH)
def test_one_value_for_all_is_that_value_for_each(name):
    value = getattr(stacked(), name)
    one = stacked().fit(X)
    each = stacked(**{name: [value] * 3}).fit(X)
    assert_same_fit(one, each)


def test_shared_parameters_reach_every_layer():
    params = {
        "tied_weights": False, "solver": "sgd", "alpha": 0.01, "batch_size": 8, "shuffle": False,
        "learning_rate": "adaptive", "momentum": 0.5, "nesterovs_momentum": False, "beta_1": 0.5,
        "beta_2": 0.9, "epsilon": 1e-3, "n_iter_no_change": 4, "early_stopping": True,
        "validation_fraction": 0.4, "tol": 1e-30, "sparsity_penalty": 0.1, "sparsity_target": 0.2,
    }  # fmt: skip
    with pytest.warns(UserWarning, match="maximum iterations"):
        estimator = stacked(**params).fit(X)
    for layer in estimator.layers_:
        assert {name: getattr(layer, name) for name in params} == params


# -- sizes that go by the shape of X -----------------------------------------------------------


@pytest.mark.parametrize(
    "n_samples, n_features, sizes",
    [
        (1797, 64, [512, 256]),
        (1024, 64, [512, 256]),  # half of the samples
        (1023, 64, [256, 128]),
        (600, 30, [128, 64]),  # 240 by the features
        (600, 32, [256, 128]),
        (3000, 100, [512, 256]),  # at most
        (20, 100, [64, 32]),  # at least
        (3000, 2, [64, 32]),
    ],
)
def test_sizes_by_the_shape_of_x(n_samples, n_features, sizes):
    rows = uniform(n_samples, n_features)
    estimator = StackedAutoencoder(max_iter=1, batch_size=200, random_state=0).fit(rows)
    assert [layer.n_components for layer in estimator.layers_] == sizes
    assert estimator.hidden_layer_sizes == "auto"
    given = clone(estimator).set_params(hidden_layer_sizes=sizes).fit(rows)
    assert_same_fit(estimator, given)
    halved = np.repeat([1.0, 0.0], [n_samples // 2, n_samples - n_samples // 2])
    weighted = clone(estimator).fit(rows, sample_weight=halved)
    fewer = clone(estimator).fit(rows[: n_samples // 2])
    assert weighted.get_feature_names_out().size == fewer.get_feature_names_out().size


def test_a_stream_goes_by_its_features():
    estimator = StackedAutoencoder(random_state=0).partial_fit(uniform(10, 64))
    assert [layer.n_components for layer in estimator.layers_] == [512, 256]
    estimator.partial_fit(uniform(5000, 64))
    assert [layer.n_components for layer in estimator.layers_] == [512, 256]


def test_sizes_stay_when_a_fit_continues():
    estimator = StackedAutoencoder(max_iter=1, warm_start=True, random_state=0)
    estimator.fit(uniform(150, 20))
    assert [layer.n_components for layer in estimator.layers_] == [64, 32]
    estimator.fit(uniform(2000, 20))
    assert [layer.n_components for layer in estimator.layers_] == [64, 32]
    estimator.set_params(warm_start=False).fit(uniform(2000, 20))
    assert [layer.n_components for layer in estimator.layers_] == [128, 64]
    estimator.set_params(hidden_layer_sizes=3, warm_start=True)
    with pytest.raises(ValueError, match="1 layers, but 2 are fitted"):
        estimator.fit(uniform(150, 20))


# -- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, match",
    [
        *[({name: EACH[name][:2]}, f"{name} has 2 values for 3 layers") for name in EACH],
        ({"max_iter": (1, 2, 3, 4)}, "max_iter has 4 values for 3 layers"),
        ({"max_iter": ()}, "max_iter has 0 values for 3 layers"),
        ({"activation": ("tanh", "relu", "swish")}, r"'activation\[2\]' parameter of Stacked"),
        ({"loss": ["squared_error", "mse", "squared_error"]}, r"'loss\[1\]' parameter of Stacked"),
        ({"corruption": ["masking", "salt", None]}, r"'corruption\[1\]' parameter of Stacked"),
        ({"corruption_level": [0.1, -0.1, 0.1]}, r"'corruption_level\[1\]' parameter of Stacked"),
        (
            {"corruption": "swap", "corruption_level": [0.1, 0.1, 1.5]},
            r"corruption_level\[2\]=1.5 is not a probab",
        ),
        (
            {"corruption": "masking", "corruption_level": 1.5},
            "corruption_level=1.5 is not a probability",
        ),
        (
            {"corruption_level": 1.5, "corruption": ["gaussian", "masking", None]},
            r"corruption_level=1.5 .* with corruption\[1\]='masking'",
        ),
        ({"learning_rate_init": [0.1, 0.1, 0.0]}, r"'learning_rate_init\[2\]' parameter"),
        ({"max_iter": [1, 0, 1]}, r"'max_iter\[1\]' parameter of Stacked.* must be"),
        ({"max_iter": [1, 2.5, 1]}, r"'max_iter\[1\]' parameter of Stacked.* must be"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes is empty"),
        ({"hidden_layer_sizes": []}, "hidden_layer_sizes is empty"),
        ({"hidden_layer_sizes": np.array([[3, 2]])}, r"_sizes\[0\]' parameter .* must be"),
        (
            {"sparsity_penalty": 0.1, "activation": ("tanh", "tanh", "relu")},
            r"sparsity_penalty=0.1 needs .* but activation\[2\]='relu'",
        ),
        (
            {"loss": "cross_entropy", "activation": "relu"},
            r"layer 2 needs codes in \[0, 1\] .* 'relu'.*logistic.*squared_error",
        ),
        (
            {"loss": ("squared_error", "squared_error", "cross_entropy"),
             "activation": ("logistic", "tanh", "logistic")},
            "layer 3 needs codes .* 'tanh'",
        ),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_before_any_work(params, match):
    for estimator in (stacked(), stacked().fit(X), stacked(warm_start=True).fit(X)):
        estimator.set_params(**params)
        for method in ("fit", "partial_fit"):
            refuses(estimator, method, None, match=match)


BAD_LISTS = {  # a list of which the second value is bad; the message names it
    "hidden_layer_sizes": (10, 0),
    "activation": ["relu", "nonsense"],
    "n_active": ["auto", 0],
    "loss": ["squared_error", "nonsense"],
    "corruption": ["masking", "nonsense"],
    "corruption_level": [0.1, -2],
    "learning_rate_init": [0.1, -1.0],
    "max_iter": [3, 0],
}


def test_every_list_is_tried_with_a_bad_value():
    assert BAD_LISTS.keys() == {"hidden_layer_sizes", *EACH}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_bad_value_of_a_list_is_named_as_it_was_given(name):
    """With its place and the class of the user, and never as the parameter of a single layer."""
    params = {"hidden_layer_sizes": (7, 5), name: BAD_LISTS[name]}
    for estimator in (stacked(**params), stacked(hidden_layer_sizes=(7, 5)).fit(X)):
        for method in ("fit", "partial_fit"):
            with pytest.raises(ValueError) as error:
                getattr(estimator.set_params(**params), method)(X)
            message = str(error.value)
            assert f"The '{name}[1]' parameter of StackedAutoencoder must be" in message
            assert "n_components" not in message and "DenoisingAutoencoder" not in message


def test_cross_entropy_only_below_needs_no_logistic_codes():
    loss = ("cross_entropy", "squared_error", "squared_error")
    estimator = stacked(loss=loss, activation="relu").fit(X)
    back = estimator.inverse_transform(estimator.transform(X))
    assert np.all((back > 0) & (back < 1))


@pytest.mark.parametrize("sizes", [(7, 5), (7, 5, 4, 3), 7])
def test_another_depth_cannot_continue(sizes):
    estimator = stacked(warm_start=True).fit(X).set_params(hidden_layer_sizes=sizes)
    for method in ("fit", "partial_fit"):
        refuses(estimator, method, X, match=r"hidden_layer_sizes=.* but 3 are fitted")


def test_a_loss_that_explodes_names_the_layer():
    wild = {"solver": "sgd", "activation": "identity", "learning_rate_init": (0.01, 1e6, 0.01),
            "max_iter": (2, 50, 2)}  # fmt: skip
    match = r"layer 2 of 3: .* non-finite in epoch \d+"
    refuses(stacked(**wild), "fit", X, match=match, trains=True)


# -- fits that continue -----------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("corruption", ["masking", "salt_and_pepper"])
def test_warm_start_trains_each_layer_further(corruption, solver, pickled):
    options = {"corruption": corruption, "solver": solver}
    estimator = stacked(**options, warm_start=True).fit(X)
    expected = [clone(layer).set_params(warm_start=True) for layer in estimator.layers_]
    for n_epochs in (3, 4):
        codes = X
        for layer in expected:
            layer.set_params(max_iter=n_epochs).fit(codes)
            codes = layer.transform(codes)
    if pickled:
        estimator = pickle.loads(pickle.dumps(estimator))
    estimator.set_params(max_iter=4).fit(X)
    for one, other in zip(estimator.layers_, expected):
        assert_same_fit(one, other)
        assert one.n_iter_ == 7
    assert estimator.n_iter_ == 21
    # Its first layer saw the same rows all along.
    assert_same_fit(estimator.layers_[0], stacked(**options, max_iter=7).fit(X).layers_[0])


@pytest.mark.parametrize("pickled", [False, True])
def test_partial_fit_is_an_epoch_of_each_layer(pickled):
    # The deviations that Gaussian noise goes by are rounded otherwise in a stream.
    estimator = stacked(corruption="masking").partial_fit(X)
    assert_same_fit(estimator, stacked(corruption="masking", max_iter=1).fit(X))
    warm = stacked(corruption="masking", max_iter=1, warm_start=True).fit(X)
    for _ in range(2):
        if pickled:
            estimator = pickle.loads(pickle.dumps(estimator))
        estimator.partial_fit(X)
        warm.fit(X)
    assert_same_fit(estimator, warm)
    assert estimator.n_iter_ == 9


def test_layers_held_elsewhere_do_not_change_when_a_fit_continues():
    estimator = stacked(warm_start=True).fit(X)
    layers = estimator.layers_
    before = pickle.dumps(layers)
    estimator.fit(X)
    assert pickle.dumps(layers) == before
    assert estimator.layers_ is not layers


def test_fit_without_warm_start_begins_anew():
    estimator = stacked(hidden_layer_sizes=3).fit(X[:, :5])
    estimator.set_params(hidden_layer_sizes=(7, 5, 4)).fit(X)
    assert_same_fit(estimator, stacked().fit(X))


# -- joint training ---------------------------------------------------------------------------

ACTIVATE = {
    "identity": lambda a: a,
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "top_k": lambda a: activate("top_k", a, int(np.ceil(np.sqrt(a.shape[1])))),
}
DECODERS = {"top_k": "relu"}  # the others have the activation of the code


def joint(**params):
    return stacked(**{"joint": True, "joint_max_iter": 3, "corruption": None, **params})


def mean_loss_of_the_unrolled(estimator, matrices):
    """By hand, from other encoder and decoder matrices: [(W, W'), ...], a pair a layer."""
    codes = X
    for layer, (encoder, _) in zip(estimator.layers_, matrices):
        codes = ACTIVATE[layer.activation](codes @ encoder.T + layer.intercept_hidden_)
    codings = [estimator.layers_[k].activation for k in range(len(matrices) - 1)]
    activations = [DECODERS.get(name, name) for name in codings]
    last = "logistic" if estimator.layers_[0].loss == "cross_entropy" else "identity"
    for layer, (_, decoder), activation in reversed(
        list(zip(estimator.layers_, matrices, [last, *activations]))
    ):
        codes = ACTIVATE[activation](codes @ decoder + layer.intercept_visible_)
    if last == "identity":
        return ((X - codes) ** 2).sum(axis=1).mean()
    return -(X * np.log(codes) + (1 - X) * np.log(1 - codes)).sum(axis=1).mean()


def matrices_of(estimator):
    return [(np.array(e.components_), np.array(e.decoder_components_)) for e in estimator.layers_]


JOINT_CASES = [
    {"activation": ("relu", "tanh", "logistic")},
    {"activation": "logistic", "loss": "cross_entropy"},
    {"activation": "tanh", "tied_weights": True},
]
# Joint training alone begins with more active units, so that two parts of it are not the whole.
TOP_K_CASES = [
    {"activation": "top_k"},
    {"activation": ("top_k", "tanh", "top_k"), "tied_weights": True},
]


@pytest.mark.parametrize("params", [*JOINT_CASES, *TOP_K_CASES])
def test_a_step_of_joint_training_goes_down_the_unrolled_loss(params):
    rate = 1e-3
    params = {**params, "solver": "sgd", "momentum": 0, "batch_size": len(X)}
    greedy = stacked(corruption=None, **params).fit(X)
    moved = joint(**params, joint_max_iter=1, joint_learning_rate_init=rate).fit(X)
    before, after = matrices_of(greedy), matrices_of(moved)
    rng, eps, tied = np.random.default_rng(0), 1e-5, params.get("tied_weights", False)
    for k in range(3):
        for side in (0,) if tied else (0, 1):
            at = tuple(rng.integers(n) for n in before[k][side].shape)
            losses = []
            for sign in (1, -1):
                shifted = [(w.copy(), v.copy()) for w, v in before]
                for half in (0, 1) if tied else (side,):
                    shifted[k][half][at] += sign * eps
                losses.append(mean_loss_of_the_unrolled(greedy, shifted))
            slope = (losses[0] - losses[1]) / (2 * eps)
            step = (before[k][side][at] - after[k][side][at]) / rate
            assert_allclose(step, slope, rtol=1e-5, atol=1e-8)
    if tied:
        for encoder, decoder in after:
            assert_array_equal(encoder, decoder)


@pytest.mark.parametrize("params", [*JOINT_CASES, *TOP_K_CASES])
def test_what_is_decoded_after_joint_training_is_what_was_trained(params):
    estimator = joint(**params).fit(X)
    by_hand = mean_loss_of_the_unrolled(estimator, matrices_of(estimator))
    assert_allclose(-estimator.score(X), by_hand, rtol=1e-12)
    assert len(estimator.loss_curve_) == 3 and estimator.loss_ == estimator.loss_curve_[-1]


def test_joint_training_improves_the_reconstruction():
    greedy = stacked(corruption=None).fit(X)
    assert joint(joint_max_iter=50).fit(X).score(X) > greedy.score(X) + 0.01


def test_linear_layers_trained_jointly_span_the_principal_subspace():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 9)) + 0.05 * rng.normal(size=(300, 9))
    rows -= rows.mean(axis=0)
    estimator = joint(
        hidden_layer_sizes=(6, 3), activation="identity", joint_max_iter=400,
        max_iter=20, learning_rate="cosine", joint_learning_rate_init=0.01,
    ).fit(rows)  # fmt: skip
    components = np.linalg.svd(rows, full_matrices=False)[2][:3]
    best = ((rows - rows @ components.T @ components) ** 2).sum(axis=1).mean()
    assert -estimator.score(rows) < 1.02 * best


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("params", [*JOINT_CASES, *TOP_K_CASES])
def test_joint_training_continues_where_it_ended(params, pickled):
    two = joint(**params, warm_start=True, corruption="masking", joint_max_iter=2).fit(X)
    if pickled:
        two = pickle.loads(pickle.dumps(two))
    two.set_params(joint_max_iter=3).fit(X)
    whole = joint(**params, corruption="masking", joint_max_iter=5).fit(X)
    assert_same_fit(two, whole)
    assert two.loss_curve_ == whole.loss_curve_


def test_joint_training_that_fails_while_it_continues_leaves_no_trace(monkeypatch):
    estimator = joint(warm_start=True).fit(X)
    codes, error = estimator.transform(X), r"in the 2nd epoch"
    with monkeypatch.context() as patch:
        interrupt(patch, 2, when="after", error=MemoryError(error))
        refuses(estimator, "fit", X, match=error, error=MemoryError, trains=True)
    assert_array_equal(estimator.transform(X), codes)
    assert_same_fit(estimator.fit(X), joint(joint_max_iter=6).fit(X))


def test_what_was_trained_jointly_does_not_change_when_a_fit_continues():
    """Neither in a shallow copy, nor in what was taken from the estimator before."""
    estimator = joint(warm_start=True).fit(X)
    shallow, layers = copy(estimator), estimator.layers_
    before = bytes_of(shallow), pickle.dumps(layers)
    estimator.fit(X)
    assert (bytes_of(shallow), pickle.dumps(layers)) == before
    assert not same_fit(shallow, estimator)
    assert_same_fit(shallow.fit(X), estimator)  # it goes on from where it was


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_seed_of_a_layer_is_that_of_its_weights(method):
    """Also after a fit that continues, of a stack whose own seed is another by then."""
    estimator = stacked(warm_start=True).fit(X)
    seeds = [layer.random_state for layer in estimator.layers_]
    getattr(estimator.set_params(random_state=1), method)(X)
    assert [layer.random_state for layer in estimator.layers_] == seeds
    alone = clone(estimator.layers_[0]).set_params(max_iter=estimator.layers_[0].n_iter_)
    assert_same_fit(alone.fit(X), estimator.layers_[0])


def test_layers_trained_jointly_cannot_be_trained_one_by_one():
    estimator = joint(warm_start=True).fit(X).set_params(joint=False)
    refuses(estimator, "fit", X, match="trained jointly")


def test_a_layer_taken_from_joint_training_has_forgotten_its_moments():
    layer = joint().fit(X).layers_[0]
    fresh = clone(layer).set_params(max_iter=1).fit(X)
    mine, its = state_of(fresh), state_of(layer)
    mine.buffers = its.buffers.copy()
    mine.step, mine.seed = 0, its.seed
    assert its.buffers.shape[0] == 1
    for state in (mine, its):
        state.loss_curve = type(state.loss_curve)()  # the same epoch: the same order and noise
    assert_array_equal(layer.partial_fit(X).components_, fresh.partial_fit(X).components_)


@pytest.mark.parametrize("first", ["masking", "salt_and_pepper", None])
def test_the_noise_may_change_when_joint_training_continues(first):
    """Salt and pepper are the extremes of the rows then seen, and of those seen before by it."""
    estimator = joint(corruption=first, warm_start=True).fit(X)
    wide = X * np.linspace(0.5, 2, 9) - 0.1
    estimator.set_params(corruption="salt_and_pepper").fit(wide)
    seen = np.vstack([wide, X]) if first == "salt_and_pepper" else wide
    low, high = ranges_of(estimator.layers_[0])
    assert_array_equal(low, seen.min(axis=0))
    assert_array_equal(high, seen.max(axis=0))
    assert len(estimator.loss_curve_) == 6
    assert np.isfinite(estimator.score(X))
    estimator.set_params(corruption="gaussian").fit(X)
    assert len(estimator.loss_curve_) == 9


def test_early_stopping_of_joint_training_restores_the_best_weights():
    estimator = joint(
        early_stopping=True, joint_max_iter=60, joint_learning_rate_init=0.05,
        validation_fraction=0.3,
    ).fit(X)  # fmt: skip
    curve = estimator.validation_loss_curve_
    assert estimator.best_loss_ == min(curve) < curve[-1]


# -- joint training alone ----------------------------------------------------------------------


only = partial(joint, joint="only")


@pytest.mark.parametrize("params", [*JOINT_CASES, {"corruption": "gaussian"}])
def test_joint_training_alone_starts_from_the_initial_weights(params):
    """Those of layers that are trained at a rate of nothing."""
    alone = only(**params).fit(X)
    after = joint(**params, max_iter=1, learning_rate_init=1e-300).fit(X)
    assert alone.loss_curve_ == after.loss_curve_
    for a, b in zip(common.weights_of(alone), common.weights_of(after), strict=True):
        assert_allclose(a, b, rtol=0, atol=1e-200)
    assert_array_equal(alone.transform(X), after.transform(X))
    assert alone.reconstruction_r2_ == after.reconstruction_r2_


def test_at_a_rate_of_nothing_the_weights_stay_the_initial_ones():
    unmoved = only(joint_max_iter=1, joint_learning_rate_init=1e-300).fit(X)
    codes = X
    for layer in unmoved.layers_:
        one = clone(layer).set_params(max_iter=1, learning_rate_init=1e-300).fit(codes)
        assert_array_equal(one.components_, layer.components_)
        codes = layer.transform(codes)
    assert not same_fit(unmoved, only().fit(X))


def test_joint_training_alone_trains_no_layer_by_itself(epochs):
    estimator = only(max_iter=[5, 6, 7]).fit(X)
    assert len(epochs) == 3
    assert estimator.n_iter_ == 0 and len(estimator.loss_curve_) == 3
    for layer in estimator.layers_:
        assert layer.n_iter_ == 0 and layer.loss_curve_ == []
        assert not hasattr(layer, "reconstruction_r2_")
    assert np.isfinite(estimator.reconstruction_r2_)
    assert estimator.transform(X).shape == (60, 4)


def test_joint_training_alone_learns():
    estimators = [only(joint_max_iter=n).fit(X) for n in (1, 100)]
    assert estimators[1].score(X) > estimators[0].score(X) + 0.1
    assert estimators[1].reconstruction_r2_ > 0.2


@pytest.mark.parametrize("params", [*JOINT_CASES, {"solver": "sgd"}])
@pytest.mark.parametrize("pickled", [False, True])
def test_joint_training_alone_continues_where_it_ended(params, pickled):
    two = only(**params, warm_start=True, corruption="masking", joint_max_iter=2).fit(X)
    if pickled:
        two = pickle.loads(pickle.dumps(two))
    two.set_params(joint_max_iter=3).fit(X)
    assert_same_fit(two, only(**params, corruption="masking", joint_max_iter=5).fit(X))
    assert len(two.loss_curve_) == 5
    refuses(two.set_params(joint=False), "fit", X, match="trained jointly")
    two.set_params(joint=True).fit(X)
    assert len(two.loss_curve_) == 8 and two.n_iter_ == 0


@pytest.mark.parametrize("activation", ["tanh", "top_k"])
def test_joint_training_alone_after_layers_that_have_been_trained(activation):
    """They keep what they have learned."""
    greedy = stacked(corruption=None, warm_start=True, activation=activation).fit(X)
    then = clone(greedy).fit(X).set_params(joint="only", joint_max_iter=3).fit(X)
    assert_same_fit(then, joint(activation=activation).fit(X))
    assert then.n_iter_ == greedy.n_iter_ == 9


def test_joint_training_alone_stops_early():
    estimator = only(
        early_stopping=True, joint_max_iter=60, joint_learning_rate_init=0.05,
        validation_fraction=0.3,
    ).fit(X)  # fmt: skip
    curve = estimator.validation_loss_curve_
    assert len(curve) == len(estimator.loss_curve_) < 60
    assert estimator.best_loss_ == min(curve) < curve[-1]


def test_joint_training_alone_has_no_partial_fit():
    assert not hasattr(only(), "partial_fit")


def test_joint_training_alone_may_be_interrupted(monkeypatch):
    estimator = only(warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.warns(UserWarning, match="all layers: training interrupted by user"):
            estimator.fit(X)
    assert len(estimator.loss_curve_) == 1 and len(estimator.layers_) == 3
    assert_same_fit(estimator.fit(X), only().fit(X))


@pytest.mark.parametrize("value", ["alone", None, 2])
def test_no_other_kind_of_joint_training(value):
    refuses(only(joint=value), "fit", X, match="'joint' parameter")


# -- Ctrl-C -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "epoch, depth, n_iter", [(1, 1, 0), (2, 1, 1), (4, 2, 3), (5, 2, 4), (9, 3, 8)]
)
def test_interrupted_fit_keeps_the_layers_so_far(monkeypatch, epoch, depth, n_iter):
    whole = stacked().fit(X)
    estimator = stacked()
    with monkeypatch.context() as patch:
        interrupt(patch, epoch)
        with pytest.warns(UserWarning, match=f"layer {depth} of 3: training interrupted by user"):
            assert estimator.fit(X) is estimator
    assert len(estimator.layers_) == depth
    assert estimator.n_iter_ == n_iter
    for one, other in zip(estimator.layers_[:-1], whole.layers_):
        assert_same_fit(one, other)
    codes = estimator.transform(X)
    assert codes.shape == (60, (7, 5, 4)[depth - 1])
    assert np.isfinite(estimator.inverse_transform(codes)).all()
    assert np.isfinite(estimator.score(X))
    assert len(estimator.get_feature_names_out()) == codes.shape[1]
    estimator.fit(X)
    assert_same_fit(estimator, whole)


def test_interrupted_between_two_layers(monkeypatch):
    """While the codes for layer 3 are computed: two layers are there, as good as trained."""
    whole = stacked().fit(X)
    estimator = stacked()
    with monkeypatch.context() as patch:
        interrupt(patch, 4, function="outputs")
        with pytest.warns(UserWarning, match="interrupted by user"):
            try:
                estimator.fit(X)
            except KeyboardInterrupt:
                pytest.fail("Ctrl-C went through the fit, and the layers are lost")
    assert [layer.n_components for layer in estimator.layers_] == [7, 5]
    for one, other in zip(estimator.layers_, whole.layers_):
        assert_same_fit(one, other)


@pytest.mark.parametrize("joint", [False, True])
def test_interrupted_while_the_quality_of_the_whole_is_measured(monkeypatch, joint):
    """All is trained, and fitting again trains no more."""
    whole, estimator = stacked(joint=joint).fit(X), stacked(joint=joint, warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 6, function="outputs")  # each layer has two calls, but for the last one
        with pytest.warns(UserWarning, match="StackedAutoencoder: training interrupted by user"):
            estimator.fit(X)
    assert_same_fit(estimator, whole)
    assert np.isnan(estimator.reconstruction_r2_)
    estimator.fit(X)
    assert_same_fit(estimator, whole)
    assert estimator.reconstruction_r2_ == whole.reconstruction_r2_


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_interrupted_fit_that_continues_trains_the_missing_layers(monkeypatch, method):
    estimator = stacked(warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.warns(UserWarning, match="layer 2 of 3"):
            estimator.fit(X)
    getattr(estimator, method)(X)
    assert [layer.n_components for layer in estimator.layers_] == [7, 5, 4]
    if method == "fit":
        assert_same_fit(estimator, stacked().fit(X))
    else:
        assert [layer.n_iter_ for layer in estimator.layers_] == [4, 2, 1]


# -- on digits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.mark.slow
def test_grid_search_gives_the_same_with_two_jobs(digits):
    rows, labels = digits[0][:400], digits[1][:400]
    pipeline = Pipeline(
        [
            ("scale", MinMaxScaler()),
            ("sae", StackedAutoencoder(activation="relu", max_iter=10, batch_size=20,
                                       random_state=0)),
            ("clf", LogisticRegression(max_iter=2000)),
        ]
    )  # fmt: skip
    grid = {
        "sae__hidden_layer_sizes": [(30, 15), (20,), 10],
        "sae__corruption_level": [0.1, 0.4],
    }
    searches = [
        GridSearchCV(pipeline, grid, n_jobs=n_jobs, cv=3).fit(rows, labels) for n_jobs in (1, 2)
    ]
    one, two = searches
    names = [name for name in one.cv_results_ if "time" not in name and "param" not in name]
    assert "split2_test_score" in names
    for name in names:
        assert_array_equal(one.cv_results_[name], two.cv_results_[name], err_msg=name)
    assert len(set(one.cv_results_["mean_test_score"])) > 1
    assert one.best_params_ == two.best_params_
    assert one.best_score_ == two.best_score_
    assert_array_equal(one.predict_proba(rows), two.predict_proba(rows))


def test_score_tells_digits_from_random_rows(digits):
    rows = digits[0] / 16.0
    estimator = StackedAutoencoder(
        (100, 50), activation="relu", max_iter=30, batch_size=50, learning_rate_init=0.003,
        corruption_level=0.3, tied_weights=True, random_state=0,
    ).fit(rows[:900])  # fmt: skip
    random = np.random.default_rng(0).uniform(size=(897, 64))
    scores = np.r_[estimator.score_samples(rows[900:]), estimator.score_samples(random)]
    assert roc_auc_score(np.repeat([1, 0], 897), scores) > 0.99


def test_logistic_layers_do_not_collapse_under_cross_entropy(digits):
    rows, labels = digits[0] / 16.0, digits[1]
    estimator = StackedAutoencoder(
        (100, 50), activation="logistic", loss="cross_entropy", max_iter=30, batch_size=20,
        learning_rate_init=0.003, random_state=0,
    ).fit(rows[:900])  # fmt: skip
    classifier = LogisticRegression(max_iter=5000).fit(
        estimator.transform(rows[:900]), labels[:900]
    )
    assert classifier.score(estimator.transform(rows[900:]), labels[900:]) > 0.85


@pytest.mark.slow
def test_defaults_on_digits(digits):
    """The published table: accuracy by stratified 5-fold, unshuffled, at default parameters."""
    rows, labels = digits[0].astype(np.float32), digits[1]  # twice as fast as in float64
    accuracy = {"logistic, codes": [], "logistic, raw + codes": [], "SVC, codes": []}
    for train, test in StratifiedKFold(5).split(rows, labels):
        pipeline = Pipeline(
            [("scale", MinMaxScaler()), ("sae", StackedAutoencoder(random_state=0))]
        )
        both = FeatureUnion([("raw", MinMaxScaler()), ("codes", pipeline)])
        features = both.fit_transform(rows[train]), both.transform(rows[test])
        for name, classifier, columns in (
            ("logistic, codes", LogisticRegression(max_iter=5000), slice(64, None)),
            ("logistic, raw + codes", LogisticRegression(max_iter=5000), slice(None)),
            ("SVC, codes", SVC(), slice(64, None)),
        ):
            classifier.fit(features[0][:, columns], labels[train])
            accuracy[name].append(classifier.score(features[1][:, columns], labels[test]))
    mean = {name: np.mean(values) for name, values in accuracy.items()}
    assert mean["logistic, codes"] >= 0.94, mean
    assert mean["logistic, raw + codes"] >= 0.935, mean  # raw: 0.925
    assert mean["SVC, codes"] >= 0.95, mean


def test_a_fitted_stack_does_not_depend_on_later_parameters_of_its_layers():
    estimator = stacked().fit(X)
    codes, names = estimator.transform(X), estimator.get_feature_names_out()
    estimator.layers_[-1].set_params(n_components=9, activation="relu", loss="cross_entropy")
    assert_array_equal(estimator.transform(X), codes)
    assert_array_equal(estimator.get_feature_names_out(), names)


def test_a_subclass_may_have_a_parameter_of_its_own():
    class Named(StackedAutoencoder):
        def __init__(self, hidden_layer_sizes=(4, 3), *, name="", max_iter=2, random_state=0):
            super().__init__(hidden_layer_sizes, max_iter=max_iter, random_state=random_state)
            self.name = name

    assert_same_fit(
        clone(Named(name="a")).fit(X),
        StackedAutoencoder((4, 3), max_iter=2, random_state=0).fit(X),
    )
