"""Names imported from scikit-learn; only this module imports private or version-dependent ones.

_compat.pyi has their types, as scikit-learn has no annotations.
"""

from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_container_adapter
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:
        """Stand in for the mixin of scikit-learn 1.9."""


__all__ = [
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassNamePrefixFeaturesOutMixin",
    "ClassifierMixin",
    "HasMethods",
    "Interval",
    "OutlierMixin",
    "RegressorMixin",
    "StrOptions",
    "TransformerMixin",
    "_check_feature_names_in",
    "_check_sample_weight",
    "_fit_context",
    "_get_container_adapter",
    "available_if",
    "check_matplotlib_support",
    "is_scalar_nan",
    "validate_parameter_constraints",
]
