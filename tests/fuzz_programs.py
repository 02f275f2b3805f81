"""Programs of `fuzz.py`: how one is drawn, written as text, and performed call by call."""

import contextlib
import copy  # noqa: F401
import io
import pickle
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import fuzz_inputs
import numpy as np
import scipy.sparse as sp
from fuzz_inputs import (
    CONTAINERS,
    CRASHES,
    LABELS,
    OF_CLASSIFIER,
    OF_REGRESSOR,
    USUAL_CONTAINERS,
    USUAL_VALUES,
    USUAL_WEIGHTS,
    VALUES,
    WEIGHTS,
    fingerprint,
    samples,
)
from sklearn import set_config  # noqa: F401
from sklearn.base import clone  # noqa: F401
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator  # noqa: F401
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: F401
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: F401
from sklearn.utils.validation import check_is_fitted

from skae import (
    DenoisingAutoencoder,
    MarginalizedAutoencoder,  # noqa: F401
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,  # noqa: F401
    StackedAutoencoderImputer,  # noqa: F401
    StackedAutoencoderRegressor,  # noqa: F401
)
from skae._parameters import CORRUPTIONS


class Denoising(DenoisingAutoencoder):
    """A subclass, as a user may have one."""


class Stack(StackedAutoencoder):
    """Another."""


class Classifier(StackedAutoencoderClassifier):
    """Another."""


# -- parameters ------------------------------------------------------------------------------

