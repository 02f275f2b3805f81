"""Compare the speed of training with its matrix products alone, PyTorch and scikit-learn.

Each row of the table is a network and its training settings. The columns are the trainers, which
run in turns in one process, with the same number of threads:

peak      the multiplications of these products at the peak rate of the cores (see peak.py)
floor     only the matrix products of the steps, one after the other, with SciPy's BLAS
skae      the same products and everything else: noise, activations, loss, update
torch     PyTorch, from the same weights, on the same samples in the same order
compiled  the same with torch.compile: with --compile, if that works
rbm, mlp  scikit-learn's BernoulliRBM and MLPRegressor(X, X), one epoch of `fit`, without noise:
          different models of the same size, for comparison with scikit-learn

Before a row is timed, skae and PyTorch (MLPRegressor for the small network) train for one epoch
without noise, and their mean costs must agree. For the small network, the joint training of a
stack with the public `fit` is compared with an MLPRegressor of the same shape and weights.

    python benchmarks/training.py [--data mnist.npz] [--quick] [--compile] [--json out.json]
    python benchmarks/training.py --only net=784-500 dtype=float32 batch=20,100

The full table takes an hour or two. Rows that a run does not measure are kept in the file, so the
table can be measured in several runs. Nothing else should run on the machine: when processes share
a core, the threads of BLAS and PyTorch, which spin while they wait, take many times as long.
"""

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from functools import partial
from itertools import product, starmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
import sklearn
import trainers
from data import load_images
from peak import peaks
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController
from trainers import CLASSIFIER, SMALL, SOLVERS, TUTORIAL, WIDE

import skae

COLUMNS = ("peak", "floor", "skae", "torch", "compiled", "rbm", "mlp")
RATIOS = ("peak/skae", "skae/floor", "torch/skae", "compiled/skae", "rbm/skae", "mlp/skae")
QUICK = dict(net=TUTORIAL, dtype="float32", solver="sgd", noise="0.3")
SMALL_EPOCHS = 20
# Adam amplifies rounding errors: to 2e-4 on the classifier in float32, to 1e-12 in float64.
CHECK_ROWS, TOLERANCE = 2000, 1e-3
# Seconds between two columns, in which the threads of the first stop spinning. Threads of OpenBLAS
# spin for a tenth of a second, and cost the next column up to a fifth of its epoch.
PAUSE = 0.4
BLAS = ThreadpoolController().select(user_api="blas")


class Case(NamedTuple):
    """The settings of a row of the table."""

    net: str
    threads: int
    dtype: str
    solver: str
    noise: str
    batch: int

    @property
    def sizes(self):
        return [int(size) for size in self.net.split("-")]


def cases(threads, only):
    """Yield the rows of the table that match the values in `only`."""
    dtypes = ("float32", "float64")
    every = [
        *product((TUTORIAL, WIDE), threads, dtypes, SOLVERS, ("0", "0.3"), (20, 100, 500)),
        *product([CLASSIFIER], threads, dtypes, ("sgd", "adam"), ["0.2/0.5"], [100]),
        *product([SMALL], threads, dtypes, SOLVERS, ["0"], [32]),
    ]
    for case in starmap(Case, every):
        if all(str(getattr(case, name)) in values.split(",") for name, values in only.items()):
            yield case


# ---- one row ------------------------------------------------------------------------------


def largest_difference(costs):
    """Return the largest relative difference from skae's cost, None without others; check it."""
    others = [abs(cost / costs["skae"] - 1) for name, cost in costs.items() if name != "skae"]
    if not max(others, default=0.0) <= TOLERANCE:
        raise AssertionError(f"not the same training, by the costs: {costs}")
    return float(max(others)) if others else None


def in_turns(columns, repeats):
    """Run the functions in turns and return the seconds of each run."""
    seconds = {name: [] for name in columns}
    for _ in range(repeats):
        for name, function in columns.items():
            time.sleep(PAUSE)
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def measure(case, X, y, repeats, compiled):
    """Return the largest difference of the costs, and the seconds per epoch of each column."""
    X = np.ascontiguousarray(X[:, np.arange(case.sizes[0]) % X.shape[1]], dtype=case.dtype)
    order = np.random.default_rng(0).permutation(len(X))
    quiet = trainers.same_trainers(case, X, y, noisy=False, compiled=compiled)
    difference = largest_difference({name: f(order[:CHECK_ROWS]) for name, f in quiet.items()})
    epochs = {
        "floor": trainers.floor(case, X),
        **trainers.same_trainers(case, X, y, noisy=True, compiled=compiled),
        **trainers.other_models(case, X),
    }
    for epoch in epochs.values():
        epoch(order[: 2 * case.batch])  # work done only the first time
    return difference, in_turns({name: partial(f, order) for name, f in epochs.items()}, repeats)


def measure_small(case, repeats):
    """Do the same for the small network, with whole fits."""
    X = (load_digits().data / 16).astype(case.dtype)
    stack, mlp = trainers.small_nets(case, X)
    stack.set_params(shuffle=False).fit(X)
    mlp.set_params(shuffle=False).fit(X, X)
    difference = largest_difference({"skae": stack.loss_, "mlp": mlp.loss_ * 2 * X.shape[1]})
    stack.set_params(shuffle=True, joint_max_iter=SMALL_EPOCHS)
    mlp.set_params(shuffle=True, max_iter=SMALL_EPOCHS)
    seconds = in_turns({"skae": partial(stack.fit, X), "mlp": partial(mlp.fit, X, X)}, repeats)
    return difference, {name: [t / SMALL_EPOCHS for t in ts] for name, ts in seconds.items()}


