"""Compare the elementwise loops of the kernel with the memory bandwidth and with NumPy.

Each loop of skae/_kernel/_elementwise.h is compared with a plain copy of as many bytes as it reads
and writes, and with the equivalent NumPy expression, in float32 and float64, on one thread. The
operands either fit together into the L2 cache or do not fit into the caches.

    python benchmarks/kernels.py [--only adam masking] [--repeats 7]

Outside the caches, an in-place loop may be up to half faster than the copy, because a copy also
has to fetch the memory that it overwrites.

The loops are compiled separately from the package, with the compiler of this Python and the flags
of setup.py. A POSIX system is needed.
"""

import argparse
import ast
import ctypes
import json
import os
import shlex
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
N = 500  # columns: the units of a layer
LEVEL, SCALE = 0.3, 0.01  # of the noise; the weight of a sample
TYPES = {"float32": ("float", "_f"), "float64": ("double", "_d")}
VECTORS = ("row", "column", "scratch")

# `c` is the call in C, with T for the suffix of the type; `numpy` computes the new values of the
# written operands. The operands x, y, u, v have shape (m, n); `row` and `column` are vectors.
# `reads` and `writes` count an operand once, even if a loop reads it again from the L1 cache.
Loop = namedtuple("Loop", "c numpy reads writes random", defaults=[False])


def each_row(call):
    return f"for (ptrdiff_t i = 0; i < m; i++) {call};"


def activation(name, numpy):
    return Loop(f"activate_T(ACT_{name}, m, n, n, row, x);", numpy, "x", "x")


def backward(name, numpy):
    return Loop(f"activation_backward_T(ACT_{name}, m, n, n, 1, x, y);", numpy, "x y", "y")


def loss(call, numpy):
    return Loop(each_row(f"{call}n, {SCALE}, row, y + i * n, x + i * n)"), numpy, "x y", "x")


def noise(name, numpy):
    settings = f"&(corruption_settings){{NOISE_{name}, {LEVEL}, low, high}}"
    call = f"corrupt_T({settings}, row_key(7, i), n, x + i * n, y + i * n)"
    return Loop(each_row(call), numpy, "x", "y", random=True)


def uniform(b):
    return b.rng.random(b.x.shape, b.x.dtype)


def logistic(z):
    return 1 / (1 + np.exp(-z))


def squared_error_of_logistic(b):
    a = logistic(b.x + b.row)
    return 2 * SCALE * (a - b.y) * a * (1 - a)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def salt_and_pepper(b):
    u, low, high = uniform(b), b.low.astype(b.x.dtype), b.high.astype(b.x.dtype)
    return np.where(u < LEVEL / 2, low, np.where(u < LEVEL, high, b.x))


def sparsity(b):
    rho = np.clip(b.column @ b.y, 1e-6, 1 - 1e-6)
    return b.x + b.column[:, None] * (-0.05 / rho + 0.95 / (1 - rho))


def momentum(b):
    velocity = 0.9 * b.u - 0.01 * b.x
    return b.y + 0.9 * velocity - 0.01 * b.x, velocity


def adam(b):
    mean, square = b.u + 0.1 * (b.x - b.u), b.v + 0.001 * (b.x * b.x - b.v)
    return b.y - 0.01 * mean / (np.sqrt(square) + 1e-8), mean, square


def limited(b):  # all rows have a larger norm
    return b.x * (2 / np.sqrt((b.x * b.x).sum(axis=1, keepdims=True)))


