"""Autoencoders for scikit-learn pipelines, without a deep-learning framework."""

from skae._classifier import StackedAutoencoderClassifier
from skae._denoising import DenoisingAutoencoder
from skae._displays import CodeDisplay, FilterDisplay, LossCurveDisplay, ReconstructionDisplay
from skae._regressor import StackedAutoencoderRegressor
from skae._stacked import StackedAutoencoder
from skae._version import __version__

__all__ = [
    "CodeDisplay",
    "DenoisingAutoencoder",
    "FilterDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
    "StackedAutoencoder",
    "StackedAutoencoderClassifier",
    "StackedAutoencoderRegressor",
    "__version__",
]
