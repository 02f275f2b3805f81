"""
Combining codes with raw features
=================================

Codes (latent representations, embeddings) need not replace the features that they were learned
from: a `FeatureUnion` concatenates both. A linear classifier then benefits from the structure that
the codes make linearly separable, and loses no information.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skae import StackedAutoencoder

X, y = load_digits(return_X_y=True, as_frame=False)
X = X.astype(np.float32)
stack = StackedAutoencoder(random_state=0)
features = {
    "raw": "passthrough",
    "codes": stack,
    "raw + codes": FeatureUnion(
        [("raw", "passthrough"), ("codes", stack)]
    ),
}

# %%
# Logistic regression on each set of features, with five folds.

scores = {}
for name, step in features.items():
    pipe = make_pipeline(
        MinMaxScaler(), step, LogisticRegression(max_iter=300)
    )
    scores[name] = cross_val_score(pipe, X, y, cv=5)
    print(
        f"{name:12s} {scores[name].mean():.4f} +- {scores[name].std():.4f}"
    )

# %%
figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.boxplot(list(scores.values()), tick_labels=list(scores))
axes.set_ylabel("accuracy, five folds")
plt.show()
