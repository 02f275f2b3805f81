"""Measure how time and memory grow with the size of the problem.

Five tables: time and peak memory of a fit as functions of the number of samples, features, units,
layers and threads, each varied alone, with the exponent of a power law fitted to the times; memory
in addition to X for each layout of X, compared with the allowance; samples per second of transform
and predict, compared with their matrix products alone; the time of ``import skae``; the size of
the wheel. Each fit runs in a separate process, see one_fit.py.

    python benchmarks/scaling.py [--only growth memory] [--gigabytes 6] [--json F]

It needs Linux. The memory-mapped file is sparse: it takes no disk space, but all the page cache
that is available.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import linear_regression, median

# NumPy is not imported here: a process starts with the peak memory of its parent.

HERE = Path(__file__).resolve().parent
BASE = dict(rows=8000, features=400, units=400, depth=1)
STEPS = {
    "rows": (8000, 16000, 32000),
    "features": (400, 800, 1600),
    "units": (400, 800, 1600),
    "depth": (2, 4, 8),  # not 1: a single layer computes no codes for a next one
}
LAYOUTS = ("C float32", "C float64", "Fortran float32", "uint8", "CSR", "memory-mapped")
TARGETS = dict(exponent=1.05, import_ms=30.0, wheel_mb=1.0)


def python(*arguments, threads=1):
    """Run a fresh interpreter and return its output."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed modules are compiled to bytecode
    command = [sys.executable, "-P", *map(str, arguments)]  # use the installed skae
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode:
        raise SystemExit(run.stderr)
    return run.stdout, run.stderr


def one_fit(threads=1, **settings):
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return json.loads(python(HERE / "one_fit.py", *options, threads=threads)[0])


def verdict(value, target):
    return f"at most {target:g}: {'reached' if value <= target else 'MISSED'}"


# ---- the tables -----------------------------------------------------------------------------


def growth(args):
    """Measure time and memory along each axis, with all fits in turns."""
    settings = [
        (axis, value, dict(BASE, **{axis: value}))
        for axis, values in STEPS.items()
        for value in values
    ]
    settings += [("threads", n, dict(BASE, threads=n)) for n in range(1, os.cpu_count() + 1)]
    runs = [[] for _ in settings]
    for _ in range(args.repeats):
        for (_, _, setting), mine in zip(settings, runs):
            mine.append(one_fit(**setting))
    print("growth: one epoch of a DenoisingAutoencoder; depth: of a StackedAutoencoder")
    print(f"{'axis':>10} {'value':>6} {'seconds':>8} {'MB beyond X':>12} {'allowed':>8}")
    rows = []
    for (axis, value, _), mine in zip(settings, runs):
        seconds, beyond = (median(run[name] for run in mine) for name in ("seconds", "beyond"))
        allowed = mine[0]["allowance"]
        print(f"{axis:>10} {value:6d} {seconds:8.3f} {beyond:12.1f} {allowed:8.1f}")
        rows.append(
            dict(axis=axis, value=value, seconds=seconds, beyond=beyond, allowance=allowed)
        )
    return dict(rows=rows, exponents=exponents(rows))


def exponents(rows):
    result = {}
    for axis in STEPS:
        points = [
            (math.log(r["value"]), math.log(r["seconds"])) for r in rows if r["axis"] == axis
        ]
        result[axis] = linear_regression(*zip(*points)).slope
        print(
            f"exponent of {axis}: {result[axis]:.2f}; {verdict(result[axis], TARGETS['exponent'])}"
        )
    return result


def memory(args):
    """Measure the memory in addition to X for each layout."""
    print("memory: one epoch, 784 features, 500 units, batches of 100, adam; MB")
    print(f"{'layout':>16} {'samples':>8} {'beyond X':>9} {'allowed':>8}")
    rows = []
    for layout in LAYOUTS:
        n = int(args.gigabytes * 1e9 / (4 * 784)) if layout == "memory-mapped" else args.rows
        run = one_fit(rows=n, layout=layout)
        more = "" if run["beyond"] <= run["allowance"] else "  MORE"
        print(
            f"{layout:>16} {n:8d} {run['beyond']:9.1f} {run['allowance']:8.1f}{more}", flush=True
        )
        rows.append(run)
    return rows


