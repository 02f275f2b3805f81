"""
Fitting on Dask collections
===========================

`skae.dask.fit` trains an autoencoder on a Dask array whose blocks are
in the workers of a cluster. Use it for tables that do not fit on one
machine. Here, the table is small, and two workers run in this process.
Two replicas of the network are averaged several times per epoch, and
reconstruct new samples about as well as one network.

This example needs ``pip install 'skae[dask]'``. It is slower than the
ordinary fit: on one machine, Dask does not help if the table fits into
memory.
"""

import time

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score

import skae.dask
from skae import StackedAutoencoder

# %%
# The table
# ---------
# The samples are curves with two peaks, which vary in position, width
# and height. Their order must be random, because each replica is
# trained on only some of the blocks. The blocks of 1,000 samples are
# small, because this is an example.

rng = np.random.default_rng(0)
points = np.linspace(0, 1, 48)


def peaks(first, last):
    place = rng.uniform(first, last, size=(8000, 1))
    width = rng.uniform(0.03, 0.1, size=(8000, 1))
    height = rng.uniform(0.5, 1.5, size=(8000, 1))
    return height * np.exp(-(((points - place) / width) ** 2) / 2)


X = (peaks(0.2, 0.5) + peaks(0.5, 0.8)).astype(np.float32)
X += 0.03 * rng.standard_normal(X.shape, dtype=np.float32)
X_test = X[6000:]
blocks = da.from_array(X[:6000], chunks=(1000, 48))
print(f"{blocks.shape[0]} samples in {blocks.numblocks[0]} blocks")

# %%
# Dask computes the mean and standard deviation of the features.

mean, scale = da.compute(blocks.mean(axis=0), blocks.std(axis=0))
scaled = (blocks - mean) / scale
test = (X_test - mean) / scale

# %%
# Two fits
# --------
# ``with`` closes the client and the cluster at the end. With
# ``processes=False``, the workers are threads of this process. For a
# real cluster, only change the client to ``Client("address:8786")``. By
# default, there are as many replicas as workers.

model = StackedAutoencoder(
    (128, 8),
    activation=["relu", "identity"],
    corruption=None,
    batch_size=32,
    joint=True,
    max_iter=5,
    joint_max_iter=20,
    random_state=0,
)
start = time.perf_counter()
local = clone(model).fit(scaled.compute())
print(f"ordinary fit    {time.perf_counter() - start:.1f} s")

with (
    LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
    ) as cluster,
    Client(cluster) as client,
):
    start = time.perf_counter()
    replicated = skae.dask.fit(clone(model), scaled, client=client)
    print(f"fit by replicas {time.perf_counter() - start:.1f} s")
    codes = skae.dask.apply(replicated, scaled)
    print(codes)
    means = codes.mean(axis=0).compute()

# %%
# `skae.dask.apply` returns a Dask array. Nothing is computed before the
# call of ``compute``, and the codes stay in the workers. The fitted
# estimator is an ordinary one and needs no cluster.

print(f"mean code of the first unit {means[0]:.2f}")

# %%
# Reconstruction of new samples
# -----------------------------
# This is R^2 of the reconstruction of new samples from 8 units,
# compared with PCA with 8 components.

pca = PCA(8, random_state=0).fit(scaled.compute())
reconstructions = {
    "PCA": pca.inverse_transform(pca.transform(test)),
    "ordinary fit": local.reconstruct(test),
    "two replicas": replicated.reconstruct(test),
}
for name, values in reconstructions.items():
    r2 = r2_score(test, values, multioutput="variance_weighted")
    print(f"{name:12s} {r2:.3f}")

# %%
# The figure shows the losses of the joint training. In an epoch, each
# replica takes half as many steps as the network of an ordinary fit.
# Its loss is therefore larger at first, but not in the end. The dashed
# line is the error of PCA on the training samples.

in_memory = scaled.compute()
residuals = in_memory - pca.inverse_transform(pca.transform(in_memory))
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
fits = {"ordinary fit": local, "two replicas": replicated}
for (name, one), style in zip(fits.items(), ["o-", "s-"]):
    epochs = np.arange(1, 1 + len(one.loss_curve_))
    ax.plot(epochs, one.loss_curve_, style, label=name)
    print(f"{name:12s} last loss {one.loss_:.2f}")
pca_error = np.square(residuals).sum(axis=1).mean()
print(f"PCA          error     {pca_error:.2f}")
ax.axhline(pca_error, color="black", linestyle="--", label="PCA")
ax.set_ylim(0, None)
ax.set_xticks(range(0, 21, 5))
ax.set_xlabel("epoch", fontsize=12)
ax.set_ylabel("squared error of a sample", fontsize=12)
ax.legend(fontsize=12)
plt.show()
