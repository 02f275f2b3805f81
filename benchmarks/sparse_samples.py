"""How much time fine-tuning takes on sparse samples, as a ratio to the same samples in an array.

The first layer only uses the features that are not zero if X is sparse, with at most 5 % of
them. One epoch of a classifier with 500 hidden units (Adam, float32, not pretrained) is timed on a
CSR matrix and on the dense array with the same numbers, in turns with a pause between them.

    python benchmarks/sparse_samples.py [--threads 1 2] [--json out.json]
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import random_array
from threadpoolctl import threadpool_limits
from training import in_turns, machine

from skae import StackedAutoencoderClassifier

# Features and the density.
SHAPES = [(500, 0.01), (5_000, 0.01), (5_000, 0.05), (20_000, 0.0025)]
BATCHES, N_SAMPLES, UNITS, REPEATS = [20, 60, 200], 6_000, 500, 5


def measure(n_features, density, batch, threads):
    """Return the seconds of an epoch on a CSR matrix and on an array."""
    rng = np.random.default_rng(0)
    X = random_array(
        (N_SAMPLES, n_features), density=density, format="csr", dtype=np.float32, rng=rng
    )
    y = rng.integers(10, size=N_SAMPLES)
    epochs = {}
    for name, samples in (("csr", X), ("array", X.toarray())):
        model = StackedAutoencoderClassifier((UNITS,), pretrain=False, batch_size=batch)
        epochs[name] = partial(model.partial_fit, samples, y, classes=np.arange(10))
    with threadpool_limits(threads):
        for epoch in epochs.values():
            epoch()
        return in_turns(epochs, REPEATS)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    results = Path(__file__).with_name("results") / "sparse_samples.json"
    parser.add_argument("--json", type=Path, default=results)
    args = parser.parse_args()
    rows = []
    for n_features, density in SHAPES:
        for batch in BATCHES:
            for threads in args.threads:
                seconds = measure(n_features, density, batch, threads)
                medians = {name: statistics.median(times) for name, times in seconds.items()}
                row = dict(n_features=n_features, density=density, batch=batch, threads=threads)
                rows.append(row | dict(medians=medians))
                print(row, f"array / csr: {medians['array'] / medians['csr']:.2f}", flush=True)
    result = dict(settings=machine(), rows=rows)
    args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
