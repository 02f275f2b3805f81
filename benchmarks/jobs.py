"""Measure the typical uses of an autoencoder in one table over many data sets.

Each setting is fitted on the training part of every set, and measured on the held-out part:

    R2         of the reconstruction, over all features; 0 is the mean of the training samples
    denoise    Gaussian noise of 0.3 standard deviations added to each feature: squared error of
               the reconstruction against the clean samples, divided by that of the noisy ones
    pixels     the same with noise of 0.3 of the range of the pixels, which is more
    LR         accuracy of logistic regression on the codes, on standardised codes, and on the
               features beside the codes, with max_iter=1000
    AUC        of `score_samples`, trained on half of the normal samples, at most 1,000, and
               tested on the others and the anomalies; mean of three draws
    seconds    of a fit on all samples, and its ratio to `MLPClassifier().fit`, in turns

Baselines are the raw features, PCA with 95 % of the variance, and for the AUC the mean distance to
five neighbours (kNN). Folds are stratified and shuffled: 5, or 3 beyond 3,000
samples, or one split beyond 20,000. Features are standardised, pixels divided by their maximum.

Defaults are chosen on one half of the sets; the other half is "untouched".

    python benchmarks/jobs.py [--adbench DIR] [--data mnist.npz] [--jobs r2,novelty]
        [--setting "StackedAutoencoder(hidden_layer_sizes=(256, 128), max_iter='auto')"] ...

DIR contains tables of ADBench (Han et al., 2022) as .npz with `X` and `y` (1 = anomaly); mnist.npz
has `X_train` and `y_train`. Without them, only datasets of scikit-learn are measured.
"""

import argparse
import ast
import json
import os
import sys
import time
import warnings
from pathlib import Path
from statistics import fmean, median

import numpy as np
import sklearn.datasets
from joblib import Parallel, delayed, parallel_config
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skae

SETTINGS = {
    "defaults": "StackedAutoencoder()",
    "single layer": "DenoisingAutoencoder()",
}

# Tables from the same source are in the same half, except for MNIST, whose subsets are disjoint.
CHOSEN_ON = [
    *["digits", "wine", "diabetes", "MNIST 2,000"],
    *["Cardiotocography", "Ionosphere", "SpamBase", "Waveform", "breastw", "cardio", "letter"],
    *["optdigits", "shuttle", "wine, ADBench"],
]
UNTOUCHED = [
    *["breast cancer", "iris", "mixture 100,000", "MNIST 10,000"],
    *["PageBlocks", "WDBC", "WPBC", "annthyroid", "mammography", "pendigits", "satellite"],
    *["satimage-2", "thyroid", "vowels"],
]
SHIPPED = ["digits", "wine", "diabetes", "breast cancer", "iris", "mixture 100,000"]
MNIST = {"MNIST 2,000": slice(0, 2_000), "MNIST 10,000": slice(2_000, 12_000)}
PIXELS = ["digits", *MNIST]
# All tables of ADBench are used for the AUC, and these also for the other jobs, as logistic
# regression needs more than a few samples of each class.
TABLES = ["Cardiotocography", "Ionosphere", "SpamBase", "breastw", "WPBC", "satellite"]
UNLABELLED = ["shuttle", "annthyroid", "mammography"]
# Normal classes, for the AUC without ADBench.
NORMAL = {"digits": range(5), "wine": [0, 1], "breast cancer": [1]}

JOBS = ["r2", "denoise", "lr", "novelty", "time"]
NOISE = 0.3
N_SPLITS = 3  # of the normal samples, for the AUC
COLUMNS = {
    "r2": ["R2", "R2 PCA"],
    "denoise": ["denoise", "denoise PCA", "pixels", "pixels PCA"],
    "lr": ["LR", "LR std", "LR both", "LR raw", "LR PCA"],
    "novelty": ["AUC", "AUC kNN", "AUC PCA"],
    "time": ["seconds", "/ MLP"],
}
# The worst set is shown for these columns, by the difference to the baseline.
GAPS = {"R2": None, "LR": "LR raw", "LR std": "LR raw", "LR both": "LR raw", "AUC": "AUC kNN"}
# Goals: column, set, bound, and whether it is an upper bound. Instead of a set, "mean" is the mean
# over all sets, "worst" the worst difference to the baseline, and "worst untouched" the same on
# the untouched half.
GOALS = [
    ("R2", "digits", 0.85, False),
    ("R2", "breast cancer", 0.90, False),
    ("R2", "wine", 0.85, False),
    ("R2", "worst", 0.0, False),
    ("pixels", "digits", 0.45, True),
    ("LR", "digits", 0.975, False),
    ("LR", "worst untouched", -0.01, False),
    ("AUC", "mean", 0.89, False),
    ("AUC", "worst", -0.1, False),
    ("/ MLP", "breast cancer", 1.5, True),
    ("/ MLP", "digits", 2.0, True),
]


