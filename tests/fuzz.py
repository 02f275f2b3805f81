"""Random programs against the public interface.

A program is one estimator and a sequence of calls, all of it drawn from a seed and all of it text:
each argument is an expression over the names of this module. So what is printed of a failure can
be pasted below ``from fuzz import *``.

    python tests/fuzz.py 2000               run the programs of the seeds 0 to 1999
    python tests/fuzz.py 2000 --seed 5000   those of the seeds from 5000 on
    python tests/fuzz.py --program 5123     run one, make it smaller if it fails, with traceback

After each call, every function of `PROPERTIES` is asked. `KNOWN` lists the failures that count as
known until they are mended. To fuzz something new: a value, a container, a kind of y, or a
parameter is an entry in one of the tables of `fuzz_inputs.py`.
"""

import argparse
import contextlib
import copy  # noqa: F401
import faulthandler
import io
import json
import linecache
import os
import pickle  # noqa: F401
import re
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from fuzz_inputs import *  # noqa: F403
from fuzz_inputs import Program, fingerprint, random_program, weights_of, width
from sklearn.base import clone  # noqa: F401
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    NotFittedError,
)
from sklearn.utils._param_validation import InvalidParameterError

SECONDS = 20  # a program that takes longer hangs
MEMORY = 6 * 2**30  # address space of a child
BATCH = 250  # programs of a child
PACKAGES = {"skae", "sklearn"}  # files or folders that an error or a warning is traced to

FITS = ("fit", "partial_fit", "fit_transform")
# Calls that are no methods; the first ones replace the estimator by their result.
COPIES = {
    "clone": "clone(est)",
    "deepcopy": "copy.deepcopy(est)",
    "pickle": "pickle.loads(pickle.dumps(est))",
}
FUNCTIONS = {**COPIES, "repr": "repr(est)", "attributes": "attributes(est)"}

# -- one call, as the properties see it ------------------------------------------------


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
    result: Any = None
    error: BaseException | None = None
    warnings: list = field(default_factory=list)

    @property
    def fits(self):
        return self.call.method in FITS

    @property
    def values(self):
        """The result as an array, whatever container `set_output` asked for."""
        return np.asarray(self.result)


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
        return eval(text, {**globals(), "est": est})


def fingerprints(args):
    return [fingerprint(value) for value in args.values()]


def perform(program, call, est):
    """Make a call, and record what the properties need to know."""
    args = {name: evaluate(text, est) for name, text in call.args.items()}
    step = Step(
        program, call, est, args, hasattr(est, "n_iter_"), fingerprints(args),
        fingerprint(vars(est)), fingerprint(est.get_params(deep=False)),
    )  # fmt: skip

    def note(message, category, *_, **__):
        step.warnings.append((category, str(message), traceback.extract_stack()))

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        warnings.showwarning = note
        try:
            if call.method in FUNCTIONS:
                step.result = eval(FUNCTIONS[call.method], {**globals(), "est": est})
            else:
                step.result = getattr(est, call.method)(**args)
        except Exception as error:
            step.error = error
    return step


# -- properties: each returns None, or what is wrong -------------------------------------

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
    if type(error) not in CLEAR:
        return f"{told} [{origin(error)}]"
    if not str(error).strip():
        return f"{told} (no message)"
    missing = re.search(r"has no attribute '(\w+)'", str(error))
    internal = INTERNAL.search(str(error)) or (missing and missing[1] != step.call.method)
    if internal and origin(error) != "scikit-learn":
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


def same_seed_same_bits(step):
    """Another estimator with the same parameters and an int as seed learns the same."""
    continues = step.was_fitted and step.est.warm_start
    if step.call.method != "fit" or step.error is not None or continues:
        return None
    params = step.est.get_params(deep=False)
    if isinstance(params["random_state"], np.random.RandomState | None):
        return None
    twin = type(step.est)(**params)
    again = {name: evaluate(text) for name, text in step.call.args.items()}
    twin.fit(**again)
    if bits_of(twin) != bits_of(step.est):
        return "another fit with the same seed has other weights"


def copies_are_alike(step):
    if step.error is not None or step.call.method not in COPIES:
        return None
    if step.call.method == "clone":
        return "the clone is fitted" if hasattr(step.result, "n_iter_") else None
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


