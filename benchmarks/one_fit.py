"""Measure the time of one fit, and the memory that it uses in addition to X.

The memory is the peak resident memory during ``fit`` minus the resident memory before, when X was
in memory and a tiny fit had loaded the libraries. The allowance printed with it is the parameters
(four times with Adam, which keeps a gradient and two moments), and three mini-batches of
activations. For a memory-mapped X, only memory that is not backed by a file is counted; the rest
is page cache.

    python benchmarks/one_fit.py [--rows 20000] [--layout CSR] ...     prints JSON

The number of threads is set by environment variables such as OPENBLAS_NUM_THREADS. The script
reads /proc, so it needs Linux.
"""

import argparse
import json
import re
import resource
import tempfile
import threading
import time
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from skae import DenoisingAutoencoder, StackedAutoencoder

NONZERO = 0.1  # fraction of nonzero entries of CSR


def fill(A):
    """Fill with random numbers, without a temporary array that would raise the peak."""
    np.random.default_rng(0).random(out=A, dtype=A.dtype)
    return A


def fortran(rows, features):
    return fill(np.empty((features, rows), dtype=np.float32)).T


def sparse(rows, features):
    n = round(NONZERO * features)
    data = fill(np.empty(rows * n, dtype=np.float32))
    indices = np.tile(np.arange(n, dtype=np.int32) * (features // n), rows)
    indptr = np.arange(rows + 1, dtype=np.int32) * n
    return csr_array((data, indices, indptr), shape=(rows, features))


def mapped(rows, features):
    """Return a memory-mapped sparse file: all values are zero, and it takes no disk space."""
    path = Path(tempfile.mkdtemp(), "X.npy")
    try:
        np.lib.format.open_memmap(path, "w+", np.float32, (rows, features)).flush()
        return np.load(path, mmap_mode="r")
    finally:  # the mapping keeps the file as long as needed
        path.unlink()
        path.parent.rmdir()


LAYOUTS = {
    "C float32": lambda *shape: fill(np.empty(shape, dtype=np.float32)),
    "C float64": lambda *shape: fill(np.empty(shape)),
    "Fortran float32": fortran,
    "uint8": lambda *shape: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8),
    "CSR": sparse,
    "memory-mapped": mapped,
}


def megabytes(field):
    """Return a field of /proc/self/status, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)[1]) / 1024


class Peak:
    """Peak resident memory in a ``with`` block minus that at its start, in MB.

    The system records the peak of the total memory, but not of memory without file backing, which
    is polled by a thread.
    """

    def __init__(self, without_files):
        self.without_files = without_files

    def __enter__(self):
        self.field = "RssAnon" if self.without_files else "VmRSS"
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        self.before = self.highest = megabytes(self.field)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        if self.without_files:
            self.thread.start()
        return self

    def watch(self):
        while not self.stop.wait(0.002):
            self.highest = max(self.highest, megabytes(self.field))

    def __exit__(self, *exception):
        if self.without_files:
            self.stop.set()
            self.thread.join()
        else:
            self.highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.beyond = self.highest - self.before


def allowance(args, itemsize):
    """Return the allowance in MB; for a stack, that of all its layers."""
    widths = [args.features, *[args.units] * args.depth]
    params = sum(2 * n * m + n + m for n, m in pairwise(widths))
    batch = args.batch_size * max(2 * n + m for n, m in pairwise(widths))
    return ((4 if args.solver == "adam" else 1) * params + 3 * batch) * itemsize / 2**20


def make_model(args, units, **others):
    common = dict(
        solver=args.solver,
        corruption="masking",
        batch_size=args.batch_size,
        random_state=0,
        **others,
    )
    if args.solver == "sgd":
        common.update(momentum=0.0, learning_rate_init=1e-4)
    if args.depth == 1:
        return DenoisingAutoencoder(units, **common)
    return StackedAutoencoder([units] * args.depth, **common)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--layout", choices=LAYOUTS, default="C float32")
    parser.add_argument("--solver", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    X = LAYOUTS[args.layout](args.rows, args.features)
    make_model(args, 2, max_iter=1).fit(X[:20])
    model = make_model(args, args.units, max_iter=args.epochs)
    with Peak(without_files=args.layout == "memory-mapped") as peak:
        begin = time.perf_counter()
        model.fit(X)
        seconds = time.perf_counter() - begin
    codes = model.transform(X[:2])
    result = dict(vars(args), seconds=seconds, beyond=peak.beyond)
    result["allowance"] = allowance(args, codes.itemsize)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
