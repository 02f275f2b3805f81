"""StackedAutoencoderDetector, and what it shares with the imputer.

How the networks are trained side by side is at the end.
"""

import pickle
import signal
import threading
import warnings
from functools import partial

import common
import numpy as np
import pytest
import scipy.sparse as sp
from common import bytes_of, interrupt, record_epochs, refuses, same_fit
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from threadpoolctl import threadpool_limits

from skae import StackedAutoencoderDetector, StackedAutoencoderImputer, _standardized, _threads
from skae._dataset import ArraySamples

FEW = {"hidden_layer_sizes": (6, 4), "n_estimators": 2, "max_iter": 3, "random_state": 0}


def detector(**params):
    return StackedAutoencoderDetector(**{**FEW, **params})


def imputer(**params):
    return StackedAutoencoderImputer(**{**FEW, **params})


both = pytest.mark.parametrize("make", [detector, imputer])


def table(n_samples=60, seed=0, missing=0.0, dtype=np.float64):
    """Features of several scales that depend on each other, not only linearly."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n_samples))
    X = np.column_stack([a, b, a + b, a * a, np.abs(b)])
    X = 3 + [1, 10, 0.1, 1, 1000] * (X + 0.2 * rng.normal(size=X.shape))
    return np.where(rng.random(X.shape) < missing, np.nan, X).astype(dtype)


X = table()
M = table(missing=0.3)


def results(fitted, X=M):
    """What a fitted detector or imputer makes of samples."""
    method = "transform" if hasattr(fitted, "transform") else "feature_scores"
    return getattr(fitted, method)(X)


def assert_same(one, other):
    """Assert that two fits are equal to the last bit."""
    assert_array_equal(results(one), results(other), strict=True)
    for a, b in zip(one.autoencoders_, other.autoencoders_, strict=True):
        assert a.loss_curve_ == b.loss_curve_
        assert same_fit(a, b)
    assert vars(one).get("offset_") == vars(other).get("offset_")


def unfitted(estimator):
    return vars(estimator).keys() == estimator.get_params().keys()


# -- scores -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("given", [X, M], ids=["complete", "missing"])
def test_scores_are_the_squared_errors_of_standardised_features(given, dtype):
    given = given.astype(dtype)
    fitted = detector().fit(given)
    Z = (given - np.nanmean(given, axis=0)) / np.nanstd(given, axis=0)
    errors = np.mean([(one.reconstruct(Z) - Z) ** 2 for one in fitted.autoencoders_], axis=0)
    errors = np.nan_to_num(errors) * 5 / np.sum(~np.isnan(given), axis=1, keepdims=True)
    scores = fitted.feature_scores(given)
    assert scores.dtype == np.float64
    assert_allclose(-scores, errors, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-5)
    assert (scores[np.isnan(given)] == 0).all()


@pytest.mark.parametrize("given", [X, M, M.astype(np.float32), sp.csr_array(X)])
def test_scores_of_features_decision_and_labels_agree(given):
    fitted = detector(contamination=0.2).fit(given)
    scores = fitted.score_samples(given)
    assert scores.dtype == np.float64 and scores.max() < 0
    assert_array_equal(fitted.feature_scores(given).sum(axis=1), scores)
    assert_array_equal(fitted.decision_function(given), scores - fitted.offset_)
    labels = fitted.predict(given)
    assert labels.dtype == np.int64
    assert_array_equal(labels, np.where(scores >= fitted.offset_, 1, -1))
    assert set(labels) == {1, -1}


def test_the_score_of_a_sample_does_not_depend_on_the_others():
    fitted = detector().fit(M)
    alone = np.concatenate([fitted.score_samples(M[k : k + 1]) for k in range(len(M))])
    assert_allclose(fitted.score_samples(M), alone, rtol=1e-12)


def test_scores_are_the_same_in_small_blocks():
    from sklearn import config_context

    fitted = detector().fit(M)
    desired = fitted.feature_scores(M)
    with config_context(working_memory=1e-3):
        assert_allclose(fitted.feature_scores(M), desired, rtol=1e-12)
        assert_array_equal(fitted.feature_scores(M).sum(axis=1), fitted.score_samples(M))


def test_a_feature_that_is_moved_is_the_worst():
    normal = table(500)
    fitted = detector(hidden_layer_sizes=(32, 16), max_iter=40).fit(normal)
    for k in range(5):
        moved = table(100, seed=2)
        moved[:, k] += 10 * normal[:, k].std()
        relative = fitted.feature_scores(moved) / fitted.feature_errors_
        assert (relative.argmin(axis=1) == k).mean() > 0.9
        assert (fitted.predict(moved) == -1).mean() > 0.9


# -- the threshold -------------------------------------------------------------------------


@pytest.mark.parametrize("contamination", ["auto", 0.01, 0.2, 0.5])
def test_the_threshold_goes_by_samples_that_a_network_has_not_seen(contamination):
    fitted = detector(n_estimators=3, contamination=contamination).fit(M)
    Z, scores, errors = (M - fitted.mean_) / fitted.scale_, [], []
    for stack, part in zip(fitted.autoencoders_, _standardized.parts(60, 3, fitted._seed)):
        one = Z[part].astype(np.float32).astype(float)
        terms = np.nan_to_num((one - stack.reconstruct(one)) ** 2)
        errors.append(terms * 5 / np.sum(~np.isnan(one), axis=1, keepdims=True))
        scores.append(-errors[-1].sum(axis=1))
    scores = np.concatenate(scores)
    assert len(scores) == 60
    share = 0.05 if contamination == "auto" else contamination
    assert_allclose(fitted.offset_, np.quantile(scores, share), rtol=1e-4)
    assert_allclose(fitted.feature_errors_, np.concatenate(errors).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("n_estimators", [2, 3, 7])
def test_a_network_does_not_see_its_part(n_estimators):
    """Whatever is in it: only the statistics of all samples are kept."""
    fitted = detector(n_estimators=n_estimators).fit(X)
    parts = [np.flatnonzero(one) for one in _standardized.parts(60, n_estimators, fitted._seed)]
    assert_array_equal(np.sort(np.concatenate(parts)), np.arange(60))
    other = X.copy()
    other[parts[1]] = X[parts[1][::-1]]
    refitted = detector(n_estimators=n_estimators).fit(other)
    for k, (a, b) in enumerate(zip(fitted.autoencoders_, refitted.autoencoders_, strict=True)):
        close = np.allclose(a.layers_[0].components_, b.layers_[0].components_, atol=1e-6)
        assert close == (k == 1)


@pytest.mark.parametrize("contamination", ["auto", 0.1, 0.3])
def test_so_many_new_samples_are_flagged_as_was_asked_for(contamination):
    normal = np.random.default_rng(0).normal(size=(2000, 8)) @ np.random.default_rng(1).normal(
        size=(8, 8)
    )
    fitted = detector(hidden_layer_sizes=(16, 8), contamination=contamination)
    fitted.fit(normal[:1000])
    share = 0.05 if contamination == "auto" else contamination
    deviation = np.sqrt(share * (1 - share) * 2 / 1000)  # of the quantile, and of the share
    assert abs((fitted.predict(normal[1000:]) == -1).mean() - share) < 3 * deviation


def test_fit_predict_flags_a_share_of_the_training_samples():
    fitted = detector(contamination=0.1)
    labels = fitted.fit_predict(X)
    assert_array_equal(np.sort(np.argsort(fitted.score_samples(X))[:6]),
                       np.flatnonzero(labels == -1))  # fmt: skip
    auto = detector()
    assert_array_equal(auto.fit_predict(X), auto.predict(X))
    weights = np.arange(60.0)
    weighted = clone(fitted)
    weighted.fit_predict(X, sample_weight=weights)
    assert_same(weighted, detector(contamination=0.1).fit(X, sample_weight=weights))


# -- unusual values -------------------------------------------------------------------------


def test_a_sample_of_which_nothing_is_observed_has_no_score():
    with_empty = common.with_value(M, np.nan, 3)
    fitted = detector().fit(with_empty)
    assert np.isfinite([fitted.offset_, *fitted.feature_errors_]).all()
    scores = fitted.score_samples(with_empty)
    assert_array_equal(np.flatnonzero(np.isnan(scores)), [3])
    assert np.isnan(fitted.feature_scores(with_empty)[3]).all()
    assert fitted.predict(with_empty)[3] == -1
    for contamination in ("auto", 0.1):
        assert detector(contamination=contamination).fit_predict(with_empty)[3] == -1


def test_something_has_to_be_observed():
    refuses(detector(), "fit", np.full((20, 3), np.nan), match="no observed value", trains=True)


@pytest.mark.parametrize("value", [1e300, -1e300, 1e160, -1e155])
def test_a_value_that_is_far_too_large_is_an_outlier(value):
    fitted = detector().fit(X)
    far = common.with_value(X, value, (2, 1))
    scores = fitted.score_samples(far)
    assert scores[2] == -np.inf == fitted.decision_function(far)[2]
    assert fitted.predict(far)[2] == -1
    assert_allclose(np.delete(scores, 2), np.delete(fitted.score_samples(X), 2), rtol=1e-12)


def test_the_largest_value_of_single_precision_is_an_outlier():
    far = common.with_value(X, 3e38, (2, 1)).astype(np.float32)
    fitted = detector().fit(X.astype(np.float32))
    assert fitted.predict(far)[2] == -1 and fitted.score_samples(far)[2] < -1e70


@both
def test_infinity_is_refused(make):
    infinite = common.with_value(X, np.inf, (2, 1))
    refuses(make(), "fit", infinite, match="contains infinity")
    fitted = make().fit(X)
    method = "predict" if make is detector else "transform"
    refuses(fitted, method, infinite, match="contains infinity")


@both
def test_values_too_large_to_standardise_are_refused(make):
    refuses(make(), "fit", X * 1e200, match=r"values up to .*e\+20\d, too large.* Scale X")


def test_constant_features():
    constant = X.copy()
    constant[:, 2] = 1 / 3
    fitted = detector().fit(constant)
    assert fitted.scale_[2] == 1 and fitted.mean_[2] == pytest.approx(1 / 3)
    moved = common.with_value(constant, 9, (0, 2))
    assert fitted.feature_scores(moved)[0].argmin() == 2
    same = np.full((20, 3), 7.0)
    assert (detector().fit(same).predict(same) == 1).all()


def test_a_feature_that_is_never_observed():
    given = M.copy()
    given[:, 2] = np.nan
    fitted = detector().fit(given)
    assert fitted.feature_errors_[2] == 0
    assert np.isfinite(fitted.score_samples(given)).all()
    assert np.isfinite(fitted.score_samples(M)).all()


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_samples_are_the_same(container):
    given = np.where(np.random.default_rng(0).random(X.shape) < 0.6, 0.0, M)
    fitted, dense = detector().fit(container(given)), detector().fit(given)
    assert_same(fitted, dense)
    assert_array_equal(fitted.score_samples(container(given)), dense.score_samples(given))
    assert_array_equal(fitted.predict(container(given)), dense.predict(given))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_other_numbers_are_taken_as_floats(dtype):
    given = (100 * common.uniform(60, 5)).astype(dtype)
    fitted = detector().fit(given)
    assert_same(fitted, detector().fit(given.astype(float)))
    assert_array_equal(fitted.score_samples(given), fitted.score_samples(given.astype(float)))


@both
def test_scale_and_place_do_not_matter(make):
    """A power of two, and a whole number, change no bit."""
    given = np.round(M)
    moved = results(make().fit(4 * given + 1024), 4 * given + 1024)
    desired = results(make().fit(given), given)
    assert_allclose(moved, desired if make is detector else 4 * desired + 1024, rtol=1e-4)


# -- parameters of both ------------------------------------------------------------------------

BAD = [
    ({"n_estimators": 1}, "'n_estimators'.* int in the range .2, inf"),
    ({"hidden_layer_sizes": ()}, "hidden_layer_sizes is empty"),
    ({"hidden_layer_sizes": (3, 0)}, r"'hidden_layer_sizes\[1\]' parameter"),
    ({"hidden_layer_sizes": "auto"}, "'hidden_layer_sizes' parameter"),
    ({"hidden_layer_sizes": 2**62}, "more than can be addressed"),
    ({"activation": "foo"}, "'activation' parameter"),
    ({"activation": ("relu", "foo")}, r"'activation\[1\]' parameter"),
    ({"activation": ("relu",)}, "activation has 1 values for 2 layers"),
    ({"max_iter": 0}, "'max_iter' parameter"),
    ({"max_iter": (1, 2)}, "'max_iter' parameter"),
    ({"learning_rate_init": 0.0}, "'learning_rate_init' parameter"),
    ({"early_stopping": True, "validation_fraction": 0.9999}, "validation_fraction=0.9999"),
]
OF_THE_DETECTOR = [
    ({"contamination": 0.0}, "'contamination'"),
    ({"contamination": 0.6}, "'contamination'"),
    ({"contamination": "many"}, "'contamination'"),
    ({"corruption_level": -1.0}, "'corruption_level'"),
]


@pytest.mark.parametrize(
    "make, params, match",
    [(make, *case) for make in (detector, imputer) for case in BAD]
    + [(detector, *case) for case in OF_THE_DETECTOR],
)
def test_bad_parameters_are_refused_by_their_name(make, params, match):
    refuses(make(**params), "fit", X, match=match, trains="early_stopping" in params)
    refuses(
        make(warm_start=True).fit(X).set_params(**params), "fit", X,
        match=f"{match}|cannot change|are fitted", trains="early_stopping" in params,
    )  # fmt: skip


@both
@pytest.mark.parametrize(
    "params, activations",
    [
        ({}, ["relu", "tanh"]),
        ({"hidden_layer_sizes": 3}, ["tanh"]),
        ({"hidden_layer_sizes": [5, 4, 3]}, ["relu", "relu", "tanh"]),
        ({"activation": "logistic"}, ["logistic", "logistic"]),
        ({"activation": ["tanh", "identity"]}, ["tanh", "identity"]),
    ],
)
def test_networks_are_as_described(make, params, activations):
    fitted = make(n_estimators=3, **params).fit(X)
    assert len(fitted.autoencoders_) == 3 and fitted.n_iter_ == 3
    for stack in fitted.autoencoders_:
        sizes = np.atleast_1d({**FEW, **params}["hidden_layer_sizes"]).tolist()
        assert [layer.n_components for layer in stack.layers_] == sizes
        assert [layer.activation for layer in stack.layers_] == activations
        assert len(stack.loss_curve_) == 3 and stack.layers_[0].components_.dtype == np.float32
        assert vars(stack).keys().isdisjoint({"_stop", "_target", "_other_title"})


@both
@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd"}, {"alpha": 1.0}, {"batch_size": 7}, {"learning_rate": "constant"},
        {"learning_rate_init": 0.1}, {"max_iter": 4}, {"shuffle": False}, {"random_state": 1},
        {"beta_1": 0.5}, {"early_stopping": True}, {"n_estimators": 3}, {"activation": "tanh"},
        {"hidden_layer_sizes": 6},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_have_an_effect(make, params):
    assert not np.array_equal(results(make(**params).fit(M)), results(make().fit(M)))


def test_noise_has_an_effect():
    scores = [detector(corruption_level=c).fit(X).score_samples(X) for c in (0.0, 1.0, 4.0)]
    assert all(not np.array_equal(scores[0], other) for other in scores[1:])


@both
@pytest.mark.parametrize("params", [{"early_stopping": True}, {"tol": 1e3, "n_iter_no_change": 1}])
def test_training_may_stop_early(make, params):
    fitted = make(max_iter=50, learning_rate_init=0.1, **params).fit(M)
    for stack in fitted.autoencoders_:
        if params.get("early_stopping"):
            curve = stack.validation_loss_curve_
            assert len(curve) == len(stack.loss_curve_) and stack.best_loss_ == min(curve)
        else:
            assert len(stack.loss_curve_) == 2
    assert fitted.n_iter_ == max(len(stack.loss_curve_) for stack in fitted.autoencoders_)
    assert not fitted._interrupted


@both
def test_convergence_warning_only_where_it_is_asked_for(make):
    with pytest.warns(ConvergenceWarning, match=r"network \d of 2, all layers: maximum iter"):
        make(tol=1e-4).fit(X)


@both
def test_verbose_names_the_networks(make, capsys):
    loud = make(verbose=True).fit(M)
    lines = capsys.readouterr().out.splitlines()
    name = type(loud).__name__
    for k in (1, 2):
        where = f"[{name}, network {k} of 2, all layers] epoch "
        assert [where in line for line in lines].count(True) == 3
        assert f"[{name}, network {k} of 2] R^2" in "".join(lines)
    assert len(lines) == 8
    assert_same(loud, make().fit(M))


@both
@pytest.mark.parametrize("seed", [7, np.random.RandomState(7)], ids=str)
def test_the_same_seed_gives_the_same_bits(make, seed):
    one, other = make(random_state=pickle.loads(pickle.dumps(seed))), make(random_state=seed)
    assert_same(one.fit(M), other.fit(M))
    assert not np.array_equal(results(make(random_state=8).fit(M)), results(one))
    stacks = one.autoencoders_
    assert not same_fit(*stacks)


@both
def test_refitting_starts_afresh(make):
    assert_same(make().fit(X * 2).fit(M), make().fit(M))


@both
def test_methods_need_a_fit(make):
    for name in ("score_samples", "feature_scores", "decision_function", "predict", "transform"):
        if hasattr(make(), name):
            with pytest.raises(NotFittedError):
                getattr(make(), name)(X)


@both
def test_another_number_of_features_is_refused(make):
    method = "predict" if make is detector else "transform"
    refuses(make().fit(X), method, X[:, :3], match="X has 3 features, but .* 5 features")


# -- weights, and few samples --------------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [1.0, 3.0, 1e-200])
def test_samples_of_weight_zero_are_left_out(make, value):
    weights = np.where(np.arange(60) % 3 > 0, value, 0.0)
    weighted = make().fit(M, sample_weight=weights)
    fewer = make().fit(M[weights > 0])
    assert_allclose(weighted.mean_, fewer.mean_)
    assert_allclose(results(weighted), results(fewer), rtol=1e-3, atol=1e-5)
    if value == 1:
        assert_same(weighted, fewer)


@both
def test_weights_count_in_the_moments_and_in_training(make):
    weights = np.linspace(0.1, 2, 60)
    fitted = make().fit(X, sample_weight=weights)
    mean = np.average(X, axis=0, weights=weights)
    assert_allclose(fitted.mean_, mean)
    assert_allclose(fitted.scale_, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights)))
    assert not same_fit(fitted.autoencoders_[0], make().fit(X).autoencoders_[0])


@both
@pytest.mark.parametrize(
    "weights, match",
    [
        (-np.ones(60), "Negative values in sample_weight"),
        (np.zeros(60), "at least one non-zero|sums to zero"),
        (np.full(60, np.nan), "sample_weight contains NaN"),
        (np.arange(60) < 3, r"sample_weight is not zero for 3 sample\(s\), while a minimum of 4"),
        (np.ones(59), "sample_weight.shape == "),
    ],
)
def test_bad_weights_are_refused(make, weights, match):
    refuses(make(), "fit", X, sample_weight=np.asarray(weights, float), match=match)


@both
def test_the_fewest_samples(make):
    refuses(make(), "fit", X[:3], match=r"3 sample\(s\).* minimum of 4")
    fitted = make(n_estimators=9).fit(X[:4])
    assert len(fitted.autoencoders_) == 2  # each has two samples, and leaves two out
    assert np.isfinite(results(fitted, X)).all()
    assert len(make(n_estimators=9).fit(X[:7]).autoencoders_) == 3


# -- fits that continue -------------------------------------------------------------------------


@both
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_warm_start_continues(make, solver):
    params = {"learning_rate": "constant", "solver": solver, "warm_start": True}
    continued = make(**params).fit(M)
    first = results(continued)
    continued.set_params(max_iter=2).fit(M)
    assert continued.n_iter_ == 5
    assert_same(continued, make(**{**params, "max_iter": 5}).fit(M))
    assert not np.array_equal(results(continued), first)


@both
def test_a_warm_start_continues_in_the_scale_it_began_with(make):
    fitted = make(warm_start=True).fit(X)
    mean = fitted.mean_
    fitted.set_params(random_state=5).fit(2 * X)
    assert_array_equal(fitted.mean_, mean)
    seeds = [stack.random_state for stack in fitted.autoencoders_]
    assert seeds == [fitted._seed, fitted._seed + 1]


@both
def test_a_warm_start_adds_networks_or_drops_some(make):
    fitted = make(warm_start=True).fit(X)
    fitted.set_params(n_estimators=4).fit(X)
    assert [len(stack.loss_curve_) for stack in fitted.autoencoders_] == [6, 6, 3, 3]
    assert fitted.n_iter_ == 6
    fitted.set_params(n_estimators=3).fit(X)
    assert [len(stack.loss_curve_) for stack in fitted.autoencoders_] == [9, 9, 6]


@both
def test_a_warm_start_leaves_what_was_there_before(make):
    fitted = make(warm_start=True).fit(M)
    earlier, before = fitted.autoencoders_, pickle.dumps(fitted.autoencoders_)
    fitted.fit(M)
    assert pickle.dumps(earlier) == before
    assert not same_fit(earlier[0], fitted.autoencoders_[0])


@both
@pytest.mark.parametrize(
    "params, X, match",
    [
        ({"hidden_layer_sizes": (6, 5)}, X, "hidden_layer_sizes, .* cannot change"),
        ({"hidden_layer_sizes": (6, 4, 3)}, X, "has 3 layers, but 2 are fitted"),
        ({"activation": "tanh"}, X, "cannot change"),
        ({}, X[:, :4], "X has 4 features"),
        ({}, X[:3], "minimum of 4"),
    ],
)
def test_what_cannot_continue_is_refused(make, params, X, match):
    fitted = make(warm_start=True).fit(M).set_params(**params)
    refuses(fitted, "fit", X, match=match)


# -- Ctrl-C and errors ------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "epoch, n_networks, n_iter", [(1, 1, 0), (2, 1, 1), (4, 1, 3), (5, 2, 3), (9, 3, 3)]
)
def test_an_interrupted_fit_keeps_the_networks_so_far(
    make, epoch, n_networks, n_iter, one_thread, monkeypatch
):
    """And a warm start makes up for the epochs and networks that are missing, to the last bit."""
    whole = make(n_estimators=3).fit(M)
    fitted = make(n_estimators=3, warm_start=True)
    with monkeypatch.context() as patch:
        interrupt(patch, epoch)
        name = f"{type(whole).__name__}, network {-(-epoch // 3)} of 3, all layers"
        with pytest.warns(UserWarning, match=f"{name}: training interrupted by user"):
            assert fitted.fit(M) is fitted
    assert len(fitted.autoencoders_) == n_networks and fitted.n_iter_ == n_iter
    assert np.isfinite(results(fitted)).all()
    if make is detector:
        assert np.isfinite(fitted.offset_)
    epochs = record_epochs(monkeypatch)
    assert_same(fitted.fit(M), whole)
    assert len(epochs) == 9 - (3 * (n_networks - 1) + len_of_last(n_networks, n_iter, epoch))
    assert fitted.fit(M).n_iter_ == 6  # nothing is missing any more, and it goes on


def len_of_last(n_networks, n_iter, epoch):
    """Number of epochs of the last network that is left."""
    return n_iter if n_networks == 1 else (epoch - 1) - 3 * (n_networks - 1)


@both
def test_an_interrupted_fit_that_continues_keeps_all_networks(make, one_thread, monkeypatch):
    fitted = make(n_estimators=3, warm_start=True).fit(M)
    with monkeypatch.context() as patch:
        interrupt(patch, 2)
        with pytest.warns(UserWarning, match="network 1 of 3"):
            fitted.fit(M)
    assert [len(stack.loss_curve_) for stack in fitted.autoencoders_] == [4, 3, 3]


@both
def test_ctrl_c_before_anything_is_trained_goes_through(make, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArraySamples, "selected", interrupted)
        with threadpool_limits(1), pytest.warns(UserWarning, match="interrupted by user"):
            refuses(make(), "fit", X, match="no network", error=KeyboardInterrupt)


@both
def test_ctrl_c_between_two_networks(make, monkeypatch):
    def interrupted(*args, calls=[], real=ArraySamples.selected):  # noqa: B006
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    fitted = make(n_estimators=3, verbose=True)  # verbose: one after the other
    monkeypatch.setattr(ArraySamples, "selected", interrupted)
    with pytest.warns(UserWarning, match=f"{type(fitted).__name__}: training interrupted by"):
        fitted.fit(X)
    assert len(fitted.autoencoders_) == 1 and fitted.n_iter_ == 3


@both
@pytest.mark.parametrize("params", [{}, {"solver": "sgd"}, {"warm_start": True}], ids=str)
def test_a_loss_that_explodes_leaves_the_estimator_as_it_was(make, params):
    match = r"network \d of 2, all layers: .*non-finite"
    diverging = {"learning_rate_init": 1e30, **params}
    refuses(make(**diverging), "fit", X, match=match, trains=True)
    fitted = make(**params).fit(X)
    refuses(fitted.set_params(**diverging), "fit", X, match=match, trains=True)
    assert len(fitted.autoencoders_) == 2


@both
def test_an_error_halfway_leaves_the_estimator_as_it_was(make, one_thread, monkeypatch):
    interrupt(monkeypatch, 5, error=MemoryError("no memory"))
    refuses(make(), "fit", X, match="no memory", error=MemoryError, trains=True)


@both
def test_the_arguments_are_left_alone(make):
    given, weights = M.copy(), np.ones(60)
    make().fit(given, sample_weight=weights).set_params(max_iter=7)
    assert_array_equal(given, M)
    fitted = make().fit(M)
    before = bytes_of(fitted)
    results(fitted, given)
    assert_array_equal(given, M)
    assert bytes_of(fitted) == before


# -- side by side ---------------------------------------------------------------------------------

needs_two_threads = pytest.mark.skipif(
    _threads.cpu_count() < 2 or _threads._allowed() < 2 or not _threads.HAS_MEMBERS,
    reason="needs two cores, and two threads",
)


@pytest.mark.threads
@needs_two_threads
@both
def test_networks_are_trained_side_by_side(make, monkeypatch):
    names, meet = set(), threading.Barrier(2, timeout=30)

    def note(*args, real=common._sgd.train):
        if threading.get_ident() not in names:
            names.add(threading.get_ident())
            meet.wait()  # for the other
        return real(*args)

    monkeypatch.setattr(common._sgd, "train", note)
    with threadpool_limits(2):
        make().fit(X)
    assert len(names) == 2 and threading.get_ident() not in names


@pytest.mark.threads
@needs_two_threads
@both
@pytest.mark.parametrize("sizes", [(6, 4), (6, 250, 200)], ids=["small", "large"])
def test_the_number_of_threads_changes_no_bit(make, sizes, capsys):
    """Of small networks. Each large one is trained by a team, as any other estimator is."""
    params = {"hidden_layer_sizes": sizes, "n_estimators": 3, "max_iter": 2}
    fits = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            for verbose in (False, True):
                fits.append(make(**params, verbose=verbose).fit(M))
    one, loud, two, loud_two = fits
    assert_same(one, loud)
    assert_same(two, loud_two)
    if sizes == (6, 4):
        assert_same(one, two)


def test_large_networks_are_trained_one_after_the_other(monkeypatch):
    threads = set()

    def note(*args, real=common._sgd.train):
        threads.add(threading.get_ident())
        return real(*args)

    monkeypatch.setattr(common._sgd, "train", note)
    monkeypatch.setattr(_threads, "WORTH_THREADS", 32 * 5 * 6)
    detector().fit(X)
    assert threads == {threading.get_ident()}


def interrupt_soon(seconds):
    """Send Ctrl-C to the main thread in some seconds."""
    main = threading.main_thread().ident
    timer = threading.Timer(seconds, partial(signal.pthread_kill, main, signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.threads
@pytest.mark.slow
@needs_two_threads
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals to a thread")
@both
def test_ctrl_c_while_networks_are_trained_side_by_side(make):
    """All that have been begun end with their epoch, and go on from there."""
    fitted = make(n_estimators=3, max_iter=10**7, warm_start=True, learning_rate="constant")
    before = threading.active_count()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with threadpool_limits(2), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            timer = interrupt_soon(1.0)
            try:
                fitted.fit(X)
            except KeyboardInterrupt:
                pytest.fail("Ctrl-C went through the fit")
            finally:
                timer.join()
    finally:
        signal.signal(signal.SIGINT, handler)
    told = [str(warning.message) for warning in caught]
    assert told == [f"{type(fitted).__name__}: training interrupted by user."]
    assert len(fitted.autoencoders_) == 2 and fitted.n_iter_ > 1
    assert all(stack.loss_curve_ for stack in fitted.autoencoders_)
    assert np.isfinite(results(fitted)).all()
    assert threading.active_count() == before
    lengths = [len(stack.loss_curve_) for stack in fitted.autoencoders_]
    fitted.set_params(max_iter=max(lengths) + 2).fit(X)
    assert [len(stack.loss_curve_) for stack in fitted.autoencoders_] == [max(lengths) + 2] * 3


@pytest.mark.threads
@needs_two_threads
@both
def test_an_error_in_one_thread_ends_the_others(make, monkeypatch):
    def fails(problem, *args, real=common._sgd.train, calls=[]):  # noqa: B006
        calls.append(threading.get_ident())
        if len(calls) == 4:
            raise MemoryError("no memory")
        return real(problem, *args)

    monkeypatch.setattr(common._sgd, "train", fails)
    estimator, before = make(max_iter=10**7), threading.active_count()
    with threadpool_limits(2):
        refuses(estimator, "fit", X, match="no memory", error=MemoryError, trains=True)
    assert unfitted(estimator)
    assert threading.active_count() == before
