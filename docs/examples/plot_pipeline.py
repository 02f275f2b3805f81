"""
A stack of autoencoders before a classifier
===========================================

A `Pipeline` scales the images, learns two layers of features from them without using the labels,
and passes the codes (latent representations, embeddings) to a classifier. To show how good the
features are, a table compares two classifiers on raw pixels and on the codes.

The data are scikit-learn's digits. If the environment variable ``SKAE_DATA`` is the path of an
``mnist.npz``, they are MNIST.
"""

import os
import sys
import time
from pathlib import Path

import matplotlib

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    matplotlib.use(
        "Agg"
    )  # as a script: save the figure, open no window

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from skae import (
    DenoisingAutoencoder,
    FilterDisplay,
    ReconstructionDisplay,
    StackedAutoencoder,
)

# %%
# The data
# --------
# The data are all of the digits, or the first 3,000 images of MNIST.

path = os.environ.get("SKAE_DATA")
if path:
    with np.load(path) as data:
        X, y = (
            data["X_train"][:3000].astype(np.float32),
            data["y_train"][:3000],
        )
else:
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)  # twice as fast as float64
name = f"{len(X):,} images of {'MNIST' if path else 'digits'}"

# %%
# The pipeline
# ------------
# Scaler, stack and classifier form a single estimator, which can be fitted, tuned and pickled as a
# whole. The stack never uses the labels.

stack = StackedAutoencoder(random_state=0)
pipe = Pipeline(
    [("scale", MinMaxScaler()), ("sae", stack), ("svm", SVC())]
)
print(f"Training {pipe['sae']} and an SVC on {name} ...", flush=True)
begin = time.perf_counter()
pipe.fit(X, y)
print(f"{time.perf_counter() - begin:.1f} s", flush=True)
print(
    f"R^2 of the reconstruction: {pipe['sae'].reconstruction_r2_:.2f}\n",
    flush=True,
)

# %%
# Quality of the features
# -----------------------
# The table shows the mean accuracy of two classifiers on held-out images in five shuffled folds:
# on the raw pixels, on the codes of the last layer, and on the codes of all layers. The codes of a
# fold are learned from its training images.

classifiers = {
    "logistic regression": LogisticRegression(max_iter=1000),
    "SVC": SVC(),
}
scores, seconds = {}, []
print(
    "Five folds; training their stacks takes most of the time ...",
    flush=True,
)
for train, test in StratifiedKFold(
    5, shuffle=True, random_state=0
).split(X, y):
    scaler = MinMaxScaler().fit(X[train])
    raw = scaler.transform(X[train]), scaler.transform(X[test])
    begin = time.perf_counter()
    sae = clone(stack).fit(raw[0])
    seconds.append(time.perf_counter() - begin)
    features = {
        "raw pixels": raw,
        "codes": [sae.transform(part) for part in raw],
        "codes of all layers": [
            sae.set_params(code="all").transform(part) for part in raw
        ],
    }
    for row, (codes, codes_test) in features.items():
        for head, classifier in classifiers.items():
            accuracy = classifier.fit(codes, y[train]).score(
                codes_test, y[test]
            )
            scores.setdefault(row, {}).setdefault(head, []).append(
                accuracy
            )
print(f"{np.mean(seconds):.1f} s a stack\n")
print(
    f"{'accuracy':22s}"
    + "".join(f"{head:>22s}" for head in classifiers)
)
for row, found in scores.items():
    print(
        f"{row:22s}"
        + "".join(
            f"{np.mean(values):22.4f}" for values in found.values()
        )
    )

# %%
# The codes help the linear classifier, because they make non-linear structure linearly separable.
# An SVC with a non-linear kernel gains nothing on images as small as 8 x 8 pixels.

# %%
# Filters of a single layer
# -------------------------
# This layer has logistic units and is trained with cross-entropy, as in the classical denoising
# autoencoder for binary images. The upper plot shows test images, their corrupted versions, and
# their reconstructions. The lower plot shows the filters, which are the rows of ``components_``,
# sorted by norm.

X_train, X_test = train_test_split(X, random_state=0)
scaler = MinMaxScaler(clip=True).fit(X_train)
dae = DenoisingAutoencoder(
    n_components=100,
    activation="logistic",
    loss="cross_entropy",
    tied_weights=True,
    corruption="masking",
    corruption_level=0.3,
    batch_size=20,
    learning_rate_init=0.003,
    max_iter=60 if path is None else 20,
    random_state=0,
).fit(scaler.transform(X_train))
figure = plt.figure(figsize=(8, 7.4), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[3, 5.4])
ReconstructionDisplay.from_estimator(
    dae, scaler.transform(X_test), random_state=0, ax=top.subplots()
)
filters = FilterDisplay.from_estimator(
    dae, n_filters=50, ax=bottom.subplots(), n_columns=10
)
filters.ax_.set_title("filters")

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    picture = Path(__file__).with_name("pipeline.png")
    figure.savefig(picture, dpi=120)
    print(f"\nFigure saved to {os.path.relpath(picture)}")
