"""Autoencoders for scikit-learn pipelines, without a deep-learning framework."""

from skae._checkpoint import Checkpoint, resume
from skae._classifier import StackedAutoencoderClassifier
from skae._denoising import DenoisingAutoencoder
from skae._detector import StackedAutoencoderDetector
from skae._displays import (
    CodeDisplay,
    FeatureScoreDisplay,
    FilterDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
)
from skae._imputer import StackedAutoencoderImputer
from skae._marginalized import MarginalizedAutoencoder
from skae._regressor import StackedAutoencoderRegressor
from skae._stacked import StackedAutoencoder
from skae._version import __version__

__all__ = [
    "Checkpoint",
    "CodeDisplay",
    "DenoisingAutoencoder",
    "FeatureScoreDisplay",
    "FilterDisplay",
    "LossCurveDisplay",
    "MarginalizedAutoencoder",
    "ReconstructionDisplay",
    "StackedAutoencoder",
    "StackedAutoencoderClassifier",
    "StackedAutoencoderDetector",
    "StackedAutoencoderImputer",
    "StackedAutoencoderRegressor",
    "__version__",
    "resume",
]
