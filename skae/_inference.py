"""Run a trained network over samples: in blocks, in threads, without noise."""

from contextlib import contextmanager

import numpy as np

from skae._kernel import _sgd
from skae._threads import team_to_apply


@contextmanager
def _resources(network, n_samples, dataset, width=0):
    """A team, a workspace for each member, and the number of samples that it is for.

    The samples come from `dataset`, and take `width` numbers more each.
    """
    with team_to_apply(n_samples * network.largest_matrix) as team:
        block_size = dataset.block_size(network.workspace_width + 1 + width)
        size = max(1, min(n_samples, block_size) // team.n_threads)
        yield team, network.workspace(size, dataset.dtype, parts=team.n_threads), size


def outputs(network, params, dataset, *, start=0, stop=None, index=None):
    """Outputs of layers `start` to `stop` for the samples, or for those of `index`."""
    network.check(params)
    network = network.forward_only(start, stop)
    n_samples = len(dataset) if index is None else len(index)
    out = np.empty((n_samples, network.layers[-1]["n_out"]), dtype=params.dtype)
    with _resources(network, n_samples, dataset) as (team, workspace, size):
        for where, block in dataset.blocks(size * team.n_threads, index):
            _sgd.outputs(network.layers, team, params, workspace, size, block, out[where])
            del block
    return out


def sample_losses(network, params, objective, dataset, *, index=None, codes=None):
    """Loss of each sample, or of those of `index`, float64, without noise.

    With `codes` given, a data set, a sample is compared with the output of the last layer alone
    for its code, else with the output of the whole network.
    """
    network.check(params)
    out = np.empty(len(dataset) if index is None else len(index), dtype=np.float64)
    if codes is None:
        network, inputs, width = network.forward_only(), dataset, 0
    else:
        network, inputs, width = network.forward_only(-1), codes, dataset.width
    with _resources(network, len(out), inputs, width) as (team, workspace, size):
        for where, block in inputs.blocks(size * team.n_threads, index):
            place = where if index is None else index[where]
            if dataset.target is not None:
                target = dataset.target[place]
            else:
                target = block if codes is None else dataset.take(place)
            _sgd.row_losses(
                network.layers, objective, team, params, workspace, size, block, target, out[where]
            )
            del block, target
    return out
