"""
Compressing a table
===================

PCA and a `StackedAutoencoder` with joint training learn codes of 2 to
32 units. Their reconstructions of held-out samples are compared by R^2.

There are two tables. The first contains curves with two peaks. Their
values depend on six hidden quantities in a non-linear way. With 2 and 4
units, the autoencoder reconstructs them much better than PCA. The
second contains features of tumours. Most of their dependencies are
linear, and PCA is nearly as good. With long codes, PCA is better on
both tables.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import StackedAutoencoder

# %%
# The tables
# ----------
# Each curve has 64 values, as from a chromatograph. Its two peaks vary
# in position, width and height, and there is noise.

rng = np.random.default_rng(0)
time = np.linspace(0, 1, 64)


def peaks(first, last):
    place = rng.uniform(first, last, size=(2000, 1))
    width = rng.uniform(0.03, 0.1, size=(2000, 1))
    height = rng.uniform(0.5, 1.5, size=(2000, 1))
    return height * np.exp(-(((time - place) / width) ** 2) / 2)


curves = peaks(0.2, 0.5) + peaks(0.5, 0.8)
curves += 0.03 * rng.standard_normal(curves.shape)
tables = {
    "curves, 64 features": (curves, [2, 4, 8, 16, 32]),
    "tumours, 30 features": (load_breast_cancer().data, [2, 4, 8, 16]),
}

# %%
# Codes and reconstructions
# -------------------------
# The code is linear and there is no corruption, because the aim is
# reconstruction. The features are standardised, so that all have the
# same weight in R^2. The mean sample has R^2 = 0.

scores, restored = {}, {}
for table, (X, lengths) in tables.items():
    X_train, X_test = train_test_split(X, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(X_train)
    train = scaler.transform(X_train).astype(np.float32)
    test = scaler.transform(X_test).astype(np.float32)
    for n_units in lengths:
        pca = PCA(n_units, random_state=0).fit(train)
        stack = StackedAutoencoder(
            (128, n_units),
            activation=["relu", "identity"],
            corruption=None,
            joint=True,
            learning_rate="cosine",
            random_state=0,
        ).fit(train)
        found = {
            "PCA": pca.inverse_transform(pca.transform(test)),
            "autoencoder": stack.inverse_transform(
                stack.transform(test)
            ),
        }
        for name, values in found.items():
            score = r2_score(
                test, values, multioutput="variance_weighted"
            )
            scores.setdefault((table, name), []).append(score)
            restored[table, name, n_units] = scaler.inverse_transform(
                values
            )
    restored[table, "test"] = X_test

for table, (_, lengths) in tables.items():
    print(table)
    print("    units      " + "".join(f"{k:8d}" for k in lengths))
    for name in ["PCA", "autoencoder"]:
        cells = "".join(f"{r2:8.3f}" for r2 in scores[table, name])
        print(f"    {name:11s}" + cells)

# %%
# With long codes, a small error remains after training the autoencoder,
# but not with PCA. The test samples contain noise, too, and more
# components reconstruct more of it. PCA is also exact and faster, and
# sorts its components.

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for color, (table, (_, lengths)) in zip(["C0", "C1"], tables.items()):
    for name, style in {"autoencoder": "o-", "PCA": "s--"}.items():
        ax.plot(
            lengths,
            scores[table, name],
            style,
            color=color,
            label=f"{table.split(',')[0]}, {name}",
        )
ax.set_xscale("log")
ax.set_xticks([2, 4, 8, 16, 32], [2, 4, 8, 16, 32], fontsize=12)
ax.minorticks_off()
ax.set_xlabel("length of the code", fontsize=12)
ax.set_ylabel("R^2 of the reconstruction", fontsize=12)
ax.legend(loc="lower right", fontsize=12)
plt.show()

# %%
# The figure shows two curves and their reconstructions from 4 units.
# PCA adds four fixed curves and falls below zero next to the peaks. The
# autoencoder moves the peaks, but 4 units are not enough for six
# quantities: it also makes errors where the peaks overlap.

table = next(iter(tables))
figure, axes = plt.subplots(
    1, 2, figsize=(8, 3.4), sharey=True, layout="constrained"
)
for i, ax in enumerate(axes):
    true = restored[table, "test"][i]
    ax.plot(time, true, "k.", label="measured")
    for name, style in {"autoencoder": "-", "PCA": "--"}.items():
        ax.plot(time, restored[table, name, 4][i], style, label=name)
    ax.set_xlabel("time", fontsize=12)
axes[0].legend(fontsize=11)
plt.show()