def n_samples(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


def many(est, n):
    """The shapes that predictions of an estimator may have: one or several outputs."""
    outputs = est.coefs_[-1].shape[1]
    return [(n,), (n, outputs)] if outputs == 1 or hasattr(est, "classes_") else [(n, outputs)]


# Method: (estimator, n_samples) -> possible shapes, dtype.
SHAPES = {
    "transform": lambda est, n: ([(n, width(est))], "of X"),
    "fit_transform": lambda est, n: ([(n, width(est))], "of X"),
    "inverse_transform": lambda est, n: ([(n, est.n_features_in_)], "of X"),
    "score_samples": lambda est, n: ([(n,)], np.dtype(np.float64)),
    "score": lambda est, n: ([()], np.dtype(np.float64)),
    "predict": lambda est, n: (many(est, n), None),
    "decision_function": lambda est, n: (many(est, n), np.dtype(np.float64)),
    "predict_proba": lambda est, n: ([(n, len(est.classes_))], np.dtype(np.float64)),
    "predict_log_proba": lambda est, n: ([(n, len(est.classes_))], np.dtype(np.float64)),
}


def predictions_are_consistent(step):
    """Probabilities sum to one, and predictions are classes."""
    est, method = step.est, step.call.method
    if step.error is not None or not hasattr(est, "classes_") or hasattr(est, "final_estimator_"):
        return None
    if method == "predict" and step.values.ndim == 1:
        if not np.isin(step.values, est.classes_).all():
            return "predict returns what is no class"
    if method == "predict_proba" and est.predict(step.args["X"]).ndim == 1:
        if not (step.values >= 0).all() or abs(step.values.sum(axis=1) - 1).max() > 1e-9:
            return "probabilities do not sum to 1"


def results_are_finite(step):
    """If the values of X and the weights are not large."""
    finite = ("transform", "inverse_transform", "score_samples", "predict_proba",
              "predict_log_proba", "decision_function")  # fmt: skip
    if step.error is not None or step.call.method not in finite:
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
    r"samples\('(nan|inf)', '(float32|fortran|csr32|csc|list|polars)'": "nan or infinity in X",
    r"weights\('(zeros|negative|nan|inf|short|1e308)'": "weights that cannot be used",
    r"(n_components|hidden_layer_sizes)=(2\*\*63|10\*\*30)": "a size that nothing has",
}
# In that of y: what a classifier takes, and what an error that is about it would speak of.
ACCEPTED = {
    r"labels\('(none|nan|object_nan|pandas_na|polars_null)'": r"Input y|Unknown label|NAType",
    r"labels\('(csr|csc|csr_array)_indicator'": r"for y|Input y",
}


def what_is_wrong_is_refused(step):
    if step.error is not None or not step.fits:
        return None
    line = text_of(step.call)
    if step.program.cls not in CLASSIFIERS:
        line = re.sub(r"y=labels\([^)]*\)", "", line)
    sizes = ", ".join(f"{k}={v}" for k, v in step.program.params.items())
    for pattern, what in REFUSED.items():
        if re.search(pattern, line) or (
            step.call is step.program.calls[0] and re.search(pattern, sizes)
        ):
            return f"{step.call.method} accepted {what}"


CLASSIFIERS = ("StackedAutoencoderClassifier", "Classifier")


def what_is_documented_is_accepted(step):
    if step.error is None or not step.fits or step.program.cls not in CLASSIFIERS:
        return None
    for kind, complaint in ACCEPTED.items():
        if re.match(kind, step.call.args.get("y", "")) and re.search(complaint, str(step.error)):
            return f"{step.call.method} refused y: {step.error}"


def fit_keeps_only_what_goes_on(step):
    """`pretrained_` stays only for fits that continue each other."""
    if step.call.method in ("fit", "fit_transform") and step.error is None:
        if not step.est.warm_start and hasattr(step.est, "pretrained_"):
            return "fit keeps pretrained_ without warm_start"


PROPERTIES = (
    refusals_are_clear, warnings_do_not_leak, inputs_are_not_written, refused_calls_change_nothing,
    reading_changes_nothing, fit_leaves_the_parameters, fits_are_finite, same_seed_same_bits,
    copies_are_alike, results_are_as_documented, predictions_are_consistent, results_are_finite,
    what_is_wrong_is_refused, what_is_documented_is_accepted, fit_keeps_only_what_goes_on,
)  # fmt: skip

# Failures that are being mended: property, pattern of what it says. To be empty.
KNOWN = [
    ("fit_keeps_only_what_goes_on", "keeps pretrained_"),
    ("what_is_documented_is_accepted", "refused y"),
    ("what_is_wrong_is_refused", "accepted a label that may be a mistake"),
    ("refusals_are_clear", "partial_fit: TypeError: '<' not supported between .*NoneType"),
    ("warnings_do_not_leak", "divide by zero encountered in log .*predict_log_proba"),
    ("refusals_are_clear", "int too big to convert"),
    ("refusals_are_clear", "'NoneType' object has no attribute 'multi_label'"),
    ("warnings_do_not_leak", r"overflow encountered in reduce \[_base.py, check_weights"),
    ("warnings_do_not_leak", r"overflow encountered in cast \[_base.py, _params"),
]

# -- running programs --------------------------------------------------------------------


@dataclass
class Report:
    """What came of a program."""

    seed: int
    outcomes: list = field(default_factory=list)
    known: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    text: list = field(default_factory=list)


def failures_of(step):
    """What the properties find wrong with a step; one that raises has failed, too."""
    for wrong in PROPERTIES:
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                detail = wrong(step)
        except Exception as error:
            detail = f"{step.call.method}, then {type(error).__name__}: {error} [{origin(error)}]"
        if detail is not None:
            yield wrong.__name__, str(detail)


def is_known(name, detail):
    return any(name == known and re.search(pattern, detail) for known, pattern in KNOWN)


