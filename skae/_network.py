"""What a network is: its layers, the flat buffer of its parameters, its initial weights.

A `Network` describes; it holds no numbers. The parameters of all layers share one flat
buffer, first all matrices and then all biases, so that gradients and the moments of an
optimiser have the same layout, and a whole network is copied, saved or restored at once.
"""

from contextlib import contextmanager

import numpy as np

from skae._kernel import _sgd
from skae._rows import CHUNK_ROWS
from skae._threads import team_to_apply

# The codes stand in _kernel/_elementwise.h too.
ACTIVATIONS = {"identity": 0, "logistic": 1, "tanh": 2, "relu": 3, "softmax": 4}
LOSSES = {"squared_error": 0, "cross_entropy": 1, "log_loss": 2}
NOISES = {None: 0, "masking": 1, "gaussian": 2, "salt_and_pepper": 3, "dropout": 4}
# What a code, and a reconstruction of it, may be: softmax, log loss and dropout are for classes.
CODE_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
RECONSTRUCTION_LOSSES = ("squared_error", "cross_entropy")
CORRUPTIONS = ("masking", "gaussian", "salt_and_pepper")
# A reconstruction is read off the units that the loss is made for.
OUTPUT_ACTIVATION = {
    "squared_error": "identity",
    "cross_entropy": "logistic",
    "log_loss": "softmax",
}

# A layer as the kernel sees it: the struct `Layer` of _kernel/_sgd.pyx, field by field.
LAYER = np.dtype(
    [
        ("n_in", np.int64),
        ("n_out", np.int64),
        ("weight", np.int64),
        ("bias", np.int64),
        ("partner", np.int64),
        ("tied", np.int64),
        ("activation", np.int64),
        ("noise", np.int64),
        ("noise_level", np.float64),
        ("rate", np.float64),
        ("input", np.int64),
        ("delta", np.int64),
    ]
)


