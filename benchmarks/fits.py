"""Compare whole fits of an autoencoder with those of other packages.

The same network, one hidden layer of relu units with squared error, is trained by Adam on the same
samples, in batches of 32, for the same number of epochs. Each package is used as its documentation
shows:

skae      DenoisingAutoencoder, without corruption
mlp       scikit-learn's MLPRegressor(X, X)
pyod      PyOD's AutoEncoder, without batch normalisation and dropout
torch     PyTorch: a module, a DataLoader over a TensorDataset, the usual loop
compiled  the same after torch.compile; its compilation is not counted
skorch    skorch's NeuralNetRegressor

    pip install -e '.[bench]'
    python benchmarks/fits.py [--data mnist.npz] [--threads 1 2] [--only 569x30] [--json out.json]

Columns run in turns, with a pause between them. Packages that are not installed are skipped.
"""

import argparse
import json
import os
import statistics
import warnings
from pathlib import Path

import numpy as np
from data import load_images
from sklearn.datasets import load_breast_cancer, make_low_rank_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from training import in_turns, machine

from skae import DenoisingAutoencoder

try:
    import torch
except ImportError:
    torch = None

# Units, epochs and repetitions of each fit.
TABLES = {
    "569x30": (64, 20, 5),
    "20000x30": (64, 5, 5),
    "200000x30": (64, 1, 3),
    "MNIST": (500, 1, 3),
}
BATCH, RATE = 32, 0.001


def table(name, path):
    """Return the samples as float32: standardised features, or pixels."""
    if name == "MNIST":
        return np.ascontiguousarray(load_images(path)[0])
    if name == "569x30":
        X = load_breast_cancer().data
    else:
        n_samples, n_features = map(int, name.split("x"))
        X = make_low_rank_matrix(n_samples, n_features, effective_rank=8, random_state=0)
    return StandardScaler().fit_transform(X).astype(np.float32)


# ---- the fits: each a function of X, the units and the epochs -------------------------------


def fit_skae(X, units, epochs):
    model = DenoisingAutoencoder(
        units, corruption=None, batch_size=BATCH, learning_rate_init=RATE, max_iter=epochs
    )
    return lambda: model.fit(X)


def fit_mlp(X, units, epochs):
    model = MLPRegressor(
        hidden_layer_sizes=(units,), batch_size=BATCH, learning_rate_init=RATE, max_iter=epochs
    )
    return lambda: model.fit(X, X)


def fit_pyod(X, units, epochs):
    from pyod.models.auto_encoder import AutoEncoder

    def fit():
        AutoEncoder(
            hidden_neuron_list=[units], epoch_num=epochs, batch_size=BATCH, lr=RATE,
            batch_norm=False, dropout_rate=0.0, verbose=0,
        ).fit(X)  # fmt: skip

    return fit


def module(n_features, units):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, units), torch.nn.ReLU(), torch.nn.Linear(units, n_features)
    )


def fit_torch(X, units, epochs, prepare=lambda model: model):
    samples = torch.utils.data.TensorDataset(torch.from_numpy(X))
    loader = torch.utils.data.DataLoader(samples, batch_size=BATCH, shuffle=True)
    model = prepare(module(X.shape[1], units))

    def fit():
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        loss = torch.nn.MSELoss()
        for _ in range(epochs):
            for (x,) in loader:
                optimizer.zero_grad()
                loss(model(x), x).backward()
                optimizer.step()

    return fit


def fit_compiled(X, units, epochs):
    torch.compiler.reset()
    fit_torch(X[: 2 * BATCH + 1], units, 1, torch.compile)()  # check that the compiler works
    return fit_torch(X, units, epochs, torch.compile)


def fit_skorch(X, units, epochs):
    from skorch import NeuralNetRegressor

    net = NeuralNetRegressor(
        module, module__n_features=X.shape[1], module__units=units, max_epochs=epochs,
        batch_size=BATCH, lr=RATE, optimizer=torch.optim.Adam, iterator_train__shuffle=True,
        train_split=None, verbose=0,
    )  # fmt: skip
    return lambda: net.fit(X, X)


FITS = {
    "skae": fit_skae,
    "mlp": fit_mlp,
    "pyod": fit_pyod,
    "torch": fit_torch,
    "compiled": fit_compiled,
    "skorch": fit_skorch,
}


# ---- the table ------------------------------------------------------------------------------


def measure(X, units, epochs, repeats):
    """Measure the seconds of each run of each fit, in turns."""
    fits = {}
    for name, make in FITS.items():
        try:
            fits[name] = make(X, units, epochs)
            make(X[: 4 * BATCH], units, 1)()  # imports and other work of the first call
        except (ImportError, AttributeError) as error:  # if torch is None
            print(f"without {name}: {error}")
            fits.pop(name, None)
    if "compiled" in fits:
        fits["compiled"]()
    return in_turns(fits, repeats)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    results = Path(__file__).with_name("results") / "fits.json"
    parser.add_argument("--json", type=Path, default=results)
    args = parser.parse_args()
    for warning in (ConvergenceWarning, UserWarning, FutureWarning):
        warnings.simplefilter("ignore", warning)
    rows = []
    for name in args.only:
        X = table(name, args.data)
        for threads in args.threads:
            with threadpool_limits(threads):
                if torch is not None:
                    torch.set_num_threads(threads)
                seconds = measure(X, *TABLES[name])
            medians = {who: statistics.median(times) for who, times in seconds.items()}
            units, epochs, _ = TABLES[name]
            about = dict(table=name, shape=X.shape, units=units, epochs=epochs, threads=threads)
            rows.append(about | dict(medians=medians, seconds=seconds))
            ratios = {who: f"{t / medians['skae']:.2f}" for who, t in medians.items()}
            print(f"{name}, {threads} thread(s): skae {medians['skae']:.3f} s; times", ratios)
            args.json.write_text(json.dumps(dict(settings=machine(), rows=rows), indent=1))


if __name__ == "__main__":
    main()
