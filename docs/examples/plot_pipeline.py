"""
A stack of autoencoders before a classifier
===========================================

A `Pipeline` scales the images, learns two layers of features from them without using the labels,
and passes the codes (latent representations, embeddings) to a classifier. To show how good the
features are, a table compares two classifiers on raw pixels, on the codes, and on both combined.

The data are scikit-learn's digits. If the environment variable ``SKAE_DATA`` is the path of an
``mnist.npz``, they are MNIST.
"""

import os
import sys
import time
from pathlib import Path

import matplotlib

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    matplotlib.use("Agg")  # as a script: save the figure, open no window

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from skae import DenoisingAutoencoder, FilterDisplay, ReconstructionDisplay, StackedAutoencoder

# %%
# The data
# --------
# The test set is a quarter of the digits, or the test set of MNIST.

path = os.environ.get("SKAE_DATA")
if path:
    with np.load(path) as data:
        # A tenth of the samples, so that the SVCs (not the stack) fit within a minute or two.
        X_train, y_train = data["X_train"][:6000].astype(np.float32), data["y_train"][:6000]
        X_test, y_test = data["X_test"].astype(np.float32), data["y_test"]
    name = "MNIST, 6,000 training and 10,000 test images"
else:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, stratify=y, random_state=0
    )
    name = f"digits, {len(X_train)} training and {len(X_test)} test images"

# %%
# The pipeline
# ------------
# Scaler, stack and classifier form a single estimator, which can be fitted, tuned and pickled as a
# whole. The stack never uses the labels.

pipe = Pipeline(
    [("scale", MinMaxScaler()), ("sae", StackedAutoencoder(random_state=0)), ("svm", SVC())]
)
print(f"Training {pipe['sae']} on {name} ...", flush=True)
begin = time.perf_counter()
pipe.fit(X_train, y_train)
print(f"{time.perf_counter() - begin:.1f} s; accuracy {pipe.score(X_test, y_test):.4f}\n")

# %%
# Quality of the features
# -----------------------
# The codes can be used with any other classifier too. ``raw + codes`` combines them with the
# scaled pixels.

scale, sae = pipe["scale"], pipe["sae"]
raw = scale.transform(X_train), scale.transform(X_test)
codes = tuple(sae.transform(part) for part in raw)
features = {
    "raw pixels": raw,
    "codes": codes,
    "raw + codes": tuple(np.hstack(pair) for pair in zip(raw, codes)),
}
classifiers = {"logistic regression": LogisticRegression(max_iter=1000), "SVC": SVC()}
print(f"{'test accuracy':14s}" + "".join(f"{head:>22s}" for head in classifiers))
for row, (train, test) in features.items():
    scores = [c.fit(train, y_train).score(test, y_test) for c in classifiers.values()]
    print(f"{row:14s}" + "".join(f"{score:22.4f}" for score in scores), flush=True)

# %%
# The codes help the linear classifier most, because they make non-linear structure linearly
# separable. An SVC with a non-linear kernel gains less, and on images as small as 8 x 8 pixels
# often nothing.

# %%
# What a single layer learns
# --------------------------
# This layer has logistic units and is trained with cross-entropy, as in the classical denoising
# autoencoder for binary images. Above: test images, their corrupted versions, and their
# reconstructions. Below: the filters, which are the rows of ``components_``, sorted by norm.

scaler = MinMaxScaler(clip=True).fit(X_train)
dae = DenoisingAutoencoder(
    n_components=100,
    activation="logistic",
    loss="cross_entropy",
    tied_weights=True,
    corruption_level=0.3,
    learning_rate_init=0.003,
    max_iter=60 if path is None else 20,
    random_state=0,
).fit(scaler.transform(X_train))
figure = plt.figure(figsize=(8, 7.4), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[3, 5.4])
ReconstructionDisplay.from_estimator(
    dae, scaler.transform(X_test), random_state=0, ax=top.subplots()
)
filters = FilterDisplay.from_estimator(dae, n_filters=50, ax=bottom.subplots(), n_columns=10)
filters.ax_.set_title("filters")

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    picture = Path(__file__).with_name("pipeline.png")
    figure.savefig(picture, dpi=120)
    print(f"\nFigure saved to {os.path.relpath(picture)}")