WRONG = (
    "None | 'foo' | '' | -1 | 0 | 1.5 | -0.5 | nan | inf | True | [] | [1, 2] | (0.5,) | {} | "
    "np.array([1.0, 2.0]) | np.float32(0.3) | np.int64(-3) | 'auto' | 10**30 | 2**63 | b'x' | "
    "object | 1j | 1e-320 | 1e308 | np.array(3) | np.array([[3]]) | np.bool_(True) | [None] | "
    "['relu', 3] | [nan] | [2**63, 2] | '3' | Ridge() | Ridge | Stack((3,)) | range(2)"
)
SIZES = (
    "(3,) | (4, 2) | [5, 3, 2] | 4 | np.array([3, 2]) | np.array(5) | (1, 1) | np.int64(2) | "
    "'auto'"
)
TRAINING = {
    "solver": "'adam' | 'sgd'",
    "alpha": "0.0 | 1e-3 | 1.0 | np.float32(0.1)",
    "batch_size": "1 | 2 | 7 | 20 | 1000 | 'auto' | np.int64(5) | 10**12 | 10**30",
    "learning_rate": "'constant' | 'adaptive' | 'cosine'",
    "learning_rate_init": "1e-3 | 0.01 | 0.1 | 1 | 1e-12 | 10.0 | 1e-300 | 1e30",
    "max_iter": "1 | 2 | 3 | np.int32(2) | 'auto'",
    "shuffle": "True | False | np.bool_(True)",
    "random_state": "0 | 1 | 42 | None | np.random.RandomState(3) | 2**32 - 1",
    "tol": "None | 0 | 1e-4 | 1e3 | 1e300",
    "verbose": "False | True | 2",
    "warm_start": "True | False",
    "momentum": "0 | 0.9 | 1 | 0.5",
    "nesterovs_momentum": "True | False",
    "early_stopping": "True | False",
    "validation_fraction": "0.1 | 0.5 | 0.9 | 1e-9 | 0.999",
    "beta_1": "0 | 0.9 | 0.999999 | 1e-320",
    "beta_2": "0.0 | 0.999 | 0.5",
    "epsilon": "1e-8 | 1.0 | 1e-300 | 1e-30 | 1e300",
    "n_iter_no_change": "1 | 2 | 10",
}
UNSUPERVISED = {
    "activation": "'identity' | 'logistic' | 'tanh' | 'relu' | 'top_k' | 'top_k'",
    "n_active": "'auto' | 1 | 2 | np.int64(2) | 3",
    "transform_n_active": "None | 1 | 2 | np.int32(3) | 5",
    "sparse_output": "True | False | np.bool_(True)",
    "loss": "'squared_error' | 'cross_entropy'",
    "tied_weights": "True | False",
    "corruption": " | ".join(map(repr, [*CORRUPTIONS, None])),
    "corruption_level": "0 | 0.3 | 1 | 3.0 | 1e-320 | 0.9999999 | 1e300",
    "sparsity_target": "0.05 | 0.5 | 1e-10 | 0.999999 | 1e-320",
    "sparsity_penalty": "0.0 | 0.1 | 100.0",
}
DENOISING = {**TRAINING, **UNSUPERVISED, "n_components": "1 | 2 | 3 | 5 | 16 | np.int64(4)"}
STACKED = {
    **DENOISING,
    "hidden_layer_sizes": SIZES,
    "joint": "True | False | 'only'",
    "code": "'top' | 'all'",
    "joint_max_iter": "1 | 2",
    "joint_learning_rate_init": "1e-3 | 0.1 | 10.0",
    "activation": "'tanh' | 'relu' | 'logistic' | 'top_k' | ['relu', 'tanh'] | "
    "('logistic', 'identity') | ['top_k', 'relu'] | ('tanh', 'top_k')",
    "n_active": "'auto' | 1 | 2 | [2, 1] | ('auto', 1) | np.array([1, 2])",
    "loss": "'squared_error' | 'cross_entropy' | ['squared_error', 'cross_entropy']",
    "corruption": "'masking' | None | ['masking', None] | np.array(['masking', 'gaussian'])",
    "corruption_level": "0.3 | 1 | [0.1, 0.2] | np.array([0.3, 0.4])",
    "max_iter": "1 | 3 | [1, 2] | np.array([2, 1])",
    "learning_rate_init": "0.01 | 1.0 | [0.01, 0.001] | 1e30",
}
del STACKED["n_components"]
FINE_TUNED = {
    **TRAINING,
    "hidden_layer_sizes": SIZES,
    "activation": "None | 'relu' | 'tanh' | 'top_k' | ['relu', 'tanh'] | ('top_k', 'identity')",
    "n_active": "None | 'auto' | 1 | 2 | [2, 1] | ('auto', 1)",
    "pretrain": "True | False | StackedAutoencoder((4,), max_iter=1) | fitted_stack($) | "
    "FrozenEstimator(fitted_stack($)) | Stack((3, 2), max_iter=1, random_state=0) | "
    "FrozenEstimator(Stack((3,))) | Stack((3,), loss='cross_entropy') | np.bool_(False)",
    "fine_tune": "'all' | 'top' | 'top_then_all'",
    "final_estimator": "None | Ridge() | LogisticRegression(max_iter=20) | "
    "DecisionTreeClassifier(max_depth=2) | DecisionTreeRegressor(max_depth=2)",
    "dropout": "0.0 | 0.5 | [0.2, 0.3] | 0.999999 | 1e-320",
    "input_dropout": "0.0 | 0.2 | 0.9999",
    "max_norm": "None | 1.0 | 1e-3 | 1e-320 | 1e300",
    "adversarial_radius": "0.0 | 0.1 | 5 | 1e-320 | 1e300",
    "learning_rate_factors": "None | [1.0, 0.5, 0.1] | np.array([0, 0, 1]) | [1e300, 1, 1]",
    "n_warmup_epochs": "0 | 1 | 2",
    "n_averaged_epochs": "0 | 1 | 2 | 100",
}
CLASSIFYING = {
    **FINE_TUNED,
    "label_smoothing": "0.0 | 0.1 | 0.99",
    "smoothness_radius": "0.0 | 0.5 | 5 | 1e-320 | 1e300 | np.float32(0.1)",
    "propagate_labels": "True | False | np.bool_(True)",
    "class_weight": "None | 'balanced' | {0: 1.0, 1: 2.0} | {0: 0, 1: 1, 2: 1} | "
    "{'a': 1.0, 'z': 3} | {0: nan} | {0: -1.0} | {0: 'x'}",
}
ENSEMBLE = {
    **TRAINING,
    "hidden_layer_sizes": SIZES,
    "activation": "'auto' | 'relu' | 'identity' | ['relu', 'tanh'] | ('logistic', 'identity')",
    "n_estimators": "2 | 3 | np.int64(2) | 30",
}
DETECTING = {
    **ENSEMBLE,
    "contamination": "'auto' | 0.1 | 0.5 | 1e-300 | np.float32(0.2)",
    "corruption_level": "0 | 0.3 | 4 | 100.0 | 1e-320 | 1e100",
}
IMPUTING = {
    **ENSEMBLE,
    "missing_values": "nan | np.nan | 0 | -1.0 | 2 | np.float32(0.5) | inf",
    "add_indicator": "True | False",
    "keep_empty_features": "True | False",
}
MARGINALIZED = {
    "n_components": "1 | 2 | 3 | 5 | 100 | None | np.int64(4)",
    "corruption_level": "0 | 0.3 | 0.9 | 0.9999 | 1e-320 | np.float32(0.5)",
    "n_layers": "1 | 2 | 3 | np.int64(2)",
    "activation": "'tanh' | 'identity'",
    "concatenate": "True | False | np.bool_(True)",
    "alpha": "1e-5 | 0.1 | 1 | 1e-300 | 1e300 | np.float32(0.01)",
}
PARAMETERS = {
    "DenoisingAutoencoder": DENOISING,
    "Denoising": DENOISING,
    "StackedAutoencoder": STACKED,
    "Stack": STACKED,
    "StackedAutoencoderClassifier": CLASSIFYING,
    "Classifier": CLASSIFYING,
    "StackedAutoencoderRegressor": FINE_TUNED,
    "StackedAutoencoderDetector": DETECTING,
    "StackedAutoencoderImputer": IMPUTING,
    "MarginalizedAutoencoder": MARGINALIZED,
}
ENDLESS = ("max_iter", "joint_max_iter", "n_layers")  # if they are large