# ---- data ---------------------------------------------------------------------------------


def load(name, adbench, mnist):
    """Return X, y of a set; the features are not scaled, except for pixels."""
    if name in MNIST:
        with np.load(mnist) as data:
            X, y = data["X_train"][MNIST[name]], data["y_train"][MNIST[name]]
            return X.astype(np.float32) / 255, y
    if name.startswith("mixture"):
        X, y = sklearn.datasets.make_classification(
            100_000, 30, n_informative=10, n_redundant=15, n_classes=5, random_state=0
        )
        return X.astype(np.float32), y
    if name in SHIPPED:
        X, y = getattr(sklearn.datasets, f"load_{name.replace(' ', '_')}")(return_X_y=True)
        if name == "diabetes":
            y = (y > np.median(y)).astype(int)
        return (X / 16 if name == "digits" else X), y
    with np.load(Path(adbench, name.removesuffix(", ADBench") + ".npz")) as data:
        return data["X"].astype(np.float64), data["y"].astype(int)


def sets_of(job, adbench, mnist):
    """Return the names of the sets that a job is measured on."""
    if job == "novelty":
        tables = [*CHOSEN_ON, *UNTOUCHED]
        return [n for n in tables if n not in SHIPPED and n not in MNIST] if adbench else [*NORMAL]
    labelled = SHIPPED + TABLES * bool(adbench) + list(MNIST) * bool(mnist)
    return labelled + UNLABELLED * (bool(adbench) and job != "lr")


def scaled(name, train, *others):
    """Standardise with statistics of the training samples, except for pixels."""
    if name in PIXELS:
        return train, *others
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), *map(scaler.transform, others)


def folds(X, y, seed, n_folds):
    """Yield indices of training and test samples."""
    if len(X) > 20_000:
        yield train_test_split(np.arange(len(X)), test_size=0.2, stratify=y, random_state=seed)
        return
    n_folds = n_folds or (5 if len(X) <= 3_000 else 3)
    yield from StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, y)


# ---- settings -----------------------------------------------------------------------------


def make(text, seed):
    """Return the estimator that a text such as "StackedAutoencoder(max_iter=5)" describes."""
    call = ast.parse(text, mode="eval").body
    args = [ast.literal_eval(arg) for arg in call.args]
    params = {"random_state": seed}
    params.update({word.arg: ast.literal_eval(word.value) for word in call.keywords})
    return getattr(skae, call.func.id)(*args, **params)


class Principal:
    """PCA with the methods of an autoencoder that are measured here."""

    def fit(self, X):
        self.pca = PCA(0.95, svd_solver="full").fit(X)
        return self

    def transform(self, X):
        return self.pca.transform(X)

    def reconstruct(self, X):
        return self.pca.inverse_transform(self.pca.transform(X))

    def score_samples(self, X):
        return -np.square(X - self.reconstruct(X)).sum(axis=1)


def reconstruct(model, X):
    if hasattr(model, "reconstruct"):
        return model.reconstruct(X)
    return model.inverse_transform(model.transform(X))


# ---- jobs ---------------------------------------------------------------------------------


def error(X, Z):
    return float(np.square(X - Z, dtype=np.float64).sum())


def accuracy(A, y, B, z, n_labels):
    A, y = A[:n_labels], y[:n_labels]
    return LogisticRegression(max_iter=1000).fit(A, y).score(B, z)


