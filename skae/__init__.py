"""Autoencoders for scikit-learn pipelines, without a deep-learning framework."""

from skae._denoising import DenoisingAutoencoder
from skae._stacked import StackedAutoencoder
from skae._supervised import StackedAutoencoderClassifier, StackedAutoencoderRegressor

__version__ = "0.1.0.dev0"

__all__ = [
    "DenoisingAutoencoder",
    "StackedAutoencoder",
    "StackedAutoencoderClassifier",
    "StackedAutoencoderRegressor",
]
