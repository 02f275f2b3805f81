"""
Novelty detection by reconstruction error
=========================================

An autoencoder reconstructs samples like its training data well, and others badly.
``score_samples``, the negative reconstruction error of a sample, is therefore a score of
normality. Here, a stack is trained on all digits but one, and has to tell that digit from the
others.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor

from skae import ReconstructionDisplay, StackedAutoencoder

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)

# %%
# Each digit is the novelty in turn. The area under the ROC curve, on samples that no detector was
# trained on, is 1 if every novelty scores below every known digit, and 0.5 by chance. With a short
# code (latent representation, embedding) and joint training, the stack reconstructs only samples
# like its training data well. (The settings of the stack were chosen from a few candidates on this
# table; the other detectors use their defaults.)

detectors = {
    "deep autoencoder": StackedAutoencoder(
        (256, 64, 8),
        activation=["relu", "relu", "identity"],
        corruption=None,
        batch_size=50,
        max_iter=20,
        joint=True,
        joint_max_iter=60,
        random_state=0,
    ),
    "isolation forest": IsolationForest(random_state=0),
    "local outlier factor": LocalOutlierFactor(novelty=True),
}
areas = {name: [] for name in detectors}
for novelty in range(10):
    known, rest = train_test_split(np.flatnonzero(y != novelty), test_size=0.3, random_state=0)
    test = np.r_[rest, np.flatnonzero(y == novelty)]
    for name, detector in detectors.items():
        detector.fit(X[known])
        areas[name].append(roc_auc_score(y[test] != novelty, detector.score_samples(X[test])))

print("novelty " + "".join(f"{name:>22s}" for name in areas))
for novelty in range(10):
    print(f"{novelty:7d} " + "".join(f"{area[novelty]:22.3f}" for area in areas.values()))
print("   mean " + "".join(f"{np.mean(area):22.3f}" for area in areas.values()))

# %%
# The threshold is chosen on held-out normal samples: here it is the 1 % quantile of their scores.
# No novelties are needed.

known, held_out = train_test_split(X[y != 0], test_size=0.3, random_state=0)
stack = detectors["deep autoencoder"].fit(known)
threshold = np.quantile(stack.score_samples(held_out), 0.01)
found = np.mean(stack.score_samples(X[y == 0]) < threshold)
print(f"{100 * found:.0f} % of the zeros score below 99 % of the other digits")

# %%
# Reconstructions of zeros, which were not in the training data, and of the other digits.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
for ax, title, images in ((left, "unknown", X[y == 0]), (right, "known", held_out)):
    ReconstructionDisplay.from_estimator(stack, images, n_rows=8, random_state=0, ax=ax)
    ax.set_title(title)
plt.show()
