"""Is an epoch as fast as its matrix products alone?

The floor is the five bare products of one step of a tied autoencoder (two forward, one
back, two for the gradient), back to back over the same SciPy BLAS, and nothing else. An
epoch of skae does the same products and everything else: corruption, activations, loss,
update. Both run in turns in one process on the same rows; the ratio is of medians.

    python benchmarks/kernel_floor.py [--data mnist.npz] [--threads 1 2] [--json out.json]
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
from data import load_images
from threadpoolctl import threadpool_limits

from skae._kernel import _blas, _sgd
from skae._network import LOSSES, Network

N_HIDDEN, LEVEL = 500, 0.3
SOLVERS = {
    "sgd": dict(kind=_sgd.PLAIN_SGD, learning_rate=0.1),
    "momentum": dict(kind=_sgd.MOMENTUM, learning_rate=0.01, momentum=0.9, nesterov=True),
    "adam": dict(kind=_sgd.ADAM, learning_rate=0.001),
}


def make_floor(X, batch_size):
    """A function that does the bare products of an epoch over X."""
    n_features = X.shape[1]
    shapes = [(N_HIDDEN, n_features), (batch_size, N_HIDDEN), (batch_size, n_features)]
    weights, code, output = (np.full(shape, 1e-3, dtype=X.dtype) for shape in shapes)
    gradient = np.empty_like(weights)

    def epoch():
        for start in range(0, len(X) - batch_size + 1, batch_size):
            x = X[start : start + batch_size]
            _blas.matmul(x, weights, code, trans_b=True)
            _blas.matmul(code, weights, output)
            _blas.matmul(output, weights, code, trans_b=True)
            _blas.matmul(code, x, gradient, trans_a=True)
            _blas.matmul(code, output, gradient, trans_a=True)

    return epoch


def make_skae(X, batch_size, solver, team):
    """A function that trains for an epoch over X."""
    network = Network.autoencoder([X.shape[1], N_HIDDEN], ["logistic"], "cross_entropy", tied=True)
    network.corrupt("masking", LEVEL)
    solver = _sgd.Solver(**SOLVERS[solver])
    buffers = np.zeros((solver.n_buffers, network.n_params), dtype=X.dtype)
    buffers[0] = network.initialize(np.random.default_rng(0), X.dtype)
    workspace = network.workspace(batch_size, X.dtype)
    objective = _sgd.Objective(LOSSES["cross_entropy"])
    rows = np.arange(len(X))

    def epoch():
        args = (objective, solver, team, buffers, workspace, X, X, rows, rows, None, batch_size, 1)
        assert np.isfinite(_sgd.train(network.layers, *args)[0])

    return epoch


def interleaved_medians(functions, repeats):
    """Median seconds of each function, called in turns."""
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for function, times in zip(functions, seconds):
            begin = time.perf_counter()
            function()
            times.append(time.perf_counter() - begin)
    return [statistics.median(times) for times in seconds]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--json", type=Path, help="write the table there too")
    args = parser.parse_args()
    X = load_images(args.data)[0][: args.rows]
    print(f"{len(X)} rows of {X.shape[1]} features, {N_HIDDEN} units, tied, logistic,")
    print(f"cross-entropy, {LEVEL:.0%} masking; seconds an epoch, medians of {args.repeats}\n")
    print(f"{'threads':>7} {'dtype':>8} {'solver':>9} {'batch':>6} {'floor':>8} {'skae':>8} ratio")
    table = []
    for threads in args.threads:
        for dtype in (np.float32, np.float64):
            A = np.ascontiguousarray(X, dtype=dtype)
            for solver in SOLVERS:
                for batch_size in (20, 100, 500):
                    functions = make_floor(A, batch_size), make_skae(A, batch_size, solver)
                    with threadpool_limits(threads):
                        floor, skae = interleaved_medians(functions, args.repeats)
                    name = np.dtype(dtype).name
                    print(
                        f"{threads:7d} {name:>8} {solver:>9} {batch_size:6d} "
                        f"{floor:8.3f} {skae:8.3f} {skae / floor:5.2f}",
                        flush=True,
                    )
                    table.append(
                        dict(
                            threads=threads,
                            dtype=name,
                            solver=solver,
                            batch_size=batch_size,
                            floor=floor,
                            skae=skae,
                        )
                    )
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
