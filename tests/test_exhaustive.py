"""scikit-learn's checks of many more configurations than test_checks.py has."""

import itertools

import numpy as np
import pytest
from common import SMALL
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeClassifier
from test_checks import BRIEF, PAIRWISE, PRETRAINED, SOLVERS, SUPERVISED, checks_of, combined

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderRegressor,
)

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def combinations(dtype):
    """More combinations of the options of `PAIRWISE`; in float32 only some."""
    classes = (DenoisingAutoencoder, StackedAutoencoder)
    losses = ("squared_error", "cross_entropy")
    for cls, loss, tied, solver in itertools.product(classes, losses, (True, False), SOLVERS):
        few = (tied, solver) in {(True, "adam"), (False, "plain")}
        all_of_them = cls is DenoisingAutoencoder and dtype == np.float64
        if (few or all_of_them) and (cls, loss, dtype, tied, solver) not in PAIRWISE:
            yield combined(cls, loss, tied, solver)


def other_autoencoders():
    for params in (
        {"activation": "identity", "corruption": "gaussian", "alpha": 1e-3},
        {"activation": "logistic", "corruption": "salt_and_pepper", "sparsity_penalty": 0.1},
        {"activation": "relu", "corruption": None, "solver": "sgd", "nesterovs_momentum": False},
        {"early_stopping": True, "validation_fraction": 0.3, "tol": 1e-4},
        {"learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
        {"learning_rate": "cosine", "shuffle": False},
    ):
        yield DenoisingAutoencoder(n_components=5, **{**BRIEF, **params})
        yield StackedAutoencoder(hidden_layer_sizes=[5, 4], **{**BRIEF, **params})
    yield StackedAutoencoder(hidden_layer_sizes=5, **BRIEF)
    yield StackedAutoencoder(
        hidden_layer_sizes=(5, 4, 3),
        **{
            **SMALL,
            "loss": "cross_entropy",
            "activation": ["logistic", "logistic", "tanh"],
            "corruption": ["masking", None, "gaussian"],
            "corruption_level": [0.1, 0.2, 0.3],
            "learning_rate_init": [0.1, 0.05, 0.01],
            "max_iter": [1, 2, 3],
        },
    )


def other_supervised():
    wide = StackedAutoencoder((30, 30), **BRIEF)
    single = {"hidden_layer_sizes": 8, "activation": "tanh", "pretrain": False, **SUPERVISED}
    common = (
        {"hidden_layer_sizes": (6, 5), "activation": "relu", "pretrain": False, "dropout": 0.1,
         "input_dropout": 0.1, "max_norm": 3.0, "n_warmup_epochs": 2, "n_averaged_epochs": 3},
        {**single, "solver": "sgd", "learning_rate": "cosine"},
        {**single, "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1,
         "adversarial_radius": 0.01},
        {**single, "early_stopping": True, "validation_fraction": 0.2, "learning_rate_init": 0.1,
         "activation": "relu"},
        {**PRETRAINED, "fine_tune": "top_then_all", "alpha": 1e-4,
         "learning_rate_factors": [0.5, 0.5, 1.0]},
    )  # fmt: skip
    for params in common:
        yield StackedAutoencoderClassifier(**{**SUPERVISED, **params})
        yield StackedAutoencoderRegressor(**{**SUPERVISED, **params})
    # A top alone needs codes that hold the target: more of them for the random one of a regressor.
    top = {**PRETRAINED, "fine_tune": "top", "learning_rate_init": 0.1}
    yield StackedAutoencoderClassifier(**top)
    yield StackedAutoencoderRegressor(**{**top, "pretrain": wide})
    yield StackedAutoencoderClassifier(
        **{**single, "learning_rate_init": 0.1},
        label_smoothing=0.1,
        class_weight="balanced",
        early_stopping=True,  # as then there is no partial_fit, which refuses "balanced"
        validation_fraction=0.2,
        shuffle=False,
    )
    yield StackedAutoencoderClassifier(**single, final_estimator=LogisticRegression())
    yield StackedAutoencoderClassifier(
        **single,
        final_estimator=DecisionTreeClassifier(min_weight_fraction_leaf=0.01, random_state=0),
    )
    yield StackedAutoencoderRegressor(**single, final_estimator=Ridge())


@checks_of([*combinations(np.float64), *other_autoencoders(), *other_supervised()])
def test_scikit_learn_checks_of_all(estimator, check, run_check):
    run_check(estimator, check)


@checks_of(combinations(np.float32))
def test_scikit_learn_checks_of_all_in_single_precision(estimator, check, run_check):
    run_check(estimator, check, np.float32)
