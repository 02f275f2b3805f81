"""Check that skae reaches the cross-entropy of the Theano tutorial's denoising autoencoder.

Settings of the tutorial: 784-500, logistic, tied weights, cross-entropy, plain SGD with a learning
rate of 0.1, batches of 20, 15 epochs without shuffling, on the first 50,000 samples of MNIST
divided by 256; without corruption and with 30 % masking. The script prints the mean cross-entropy
per sample over the first 10,000 samples, for clean and for corrupted input.

    python benchmarks/tutorial.py --data mnist.npz
"""

import argparse
import os
import time

import numpy as np
from data import load_images

from skae import DenoisingAutoencoder

GOALS = {0.0: 53.0, 0.3: 66.5}


def corrupted(X, level, seed=1):
    return X * (np.random.default_rng(seed).random(X.shape) >= level).astype(X.dtype)


def cross_entropy(x, z):
    """Return nats per sample; the plain formula suffices, as outputs are far from saturation."""
    z = np.clip(z.astype(np.float64), 1e-12, 1 - 1e-12)
    return float(-(x * np.log(z) + (1 - x) * np.log1p(-z)).sum(axis=1).mean())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), required=False)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.data:
        parser.error("this recipe needs MNIST: --data mnist.npz, or SKAE_DATA")
    X = load_images(args.data)[0][:50_000]
    for level, goal in GOALS.items():
        dae = DenoisingAutoencoder(
            n_components=500,
            activation="logistic",
            loss="cross_entropy",
            tied_weights=True,
            corruption="masking",
            corruption_level=level,
            solver="sgd",
            momentum=0.0,
            learning_rate_init=0.1,
            batch_size=20,
            max_iter=15,
            shuffle=False,
            random_state=args.seed,
        )
        begin = time.perf_counter()
        dae.fit(X)
        seconds = time.perf_counter() - begin
        first = X[:10_000]
        clean = -dae.score(first)
        noisy = cross_entropy(first, dae.inverse_transform(dae.transform(corrupted(first, level))))
        reached = noisy if level else clean
        print(
            f"corruption {level:.0%}: cross-entropy per sample {clean:.2f} (clean input), "
            f"{noisy:.2f} (corrupted input); goal {goal}: "
            f"{'reached' if reached <= goal else 'MISSED'}; "
            f"last epoch's mean loss {dae.loss_:.2f}; {seconds / 60:.1f} min"
        )


if __name__ == "__main__":
    main()