class Network:
    """Fully connected layers over one flat buffer of parameters.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, from the input to the output; one more than there are layers.
    activations : sequence of str
        Activation of each layer, of `ACTIVATIONS`.
    tied : bool, default=False
        Whether the second half of the layers uses the matrices of the first half,
        mirrored and transposed. `sizes` must read the same backwards.

    Attributes
    ----------
    layers : ndarray of dtype LAYER
        One row a layer, for the kernel.
    n_params : int
        Length of the flat buffer.
    """

    def __init__(self, sizes, activations, *, tied=False):
        n_layers = len(sizes) - 1
        layers = self.layers = np.zeros(n_layers, dtype=LAYER)
        layers["n_in"], layers["n_out"] = sizes[:-1], sizes[1:]
        layers["activation"] = [ACTIVATIONS[name] for name in activations]
        layers["partner"] = -1
        layers["rate"] = 1.0
        if tied:
            if list(sizes) != list(sizes)[::-1] or n_layers % 2:
                raise ValueError(f"sizes {list(sizes)} are not those of a tied autoencoder")
            layers["partner"] = np.arange(n_layers)[::-1]
            layers["tied"][n_layers // 2 :] = True
        self._place_parameters()
        self._place_workspace()

    @classmethod
    def autoencoder(cls, sizes, activations, loss, *, tied, output=None):
        """Encoder of `sizes` and its mirror image, for a given loss.

        A hidden decoder gives back the code that the encoder beneath it made, through the
        same activation; the last one has the activation `output`, or that of the loss.
        """
        sizes, activations = list(sizes), list(activations)
        return cls(
            sizes + sizes[-2::-1],
            activations + activations[-2::-1] + [output or OUTPUT_ACTIVATION[loss]],
            tied=tied,
        )

    def _place_parameters(self):
        place = 0
        for layer in self.layers:
            if layer["tied"]:
                layer["weight"] = self.layers[layer["partner"]]["weight"]
            else:
                layer["weight"] = place
                place += layer["n_in"] * layer["n_out"]
        for layer in self.layers:
            layer["bias"] = place
            place += layer["n_out"]
        self.n_params = int(place)

    def _place_workspace(self):
        """Inputs and deltas side by side; those of a tied pair in the order [D; A], [A; D]."""
        place = 0
        for layer in self.layers:
            if layer["tied"]:
                continue
            partner = self.layers[layer["partner"]] if layer["partner"] >= 0 else None
            for mine, theirs, width in (("delta", "input", "n_out"), ("input", "delta", "n_in")):
                layer[mine] = place
                place += layer[width]
                if partner is not None:
                    partner[theirs] = place
                    place += layer[width]
        self.workspace_width = int(place)

    def __len__(self):
        return len(self.layers)

    def top(self):
        """The last layer as a network of its own."""
        layer = self.layers[-1]
        names = {code: name for name, code in ACTIVATIONS.items()}
        return Network([layer["n_in"], layer["n_out"]], [names[layer["activation"]]])

    def span(self, k, part):
        """Where in the flat buffer the "weight" or the "bias" of layer k stands, as a slice."""
        layer = self.layers[k]
        size = layer["n_out"] * (layer["n_in"] if part == "weight" else 1)
        return slice(int(layer[part]), int(layer[part] + size))

    @property
    def largest_matrix(self):
        """Number of weights of the largest layer."""
        return int((self.layers["n_in"] * self.layers["n_out"]).max())

    # -- parameters ---------------------------------------------------------------

    def weights(self, params, k):
        """The matrix of layer k, shape (n_out, n_in), as a view of `params`."""
        layer = self.layers[k]
        shape = (layer["n_out"], layer["n_in"])
        view = params[self.span(k, "weight")]
        return view.reshape(shape[::-1]).T if layer["tied"] else view.reshape(shape)

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
        for k, layer in enumerate(self.layers):
            if layer["tied"]:
                continue
            n_in, n_out = int(layer["n_in"]), int(layer["n_out"])
            bound = np.sqrt(6.0 / (n_in + n_out))
            if layer["activation"] == ACTIVATIONS["logistic"]:
                bound *= 4.0
            elif layer["activation"] == ACTIVATIONS["relu"]:
                bound = np.sqrt(6.0 / n_in)
            for weights in self.weights(params, k):  # by unit: what is drawn is in float64
                weights[:] = rng.uniform(-bound, bound, n_in)
        return params

    # -- use ------------------------------------------------------------------------

    def corrupt(self, noise, level, *, layer=0):
        """Put noise on the input of a layer, in training only; above the first only dropout."""
        self.layers["noise"][layer] = NOISES[noise]
        self.layers["noise_level"][layer] = level

    def workspace(self, rows, dtype, *, adversarial=False, parts=1):
        """Memory for batches of up to `rows` rows; see the kernel's contract.

        `adversarial` rows need a place beside the others; each of several `parts` is as large.
        """
        size = rows * (self.workspace_width + 1) + int(self.layers["n_out"].max())
        if adversarial:
            size += rows * int(self.layers["n_in"][0])
        return np.empty(parts * size, dtype=dtype)

    def outputs(self, params, rows, *, start=0, stop=None, index=None):
        """What layers `start` to `stop` make of the rows, or of those of `index`."""
        layers = self.layers[start:stop]
        n_rows = len(rows) if index is None else len(index)
        out = np.empty((n_rows, layers[-1]["n_out"]), dtype=params.dtype)
        with self._use(n_rows, params.dtype) as (team, workspace, size):
            for where, block in rows.blocks(size * team.n_threads, index):
                _sgd.outputs(layers, team, params, workspace, size, block, out[where])
        return out

    @contextmanager
    def _use(self, n_rows, dtype):
        """A team, a workspace for each member, and how many rows that is for."""
        with team_to_apply(n_rows * self.largest_matrix) as team:
            size = max(1, min(n_rows, CHUNK_ROWS) // team.n_threads)
            yield team, self.workspace(size, dtype, parts=team.n_threads), size

    def row_losses(self, params, objective, rows, *, index=None, codes=None):
        """Loss of each row, or of those of `index`, float64, without noise.

        With `codes` given, each row is held against what the last layer alone makes of its
        code, else against what the whole network makes of the row.
        """
        out = np.empty(len(rows) if index is None else len(index), dtype=np.float64)
        with self._use(len(out), params.dtype) as (team, workspace, size):
            for where, block in rows.blocks(size * team.n_threads, index):
                if rows.target is None:
                    target = block
                else:
                    target = rows.target[where if index is None else index[where]]
                _sgd.row_losses(
                    self.layers if codes is None else self.layers[-1:],
                    objective,
                    team,
                    params,
                    workspace,
                    size,
                    block if codes is None else codes[where],
                    target,
                    out[where],
                )
        return out
