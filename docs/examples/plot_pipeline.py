"""
A stack of autoencoders before a classifier
===========================================

A `Pipeline` scales the images, learns two layers of features from them without looking
at the labels, and hands the codes to a classifier. How good are the features? A table
compares two classifiers on raw pixels, on the codes, and on both side by side.

The data are the digits that scikit-learn ships, or, where the environment variable
``SKAE_DATA`` names an ``mnist.npz``, MNIST.
"""

import os
import sys
import time
from pathlib import Path

import matplotlib

if __name__ == "__main__" and "sphinx_gallery" not in sys.modules:
    matplotlib.use("Agg")  # run as a script: no window, the picture goes to a file

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
# A quarter of the digits, or MNIST's own test images, are kept for the test.

path = os.environ.get("SKAE_DATA")
if path:
    with np.load(path) as data:
        # A tenth of the rows keep the SVCs, not the stack, within a minute or two.
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
# Scale, learn the features, classify: one object, to be fitted, searched and pickled as one. The
# stack never sees the labels.

pipe = Pipeline(
    [("scale", MinMaxScaler()), ("sae", StackedAutoencoder(random_state=0)), ("svm", SVC())]
)
print(f"Training {pipe['sae']} on {name} ...", flush=True)
begin = time.perf_counter()
pipe.fit(X_train, y_train)
print(f"{time.perf_counter() - begin:.1f} s; accuracy {pipe.score(X_test, y_test):.4f}\n")

# %%
# What the features are worth
# ---------------------------
# Its codes serve any other classifier too; ``raw + codes`` has the scaled pixels beside them.

scale, sae = pipe["scale"], pipe["sae"]
raw = scale.transform(X_train), scale.transform(X_test)
codes = tuple(sae.transform(rows) for rows in raw)
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
# The codes help the linear classifier most: they have made linear what was not. An SVC with its
# own non-linear kernel has less to gain from them, and on images as small as 8 x 8 often nothing.

# %%
# What one layer sees
# -------------------
# A layer with logistic units under cross-entropy, the classical denoising autoencoder of binary
# images. Above: images it was not trained on, corrupted, and what it makes of
# them. Below: its filters, the rows of ``components_``; the strongest come first.

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
    print(f"\nPicture: {os.path.relpath(picture)}")
