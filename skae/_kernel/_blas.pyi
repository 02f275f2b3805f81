from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

INSTRUCTIONS: dict[str, int]

_Float = TypeVar("_Float", np.float32, np.float64)

def matmul(
    a: NDArray[_Float],
    b: NDArray[_Float],
    out: NDArray[_Float],
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1,
    beta: float = 0,
    instructions: str | None = None,
) -> None: ...
