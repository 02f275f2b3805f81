"""Convert benchmarks/results/*.json to tables in reStructuredText.

Each function of `TABLES` reads its file and returns the text of one or several tables. Only the
standard library is needed.
"""

import json
from math import ceil
from pathlib import Path
from statistics import mean

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"

TUTORIAL, CLASSIFIER, SMALL = "784-500", "784-1000-1000-10", "64-32-8-32-64"
RATIOS = {
    "peak/skae": "peak / skae",
    "skae/floor": "skae / floor",
    "torch/skae": "PyTorch / skae",
    "compiled/skae": "compiled / skae",
    "rbm/skae": "RBM / skae",
    "mlp/skae": "MLP / skae",
}
BATCHES = (20, 100, 500)
# Goals for batches of 20, 100 and 500, by ratio and number of threads: upper bounds for
# skae / floor, lower bounds for the others. There is no goal for the peak.
GOALS = {
    ("peak/skae", 1): (None, None, None),
    ("peak/skae", 2): (None, None, None),
    ("skae/floor", 1): (0.62, 0.93, 1.0),
    ("skae/floor", 2): (0.50, 0.85, 1.0),
    ("torch/skae", 1): (1.9, 1.35, 1.2),
    ("torch/skae", 2): (2.5, 1.6, 1.35),
    ("rbm/skae", 2): (2.0, 3.0, 3.0),
    ("mlp/skae", 2): (None, None, None),
}
AXES = {"rows": "samples"}  # shown instead of the names in scaling.json
N_DIGITS = 1797  # samples in an epoch of the small network


