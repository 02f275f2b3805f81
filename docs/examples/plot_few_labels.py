"""
Learning from few labels
========================

Unlabelled data are cheap, labels are expensive. Here, the labels of all but a few digits are
removed (``y = -1``). The same network is trained in three ways: from random weights on the
labelled samples only, after pretraining on all samples, and with the unlabelled samples also used
in fine-tuning. Errors are measured on a separate test set.

Pretraining alone gains little, because there are only about a thousand unlabelled samples of 64
pixels. Using them in fine-tuning helps as much as three times as many labels. With all labels,
there is no gain.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skae import StackedAutoencoder, StackedAutoencoderClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32),
    y,
    test_size=0.4,
    stratify=y,
    random_state=0,
)

# %%
# The labelled samples are drawn twice for each number of labels. ``smoothness_radius`` is a fifth
# of the square root of the total variance of the pixels.

N_LABELS, N_DRAWS = [20, 50, 100, 300, len(y_train)], 2
SIZES = (256, 128)
pretrain = StackedAutoencoder(SIZES, max_iter=50, random_state=0)
unlabelled = {
    "propagate_labels": True,
    "smoothness_radius": 0.2 * np.sqrt(X_train.var(axis=0).sum()),
    "learning_rate": "cosine",
}
starts = {
    "unlabelled samples": {
        "pretrain": pretrain,
        "max_iter": 30,
        **unlabelled,
    },
    "pretrained": {"pretrain": pretrain, "dropout": 0.5},
    "from scratch": {
        "pretrain": False,
        "hidden_layer_sizes": SIZES,
        "dropout": 0.5,
    },
}
errors = {
    name: np.zeros((len(N_LABELS), N_DRAWS))
    for name in [*starts, "logistic regression"]
}

for i, n_labels in enumerate(N_LABELS):
    for draw in range(N_DRAWS):
        order = np.random.default_rng(draw).permutation(len(y_train))
        partly = np.full(len(y_train), -1)
        partly[order[:n_labels]] = y_train[order[:n_labels]]
        labelled = partly != -1
        linear = LogisticRegression(max_iter=1000).fit(
            X_train[labelled], partly[labelled]
        )
        errors["logistic regression"][i, draw] = 1 - linear.score(
            X_test, y_test
        )
        for name, start in starts.items():
            max_iter = max(30, 3000 // n_labels)
            clf = StackedAutoencoderClassifier(
                **{"max_iter": max_iter, **start}, random_state=draw
            ).fit(X_train, partly)
            errors[name][i, draw] = 1 - clf.score(X_test, y_test)

# %%
# The results are shown as a table and as a plot.

print("labels" + "".join(f"{name:>22s}" for name in errors))
for i, n_labels in enumerate(N_LABELS):
    print(
        f"{n_labels:6d}"
        + "".join(
            f"{100 * e[i].mean():20.1f} %" for e in errors.values()
        )
    )

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, values in errors.items():
    axes.errorbar(
        N_LABELS,
        100 * values.mean(axis=1),
        100 * values.std(axis=1),
        label=name,
        capsize=3,
    )
axes.set(
    xscale="log",
    xlabel="labelled samples",
    ylabel="test error in %",
    ylim=(0, None),
)
axes.set_xticks(N_LABELS, N_LABELS)
axes.minorticks_off()
axes.legend()
plt.show()
