"""The table of errors: published ones and skae's, side by side.

Every row of the table is a recipe, a function below; its settings were chosen on validation rows,
never on test rows. A finished row is kept in the JSON file with a fingerprint of its recipe, so
that a run goes on where an earlier one was interrupted, and a changed recipe runs again.

    python benchmarks/errors.py --data mnist.npz [--only basic] [--json F] [--markdown F]

The sets *basic*, *bg-rand*, *rectangles* and *convex* are drawn anew (see datasets.py): they are
not the files that the published errors were measured on.
"""

import argparse
import hashlib
import inspect
import json
import os
import time
from pathlib import Path

import numpy as np
from datasets import load
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.svm import SVC, LinearSVC

from skae import StackedAutoencoder, StackedAutoencoderClassifier

RECIPES = {}


def recipe(work, published, goal):
    """Decorator: a row of the table; the function yields (label, test error in %)."""

    def register(function):
        RECIPES[function.__name__] = dict(
            work=work, published=published, goal=goal, function=function
        )
        return function

    return register


def error(model, X, y):
    return 100.0 * (1.0 - model.score(X, y))


# ---- recipes ------------------------------------------------------------------------


@recipe("MNIST, 50,000 labels", "SVM-rbf 1.40, SAE-3 1.40, SDAE-3 1.28, DBN-3 1.24", 1.2)
def mnist(path, seed):
    data = load("mnist", path)
    stack = StackedAutoencoder(random_state=seed, **MNIST_STACK).fit(data.X_train)
    model = StackedAutoencoderClassifier(pretrain=stack, random_state=seed, **MNIST_FINE_TUNING)
    model.fit(data.X_train, data.y_train)
    yield "validation", error(model, data.X_validation, data.y_validation)
    yield "test", error(model, data.X_test, data.y_test)


@recipe(
    "basic, 10,000 labels", "SVM-rbf 3.03, SAE-3 3.46, DBN-3 3.11, SDAE-3 2.84, CAE-2 2.48", 2.4
)
def basic(path, seed):
    yield from pretrained_and_scratch("basic", path, seed, BASIC_STACK, BASIC_FINE_TUNING)


@recipe("bg-rand, 10,000 labels", "SVM-rbf 14.58, SAE-3 11.28, DBN-3 6.73, SDAE-3 10.30", 8.0)
def bg_rand(path, seed):
    yield from pretrained_and_scratch("bg-rand", path, seed, BG_STACK, BG_FINE_TUNING)


@recipe("rectangles, 10,000 labels", "SVM-rbf 2.15, SAE-3 2.41, DBN-3 2.60, SDAE-3 1.99", 1.5)
def rectangles(path, seed):
    yield from pretrained_and_scratch("rectangles", path, seed, BASIC_STACK, BASIC_FINE_TUNING)


@recipe("basic, codes before an SVM", "raw pixels before the same SVMs", 4.0)
def basic_codes(path, seed):
    data = load("basic", path, seed)
    stack = StackedAutoencoder(random_state=seed, **BASIC_STACK).fit(data.X_train)
    rows = {
        "raw": (data.X_train, data.X_validation, data.X_test),
        "codes": tuple(map(stack.transform, (data.X_train, data.X_validation, data.X_test))),
    }
    grids = {
        "SVC": (SVC(cache_size=1000), {"C": [3.0, 10.0, 30.0]}),
        "LinearSVC": (LinearSVC(max_iter=5000), {"C": [0.003, 0.01, 0.03, 0.1]}),
    }
    fold = np.r_[np.full(len(data.X_train), -1), np.zeros(len(data.X_validation), dtype=int)]
    for head, (svm, grid) in grids.items():
        for name, (train, validation, test) in rows.items():
            search = GridSearchCV(svm, grid, cv=PredefinedSplit(fold), refit=False, n_jobs=2)
            search.fit(np.vstack([train, validation]), np.r_[data.y_train, data.y_validation])
            svm = clone(svm).set_params(**search.best_params_).fit(train, data.y_train)
            yield f"{head}, {name}", error(svm, test, data.y_test)


