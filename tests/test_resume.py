"""Fits that ended too soon, by Ctrl-C or because a callback saved them: a warm start makes up for
what is missing, to the last bit. What an interrupted fit is good for by itself is in
test_training.py and test_stacked.py.
"""

import copy
import pickle
from functools import partial

import common
import numpy as np
import pytest
from common import assert_same_fit, interrupt, uniform
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge

from skae import (
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderRegressor,
)

pytestmark = pytest.mark.usefixtures("one_thread")


X = uniform()
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
VALUES = 300 + 30 * X[:, 0] - 20 * X[:, 1] ** 2

stacked = partial(common.stacked, activation="tanh")

# Two epochs of each of two layers come first, and then four of fine-tuning.
SMALL = {**common.SMALL, "hidden_layer_sizes": (7, 5), "activation": "tanh", "max_iter": 4,
         "pretrain": stacked(max_iter=2, random_state=5)}  # fmt: skip


def classifier(**params):
    return StackedAutoencoderClassifier(**{**SMALL, **params})


def regressor(**params):
    return StackedAutoencoderRegressor(**{**SMALL, **params})


TARGETS = {classifier: CODES, regressor: VALUES}
both = pytest.mark.parametrize("make", TARGETS)

# What knows of other epochs than its own: of how many there are, which was best, their mean.
SCHEDULES = [
    {},
    {"solver": "sgd"},
    {"learning_rate": "cosine"},
    {"learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 2},
    {"early_stopping": True, "validation_fraction": 0.3},
    {"early_stopping": True, "validation_fraction": 0.3, "learning_rate_init": 0.5},
    {"activation": "top_k", "n_active": 1, "max_iter": 5},
]
STAGES = [
    {"n_warmup_epochs": 2},
    {"n_warmup_epochs": 2, "learning_rate": "cosine"},
    {"n_averaged_epochs": 3},
    {"dropout": 0.3, "input_dropout": 0.2},
    {"fine_tune": "top"},
    {"fine_tune": "top_then_all"},
    {"fine_tune": "top_then_all", "learning_rate": "cosine", "n_warmup_epochs": 1},
    {"fine_tune": "top_then_all", "n_averaged_epochs": 3},
    {"fine_tune": "top_then_all", "early_stopping": True, "validation_fraction": 0.3},
]
of_stacks = pytest.mark.parametrize(
    "params", [{**params, "joint": joint} for joint in (False, True) for params in SCHEDULES],
    ids=str,
)  # fmt: skip
of_predictors = pytest.mark.parametrize("params", [*SCHEDULES, *STAGES], ids=str)


class Saver:
    """Pickles what a callback is shown at the end of each epoch, or raises an error there."""

    max_propagation_depth = None

    def __init__(self, interrupted_at=None):
        self.interrupted_at, self.saved = interrupted_at, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        pass

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        if context.task_name == "epoch":
            self.saved.append(pickle.dumps(fitted_estimator.set_callbacks()))
            if len(self.saved) == self.interrupted_at:
                raise KeyboardInterrupt


def assert_same(one, other):
    """Assert that two fits are equal to the last bit, in all that they show of themselves."""
    assert_same_fit(one, other)
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_", "n_iter_",
                 "best_loss_", "best_validation_score_", "loss_"):  # fmt: skip
        assert getattr(one, name, None) == getattr(other, name, None), name
    for method in ("transform", "predict", "score_samples"):
        if hasattr(one, method):
            assert_array_equal(getattr(one, method)(X), getattr(other, method)(X), strict=True)


def resumed(estimator, y=None):
    """Save and load an estimator, and go on with its fit."""
    return pickle.loads(pickle.dumps(estimator)).set_params(warm_start=True).fit(X, y)


def n_epochs_of(estimator):
    """Count the epochs of all parts of a fit."""
    pretrained = getattr(estimator, "pretrained_", None)
    joint = len(estimator.loss_curve_) if getattr(estimator, "joint", False) else 0
    return estimator.n_iter_ + joint + (n_epochs_of(pretrained) if pretrained else 0)


def interrupted_before(epoch, estimator, y=None):
    """Fit an estimator, with Ctrl-C before an epoch, counted over all parts of the fit."""
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning) as caught:
        interrupt(patch, epoch)
        estimator.fit(X, y)
    assert [str(one.message).endswith("interrupted by user.") for one in caught].count(True) == 1
    return estimator


# -- Ctrl-C ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@of_stacks
def test_an_interrupted_stack(params):
    """In any epoch of any layer, and of joint training."""
    whole = stacked(joint_max_iter=3, **params).fit(X)
    for epoch in range(1, n_epochs_of(whole) + 1):
        half = interrupted_before(epoch, stacked(joint_max_iter=3, **params))
        assert_same(resumed(half), whole)


@pytest.mark.parametrize("params", [{}, {"joint": True, "joint_max_iter": 3}], ids=str)
def test_an_interrupted_warm_start_of_a_stack(params):
    """The layers that it has not come to are those of the fit before it."""
    once = stacked(warm_start=True, **params).fit(X)
    twice = pickle.loads(pickle.dumps(once)).fit(X)
    for epoch in range(1, 4 if params else 2 * 3 + 1):
        half = interrupted_before(epoch, pickle.loads(pickle.dumps(once)))
        assert_same(resumed(half), twice)