def measure_folds(text, name, jobs, seed, n_folds, n_labels, paths):
    """Return R2, denoise and LR of a setting, or of the baselines (text is None)."""
    X, y = load(name, *paths)
    found = []
    for k, (train, test) in enumerate(folds(X, y, seed, n_folds)):
        rng = np.random.default_rng([seed, k])
        train = rng.permutation(train)
        A, B = scaled(name, X[train], X[test])
        begin = time.perf_counter()
        model = (Principal() if text is None else make(text, seed)).fit(A)
        values = {"seconds per fold": time.perf_counter() - begin}
        if "r2" in jobs:
            values["R2"] = 1 - error(B, reconstruct(model, B)) / error(B, A.mean(axis=0))
        if "denoise" in jobs:
            noise = rng.standard_normal(B.shape, dtype=np.float32)
            scales = {"denoise": A.std(axis=0), **({"pixels": 1.0} if name in PIXELS else {})}
            for column, scale in scales.items():
                noisy = (B + NOISE * scale * noise).astype(B.dtype)
                values[column] = error(B, reconstruct(model, noisy)) / error(B, noisy)
        if "lr" in jobs and name not in UNLABELLED:
            features = {"LR": (model.transform(A), model.transform(B))}
            if text is None:
                features["LR raw"] = A, B
            else:
                codes, codes_test = features["LR"]
                scaler = StandardScaler().fit(codes)
                features["LR std"] = scaler.transform(codes), scaler.transform(codes_test)
                features["LR both"] = np.hstack([A, codes]), np.hstack([B, codes_test])
            for column, (a, b) in features.items():
                values[column] = accuracy(a, y[train], b, y[test], n_labels)
        found.append(values)
    means = {column: fmean(values[column] for values in found) for column in found[0]}
    if text is None:
        del means["seconds per fold"]
        return {c if c == "LR raw" else f"{c} PCA": value for c, value in means.items()}
    return means


