"""Networks: their layers, the layout of their parameters, their initial weights.

A `Network` describes the architecture; it does not hold the parameters. The parameters of all
layers share one flat buffer, first all matrices and then all biases. Gradients and the moments of
an optimiser have the same layout, and a whole network is copied, saved or restored at once.
"""

import math
import sys
from copy import copy
from functools import lru_cache
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from scipy.special import logit

from skae._kernel._sgd import ACTIVATIONS, LAYER

# Maximum number of parameters that can be addressed: training needs up to four float64 of each.
MAX_PARAMS = sys.maxsize // (4 * 8)

# Number of initial weights drawn at once. Draws are float64: for a float32 matrix, a single draw
# would take twice the memory of the matrix.
DRAW_SIZE = 2**20

CACHE_LINE = 64  # bytes; at least the size of a vector register


def aligned_zeros(shape, dtype):
    """Allocate zeros aligned to a cache line, as NumPy's own arrays rarely are."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * (math.prod(shape) if isinstance(shape, tuple) else shape)
    memory = np.zeros(size + CACHE_LINE - 1, dtype=np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def glorot(m, n):
    """Return the bound of uniform initial weights (Glorot and Bengio 2010)."""
    return np.sqrt(6.0 / (m + n))


# Properties of the activations of codes: formula, bound of the initial weights of n units with m
# inputs, whether the output is bounded (as sparsity needs it), name of the ONNX node.
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
    "top_k": SimpleNamespace(
        formula="max(0, a) of the `n_active` largest units of a sample and 0 of the others",
        bound=lambda m, n: np.sqrt(6.0 / m),
        bounded=False,
        onnx=None,  # several nodes
    ),
}
# Output activation of each reconstruction loss: its canonical link.
OUTPUT_ACTIVATION = {"squared_error": "identity", "cross_entropy": "logistic"}


def n_active_of(activation, n_active, n_units):
    """Return the number of active units of a top-k code, also for 'auto'; None for others."""
    if activation != "top_k":
        return None
    return math.isqrt(n_units - 1) + 1 if n_active == "auto" else int(n_active)


# Norm of the weights from a unit of a top-k code at the start of training.
FIRST_DECODER_NORM = 0.3

# With a top-k code, training starts with this many times the final number of active units.
FIRST_ACTIVE = 4


def decoder_activation(code):
    """Return the activation of a decoder whose output reconstructs codes."""
    return "relu" if code == "top_k" else code


@lru_cache  # for the speed of single predictions
def _table(sizes, activations, tied, n_active, by_input):
    """Return the table of the layers, the number of parameters, and the workspace width."""
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
    layers["transposed"][list(by_input)] = True
    if tied:
        layers["partner"] = np.arange(n_layers)[::-1]
        layers["transposed"][n_layers // 2 :] = True
    place = 0
    for layer in layers:
        if _borrows(layer):
            layer["weight"] = layers[layer["partner"]]["weight"]
        else:
            layer["weight"] = place
            place += layer["n_in"] * layer["n_out"]
    for layer in layers:
        layer["bias"] = place
        place += layer["n_out"]
    for k, (layer, activation) in enumerate(zip(layers, activations)):
        n_units = int(layer["n_out"])
        given = n_active[k] if k < len(n_active) else "auto"
        number = n_active_of(activation, given, n_units)
        if number and number > n_units:
            place = f" of layer {k + 1}" if len(n_active) > 1 else ""
            raise ValueError(
                f"n_active={number} must be at most {n_units}, the length of the code{place}."
            )
        layer["n_active"] = number or 0
    return layers, n_params, _place_workspace(layers)


def _borrows(layer):
    """Whether a layer uses the matrix of its partner."""
    return layer["transposed"] and layer["partner"] >= 0


def _place_workspace(layers):
    """Place inputs and deltas in the workspace, those of a tied pair as [D; A] and [A; D]."""
    place = 0
    for layer in layers:
        if layer["n_active"]:
            layer["active"] = place
            place += 1 + min(layer["n_out"], FIRST_ACTIVE * layer["n_active"])
        if _borrows(layer):
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
        Number of units of the input and of each layer, up to the output.
    activations : sequence of str
        Activation of each layer, one of the kernel's `ACTIVATIONS`.
    tied : bool, default=False
        Whether the second half of the layers uses the transposed matrices of the first half, in
        reverse order. `sizes` must be symmetric.
    n_active : sequence of (int, 'auto' or None)
        Number of active units, from the first layer on, for the layers whose activation is
        'top_k'; 'auto' for the others that are not in the sequence.
    by_input : sequence of int
        Layers whose matrix is stored by input unit: few rows of it are used if the input is a
        top-k code, or sparse.

    Attributes
    ----------
    layers : ndarray of dtype LAYER
        One record per layer, for the kernel. Training may set `dropout` and
        `learning_rate_scale`.
    n_params : int
        Length of the flat buffer.
    """

    def __init__(self, sizes, activations, *, tied=False, n_active=(), by_input=()):
        sizes = tuple(int(size) for size in sizes)  # Python's integers do not overflow
        self.activations = list(activations)
        layers, self.n_params, self.workspace_width = _table(
            sizes, tuple(activations), tied, tuple(n_active), tuple(by_input)
        )
        self.layers = layers.copy()

    @classmethod
    def autoencoder(cls, sizes, activations, loss, *, tied, output=None, n_active=()):
        """Make an encoder of `sizes` and the symmetric decoder, for a given loss.

        A hidden decoder reconstructs the code of the layer below, so it has the activation of
        that layer, or 'relu' for a top-k code; the last one has the activation `output`, or that
        of the loss.
        """
        sizes, activations = list(sizes), list(activations)
        decoders = [decoder_activation(name) for name in activations[-2::-1]]
        first_decoder = [len(activations)] if activations[-1] == "top_k" and not tied else []
        return cls(
            sizes + sizes[-2::-1],
            activations + decoders + [output or OUTPUT_ACTIVATION[loss]],
            tied=tied,
            n_active=n_active,
            by_input=first_decoder,
        )

    def __len__(self):
        return len(self.layers)

    def check(self, params):
        """Refuse parameters that do not fit this network, or the format of the kernel.

        Parameters
        ----------
        params : ndarray of shape (n_params,) or (n, n_params)
            Parameters, or buffers with the same layout.
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
        """Return the last layer as a separate network."""
        layer = self.layers[-1]
        return Network([layer["n_in"], layer["n_out"]], self.activations[-1:])

    def forward_only(self, start=None, stop=None):
        """Return layers `start` to `stop` with a smaller workspace, for inference.

        The outputs alternate between two places, because there is no backward pass.
        """
        other = copy(self)
        layers = other.layers = self.layers[start:stop].copy()
        sizes = [int(layers["n_in"][0]), *layers["n_out"].tolist()]
        second = max(sizes[::2])
        places = [second * (k % 2) for k in range(len(sizes))]
        layers["input"], layers["delta"] = places[:-1], places[1:]
        for name in ("active", "n_nonzero", "nonzero"):
            layers[name] = 0  # not used
        other.workspace_width = second + max(sizes[1::2])
        return other

    def list_features(self, n_nonzero):
        """Let the first layer, stored by input unit, use the features that are not zero alone.

        A sample has at most `n_nonzero` of them.
        """
        first = self.layers[0]
        first["n_nonzero"], first["nonzero"] = n_nonzero, self.workspace_width
        self.workspace_width += n_nonzero + 1

    def with_active(self, n_active):
        """Return a copy with another number of active units in all top-k codes."""
        other = copy(self)
        other.layers = self.layers.copy()
        top_k = other.layers["n_active"] > 0
        n_units = other.layers["n_out"][top_k].min(initial=n_active)
        if n_active > n_units:
            raise ValueError(
                f"transform_n_active={n_active} must be at most {n_units}, the length of the code."
            )
        other.layers["n_active"][top_k] = n_active
        return other

    def span(self, k, part):
        """Return the slice of the flat buffer for the "weight" or the "bias" of layer k."""
        layer = self.layers[k]
        size = layer["n_out"] * (layer["n_in"] if part == "weight" else 1)
        return slice(int(layer[part]), int(layer[part] + size))

    @property
    def largest_matrix(self):
        """Number of weights of the largest layer."""
        return int((self.layers["n_in"] * self.layers["n_out"]).max())

    def weights(self, params, k):
        """Return the matrix of layer k, shape (n_out, n_in), as a view of `params`."""
        layer = self.layers[k]
        shape = (layer["n_out"], layer["n_in"])
        view = params[self.span(k, "weight")]
        return view.reshape(shape[::-1]).T if layer["transposed"] else view.reshape(shape)

    def bias(self, params, k):
        """Return the bias of layer k, shape (n_out,), as a view of `params`."""
        return params[self.span(k, "bias")]

    def squared_weights(self, params):
        """Compute the sum of the squares of all weights, without biases."""
        matrices = params[: self.layers["bias"].min()]
        with np.errstate(over="ignore"):  # training checks that it is finite
            return float(np.dot(matrices, matrices))

    def initialize(self, rng, dtype):
        """Draw initial parameters: uniform weights around zero, biases of zero.

        The bound depends on the activation of the layer: ``sqrt(6 / (n_in + n_out))`` (Glorot
        and Bengio 2010), four times that for logistic units, as in the Theano tutorials,
        and ``sqrt(6 / n_in)`` for rectified linear units (He et al. 2015). A decoder that stores
        its matrix by input unit, as for a top-k code, has weights in the directions of the
        encoder's, so that a unit reconstructs what activates it (Gao et al. 2024).
        """
        params = np.zeros(self.n_params, dtype=dtype)
        for k, (layer, activation) in enumerate(zip(self.layers, self.activations)):
            if _borrows(layer):
                continue
            weights = self.weights(params, k)
            if layer["transposed"] and k > 0:  # the decoder of a top-k code
                rows = self.weights(params, k - 1)
                norms = np.linalg.norm(rows, axis=1, keepdims=True)
                weights.T[:] = FIRST_DECODER_NORM * rows / norms
                continue
            n_in, n_out = int(layer["n_in"]), int(layer["n_out"])
            known = CODE_ACTIVATIONS.get(activation)  # None for softmax
            bound = (known.bound if known else glorot)(n_in, n_out)
            flat = weights.reshape(-1) if weights.flags.c_contiguous else weights.flat
            for start in range(0, weights.size, DRAW_SIZE):
                stop = min(start + DRAW_SIZE, weights.size)
                flat[start:stop] = rng.uniform(-bound, bound, stop - start)
        return params

    def centre(self, params, mean):
        """Set the initial biases of a single layer and its decoder, for samples with this mean.

        The mean sample has pre-activations of zero, and the bias of the decoder reconstructs it.
        Otherwise many units of a top-k code would never be among the largest.
        """
        self.bias(params, 0)[:] = -self.weights(params, 0) @ mean
        if self.activations[1] == "logistic":
            mean = logit(np.clip(mean, 0.01, 0.99))
        self.bias(params, 1)[:] = mean

    def workspace(self, rows, dtype, *, adversarial=False, smooth=False, parts=1):
        """Allocate a workspace for batches of up to `rows` samples, as the kernel defines it.

        Adversarial training also stores the gradient of the input. Smooth predictions need this
        gradient, the predicted probabilities, and twice the rows. With several `parts`, each has
        this size.
        """
        beside = 1
        if adversarial or smooth:
            beside += int(self.layers["n_in"][0])
        if smooth:
            beside += int(self.layers["n_out"][-1])
        size = rows * ((1 + smooth) * self.workspace_width + beside)
        size += max(2, int(self.layers["n_out"].max()))
        return aligned_zeros(parts * size, dtype)