def test_an_interrupted_warm_start_of_a_detector():
    """The networks that it has not come to are yet to be trained further."""
    once = StackedAutoencoderDetector(
        (7, 5), n_estimators=3, warm_start=True, max_iter=3, random_state=0
    ).fit(X)
    twice = pickle.loads(pickle.dumps(once)).fit(X)
    for epoch in range(1, 3 * 3 + 1):
        half = resumed(interrupted_before(epoch, pickle.loads(pickle.dumps(once))))
        assert half.n_iter_ == twice.n_iter_ == 6 and half.offset_ == twice.offset_
        assert common.same_fit(half, twice)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
def test_seeds_that_an_interrupted_fit_has_drawn(random_state):
    """Those of the layers to come, and of the network, are not drawn again."""
    for make, y in ((stacked, None), (classifier, CODES)):
        estimator = make(random_state=random_state)
        np.random.seed(0)  # noqa: NPY002
        half = interrupted_before(2, copy.deepcopy(estimator), y)
        again = resumed(half, y)
        np.random.seed(0)  # noqa: NPY002
        assert_same(again, copy.deepcopy(estimator).fit(X, y))


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@of_predictors
@both
def test_an_interrupted_predictor(make, params):
    """In any epoch of pretraining, of the top alone, and of fine-tuning."""
    y = TARGETS[make]
    whole = make(warm_start=True, **params).fit(X, y)
    for epoch in range(1, n_epochs_of(whole) + 1):
        half = interrupted_before(epoch, make(**params), y)
        assert_same(resumed(half, y), whole)


@pytest.mark.parametrize("n_epochs", range(4))
@both
def test_ctrl_c_in_pretraining_ends_the_fit(make, n_epochs, epochs):
    """No epoch follows, neither of pretraining nor of fine-tuning; what there is can be used."""
    y = TARGETS[make]
    final = {classifier: LogisticRegression(), regressor: Ridge()}[make]
    for params in ({}, {"final_estimator": final}, {"fine_tune": "top_then_all"}):
        epochs.clear()
        half = interrupted_before(n_epochs + 1, make(**params), y)
        assert len(epochs) == n_epochs
        assert half.n_iter_ == len(half.loss_curve_) == 0
        assert np.isfinite(half.transform(X)).all()
        assert len(half.predict(X)) == 60
        whole = make(**params).fit(X, y)
        assert_same(resumed(half, y), whole)
        assert_same(half.fit(X, y), whole)  # and without warm start, from scratch


@pytest.mark.parametrize("pretrain", [True, stacked(joint=True, joint_max_iter=3, max_iter=1)])
@both
def test_ctrl_c_in_pretraining_of_other_kinds(make, pretrain):
    y = TARGETS[make]
    whole = make(pretrain=pretrain, max_iter=2, warm_start=True).fit(X, y)
    n_pretraining = n_epochs_of(whole.pretrained_)
    assert n_pretraining in (2 * -(-40_000 // len(X)), 5)
    for epoch in (1, 2, 3, n_pretraining):
        half = interrupted_before(epoch, make(pretrain=pretrain, max_iter=2), y)
        assert half.n_iter_ == 0
        assert_same(resumed(half, y), whole)


@both
def test_a_fit_that_is_interrupted_again_and_again(make):
    y = TARGETS[make]
    estimator = make(fine_tune="top_then_all", learning_rate="cosine", warm_start=True)
    for _ in range(4 + 2 * 4 - 1):  # an epoch each
        estimator = pickle.loads(pickle.dumps(interrupted_before(2, estimator, y)))
    assert estimator.n_iter_ == 7
    whole = make(fine_tune="top_then_all", learning_rate="cosine").fit(X, y)
    assert_same(estimator.fit(X, y), whole)


# -- callbacks -------------------------------------------------------------------------------


def saver(**params):
    pytest.importorskip("sklearn.callback")  # scikit-learn 1.9
    return Saver(**params)


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@of_stacks
def test_a_stack_that_a_callback_has_saved(params):
    saves = saver()
    whole = stacked(joint_max_iter=3, **params).set_callbacks(saves).fit(X)
    assert len(saves.saved) == n_epochs_of(whole)
    for saved in saves.saved[:-1]:  # the last lacks nothing: it would train further
        assert_same(resumed(pickle.loads(saved)), whole)


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@of_predictors
@both
def test_a_predictor_that_a_callback_has_saved(make, params):
    y, saves = TARGETS[make], saver()
    whole = make(**params).set_callbacks(saves).fit(X, y)
    loaded = [pickle.loads(saved) for saved in saves.saved]
    mine = [one for one in loaded if type(one) is type(whole)]
    assert len(mine) == whole.n_iter_
    for half in mine[:-1]:
        assert_same(resumed(half, y), whole)
    # In pretraining it is the stack that is shown.
    shape = {name: params[name] for name in ("activation", "n_active") if name in params}
    expected = stacked(max_iter=2, random_state=5, **shape).fit(X)
    for half in loaded[: 4 - 1]:
        assert_same(resumed(half), expected)


@both
def test_ctrl_c_in_a_callback(make):
    """After an epoch, which is not repeated; others of its stage are to come."""
    y = TARGETS[make]
    whole = make(fine_tune="top_then_all").fit(X, y)
    for epoch in (1, 3, 5, 6, 7, 9, 10, 11):
        half = make(fine_tune="top_then_all").set_callbacks(saver(interrupted_at=epoch))
        with pytest.warns(UserWarning, match="interrupted by user"):
            half.fit(X, y)
        assert half.n_iter_ == max(0, epoch - 4)
        assert_same(resumed(half.set_callbacks(), y), whole)
