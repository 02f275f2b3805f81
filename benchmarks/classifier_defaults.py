"""Compare the classifier with scikit-learn's network, both with default parameters.

The data are scikit-learn's digits, divided by 16, in five stratified folds without shuffling.

    python benchmarks/classifier_defaults.py
"""

import time
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from skae import StackedAutoencoderClassifier


def main():
    X, y = load_digits(return_X_y=True)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for model in (StackedAutoencoderClassifier(random_state=0), MLPClassifier(random_state=0)):
        begin = time.perf_counter()
        scores = cross_val_score(model, X / 16, y, cv=StratifiedKFold(5))
        folds = " ".join(f"{score:.4f}" for score in scores)
        seconds = (time.perf_counter() - begin) / 5
        print(
            f"{type(model).__name__:30s} {scores.mean():.4f}  ({folds}), {seconds:.1f} s per fit"
        )


if __name__ == "__main__":
    main()