@recipe(
    "MNIST, 100 labels + 59,900 unlabelled", "contractive nets 13.5, DAE + pseudo-labels 10.5", 9.0
)
def labels_100(path, seed):
    yield from few_labels(path, seed, n_labels=100, n_draws=5)


@recipe("MNIST, 1,000 labels + 59,000 unlabelled", "manifold tangent classifier 3.6", 3.2)
def labels_1000(path, seed):
    yield from few_labels(path, seed, n_labels=1000, n_draws=3)


# ---- what recipes share ----------------------------------------------------------------


def pretrained_and_scratch(name, path, seed, stack, fine_tuning):
    """The same net and budget of fine-tuning, with and without pretraining."""
    data = load(name, path, seed)
    fitted = StackedAutoencoder(random_state=seed, **stack).fit(data.X_train)
    shape = {key: stack[key] for key in ("hidden_layer_sizes", "activation")}
    for label, start in (
        ("", dict(pretrain=fitted)),
        (", from scratch", dict(pretrain=False, **shape)),
    ):
        model = StackedAutoencoderClassifier(random_state=seed, **start, **fine_tuning)
        model.fit(data.X_train, data.y_train)
        yield f"validation{label}", error(model, data.X_validation, data.y_validation)
        yield f"test{label}", error(model, data.X_test, data.y_test)


