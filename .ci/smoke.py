"""The installed package does its main job: smoke.py CHECKOUT, run from outside the checkout.

The types are those that a user's checker sees.
"""

import pickle
import sys
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

import skae
from skae import StackedAutoencoder, StackedAutoencoderClassifier


def main(checkout: Path) -> None:
    installed = Path(skae.__file__).resolve()
    assert not installed.is_relative_to(checkout), f"{installed} is the checkout, not the wheel"

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    stack = StackedAutoencoder((32, 16), max_iter=20, random_state=0)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("sae", stack), ("svm", SVC())])
    accuracy = pipeline.fit(X_train, y_train).score(X_test, y_test)
    assert accuracy > 0.8, f"accuracy {accuracy:.3f}"

    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.predict(X_test), pipeline.predict(X_test))
    assert np.array_equal(again[:-1].transform(X_test), pipeline[:-1].transform(X_test))

    X_scaled: NDArray[np.float64] = X_test / 16
    codes = assert_type(stack.transform(X_scaled), NDArray[Any])
    assert assert_type(stack.inverse_transform(codes), NDArray[Any]).shape == X_scaled.shape
    assert np.isclose(
        assert_type(stack.score(X_scaled), float), stack.score_samples(X_scaled).mean()
    )
    classifier = StackedAutoencoderClassifier(pretrain=stack, max_iter=2)
    assert_type(classifier.fit(X_scaled, y_test), StackedAutoencoderClassifier)
    assert assert_type(classifier.predict(X_scaled), NDArray[Any]).shape == y_test.shape
    try:
        StackedAutoencoder("many").fit(X_scaled)  # type: ignore[arg-type]
    except ValueError:
        pass

    print(f"skae {skae.__version__} from {installed.parent}: accuracy {accuracy:.3f}")


main(Path(sys.argv[1]).resolve())
