"""scikit-learn's callbacks: which tasks they see, with which data, and how they stop a fit."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from common import FitTask
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
)

callback = pytest.importorskip("sklearn.callback")  # scikit-learn 1.9

X, y = load_digits(return_X_y=True)
X, y = (X[:200] / 16).astype(np.float32), y[:200]

ESTIMATORS = [
    DenoisingAutoencoder(16, max_iter=3, random_state=0),
    StackedAutoencoder((16, 8), max_iter=2, joint=True, joint_max_iter=3, random_state=0),
    StackedAutoencoderClassifier((16, 8), max_iter=2, fine_tune="top_then_all", random_state=0),
    StackedAutoencoderRegressor((16, 8), max_iter=2, random_state=0),
]
of_each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)


class Recorder:
    """Records its calls; asks to stop a task of a given name."""

    max_propagation_depth = None

    def __init__(self, stop=None):
        self.stop, self.calls, self.open, self.torn_down = stop, [], [], 0

    def setup(self, estimator, context):
        self.calls, self.open = [], []

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.open.append(context)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        assert self.open.pop() is context  # well nested
        self.calls.append((context, X, y, metadata, fitted_estimator))
        return context.task_name == self.stop

    def names(self):
        return [context.task_name for context, *_ in self.calls]

    def fitted(self, name):
        return [made for context, *_, made in self.calls if context.task_name == name]


def test_tasks_of_a_layer_are_its_epochs():
    recorder = Recorder()
    dae = DenoisingAutoencoder(16, max_iter=3, random_state=0).set_callbacks(recorder).fit(X, y)
    assert recorder.names() == ["epoch"] * 3 + ["fit"]
    assert recorder.calls[-1][0].max_subtasks == 3
    assert recorder.torn_down == 1 and not recorder.open
    for _, seen_X, seen_y, metadata, _ in recorder.calls:
        assert seen_X is X and seen_y is y and metadata is None
    assert not [name for name in vars(dae) if "ctx" in name or "teardown" in name]


def test_a_number_of_epochs_that_is_chosen_by_the_samples():
    recorder = Recorder()
    dae = DenoisingAutoencoder(4, max_iter="auto").set_callbacks(recorder).fit(X[:200])
    assert recorder.names() == ["epoch"] * 200 + ["fit"] and dae.n_iter_ == 200
    assert recorder.calls[-1][0].max_subtasks is None  # not known before X is validated


def test_tasks_of_a_stack_are_its_layers():
    recorder = Recorder()
    ESTIMATORS[1].set_callbacks(recorder).fit(X)
    ESTIMATORS[1].set_callbacks()
    layer = ["epoch", "epoch", "layer"]
    assert recorder.names() == layer * 2 + ["epoch"] * 3 + ["joint training", "fit"]
    assert recorder.calls[-1][0].max_subtasks == 3


def test_callbacks_follow_the_classifier_into_its_stack():
    recorder = Recorder()
    clf = clone(ESTIMATORS[2]).set_params(
        final_estimator=LogisticRegression(max_iter=1000), warm_start=True
    )
    clf.set_callbacks(recorder).fit(X, y)
    names = recorder.names()
    pretrain = names[: names.index("fit") + 1]  # the stack's own root stands for "pretrain"
    n_epochs = -(-40_000 // len(X))
    assert pretrain == (["epoch"] * n_epochs + ["layer"]) * 2 + ["fit"]
    top = ["epoch"] * 2 + ["fine-tune output layer"]
    assert names[len(pretrain) :][:6] == top + ["epoch"] * 2 + ["fine-tune"]
    assert names[-1] == "fit" and recorder.calls[-1][0].max_subtasks == 4
    root = recorder.calls[-1][0]
    assert all(context.root_uuid == root.root_uuid for context, *_ in recorder.calls)
    assert not hasattr(clf.pretrained_, "_skl_callbacks")


def view(fitted):
    """Something that all of the parameters have a part in."""
    for method in ("predict_proba", "predict", "score_samples"):
        if hasattr(fitted, method):
            return getattr(fitted, method)(X)


@of_each
def test_every_epoch_shows_an_estimator_as_if_fit_had_ended_there(estimator):
    recorder = Recorder()
    whole = clone(estimator).set_callbacks(recorder).fit(X, y)
    views = [view(m) for m in recorder.fitted("epoch") if type(m) is type(whole)]
    # Each is apart from the others: what went on has left it as it was.
    assert all(not np.array_equal(a, b) for a, b in pairwise(views))
    np.testing.assert_array_equal(views[-1], view(whole))
    np.testing.assert_array_equal(view(recorder.calls[-1][-1]), view(whole))
    if estimator is ESTIMATORS[0]:
        for n_epochs, seen in enumerate(views, start=1):
            shorter = clone(estimator).set_params(max_iter=n_epochs).fit(X)
            np.testing.assert_array_equal(seen, view(shorter))


def test_an_epoch_shows_the_weights_that_early_stopping_would_return():
    recorder = Recorder()
    dae = DenoisingAutoencoder(
        16, max_iter=30, early_stopping=True, learning_rate_init=0.05, random_state=0
    )
    dae.set_callbacks(recorder).fit(X)
    curve = np.array(dae.validation_loss_curve_)
    assert curve.argmin() < len(curve) - 1  # the last epoch was not the best
    last = recorder.fitted("epoch")[-1]
    np.testing.assert_array_equal(last.components_, dae.components_)


@pytest.mark.parametrize("estimator", ESTIMATORS[:2], ids=lambda e: type(e).__name__)
def test_the_end_of_a_fit_shows_how_good_it_is(estimator):
    recorder = Recorder()
    whole = clone(estimator).set_callbacks(recorder).fit(X)
    whole.set_params(warm_start=True, verbose=False).fit(X)
    for name in ("reconstruction_r2_", "baseline_loss_"):
        assert not any(hasattr(seen, name) for seen in recorder.fitted("epoch"))
        assert getattr(recorder.calls[-1][-1], name) == getattr(whole, name)
        for depth, seen in enumerate(recorder.fitted("layer")[-2:]):
            assert getattr(seen.layers_[depth], name) == getattr(whole.layers_[depth], name)


@of_each
def test_callbacks_change_nothing(estimator):
    watched = clone(estimator).set_callbacks(Recorder()).fit(X, y)
    unwatched = clone(estimator).fit(X, y)
    np.testing.assert_array_equal(watched.transform(X), unwatched.transform(X))


@of_each
def test_a_callback_can_stop_the_epochs(estimator):
    fitted = clone(estimator).set_callbacks(Recorder(stop="epoch")).fit(X, y)
    layers = getattr(fitted, "layers_", [fitted])
    n_times = 2 if estimator is ESTIMATORS[2] else 1  # the top alone, then all
    assert [layer.n_iter_ for layer in layers] == [n_times] * len(layers)


def test_a_callback_can_stop_the_layers_and_a_warm_start_goes_on():
    stack = clone(ESTIMATORS[1]).set_callbacks(Recorder(stop="layer")).fit(X)
    assert len(stack.layers_) == 1 and stack.transform(X).shape == (len(X), 16)
    stack.set_callbacks().set_params(warm_start=True).fit(X)
    assert len(stack.layers_) == 2 and stack.loss_curve_


def test_layers_that_an_interrupted_fit_has_completed_are_no_tasks():
    stack, recorder = clone(ESTIMATORS[1]), Recorder(stop="layer")
    stack.set_callbacks(recorder).fit(X)
    recorder.stop = None
    stack.set_params(warm_start=True).fit(X)
    layer = ["epoch", "epoch", "layer"]
    assert recorder.names() == layer + ["epoch"] * 3 + ["joint training", "fit"]


@of_each
def test_callbacks_are_torn_down_when_a_fit_fails(estimator):
    recorder = Recorder()
    broken = clone(estimator).set_callbacks(recorder)
    with pytest.raises(ValueError, match="infinity"):
        broken.fit(np.full_like(X, np.inf), y)
    diverging = clone(estimator).set_params(solver="sgd", learning_rate_init=1e30)
    with pytest.raises(ValueError, match="non-finite"):
        diverging.set_callbacks(recorder).fit(X, y)
    assert recorder.torn_down == 2
    assert not hasattr(diverging, "_callback_fit_ctx")


ENSEMBLES = [
    cls((8, 4), n_estimators=2, max_iter=3, random_state=0)
    for cls in (StackedAutoencoderDetector, StackedAutoencoderImputer)
]
of_each_ensemble = pytest.mark.parametrize("ensemble", ENSEMBLES, ids=lambda e: type(e).__name__)


def inputs_of_networks(ensemble, X):
    """Those of an imputer are told which values are missing."""
    imputes = hasattr(ensemble, "missing_values")
    return np.hstack([X, np.isnan(X)]) if imputes else X


@of_each_ensemble
def test_tasks_of_an_ensemble_are_its_networks(ensemble):
    """The root of each network is that of a stack, trained jointly from its initial weights."""
    recorder, given = Recorder(), X[:, 20:28]
    watched = clone(ensemble).set_callbacks(recorder).fit(given, y)
    network = ["layer"] * 2 + ["epoch"] * 3 + ["joint training", "fit"]
    assert recorder.names() == network * 2 + ["fit"]
    root = recorder.calls[-1][0]
    assert root.max_subtasks == 2 and recorder.torn_down > 0 and not recorder.open
    assert all(context.root_uuid == root.root_uuid for context, *_ in recorder.calls)
    assert all(type(shown) is StackedAutoencoder for shown in recorder.fitted("epoch"))
    _, seen_X, seen_y, _, shown = recorder.calls[-1]
    assert seen_X is given and seen_y is y
    np.testing.assert_array_equal(shown.mean_, watched.mean_)
    for network in watched.autoencoders_:
        assert not hasattr(network, "_skl_callbacks")
    plain = clone(ensemble).set_callbacks().fit(given)
    given = inputs_of_networks(ensemble, given)
    for one, other in zip(plain.autoencoders_, watched.autoencoders_, strict=True):
        np.testing.assert_array_equal(one.transform(given), other.transform(given))


@of_each_ensemble
def test_what_a_callback_is_shown_of_an_ensemble_can_be_pickled(ensemble):
    recorder = Recorder()
    watched = clone(ensemble).set_callbacks(recorder).fit(X[:, 20:28])
    *_, last = pickle.loads(pickle.dumps(recorder.fitted("epoch")))
    given = inputs_of_networks(ensemble, X[:, 20:28])
    np.testing.assert_array_equal(
        last.transform(given), watched.autoencoders_[-1].transform(given)
    )


@of_each_ensemble
def test_a_callback_can_stop_the_epochs_of_each_network(ensemble):
    stopped = clone(ensemble).set_callbacks(Recorder(stop="epoch")).fit(X[:, 20:28])
    assert [len(network.loss_curve_) for network in stopped.autoencoders_] == [1, 1]


@of_each_ensemble
def test_callbacks_are_torn_down_when_a_network_fails(ensemble):
    recorder = Recorder()
    broken = clone(ensemble).set_params(learning_rate_init=1e30).set_callbacks(recorder)
    with pytest.raises(ValueError, match=r"network 1 of 2, .*non-finite"):
        broken.fit(X[:, 20:28])
    assert recorder.torn_down > 0 and not hasattr(broken, "_callback_fit_ctx")
    assert not hasattr(broken, "autoencoders_")


def test_tasks_of_joint_training_alone():
    recorder = Recorder()
    stack = StackedAutoencoder((8, 4), joint="only", joint_max_iter=3, random_state=0)
    stack.set_callbacks(recorder).fit(X)
    assert recorder.names() == ["layer"] * 2 + ["epoch"] * 3 + ["joint training", "fit"]
    views = [shown.score_samples(X) for shown in recorder.fitted("epoch")]
    assert all(not np.array_equal(a, b) for a, b in pairwise(views))
    np.testing.assert_array_equal(views[-1], stack.score_samples(X))


def test_partial_fit_is_a_task_of_one_epoch():
    recorder = Recorder()
    dae = DenoisingAutoencoder(16, random_state=0).set_callbacks(recorder).partial_fit(X)
    assert recorder.names() == ["epoch", "partial_fit"]
    dae.partial_fit(X)
    assert recorder.names() == ["epoch", "partial_fit"] and recorder.torn_down == 2


def test_only_labelled_rows_and_their_weights_are_shown_in_fine_tuning():
    recorder = Recorder()
    partly = np.where(np.arange(len(y)) < 100, y, -1)
    weights = np.linspace(1, 2, len(y))
    clf = StackedAutoencoderClassifier((8,), max_iter=1, pretrain=False, random_state=0)
    clf.set_callbacks(recorder).fit(X, partly, sample_weight=weights)
    _, seen_X, seen_y, metadata, _ = recorder.calls[0]
    np.testing.assert_array_equal(seen_X, X[:100])
    np.testing.assert_array_equal(seen_y, y[:100])
    np.testing.assert_array_equal(metadata["sample_weight"], weights[:100])


def test_scoring_monitor_follows_the_reconstruction():
    monitor = callback.ScoringMonitor(scoring={"score": lambda e, X, y: e.score(X)})
    dae = DenoisingAutoencoder(16, max_iter=5, random_state=0).set_callbacks(monitor)
    dae.fit(X, y)
    *epochs, root = sorted(monitor.get_logs().data, key=lambda row: -len(row["task_id_path"]))
    assert root["score"] == epochs[-1]["score"] == dae.score(X) > epochs[0]["score"]


def test_progress_bar(capsys):
    pytest.importorskip("rich")
    bar = callback.ProgressBar(max_propagation_depth=None)
    pipe = make_pipeline(StackedAutoencoder((8, 4), max_iter=2, random_state=0)).set_callbacks(bar)
    pipe.fit(X)
    shown = capsys.readouterr().out
    assert "StackedAutoencoder - layer #1" in shown and "100%" in shown


def test_clones_and_pipelines_keep_callbacks():
    recorder = Recorder()
    dae = clone(clone(ESTIMATORS[0]).set_callbacks(recorder))
    dae.fit(X)
    assert recorder.names().count("epoch") == 3
    make_pipeline(clone(ESTIMATORS[0])).set_callbacks(recorder).fit(X)
    assert recorder.names() == ["epoch"] * 3 + ["fit"] * 2


def test_without_scikit_learns_callbacks_nothing_is_called():
    class Old:
        """An estimator under scikit-learn before 1.9."""

    task = FitTask.fit_of(Old(), 3)
    task.begin(X, y)
    with task.delegated("pretrain", Old()):
        pass
    assert task.subtask("epoch") is task
    assert task.end() is False
