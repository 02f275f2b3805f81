"""
Imputation of missing values
============================

`StackedAutoencoderImputer` estimates missing values from the observed ones of the sample. Here,
values are removed from a table, so that the estimates can be compared with the true values and
with those of scikit-learn's imputers.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import StackedAutoencoderImputer

data = load_breast_cancer()
X, names = data.data, data.feature_names.tolist()

# %%
# 10 to 50 % of the values are removed completely at random. The error is the root mean squared
# error of the filled values, in standard deviations of the features. The distances of nearest
# neighbours depend on the scale, so ``KNNImputer`` gets a scaler; the other imputers need none.

imputers = {
    "mean": SimpleImputer(),
    "nearest neighbours": make_pipeline(StandardScaler(), KNNImputer()),
    "autoencoders": StackedAutoencoderImputer(random_state=0),
}
shares = [0.1, 0.3, 0.5]
errors = {name: [] for name in imputers}
filled = {}
for share in shares:
    missing = np.random.default_rng(0).random(X.shape) < share
    X_missing = np.where(missing, np.nan, X)
    for name, imputer in imputers.items():
        X_filled = imputer.fit_transform(X_missing)
        if name == "nearest neighbours":
            X_filled = imputer["standardscaler"].inverse_transform(
                X_filled
            )
        filled[share, name] = X_filled
        deviations = ((X_filled - X) / X.std(axis=0))[missing]
        errors[name].append(np.sqrt(np.mean(deviations**2)))

print("missing" + "".join(f"{name:>20s}" for name in errors))
for k, share in enumerate(shares):
    print(
        f"{share:7.0%}"
        + "".join(f"{row[k]:20.2f}" for row in errors.values())
    )

# %%
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, row), marker in zip(errors.items(), "os^"):
    ax.plot(shares, row, marker=marker, label=name)
ax.set(
    xlabel="share of missing values",
    ylabel="error, in standard deviations",
    ylim=(0, None),
)
ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
ax.legend(loc="lower right")
plt.show()

# %%
# The figure shows true and estimated values of a feature, with half of the values missing. The
# mean is the same for all samples. Points on the diagonal are exact.

missing = np.random.default_rng(0).random(X.shape) < 0.5
column = names.index("mean concavity")
rows = missing[:, column]
true = X[rows, column]
figure, axes = plt.subplots(
    1,
    3,
    figsize=(9, 3.4),
    sharex=True,
    sharey=True,
    layout="constrained",
)
for ax, name in zip(axes, imputers):
    ax.scatter(true, filled[0.5, name][rows, column], s=8)
    ax.axline((0, 0), slope=1, color="grey", linewidth=1)
    ax.set(title=name, xlabel="true mean concavity")
axes[0].set_ylabel("estimated mean concavity")
plt.show()

# %%
# ``weights_`` contains the weight of the autoencoders for each feature; the linear estimate that
# they start from has the remaining weight. The weights are learned from hidden values of samples
# that a network was not trained on. If the linear estimate is hard to improve, the weight is
# small.

weights = imputers["autoencoders"].weights_
order = np.argsort(weights)
figure, ax = plt.subplots(figsize=(6, 6), layout="constrained")
ax.barh(np.arange(len(names)), weights[order])
ax.set_yticks(
    np.arange(len(names)), [names[k] for k in order], fontsize=8
)
ax.set(
    xlabel="weight of the autoencoders, with 50 % missing",
    ylim=(-0.8, len(names) - 0.2),
)
plt.show()
