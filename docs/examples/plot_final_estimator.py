"""
Another classifier on fine-tuned codes
======================================

The output layer of a `StackedAutoencoderClassifier` is linear. After fine-tuning, any other
classifier can replace it: ``final_estimator`` is fitted on the fine-tuned codes (latent
representations, embeddings). ``transform`` returns these codes for any other use.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

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
# All classifiers start from the same stack, trained without labels. The stack is fitted only once
# and is not modified.

stack = StackedAutoencoder((300, 100), random_state=0).fit(X_train)
final_estimators = {
    "own output layer": None,
    "SVC": SVC(),
    "nearest neighbours": KNeighborsClassifier(),
    "gradient boosting": HistGradientBoostingClassifier(
        max_iter=30, random_state=0
    ),
}
on_codes, on_pixels = [], []
for name, final in final_estimators.items():
    clf = StackedAutoencoderClassifier(
        pretrain=stack,
        dropout=0.3,
        max_iter=30,
        final_estimator=final,
        random_state=0,
    ).fit(X_train, y_train)
    on_codes.append(clf.score(X_test, y_test))
    on_pixels.append(
        np.nan
        if final is None
        else final.fit(X_train, y_train).score(X_test, y_test)
    )
    print(
        f"{name:20s} on fine-tuned codes {on_codes[-1]:.4f}, on raw pixels {on_pixels[-1]:.4f}"
    )

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
place = np.arange(len(final_estimators))
axes.bar(place - 0.2, on_pixels, 0.4, label="on raw pixels")
axes.bar(place + 0.2, on_codes, 0.4, label="on fine-tuned codes")
axes.set(ylim=(0.9, 1), ylabel="test accuracy")
axes.set_xticks(place, final_estimators)
axes.legend(loc="lower right")
plt.show()