def few_labels(path, seed, n_labels, n_draws):
    """Few labels, as many of each class, and all other training rows unlabelled.

    The layers are learned once from all rows: no label takes part in that.
    """
    data = load("mnist", path)
    X = np.concatenate([data.X_train, data.X_validation])
    y = np.concatenate([data.y_train, data.y_validation])
    stack = FrozenEstimator(StackedAutoencoder(random_state=seed, **FEW_STACK).fit(X))
    shape = {key: FEW_STACK[key] for key in ("hidden_layer_sizes", "activation")}
    errors = {}
    for draw in range(n_draws):
        rng = np.random.default_rng((seed, draw))
        chosen = np.concatenate(
            [rng.choice(np.flatnonzero(y == k), n_labels // 10, replace=False) for k in range(10)]
        )
        partly = np.full(len(y), -1)
        partly[chosen] = y[chosen]
        starts = {
            "pretrained": dict(pretrain=stack),
            "from scratch": dict(pretrain=False, **shape),
        }
        for label, start in starts.items():
            model = StackedAutoencoderClassifier(
                random_state=seed + draw, **start, **FEW_FINE_TUNING
            ).fit(X, partly)
            errors.setdefault(label, []).append(error(model, data.X_test, data.y_test))
            model = pseudo_labelled(model, X, partly)
            label = f"{label}, pseudo-labels"
            errors.setdefault(label, []).append(error(model, data.X_test, data.y_test))
    for label, values in errors.items():
        yield f"test, {label}, mean of {n_draws} draws", float(np.mean(values))


def pseudo_labelled(model, X, partly, rounds=(0.5, 0.8, 1.0)):
    """Label the most confident unlabelled rows by the model itself and fit again, a few times.

    D.-H. Lee, Pseudo-Label, ICML 2013 workshop; as many rows of each class, the surest first.
    """
    unlabelled = np.flatnonzero(partly == -1)
    for share in rounds:
        probabilities = model.predict_proba(X[unlabelled])
        guess, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
        y = partly.copy()
        for k in range(probabilities.shape[1]):
            mine = np.flatnonzero(guess == k)
            best = mine[np.argsort(-sure[mine])][: int(share * len(mine))]
            y[unlabelled[best]] = k
        model = clone(model).set_params(**PSEUDO_FINE_TUNING).fit(X, y)
    return model


# ---- the settings ----------------------------------------------------------------------

# Tried for MNIST, error on the 10,000 validation rows: these settings 1.40 %; three logistic
# layers of 1000 under cross-entropy, dropout 0.3 and batches of 50 1.41 %; 2 x 1200 with label
# smoothing 0.1, dropout 0.4, max_norm 2.5 and 50 epochs 1.59 %. The other rows take the first
# over: they have not been tuned yet.
MNIST_STACK = dict(
    hidden_layer_sizes=(1000, 1000),
    activation="relu",
    tied_weights=True,
    corruption_level=0.5,
    batch_size=100,
    max_iter=5,
)
MNIST_FINE_TUNING = dict(
    dropout=0.5,
    input_dropout=0.2,
    max_norm=3.0,
    solver="sgd",
    momentum=0.0,
    learning_rate="cosine",
    learning_rate_init=0.5,
    warm_up=1,
    batch_size=100,
    max_iter=40,
)
BASIC_STACK = {**MNIST_STACK, "max_iter": 15}
BASIC_FINE_TUNING = {**MNIST_FINE_TUNING, "max_iter": 80}
BG_STACK = BASIC_STACK
BG_FINE_TUNING = BASIC_FINE_TUNING
FEW_STACK = MNIST_STACK
FEW_FINE_TUNING = dict(
    dropout=0.5, input_dropout=0.2, learning_rate_init=0.0005, batch_size=20, max_iter=150
)
PSEUDO_FINE_TUNING = dict(batch_size=100, max_iter=3)


# ---- the run -----------------------------------------------------------------------------


def fingerprint(entry):
    """Changes when the recipe, or anything else in this file that is not the table, does."""
    settings = {
        name: value for name, value in globals().items() if name.isupper() and name != "RECIPES"
    }
    code = inspect.getsource(entry["function"]) + repr(sorted(settings.items(), key=str))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def run(name, path, seed):
    entry = RECIPES[name]
    begin, errors = time.perf_counter(), {}
    for label, value in entry["function"](path, seed):
        errors[label] = round(value, 3)
        print(
            f"{name:12s} {label:45s} {value:6.2f} %  ({time.perf_counter() - begin:.0f} s)",
            flush=True,
        )
    return dict(
        work=entry["work"],
        published=entry["published"],
        goal=entry["goal"],
        errors=errors,
        seconds=round(time.perf_counter() - begin, 1),
        seed=seed,
        fingerprint=fingerprint(entry),
    )


def markdown(table):
    lines = [
        "| work | published, test error in % | goal | skae, error in % | minutes |",
        "|---|---|---|---|---|",
    ]
    for row in table.values():
        ours = "; ".join(f"{label} **{value:.2f}**" for label, value in row["errors"].items())
        lines.append(
            f"| {row['work']} | {row['published']} | <= {row['goal']} | {ours} | "
            f"{row['seconds'] / 60:.1f} |"
        )
    lines.append("")
    lines.append(
        "*basic*, *bg-rand* and *rectangles* were drawn anew to their published description: "
        "they are not the original files. Each row's seed stands in the JSON file."
    )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    results = Path(__file__).with_name("results")
    parser.add_argument("--data", default=os.environ.get("SKAE_DATA"), help="mnist.npz")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=results / "errors.json")
    parser.add_argument("--markdown", type=Path, default=results / "errors.md")
    args = parser.parse_args()
    if not args.data:
        parser.error("this table needs MNIST: --data mnist.npz, or SKAE_DATA")
    args.json.parent.mkdir(exist_ok=True)
    done = json.loads(args.json.read_text()) if args.json.exists() else {}
    for name in args.only:
        if done.get(name, {}).get("fingerprint") == fingerprint(RECIPES[name]):
            print(f"{name:12s} done before")
            continue
        done[name] = run(name, args.data, args.seed)
        table = {name: done[name] for name in RECIPES if name in done}
        args.json.write_text(json.dumps(table, indent=1))
        args.markdown.write_text(markdown(table))
    print("\n" + markdown({name: done[name] for name in RECIPES if name in done}))


if __name__ == "__main__":
    main()