def result(case, n_rows, difference, seconds):
    """Return a row of the JSON file."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    medians["peak"] = n_rows * trainers.multiplications(case) / peaks()[case.dtype] / case.threads
    pairs = {ratio: ratio.split("/") for ratio in RATIOS}
    ratios = {r: medians[a] / medians[b] for r, (a, b) in pairs.items() if {a, b} <= {*medians}}
    return dict(
        **case._asdict(), difference=difference, medians=medians, ratios=ratios, seconds=seconds
    )


# ---- the table ----------------------------------------------------------------------------


def line(cells):
    return "| " + " | ".join(f"{cell:>9}" for cell in cells) + " |"


def heading(net, n_rows):
    unit = "microseconds per batch" if net == SMALL else f"seconds per epoch of {n_rows:,} samples"
    names = [*Case._fields[1:], *COLUMNS, *RATIOS, "differs"]
    return [f"\n**{net}**, {unit}\n", line(names), line(["-----:"] * len(names))]


def table_row(row):
    """Format a row; a dash stands for missing values."""
    n_batches = np.ceil(len(load_digits().data) / row["batch"])
    times, ratios, differs = row["medians"], row["ratios"], row["difference"]
    show = (lambda t: f"{1e6 * t / n_batches:.1f}") if row["net"] == SMALL else "{:.3f}".format
    return line(
        [
            *(row[name] for name in Case._fields[1:]),
            *(show(times[name]) if name in times else "–" for name in COLUMNS),
            *(f"{ratios[name]:.2f}" if name in ratios else "–" for name in RATIOS),
            "–" if differs is None else f"{differs:.0e}",
        ]
    )


def machine():
    """Describe the machine and the versions."""
    try:
        facts = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(fact.split(":")[1].strip() for fact in facts if "model name" in fact)
    except (OSError, StopIteration):
        cpu = platform.processor()
    blas = sorted(
        " ".join(str(library.get(key)) for key in ("prefix", "version", "architecture"))
        for library in BLAS.info()
    )
    versions = {module.__name__: module.__version__ for module in (skae, np, scipy, sklearn)}
    if trainers.torch is not None:
        versions["torch"] = trainers.torch.__version__
    load = f"{os.getloadavg()[0]:.1f} before the first row" if hasattr(os, "getloadavg") else None
    return dict(
        cpu=cpu, cores=os.cpu_count(), load=load, system=platform.system(), blas=blas,
        python=platform.python_version(), **versions,
    )  # fmt: skip


def restriction(text):
    """Parse an argument of --only into a name and its values."""
    name, values = text.split("=", 1)
    if name not in Case._fields:
        raise ValueError
    return name, values


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--only", nargs="+", type=restriction, default=[], metavar="NAME=VALUES",
        help=f"only these rows of the table; names: {', '.join(Case._fields)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK}")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    results = Path(__file__).with_name("results") / "training.json"
    parser.add_argument(
        "--json", type=Path, default=results, help="output file; Markdown is written next to it"
    )
    args = parser.parse_args()
    args.only = (QUICK if args.quick else {}) | dict(args.only)
    if not any(cases(args.threads, args.only)):
        parser.error(f"the table has no rows with {args.only}")
    return args


def preamble(settings):
    """Yield the lines above the table."""
    yield "; ".join(f"{name} {value}" for name, value in settings.items())
    if trainers.torch is None:
        yield "\nPyTorch is not installed, its columns are empty: `pip install torch==2.13.0`."
    yield (
        "\n*differs*: largest relative difference from skae's mean cost in an epoch without noise "
        f"from the same weights; checked to be at most {TOLERANCE}."
    )


def case_of(row):
    return Case(*(row[name] for name in Case._fields))


def save(path, settings, rows):
    """Write the rows, by case, in the order of the table, as JSON and as Markdown."""
    order = {case: k for k, case in enumerate(cases(sorted({c.threads for c in rows}), {}))}
    ordered = [rows[case] for case in sorted(rows, key=order.get)]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(settings=settings, rows=ordered), indent=1))
    lines, net = list(preamble(settings)), None
    for row in ordered:
        lines += heading(row["net"], settings["rows"]) if row["net"] != net else []
        lines.append(table_row(row))
        net = row["net"]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def saved(path, settings):
    """Return the rows of an earlier run on the same machine and data, by case."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    varies = ("load", "repeats")  # each row contains all its times
    same = all(found["settings"].get(k) == v for k, v in settings.items() if k not in varies)
    return {case_of(row): row for row in found["rows"]} if same else {}


def main():
    args = arguments()
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = (part[: args.rows] for part in load_images(args.data))
    data = Path(args.data).name if args.data else "stand-in"
    settings = machine() | dict(data=data, rows=len(X), repeats=args.repeats)
    print(*preamble(settings), sep="\n", flush=True)
    rows, net = saved(args.json, settings), None
    compiled = args.compile and trainers.torch_compiles()
    for case in cases(args.threads, args.only):
        with BLAS.limit(limits=case.threads):
            if case.net == SMALL:
                found = measure_small(case, args.repeats)
            else:
                found = measure(case, X, y, args.repeats, compiled)
        n_rows = len(load_digits().data) if case.net == SMALL else len(X)
        rows[case] = result(case, n_rows, *found)
        new = [*(heading(case.net, len(X)) if case.net != net else ()), table_row(rows[case])]
        print(*new, sep="\n", flush=True)
        net = case.net
        save(args.json, settings, rows)


if __name__ == "__main__":
    main()
