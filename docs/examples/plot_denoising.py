"""
Denoising a table
=================

A denoising autoencoder is trained to reconstruct clean samples from noisy ones. Here, noise is
added to the features of tumours, and the squared error against the clean samples is compared with
that of linear methods.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder

data = load_breast_cancer()
X_train, X_test = train_test_split(data.data, random_state=0)
scaler = StandardScaler().fit(X_train)
train, clean = scaler.transform(X_train), scaler.transform(X_test)

# %%
# The ``corruption_level`` is the standard deviation of the noise, in standard deviations of the
# features. The baselines are the noisy samples themselves, PCA with the number of components that
# is best on the test samples (which favours PCA), and a linear regression of the clean training
# samples on noisy ones.


def squared_error(samples):
    return np.square(samples - clean).sum(axis=1).mean()


levels = [0.1, 0.25, 0.5, 1.0]
errors = {
    "noisy samples": [],
    "PCA": [],
    "linear regression": [],
    "autoencoder": [],
}
denoised = {}
for level in levels:
    rng = np.random.default_rng(0)
    noisy = clean + level * rng.standard_normal(clean.shape)
    noisy_train = train + level * rng.standard_normal(train.shape)
    projections = []
    for n_components in range(1, train.shape[1]):
        pca = PCA(n_components).fit(train)
        projections.append(
            squared_error(pca.inverse_transform(pca.transform(noisy)))
        )
    linear = LinearRegression().fit(noisy_train, train)
    autoencoder = DenoisingAutoencoder(
        corruption_level=level,
        max_iter=400,
        learning_rate="cosine",
        random_state=0,
    ).fit(train)
    denoised[level] = (
        noisy,
        linear.predict(noisy),
        autoencoder.reconstruct(noisy),
    )
    errors["noisy samples"].append(squared_error(noisy))
    errors["PCA"].append(min(projections))
    errors["linear regression"].append(
        squared_error(denoised[level][1])
    )
    errors["autoencoder"].append(squared_error(denoised[level][2]))

print("squared error" + "".join(f"{name:>19s}" for name in errors))
for k, level in enumerate(levels):
    print(
        f"noise {level:<7g}"
        + "".join(f"{row[k]:19.2f}" for row in errors.values())
    )

# %%
# The autoencoder gains more if there is more noise. With a tenth of a standard deviation, it
# increases the error, because it removes more of the samples than of the noise. PCA and the
# regression remove little of this noise.

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for (name, row), marker in zip(errors.items(), "os^D"):
    ax.plot(
        levels,
        np.divide(row, errors["noisy samples"]),
        marker=marker,
        label=name,
    )
ax.set(
    xscale="log",
    xlabel="standard deviation of the noise",
    ylabel="squared error / that of noisy samples",
    ylim=(0, None),
)
ax.set_xticks(levels, [f"{level:g}" for level in levels])
ax.minorticks_off()
ax.legend()
plt.show()

# %%
# The area of a tumour is a non-linear function of its radius. Noise of half a standard deviation
# hides this relation. The regression finds a straight line, and the autoencoder finds the curve.

names = data.feature_names.tolist()
columns = [names.index("mean radius"), names.index("mean area")]
figure, axes = plt.subplots(
    1,
    4,
    figsize=(10, 3),
    sharex=True,
    sharey=True,
    layout="constrained",
)
titles = ["clean", "noisy", "linear regression", "autoencoder"]
for ax, title, Z in zip(axes, titles, [clean, *denoised[0.5]]):
    radius, area = scaler.inverse_transform(Z)[:, columns].T
    ax.scatter(radius, area, s=8)
    ax.set(title=title, xlabel="mean radius")
axes[0].set_ylabel("mean area")
plt.show()
