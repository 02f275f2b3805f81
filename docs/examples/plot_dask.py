"""
Fitting on Dask collections
===========================

`skae.dask.fit` trains an autoencoder on a Dask array, whose blocks are
in the workers of a cluster: for tables that do not fit on one machine.
Here, a small table and two workers in this process show how it is used,
and that two replicas of the network, which are averaged several times
an epoch, reconstruct new samples about as well as one.

It needs ``pip install 'skae[dask]'``. It is slower here than the
ordinary fit: on one machine, Dask is of no use for a table that fits
into memory.
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
# Measured curves with two peaks, which differ in place, width and
# height. The samples are in random order, as they should be: each
# replica is trained on some of the blocks. Blocks of 1,000 samples are
# small, as this is an example.

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
# Mean and standard deviation of the features are computed by Dask.

mean, scale = da.compute(blocks.mean(axis=0), blocks.std(axis=0))
scaled = (blocks - mean) / scale
test = (X_test - mean) / scale

# %%
# Two fits
# --------
# ``with`` closes client and cluster at the end. With
# ``processes=False``, the workers are threads of this process. With a
# real cluster, ``Client("address:8786")`` is all that differs. By
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
# `skae.dask.apply` gives a Dask array. Nothing was computed before
# ``compute`` asked for it; the codes themselves stayed in the workers.
# The fitted estimator is an ordinary one, and needs no cluster.

print(f"mean code of the first unit {means[0]:.2f}")

# %%
# About as good
# -------------
# R^2 of the reconstruction of new samples from 8 units, next to PCA
# with as many components.

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
# The losses of the joint training. In an epoch, each replica takes half
# as many steps as the network of an ordinary fit. So the replicas are
# behind at first, and catch up.
# The dashed line is the error of PCA on the training samples.

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
