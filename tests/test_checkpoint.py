"""Checkpoints: a fit resumed from any of its files is that of a fit without interruption, to the
last bit; whenever the process ends, there is a whole file.
"""

import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from common import _sgd, hasten_imputers, interrupt, no_training, record_epochs, uniform
from numpy.testing import assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from skae import (
    Checkpoint,
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
    _checkpoint,
    _training,
    resume,
)
from skae._base import BaseModel
from skae._callbacks import TRANSIENT

io = pytest.importorskip("skops.io")
pytestmark = pytest.mark.usefixtures("one_thread")

X = uniform()
CODES = (X[:, 0] + X[:, 1] > 0.8).astype(int) + (X[:, 0] > 0.7)
PARTLY = np.where(np.arange(len(X)) % 3 == 0, -1, CODES)
VALUES = 300 + 30 * X[:, 0] - 20 * X[:, 1] ** 2
WEIGHTS = np.random.default_rng(0).uniform(size=len(X)) * (np.arange(len(X)) % 5 > 0)

SMALL = dict(max_iter=3, batch_size=16, learning_rate_init=0.01, random_state=0)
Layer = partial(DenoisingAutoencoder, 7, **SMALL)
Stack = partial(StackedAutoencoder, (7, 5), **SMALL)
PRETRAIN = Stack(max_iter=2)
Classifier = partial(StackedAutoencoderClassifier, (7, 5), pretrain=PRETRAIN, **SMALL)
Regressor = partial(StackedAutoencoderRegressor, (7, 5), pretrain=PRETRAIN, **SMALL)
Detector = partial(StackedAutoencoderDetector, (7, 5), n_estimators=3, **SMALL)
Imputer = partial(StackedAutoencoderImputer, (7, 5), n_estimators=2, **SMALL)

CASES = {
    "layer": (Layer(), None),
    "layer, stochastic": (Layer(random_state=None, corruption="swap"), None),
    "layer, early stopping": (
        Layer(max_iter=9, early_stopping=True, learning_rate_init=0.5), None),
    "layer, auto": (Layer(max_iter="auto"), None),
    "layer, adaptive": (Layer(learning_rate="adaptive", tol=10.0, n_iter_no_change=1), None),
    "layer, warm": (Layer(warm_start=True, solver="sgd"), None),
    "layer, top-k": (Layer(activation="top_k", n_active=1, max_iter=6), None),
    "stack": (Stack(corruption="salt_and_pepper"), None),
    "stack, per layer": (Stack(max_iter=[1, 4], learning_rate="cosine"), None),
    "stack, stochastic": (Stack(random_state=None), None),
    "stack, generator": (Stack(random_state=np.random.RandomState(0)), None),
    "stack, warm": (Stack(warm_start=True), None),
    "joint": (Stack(joint=True, joint_max_iter=3, early_stopping=True), None),
    "joint, warm": (Stack(joint=True, joint_max_iter=3, warm_start=True), None),
    "joint only": (Stack(joint="only", joint_max_iter=4, learning_rate="cosine"), None),
    "joint only, top-k": (Stack(activation="top_k", joint="only", joint_max_iter=6), None),
    "classifier": (Classifier(dropout=0.2, input_dropout=0.1), CODES),
    "classifier, own stack": (
        Classifier(pretrain=True, random_state=None, max_iter="auto"), CODES),
    "classifier, stochastic": (
        Classifier(pretrain=Stack(random_state=None, max_iter=2), random_state=None), PARTLY),
    "classifier, partly": (Classifier(early_stopping=True, learning_rate="cosine"), PARTLY),
    "classifier, top": (Classifier(fine_tune="top"), CODES),
    "classifier, both": (Classifier(fine_tune="top_then_all", n_averaged_epochs=2), PARTLY),
    "classifier, joint": (
        Classifier(pretrain=Stack(max_iter=1, joint=True, joint_max_iter=2)), CODES),
    "classifier, warm": (Classifier(warm_start=True, fine_tune="top_then_all"), CODES),
    "classifier, not pretrained": (Classifier(pretrain=False, n_warmup_epochs=1), CODES),
    "classifier, given": (Classifier(pretrain=Stack().fit(X)), CODES),
    "classifier, frozen": (Classifier(pretrain=FrozenEstimator(Stack().fit(X))), CODES),
    "classifier, final": (
        Classifier(final_estimator=LogisticRegression(max_iter=500), max_norm=1.0), CODES),
    "classifier, final of skae": (Classifier(final_estimator=Classifier()), CODES),
    "classifier, top-k": (
        Classifier(activation="top_k", n_active=1, pretrain=Stack(max_iter=4)), PARTLY),
    "regressor": (Regressor(solver="sgd"), VALUES),
    "regressor, both": (Regressor(fine_tune="top_then_all", early_stopping=True,
                                  validation_fraction=0.3), VALUES),
    "detector": (Detector(), None),
    "detector, stochastic": (Detector(random_state=None, early_stopping=True), None),
    "detector, warm": (Detector(warm_start=True), None),
    "imputer": (Imputer(add_indicator=True), None),
}  # fmt: skip
each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    hasten_imputers(monkeypatch)
    monkeypatch.setattr(_training, "N_SAMPLES_SEEN", 300)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.skops"


