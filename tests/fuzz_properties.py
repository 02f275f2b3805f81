"""What `fuzz.py` asks after each call: each property returns None, or what is wrong."""

import linecache
import os
import re
import traceback

import numpy as np
import scipy.sparse as sp
from common import weights_of
from fuzz_inputs import fingerprint
from fuzz_programs import (
    COPIES,
    PARAMETERS,
    evaluate,
    fingerprints,
    is_fitted,
    lines_of,
    text_of,
    width,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

PACKAGES = {"skae", "sklearn"}  # files or folders that an error or a warning is traced to

# -- errors and warnings ----------------------------------------------------------------------

CLEAR = (ValueError, TypeError, AttributeError, NotFittedError, InvalidParameterError)
ABSURD = r"2\*\*|10\*\*"  # sizes for which there may be no memory
# Messages that speak of the inside, whoever raises them.
INTERNAL = re.compile(
    r"broadcast|Buffer (dtype|has wrong)|out of bounds|object is not (subscriptable|iterable|"
    r"callable)|unhashable|unsupported operand|truth value|cannot unpack|ufunc|dimension mismatch|"
    r"NoneType|not supported between|mmap|memoryview|C long|could not be broadcast|index \S+ is|"
    r"missing \d+ required positional|unexpected keyword"
)


def refusals_are_clear(step):
    """An error has a type that scikit-learn raises, and was raised on purpose, with a message."""
    error = step.error
    if error is None:
        return None
    if isinstance(error, MemoryError) and re.search(ABSURD, "".join(lines_of(step.program))):
        return None
    told = f"{step.call.method}: {type(error).__name__}: {error}"
    by_sklearn = origin(error) == "scikit-learn"  # or NumPy below it, as in `accuracy_score`
    if not (isinstance(error, CLEAR) if by_sklearn else type(error) in CLEAR):
        return f"{told} [{origin(error)}]"
    if not str(error).strip():
        return f"{told} (no message)"
    missing = re.search(r"has no attribute '(\w+)'", str(error))
    internal = INTERNAL.search(str(error)) or (missing and missing[1] != step.call.method)
    if internal and not by_sklearn:
        return f"{told} [{origin(error)}]"
    if not raised_on_purpose(error):
        return f"{told} (not raised on purpose) [{origin(error)}]"
    return None


def ours(stack):
    """The frames of a stack that lie in skae or scikit-learn."""
    return [frame for frame in stack if PACKAGES & set(re.split(r"[\\/]", frame.filename))]


def origin_of(stack):
    """The function of skae that is the innermost of ours, or "scikit-learn"."""
    frames = ours(stack)
    if not frames or "sklearn" in frames[-1].filename:
        return "scikit-learn"
    return f"{os.path.basename(frames[-1].filename)}, {frames[-1].name}"


def origin(error):
    return origin_of(traceback.extract_tb(error.__traceback__))


def raised_on_purpose(error):
    """Whether a statement ``raise`` of skae, or scikit-learn, is where an error comes from."""
    frames = ours(traceback.extract_tb(error.__traceback__))
    if not frames or "sklearn" in frames[-1].filename:
        return True
    line = linecache.getline(frames[-1].filename, frames[-1].lineno)
    return frames[-1].filename.endswith(".py") and line.strip().startswith("raise")


# Those that scikit-learn documents, and for which the data are to blame.
EXPECTED_WARNINGS = (ConvergenceWarning, DataConversionWarning)


def warnings_do_not_leak(step):
    """What scikit-learn warns of by itself, as in its validation of X, is no fault of skae."""
    for category, message, stack in step.warnings:
        by_sklearn = origin_of(stack) == "scikit-learn" and not issubclass(category, OUTDATED)
        if not by_sklearn and not issubclass(category, EXPECTED_WARNINGS):
            return f"{step.call.method}: {category.__name__}: {message} [{origin_of(stack)}]"


OUTDATED = (DeprecationWarning, FutureWarning)


def inputs_are_not_written(step):
    for name, before, after in zip(step.args, step.inputs_before, fingerprints(step.args)):
        if before != after:
            return f"{step.call.method} wrote into {name}"


def refused_calls_change_nothing(step):
    """As `set_params` of scikit-learn sets one after the other, it is excepted."""
    if step.error is None or step.call.method == "set_params":
        return None
    if step.call.method == "fit_transform":
        if re.search("output config|scipy sparse matrix|sparse data", str(step.error)):
            return None  # of a wrong `set_output`, scikit-learn complains after the fit
        if "transform_n_active" in str(step.error):
            return None  # it is no parameter of the fit
    if fingerprint(vars(step.est)) != step.state_before:
        return f"{step.call.method} changed the estimator, and raised {type(step.error).__name__}"


def reading_changes_nothing(step):
    if step.error is not None or step.fits or step.call.method in ("set_params", "set_output"):
        return None
    if fingerprint(vars(step.est)) != step.state_before:
        return f"{step.call.method} changed the estimator"


def fit_leaves_the_parameters(step):
    if step.fits and fingerprint(step.est.get_params(deep=False)) != step.params_before:
        return f"{step.call.method} changed a parameter"


def fits_are_finite(step):
    if step.fits and step.error is None:
        if not all(np.isfinite(array).all() for array in weights_of(step.est)):
            return f"{step.call.method} left weights that are not finite"


def continues(step):
    """Whether a fit continues another."""
    return step.was_fitted and getattr(step.est, "warm_start", False)


def fresh_twin(step):
    """For a fit that neither continues another nor is random: an unfitted equal, else None."""
    if step.call.method != "fit" or step.error is not None or continues(step):
        return None
    params = step.est.get_params(deep=False)
    random = isinstance(params.get("random_state", 0), np.random.RandomState | None)
    return None if random else type(step.est)(**params)


def same_seed_same_bits(step):
    """Another estimator with the same parameters and an int as seed learns the same."""
    twin = fresh_twin(step)
    if twin is not None:
        twin.fit(**{name: evaluate(text) for name, text in step.call.args.items()})
        if bits_of(twin) != bits_of(step.est):
            return "another fit with the same seed has other weights"


def copies_are_alike(step):
    if step.error is not None or step.call.method not in COPIES:
        return None
    if step.call.method == "clone":
        return "the clone is fitted" if is_fitted(step.result) else None
    if set(vars(step.result)) != set(vars(step.est)):
        return f"{step.call.method} has other attributes"
    if step.was_fitted and bits_of(step.result) != bits_of(step.est):
        return f"{step.call.method} has other weights"


def bits_of(est):
    return [array.tobytes() for array in weights_of(est)]


def results_are_as_documented(step):
    """Shape and dtype of what transform, predict and their like return."""
    if step.error is not None or step.call.method not in SHAPES:
        return None
    n, final = n_samples(step.args["X"]), hasattr(step.est, "final_estimator_")
    shape, dtype = SHAPES[step.call.method](step.est, n)
    if step.values.shape not in shape and not (final and len(shape[0]) > 1):
        return f"{step.call.method}: shape {step.values.shape}, not {shape[0]}"
    if dtype == "of X":
        dtype = getattr(step.args["X"], "dtype", None)
        if isinstance(dtype, np.dtype):  # unlike that of a table
            dtype = np.dtype(np.float32 if dtype == np.float32 else np.float64)
    if isinstance(dtype, np.dtype) and step.values.dtype != dtype and not final:
        return f"{step.call.method}: dtype {step.values.dtype}, not {dtype}"
    of_sparse = sp.issparse(step.args["X"]) and getattr(step.est, "concatenate", False)
    if step.call.method in ("transform", "fit_transform"):
        of_sparse = of_sparse or getattr(step.est, "sparse_output", False)
    if getattr(step.result, "format", None) != ("csr" if of_sparse else None):
        return f"{step.call.method} returns a {type(step.result).__name__}"


def n_samples(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


def many(est, n):
    """The shapes that predictions of an estimator may have: one or several outputs."""
    if not hasattr(est, "coefs_"):
        return [(n,)]
    outputs = est.coefs_[-1].shape[1]
    return [(n,), (n, outputs)] if outputs == 1 or hasattr(est, "classes_") else [(n, outputs)]


# Method: (estimator, n_samples) -> possible shapes, dtype.
SHAPES = {
    "transform": lambda est, n: ([(n, width(est))], "of X"),
    "fit_transform": lambda est, n: ([(n, width(est))], "of X"),
    "inverse_transform": lambda est, n: ([(n, est.n_features_in_)], "of X"),
    "reconstruct": lambda est, n: ([(n, est.n_features_in_)], "of X"),
    "score_samples": lambda est, n: ([(n,)], np.dtype(np.float64)),
    "feature_scores": lambda est, n: ([(n, est.n_features_in_)], np.dtype(np.float64)),
    "fit_predict": lambda est, n: ([(n,)], np.dtype(np.int64)),
    "score": lambda est, n: ([()], np.dtype(np.float64)),
    "predict": lambda est, n: (many(est, n), None),
    "decision_function": lambda est, n: (many(est, n), np.dtype(np.float64)),
    "predict_proba": lambda est, n: ([(n, len(est.classes_))], np.dtype(np.float64)),
    "predict_log_proba": lambda est, n: ([(n, len(est.classes_))], np.dtype(np.float64)),
}


FLOATING = ("transform", "inverse_transform", "reconstruct", "score_samples",
            "predict_proba", "predict_log_proba", "decision_function")  # fmt: skip


def predictions_are_consistent(step):
    """Probabilities sum to one, and predictions are classes."""
    est, method = step.est, step.call.method
    if step.error is not None or not hasattr(est, "classes_") or hasattr(est, "final_estimator_"):
        return None
    if step.values.dtype.kind == "f" and not np.isfinite(step.values).all():
        return None  # see `results_are_finite`
    if method == "predict" and step.values.ndim == 1:
        if not np.isin(step.values, est.classes_).all():
            return "predict returns what is no class"
    if method == "predict_proba" and est.predict(step.args["X"]).ndim == 1:
        if not (step.values >= 0).all() or abs(step.values.sum(axis=1) - 1).max() > 1e-9:
            return "probabilities do not sum to 1"


def results_are_finite(step):
    """If the values of X and the weights are not large."""
    if step.error is not None or step.call.method not in FLOATING:
        return None
    if hasattr(step.est, "final_estimator_"):
        return None
    if max(map(largest, [step.args["X"], *weights_of(step.est)])) > 10:
        return None
    if not np.isfinite(step.values).all():
        return f"{step.call.method} returns what is not finite"


def largest(X):
    """The largest absolute value; infinity if that cannot be told."""
    try:
        values = np.abs(X.toarray() if sp.issparse(X) else np.asarray(X, dtype=np.float64))
        return np.nan_to_num(float(values.max(initial=0)), nan=np.inf)
    except (TypeError, ValueError):
        return np.inf


# In the text of a call: what fit or partial_fit has to refuse whatever else there is.
REFUSED = {
    r"y=labels\('(minus_one|empty)_string'[^)]*\)\)": "a label that may be a mistake",
    r"'csr_outside'": "indices outside the shape of X",
    r"samples\('inf', '(float32|fortran|csr32|csc|list|polars)'": "infinity in X",
    r"weights\('(zeros|negative|nan|inf|short|1e308)'": "weights that cannot be used",
    r"(Denoising.*n_components|hidden_layer_sizes)=(2\*\*63|10\*\*30)": "a size that nothing has",
}
# In that of y: what a classifier takes, and what an error that is about it would speak of.
ACCEPTED = {
    r"labels\('(none|nan|object_nan|pandas_na|polars_null)'": r"Input y|Unknown label|NAType",
    r"labels\('(csr|csc|csr_array)_indicator'": r"for y|Input y",
}


CLASSIFIERS = ("StackedAutoencoderClassifier", "Classifier")


def what_is_wrong_is_refused(step):
    if step.error is not None or not step.fits:
        return None
    line = text_of(step.call)
    if step.program.cls not in CLASSIFIERS:
        line = re.sub(r"y=labels\([^)]*\)", "", line)
    if step.call is step.program.calls[0]:  # later, `set_params` may have been called
        line += lines_of(step.program)[0]
    for pattern, what in REFUSED.items():
        if re.search(pattern, line):
            return f"{step.call.method} accepted {what}"
    balanced = getattr(step.est, "class_weight", None) == "balanced"
    if balanced and step.call.method == "partial_fit":
        return "partial_fit accepted class_weight='balanced'"


def what_is_documented_is_accepted(step):
    if step.error is None:
        return None
    error, args = str(step.error), step.call.args
    if "pretrain__max_iter" in args and step.est.pretrain is True:
        return f"set_params refused pretrain__max_iter: {error}"
    if step.program.cls not in CLASSIFIERS or not step.fits:
        return None
    for kind, complaint in ACCEPTED.items():
        if re.match(kind, args.get("y", "")) and re.search(complaint, error):
            return f"{step.call.method} refused y: {error}"
    if step.call.method == "partial_fit" and "not in class_weight" in error:
        classes = step.args.get("classes", getattr(step.est, "classes_", ()))
        if set(step.est.class_weight) <= set(np.asarray(classes).tolist()):
            return f"partial_fit refused class_weight: {error}"


def errors_name_parameters_of_the_estimator(step):
    """Those of a stack are not those of its layers."""
    if step.error is not None and "n_components" not in PARAMETERS[step.program.cls]:
        if re.search("n_components|DenoisingAutoencoder", str(step.error)):
            return f"{step.call.method}: {step.error}"


def classes_are_those_of_y(step):
    """All of them, whatever the weights of their samples, but for -1."""
    if step.error is not None or step.call.method != "fit" or continues(step):
        return None
    kind = re.match(
        r"labels\('(ints|two|strings|bool|signs|unlabelled|list)'", step.call.args.get("y", "")
    )
    if step.program.cls in CLASSIFIERS and kind:
        classes = np.unique(step.args["y"])
        if classes.tolist() not in ([-1, 1], step.est.classes_.tolist()):
            classes = classes[classes != -1]
        if classes.tolist() != step.est.classes_.tolist():
            return f"classes_ is {step.est.classes_.tolist()}, not {classes.tolist()}"


def containers_do_not_matter(step):
    """What an estimator makes of samples does not depend on what holds them."""
    if step.error is not None or step.fits or step.call.method not in SHAPES:
        return None
    other = step.result_for(dense(step.args["X"]))
    same = step.values.shape == other.shape
    if same and other.dtype.kind == "f":
        same = np.allclose(step.values, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    if not same:
        return f"{step.call.method} depends on the container of X"


def rows_do_not_matter_to_each_other(step):
    """What an estimator makes of a sample does not depend on those beside it."""
    if step.error is not None or step.call.method not in FLOATING:
        return None
    alone = step.result_for(dense(step.args["X"])[:1])
    beside = step.values[:1]
    scale = np.abs(beside).max(initial=1)
    if not np.allclose(alone / scale, beside / scale, rtol=1e-4, atol=1e-5, equal_nan=True):
        return f"{step.call.method} depends on the other samples"


def dense(X):
    """The same samples as a plain array: float32 if they are, else float64."""
    values = X.toarray() if sp.issparse(X) else np.asarray(X)
    if values.dtype == object and hasattr(X, "convert_dtypes"):  # pandas.NA is no number
        values = X.to_numpy(dtype=np.float64, na_value=np.nan)
    dtype = np.float32 if values.dtype == np.float32 else np.float64
    return np.array(values, dtype=dtype, order="C")


def containers_do_not_matter_to_fit(step):
    """Of the same samples, an estimator learns the same: to the last bit, if it is trained."""
    twin, closed = fresh_twin(step), hasattr(step.est, "component_indices_")
    if twin is not None and not (closed and twin.alpha < 1e-6):  # rounding errors would decide
        again = {name: evaluate(text) for name, text in step.call.args.items()}
        twin.fit(**{**again, "X": dense(again["X"])})
        same = bits_of(twin) == bits_of(step.est)
        if not same and not (closed and first_layers_are_alike(twin, step.est, dense(again["X"]))):
            return "fit depends on the container of X"


def first_layers_are_alike(one, two, X):
    """Whether those of two fits in closed form reconstruct X alike."""
    outputs = [X @ fitted.coefs_[0] + fitted.intercepts_[0] for fitted in (one, two)]
    return np.allclose(*outputs, rtol=0, atol=1e-2 * abs(X).max())


def results_agree(step):
    """The score is the mean of those of the samples, and the classes those of highest score."""
    est, X, method = step.est, step.args.get("X"), step.call.method
    if step.error is not None or hasattr(est, "final_estimator_"):
        return None
    if method not in FLOATING or not np.isfinite(step.values).all():
        return None
    if method == "score_samples" and not hasattr(est, "score"):
        if not np.array_equal(est.feature_scores(X).sum(axis=1), step.values):
            return "the scores of the features do not sum to score_samples"
    elif method == "score_samples":
        if not np.isclose(est.score(X), step.values.mean(), rtol=1e-9):
            return "score is not the mean of score_samples"
    if method == "reconstruct" and gives_codes_of_training(est):
        decoded = est.inverse_transform(est.transform(X))
        scale = np.abs(step.values).max(initial=1)
        if not np.allclose(step.values / scale, decoded / scale, rtol=1e-4, atol=1e-5):
            return "reconstruct does not decode the codes"
    if method == "predict_log_proba":
        if not np.allclose(np.exp(step.values), est.predict_proba(X), atol=1e-9):
            return "predict_log_proba is not the logarithm of predict_proba"
    if method == "predict_proba" and est.predict(X).ndim == 1:
        chosen = np.searchsorted(est.classes_, est.predict(X))
        if not (
            step.values[np.arange(len(chosen)), chosen] >= step.values.max(axis=1) - 1e-12
        ).all():
            return "predict does not give the most probable class"


def gives_codes_of_training(est):
    """Whether `transform` gives the codes that are decoded, whatever parameters are set later."""
    if getattr(est, "code", "top") not in ("top", "all"):
        return False
    return est.transform_n_active is None and isinstance(est.sparse_output, bool | np.bool_)


def fits_have_a_quality(step):
    """R^2 is at most 1, the loss of the mean not negative, a fraction of the units is dead."""
    if step.error is not None or not step.fits or not hasattr(step.est, "reconstruct"):
        return None
    names = "reconstruction_r2_", "baseline_loss_", "dead_fraction_"
    r2, loss, _ = found = [getattr(step.est, name, None) for name in names]
    if step.call.method == "partial_fit":
        return None if found == [None] * 3 else "partial_fit left the quality of a fit"
    if r2 > 1 or not loss >= 0:
        return f"R^2 is {r2}, the loss of the mean is {loss}"
    for layer in getattr(step.est, "layers_", [step.est]):
        dead = getattr(layer, "dead_fraction_", None)
        if (dead is not None) != (layer.activation == "top_k" and layer.n_iter_ > 0):
            return f"dead_fraction_ is {dead} with activation={layer.activation!r}"
        if dead is not None and not 0 <= dead <= 1:
            return f"dead_fraction_ is {dead}"


def copies_go_on_alike(step):
    """A pickled copy learns from the next batch what the estimator itself learns."""
    if step.call.method == "partial_fit" and step.error is None and step.was_fitted:
        again = {name: evaluate(text, step.copy) for name, text in step.call.args.items()}
        step.copy.partial_fit(**again)
        if bits_of(step.copy) != bits_of(step.est):
            return "a pickled copy goes on otherwise"


def fit_keeps_only_what_goes_on(step):
    """`pretrained_` stays only for fits that continue each other."""
    if step.call.method in ("fit", "fit_transform") and step.error is None:
        if hasattr(step.est, "pretrained_") and not step.est.warm_start:
            return "fit keeps pretrained_ without warm_start"


PROPERTIES = (
    refusals_are_clear, warnings_do_not_leak, inputs_are_not_written, refused_calls_change_nothing,
    reading_changes_nothing, fit_leaves_the_parameters, fits_are_finite, same_seed_same_bits,
    copies_are_alike, results_are_as_documented, predictions_are_consistent, results_are_finite,
    what_is_wrong_is_refused, what_is_documented_is_accepted,
    errors_name_parameters_of_the_estimator, classes_are_those_of_y, containers_do_not_matter,
    containers_do_not_matter_to_fit, rows_do_not_matter_to_each_other, results_agree,
    copies_go_on_alike, fit_keeps_only_what_goes_on, fits_have_a_quality,
)  # fmt: skip

# Failures that are being mended: property, pattern of what it says. To be empty.
KNOWN = []
