"""Types for annotations of the public classes."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from numpy.typing import ArrayLike, NDArray
from scipy.sparse import sparray, spmatrix

T = TypeVar("T")

MatrixLike: TypeAlias = ArrayLike | spmatrix | sparray
PerLayer: TypeAlias = T | Sequence[T] | NDArray[Any]  # one for all layers, or one for each

__all__ = ["ArrayLike", "MatrixLike", "NDArray", "PerLayer"]
