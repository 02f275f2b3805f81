"""Compare novelty detectors on many tables.

They are trained on half of the normal samples, at most 1,000, and tested on the other normal
samples and the anomalies. With contamination, this share of the training samples are anomalies,
which are removed from the test samples. Features are standardised with statistics of the training
samples. Each table is drawn three times.

    skae       StackedAutoencoderDetector, at its defaults
    PyOD       PyOD's AutoEncoder, at its defaults
    kNN        mean distance to five neighbours
    LOF        LocalOutlierFactor(novelty=True)
    IForest    IsolationForest
    OCSVM      OneClassSVM
    PCA        squared error of the reconstruction by components with 95 % of the variance

The table shows the area under the ROC curve. For skae it also shows the share of normal test
samples that `predict` flags (5 % by default), and how often the largest error of `feature_scores`
is that of a feature that was moved by three standard deviations in a normal test sample.

    python benchmarks/novelty.py [--adbench DIR] [--methods skae,kNN] [--contamination 0 0.05]
    python benchmarks/novelty.py --times    seconds of `fit`, skae and PyOD in turns

DIR contains tables of ADBench (Han et al., 2022) as .npz with `X` and `y` (1 = anomaly); without
it, only datasets of scikit-learn are measured. Results in results/novelty.json are reused, except
for methods in --again.
"""

import argparse
import json
import os
import statistics
import warnings
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
from cells import measured
from jobs import CHOSEN_ON, MNIST, NORMAL, SHIPPED, UNTOUCHED, Principal, load, names
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from training import in_turns, machine

from skae import StackedAutoencoderDetector

OF_ADBENCH = [n for n in [*CHOSEN_ON, *UNTOUCHED] if n not in SHIPPED and n not in MNIST]
SHARES = [0.0, 0.01, 0.05, 0.1]  # of anomalies among the training samples
N_DRAWS, MOST_SAMPLES, MOVED_BY = 3, 1_000, 3.0