def run(program, seed=-1, on_error=None):
    """Run a program up to its first failure that is not known."""
    report = Report(seed)
    est = evaluate(lines_of(program)[0].removeprefix("est = "))
    for place, call in enumerate(program.calls):
        try:
            step = perform(program, call, est)
        except ImportError:  # pandas or polars is missing
            break
        report.outcomes.append("ok" if step.error is None else type(step.error).__name__)
        found = list(failures_of(step))
        report.known += [one for one in found if is_known(*one)]
        report.failures = [one for one in found if not is_known(*one)]
        if report.failures:
            report.text = lines_of(replace(program, calls=program.calls[: place + 1]))
            if on_error and step.error:
                on_error(step.error)
            break
        if call.method in COPIES and step.error is None:
            est = step.result
    return report


def run_seed(seed):
    return run(random_program(seed), seed)


def smaller(program):
    """Programs that lack one call, one argument or one parameter of this one."""
    for k, call in enumerate(program.calls):
        yield replace(program, calls=program.calls[:k] + program.calls[k + 1 :])
        for name in call.args:
            less = call._replace(args={n: v for n, v in call.args.items() if n != name})
            yield replace(program, calls=[*program.calls[:k], less, *program.calls[k + 1 :]])
    for name in program.params:
        params = {n: v for n, v in program.params.items() if n != name}
        if name not in ("n_components", "hidden_layer_sizes") or "$" in str(params):
            yield replace(program, params=params)


def kind_of(failure):
    """A failure, but for its numbers."""
    return (failure[0], re.sub(r"-?\d[\d.e+-]*", "#", failure[1])[:110])


def shrink(program):
    """The smallest program with the same failures that leaving out one thing at a time finds."""
    wanted = set(map(kind_of, run(program).failures))
    for candidate in smaller(program):
        if wanted and wanted & set(map(kind_of, run(candidate).failures)):
            return shrink(candidate)
    return program


# -- in child processes -------------------------------------------------------------------


def serve(first, count):
    """Run programs in this process; print a line before and after each."""
    limit_memory()
    for seed in range(first, first + count):
        print(json.dumps({"seed": seed}), flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            report = run_seed(seed)
        except Exception:
            report = Report(seed, failures=[("the fuzzer failed", traceback.format_exc())])
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(vars(report)), flush=True)


def limit_memory():
    with contextlib.suppress(ImportError, ValueError):  # as on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def run_batch(first, count):
    """Run programs in a child; after a crash or hang, in another one from the next seed on."""
    reports, stop = [], first + count
    while first < stop:
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            __file__,
            "--serve",
            f"{first}",
            f"{stop - first}",
        ]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        child = subprocess.run(command, env=environment, capture_output=True, text=True)
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        reports += [Report(**line) for line in lines if "outcomes" in line]
        begun = max((line["seed"] for line in lines), default=first)
        if child.returncode:
            report = Report(begun, text=lines_of(random_program(begun)))
            last_words = child.stderr.strip()[-1500:]
            kind = "hangs" if "Timeout" in last_words else "crashes"
            report.failures = [(kind, f"exit code {child.returncode}\n{last_words}")]
            reports.append(report)
        first = begun + 1
    return reports


def run_many(first, count, jobs=1):
    """Run programs, print the failures and a summary; return whether there were none."""
    batches = [(k, min(BATCH, first + count - k)) for k in range(first, first + count, BATCH)]
    outcomes, kinds, known, n_programs = Counter(), Counter(), Counter(), 0
    with ThreadPoolExecutor(jobs) as pool:
        for reports in pool.map(lambda batch: run_batch(*batch), batches):
            n_programs += len(reports)
            for report in reports:
                outcomes.update(report.outcomes)
                known.update(kind_of(one) for one in report.known)
                kinds.update(kind_of(one) for one in report.failures)
                if report.failures:
                    show(report)
    print(f"{n_programs} programs, {outcomes.total()} calls: {dict(outcomes.most_common())}")
    for title, counter in (("known", known), ("FAILED", kinds)):
        for (name, detail), number in counter.most_common():
            print(f"{title} {number} times: {name}: {detail}")
    return not kinds


def show(report):
    for name, detail in report.failures:
        print(f"\nprogram {report.seed}: {name}: {detail}")
    print(*(f"    {line}" for line in report.text), sep="\n", flush=True)


def run_one(seed):
    """Run one program and, if it fails, a smaller one; return whether it does not."""
    program = random_program(seed)
    print(*lines_of(program), sep="\n", flush=True)
    report = run(program, seed, on_error=traceback.print_exception)
    if report.failures:
        show(run(shrink(program), seed))
    return not report.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_programs", type=int, nargs="?", default=2000)
    parser.add_argument("--seed", type=int, default=0, help="that of the first program")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--program", type=int, metavar="SEED", help="run this one alone")
    parser.add_argument("--serve", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    if args.program is not None:
        return sys.exit(not run_one(args.program))
    sys.exit(not run_many(args.seed, args.n_programs, args.jobs))


if __name__ == "__main__":
    main()
