"""
A deep autoencoder against PCA
==============================

Principal components are the best linear code of a given length under squared error. A deep
autoencoder (Hinton and Salakhutdinov 2006) has a code that bends with the data: layers are
trained one by one and then, with ``fine_tune=True``, all together. The code layer is linear
here, as in the paper; there is no corruption, for the aim is to reconstruct.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import StackedAutoencoder

# %%
# The digits that scikit-learn ships, with a code of 8 numbers; or, where ``SKAE_DATA`` names an
# ``mnist.npz``, MNIST and 30.

path = os.environ.get("SKAE_DATA")
if path:
    with np.load(path) as data:
        X_train = data["X_train"].astype(np.float32) / 255
        X_test = data["X_test"].astype(np.float32) / 255
    sizes, epochs, tuning = (1000, 500, 250, 30), 5, 20
else:
    X = (load_digits().data / 16).astype(np.float32)
    X_train, X_test = train_test_split(X, random_state=0)
    sizes, epochs, tuning = (256, 64, 8), 20, 100

pca = PCA(sizes[-1]).fit(X_train)
deep = StackedAutoencoder(
    sizes,
    activation=["relu"] * (len(sizes) - 1) + ["identity"],
    corruption=None,
    batch_size=50,
    max_iter=epochs,
    fine_tune=True,
    fine_tune_max_iter=tuning,
    learning_rate="cosine",
    random_state=0,
).fit(X_train)

# %%
# Squared error a test row, and the reconstructions themselves.

restored = {
    "input": X_test,
    f"PCA, {sizes[-1]}": pca.inverse_transform(pca.transform(X_test)),
    f"deep, {sizes[-1]}": deep.inverse_transform(deep.transform(X_test)),
}
for name, rows in list(restored.items())[1:]:
    print(f"{name:10s} squared error a row {((rows - X_test) ** 2).sum(axis=1).mean():.3f}")

side = int(X_test.shape[1] ** 0.5)
figure, axes = plt.subplots(3, 10, figsize=(9, 3), layout="constrained")
for line, (name, rows) in zip(axes, restored.items()):
    for ax, row in zip(line, rows):
        ax.imshow(row.reshape(side, side), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
plt.show()