def load(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


# ---- text ---------------------------------------------------------------------------------


def table(header, rows, *, numbers=True, widths=None):
    """Return a list-table; cells may have several lines."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += ["   :class: numbers"] * numbers
    lines += [f"   :widths: {' '.join(map(str, widths))}"] if widths else []
    lines.append("")
    for row in [header, *rows]:
        for k, cell in enumerate(row):
            first, *others = str(cell).splitlines() or [""]
            lines.append(f"   {'*' if k == 0 else ' '} - {first}".rstrip())
            lines += [f"       {line}" for line in others]
    return "\n".join(lines) + "\n"


def folded(title, text):
    """Return a collapsed admonition with this title."""
    body = "\n".join(f"   {line}".rstrip() for line in text.splitlines())
    return f".. admonition:: {title}\n   :collapsible: closed\n\n{body}\n"


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def judged(value, goal, *, digits=2, at_most=True):
    """Return a value, its goal, and whether the rounded value misses it, as text."""
    if value is None or goal is None:
        return number(value, digits)
    shown = round(value, digits)
    missed = shown > goal if at_most else shown < goal
    return f"{shown:.{digits}f} ({goal:.{digits}f}{', missed' if missed else ''})"


def in_percent(value):
    return f"{value:.2f} %"


# ---- training -----------------------------------------------------------------------------


class Training:
    """The rows of training.json, by network, threads, dtype, solver, noise and batch size."""

    names = ("net", "threads", "dtype", "solver", "noise", "batch")

    def __init__(self):
        self.file = load("training")
        self.rows = {tuple(row[name] for name in self.names): row for row in self.file["rows"]}

    def row(self, net=TUTORIAL, threads=1, dtype="float32", solver="sgd", noise="0.3", batch=100):
        return self.rows.get((net, threads, dtype, solver, noise, batch))

    def ratio(self, ratio, **about):
        row = self.row(**about)
        return None if row is None else row["ratios"].get(ratio)

    def seconds(self, who="skae", **about):
        row = self.row(**about)
        return None if row is None else row["medians"].get(who)


def over(a, b):
    return None if a is None or b is None else a / b


def microseconds(seconds, batch=32):
    """Return the time of one batch of the small network, given the seconds of an epoch."""
    return None if seconds is None else 1e6 * seconds / ceil(N_DIGITS / batch)


def machine():
    """Describe the machine that training.json was measured on."""
    facts = load("training")["settings"]
    blas = "; ".join(facts["blas"])
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}; Python {facts['python']}, "
        f"NumPy {facts['numpy']}, SciPy {facts['scipy']}, scikit-learn {facts['sklearn']}"
        + (f", PyTorch {facts['torch']}" if "torch" in facts else "")
        + f"; BLAS: {blas}. Epochs of {facts['rows']:,} samples, medians of {facts['repeats']} "
        "runs.\n"
    )


def goals():
    """The tutorial's network, plain SGD, 30 % masking, float32, next to the goals."""
    training, rows = Training(), []
    for (ratio, threads), wanted in GOALS.items():
        cells = [
            judged(
                training.ratio(ratio, threads=threads, batch=batch),
                goal,
                at_most=ratio == "skae/floor",
            )
            for batch, goal in zip(BATCHES, wanted)
        ]
        rows.append([RATIOS[ratio], threads, *cells])
    return table(["", "threads", *(f"batch {batch}" for batch in BATCHES)], rows)


def other_ratios():
    """Other ratios and times, with their goals."""
    training = Training()
    ratio, seconds = training.ratio, training.seconds
    top = dict(net=CLASSIFIER, noise="0.2/0.5")
    small = dict(net=SMALL, noise="0", batch=32)
    kinds = ("sgd", "momentum", "adam")
    rows = [
        [
            "Adam / plain SGD, batch 100, one thread",
            judged(over(seconds(solver="adam"), seconds()), 1.25),
        ],
        [
            "float64 / float32, batch 100, one thread",
            judged(over(seconds(dtype="float64"), seconds()), 2.2),
        ],
    ]
    for threads in (1, 2):
        who = "one thread" if threads == 1 else "two threads"
        floors = [ratio("skae/floor", **top, solver=s, threads=threads) for s in ("sgd", "adam")]
        rows.append(
            [
                f"classifier {CLASSIFIER} with dropout / its floor: SGD, Adam; {who}",
                ", ".join(judged(value, 1.1) for value in floors),
            ]
        )
    peers = [ratio("torch/skae", **top, solver=s, threads=2) for s in ("sgd", "adam")]
    rows.append(
        [
            "PyTorch / skae, the same classifier: SGD, Adam; two threads",
            ", ".join(judged(value, 1.5, at_most=False) for value in peers),
        ]
    )
    for dtype, goal in (("float32", 30), ("float64", None)):
        times = [microseconds(seconds(**small, dtype=dtype, solver=s)) for s in kinds]
        rows.append(
            [
                f"small network {SMALL}, batch 32, whole ``fit``, µs per batch: SGD, momentum, "
                f"Adam; {dtype}",
                ", ".join(judged(time, goal, digits=0) for time in times),
            ]
        )
    peers = [ratio("mlp/skae", **small, solver=s) for s in kinds]
    rows.append(
        ["MLPRegressor / skae, the same network, float32", ", ".join(number(p, 1) for p in peers)]
    )
    two = [over(seconds(threads=2, batch=b), seconds(batch=b)) for b in BATCHES]
    rows.append(
        [
            "two threads / one thread, an epoch of 784-500, batches of 20, 100, 500",
            ", ".join(map(number, two)),
        ]
    )
    return table(["quantity", "result (goal)"], rows)


def fits():
    """Times of whole fits, as multiples of skae's."""
    found = load("fits")["rows"]
    names = {"mlp": "MLPRegressor(X, X)", "pyod": "PyOD", "torch": "PyTorch"}
    names |= {"compiled": "torch.compile", "skorch": "skorch"}
    goals = {"pyod": 3.0, "torch": 3.0}
    rows = []
    for row in found:
        n_samples, n_features = row["shape"]
        skae = row["medians"]["skae"]
        cells = []
        for name in names:
            goal = goals.get(name)
            if goal and row["table"] == "MNIST":
                goal = 1.5
            cells.append(
                judged(over(row["medians"].get(name), skae), goal, at_most=False, digits=1)
            )
        rows.append(
            [
                f"{row['table'] if row['table'] == 'MNIST' else 'table'}, {n_samples:,} x "
                f"{n_features}; {row['units']} units, epochs: {row['epochs']}",
                row["threads"],
                f"{skae:.3g}",
                *cells,
            ]
        )
    return table(["samples and net", "threads", "skae, seconds", *names.values()], rows)


def training():
    """All of training.json as ratios, in a collapsed table for each network and dtype."""
    groups, parts = {}, []
    for row in load("training")["rows"]:
        groups.setdefault((row["net"], row["dtype"]), []).append(row)
    for (net, dtype), rows in groups.items():
        ratios = [name for name in RATIOS if any(name in row["ratios"] for row in rows)]
        header = ["solver", "noise", "batch", "threads", *(RATIOS[name] for name in ratios)]
        header += ["skae, µs per batch"] * (net == SMALL)
        cells = []
        for row in sorted(rows, key=place):
            line = [row[name] for name in header[:4]]
            line += [number(row["ratios"].get(name)) for name in ratios]
            if net == SMALL:
                line.append(number(microseconds(row["medians"]["skae"], row["batch"]), 1))
            cells.append(line)
        parts.append(folded(f"{net}, {dtype}: {len(rows)} results", table(header, cells)))
    return "\n".join(parts)


def place(row):
    order = ("sgd", "momentum", "adam").index(row["solver"])
    return order, row["noise"], row["batch"], row["threads"]


# ---- the others ---------------------------------------------------------------------------


def growth():
    """Exponents, memory, throughput, import time."""
    found = load("scaling")
    exponents = found["growth"]["exponents"]
    rows = [
        [f"exponent of the time in {AXES.get(axis, axis)}", judged(value, 1.05)]
        for axis, value in exponents.items()
    ]
    for run in found["memory"]:
        what = f"memory in addition to X, {run['layout']}, {run['rows']:,} samples; MB"
        goal = 500 if run["layout"] == "memory-mapped" else round(run["allowance"], 1)
        rows.append([what, judged(run["beyond"], goal, digits=1)])
    for run in found["throughput"]:
        product = "``X @ W``" if run["method"] == "transform" else "its matrix products"
        what = f"{run['method']} / {product}, samples per second; threads: {run['threads']}"
        rows.append([what, number(run["skae"] / run["product"])])
    milliseconds = found["imports"]["after_scikit_learn"]
    what = "``import skae`` after ``import sklearn.neural_network``, ms"
    rows.append([what, judged(milliseconds, 30, digits=0)])
    rows += [["wheel, MB", judged(size, 1, digits=1)] for size in found["wheel"].values()]
    return table(["quantity", "result (goal)"], rows)


def errors():
    """Published test errors and those of skae."""
    rows = []
    for row in load("errors").values():
        goal = row["goal"]
        ours = "\n".join(f"| {label}: **{v:.2f}**" for label, v in row["errors"].items())
        rows.append(
            [
                row["work"],
                row["published"],
                "" if goal is None else f"≤ {goal}",
                ours,
                f"{row['seconds'] / 60:.1f}",
            ]
        )
    header = ["task", "published, %", "goal", "skae, %", "minutes"]
    return table(header, rows, numbers=False, widths=[24, 26, 9, 32, 9])


def few_labels():
    """MNIST with few labels: the effect of pretraining, and of unlabelled samples."""
    found, rows = load("errors"), []
    ways = ["labels alone", "propagated", "smooth", "both"]
    for name in ("labels_100", "labels_1000"):
        errors = found[name]["errors"]
        for start in ("from scratch", "pretrained"):
            row = [found[name]["work"], start]
            for way in ways:
                of = [v for k, v in errors.items() if k.startswith(f"test, {start}, {way}, ")]
                row.append(" / ".join(map(in_percent, of)))
            rows.append(row)
    header = ["test error, mean / worst draw", "start", *ways]
    return table(header, rows)


class Jobs:
    """The means over the seeds in jobs.json, of a setting and the baselines."""

    def __init__(self):
        self.file = load("jobs")
        self.halves = {
            "chosen on": self.file["chosen_on"],
            "untouched": self.file["untouched"],
        }

    def rows(self, setting):
        """Return the values of each set, by column."""
        text, values = self.file["settings"][setting], {}
        for result in self.file["results"]:
            if result["setting"] in (None, text):
                row = values.setdefault(result["set"], {})
                for column, value in result["values"].items():
                    row.setdefault(column, []).append(value)
        return {n: {c: mean(found) for c, found in row.items()} for n, row in values.items()}


JOBS = {
    "R2": "R2",
    "R2 PCA": "R2, PCA",
    "denoise": "noise left",
    "denoise PCA": "noise left, PCA",
    "pixels": "strong noise left",
    "pixels PCA": "strong noise left, PCA",
    "LR": "LR, codes",
    "LR std": "LR, standardised codes",
    "LR both": "LR, raw + codes",
    "LR raw": "LR, raw",
    "LR PCA": "LR, PCA",
    "AUC": "AUC",
    "AUC kNN": "AUC, kNN",
    "AUC PCA": "AUC, PCA",
    "seconds": "seconds",
    "/ MLP": "seconds / MLP",
}


GOAL_NAMES = {
    "pixels,": "strong noise left,",
    "LR - LR raw": "LR, codes - raw",
    "LR, digits": "LR, codes, digits",
    "AUC - AUC kNN": "AUC - kNN",
    "/ MLP": "seconds / MLP",
}


def jobs():
    """The results of each job on each set, in a collapsed table for each setting and half."""
    found, parts = Jobs(), []
    for setting, text in found.file["settings"].items():
        rows = found.rows(setting)
        for half, names in found.halves.items():
            measured = [rows[name] for name in names if name in rows]
            if not measured:
                continue
            columns = [c for c in JOBS if any(c in row for row in measured)]
            lines = [
                [name, *(number(rows[name].get(c), 3) for c in columns)]
                for name in names
                if name in rows
            ]
            means = ([row[c] for row in measured if c in row] for c in columns)
            lines.append(["mean", *(number(mean(values), 3) for values in means)])
            header = ["set", *(JOBS[column] for column in columns)]
            parts.append(folded(f"{text}, sets {half}", table(header, lines)))
    return "\n".join(parts)


def job_goals():
    """The goals of each setting of jobs.json."""
    found = load("jobs")["goals"]
    cells = {}
    for setting, goals in found.items():
        for what, value, goal, upper in goals:
            for column, shown in GOAL_NAMES.items():
                what = what.replace(column, shown)
            digits = 2 if upper else 3
            text = judged(value, goal, digits=digits, at_most=upper)
            cells.setdefault(what, {})[setting] = text
    rows = [[what, *(row.get(setting, "–") for setting in found)] for what, row in cells.items()]
    return table(["quantity", *(load("jobs")["settings"][s] for s in found)], rows)


def by_cell(name, places, value):
    """The mean of a value in a file of cells, over the draws: {(table, variant): {method: mean}}.

    `places` are the positions of table, variant and method in the name of a result.
    """
    found = {}
    for key, values in load(name).items():
        words = key.split("|")
        table_name, variant, method = (words[place] for place in places)
        if value in values:
            row = found.setdefault((table_name, variant), {})
            row.setdefault(method, []).append(values[value])
    return {
        cell: {method: mean(values) for method, values in row.items()}
        for cell, row in found.items()
    }


DETECTORS = ["skae", "PyOD", "kNN", "LOF", "IForest", "OCSVM", "PCA"]
IMPUTERS = ["skae", "mean", "KNN", "BR", "ET", "softImpute"]


def novelty():
    """The mean area under the curve of each detector, overall and for each table."""
    areas = by_cell("novelty", (0, 1, 3), "auc")
    shares = sorted({share for _, share in areas}, key=float)
    rows, parts = [], []
    for share in shares:
        of_share = [row for (_, s), row in areas.items() if s == share]
        means = [mean(row[m] for row in of_share) for m in DETECTORS]
        rows.append([f"{100 * float(share):g} %", *(number(m, 3) for m in means)])
    flagged, first = (by_cell("novelty", (0, 1, 3), name) for name in ("flagged", "first"))
    lines = [
        [
            name,
            *(number(areas[name, "0.0"][m], 3) for m in DETECTORS),
            in_percent(flagged[name, "0.0"]["skae"]),
            in_percent(first[name, "0.0"]["skae"]),
        ]
        for name, share in areas
        if share == "0.0"
    ]
    header = ["anomalies in training", *DETECTORS]
    parts.append(table(header, rows))
    header = ["clean training samples", *DETECTORS, "flagged", "first"]
    parts.append(folded("each set", table(header, lines)))
    return "\n".join(parts)


def imputation():
    """The ranks of the imputers, and their errors in each cell."""
    cells = by_cell("imputation", (0, 1, 3), "nrmse")
    orders = [sorted(row, key=row.get) for row in cells.values() if len(row) == len(IMPUTERS)]
    ranks = [mean(1 + order.index(m) for order in orders) for m in IMPUTERS]
    best = [sum(order[0] == m for order in orders) for m in IMPUTERS]
    summary = [
        ["mean rank", *(number(rank, 2) for rank in ranks)],
        [f"best of {len(orders)}", *map(str, best)],
    ]
    lines = [
        [f"{name}, {pattern}", *(number(row.get(m), 3) for m in IMPUTERS)]
        for (name, pattern), row in cells.items()
    ]
    header = ["", *IMPUTERS]
    each = table(["values taken out", *IMPUTERS], lines)
    return "\n".join([table(header, summary), folded("each table and pattern", each)])


def kernels():
    """Each elementwise loop compared with NumPy and with a copy, on operands of both sizes."""
    found, parts = load("kernels"), []
    sizes = sorted({row["kilobytes"] for row in found})
    cases = [(size, dtype) for size in sizes for dtype in ("float32", "float64")]
    header = ["loop", *(f"{dtype}, {size:,} kB" for size, dtype in cases)]
    values = {(row["loop"], row["kilobytes"], row["dtype"]): row for row in found}
    loops = list(dict.fromkeys(row["loop"] for row in found))
    for title, of in (
        ("time of NumPy / time of skae", lambda r: 1 / r["times_numpy"]),
        ("time of skae / time of a copy of as many bytes", lambda r: r["times_the_copy"]),
    ):
        rows = []
        for loop in loops:
            cells = [values.get((loop, *case)) for case in cases]
            rows.append([loop, *(number(None if r is None else of(r)) for r in cells)])
        parts.append(folded(title, table(header, rows)))
    return "\n".join(parts)


def expectations():
    """Main results, for new users."""
    training, jobs = Training(), Jobs()
    digits = jobs.rows("defaults")["digits"]
    areas = [
        row for (_, share), row in by_cell("novelty", (0, 1, 3), "auc").items() if share == "0.0"
    ]
    auc = [number(mean(row[m] for row in areas), 3) for m in ("PyOD", "kNN", "skae")]
    filled = list(by_cell("imputation", (0, 1, 3), "nrmse").values())
    error = [number(mean(row[m] for row in filled), 2) for m in ("mean", "KNN", "BR", "skae")]
    floor = [over(1.0, training.ratio("skae/floor", batch=b)) for b in BATCHES]
    peer = [training.ratio("torch/skae", batch=b) for b in BATCHES]
    whole = load("fits")["rows"]
    multiples = {
        name: sorted(row["medians"][name] / row["medians"]["skae"] for row in whole)
        for name in ("pyod", "torch")
    }
    found = load("errors")
    longer, few = found["mnist_longer"], found["labels_100"]["errors"]
    alone, both = (
        in_percent(few[f"test, pretrained, {way}, mean of 5 draws"])
        for way in ("labels alone", "both")
    )
    rows = [
        [
            "features: logistic regression on the digits, 5 folds, accuracy",
            f"codes {number(digits['LR'], 3)}",
            f"pixels {number(digits['LR raw'], 3)}",
        ],
        [
            "few labels: MNIST, 100 labels, all others unlabelled, error",
            both,
            f"labels alone {alone}",
        ],
        [
            "many labels: MNIST, 50,000 labels, error",
            f"{in_percent(longer['errors']['test'])} in {longer['seconds'] / 60:.0f} minutes",
            "published stack (SDAE-3) 1.28 %",
        ],
        [
            f"novelty detection, {len(areas)} tables, mean AUC",
            auc[2],
            f"five nearest neighbours {auc[1]}, PyOD's AutoEncoder {auc[0]}",
        ],
        [
            f"imputation, {len(filled)} cases, error in standard deviations",
            error[3],
            f"KNNImputer {error[1]}, IterativeImputer {error[2]}, the mean {error[0]}",
        ],
        [
            "time of whole fits",
            "1",
            "; ".join(
                f"{title} {number(of[0], 1)} to {number(of[-1], 0)}"
                for title, of in zip(("PyOD", "PyTorch"), multiples.values())
            ),
        ],
        [
            "time of an epoch, 784-500, one thread, batches of 20, 100, 500",
            "1",
            f"its matrix products in BLAS {', '.join(map(number, floor))}; "
            f"PyTorch {', '.join(map(number, peer))}",
        ],
    ]
    return table(["job", "skae", "baselines"], rows, numbers=False, widths=[40, 22, 38])


def text():
    """Domain adaptation on reviews: TF-IDF, TruncatedSVD and the codes."""
    rows = [
        [
            pair.replace("->", "→"),
            number(row["tfidf"], 3),
            number(row["svd"], 3),
            judged(row["codes"], row["goal"], digits=3, at_most=False),
            number(row["seconds"], 1),
            judged(row["matrices"], 3.0),
        ]
        for pair, row in load("text")["pairs"].items()
    ]
    header = ["trained on → tested on", "TF-IDF", "SVD, 100", "codes (goal)", "seconds"]
    return table([*header, "memory, in matrices of weights"], rows)


def top_k():
    """Times of an epoch with top-k codes, as multiples of that with dense ones."""
    names = {"top_k": "top-k", "floor": "encoder's product alone", "torch": "PyTorch, top-k"}
    rows = []
    for row in load("top_k")["time"]:
        times = {name: over(row["medians"].get(name), row["medians"]["relu"]) for name in names}
        rows.append(
            [
                f"{row['n_features']} → {row['units']:,}, {row['n_active']} active",
                row["threads"],
                judged(times.pop("top_k"), row["goal"]),
                *map(number, times.values()),
            ]
        )
    return table(["network", "threads", *names.values()], rows)


def top_k_features():
    """Features of MNIST: error of a linear classifier, reconstruction, dead units."""
    found = load("top_k")
    goals, rows = found["goals"], found["features"]
    names = {
        "pixels": "pixels",
        "pca": "PCA, 25 components",
        "relu": "relu code",
        "top_k, 25 in transform": "top-k code, 25 active",
        "top_k": "top-k code, 25 active, 100 in transform",
    }
    lines = []
    for key, name in names.items():
        row, mine = rows[key], goals if key == "top_k" else {}
        dead, limit = row.get("dead"), mine.get("dead")
        lines.append(
            [
                name,
                judged(row.get("error"), mine.get("error")),
                judged(row.get("squared_error"), mine.get("squared_error")),
                judged(dead and 100 * dead, limit and 100 * limit, digits=1),
                judged(row.get("seconds"), mine.get("seconds"), digits=0),
            ]
        )
    header = ["features", "test error, %", "squared error", "dead units, %", "seconds of the fit"]
    return table(header, lines)


def sparse_samples():
    """Times of an epoch of fine-tuning on a dense array, as multiples of those on CSR."""
    times = {}
    for row in load("sparse_samples")["rows"]:
        shape = f"{row['n_features']:,} features, {100 * row['density']:g} % not zero"
        ratio = row["medians"]["array"] / row["medians"]["csr"]
        times.setdefault((shape, row["threads"]), {})[row["batch"]] = ratio
    batches = sorted({batch for ratios in times.values() for batch in ratios})
    rows = [
        [shape, threads, *(number(ratios[batch], 1) for batch in batches)]
        for (shape, threads), ratios in times.items()
    ]
    return table(["samples", "threads", *(f"batches of {batch}" for batch in batches)], rows)


TABLES = {
    "errors": errors,
    "expectations": expectations,
    "few-labels": few_labels,
    "fits": fits,
    "goals": goals,
    "growth": growth,
    "imputation": imputation,
    "job-goals": job_goals,
    "jobs": jobs,
    "kernels": kernels,
    "machine": machine,
    "novelty": novelty,
    "other-ratios": other_ratios,
    "sparse-samples": sparse_samples,
    "text": text,
    "top-k": top_k,
    "top-k-features": top_k_features,
    "training": training,
}