# The compiler warns about loops of the header that are missing here.
# fmt: off
LOOPS = {
    "identity": activation("IDENTITY", lambda b: b.x + b.row),
    "logistic": activation("LOGISTIC", lambda b: logistic(b.x + b.row)),
    "tanh": activation("TANH", lambda b: np.tanh(b.x + b.row)),
    "relu": activation("RELU", lambda b: np.maximum(b.x + b.row, 0)),
    "softmax": activation("SOFTMAX", lambda b: softmax(b.x + b.row)),
    "logistic, backward": backward("LOGISTIC", lambda b: b.y * (b.x * (1 - b.x))),
    "tanh, backward": backward("TANH", lambda b: b.y * (1 - b.x * b.x)),
    "relu, backward": backward("RELU", lambda b: b.y * (b.x > 0)),
    "squared error": loss(
        "squared_error_T(ACT_IDENTITY, ", lambda b: 2 * SCALE * (b.x + b.row - b.y)),
    "squared error, logistic": loss("squared_error_T(ACT_LOGISTIC, ", squared_error_of_logistic),
    "cross-entropy": loss(
        "cross_entropy_T(", lambda b: SCALE * (logistic(b.x + b.row) - b.y)),
    "softmax loss": loss("softmax_loss_T(", lambda b: SCALE * (
        b.y.sum(axis=1, keepdims=True) * softmax(b.x + b.row) - b.y)),
    "masking": noise("MASKING", lambda b: np.where(uniform(b) < LEVEL, 0, b.x)),
    "gaussian": noise(
        "GAUSSIAN", lambda b: b.x + LEVEL * b.rng.standard_normal(b.x.shape, b.x.dtype)),
    "salt and pepper": noise("SALT_AND_PEPPER", salt_and_pepper),
    "dropout": Loop(
        each_row(f"dropout_T({LEVEL}, row_key(7, i), 0, n, x + i * n)"),
        lambda b: np.where(uniform(b) < LEVEL, 0, b.x * (1 / (1 - LEVEL))), "x", "x", random=True),
    "add rows": Loop(
        "add_rows_T(m, n, n, 1, x, row);", lambda b: b.row + b.x.sum(axis=0), "x", "row"),
    "sparsity": Loop(
        "sparsity_T(ACT_LOGISTIC, m, n, n, 0.05, 1, column, y, x, scratch);", sparsity,
        "x y", "x"),
    "perturb": Loop(
        "perturb_T(m, n, n, 0.01, x, y);", lambda b: b.y + 0.01 * np.sign(b.x), "x y", "y"),
    "momentum": Loop(
        "momentum_update_T(m * n, 0.01, 0.9, 1, 0, x, u, y);", momentum, "x y u", "y u"),
    "adam": Loop(
        "adam_update_T(m * n, 0.01, 0.9, 0.999, 1e-8, 0, x, u, v, y);", adam, "x y u v", "y u v"),
    "limit norms": Loop("limit_norms_T(m, n, 2, x);", limited, "x", "x"),
}
# fmt: on

ARGUMENTS = ("x", "y", "u", "v", *VECTORS, "low", "high")
PRELUDE = """
#define _POSIX_C_SOURCE 199309L
#include <time.h>
#include "_elementwise.h"
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}
double copy(size_t size, const char *from, char *to)
{ const double begin = now(); memcpy(to, from, size); return now() - begin; }
"""


def symbol(name, suffix):
    return "loop_" + "".join(filter(str.isalpha, name)) + suffix


def c_source():
    """Return a C function per loop and type, which runs the loop once and returns the seconds."""
    lines = [PRELUDE]
    for name, loop in LOOPS.items():
        for real, suffix in TYPES.values():
            arrays = ", ".join(f"{real} *{array}" for array in ARGUMENTS[:-2])
            lines.append(
                f"double {symbol(name, suffix)}(ptrdiff_t m, ptrdiff_t n, {arrays}, "
                "double *low, double *high)\n{ const double begin = now(); "
                f"{loop.c.replace('_T(', suffix + '(')} return now() - begin; }}"
            )
    return "\n".join(lines)


