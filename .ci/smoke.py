"""The installed package does its main job: smoke.py CHECKOUT, run from outside the checkout."""

import pickle
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

import skae
from skae import StackedAutoencoder

checkout = Path(sys.argv[1]).resolve()
installed = Path(skae.__file__).resolve()
assert not installed.is_relative_to(checkout), f"{installed} is the checkout, not the wheel"

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
pipeline = Pipeline(
    [
        ("scale", MinMaxScaler()),
        ("sae", StackedAutoencoder(hidden_layer_sizes=(32, 16), max_iter=20, random_state=0)),
        ("svm", SVC()),
    ]
)
accuracy = pipeline.fit(X_train, y_train).score(X_test, y_test)
assert accuracy > 0.8, f"accuracy {accuracy:.3f}"

again = pickle.loads(pickle.dumps(pipeline))
assert np.array_equal(again.predict(X_test), pipeline.predict(X_test))
assert np.array_equal(again[:-1].transform(X_test), pipeline[:-1].transform(X_test))

print(f"skae {skae.__version__} from {installed.parent}: accuracy {accuracy:.3f}")
