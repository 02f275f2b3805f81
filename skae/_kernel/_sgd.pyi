from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from skae._kernel._team import Team

_Float = TypeVar("_Float", np.float32, np.float64)

ACTIVATIONS: dict[str, int]
LOSSES: dict[str, int]
NOISES: dict[str | None, int]
SOLVERS: dict[str, int]
LAYER: np.dtype[np.void]

class Objective:
    loss: Final[str]
    alpha: float
    sparse_layer: int
    sparsity_target: float
    sparsity_penalty: float
    adversarial_radius: float
    smoothness_radius: float
    entropy_weight: float
    balance_weight: float
    class_shares: Final[Any]
    def __init__(
        self,
        loss: str,
        *,
        alpha: float = 0.0,
        sparse_layer: int = -1,
        sparsity_target: float = 0.05,
        sparsity_penalty: float = 0.0,
        adversarial_radius: float = 0.0,
        smoothness_radius: float = 0.0,
        entropy_weight: float = 0.0,
        balance_weight: float = 0.0,
        class_shares: NDArray[np.float64] | None = None,
    ) -> None: ...

class Solver:
    kind: Final[str]
    learning_rate: float
    momentum: float
    nesterov: bool
    beta_1: float
    beta_2: float
    epsilon: float
    max_norm: float
    def __init__(
        self,
        kind: str,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_norm: float = 0.0,
    ) -> None: ...
    @property
    def n_buffers(self) -> int: ...
    @property
    def needs_gradient(self) -> bool: ...

class Corruption:
    kind: Final[str | None]
    level: Final[float]
    low: Final[Any]
    high: Final[Any]
    scale: Final[Any]
    pool: Final[NDArray[Any] | None]
    def __init__(
        self,
        kind: str | None = None,
        level: float = 0.0,
        *,
        low: NDArray[np.float64] | None = None,
        high: NDArray[np.float64] | None = None,
        scale: NDArray[np.float64] | None = None,
        pool: NDArray[Any] | None = None,
    ) -> None: ...

class Problem:
    layers: Final[Any]
    objective: Final[Objective]
    solver: Final[Solver]
    state: Final[Any]
    corruption: Final[Corruption]
    def __init__(
        self,
        layers: NDArray[np.void],
        objective: Objective,
        solver: Solver,
        state: Any,
        corruption: Corruption | None = None,
    ) -> None: ...

class Batches:
    X: Final[NDArray[Any]]
    target: Final[NDArray[Any]]
    rows: Final[NDArray[np.int64]]
    ids: Final[NDArray[np.int64]]
    weights: Final[NDArray[np.float64] | None]
    size: Final[int]
    key: Final[int]
    n_labelled: Final[int]
    def __init__(
        self,
        X: NDArray[Any],
        target: NDArray[Any],
        rows: NDArray[np.int64],
        ids: NDArray[np.int64],
        weights: NDArray[np.float64] | None,
        size: int,
        key: int,
        n_labelled: int = -1,
    ) -> None: ...

def train(
    problem: Problem,
    batches: Batches,
    team: Team,
    gradient: NDArray[_Float],
    workspace: NDArray[_Float],
) -> float: ...
def loss_and_gradient(
    problem: Problem,
    batches: Batches,
    team: Team,
    gradient: NDArray[_Float],
    workspace: NDArray[_Float],
) -> float: ...
def outputs(
    layers: NDArray[np.void],
    team: Team,
    params: NDArray[_Float],
    workspace: NDArray[_Float],
    workspace_rows: int,
    X: NDArray[_Float],
    out: NDArray[_Float],
) -> None: ...
def row_losses(
    layers: NDArray[np.void],
    objective: Objective,
    team: Team,
    params: NDArray[_Float],
    workspace: NDArray[_Float],
    workspace_rows: int,
    X: NDArray[_Float],
    target: NDArray[_Float],
    out: NDArray[np.float64],
) -> None: ...
def corrupt_rows(
    corruption: Corruption,
    X: NDArray[_Float],
    ids: NDArray[np.int64],
    key: int,
    out: NDArray[_Float],
) -> None: ...
