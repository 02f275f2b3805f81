"""
Sparse codes of images
======================

With ``activation="top_k"``, only the ``n_active`` largest units of a
sample stay active, and the others are set to zero (k-sparse
autoencoders [1]_ [2]_). Each sample is then reconstructed as a sum of
a few rows of the decoder. On patches of photographs, most of these rows
are edges. On digits, the codes are features for a classifier.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.decomposition import PCA
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import DenoisingAutoencoder, FilterDisplay

# %%
# Patches of photographs
# ----------------------
# The samples are patches of 12 x 12 pixels from the two photographs of
# scikit-learn. Smooth patches are left out. The others have mean 0 and
# variance 1.

patches = np.vstack(
    [
        extract_patches_2d(
            image.mean(axis=2) / 255,
            (12, 12),
            max_patches=20_000,
            random_state=0,
        ).reshape(-1, 144)
        for image in load_sample_images().images
    ]
)
deviations = patches.std(axis=1)
patches = patches - patches.mean(axis=1, keepdims=True)
patches = (patches / deviations[:, None])[deviations > 0.1]
patches = patches.astype(np.float32)
print(f"{len(patches)} patches")

# %%
# One code has six active units of 144. The baseline is a relu code of
# the same size and with the same settings.

options = {
    "learning_rate": "cosine",
    "learning_rate_init": 0.001,
    "random_state": 0,
}
models = {
    "relu": DenoisingAutoencoder(144, max_iter=30, **options),
    "top_k": DenoisingAutoencoder(
        144, activation="top_k", n_active=6, max_iter=30, **options
    ),
}
usage = {}
for name, model in models.items():
    active = model.fit_transform(patches) > 0
    usage[name] = active.mean(axis=0)
    print(
        f"{name}: {active.sum(axis=1).mean():.0f} active units, "
        f"R2 {model.reconstruction_r2_:.2f}, "
        f"{np.sum(usage[name] == 0)} dead"
    )

# %%
# The rows of the decoder are what each unit adds to the reconstruction.
# Those of the 64 units that are most often active are shown. Most rows
# of the top-k code are edges at some place. The relu code uses almost
# all of its units for each patch, and a single row means nothing.

figure, axes = plt.subplots(
    1, 2, figsize=(8, 4.5), layout="constrained"
)
for ax, (name, model) in zip(axes, models.items()):
    order = np.argsort(-usage[name])[:64]
    rows = model.decoder_components_[order]
    FilterDisplay(rows).plot(ax, cmap="gray")
    ax.set_title(f"decoder, activation={name!r}")
plt.show()

# %%
# A patch is a sum of a few rows
# ------------------------------
# The reconstruction is the sum of the rows of the active units, each
# multiplied by its activation, and of ``intercept_visible_``, which is
# almost zero here. The number above a row is the activation. The rows
# are drawn with twice the contrast. The baseline is PCA with six
# components.

model = models["top_k"]
pca = PCA(6).fit(patches)
projected = pca.inverse_transform(pca.transform(patches))
r2 = r2_score(patches, projected, multioutput="variance_weighted")
print(f"R2 of PCA with 6 components {r2:.2f}")

shown = np.random.default_rng(1).choice(len(patches), 4, replace=False)
codes = model.transform(patches[shown])
figure, axes = plt.subplots(
    4, 9, figsize=(9, 4.6), layout="constrained"
)
for line, code, k in zip(axes, codes, shown):
    units = np.argsort(-code)[:6]
    terms = code[units, None] * model.decoder_components_[units]
    pictures = [patches[k], *terms, model.intercept_visible_]
    total = np.sum(pictures[1:], axis=0)
    pictures[-1:] = [total, projected[k]]
    titles = ["patch", *(f"{a:.1f}" for a in code[units]), "sum", "PCA"]
    limits = [2.5, *[1.25] * 6, 2.5, 2.5]
    for ax, picture, title, limit in zip(
        line, pictures, titles, limits
    ):
        ax.imshow(
            picture.reshape(12, 12),
            cmap="gray",
            vmin=-limit,
            vmax=limit,
        )
        ax.set_title(title, fontsize=9)
        ax.axis("off")
plt.show()

# %%
# Features for a classifier
# -------------------------
# The codes of scikit-learn's digits have 256 units. Logistic regression
# is trained on one half of the images and tested on the other, in turn,
# so that each image is tested once. The autoencoders learn from the
# training images, without labels. The baselines are the pixels and a
# relu code.
#
# ``transform_n_active`` is the number of active units in ``transform``.
# It can be changed after the fit, and does not change the
# reconstruction.

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
N_ACTIVE, FACTORS = [4, 8, 16, 32], [1, 2, 4]
settings = {"relu": {"activation": "relu"}} | {
    k: {"activation": "top_k", "n_active": k} for k in N_ACTIVE
}
accuracy = {"pixels": []}
r2s, dead = {}, {}
classifier = LogisticRegression(C=10, solver="newton-cg")
halves = StratifiedKFold(2, shuffle=True, random_state=0)
for train, test in halves.split(X, y):
    classifier.fit(X[train], y[train])
    accuracy["pixels"].append(classifier.score(X[test], y[test]))
    for name, setting in settings.items():
        model = DenoisingAutoencoder(
            256, max_iter=100, **setting, **options
        ).fit(X[train])
        r2s.setdefault(name, []).append(
            r2_score(
                X[test],
                model.reconstruct(X[test]),
                multioutput="variance_weighted",
            )
        )
        unused = ~model.transform(X[train]).any(axis=0)
        dead.setdefault(name, []).append(unused.mean())
        for factor in FACTORS if name != "relu" else [1]:
            if name != "relu":
                model.set_params(
                    transform_n_active=factor * name, sparse_output=True
                )
            classifier.fit(model.transform(X[train]), y[train])
            score = classifier.score(model.transform(X[test]), y[test])
            accuracy.setdefault((name, factor), []).append(score)

print("                        accuracy, active units in transform")
print("n_active   R2   dead    n_active   2 n_active   4 n_active")
for name in settings:
    print(
        f"{name:<8} {np.mean(r2s[name]):.2f} {np.mean(dead[name]):6.1%}"
        + "".join(
            f"{np.mean(accuracy[name, factor]):12.1%}"
            for factor in FACTORS
            if (name, factor) in accuracy
        )
    )
print(f"pixels{np.mean(accuracy['pixels']):22.1%}")

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, marker in zip(N_ACTIVE, "os^D"):
    ax.plot(
        [factor * name for factor in FACTORS],
        [100 * np.mean(accuracy[name, factor]) for factor in FACTORS],
        marker=marker,
        label=f"n_active={name}",
    )
for name, label, style in [
    (("relu", 1), "relu code", "--"),
    ("pixels", "pixels", ":"),
]:
    ax.axhline(
        100 * np.mean(accuracy[name]),
        color="black",
        linestyle=style,
        label=label,
    )
ax.set(
    xscale="log",
    xlabel="active units in transform",
    ylabel="accuracy in %",
)
ticks = [4, 8, 16, 32, 64, 128]
ax.set_xticks(ticks, ticks)
ax.minorticks_off()
ax.legend(ncols=2)
plt.show()

# %%
# One point is 18 of the 1,797 images. With four active units, the codes
# are worse than the pixels. With twice as many units in ``transform``
# as in training, they are better than both baselines, for each
# ``n_active``. The relu code reconstructs better, because about half of
# its units are active. Dead units, which are never active, are fewer if
# more units are active.
#
# Sparse matrices
# ---------------
# With ``sparse_output=True``, the codes are a sparse matrix in CSR
# format. Many estimators of scikit-learn accept it, so the step fits
# into a pipeline. Here, 16 of 512 units are active.

layer = DenoisingAutoencoder(
    512, activation="top_k", n_active=8, max_iter=100, **options
)
layer.set_params(transform_n_active=16, sparse_output=True)
pipe = make_pipeline(MinMaxScaler(), layer, classifier)
score = pipe.fit(X[train], y[train]).score(X[test], y[test])
print(f"accuracy {score:.1%}")
for sparse_output in [True, False]:
    layer.set_params(sparse_output=sparse_output)
    Z = pipe[:-1].transform(X)
    parts = [Z.data, Z.indices, Z.indptr] if sparse_output else [Z]
    size = sum(part.nbytes for part in parts)
    print(f"sparse_output={sparse_output}: {size / 1e6:.2f} MB")

# %%
# .. rubric:: References
#
# .. [1] \A. Makhzani, B. Frey. k-Sparse Autoencoders. ICLR 2014.
# .. [2] L. Gao, T. Dupre la Tour, H. Tillman, G. Goh, R. Troll, A.
#    Radford, I. Sutskever, J. Leike, J. Wu. Scaling and evaluating
#    sparse autoencoders. ICLR 2025.
