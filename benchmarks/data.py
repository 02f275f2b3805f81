"""Data for the benchmarks."""

import numpy as np
from sklearn.datasets import load_digits


def load_images(path=None):
    """Return images (float32 pixels in [0, 1)) and labels: MNIST's training set or a substitute.

    `path` is the path of an mnist.npz with `X_train` and `y_train`. Without it, the substitute is
    scikit-learn's digits, enlarged and repeated to MNIST's width and 10,000 samples: suitable for
    timing, not for learning.
    """
    if path:
        with np.load(path) as data:
            return data["X_train"].astype(np.float32) / 256, data["y_train"]
    X, y = load_digits(return_X_y=True)
    images = np.kron(X.reshape(-1, 8, 8), np.ones((1, 4, 4)))  # 32 x 32
    images = images[:, 2:-2, 2:-2].reshape(len(X), -1).astype(np.float32) / 17
    repeats = -(-10_000 // len(X))
    return np.tile(images, (repeats, 1))[:10_000], np.tile(y, repeats)[:10_000]