def measure_novelty(text, name, seed, paths):
    """Return the AUC of a setting, or of the baselines (text is None)."""
    X, y = load(name, *paths)
    anomaly = ~np.isin(y, NORMAL[name]) if name in NORMAL else y == 1
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomaly))
    n = min(1_000, len(normal) // 2)
    test = np.concatenate([normal[n:], np.flatnonzero(anomaly)])
    A, B = scaled(name, X[normal[:n]], X[test])
    if text is None:
        distance = NearestNeighbors(n_neighbors=5).fit(A).kneighbors(B)[0].mean(axis=1)
        pca = -Principal().fit(A).score_samples(B)
        aucs = [roc_auc_score(anomaly[test], score) for score in (distance, pca)]
        return dict(zip(["AUC kNN", "AUC PCA"], map(float, aucs)))
    begin = time.perf_counter()
    model = make(text, seed).fit(A)
    seconds = time.perf_counter() - begin
    auc = roc_auc_score(anomaly[test], -model.score_samples(B))
    return {"AUC": float(auc), "AUC seconds": seconds}


def measure_time(text, name, seed, paths):
    """Return the seconds of a fit, and their ratio to those of MLPClassifier."""
    X, y = load(name, *paths)
    (X,) = scaled(name, X)
    ours, theirs = [], []
    while len(ours) < 5 and sum(ours) + sum(theirs) < 20:
        for model, target, times in (
            (make(text, seed), None, ours),
            (MLPClassifier(random_state=seed), y, theirs),
        ):
            begin = time.perf_counter()
            model.fit(X, target)
            times.append(time.perf_counter() - begin)
    return {"seconds": median(ours), "/ MLP": median(ours) / median(theirs)}


def measure(text, name, jobs, seed, n_folds, n_labels, paths):
    """Return the values of some jobs for one setting (None: the baselines), set and seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if jobs == ("time",):
            return measure_time(text, name, seed, paths)
        if jobs == ("novelty",):
            return measure_novelty(text, name, seed, paths)
        return measure_folds(text, name, jobs, seed, n_folds, n_labels, paths)


# ---- the run ------------------------------------------------------------------------------


def tasks(args, settings):
    """Return the tasks, without the times."""
    found, paths = [], (args.adbench, args.data)
    held_out = tuple(job for job in JOBS[:3] if job in args.jobs)
    for jobs in filter(None, (held_out, ("novelty",) * ("novelty" in args.jobs))):
        names = [*dict.fromkeys(n for job in jobs for n in sets_of(job, *paths))]
        n_splits = N_SPLITS if jobs == ("novelty",) else 1
        for name in filter(args.wanted, names):
            for seed in range(args.seeds * n_splits):
                found += [(text, name, jobs, seed) for text in (None, *settings.values())]
    sizes = {name: load(name, *paths)[0].size for name in {task[1] for task in found}}
    return sorted(found, key=lambda t: -sizes[t[1]] if t[2] == held_out else 0)


def run(args, settings):
    """Return a list of settings, sets, seeds and values."""
    paths, results = (args.adbench, args.data), []

    def add(text, name, seed, values):
        results.append({"setting": text, "set": name, "seed": seed, "values": values})
        if args.verbose:
            shown = ", ".join(f"{column} {value:.3f}" for column, value in values.items())
            print(f"{name}, {text or 'baselines'}: {shown}", file=sys.stderr, flush=True)

    kept = json.loads(args.cache.read_text()) if args.cache and args.cache.exists() else {}
    todo = []
    for task in tasks(args, settings):
        if task[0] is None and (values := kept.get(str((task, args.folds, args.labels)))):
            add(None, task[1], task[3], values)
        else:
            todo.append(task)
    with parallel_config("loky", inner_max_num_threads=1):
        found = Parallel(n_jobs=2, return_as="generator")(
            delayed(measure)(*task, args.folds, args.labels, paths) for task in todo
        )
        for task, values in zip(todo, found):
            add(task[0], task[1], task[3], values)
            if task[0] is None:
                kept[str((task, args.folds, args.labels))] = values
    if args.cache:
        args.cache.write_text(json.dumps(kept, indent=1) + "\n")
    if "time" in args.jobs:
        with threadpool_limits(1):
            for name in filter(args.wanted, sets_of("time", *paths)):
                for text in settings.values():
                    add(text, name, 0, measure(text, name, ("time",), 0, None, None, paths))
    return results


# ---- tables -------------------------------------------------------------------------------


def rows_of(results, text):
    """Return the values of each set, as means over the seeds, with the baselines."""
    values = {}
    for result in results:
        if result["setting"] in (None, text):
            for column, value in result["values"].items():
                values.setdefault(result["set"], {}).setdefault(column, []).append(value)
    names = [n for n in CHOSEN_ON + UNTOUCHED if n in values]
    return {n: {column: fmean(found) for column, found in values[n].items()} for n in names}


def average(rows, column, names=None):
    found = [row[column] for n, row in rows.items() if column in row and (not names or n in names)]
    return fmean(found) if found else None


def worst(rows, column, names=None):
    """Return the smallest difference to the baseline of the column, and its set."""
    base = GAPS[column]
    return min(
        (
            (row[column] - (row[base] if base else 0), name)
            for name, row in rows.items()
            if column in row and (not names or name in names)
        ),
        default=(None, ""),
    )


def goals(rows):
    """Return description, value and bound of a goal, and whether it is an upper bound."""
    found = []
    for column, where, bound, upper in GOALS:
        if where == "mean":
            value = average(rows, column)
        elif where.startswith("worst"):
            value = worst(rows, column, UNTOUCHED if "untouched" in where else None)[0]
        else:
            value = rows.get(where, {}).get(column)
        if value is not None:
            base = f" - {GAPS[column]}" if where.startswith("worst") and GAPS[column] else ""
            found.append([f"{column}{base}, {where}", value, bound, upper])
    return found


def cell(value, width=9, digits=3):
    return f"{'' if value is None else f'{value:.{digits}f}':>{width}s}"


def print_sets(rows, columns):
    """Print a row for each set, means, and which goals were met."""
    columns = [c for c in columns if any(c in row for row in rows.values())]
    print(f"{'':26s}" + "".join(f"{c:>13s}" for c in columns))
    for title, names in (("chosen on", CHOSEN_ON), ("untouched", UNTOUCHED)):
        for name in names:
            if name in rows:
                print(f"{name:26s}" + "".join(cell(rows[name].get(c), 13) for c in columns))
        if not any(name in rows for name in names):
            continue
        means = [cell(average(rows, c, names), 13) for c in columns]
        print(f"{'mean, ' + title:26s}" + "".join(means) + "\n")
    print(f"{'mean of all':26s}" + "".join(cell(average(rows, c), 13) for c in columns))
    for what, value, bound, upper in goals(rows):
        missed = value > bound if upper else value < bound
        sign = "<=" if upper else ">="
        print(f"{'MISSED' if missed else 'met':8s}{what}: {value:.3f} ({sign} {bound})")


def print_settings(results, settings, columns):
    """Print a row for each setting: means over both halves; then the worst sets of both."""
    table = {name: rows_of(results, text) for name, text in settings.items()}
    halves = (CHOSEN_ON, UNTOUCHED)
    baselines = [c for c in columns if c.endswith((" PCA", " raw", " kNN")) and any_has(table, c)]
    columns = [c for c in columns if c not in baselines and any_has(table, c)]
    gaps = [c for c in columns if c in GAPS]
    columns += [c for c in ("seconds per fold", "AUC seconds") if any_has(table, c)]

    def means(rows, names):
        return "".join(
            " /".join(cell(average(rows, c, half), 8) for half in halves).rjust(20) for c in names
        )

    print("Means over the sets chosen on / untouched")
    print("".join(f"{c:>20s}" for c in columns))
    for name, rows in table.items():
        print(f"{means(rows, columns)}  {name}")
    print("".join(f"{c:>20s}" for c in baselines))
    print(f"{means(next(iter(table.values())), baselines)}  (baselines)")
    if not gaps:
        return
    print("\nWorst difference to the baseline, on the sets chosen on and on the untouched")
    print("".join(f"{c + (f' - {GAPS[c]}' if GAPS[c] else ''):>40s}" for c in gaps))
    for name, rows in table.items():
        cells = [worst(rows, c, half) for c in gaps for half in halves]
        print("".join(f"{cell(gap, 7)} {where[:11]:>12s}" for gap, where in cells) + f"  {name}")


def any_has(table, column):
    return any(column in row for rows in table.values() for row in rows.values())


def names(text):
    return [name.strip() for name in text.split(";" if ";" in text else ",") if name.strip()]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--adbench", default=os.environ.get("SKAE_ADBENCH"), metavar="DIR")
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), metavar="mnist.npz")
    parser.add_argument("--jobs", type=names, default=JOBS, help=",".join(JOBS))
    parser.add_argument("--sets", type=names, help="names of sets; ';' between those with ','")
    parser.add_argument("--half", choices=["chosen", "untouched"], help="only this half")
    parser.add_argument("--largest", type=int, help="leave out sets with more samples")
    parser.add_argument("--folds", type=int, help="number of folds (default: see above)")
    parser.add_argument(
        "--labels", type=int, default=10_000, help="labels for logistic regression (10000)"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="settings of the file whose name contains this")
    parser.add_argument("--setting", action="append", default=[], help="instead of the file's")
    parser.add_argument("--cache", type=Path, help="file that keeps the baselines' values")
    parser.add_argument("--no-sets", action="store_true", help="only the table over settings")
    parser.add_argument(
        "--verbose", action="store_true", help="print each result when it is there"
    )
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    if unknown := set(args.jobs) - set(JOBS):
        parser.error(f"unknown jobs: {unknown}")
    half = {"chosen": CHOSEN_ON, "untouched": UNTOUCHED}.get(args.half)
    if args.sets and (unknown := set(args.sets) - {*CHOSEN_ON, *UNTOUCHED}):
        parser.error(f"unknown sets: {unknown}; there are {CHOSEN_ON + UNTOUCHED}")

    def wanted(name):
        if (args.sets and name not in args.sets) or (half and name not in half):
            return False
        return not args.largest or len(load(name, args.adbench, args.data)[0]) <= args.largest

    args.wanted = wanted
    settings = {name: text for name, text in SETTINGS.items() if args.only in name}
    if args.setting:
        settings = {text: text for text in args.setting}
    for text in settings.values():
        make(text, 0)  # raises the error of a mistake in a setting
    results = run(args, settings)
    columns = [column for job in JOBS if job in args.jobs for column in COLUMNS[job]]
    for name, text in settings.items():
        if not args.no_sets:
            print(f"\n{name}" + (f": {text}" if name != text else ""))
            print_sets(rows_of(results, text), columns)
    if len(settings) > 1 or args.no_sets:
        print()
        print_settings(results, settings, columns)
    if args.json:
        found = {
            "settings": settings,
            "chosen_on": CHOSEN_ON,
            "untouched": UNTOUCHED,
            "goals": {name: goals(rows_of(results, text)) for name, text in settings.items()},
            "results": results,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