def assert_identical(one, other, place=""):
    """Assert that all attributes are equal, to the last bit, and those of attributes too."""
    assert type(one) is type(other), place
    if isinstance(one, BaseEstimator):
        one, other = one.__getstate__(), other.__getstate__()
    if isinstance(one, np.random.RandomState):
        one, other = one.get_state(), other.get_state()
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_identical(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for k, (mine, theirs) in enumerate(zip(one, other)):
            assert_identical(mine, theirs, f"{place}[{k}]")
    elif isinstance(one, np.ndarray):
        assert_array_equal(one, other, strict=True, err_msg=place)
    else:
        assert one == other or (one != one and other != other), place


def record_files(monkeypatch):
    """Return the list of all files, as bytes, that checkpoints write from now on."""
    files = []

    def spy(estimator, path, real=_checkpoint.write):
        real(estimator, path)
        files.append(Path(path).read_bytes())

    monkeypatch.setattr(_checkpoint, "write", spy)
    return files


def record_events(monkeypatch):
    """Return the list of all further events: "e" for an epoch, "f" for a file."""
    events = []

    def spy(name, function):
        def spied(*args):
            events.append(name)
            return function(*args)

        return spied

    monkeypatch.setattr(_sgd, "train", spy("e", _sgd.train))
    monkeypatch.setattr(_checkpoint, "write", spy("f", _checkpoint.write))
    return events


def fit_from(seed, estimator, *args, **kwargs):
    """Fit a copy; without a random_state, the seed decides."""
    np.random.seed(seed)  # noqa: NPY002
    return copy.deepcopy(estimator).fit(*args, **kwargs)


def assert_resumes(estimator, path, *data, **kwargs):
    """Assert that a fit can be resumed from each of its files; return its events."""
    whole = fit_from(0, estimator, *data, **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        files, events = record_files(patch), record_events(patch)
        with Checkpoint(path):
            saved = fit_from(0, estimator, *data, **kwargs)
    assert_identical(saved, whole)
    for file in files:
        path.write_bytes(file)
        np.random.seed(1)  # noqa: NPY002
        assert_identical(resume(path, *data, **kwargs), whole)
    assert os.listdir(path.parent) == [path.name]
    return events


class Ended(Exception):
    """Stands for the end of a process."""


def end_after(monkeypatch, n_files):
    """Let the fit that writes this many files end with an exception after the last of them."""
    files = []

    def spy(estimator, path, real=_checkpoint.write):
        real(estimator, path)
        files.append(path)
        if len(files) == n_files:
            raise Ended

    monkeypatch.setattr(_checkpoint, "write", spy)


def unfinished(estimator, path, *data, n_files=1, checkpoint=None):
    """Write the file of a fit that has ended too soon; return the whole fit."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Ended):
        end_after(patch, n_files)
        with checkpoint or Checkpoint(path):
            clone(estimator).fit(*data)
    return clone(estimator).fit(*data)


# -- to the same bits -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*maximum iterations")
@each_case
def test_a_fit_is_resumed_from_any_epoch(name, path):
    estimator, y = CASES[name]
    events = assert_resumes(estimator, path, X, y)
    n_others = 2 * 2 + 3 if "final of skae" in name else 0  # epochs that are not saved
    # The last epoch of a fit is saved with what follows it.
    n_saved = events.count("e") - n_others
    expected = (
        "ef" * n_saved if not n_others else "ef" * (n_saved - 1) + "e" * (1 + n_others) + "f"
    )
    assert "".join(events) == expected


@pytest.mark.parametrize("every", [2, 3])
@pytest.mark.parametrize("name", ["classifier, both", "classifier, joint", "imputer", "joint"])
def test_no_more_epochs_are_lost(name, every, path, monkeypatch):
    """Where a part of the fit ends, too, which cannot be resumed from its last epoch."""
    estimator, y = CASES[name]
    events = record_events(monkeypatch)
    with Checkpoint(path, every=every):
        clone(estimator).fit(X, y)
    runs = [len(run) for run in "".join(events).split("f")]
    assert max(runs) == every and runs[-1] == 0


@pytest.mark.parametrize("name", [name for name in CASES if "warm" in name])
def test_a_warm_start_is_resumed(name, path):
    """That the upper layers, and the networks to come, have been trained before is known."""
    estimator, y = CASES[name]
    assert_resumes(clone(estimator).fit(X, y), path, X, y)


@pytest.mark.parametrize("name", ["layer", "stack", "classifier, partly", "regressor", "detector"])
@pytest.mark.parametrize("given", [X, X.astype(np.float32), csr_array(X * (X > 0.4))],
                         ids=["float64", "float32", "sparse"])  # fmt: skip
def test_samples_of_other_kinds_and_weights(name, given, path):
    estimator, y = CASES[name]
    assert_resumes(estimator, path, given, y, sample_weight=WEIGHTS)


@pytest.mark.parametrize("name", ["stack", "classifier, both", "imputer"])
def test_missing_values(name, path):
    estimator, y = CASES[name]
    assert_resumes(estimator, path, np.where(X < 0.2, np.nan, X), y)


@pytest.mark.parametrize("name", ["layer", "stack", "classifier, both", "detector, warm"])
def test_a_fit_that_ends_again_and_again(name, path):
    estimator, y = CASES[name]
    whole = unfinished(estimator, path, X, y)
    for _ in range(100):
        with pytest.MonkeyPatch.context() as patch:
            end_after(patch, 1)
            try:
                assert_identical(resume(path, X, y), whole)
                break
            except Ended:
                pass
    assert_identical(resume(path, X, y), whole)


@pytest.mark.parametrize("name", ["joint", "classifier, both", "detector"])
def test_ctrl_c(name, path):
    """What is left is saved; the epoch that was cut short is repeated."""
    estimator, y = CASES[name]
    whole = clone(estimator).fit(X, y)
    for epoch in (2, 5, 7):
        with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
            interrupt(patch, epoch)
            with Checkpoint(path):
                half = clone(estimator).fit(X, y)
        assert half._to_resume is None  # without warm_start it is fitted afresh
        assert_identical(resume(path, X, y), whole)


def test_ctrl_c_is_resumed_from_a_file_of_skops(path):
    whole, half = Stack().fit(X), Stack()
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        interrupt(patch, 5)
        half.fit(X)
    io.dump(half, path)
    assert_identical(resume(path, X), whole)


@pytest.mark.parametrize("name", ["layer", "stack, stochastic", "classifier", "detector"])
def test_what_skops_loads_goes_on_as_well(name, path):
    estimator, y = CASES[name]
    whole = unfinished(estimator, path, X, y)
    loaded = io.load(path, trusted=_checkpoint.TRUSTED)
    assert loaded.get_params(deep=False).keys() == whole.get_params(deep=False).keys()
    assert not loaded.warm_start
    loaded.fit(X, y)
    if "stochastic" not in name:
        assert_identical(loaded, whole)
    assert_identical(resume(path, X, y), loaded)
    again = loaded.fit(X, y)  # that was the whole of it: this one starts from scratch
    assert again.n_iter_ == whole.n_iter_


# -- which files ----------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 3, 100])
def test_epochs_from_one_file_to_the_next(every, path, monkeypatch):
    """Those of both layers are counted; the end of the fit comes last."""
    files, kinds = record_files(monkeypatch), []
    with Checkpoint(path, every=every):
        Stack(max_iter=5).fit(X)
    for file in files:
        path.write_bytes(file)
        stack = io.load(path, trusted=_checkpoint.TRUSTED)
        kinds.append((stack.n_iter_, stack._to_resume))
    known = {"n_samples": len(X), "every": every}
    assert kinds == [(n, known) for n in range(every, 10, every)] + [(10, None)]


def test_a_file_is_resumed_with_as_many_epochs_between_files(path, monkeypatch):
    unfinished(Layer(max_iter=9), path, X, checkpoint=Checkpoint(path, every=2))
    files = record_files(monkeypatch)
    resume(path, X)
    assert len(files) == 3 + 1  # epochs 4, 6, 8 and the end


def test_a_fit_that_has_ended_is_resumed_without_work(path):
    with Checkpoint(path):
        whole = Stack(warm_start=True).fit(X)
    before = path.stat().st_mtime_ns
    with no_training():
        assert_identical(resume(path, X), whole)
    assert path.stat().st_mtime_ns == before


def test_a_file_holds_nothing_of_the_fit_but_its_state(path):
    """No callbacks, and not the samples that the networks of an imputer are to give."""
    for name in ("classifier", "imputer", "detector"):
        estimator, y = CASES[name]
        unfinished(estimator, path, X, y, n_files=2)
        loaded = io.load(path, trusted=_checkpoint.TRUSTED)
        parts = [loaded, *getattr(loaded, "autoencoders_", [getattr(loaded, "pretrained_", None)])]
        assert len(parts) == 2
        for part in parts:
            assert not vars(part).keys() & {*TRANSIENT}
            assert part._to_resume["n_samples"] <= len(X)


@pytest.mark.parametrize("name", ["stack", "classifier, both", "imputer"])
def test_a_file_written_before_the_working_directory_changes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("fit.skops")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    with checkpoint:
        CASES[name][0].fit(X, CASES[name][1])
    assert sorted(os.listdir(tmp_path)) == ["fit.skops", "other"]
    assert not os.listdir(tmp_path / "other")


def test_partial_fit_is_not_saved(path):
    for estimator in (Layer(), Classifier()):
        more = {} if isinstance(estimator, DenoisingAutoencoder) else {"classes": [0, 1, 2]}
        with pytest.warns(UserWarning, match=r"Checkpoint\(.*saved nothing.*partial_fit"):
            with Checkpoint(path):
                estimator.partial_fit(X, CODES, **more)
    assert not path.exists()


def test_no_fit_is_noticed(path):
    with pytest.warns(UserWarning, match="saved nothing"), Checkpoint(path):
        pass
    with pytest.raises(Ended), Checkpoint(path):
        raise Ended


# -- as a callback --------------------------------------------------------------------------


def with_callbacks(estimator, *callbacks):
    pytest.importorskip("sklearn.callback")  # scikit-learn 1.9
    return clone(estimator).set_callbacks(*callbacks)


@pytest.mark.parametrize("name", ["layer", "joint", "classifier, both", "imputer", "detector"])
def test_a_callback_writes_the_same_files(name, path, monkeypatch):
    estimator, y = CASES[name]
    files, other = record_files(monkeypatch), path.with_name("other.skops")
    with Checkpoint(path):
        plain = clone(estimator).fit(X, y)
    saved = with_callbacks(estimator, Checkpoint(path), Checkpoint(other, every=2)).fit(X, y)
    n_epochs = len(files) // 5 * 2
    loaded = [plain, saved, resume(path, X, y), resume(other, X, y)]
    for one in loaded[1:]:
        vars(one).pop("_skl_callbacks", None)
        assert_identical(one, plain)
    assert len(files) > 2 * n_epochs > 0
    assert sorted(os.listdir(path.parent)) == ["fit.skops", "other.skops"]


def test_a_callback_beside_others(path):
    """One that is shown the parts of the fit, and one that ends it."""

    class Stops:
        max_propagation_depth = None

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            return context.task_name == "layer"

    stack = with_callbacks(Stack(), Checkpoint(path), Stops()).fit(X)
    assert len(stack.layers_) == 1
    assert_identical(resume(path, X), Stack().fit(X))


def test_a_step_of_a_pipeline(path):
    pipe = make_pipeline(MinMaxScaler(), Stack(), LogisticRegression(max_iter=500))
    scaled = MinMaxScaler().fit_transform(X)
    expected = Stack().fit(scaled)
    with Checkpoint(path):
        pipe.fit(X, CODES)
    assert_identical(resume(path, scaled), expected)
    for where in (0, 1):  # the pipeline, and its step
        path.unlink()
        other = clone(pipe)
        with_callback = (other, other[1])[where]
        if not hasattr(with_callback, "set_callbacks"):
            return  # before scikit-learn 1.9
        with_callback.set_callbacks(Checkpoint(path))
        other.fit(X, CODES)
        assert_identical(resume(path, scaled), expected)


def test_one_file_is_not_for_several_fits(path):
    pipe = make_pipeline(Stack(), Classifier())
    with pytest.raises(ValueError, match=r"Each fit needs a file of its own.*given another"):
        with Checkpoint(path):
            pipe.fit(X, CODES)
    search = GridSearchCV(Layer(), {"alpha": [0, 1]}, error_score="raise", cv=2)
    with pytest.raises(ValueError, match=r"Each fit needs a file of its own.*given another"):
        with Checkpoint(path):
            search.fit(X)
    # The same estimator may be fitted again.
    checkpoint = Checkpoint(path)
    layer = Layer(warm_start=True)
    for _ in range(2):
        with checkpoint:
            layer.fit(X)
    assert_identical(resume(path, X), layer)


@pytest.mark.parametrize("n_jobs, message", [(None, "given another"), (2, "copied")])
def test_a_callback_is_not_for_a_search(n_jobs, message, path):
    """Neither one fit after the other, nor in other processes."""
    layer = with_callbacks(Layer(), Checkpoint(path))
    search = GridSearchCV(layer, {"alpha": [0, 1]}, error_score="raise", cv=2, n_jobs=n_jobs)
    with pytest.raises(ValueError, match=f"own.*{message}"):
        search.fit(X)


def test_copies_of_an_estimator_with_a_checkpoint(path, tmp_path):
    """They have a checkpoint that refuses to serve them; what is fitted is as without one."""
    fitted, plain = with_callbacks(Stack(), Checkpoint(path)).fit(X), Stack().fit(X)
    io.dump(fitted, tmp_path / "model.skops")
    trusted = ["skae._checkpoint.Checkpoint", *_checkpoint.TRUSTED]
    for other in (
        pickle.loads(pickle.dumps(fitted)),
        copy.deepcopy(fitted),
        io.load(tmp_path / "model.skops", trusted=trusted),
    ):
        assert_array_equal(other.transform(X), plain.transform(X))
        with pytest.raises(ValueError, match=r"own, but Checkpoint\(.*was copied"):
            other.fit(X)
        assert_identical(other.set_callbacks().fit(X), plain)
    assert repr(vars(fitted)["_skl_callbacks"][0]) == f"Checkpoint({str(path)!r}, every=1)"


def test_without_scikit_learns_callbacks(path, monkeypatch):
    def missing(self):
        raise AttributeError

    for attribute in ("_init_callback_context", "set_callbacks"):
        monkeypatch.setattr(BaseModel, attribute, property(missing), raising=False)
    assert not hasattr(Layer(), "set_callbacks")
    for name in ("layer", "classifier, both", "classifier, final", "imputer"):
        estimator, y = CASES[name]
        whole = unfinished(estimator, path, X, y, n_files=3 - ("layer" in name))
        assert_identical(resume(path, X, y), whole)


# -- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"every": 0}, {"every": 1.5}, {"every": None}, {"path": 3}])
def test_bad_parameters(params, path):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of Checkpoint"):
        Checkpoint(**{"path": path, **params})


@pytest.mark.parametrize("params", [{"trusted": True}, {"trusted": "str"}, {"path": 3}])
def test_bad_parameters_of_resume(params, path):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of resume"):
        resume(**{"path": path, "X": X, **params})


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .* does not exist: .*nowhere"):
        Checkpoint(tmp_path / "nowhere" / "fit.skops")
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        Checkpoint(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    checkpoint = Checkpoint(folder / "fit.skops")
    folder.rmdir()
    with no_training(), pytest.raises(FileNotFoundError), checkpoint:
        Layer().fit(X)


def test_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match="cannot be written to"):
        Checkpoint(tmp_path / "fit.skops")


def test_without_skops(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for call in (lambda: Checkpoint(path), lambda: resume(path, X)):
        with pytest.raises(ImportError, match=r"pip install 'skae\[checkpoint\]'"):
            call()


def test_other_data(path):
    for name in ("layer", "classifier", "detector"):
        estimator, y = CASES[name]
        unfinished(estimator, path, X, y)
        file = path.read_bytes()
        fewer = None if y is None else y[:50]
        with no_training(), pytest.raises(ValueError, match=r"had \d+ samples .* \d+ now"):
            resume(path, X[:50], fewer)
        with no_training(), pytest.raises(ValueError, match="features"):
            resume(path, X[:, :5], y)
        assert path.read_bytes() == file


class Elsewhere(ClassifierMixin, BaseEstimator):
    """A type that is not trusted."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_types_that_are_not_trusted(path):
    estimator = Classifier(final_estimator=Elsewhere())
    whole = unfinished(estimator, path, X, CODES)
    name = f"{__name__}.Elsewhere"
    with pytest.raises(ValueError, match=rf"not trusted: {name}\..*trusted=\['{name}'\]"):
        resume(path, X, CODES)
    file = path.read_bytes()
    for trusted in ([name], [Elsewhere]):
        path.write_bytes(file)
        assert_identical(resume(path, X, CODES, trusted=trusted), whole)


def test_parameters_that_cannot_be_saved(path):
    unnamed = FunctionTransformer(lambda X: X)
    clf = Classifier(final_estimator=make_pipeline(unnamed, LogisticRegression()))
    with no_training(), pytest.raises(ValueError, match="Classifier cannot be saved: skops"):
        with Checkpoint(path):
            clf.fit(X, CODES)


def test_files_that_are_no_checkpoints(path):
    with pytest.raises(FileNotFoundError):
        resume(path, X)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no file of skops"):
        resume(path, X)
    io.dump(LogisticRegression(), path)
    with pytest.raises(ValueError, match="it holds a LogisticRegression"):
        resume(path, X)
    io.dump(Layer(), path)
    with pytest.raises(NotFittedError):
        resume(path, X)
    unfinished(Layer(), path, X)
    loaded = io.load(path, trusted=_checkpoint.TRUSTED)
    loaded._to_resume["every"] = "often"
    io.dump(loaded, path)
    with pytest.raises(ValueError, match="every"):
        resume(path, X)


# -- whole files, whenever the process ends -------------------------------------------------


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   PermissionError(errno.EACCES, "Permission denied")],
                         ids=["full", "forbidden"])  # fmt: skip
