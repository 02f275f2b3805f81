"""Compare the speed of this checkout with that of another revision.

Both are built side by side in temporary folders; this checkout includes uncommitted changes. They
run the same script in turns, each time in a fresh process. The script calls fit and transform of
the public estimators, so that revisions with different kernels can be compared. A case fails if
its median is slower by a relative (--relative) and an absolute threshold (--absolute, in seconds);
the exit status is then 1.

    python benchmarks/compare.py [--revision HEAD] [--repeats 7]
    python benchmarks/compare.py --instructions    counts instructions of small fits instead

Instructions are counted by Callgrind, a tool of Valgrind. Their number does not depend on the load
of the machine, so only --relative is used.
"""

import argparse
import ctypes
import io
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Files and folders needed for a build.
SOURCES = ["skae", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
# Fraction of the samples and epochs that suffices to count instructions.
FEW = 0.05

# Starts and stops counting in Callgrind. The header is part of Valgrind.
COUNTER = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_ZERO_STATS; CALLGRIND_START_INSTRUMENTATION; }
void stop(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""


# ---- run with both builds, each time in a separate process ----------------------------------


def make_cases(scale):
    """Yield (name, function). Settings are explicit, because defaults may have changed."""
    import numpy as np

    from skae import DenoisingAutoencoder, StackedAutoencoder, StackedAutoencoderClassifier

    X = np.random.default_rng(0).random((round(4000 * scale), 256), dtype=np.float32)
    y = X[:, :10].argmax(axis=1)
    plain = dict(activation="relu", solver="adam", loss="squared_error")
    tutorial = dict(
        activation="logistic",
        loss="cross_entropy",
        solver="sgd",
        momentum=0.0,
        tied_weights=True,
        learning_rate_init=0.05,
    )
    noise = dict(corruption="masking", corruption_level=0.3)
    epochs = dict(batch_size=50, max_iter=max(1, round(10 * scale)), random_state=0)
    stack = StackedAutoencoder((150, 100), **plain, **noise, **epochs)
    cases = {
        "autoencoder": DenoisingAutoencoder(200, **plain, **noise, **epochs),
        "autoencoder, tutorial": DenoisingAutoencoder(200, **tutorial, **noise, **epochs),
        "stack": stack,
        "classifier": StackedAutoencoderClassifier(
            pretrain=False,
            hidden_layer_sizes=(150, 100),
            activation="relu",
            **epochs,
        ),
    }
    for name, model in cases.items():
        yield f"{name}, fit", lambda model=model: model.fit(X, y)
        yield f"{name}, transform", lambda model=model: repeat(model.transform, X, 60 * scale)


def repeat(method, X, times):
    for _ in range(max(1, round(times))):
        method(X)


def run_cases(folder, scale, counter):
    """Run each case and print its time in seconds as JSON."""
    import skae

    if Path(folder).resolve() not in Path(skae.__file__).resolve().parents:
        raise SystemExit(f"skae was imported from {skae.__file__}, not from {folder}")
    warnings.simplefilter("ignore")
    for _, function in make_cases(FEW):  # the first calls take longer
        function()
    library = ctypes.CDLL(counter) if counter else None
    seconds = {}
    for name, function in make_cases(scale):
        begin = time.perf_counter()
        if library:
            library.start()
        function()
        if library:
            library.stop(name.encode())
        seconds[name] = time.perf_counter() - begin
    print(json.dumps(seconds))


def child(folder, scale, counter=""):
    return [sys.executable, __file__, "--run", str(folder), str(scale), str(counter)]


def environment(folder, threads):
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    limits = dict.fromkeys(names, str(threads))
    return {**os.environ, **limits, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}


# ---- the two builds ---------------------------------------------------------------------------


def check_out(revision, folder):
    """Extract the files of a revision."""
    archive = ["git", "-C", str(ROOT), "archive", "--format=tar", revision]
    run = subprocess.run(archive, capture_output=True)
    if run.returncode:
        raise SystemExit(f"no revision {revision!r}: {run.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(run.stdout)) as tar:
        tar.extractall(folder, filter="data")


def copy_checkout(folder):
    """Copy the sources of this checkout, without build products."""
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("*.so", "*.pyd", "*.c", "__pycache__")
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder)


def build(folder):
    setup = [sys.executable, "setup.py", "build_ext", "--inplace"]
    run = subprocess.run(setup, cwd=folder, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"could not build {folder.name}:\n{run.stdout}{run.stderr}")


# ---- measuring --------------------------------------------------------------------------------


def run_child(command, folder, threads):
    """Run the cases in a process and return the numbers that it prints, one per case."""
    run = subprocess.run(
        command, env=environment(folder, threads), stdout=subprocess.PIPE, check=True
    )
    return json.loads(run.stdout)


def median_seconds(folders, args):
    """Return the median time of each case for each folder, run in turns: A B, B A, A B, ..."""
    runs = {folder: [] for folder in folders}
    for turn in range(args.repeats):
        for folder in folders if turn % 2 else folders[::-1]:
            seconds = run_child(child(folder, args.scale), folder, args.threads)
            runs[folder].append(seconds)
    return [
        {name: statistics.median(run[name] for run in mine) for name in mine[0]}
        for mine in runs.values()
    ]


def compile_counter(folder):
    if shutil.which("valgrind") is None:
        raise SystemExit("--instructions needs Valgrind, which is not installed")
    library = folder / "counter.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    flags = ["-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    if subprocess.run([*compiler, *flags], input=COUNTER, text=True).returncode:
        raise SystemExit("--instructions needs the header valgrind/callgrind.h and a C compiler")
    return library


def million_instructions(folder, counter):
    """Count the instructions of each case, on few samples and one thread."""
    prefix = folder.parent / f"{folder.name}-callgrind"
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"]
    valgrind.append(f"--callgrind-out-file={prefix}")
    names = run_child(valgrind + child(folder, FEW, counter), folder, threads=1)
    counts = {}
    for path in folder.parent.glob(f"{prefix.name}.*"):  # one file per case
        text = path.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        counts[name[1]] = int(total[1]) / 1e6
    return {name: counts[name] for name in names}


def report(theirs, mine, relative, absolute):
    """Print the table and return its rows."""
    rows = []
    print(f"{'case':>32} {'other':>9} {'this':>9} {'ratio':>7}")
    for name in mine:
        ratio = mine[name] / theirs[name]
        slower = ratio > 1 + relative and mine[name] - theirs[name] > absolute
        print(
            f"{name:>32} {theirs[name]:9.3f} {mine[name]:9.3f} {ratio:7.3f}"
            f"{'  SLOWER' if slower else ''}"
        )
        rows.append(dict(case=name, other=theirs[name], this=mine[name], slower=slower))
    return rows


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--revision", default="HEAD", help="revision to compare with; default: HEAD"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the samples and epochs"
    )
    parser.add_argument("--relative", type=float, default=0.10)
    parser.add_argument("--absolute", type=float, default=0.05, help="seconds")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    return parser.parse_args()


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        other, this = folders = [Path(folder, "other"), Path(folder, "this")]
        counter = compile_counter(Path(folder)) if args.instructions else None
        check_out(args.revision, other)
        copy_checkout(this)
        for each in folders:
            build(each)
        if args.instructions:
            print(f"million instructions, {args.revision} against this checkout\n")
            measured, absolute = [million_instructions(each, counter) for each in folders], 0.0
        else:
            print(
                f"seconds, {args.revision} against this checkout, medians of {args.repeats}, "
                f"{args.threads} thread(s)\n"
            )
            measured, absolute = median_seconds(folders, args), args.absolute
    rows = report(*measured, args.relative, absolute)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["slower"] for row in rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_cases(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    else:
        main()
