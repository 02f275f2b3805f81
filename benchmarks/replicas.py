"""Compare `skae.dask.fit` with an ordinary fit: loss of accuracy, and speed.

Three tables on MNIST, 50,000 samples of its training set:

    loss       of the training samples without corruption, relative to the fit of one network with
               the same number of epochs, for several numbers of replicas; and the loss of the last
               epoch, on corrupted samples while the weights change
    error      of the classifier on the other 10,000 samples, in percent
    time       per epoch with one process, with two, and without Dask; one thread each

    python benchmarks/replicas.py [--data mnist.npz] [--replicas 2,4,8] [--only loss] [--json F]

The replicas share two processes; the results do not depend on the number of processes.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median

import dask.array as da
from data import load_images
from distributed import Client, LocalCluster
from sklearn.base import clone
from threadpoolctl import threadpool_limits

import skae.dask
from skae import DenoisingAutoencoder, StackedAutoencoderClassifier

N_TRAIN, N_BLOCKS = 50_000, 8
SGD = dict(
    activation="logistic",
    loss="cross_entropy",
    tied_weights=True,
    solver="sgd",
    momentum=0.0,
    learning_rate_init=0.1,
    batch_size=20,
    alpha=0.0,
    corruption="masking",
    corruption_level=0.3,
)
LAYERS = {
    "784-500, SGD, 6 epochs": DenoisingAutoencoder(500, **SGD, max_iter=6, random_state=0),
    "784-64, SGD, 15 epochs": DenoisingAutoencoder(64, **SGD, max_iter=15, random_state=0),
    "defaults, 10 epochs": DenoisingAutoencoder(max_iter=10, random_state=0),
    "defaults": DenoisingAutoencoder(random_state=0),
}
CLASSIFIERS = {
    "500-250, 10 epochs": StackedAutoencoderClassifier(
        (500, 250), pretrain=True, max_iter=10, learning_rate="cosine", random_state=0
    ),
}


def cluster(n_workers):
    return LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0")


def in_blocks(X, n_blocks=N_BLOCKS):
    return da.from_array(X, chunks=(len(X) // n_blocks, X.shape[1]))


def fitted(estimator, X, y, replicas):
    """Fit the estimator here, or with replicas."""
    if replicas is None:
        with threadpool_limits(1):
            return clone(estimator).fit(X, y)
    blocks = in_blocks(X, max(N_BLOCKS, replicas))
    return skae.dask.fit(clone(estimator), blocks, y, replicas=replicas)


def losses(X, args):
    print(f"{'loss, relative':26s}" + "".join(f"{n:>9d} replicas" for n in args.replicas))
    rows = {}
    for name, layer in LAYERS.items():
        one, row = fitted(layer, X, None, None), {}
        for n in args.replicas:
            other = fitted(layer, X, None, n)
            row[n] = [other.score(X) / one.score(X) - 1, other.loss_ / one.loss_ - 1]
        rows[name] = row
        shown = (f"{100 * clean:+8.1f} ({100 * last:+.1f}) %" for clean, last in row.values())
        print(f"{name:26s}" + "".join(shown), flush=True)
    return rows


def errors(X, y, X_test, y_test, args):
    print(f"{'test error':26s}      one" + "".join(f"{n:>5d} replicas" for n in args.replicas))
    rows = {}
    for name, classifier in CLASSIFIERS.items():
        rows[name] = {
            n: 100 * (1 - fitted(classifier, X, y, n).score(X_test, y_test))
            for n in [None, *args.replicas]
        }
        print(
            f"{name:26s}" + "".join(f"{error:8.2f} %" for error in rows[name].values()), flush=True
        )
    return {name: {str(n): error for n, error in row.items()} for name, row in rows.items()}


def seconds_an_epoch(fit):
    """Return the time per epoch of five more epochs."""
    times = []
    for max_iter in (1, 6):
        begin = time.perf_counter()
        fit(max_iter)
        times.append(time.perf_counter() - begin)
    return (times[1] - times[0]) / 5


def times(X, args):
    layer, found = LAYERS["784-500, SGD, 6 epochs"], {}
    for _ in range(args.repeats):
        for n_workers in (1, 2):
            with cluster(n_workers) as workers, Client(workers) as client:
                blocks = client.persist(in_blocks(X))
                seconds = seconds_an_epoch(
                    lambda n, X=blocks: skae.dask.fit(clone(layer).set_params(max_iter=n), X)
                )
            found.setdefault(f"{n_workers} process(es)", []).append(seconds)
            time.sleep(1)
        with threadpool_limits(1):
            seconds = seconds_an_epoch(lambda n: clone(layer).set_params(max_iter=n).fit(X))
        found.setdefault("without Dask", []).append(seconds)
    medians = {name: median(values) for name, values in found.items()}
    for name, seconds in medians.items():
        print(f"{name:26s}{seconds:8.2f} s an epoch")
    ratios = [a / b for a, b in zip(found["1 process(es)"], found["2 process(es)"])]
    print(f"one / two: {median(ratios):.2f} (goal 1.6), {min(ratios):.2f} to {max(ratios):.2f}")
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz")
    parser.add_argument(
        "--replicas", type=lambda text: [int(n) for n in text.split(",")], default=[2, 4, 8]
    )
    parser.add_argument("--only", nargs="+", default=["loss", "error", "time"])
    parser.add_argument("--repeats", type=int, default=5, help="of the times (5)")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_name("results") / "replicas.json"
    )
    args = parser.parse_args()
    X, y = load_images(args.data)
    n_train = min(N_TRAIN, len(X) * 4 // 5)
    X, X_test, y, y_test = X[:n_train], X[n_train:], y[:n_train], y[n_train:]
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    if {"loss", "error"} & {*args.only}:
        with cluster(2) as workers, Client(workers):
            if "loss" in args.only:
                results["loss"] = losses(X, args)
            if "error" in args.only:
                results["error"] = errors(X, y, X_test, y_test, args)
    if "time" in args.only:
        results["time"] = times(X, args)
    args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