THROUGHPUT = """
import json, sys, time, warnings
from statistics import median
import numpy as np
from skae import DenoisingAutoencoder, StackedAutoencoderClassifier
warnings.simplefilter("ignore")
rows, repeats = map(int, sys.argv[1:])
X = np.random.default_rng(0).random((rows, 784), dtype=np.float32)
y = np.arange(100) % 10
dae = DenoisingAutoencoder(500, max_iter=1).fit(X[:100])
classifier = StackedAutoencoderClassifier(
    hidden_layer_sizes=500, pretrain=False, max_iter=1).fit(X[:100], y)
W, (V, U) = dae.components_.T.copy(), classifier.coefs_
V, U = V.copy(), U.copy()
work = {
    "transform": lambda: dae.transform(X), "its product": lambda: X @ W,
    "predict": lambda: classifier.predict(X), "its products": lambda: X @ V @ U,
}
seconds = {name: [] for name in work}
for _ in range(repeats):
    for name, function in work.items():
        begin = time.perf_counter()
        function()
        seconds[name].append(time.perf_counter() - begin)
print(json.dumps({name: rows / median(times) for name, times in seconds.items()}))
"""


def throughput(args):
    """Measure samples per second, in turns in one process."""
    print("throughput: thousand samples per second, 784 features, 500 units")
    print(f"{'threads':>8} {'':>10} {'skae':>8} {'product':>8}  ratio")
    table = []
    for threads in range(1, os.cpu_count() + 1):
        output = python("-c", THROUGHPUT, args.rows, args.repeats, threads=threads)[0]
        rates = json.loads(output)
        for name, bare in (("transform", "its product"), ("predict", "its products")):
            ours, theirs = rates[name] / 1e3, rates[bare] / 1e3
            print(f"{threads:8d} {name:>10} {ours:8.1f} {theirs:8.1f} {ours / theirs:6.2f}")
            table.append(dict(threads=threads, method=name, skae=ours, product=theirs))
    return table


# At some call depths, a loop during an import allocates and frees a chunk of the interpreter's
# stack in every iteration, which costs up to 50 ms. Therefore modules are imported at many depths.
IMPORT = """
import time
def at_depth(n):
    if n:
        return at_depth(n - 1)
    begin = time.process_time()
    import {module}
    return time.process_time() - begin
print(1e3 * at_depth({depth}))
"""


def imports(args):
    """Measure CPU milliseconds, and the slowest modules not imported by scikit-learn."""
    python("-c", "import skae")  # the first import writes the bytecode
    modules = "skae", "sklearn.neural_network"
    times, parts = {name: [] for name in modules}, {}
    for turn in range(2 * args.repeats):
        for module in modules:
            code = IMPORT.format(module=module, depth=16 * turn)
            times[module].append(float(python("-c", code)[0]))
    for _ in range(args.repeats):
        log = python("-X", "importtime", "-c", "import sklearn.neural_network, skae")[1]
        log = log.partition(" sklearn.neural_network\n")[2]
        for own, name in re.findall(r"^import time: +(\d+) \| +\d+ \| +(.*)$", log, re.MULTILINE):
            parts.setdefault(name, []).append(int(own) / 1e3)
    ours, theirs = map(median, times.values())
    print(f"import: skae {ours:.0f} ms, sklearn.neural_network {theirs:.0f} ms; ", end="")
    print(f"{ours - theirs:+.1f} ms, {verdict(ours - theirs, TARGETS['import_ms'])}")
    parts = {name: median(mine) for name, mine in parts.items()}
    largest = sorted(parts, key=parts.get, reverse=True)[:8]
    print(f"skae after sklearn.neural_network takes {sum(parts.values()):.1f} ms, of which")
    for name in largest:
        print(f"{parts[name]:8.1f} ms {name}")
    return dict(
        skae=ours,
        scikit_learn=theirs,
        after_scikit_learn=sum(parts.values()),
        parts={name: parts[name] for name in largest},
    )


def wheel(args):
    """Return the size of each wheel in dist/, in MB."""
    sizes = {path.name: path.stat().st_size / 1e6 for path in (HERE.parent / "dist").glob("*.whl")}
    for name, size in sizes.items():
        print(f"wheel: {name}, {size:.2f} MB, {verdict(size, TARGETS['wheel_mb'])}")
    if not sizes:
        print("wheel: none in dist/; `make dist` builds one")
    return sizes


TABLES = dict(growth=growth, memory=memory, throughput=throughput, imports=imports, wheel=wheel)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--rows", type=int, default=50_000, help="samples for memory and throughput"
    )
    parser.add_argument(
        "--gigabytes", type=float, default=6.0, help="size of the memory-mapped file"
    )
    parser.add_argument("--json", type=Path, default=HERE / "results" / "scaling.json")
    args = parser.parse_args()
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    for name in args.only:
        results[name] = TABLES[name](args)
        print()
    args.json.parent.mkdir(exist_ok=True)
    args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
