"""
Regression with few labels
==========================

Here, the targets of all but a few samples are removed (``y = nan``). A
`StackedAutoencoderRegressor` is pretrained on all samples and
fine-tuned on the labelled ones. It is compared with the same network
without pretraining, with ridge regression and with a Gaussian process,
which use the labelled samples alone.

There are two tables. In the first one, 100 features depend on three
hidden quantities. Pretraining on the unlabelled samples helps about as
much as twice as many labels; with 300 labels, there is no gain. The
second one is scikit-learn's diabetes table. There, the unlabelled
samples do not help, and ridge regression is better than the networks.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import StackedAutoencoder, StackedAutoencoderRegressor

# %%
# Two tables
# ----------
# The first table is generated. 100 sensors measure mixtures of three
# gases. Each responds to all three, its signal levels off at high
# concentrations, and there is noise. The target is the concentration of
# the first gas. Mixtures are easy to measure, but their concentrations
# have to be determined in a laboratory, so only a few have a label.

rng = np.random.default_rng(0)
gases = rng.uniform(size=(2000, 3))
response = gases @ (4 * rng.gamma(1, size=(3, 100)))
response **= rng.uniform(0.5, 2, size=100)
signal = response / (1 + response)
sensors = signal + 0.1 * rng.standard_normal(signal.shape)

tables = {
    "gas sensors": (sensors, 100 * gases[:, 0]),
    "diabetes": load_diabetes(return_X_y=True),
}
for name, (X, _) in tables.items():
    print(
        f"{name:12s} {X.shape[0]:5d} samples, {X.shape[1]:3d} features"
    )

# %%
# The models
# ----------
# By default, the regressor pretrains a stack itself. Pretraining does
# not depend on the labels, so here one stack per draw is fitted and
# used for all numbers of labels. The code layer is linear with 4 units,
# and all layers are trained jointly. Both networks are fine-tuned with
# dropout.
#
# The targets need no scaling. All models need scaled features.

sizes = (256, 64, 4)
activation, dropout = ["relu", "relu", "identity"], [0.3, 0, 0]
kernel = 1.0 * RBF(8, (1, 100)) + WhiteKernel(0.1)


def make_models(stack, n_labels, seed):
    max_iter = max(30, 4000 // n_labels)
    return {
        "ridge": RidgeCV(np.logspace(-2, 4, 13)),
        "Gaussian process": GaussianProcessRegressor(
            kernel, normalize_y=True, random_state=seed
        ),
        "from scratch": StackedAutoencoderRegressor(
            sizes,
            activation=activation,
            pretrain=False,
            dropout=dropout,
            max_iter=max_iter,
            random_state=seed,
        ),
        "pretrained": StackedAutoencoderRegressor(
            pretrain=stack,
            dropout=dropout,
            max_iter=max_iter,
            random_state=seed,
        ),
    }


# %%
# The test set and the labelled samples are drawn three times. The score
# is R^2 on the test set: 1 is perfect, 0 is as good as the mean target.
# With 20 labels, the noise level of the Gaussian process may reach a
# bound, which gives a warning.
N_LABELS, N_DRAWS = [20, 50, 100, 300], 3
scores = {}
for table, (X, y) in tables.items():
    for draw in range(N_DRAWS):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, test_size=0.3, random_state=draw
        )
        scaler = StandardScaler().fit(X_train)
        X_train = scaler.transform(X_train).astype(np.float32)
        X_test = scaler.transform(X_test).astype(np.float32)
        stack = StackedAutoencoder(
            sizes, activation=activation, joint=True, random_state=draw
        ).fit(X_train)
        for n_labels in N_LABELS:
            partly = y_train.copy()
            partly[n_labels:] = np.nan  # the order is random
            labelled = ~np.isnan(partly)
            models = make_models(stack, n_labels, draw)
            for name, model in models.items():
                if isinstance(model, StackedAutoencoderRegressor):
                    model.fit(X_train, partly)
                else:
                    with warnings.catch_warnings():
                        warnings.simplefilter(
                            "ignore", ConvergenceWarning
                        )
                        model.fit(X_train[labelled], partly[labelled])
                scores.setdefault((table, name, n_labels), []).append(
                    model.score(X_test, y_test)
                )

# %%
# The results
# -----------
# The table shows the mean and standard deviation over the draws.

for table in tables:
    print(f"R^2 on {table}")
    print("labels" + "".join(f"{name:>18s}" for name in models))
    for n_labels in N_LABELS:
        cells = []
        for name in models:
            found = scores[table, name, n_labels]
            cells.append(
                f"{np.mean(found):12.2f} ± {np.std(found):.2f}"
            )
        print(
            f"{n_labels:6d}" + "".join(f"{cell:>18s}" for cell in cells)
        )
    print()


def plot_scores(table, ylim):
    _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, marker in zip(models, "so^D"):
        found = np.array([scores[table, name, n] for n in N_LABELS])
        ax.errorbar(
            N_LABELS,
            found.mean(axis=1),
            found.std(axis=1),
            marker=marker,
            capsize=3,
            label=name,
        )
    ax.set(xscale="log", ylim=ylim, title=table)
    ax.set_xticks(N_LABELS, N_LABELS)
    ax.minorticks_off()
    ax.set_xlabel("labelled samples", fontsize=12)
    ax.set_ylabel("R^2 on the test set", fontsize=12)
    ax.legend(loc="lower right", fontsize=11)


plot_scores("gas sensors", (0.4, 0.9))
plt.show()

# %%
# The gain depends on the data. With other sensors and less noise, the
# Gaussian process was as good as the pretrained network.
#
# The diabetes table has 10 features and about 300 training samples. The
# target is a nearly linear function of the features, and the unlabelled
# samples contain little information about it. With few labels, the
# networks overfit, pretrained or not.

plot_scores("diabetes", (-0.4, 0.6))
plt.show()