def flags_of_setup():
    """Return UNIX_FLAGS of setup.py, parsed instead of imported, which would run it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "UNIX_FLAGS":
            return ast.literal_eval(node.value)
    raise SystemExit("setup.py has no UNIX_FLAGS")


def compiled(folder):
    """Compile the loops to a library, as setuptools would build them."""
    (folder / "loops.c").write_text(c_source())
    compiler, flags = sysconfig.get_config_vars("CC", "CFLAGS")
    command = shlex.split(os.environ.get("CC") or compiler) + shlex.split(flags)
    command += [*flags_of_setup(), "-fPIC", "-shared", f"-I{ROOT / 'skae' / '_kernel'}"]
    subprocess.run([*command, "loops.c", "-o", "loops.so", "-lm"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "loops.so"))


def make_block(loop, dtype, kilobytes):
    """Make operands of this total size for a loop. x has both signs, the others are positive."""
    rng, names = np.random.default_rng(0), {*loop.reads.split(), *loop.writes.split()}
    names = sorted(names.difference(VECTORS))
    m = max(2, kilobytes * 1024 // (len(names) * N * np.dtype(dtype).itemsize))
    block = {name: rng.random((m, N), dtype) for name in names}
    block["x"] -= 0.5
    block.update(row=rng.random(N, dtype), column=np.full(m, 1 / m, dtype))
    block.update(scratch=np.empty(N, dtype), low=np.zeros(N), high=np.ones(N))
    return SimpleNamespace(rng=np.random.Generator(np.random.SFC64(0)), **block)


def pointer(array):
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def c_runner(library, name, block):
    """Return a function that resets the operands, runs the loop and returns the seconds."""
    function = getattr(library, symbol(name, TYPES[block.x.dtype.name][1]))
    function.restype = ctypes.c_double
    arguments = [ctypes.c_ssize_t(size) for size in block.x.shape]
    arguments += [pointer(getattr(block, argument, None)) for argument in ARGUMENTS]
    written = [getattr(block, array) for array in LOOPS[name].writes.split()]
    before = [array.copy() for array in written]

    def run():
        for array, values in zip(written, before):
            array[...] = values
        return function(*arguments)

    return run


def copy_runner(library, size):
    """Return a function that copies half of `size` bytes, so that it reads and writes `size`."""
    library.copy.restype = ctypes.c_double
    source, target = np.ones(size // 2, np.uint8), np.ones(size // 2, np.uint8)
    return lambda: library.copy(ctypes.c_size_t(size // 2), pointer(source), pointer(target))


def numpy_runner(loop, block):
    def run():
        begin = time.perf_counter()
        loop.numpy(block)
        return time.perf_counter() - begin

    return run


def check(library, name, dtype):
    """Check that the loop and the NumPy expression compute the same."""
    loop = LOOPS[name]
    block = make_block(loop, dtype, 128)
    desired = loop.numpy(block)
    c_runner(library, name, block)()
    for name, values in zip(
        loop.writes.split(), desired if isinstance(desired, tuple) else (desired,)
    ):
        atol = 1e-4 * np.abs(values).max()
        np.testing.assert_allclose(getattr(block, name), values, rtol=0, atol=atol)


def measure(library, name, dtype, kilobytes, repeats):
    """Measure a row of the table, all in turns; a run before each measurement warms the cache."""
    loop = LOOPS[name]
    block = make_block(loop, dtype, kilobytes)
    if not loop.random:
        check(library, name, dtype)
    moved = [array for array in loop.reads.split() + loop.writes.split() if array not in VECTORS]
    size = block.x.nbytes * len(moved)
    runners = [
        c_runner(library, name, block),
        copy_runner(library, size),
        numpy_runner(loop, block),
    ]
    seconds = [[(run(), run())[1] for run in runners] for _ in range(repeats)]
    own, copy, numpy = map(statistics.median, zip(*seconds))
    return dict(
        kilobytes=kilobytes,
        dtype=dtype,
        loop=name,
        elements_per_ns=block.x.size / own * 1e-9,
        gigabytes_per_s=size / own * 1e-9,
        times_the_copy=own / copy,
        times_numpy=own / numpy,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=LOOPS, default=list(LOOPS), metavar="LOOP")
    parser.add_argument("--small", type=int, default=128, help="kilobytes that fit into the cache")
    parser.add_argument("--large", type=int, default=65536, help="kilobytes that do not fit")
    parser.add_argument(
        "--repeats", type=int, default=7, help="ten times as many for the small operands"
    )
    results = Path(__file__).with_name("results")
    parser.add_argument("--json", type=Path, default=results / "kernels.json")
    args = parser.parse_args()
    print(f"{'kB':>6} {'dtype':>8} {'loop':>24} elements/ns   GB/s  x copy  x NumPy")
    table = []
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(Path(folder))
        for kilobytes, repeats in ((args.small, 10 * args.repeats), (args.large, args.repeats)):
            for dtype in TYPES:
                for name in args.only:
                    row = measure(library, name, dtype, kilobytes, repeats)
                    line = "{:6d} {:>8} {:>24} {:11.3f} {:6.1f} {:7.2f} {:8.3f}"
                    print(line.format(*row.values()), flush=True)
                    table.append(row)
    args.json.parent.mkdir(exist_ok=True)
    args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
