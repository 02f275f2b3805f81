"""Compare imputers on values removed from complete tables.

Features are standardised, and values are removed in five ways, three times each:

    10 %, 30 %, 50 %   of all values, completely at random (MCAR)
    MAR                in every other column, 30 % of the values, mostly where the previous,
                       complete column has large values
    MNAR               in every column, 30 % of the values, mostly large ones

Each imputer is fitted on the table that it imputes. Its error is the root mean squared error of
the imputed values, in standard deviations of the complete feature (NRMSE):

    skae       StackedAutoencoderImputer, at its defaults
    mean       SimpleImputer
    KNN        KNNImputer
    BR         IterativeImputer with BayesianRidge, similar to MICE
    ET         IterativeImputer with ExtraTreesRegressor, similar to missForest
    softImpute low-rank matrix completion (Mazumder, Hastie, Tibshirani 2010); the penalty is
               chosen on a tenth of the observed values

A cell of the table is the mean over the three masks. All imputers get standardised features, as
nearest neighbours and low rank depend on the scale. To save time, ET has 50 trees and
5 iterations.

    python benchmarks/imputation.py [--adbench DIR] [--tables wine,digits] [--methods skae,mean]

DIR contains tables of ADBench (Han et al., 2022) as .npz with `X`; without it, only datasets of
scikit-learn are measured. Results in results/imputation.json are reused, except for methods in
--again.
"""

import argparse
import os
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
from cells import measured
from jobs import load, names
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.preprocessing import StandardScaler

import skae

TABLES = ["wine", "diabetes", "breast cancer", "digits", "satellite", "letter"]
OF_ADBENCH = ["satellite", "letter"]
PATTERNS = ["10 %", "30 %", "50 %", "MAR", "MNAR"]
N_MASKS = 3
MOST_SAMPLES = 2_000
SHARE = 0.3  # of the values of a column that MAR and MNAR remove
STEEPNESS = 3.0  # slope of the probability of removal


# ---- tables and masks -------------------------------------------------------------------------


def table(name, adbench):
    """Return the standardised features that vary, of at most `MOST_SAMPLES` samples."""
    X = load(name, adbench, None)[0]
    X = X[np.random.default_rng(0).permutation(len(X))[:MOST_SAMPLES]].astype(np.float64)
    return StandardScaler().fit_transform(X[:, X.std(axis=0) > 0])


