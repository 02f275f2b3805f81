"""Datasets of the table of errors, generated from their published description.

Larochelle, Erhan, Courville, Bergstra and Bengio (ICML 2007) published *basic*, *bg-rand*,
*rectangles* and *convex* as files. These are not used here: the datasets below are drawn again
with a seed, from MNIST or from scratch. The errors on them compare with the published ones like
errors on another random draw. Each has 10,000 training, 2,000 validation and 50,000 test samples
(the original *rectangles* had 1,000 + 200 for training, *convex* 6,000 + 2,000), with pixels in
[0, 1].
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

SIZES = {"train": 10_000, "validation": 2_000, "test": 50_000}
SIDE = 28


@dataclass
class Split:
    """Training, validation and test samples: X float32, y int."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_validation: np.ndarray
    y_validation: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @classmethod
    def of(cls, X, y, n_train, n_validation):
        stop = n_train + n_validation
        parts = slice(0, n_train), slice(n_train, stop), slice(stop, None)
        return cls(*(array for part in parts for array in (X[part], y[part])))


def load(name, path, seed=0):
    """Return the dataset of this name; `path` is the path of mnist.npz."""
    if name == "rectangles":
        return shapes(rectangle_images, seed)
    if name == "convex":
        return shapes(convex_images, seed)
    with np.load(path) as data:
        X = np.concatenate([data["X_train"], data["X_test"]]).astype(np.float32) / 255
        y = np.concatenate([data["y_train"], data["y_test"]]).astype(int)
    if name == "mnist":  # the usual split
        return Split.of(X, y, 50_000, 10_000)
    rng = np.random.default_rng((seed, 1))
    order = rng.permutation(len(X))[: sum(SIZES.values())]
    X, y = X[order], y[order]
    if name == "bg-rand":
        noise = rng.random(X.shape, dtype=np.float32)
        X = np.where(X > 0, X, noise)
    elif name != "basic":
        raise ValueError(f"no dataset {name!r}")
    return Split.of(X, y, SIZES["train"], SIZES["validation"])


def shapes(draw, seed):
    n_samples = sum(SIZES.values())
    y = np.arange(n_samples) % 2
    rng = np.random.default_rng((seed, 2))
    X = draw(y, rng)
    order = rng.permutation(n_samples)
    X = X.reshape(n_samples, -1).astype(np.float32)
    return Split.of(X[order], y[order], SIZES["train"], SIZES["validation"])


def rectangle_images(tall, rng):
    """Draw outlines of rectangles, tall or wide (by at least three pixels)."""
    images = np.zeros((len(tall), SIDE, SIDE))
    for image, is_tall in zip(images, tall):
        while True:
            height, width = rng.integers(3, SIDE + 1, size=2)
            if abs(height - width) >= 3 and (height > width) == bool(is_tall):
                break
        top, left = rng.integers(SIDE - height + 1), rng.integers(SIDE - width + 1)
        bottom, right = top + height - 1, left + width - 1
        image[[top, bottom], left : right + 1] = 1
        image[top : bottom + 1, [left, right]] = 1
    return images


def convex_images(convex, rng):
    """Draw white regions, convex (intersections of half-planes) or not (unions of convex ones)."""
    yy, xx = np.mgrid[:SIDE, :SIDE]

    def region():
        while True:
            inside = np.ones((SIDE, SIDE), dtype=bool)
            for _ in range(rng.integers(2, 6)):
                angle = rng.uniform(0, 2 * np.pi)
                cx, cy = rng.uniform(4, SIDE - 4, size=2)
                inside &= np.cos(angle) * (xx - cx) + np.sin(angle) * (yy - cy) >= 0
            if 40 <= inside.sum() <= 0.9 * SIDE**2:
                return inside

    images = np.zeros((len(convex), SIDE, SIDE))
    for image, is_convex in zip(images, convex):
        one = region()
        while not is_convex:
            both = one | region()
            if not is_nearly_convex(both):
                one = both
                break
            one = region()
        image[one] = 1
    return images


def is_nearly_convex(region, tolerance=20):
    """Whether the convex hull of the pixel centres exceeds the region by only a few pixels.

    For a convex region, the area of the hull is the number of pixels minus half the perimeter.
    """
    return ConvexHull(np.argwhere(region)).volume - region.sum() <= tolerance
