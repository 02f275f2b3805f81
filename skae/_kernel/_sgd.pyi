from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skae._kernel._team import Team

_Float = TypeVar("_Float", np.float32, np.float64)

PLAIN_SGD: int
MOMENTUM: int
ADAM: int

class Objective:
    loss: int
    alpha: float
    sparse_layer: int
    sparsity_target: float
    sparsity_penalty: float
    adversarial_radius: float
    def __init__(
        self,
        loss: int,
        *,
        alpha: float = 0.0,
        sparse_layer: int = -1,
        sparsity_target: float = 0.05,
        sparsity_penalty: float = 0.0,
        adversarial_radius: float = 0.0,
        low: NDArray[np.float64] | None = None,
        high: NDArray[np.float64] | None = None,
    ) -> None: ...
    @property
    def low(self) -> Any: ...
    @property
    def high(self) -> Any: ...

class Solver:
    kind: int
    learning_rate: float
    momentum: float
    nesterov: bool
    beta_1: float
    beta_2: float
    epsilon: float
    max_norm: float
    step: int
    def __init__(
        self,
        kind: int,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        max_norm: float = 0.0,
        step: int = 0,
    ) -> None: ...
    @property
    def n_buffers(self) -> int: ...

# `layers` are rows of skae._network.LAYER.
def train(
    layers: NDArray[np.void],
    objective: Objective,
    solver: Solver,
    team: Team,
    buffers: NDArray[_Float],
    workspace: NDArray[_Float],
    X: NDArray[_Float],
    target: NDArray[_Float],
    rows: NDArray[np.int64],
    ids: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    batch_size: int,
    key: int,
) -> tuple[float, float]: ...
def loss_and_gradient(
    layers: NDArray[np.void],
    objective: Objective,
    team: Team,
    params: NDArray[_Float],
    gradient: NDArray[_Float],
    workspace: NDArray[_Float],
    X: NDArray[_Float],
    target: NDArray[_Float],
    rows: NDArray[np.int64],
    ids: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    key: int,
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
    layers: NDArray[np.void],
    objective: Objective,
    X: NDArray[_Float],
    ids: NDArray[np.int64],
    key: int,
    out: NDArray[_Float],
) -> None: ...
