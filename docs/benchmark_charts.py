"""Draw the charts of the benchmarks page, from the same files as its tables."""

from statistics import mean

import matplotlib.pyplot as plt
from benchmark_tables import by_cell, load

OURS, PEER = "#2a6fb0", "#b9c2cc"
SHADES = ["#0b3c68", "#2a6fb0", "#8fb8dd"]


def bars(axes, values, *, digits, title):
    """Draw horizontal bars, the longest first, with their values beside them."""
    ordered = sorted(values.items(), key=lambda item: -item[1])
    names, lengths = zip(*ordered)
    colours = [OURS if name.startswith("skae") else PEER for name in names]
    drawn = axes.barh(names, lengths, color=colours)
    axes.bar_label(drawn, fmt=f"%.{digits}f", padding=3)
    axes.margins(x=0.16)
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def times():
    """Draw the times of whole fits on two threads, in multiples of those of skae."""
    names = {"skae": "skae", "mlp": "MLPRegressor", "torch": "PyTorch", "pyod": "PyOD"}
    wanted = {"MNIST": "MNIST, 784 features", "569x30": "569 samples, 30 features"}
    wanted |= {"20000x30": "20,000 samples, 30 features"}
    rows = {row["table"]: row["medians"] for row in load("fits")["rows"] if row["threads"] == 2}
    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for k, (table, title) in enumerate(wanted.items()):
        ratios = [rows[table][name] / rows[table]["skae"] for name in names]
        heights = [place + 0.27 * (k - 1) for place in range(len(names))]
        drawn = axes.barh(heights, ratios, height=0.25, label=title, color=SHADES[k])
        axes.bar_label(drawn, fmt="%.1f", padding=3)
    axes.set(xscale="log", xlim=(0.8, 90), xlabel="time of a fit, skae = 1")
    axes.set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    axes.set_yticks(range(len(names)), names.values())
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", frameon=False)
    axes.invert_yaxis()
    return figure


def errors():
    """Draw the errors of detectors and imputers, and those with 100 labels of MNIST."""
    areas = by_cell("novelty", (0, 1, 3), "auc")
    clean = [row for (_, share), row in areas.items() if share == "0.0"]
    detectors = {"skae": "skae", "PyOD": "PyOD", "LOF": "LOF", "IForest": "IsolationForest"}
    missed = {name: 1 - mean(row[m] for row in clean) for m, name in detectors.items()}
    cells = by_cell("imputation", (0, 1, 3), "nrmse").values()
    imputers = {"skae": "skae", "KNN": "KNNImputer", "BR": "IterativeImputer", "mean": "mean"}
    filled = {name: mean(row[m] for row in cells) for m, name in imputers.items()}
    labels = load("errors")["labels_100"]["errors"]
    figure, axes = plt.subplots(3, 1, figsize=(6.4, 5.4), layout="constrained")
    bars(axes[0], missed, digits=3, title="Novelty detection: 1 - AUC")
    bars(axes[1], filled, digits=2, title="Imputation: error, in std")
    ways = {
        "skae": "both",
        "skae, no graph": "smooth",
        "pseudo-labels": "propagated",
        "labels alone": "labels alone",
    }
    bars(
        axes[2],
        {name: labels[f"test, pretrained, {w}, mean of 5 draws"] for name, w in ways.items()},
        digits=1,
        title="MNIST, 100 labels: error in %",
    )
    return figure
