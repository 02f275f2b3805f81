"""The only importer of private, or version-dependent, names of scikit-learn."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sklearn import base
from sklearn.utils import metaestimators
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """There are no callbacks to support."""


Method = TypeVar("Method", bound=Callable[..., Any])


class Decorator(Protocol):
    """One that keeps the type. Those of scikit-learn, without annotations, would make it Any."""

    def __call__(self, method: Method, /) -> Method: ...


_fit_context: Callable[..., Decorator] = base._fit_context
available_if: Callable[..., Decorator] = metaestimators.available_if

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "available_if",
    "check_matplotlib_support",
]