def parts(name, share, seed, adbench):
    """Return standardised training samples, test samples, and the mask of test anomalies."""
    X, y = load(name, adbench, None)
    anomaly = ~np.isin(y, NORMAL[name]) if name in NORMAL else y == 1
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(~anomaly))
    n_train = min(MOST_SAMPLES, len(normal) // 2)
    other = rng.permutation(np.flatnonzero(anomaly))
    n_bad = min(round(share * n_train), len(other) // 2)
    train = np.concatenate([normal[: n_train - n_bad], other[:n_bad]])
    test = np.concatenate([normal[n_train:], other[n_bad:]])
    scaler = StandardScaler().fit(X[train])
    return scaler.transform(X[train]), scaler.transform(X[test]), anomaly[test]


# ---- methods: each is fitted, and returns a function that scores samples (higher: more normal) --


def fit_pyod(A, seed):
    from pyod.models.auto_encoder import AutoEncoder

    model = AutoEncoder(random_state=seed, verbose=0).fit(A)
    return lambda B: -model.decision_function(B)


def fit_knn(A, seed):
    neighbours = NearestNeighbors(n_neighbors=5).fit(A)
    return lambda B: -neighbours.kneighbors(B)[0].mean(axis=1)


METHODS = {
    "skae": lambda A, seed: StackedAutoencoderDetector(random_state=seed).fit(A).score_samples,
    "PyOD": fit_pyod,
    "kNN": fit_knn,
    "LOF": lambda A, seed: LocalOutlierFactor(novelty=True).fit(A).score_samples,
    "IForest": lambda A, seed: IsolationForest(random_state=seed).fit(A).score_samples,
    "OCSVM": lambda A, seed: OneClassSVM().fit(A).score_samples,
    "PCA": lambda A, seed: Principal().fit(A).score_samples,
}


def measure(name, share, seed, method, adbench=None):
    """Return the area under the curve; for skae, on clean samples, also the other numbers."""
    A, B, anomaly = parts(name, share, seed, adbench)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = METHODS[method](A, seed)
        values = {"auc": float(roc_auc_score(~anomaly, np.nan_to_num(score(B))))}
    values["n_train"] = len(A)
    if method == "skae" and share == 0:
        detector, normal = score.__self__, B[~anomaly]
        values["flagged"] = float(np.mean(detector.predict(normal) == -1))
        varies = np.flatnonzero(A.std(axis=0) > 0)
        rng = np.random.default_rng(seed)
        moved = normal[rng.permutation(len(normal))[:MOST_SAMPLES]]
        rows, columns = np.arange(len(moved)), rng.choice(varies, len(moved))
        moved[rows, columns] += MOVED_BY * rng.choice([-1, 1], len(moved))
        first = detector.feature_scores(moved).argmin(axis=1)
        values["first"] = float(np.mean(first == columns))
    return values


def times(tables, adbench, path):
    """Measure the seconds of `fit` of skae and PyOD, in turns, with all threads."""
    rows = {}
    for name in tables:
        A, _, _ = parts(name, 0.0, 0, adbench)
        fits = {who: partial(METHODS[who], A, 0) for who in ("skae", "PyOD")}
        for fit in fits.values():
            fit()
        seconds = {who: statistics.median(found) for who, found in in_turns(fits, 5).items()}
        rows[name] = {"n_train": len(A), **seconds}
        ratio = seconds["skae"] / seconds["PyOD"]
        print(f"{name:20s}{len(A):6d}{seconds['skae']:8.3f}{seconds['PyOD']:8.3f}{ratio:8.2f}")
    total = {who: sum(row[who] for row in rows.values()) for who in ("skae", "PyOD")}
    print(
        f"{'all':26s}{total['skae']:8.3f}{total['PyOD']:8.3f}{total['skae'] / total['PyOD']:8.2f}"
    )
    path.write_text(json.dumps({"settings": machine(), "rows": rows}, indent=1) + "\n")


# ---- the table ----------------------------------------------------------------------------------


def rows_of(results, share):
    """Return means over the draws for each table: the area of each method, and skae's numbers."""
    found = {}
    for (name, of, _, method), values in results.items():
        if of == share:
            row = found.setdefault(name, {})
            row.setdefault(method, []).append(values["auc"])
            for extra in ("flagged", "first", "n_train"):
                if method == "skae" and extra in values:
                    row.setdefault(extra, []).append(values[extra])
    return {name: {k: fmean(values) for k, values in row.items()} for name, row in found.items()}


def show(results, methods, shares):
    for share in shares:
        rows = rows_of(results, share)
        print(f"\n{100 * share:g} % of the training samples are anomalies")
        columns = [*methods, *(["n_train", "flagged", "first"] if share == 0 else [])]
        print(f"{'':20s}" + "".join(f"{c:>9s}" for c in columns))
        for name, row in rows.items():
            cells = (f"{row[c]:9.3f}" if c in row else " " * 9 for c in columns)
            print(f"{name:20s}" + "".join(cells))
        means = (fmean(row[c] for row in rows.values() if c in row) for c in columns)
        print(f"{'mean':20s}" + "".join(f"{value:9.3f}" for value in means))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--adbench", default=os.environ.get("SKAE_ADBENCH"), metavar="DIR")
    parser.add_argument("--tables", type=names, help="names of sets; ';' between those with ','")
    parser.add_argument("--methods", type=names, default=list(METHODS), help=",".join(METHODS))
    parser.add_argument("--again", type=names, default=[], help="methods to measure anew")
    parser.add_argument("--contamination", type=float, nargs="+", default=SHARES)
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--times", action="store_true", help="measure the time of fits")
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).with_name("results"), metavar="DIR"
    )
    args = parser.parse_args()
    tables = args.tables or [*(OF_ADBENCH if args.adbench else []), *NORMAL]
    if args.times:
        times(tables, args.adbench, args.results / "novelty_times.json")
        return
    tasks = [
        (name, share, seed, method)
        for method in args.methods
        for share in args.contamination
        for name in tables
        for seed in range(N_DRAWS)
    ]
    results = measured(
        args.results / "novelty.json",
        tasks,
        partial(measure, adbench=args.adbench),
        again=lambda task: task[-1] in args.again,
        n_jobs=args.jobs,
    )
    show(results, args.methods, args.contamination)


if __name__ == "__main__":
    main()