def mask(X, pattern, seed):
    """Return the mask of values to remove; each sample and feature keeps at least one value."""
    rng = np.random.default_rng([seed, PATTERNS.index(pattern)])
    if pattern == "MNAR":
        missing = larger_more_often(X, rng)
    elif pattern == "MAR":
        missing = np.zeros(X.shape, dtype=bool)
        missing[:, 1::2] = larger_more_often(X[:, : 2 * (X.shape[1] // 2) : 2], rng)
    else:
        missing = rng.random(X.shape) < float(pattern.split()[0]) / 100
    rows = missing.all(axis=1)
    missing[rows, rng.integers(X.shape[1], size=rows.sum())] = False
    columns = missing.all(axis=0)
    missing[rng.integers(len(X), size=columns.sum()), columns] = False
    return missing


def larger_more_often(X, rng):
    """Draw a mask of `SHARE` of each column, by a logistic function of the rank of the value."""
    ranks = (X + 1e-9 * rng.random(X.shape)).argsort(axis=0).argsort(axis=0) / len(X)
    odds = 1 / (1 + np.exp(-STEEPNESS * (2 * ranks - 1)))
    return rng.random(X.shape) < odds * SHARE / odds.mean(axis=0)


# ---- methods ------------------------------------------------------------------------------------


class SoftImpute:
    """Iterated soft-thresholded singular value decompositions, with decreasing penalties."""

    def __init__(self, n_penalties=20, n_rounds=100, tol=1e-4):
        self.n_penalties, self.n_rounds, self.tol = n_penalties, n_rounds, tol

    def fit_transform(self, X):
        observed = ~np.isnan(X)
        hidden = observed & (np.random.default_rng(12345).random(X.shape) < 0.1)
        values = np.where(observed, X, 0.0)
        largest = np.linalg.norm(values, 2)
        penalties = largest * np.logspace(0, -3, self.n_penalties)
        errors = [
            np.square(filled - X)[hidden].mean()
            for filled in self.path(np.where(hidden, np.nan, X), penalties)
        ]
        *_, filled = self.path(X, penalties[: int(np.argmin(errors)) + 1])
        return np.where(observed, X, filled)

    def path(self, X, penalties):
        observed = ~np.isnan(X)
        low_rank = np.zeros(X.shape)
        for penalty in penalties:
            for _ in range(self.n_rounds):
                u, s, v = np.linalg.svd(np.where(observed, X, low_rank), full_matrices=False)
                new = (u * np.maximum(s - penalty, 0)) @ v
                change = np.square(new - low_rank).sum() / max(np.square(low_rank).sum(), 1e-12)
                low_rank = new
                if change < self.tol**2:
                    break
            yield low_rank


def iterative(estimator, seed):
    return IterativeImputer(estimator, max_iter=10 if estimator is None else 5, random_state=seed)


METHODS = {
    "skae": lambda seed: skae.StackedAutoencoderImputer(random_state=seed),
    "mean": lambda seed: SimpleImputer(),
    "KNN": lambda seed: KNNImputer(),
    "BR": lambda seed: iterative(None, seed),
    "ET": lambda seed: iterative(ExtraTreesRegressor(50, random_state=seed), seed),
    "softImpute": lambda seed: SoftImpute(),
}
PEERS = [name for name in METHODS if name != "skae"]


def measure(name, pattern, seed, method, adbench=None):
    """Return the NRMSE, and the seconds of fit and transform."""
    X = table(name, adbench)
    missing = mask(X, pattern, seed)
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filled = METHODS[method](seed).fit_transform(np.where(missing, np.nan, X))
    seconds = time.perf_counter() - begin
    errors = ((filled - X) / X.std(axis=0))[missing]
    return {"nrmse": float(np.sqrt(np.mean(errors**2))), "seconds": seconds}


# ---- the table ----------------------------------------------------------------------------------


def cells(results):
    """Return the mean NRMSE over the masks, for each table, pattern and method."""
    found = {}
    for (name, pattern, _, method), values in results.items():
        found.setdefault((name, pattern), {}).setdefault(method, []).append(values["nrmse"])
    return {
        cell: {method: fmean(values) for method, values in row.items()}
        for cell, row in found.items()
    }


def summary(rows):
    """Return mean ranks, and counts of cells where skae beats all peers, or loses to the mean."""
    ranks = {method: [] for method in METHODS}
    best, worse = [], []
    for cell, row in rows.items():
        if set(row) != set(METHODS):
            continue
        ordered = sorted(row, key=row.get)
        for method in METHODS:
            ranks[method].append(1 + ordered.index(method))
        if ordered[0] == "skae":
            best.append(cell)
        if row["skae"] > row["mean"]:
            worse.append(cell)
    means = {method: fmean(found) for method, found in ranks.items() if found}
    return means, best, worse


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--adbench", default=os.environ.get("SKAE_ADBENCH"), metavar="DIR")
    parser.add_argument("--tables", type=names, default=TABLES, help=",".join(TABLES))
    parser.add_argument("--methods", type=names, default=list(METHODS), help=",".join(METHODS))
    parser.add_argument("--again", type=names, default=[], help="methods to measure anew")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_name("results") / "imputation.json"
    )
    args = parser.parse_args()
    if not args.adbench:
        args.tables = [name for name in args.tables if name not in OF_ADBENCH]
    tasks = [
        (name, pattern, seed, method)
        for method in args.methods
        for name in args.tables
        for pattern in PATTERNS
        for seed in range(N_MASKS)
    ]
    results = measured(
        args.json,
        tasks,
        partial(measure, adbench=args.adbench),
        again=lambda task: task[-1] in args.again,
        n_jobs=args.jobs,
    )
    rows = cells(results)
    print(f"{'':24s}" + "".join(f"{method:>12s}" for method in METHODS))
    for (name, pattern), row in rows.items():
        values = "".join(f"{row[m]:12.3f}" if m in row else " " * 12 for m in METHODS)
        print(f"{name + ', ' + pattern:24s}{values}")
    means, best, worse = summary(rows)
    if means:
        print(f"{'mean rank':24s}" + "".join(f"{means[m]:12.2f}" for m in METHODS))
        print(f"skae is better than every peer in {len(best)} of {len(rows)} cells")
        print(f"worse than the mean: {', '.join(map(', '.join, worse)) or 'nowhere'}")


if __name__ == "__main__":
    main()