def test_a_write_that_fails(function, error, path, monkeypatch):
    """The file before it is there, and nothing else; the estimator is as it was."""
    whole = unfinished(Layer(), path, X)
    file = path.read_bytes()

    def fails(*args):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, function, fails)
        layer = Layer()
        with pytest.raises(type(error), match=f"cannot be written .{error.strerror}.; an earlier"):
            with Checkpoint(path):
                layer.fit(X)
    assert not hasattr(layer, "n_iter_")
    assert os.listdir(path.parent) == [path.name] and path.read_bytes() == file
    assert_identical(resume(path, X), whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk(path, monkeypatch):
    def open_full(name, mode, real=open):
        real(name, mode).close()
        return real("/dev/full", "wb")

    unfinished(Layer(), path, X)
    file = path.read_bytes()
    monkeypatch.setattr(_checkpoint, "open", open_full, raising=False)
    with pytest.raises(OSError, match="No space left"), Checkpoint(path):
        Layer().fit(X)
    assert os.listdir(path.parent) == [path.name] and path.read_bytes() == file


def test_ctrl_c_while_a_file_is_written(path, monkeypatch):
    unfinished(Layer(max_iter=9), path, X)
    calls = []

    def interrupted(*args, real=os.fsync):
        calls.append(args)
        if len(calls) == 3:  # the second file; there is one of the folder, too
            raise KeyboardInterrupt
        return real(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        patch.setattr(os, "fsync", interrupted)
        half = resume(path, X)
    assert half.n_iter_ == 3
    assert os.listdir(path.parent) == [path.name]
    assert_identical(resume(path, X), Layer(max_iter=9).fit(X))


def test_what_a_killed_process_has_left_is_removed(path):
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(b"the beginning of a file")
    whole = unfinished(Layer(), path, X)
    assert_identical(resume(path, X), whole)
    assert os.listdir(path.parent) == [path.name]


def fit_and_kill(folder, n_kills, seed):
    """Fit estimators in processes that are killed at random, until as many have been.

    Each fit equals one without interruption, each file can be loaded, and each kill costs an epoch
    at most. Run in a child, since it forks.
    """
    hasten_imputers(pytest.MonkeyPatch())
    path, log = Path(folder) / "fit.skops", Path(folder) / "epochs"
    draw, names = np.random.default_rng(seed), ["classifier, both", "joint", "imputer", "detector"]
    while n_kills > 0:
        name = names[draw.integers(len(names))]
        estimator, y = CASES[name]
        with pytest.MonkeyPatch.context() as patch:
            epochs = record_epochs(patch)
            begin = time.perf_counter()
            whole = clone(estimator).fit(X, y)
            seconds = time.perf_counter() - begin
        log.write_bytes(b"")
        n_killed = 0
        while True:
            child = os.fork()
            if child == 0:
                fit_in_child(estimator, y, path, log)
            if n_killed < n_kills:
                time.sleep(draw.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            if os.WIFEXITED(status):
                assert status == 0
                break
            n_killed += 1
            if path.exists():
                _checkpoint.load(path, None)
        assert log.stat().st_size <= len(epochs) + n_killed, (name, n_killed)
        assert_identical(resume(path, X, y), whole)
        assert sorted(os.listdir(folder)) == ["epochs", "fit.skops"]
        path.unlink()
        n_kills -= n_killed


def fit_in_child(estimator, y, path, log):
    code = 1
    try:
        with open(log, "ab", buffering=0) as file:

            def train(*args, real=_sgd.train):
                file.write(b".")
                return real(*args)

            _sgd.train = train
            if path.exists():
                resume(path, X, y)
            else:
                with Checkpoint(path):
                    clone(estimator).fit(X, y)
        code = 0
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks")
@pytest.mark.parametrize("n_kills, seed", [
    (3, 0), *(pytest.param(10, seed, marks=pytest.mark.exhaustive) for seed in range(1, 6)),
])  # fmt: skip
def test_processes_that_are_killed(n_kills, seed, tmp_path):
    code = f"import test_checkpoint as t; t.fit_and_kill({str(tmp_path)!r}, {n_kills}, {seed})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
