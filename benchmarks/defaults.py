"""Compare settings of a two-layer stack on the digits, to choose the defaults.

Five stratified folds without shuffling, scaled by `MinMaxScaler`. Logistic regression and SVC with
default parameters (except max_iter) are fitted on the codes, and on raw pixels and codes combined.
Each setting is fitted with several seeds; the table shows the mean and the worst accuracy. The
defaults of skae were chosen with this table, so these accuracies are not an estimate for other
data.

    python benchmarks/defaults.py [--seeds 2] [--only tied] [--json out.json]
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from skae import StackedAutoencoder

# Parameters that differ from the defaults.
SETTINGS = {
    "defaults": {},
    "tied": {"tied_weights": True},
    "tanh": {"activation": "tanh"},
    "logistic, tied, cross-entropy": {
        "activation": "logistic",
        "loss": "cross_entropy",
        "tied_weights": True,
    },
    "logistic, tied": {"activation": "logistic", "tied_weights": True},
    "corruption 0.3": {"corruption_level": 0.3},
    "salt and pepper 0.3": {"corruption": "salt_and_pepper", "corruption_level": 0.3},
    "sizes (256, 256)": {"hidden_layer_sizes": (256, 256)},
    "sizes (1000, 500)": {"hidden_layer_sizes": (1000, 500)},
    "batches of 100, 20 epochs": {"batch_size": 100, "max_iter": 20},
    "5 epochs": {"max_iter": 5},
}
COLUMNS = ["LR codes", "LR raw+codes", "SVC codes", "SVC raw+codes"]


def accuracies(params, seed):
    """Return the mean accuracy over the folds for each column, and the time to fit the stack."""
    X, y = load_digits(return_X_y=True)
    scores, seconds = [], 0.0
    for train, test in StratifiedKFold(5).split(X, y):
        scaler = MinMaxScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        begin = time.perf_counter()
        sae = StackedAutoencoder(**{"random_state": seed, **params}).fit(A)
        seconds += time.perf_counter() - begin
        codes, codes_test = sae.transform(A), sae.transform(B)
        both, both_test = np.hstack([A, codes]), np.hstack([B, codes_test])
        scores.append(
            [
                model.fit(a, y[train]).score(b, y[test])
                for model, a, b in (
                    (LogisticRegression(max_iter=200), codes, codes_test),
                    (LogisticRegression(max_iter=200), both, both_test),
                    (SVC(), codes, codes_test),
                    (SVC(), both, both_test),
                )
            ]
        )
    return np.mean(scores, axis=0), seconds


def quietly(params, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return accuracies(params, seed)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument(
        "--json", type=Path, default=None, help="also write the table to this file"
    )
    args = parser.parse_args()
    print(f"{'setting':32s}" + "".join(f"{name:>20s}" for name in [*COLUMNS, "seconds per fit"]))
    table = {}
    for name, params in SETTINGS.items():
        if args.only not in name:
            continue
        runs = Parallel(n_jobs=2)(delayed(quietly)(params, seed) for seed in range(args.seeds))
        scores = np.array([run[0] for run in runs])
        seconds = np.mean([run[1] for run in runs]) / 5
        cells = [f"{m:.4f} ({w:.4f})" for m, w in zip(scores.mean(axis=0), scores.min(axis=0))]
        print(
            f"{name:32s}" + "".join(f"{cell:>20s}" for cell in cells) + f"{seconds:20.2f}",
            flush=True,
        )
        table[name] = {"params": params, "scores": scores.tolist(), "seconds": seconds}
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
