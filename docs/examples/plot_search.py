"""
Tuning a stack by a search
==========================

This example tunes a `StackedAutoencoder` in a pipeline with
scikit-learn's searches. The score is the accuracy of the classifier,
because the reconstruction error does not show which features are
useful.

First, ``GridSearchCV`` tries layer sizes and corruption levels on the
digits. The sizes matter most, and large layers are best. Raw pixels are
a strong baseline here: the best stack is about as good. Then
``HalvingGridSearchCV`` saves time by training for fewer epochs. With
too few epochs, it chooses a learning rate that is not the best for a
long training.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import StackedAutoencoder

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype(np.float32), y, test_size=0.3, stratify=y, random_state=0
)
folds = StratifiedKFold(2, shuffle=True, random_state=0)
linear = LogisticRegression(max_iter=1000, tol=1e-3)
pipe = Pipeline(
    [
        ("scale", MinMaxScaler()),
        ("stack", StackedAutoencoder(max_iter=9, random_state=0)),
        ("linear", linear),
    ]
)

# %%
# Sizes and corruption
# --------------------
# The search compares nine settings in two folds. The classifier gets
# the codes of both layers. The baseline is the classifier on raw
# pixels, with the same folds. ``n_jobs=2`` would train two pipelines at
# a time, each in one thread; its processes take seconds to start, so it
# only helps for longer fits.
#
# If you also search over the parameters of the classifier, set the
# ``memory`` of the pipeline. Otherwise, the same stacks are trained
# repeatedly.

sizes = [(32, 16), (128, 64), (256, 128)]
levels = [0.2, 0.5, 1.0]
search = GridSearchCV(
    clone(pipe).set_params(stack__code="all"),
    {
        "stack__hidden_layer_sizes": sizes,
        "stack__corruption_level": levels,
    },
    cv=folds,
).fit(X_train, y_train)

baseline = Pipeline([("scale", MinMaxScaler()), ("linear", linear)])
raw = cross_val_score(baseline, X_train, y_train, cv=folds).mean()
results = pd.DataFrame(search.cv_results_)
table = results.pivot(
    index="param_stack__corruption_level",
    columns="param_stack__hidden_layer_sizes",
    values="mean_test_score",
)
print(table.rename_axis(index=None, columns="").round(3).to_string())
print(f"spread of the folds {results['std_test_score'].mean():.3f}")
print(f"raw pixels          {raw:.3f}")
print("on the test set")
print(f"    best setting {search.score(X_test, y_test):.3f}")
baseline.fit(X_train, y_train)
print(f"    raw pixels   {baseline.score(X_test, y_test):.3f}")

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
place = np.arange(len(sizes))
for level, marker in zip(levels, "os^"):
    ax.plot(place, table.loc[level], marker=marker, label=f"{level}")
ax.axhline(raw, color="black", linestyle="--", label="raw pixels")
ax.set_xticks(place, sizes, fontsize=12)
ax.set_xlabel("hidden_layer_sizes", fontsize=12)
ax.set_ylabel("accuracy, cross-validated", fontsize=12)
ax.legend(title="corruption_level", fontsize=12, title_fontsize=12)
plt.show()

# %%
# Halving
# -------
# Successive halving trains all settings for a few epochs, the best
# third of them again for three times as many, and so on. The resource
# is ``max_iter``. One search begins with 2 epochs and ends with 18, the
# other one begins with 18 and ends with 54. They choose different
# learning rates. Both choices are then trained for 54 epochs. The
# choice of the second search is better on the test set.

rates, epochs = [0.001, 0.003, 0.01], [2, 6, 18, 54]
pipe.set_params(stack__hidden_layer_sizes=(128, 64))
grid = {
    "stack__learning_rate_init": rates,
    "stack__corruption_level": levels,
}
for first, last in [(2, 18), (18, 54)]:
    halving = HalvingGridSearchCV(
        pipe,
        grid,
        cv=folds,
        resource="stack__max_iter",
        min_resources=first,
        max_resources=last,
        random_state=0,
    ).fit(X_train, y_train)
    print(f"{first} to {last} epochs")
    for n_candidates, n_epochs in zip(
        halving.n_candidates_, halving.n_resources_
    ):
        print(f"    {n_candidates:2d} settings, {n_epochs:2d} epochs")
    best = {
        name: halving.best_params_[name]
        for name in [*grid, "stack__max_iter"]
    }
    for name, value in best.items():
        print(f"    {name} = {value}")
    best["stack__max_iter"] = 54
    long = clone(pipe).set_params(**best)
    score = long.fit(X_train, y_train).score(X_test, y_test)
    print(f"    test accuracy after 54 epochs {score:.3f}")

# %%
# The best estimator is trained for the last number of epochs of the
# search, which is in ``best_params_``.
#
# Bias of few epochs
# ------------------
# To check halving, all settings are trained for all numbers of epochs,
# here with a corruption of 0.5. The learning rate 0.01 is better than
# 0.003 and 0.001 at first, and worse than both in the end. In the same
# way, few epochs may favour small layers and weak corruption. Therefore
# begin with a number of epochs after which the ranking of the settings
# no longer changes much.
#
# A ``"cosine"`` schedule with few epochs is not the beginning of a long
# one, because its learning rate falls to zero within these epochs. Each
# number of epochs is a separate training, and the ranking may differ
# from that of constant learning rates.

settings = {f"{rate}": {"learning_rate_init": rate} for rate in rates}
settings["0.003, cosine"] = {"learning_rate": "cosine"}
curves = {}
for name, setting in settings.items():
    model = clone(pipe)
    model["stack"].set_params(**setting)
    every = GridSearchCV(
        model,
        {"stack__max_iter": epochs},
        cv=folds,
        refit=False,
    ).fit(X_train, y_train)
    curves[name] = every.cv_results_["mean_test_score"]
curves = pd.DataFrame(curves, index=epochs).rename_axis("epochs")
print(curves.round(3).to_string())

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name in curves:
    style = "k--" if "cosine" in name else "o-"
    ax.plot(epochs, curves[name], style, label=name)
ax.set_xscale("log")
ax.set_xticks(epochs, epochs, fontsize=12)
ax.minorticks_off()
ax.set_xlabel("max_iter", fontsize=12)
ax.set_ylabel("accuracy, cross-validated", fontsize=12)
ax.legend(title="learning rate", fontsize=11, title_fontsize=12)
plt.show()
