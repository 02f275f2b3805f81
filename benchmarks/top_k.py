"""Top-k codes: the time of an epoch beside that of a dense code, and features of digits.

Time: one epoch of Adam in each of four implementations of the same network with one hidden layer,
in turns with a pause between them.

floor   the dense product of the encoder alone, by the kernel, on one thread
top_k   skae with activation='top_k'
relu    skae with activation='relu': all products are dense
torch   PyTorch: relu, topk, scatter_, and a dense decoder, as most sparse autoencoders do

Features: the squared error of test samples, the fraction of dead units, and the test error of a
logistic regression on codes of MNIST, which the autoencoder saw without labels. The penalty of the
logistic regression is chosen on the last 10,000 training samples; so were the settings of the
autoencoders.

    pip install -e '.[bench]'
    python benchmarks/top_k.py [--data mnist.npz] [--only time] [--threads 2] [--json out.json]
"""

import argparse
import json
import os
import statistics
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from training import in_turns, machine

from skae import DenoisingAutoencoder
from skae._kernel import _blas

try:
    import torch
except ImportError:
    torch = None

# Features, units, active units, and the goal for top_k / relu.
SHAPES = [(784, 1000, 25, 0.4), (384, 4096, 32, 1.0)]
N_SAMPLES, BATCH, RATE, REPEATS = 20_000, 200, 0.001, 5

UNITS, N_ACTIVE, TRANSFORM_N_ACTIVE = 1000, 25, 100
SETTINGS = {
    "max_iter": 60,
    "learning_rate": "cosine",
    "learning_rate_init": 0.001,
    "random_state": 0,
}
PENALTIES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
N_VALIDATION = 10_000
GOALS = {"error": 1.9, "squared_error": 7.5, "dead": 0.02, "seconds": 600}


# ---- time -----------------------------------------------------------------------------------


def floor(X, units):
    """Return a function that does the encoder's product for each mini-batch."""
    W = np.random.default_rng(0).normal(size=(units, X.shape[1])).astype(X.dtype)
    out = np.empty((BATCH, units), dtype=X.dtype)

    def epoch():
        for start in range(0, len(X), BATCH):
            _blas.matmul(X[start : start + BATCH], W, out, trans_b=True)

    return epoch


def of_skae(X, units, **params):
    model = DenoisingAutoencoder(
        units, corruption=None, batch_size=BATCH, learning_rate_init=RATE, **params
    )
    return partial(model.partial_fit, X)


def of_torch(X, units, n_active):
    encoder = torch.nn.Linear(X.shape[1], units)
    decoder = torch.nn.Linear(units, X.shape[1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=RATE)
    samples = torch.from_numpy(X)

    def epoch():
        for rows in torch.randperm(len(X)).split(BATCH):
            x = samples[rows]
            largest = torch.topk(torch.relu(encoder(x)), n_active, sorted=False)
            codes = torch.zeros(len(x), units).scatter_(1, largest.indices, largest.values)
            optimizer.zero_grad()
            torch.square(decoder(codes) - x).sum(dim=1).mean().backward()
            optimizer.step()

    return epoch


def measure_time(threads):
    rows = []
    for n_features, units, n_active, goal in SHAPES:
        X = np.random.default_rng(0).normal(size=(N_SAMPLES, n_features)).astype(np.float32)
        epochs = {
            "floor": floor(X, units),
            "top_k": of_skae(X, units, activation="top_k", n_active=n_active),
            "relu": of_skae(X, units),
        }
        if torch is not None:
            torch.set_num_threads(threads)
            epochs["torch"] = of_torch(X, units, n_active)
        with threadpool_limits(threads):
            for epoch in epochs.values():
                epoch()  # work done only the first time
            seconds = in_turns(epochs, REPEATS)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        shape = dict(n_features=n_features, units=units, n_active=n_active, goal=goal)
        rows.append(shape | dict(threads=threads, medians=medians, seconds=seconds))
        ratios = {name: f"{t / medians['relu']:.2f}" for name, t in medians.items()}
        print(f"{n_features} -> {units}, k = {n_active}, {threads} thread(s); times relu", ratios)
    return rows


# ---- features -------------------------------------------------------------------------------


def load(path):
    """Return training images, labels, test images and labels, with pixels in [0, 1]."""
    with np.load(path) as data:
        names = ("X_train", "y_train", "X_test", "y_test")
        X, y, X_test, y_test = (data[name] for name in names)
    return X.astype(np.float32) / 255, y, X_test.astype(np.float32) / 255, y_test


def probe_error(codes, y, test_codes, y_test):
    """Return the test error in % of a logistic regression, and its penalty."""
    scale = codes.std()
    codes, test_codes = codes / scale, test_codes / scale
    parts = slice(None, -N_VALIDATION), slice(-N_VALIDATION, None)

    def fitted(C, part):
        with threadpool_limits(1):  # the threads of SciPy's and NumPy's BLAS wait for each other
            return LogisticRegression(C=C, max_iter=300).fit(codes[part], y[part])

    scores = [fitted(C, parts[0]).score(codes[parts[1]], y[parts[1]]) for C in PENALTIES]
    best = PENALTIES[int(np.argmax(scores))]
    model = fitted(best, slice(None))
    return {"error": 100 * (1 - model.score(test_codes, y_test)), "C": best}


def measure_features(path):
    X, y, X_test, y_test = load(path)
    pca = PCA(N_ACTIVE, random_state=0).fit(X)
    lost = X_test - pca.inverse_transform(pca.transform(X_test))
    found = {}

    def note(name, row):
        found[name] = row
        print(name, {key: round(value, 4) for key, value in row.items()}, flush=True)

    note("pixels", probe_error(X, y, X_test, y_test))
    note("pca", {"squared_error": float(np.square(lost).sum(axis=1).mean())})
    for name, params in {
        "relu": {},
        "top_k": {"activation": "top_k", "n_active": N_ACTIVE},
    }.items():
        model = DenoisingAutoencoder(UNITS, **params, **SETTINGS)
        begin = time.perf_counter()
        model.fit(X)
        seconds = time.perf_counter() - begin
        row = {"seconds": seconds, "squared_error": -model.score(X_test)}
        codes = model.transform(X), model.transform(X_test)
        row |= probe_error(codes[0], y, codes[1], y_test)
        if name == "relu":
            note(name, row)
            continue
        row["dead"] = model.dead_fraction_
        note("top_k, 25 in transform", row)
        model.set_params(transform_n_active=TRANSFORM_N_ACTIVE)
        codes = model.transform(X), model.transform(X_test)
        note(name, row | probe_error(codes[0], y, codes[1], y_test))
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz, for features"
    )
    parser.add_argument("--only", choices=["time", "features"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    results = Path(__file__).with_name("results") / "top_k.json"
    parser.add_argument("--json", type=Path, default=results)
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = json.loads(args.json.read_text()) if args.json.exists() else {}
    if args.only != "features":
        found["time"] = [row for threads in args.threads for row in measure_time(threads)]
        found["machine"] = machine()
    if args.only != "time" and args.data:
        found["features"], found["goals"] = measure_features(args.data), GOALS
    args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
