"""Networks: their layers, the flat buffer of their parameters, their initial weights.

A `Network` describes; it holds no numbers. The parameters of all layers share one flat
buffer, first all matrices and then all biases, so that gradients and the moments of an
optimiser have the same layout, and a whole network is copied, saved or restored at once.
"""

import sys
from copy import copy
from functools import lru_cache
from itertools import pairwise
from math import prod
from types import SimpleNamespace

import numpy as np

from skae._kernel._sgd import ACTIVATIONS, LAYER

# Most parameters that can be addressed: training holds up to four float64 of each.
MAX_PARAMS = sys.maxsize // (4 * 8)

# Initial weights drawn by one call. Draws are float64: those of a float32 matrix would take twice
# its memory if they were made at once.
DRAW_SIZE = 2**20

CACHE_LINE = 64  # bytes; a vector register holds no more


def aligned_zeros(shape, dtype):
    """Allocate zeros that begin at a cache line, which NumPy's own arrays rarely do."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * (prod(shape) if isinstance(shape, tuple) else shape)
    memory = np.zeros(size + CACHE_LINE - 1, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def glorot(m, n):
    """Bound of uniform initial weights (Glorot and Bengio 2010)."""
    return np.sqrt(6.0 / (m + n))


# Properties of the activations of codes: formula, bound of the initial weights of n units with m
# inputs, whether a sparsity penalty can hold the mean, name of the ONNX node.
CODE_ACTIVATIONS = {
    "relu": SimpleNamespace(
        formula="max(0, a)", bound=lambda m, n: np.sqrt(6.0 / m), bounded=False, onnx="Relu"
    ),
    "identity": SimpleNamespace(formula="a", bound=glorot, bounded=False, onnx="Identity"),
    "logistic": SimpleNamespace(
        formula="1 / (1 + exp(-a))",
        bound=lambda m, n: 4.0 * glorot(m, n),
        bounded=True,
        onnx="Sigmoid",
    ),
    "tanh": SimpleNamespace(formula="tanh(a)", bound=glorot, bounded=True, onnx="Tanh"),
}
# Output activation of each reconstruction loss: its canonical link.
OUTPUT_ACTIVATION = {"squared_error": "identity", "cross_entropy": "logistic"}


@lru_cache  # a pass of one sample should not wait for it
def _table(sizes, activations, tied):
    """The records of the layers, their number of parameters, and columns of their workspace."""
    n_layers = len(sizes) - 1
    if min(sizes) < 1:
        raise ValueError(f"sizes {list(sizes)} are not all positive")
    if tied and (sizes != sizes[::-1] or n_layers % 2):
        raise ValueError(f"sizes {list(sizes)} are not those of a tied autoencoder")
    n_weights = sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    n_params = n_weights // (1 + tied) + sum(sizes[1:])
    if n_params > MAX_PARAMS:
        raise ValueError(
            f"A network with layers of {list(sizes)} units has {n_params} parameters, more than "
            f"can be addressed ({MAX_PARAMS}). Use fewer hidden units, or fewer features."
        )
    layers = np.zeros(n_layers, dtype=LAYER)
    layers["n_in"], layers["n_out"] = sizes[:-1], sizes[1:]
    layers["activation"] = [ACTIVATIONS[name] for name in activations]
    layers["partner"] = -1
    layers["learning_rate_scale"] = 1.0
    if tied:
        layers["partner"] = np.arange(n_layers)[::-1]
        layers["transposed"][n_layers // 2 :] = True
    place = 0
    for layer in layers:
        if layer["transposed"]:
            layer["weight"] = layers[layer["partner"]]["weight"]
        else:
            layer["weight"] = place
            place += layer["n_in"] * layer["n_out"]
    for layer in layers:
        layer["bias"] = place
        place += layer["n_out"]
    return layers, n_params, _place_workspace(layers)


def _place_workspace(layers):
    """Place inputs and deltas side by side; those of a tied pair as [D; A] and [A; D]."""
    place = 0
    for layer in layers:
        if layer["transposed"]:
            continue
        partner = layers[layer["partner"]] if layer["partner"] >= 0 else None
        for mine, theirs, width in (("delta", "input", "n_out"), ("input", "delta", "n_in")):
            layer[mine] = place
            place += layer[width]
            if partner is not None:
                partner[theirs] = place
                place += layer[width]
    return int(place)


class Network:
    """Fully connected layers over one flat buffer of parameters.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, from the input to the output; one more than there are layers.
    activations : sequence of str
        Activation of each layer, one of the kernel's `ACTIVATIONS`.
    tied : bool, default=False
        Whether the second half of the layers uses the matrices of the first half,
        mirrored and transposed. `sizes` must read the same backwards.

    Attributes
    ----------
    layers : ndarray of dtype LAYER
        One record a layer, for the kernel. Training may set its `dropout` and
        `learning_rate_scale`.
    n_params : int
        Length of the flat buffer.
    """

    def __init__(self, sizes, activations, *, tied=False):
        sizes = tuple(int(size) for size in sizes)  # as Python's integers do not overflow
        self.activations = list(activations)
        layers, self.n_params, self.workspace_width = _table(sizes, tuple(activations), tied)
        self.layers = layers.copy()

    @classmethod
    def autoencoder(cls, sizes, activations, loss, *, tied, output=None):
        """Make an encoder of `sizes` and its mirror image, for a given loss.

        A hidden decoder reconstructs the code of the layer below, so it has the activation of
        that layer; the last one has the activation `output`, or that of the loss.
        """
        sizes, activations = list(sizes), list(activations)
        return cls(
            sizes + sizes[-2::-1],
            activations + activations[-2::-1] + [output or OUTPUT_ACTIVATION[loss]],
            tied=tied,
        )

    def __len__(self):
        return len(self.layers)

    def check(self, params):
        """Refuse parameters that are not this network's, or not as the kernel takes them.

        Parameters
        ----------
        params : ndarray of shape (n_params,) or (n, n_params)
            Parameters, or what else has one number for each.
        """
        if (
            not isinstance(params, np.ndarray)
            or params.dtype not in (np.float32, np.float64)
            or params.shape[-1:] != (self.n_params,)
            or params.size == 0
            or not (params.flags.c_contiguous and params.flags.aligned)
        ):
            found = [getattr(params, name, "unknown") for name in ("shape", "dtype")]
            raise ValueError(
                f"The parameters do not fit the architecture: it has {self.n_params}, and needs "
                "them in rows of a contiguous, aligned array of float32 or float64, but their "
                f"shape is {found[0]} and their dtype {found[1]}."
            )

    def output_layer(self):
        """The last layer as a network of its own."""
        layer = self.layers[-1]
        return Network([layer["n_in"], layer["n_out"]], self.activations[-1:])

    def forward_only(self, start=None, stop=None):
        """Layers `start` to `stop`, with a smaller workspace, for when nothing is learned.

        Their outputs take turns in two places, as no backward pass needs them again.
        """
        other = copy(self)
        layers = other.layers = self.layers[start:stop].copy()
        sizes = [int(layers["n_in"][0]), *layers["n_out"].tolist()]
        second = max(sizes[::2])
        places = [second * (k % 2) for k in range(len(sizes))]
        layers["input"], layers["delta"] = places[:-1], places[1:]
        other.workspace_width = second + max(sizes[1::2])
        return other

    def span(self, k, part):
        """The slice of the flat buffer that holds the "weight" or the "bias" of layer k."""
        layer = self.layers[k]
        size = layer["n_out"] * (layer["n_in"] if part == "weight" else 1)
        return slice(int(layer[part]), int(layer[part] + size))

    @property
    def largest_matrix(self):
        """Number of weights of the largest layer."""
        return int((self.layers["n_in"] * self.layers["n_out"]).max())

    def weights(self, params, k):
        """The matrix of layer k, shape (n_out, n_in), as a view of `params`."""
        layer = self.layers[k]
        shape = (layer["n_out"], layer["n_in"])
        view = params[self.span(k, "weight")]
        return view.reshape(shape[::-1]).T if layer["transposed"] else view.reshape(shape)

    def bias(self, params, k):
        """The bias of layer k, shape (n_out,), as a view of `params`."""
        return params[self.span(k, "bias")]

    def squared_weights(self, params):
        """Sum of the squares of all weights, biases left out."""
        matrices = params[: self.layers["bias"].min()]
        with np.errstate(over="ignore"):  # training finds what is not finite
            return float(np.dot(matrices, matrices))

    def initialize(self, rng, dtype):
        """Draw initial parameters: uniform weights around zero, biases of zero.

        The bound follows the activation of the layer: ``sqrt(6 / (n_in + n_out))`` (Glorot
        and Bengio 2010), four times that for logistic units, as in the Theano tutorials,
        and ``sqrt(6 / n_in)`` for rectified ones (He et al. 2015).
        """
        params = np.zeros(self.n_params, dtype=dtype)
        for k, (layer, activation) in enumerate(zip(self.layers, self.activations)):
            if layer["transposed"]:
                continue
            n_in, n_out = int(layer["n_in"]), int(layer["n_out"])
            known = CODE_ACTIVATIONS.get(activation)  # softmax is none of them
            bound = (known.bound if known else glorot)(n_in, n_out)
            weights = params[self.span(k, "weight")]
            for start in range(0, len(weights), DRAW_SIZE):
                part = weights[start : start + DRAW_SIZE]
                part[:] = rng.uniform(-bound, bound, len(part))
        return params

    def workspace(self, rows, dtype, *, adversarial=False, smooth=False, parts=1):
        """Allocate memory for batches of up to `rows` samples; see the kernel's contract.

        Adversarial training needs a place for the slopes of the input beside the others; smooth
        predictions that, one for the outputs, and as many rows more. Each of several `parts` is
        as large.
        """
        beside = 1
        if adversarial or smooth:
            beside += int(self.layers["n_in"][0])
        if smooth:
            beside += int(self.layers["n_out"][-1])
        size = rows * ((1 + smooth) * self.workspace_width + beside)
        size += max(2, int(self.layers["n_out"].max()))
        return aligned_zeros(parts * size, dtype)
