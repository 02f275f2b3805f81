"""
Novelty detection in a table
============================

`StackedAutoencoderDetector` is trained on normal samples. It detects new samples that differ from
them, and shows which features differ. Here, benign tumours are normal.
"""

# sphinx_gallery_thumbnail_number = 2

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import FeatureScoreDisplay, StackedAutoencoderDetector

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
benign, malignant = X[y == 1], X[y == 0]
X_train, X_normal = train_test_split(
    benign, test_size=0.5, random_state=0
)

# %%
# The detector standardises the features internally. ``LocalOutlierFactor`` needs a scaler, because
# distances depend on the scale.

detectors = {
    "autoencoders": StackedAutoencoderDetector(random_state=0),
    "isolation forest": IsolationForest(random_state=0),
    "local outlier factor": make_pipeline(
        StandardScaler(), LocalOutlierFactor(novelty=True)
    ),
}
for detector in detectors.values():
    detector.fit(X_train)
detector = detectors["autoencoders"]

# %%
# Two kinds of novelties
# ----------------------
#
# Malignant tumours are novel. Many of their features are larger than those of benign ones, and all
# detectors find them about equally well.
#
# A wrong value is harder to find. Here, one value of each normal sample is moved by two standard
# deviations of its feature, up or down. It is often within the range of its feature, but does not
# fit the other values of the sample. An autoencoder has learned how features depend on each other.
# The score of a sample is the sum of the errors of its features, to which a single feature adds
# little. The largest error, relative to the usual error of its feature, finds more of these
# samples.

rng = np.random.default_rng(0)
samples = np.arange(len(X_normal))
wrong = rng.integers(X.shape[1], size=len(samples))
values = X_normal.to_numpy(copy=True)
steps = 2 * X_train.std(ddof=0).to_numpy()[wrong]
values[samples, wrong] += steps * rng.choice([-1, 1], size=len(samples))
X_wrong = pd.DataFrame(values, columns=X.columns)


def largest_error(X):
    return (detector.feature_scores(X) / detector.feature_errors_).min(
        axis=1
    )


scorers = {name: one.score_samples for name, one in detectors.items()}
scorers["autoencoders, largest error"] = largest_error
figure, axes = plt.subplots(
    1, 2, figsize=(9, 4.6), sharey=True, layout="constrained"
)
novelties = {
    "malignant tumours": malignant,
    "one wrong value in a sample": X_wrong,
}
for ax, (title, novel) in zip(axes, novelties.items()):
    is_novel = np.repeat([0, 1], [len(X_normal), len(novel)])
    print(title)
    for (name, scorer), color in zip(
        scorers.items(), ["C0", "C1", "C2", "C0"]
    ):
        errors = -np.concatenate([scorer(X_normal), scorer(novel)])
        area = roc_auc_score(is_novel, errors)
        print(f"    {name:27s} AUC {area:.2f}")
        style = "--" if scorer is largest_error else "-"
        flagged, found, _ = roc_curve(is_novel, errors)
        ax.plot(
            flagged,
            found,
            style,
            color=color,
            label=f"{name} ({area:.2f})",
        )
    ax.plot([0, 1], [0, 1], ":", color="grey", label="chance (0.50)")
    ax.set(title=title, xlabel="share of normal samples flagged")
    ax.legend(loc="lower right", title="AUC", fontsize=9)
axes[0].set_ylabel("share of novel samples found")
plt.show()

# %%
# The threshold
# -------------
#
# ``predict`` compares the scores with a threshold. ``fit`` chooses it by the scores of samples
# that a network was not trained on. It needs no novel samples. By default, about 5 % of new normal
# samples are flagged.

new = {
    "benign": X_normal,
    "malignant": malignant,
    "one wrong value": X_wrong,
}
for title, rows in new.items():
    print(
        f"{title:15s} {np.mean(detector.predict(rows) == -1):4.0%} flagged"
    )

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
bins = np.geomspace(1, 1e4, 41)
for title, rows in {"benign": X_normal, "malignant": malignant}.items():
    ax.hist(-detector.score_samples(rows), bins, alpha=0.6, label=title)
ax.axvline(
    -detector.offset_, color="black", linestyle="--", label="threshold"
)
ax.set(
    xscale="log",
    xlabel="reconstruction error (minus score_samples)",
    ylabel="samples",
)
ax.legend()
plt.show()

# %%
# Which features are unusual
# --------------------------
#
# ``feature_scores`` splits the score of a sample into those of its features. The left plot shows a
# malignant tumour: the features of its size have large errors, whereas usual errors are less than
# one. The right plot shows a sample with a wrong value, which has by far the largest error.

largest = detector.feature_scores(X_wrong).argmin(axis=1)
farthest = (
    np.abs((X_wrong - detector.mean_) / detector.scale_)
    .to_numpy()
    .argmax(axis=1)
)
print(
    f"the wrong value has the largest error in "
    f"{np.mean(largest == wrong):.0%} of the samples,"
)
print(
    f"and is the farthest from the mean in {np.mean(farthest == wrong):.0%}"
)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 4), layout="constrained"
)
FeatureScoreDisplay.from_estimator(detector, malignant[:1], ax=left)
left.set_title("a malignant tumour")
FeatureScoreDisplay.from_estimator(detector, X_wrong[:1], ax=right)
right.set_title(f"wrong {X.columns[wrong[0]]}")
plt.show()
