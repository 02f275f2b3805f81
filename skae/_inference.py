"""Apply a trained network to samples: in blocks, with several threads, without noise."""

from contextlib import contextmanager

import numpy as np
from scipy.special import entr

from skae._dataset import ArrayDataset, add_moments, filled, has_missing, over
from skae._kernel import _sgd
from skae._threads import team_to_apply


@contextmanager
def _resources(network, n_samples, dataset, width=0):
    """Yield a team, the workspaces of its members, and the number of samples of a workspace.

    The samples are those of `dataset`, each with `width` more values in a block.
    """
    with team_to_apply(n_samples * network.largest_matrix) as team:
        block_size = dataset.block_size(network.workspace_width + 1 + width)
        size = max(1, min(n_samples, block_size) // team.n_threads)
        yield team, network.workspace(size, dataset.dtype, parts=team.n_threads), size


def outputs(network, params, dataset, *, start=0, stop=None, index=None):
    """Compute the outputs of layers `start` to `stop` for all samples, or those of `index`."""
    network.check(params)
    network = network.forward_only(start, stop)
    n_samples = len(dataset) if index is None else len(index)
    out = np.empty((n_samples, network.layers[-1]["n_out"]), dtype=params.dtype)
    with _resources(network, n_samples, dataset) as (team, workspace, size):
        for where, block in dataset.blocks(size * team.n_threads, index):
            block = filled(block)
            _sgd.outputs(network.layers, team, params, workspace, size, block, out[where])
            del block
    return out


def sample_losses(network, params, objective, dataset, *, index=None, codes=None):
    """Compute the loss of each sample, or of those of `index`, as float64, without noise.

    With a data set of `codes`, a sample is compared with the output of the last layer for its
    code, else with the output of the whole network.
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
            block = filled(block)
            _sgd.row_losses(
                network.layers, objective, team, params, workspace, size, block, target, out[where]
            )
            del block, target
    return out


def dead_fraction(codes, index):
    """Compute the fraction of units that are zero in all codes of `index`."""
    used = np.zeros(codes.n_features, dtype=bool)
    for _, block in codes.blocks(codes.block_size(), index):
        used |= block.any(axis=0)
        del block
    return float(1.0 - used.mean())


def reconstruction_quality(dataset, reconstructed, index, loss):
    """Compute R^2 of the reconstruction of the samples of `index`, and the loss of their mean.

    Missing values are ignored. ``reconstructed(dataset)`` returns the reconstructions of a data
    set, as a data set. R^2 is nan if no feature varies.
    """
    weights = dataset.weights_of_mean(index)
    if weights is None:
        weights = np.ones(len(index))
    size = reconstructed(dataset).block_size(4 * dataset.n_features)
    total, error = None, 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for where, block in dataset.blocks(size, index):
            w = weights[where]
            if not w.any():  # relative weights may underflow
                continue
            difference = np.subtract(
                block, reconstructed(ArrayDataset(block)).take(slice(None)), dtype=np.float64
            )
            if has_missing(block):
                difference[np.isnan(block)] = 0.0
            error += w @ np.einsum("ij,ij->i", difference, difference)
            del difference
            total = add_moments(total, block, w)
            del block
        spread = total["squares"].sum()
        varies = spread > 0 and np.isfinite(spread)
        r2 = float(1 - error / spread) if varies else np.nan
        if loss == "squared_error":
            return r2, float(over(total["squares"], total["weight"]).sum())
        mean = np.clip(total["mean"], 0, 1)
        return r2, float((entr(mean) + entr(1 - mean)).sum())
