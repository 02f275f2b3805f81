"""
A deep autoencoder against PCA
==============================

Principal components are the best linear code (latent representation, embedding) of a given length
under squared error. The code of a deep autoencoder (Hinton and Salakhutdinov 2006) is non-linear:
layers are trained one by one and then, with ``joint=True``, jointly. As in the paper, the code
layer is linear. There is no corruption, because the aim is reconstruction.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import StackedAutoencoder

# %%
# The data are scikit-learn's digits, with a code of 8 dimensions. If the environment variable
# ``SKAE_DATA`` is the path of an ``mnist.npz``, they are MNIST, with 30 dimensions.

path = os.environ.get("SKAE_DATA")
if path:
    with np.load(path) as data:
        X_train = data["X_train"].astype(np.float32) / 255
        X_test = data["X_test"].astype(np.float32) / 255
    sizes, epochs, joint_epochs = (1000, 500, 250, 30), 5, 20
else:
    X = (load_digits().data / 16).astype(np.float32)
    X_train, X_test = train_test_split(X, random_state=0)
    sizes, epochs, joint_epochs = (256, 64, 8), 20, 100

pca = PCA(sizes[-1]).fit(X_train)
deep = StackedAutoencoder(
    sizes,
    activation=["relu"] * (len(sizes) - 1) + ["identity"],
    corruption=None,
    batch_size=50,
    max_iter=epochs,
    joint=True,
    joint_max_iter=joint_epochs,
    learning_rate="cosine",
    random_state=0,
).fit(X_train)

# %%
# Compare the squared errors per test sample and the reconstructions.

reconstructions = {
    "input": X_test,
    f"PCA, {sizes[-1]}": pca.inverse_transform(pca.transform(X_test)),
    f"deep, {sizes[-1]}": deep.reconstruct(X_test),
}
for name, images in list(reconstructions.items())[1:]:
    print(
        f"{name:10s} squared error per sample {((images - X_test) ** 2).sum(axis=1).mean():.3f}"
    )

side = int(X_test.shape[1] ** 0.5)
figure, axes = plt.subplots(3, 10, figsize=(9, 3), layout="constrained")
for line, (name, images) in zip(axes, reconstructions.items()):
    for ax, image in zip(line, images):
        ax.imshow(
            image.reshape(side, side), cmap="gray", vmin=0, vmax=1
        )
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name)
plt.show()