def fitted_stack(d):
    """A small stack, fitted on d features."""
    stack = StackedAutoencoder((4,), max_iter=1, random_state=0)
    return stack.fit(samples("uniform", "float64", 8, max(d, 1)))


# -- programs ----------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of a method, its arguments as text."""

    method: str
    args: dict


@dataclass(frozen=True)
class Program:
    """An estimator, by class and parameters, and what is called."""

    cls: str
    params: dict
    calls: list


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


class Maker:
    """Draws the parts of one program; `p` is the probability of something unusual."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.p = pick(self.rng, [0, 0, 0, 0.02, 0.1, 0.3])
        self.cls = pick(self.rng, list(PARAMETERS))
        self.d = self.draw([3, 4, 6, 9, 12], [0, 1, 2])
        self.kinds = {"Classifier": OF_CLASSIFIER, "Regressor": OF_REGRESSOR}.get(
            self.cls.removeprefix("StackedAutoencoder"), []
        )
        self.kind = self.draw(self.kinds or list(LABELS), list(LABELS))

    def draw(self, usual, unusual):
        return pick(self.rng, unusual if self.rng.random() < self.p else usual)

    def parameter(self, name):
        usual = PARAMETERS[self.cls][name].split(" | ")
        return self.draw(usual, WRONG.split(" | ")).replace("$", str(self.d))

    def parameters(self):
        names = list(PARAMETERS[self.cls])
        chosen = self.rng.permutation(names)[: pick(self.rng, [0, 1, 2, 4, 8])]
        params = {str(name): self.parameter(name) for name in chosen}
        size = "n_components" if "n_components" in names else "hidden_layer_sizes"
        if "tack" not in params.get("pretrain", ""):
            params.setdefault(size, self.parameter(size))
        # The defaults take longer, and so may wrong ones that are accepted.
        if "max_iter" in names:
            params.setdefault("max_iter", "2")
            params.setdefault("random_state", "0")
        for name in ENDLESS:
            if is_endless(params.get(name, "")):
                params[name] = "-1"
        if self.rng.random() > self.p:
            agree(params)
        return params

    def data(self):
        """The text of X, and the number of samples."""
        n = self.draw([5, 9, 14, 22, 30], [0, 1, 2, 3])
        d = self.draw([self.d] * 19 + [7], [0, 1, 2, 5, 13])
        values = self.draw(USUAL_VALUES, list(VALUES))
        container = self.draw(
            ["float64", "float32", *USUAL_CONTAINERS], sorted(CONTAINERS.keys() - CRASHES)
        )
        seed = int(self.rng.integers(1000))
        return f"samples({values!r}, {container!r}, {n}, {d}, {seed})", n

    def fit_arguments(self, method):
        X, n = self.data()
        seed, args = int(self.rng.integers(1000)), {"X": X}
        if self.kinds or self.rng.random() < 0.1:
            args["y"] = f"labels({self.draw([self.kind], list(LABELS))!r}, {n}, {seed})"
        if method == "partial_fit" and self.kinds is OF_CLASSIFIER and self.rng.random() < 0.8:
            usual = "'abc'" if self.kind in ("strings", "objects", "none") else "range(3)"
            args["classes"] = (
                f"list({self.draw([usual], ['(-1, 1)', '()', '(1, 1)', '(None, 1)'])})"
            )
        if self.rng.random() < 0.25 and method != "fit_transform":
            args["sample_weight"] = (
                f"weights({self.draw(USUAL_WEIGHTS, list(WEIGHTS))!r}, {n}, {seed})"
            )
        return args

    def arguments(self, method):
        if method in FITS:
            return self.fit_arguments(method)
        if method == "score":
            args = self.fit_arguments("score")
            args.pop("classes", None)
            return args
        if method == "inverse_transform":
            X, _ = self.data()
            return {"X": X.replace(f", {self.d}, ", ", width(est), ")}
        if method == "set_params":
            names = list(PARAMETERS[self.cls])
            if "warm_start" in names:
                names += ["warm_start"] * len(names)
            name = pick(self.rng, names)
            value = self.parameter(name)
            if name in ENDLESS and is_endless(value):
                value = "2"
            usual = [{name: value}] * 9 + [{"pretrain__max_iter": "1"}] * bool(self.kinds)
            unusual = [{"pretrain__foo": "1"}, {"foo": "1"}]
            return self.draw(usual, unusual)
        if method == "set_output":
            return {
                "transform": self.draw(["'pandas'", "'polars'", "'default'"], ["'foo'", "None"])
            }
        if method == "get_feature_names_out":
            return self.draw([{}], [{"input_features": "['a']"}, {"input_features": "5"}])
        if method in OTHERS:
            return {}
        return {"X": self.data()[0]}

    def program(self):
        params = self.parameters()
        reading = ["transform", "inverse_transform", "reconstruct", "score", "score_samples"]
        if self.kinds:
            reading = ["transform", "score", "predict", "predict"]
        if self.kinds is OF_CLASSIFIER:
            reading += ["predict_proba", "predict_log_proba", "decision_function"]
        methods = ["fit"] * 4 + ["partial_fit"] * 3 + ["fit_transform", "set_params", *OTHERS]
        reading = READING.get(self.cls, reading)
        chosen = [pick(self.rng, pick(self.rng, [methods, reading])) for _ in range(5)]
        first = self.draw(["fit", "fit", "partial_fit"], methods + reading)
        if first == "partial_fit" and not hasattr(globals()[self.cls], first):
            first = "fit"
        return Program(
            self.cls, params, [Call(method, self.arguments(method)) for method in [first, *chosen]]
        )


def agree(params):
    """Change parameters that would be refused together: most programs shall fit something."""
    if "max_iter" not in params:  # in closed form
        return
    if "sparsity_penalty" in params:
        params["activation"] = "'tanh'"
    if "cross_entropy" in params.get("loss", ""):
        params["activation"] = "'logistic'"
    if params.get("corruption_level") in ("3.0", "1e300"):
        params["corruption"] = "'gaussian'"
    if "n_averaged_epochs" in params:
        params.pop("early_stopping", None)
    if params.get("n_warmup_epochs", "0") >= params["max_iter"]:
        params["max_iter"] = "3"
    if params.get("fine_tune") == "'top'":
        for name in ("dropout", "input_dropout", "adversarial_radius", "smoothness_radius",
                     "learning_rate_factors"):  # fmt: skip
            params.pop(name, None)
    if "n_components" in params:
        return
    if any(value.startswith(("[", "(", "np.array(")) for value in params.values()):
        params["hidden_layer_sizes"] = "(4, 2)"
        if "tack" in params.get("pretrain", ""):
            params["pretrain"] = "StackedAutoencoder((4, 2), max_iter=1)"
            params.pop("activation", None)
            params.pop("n_active", None)
    elif "tack" in params.get("pretrain", ""):
        params.pop("activation", None)
        params.pop("n_active", None)


READING = {
    "StackedAutoencoderDetector": [
        "score_samples", "feature_scores", "decision_function", "predict", "fit_predict"],
    "StackedAutoencoderImputer": ["transform", "transform", "fit_transform"],
    "MarginalizedAutoencoder": ["transform", "transform", "fit_transform"],
}  # fmt: skip
OTHERS = ["clone", "deepcopy", "pickle", "repr", "attributes", "use_little_memory", "get_params",
          "get_feature_names_out", "set_output"]  # fmt: skip


def is_endless(text):
    """Whether a number of epochs or layers would be endless, or is in floating point."""
    return any(sign in text for sign in ("**", "308", "inf"))


def random_program(seed):
    return Maker(seed).program()


def is_fitted(est):
    try:
        check_is_fitted(est)
    except NotFittedError:
        return False
    return True


def width(est):
    """The length of the code, 3 if the estimator is not fitted."""
    try:
        check_is_fitted(est)
        return len(est.get_feature_names_out())
    except ValueError:  # not fitted, or a wrong parameter
        return 3


def attributes(est):
    """Read all fitted attributes."""
    names = [name for name in dir(est) if name.endswith("_") and not name.startswith("_")]
    return {name: getattr(est, name) for name in names if hasattr(est, name)}


# -- one call, as the properties see it ------------------------------------------------------


FITS = ("fit", "partial_fit", "fit_transform", "fit_predict")
# Calls that are no methods; the first ones replace the estimator by their result.
COPIES = {
    "clone": "clone(est)",
    "deepcopy": "copy.deepcopy(est)",
    "pickle": "pickle.loads(pickle.dumps(est))",
}
FUNCTIONS = {
    **COPIES,
    "repr": "repr(est)",
    "attributes": "attributes(est)",
    "use_little_memory": "set_config(working_memory=0)",
}


@dataclass
class Step:
    """A call that has been made: what was before it, and what came of it."""

    program: Program
    call: Any
    est: Any
    args: dict
    was_fitted: bool
    inputs_before: list
    state_before: bytes
    params_before: bytes
    copy: Any  # before a partial_fit of a fitted estimator
    result: Any = None
    error: BaseException | None = None
    warnings: list = field(default_factory=list)

    @property
    def fits(self):
        return self.call.method in FITS

    @property
    def values(self):
        """The result as an array, whatever container it is in."""
        return self.result.toarray() if sp.issparse(self.result) else np.asarray(self.result)

    def result_for(self, X):
        """What the same method makes of another X that is no sparse matrix."""
        result = getattr(self.est, self.call.method)(**{**self.args, "X": X})
        return result.toarray() if sp.issparse(result) else np.asarray(result)


def text_of(call):
    """A call as a line of Python."""
    if call.method in FUNCTIONS:
        return ("est = " if call.method in COPIES else "") + FUNCTIONS[call.method]
    return f"est.{call.method}({', '.join(f'{k}={v}' for k, v in call.args.items())})"


def lines_of(program):
    params = ", ".join(f"{name}={value}" for name, value in program.params.items())
    return [f"est = {program.cls}({params})", *map(text_of, program.calls)]


def evaluate(text, est=None):
    """The value of an expression over the names of this module."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(text, {**vars(fuzz_inputs), **globals(), "est": est})


def fingerprints(args):
    return [fingerprint(value) for value in args.values()]


def perform(program, call, est):
    """Make a call, and record what the properties need to know."""
    args = {name: evaluate(text, est) for name, text in call.args.items()}
    step = Step(
        program, call, est, args, is_fitted(est), fingerprints(args),
        fingerprint(vars(est)), fingerprint(est.get_params(deep=False)),
        pickle.loads(pickle.dumps(est)) if call.method == "partial_fit" else None,
    )  # fmt: skip

    def note(message, category, *_, **__):
        step.warnings.append((category, str(message), traceback.extract_stack()))

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        warnings.showwarning = note
        try:
            if call.method in FUNCTIONS:
                step.result = eval(
                    FUNCTIONS[call.method], {**vars(fuzz_inputs), **globals(), "est": est}
                )
            else:
                step.result = getattr(est, call.method)(**args)
        except Exception as error:
            step.error = error
    return step
