"""Run a trained network over samples: in blocks, in threads, without noise."""

from contextlib import contextmanager

import numpy as np

from skae._dataset import BLOCK_SIZE
from skae._kernel import _sgd
from skae._threads import team_to_apply


@contextmanager
def _resources(network, n_samples, dtype):
    """A team, a workspace for each member, and the number of samples that it is for."""
    with team_to_apply(n_samples * network.largest_matrix) as team:
        size = max(1, min(n_samples, BLOCK_SIZE) // team.n_threads)
        yield team, network.workspace(size, dtype, parts=team.n_threads), size


def outputs(network, params, dataset, *, start=0, stop=None, index=None):
    """Outputs of layers `start` to `stop` for the samples, or for those of `index`."""
    network.check(params)
    layers = network.layers[start:stop]
    n_samples = len(dataset) if index is None else len(index)
    out = np.empty((n_samples, layers[-1]["n_out"]), dtype=params.dtype)
    with _resources(network, n_samples, params.dtype) as (team, workspace, size):
        for where, block in dataset.blocks(size * team.n_threads, index):
            _sgd.outputs(layers, team, params, workspace, size, block, out[where])
    return out


def sample_losses(network, params, objective, dataset, *, index=None, codes=None):
    """Loss of each sample, or of those of `index`, float64, without noise.

    With `codes` given, a sample is compared with the output of the last layer alone for its code,
    else with the output of the whole network.
    """
    network.check(params)
    out = np.empty(len(dataset) if index is None else len(index), dtype=np.float64)
    layers = network.layers if codes is None else network.layers[-1:]
    with _resources(network, len(out), params.dtype) as (team, workspace, size):
        for where, block in dataset.blocks(size * team.n_threads, index):
            if dataset.target is None:
                target = block
            else:
                target = dataset.target[where if index is None else index[where]]
            inputs = block if codes is None else codes[where]
            _sgd.row_losses(
                layers, objective, team, params, workspace, size, inputs, target, out[where]
            )
    return out
