"""
A table with numeric and categorical columns
============================================

The samples are generated used cars, whose columns depend on each other
as in real data. A ``ColumnTransformer`` standardises the numeric
columns and one-hot encodes the categorical ones. Autoencoders then
learn how the columns depend on each other.

They are used here to find records with one wrong entry, and to identify
this entry. A single layer trained with swap noise finds the most wrong
records, followed by `StackedAutoencoderDetector` and, closely,
``LocalOutlierFactor``. ``IsolationForest`` is much worse, because no
entry is unusual by itself.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skae import DenoisingAutoencoder, StackedAutoencoderDetector

# %%
# The table
# ---------
# Power and weight depend on the kind of car, consumption on power,
# weight and fuel, the price on power, weight, age and mileage, and so
# on. The consumption is in litres or kWh per 100 km.

rng = np.random.default_rng(0)
n_cars = 3000


def noise(size):
    return np.exp(size * rng.standard_normal(n_cars))


kinds = pd.DataFrame(
    {
        "share": [0.35, 0.35, 0.12, 0.18],
        "power": [55, 95, 190, 100],
        "weight": [950, 1400, 1350, 1900],
        "yearly": [9000, 14000, 7000, 22000],
        "electric": [0.4, 0.15, 0.1, 0.1],
        "diesel": [0.1, 0.4, 0.0, 0.8],
    },
    index=["city", "family", "sports", "van"],
)
kind = rng.choice(kinds.index, size=n_cars, p=kinds["share"])
of = kinds.loc[kind].reset_index(drop=True)

u = rng.random(n_cars)
is_electric = u < of.electric
is_diesel = ~is_electric & (u < of.electric + of.diesel)
fuel = np.select(
    [is_electric, is_diesel], ["electric", "diesel"], "petrol"
)
power = of.power * noise(0.18)
weight = of.weight * noise(0.08) + 250 * is_electric + 80 * is_diesel
is_automatic = is_electric | (rng.random(n_cars) < power / 300)
per_kg = np.select([is_electric, is_diesel], [0.011, 0.003], 0.0034)
per_kw = np.select([is_electric, is_diesel], [0.02, 0.008], 0.018)
consumption = (per_kg * weight + per_kw * power) * noise(0.05)
age = rng.gamma(2, 3, n_cars) * np.where(is_electric, 0.4, 1)
mileage = age * of.yearly * noise(0.25)
value = (180 * power + 9 * weight) * np.where(is_electric, 1.2, 1)
price = value * np.exp(-0.12 * age - 1.5e-6 * mileage) * noise(0.1)

cars = pd.DataFrame(
    {
        "kind": kind,
        "fuel": fuel,
        "gearbox": np.where(is_automatic, "automatic", "manual"),
        "power": power.round(),
        "weight": weight.round(),
        "consumption": consumption.round(1),
        "age": age.round(1),
        "mileage": mileage.round(-2),
        "price": price.round(-2),
    }
)
print(cars.head().to_string())

# %%
# In each test record, one entry is replaced by that of another car.
# This entry is not unusual by itself, but may not fit the others.

train, test = train_test_split(cars, test_size=1000, random_state=0)
test = test.reset_index(drop=True)
rng = np.random.default_rng(1)
wrong = rng.choice(cars.columns, size=len(test))
mistaken = test.copy()
for name in cars.columns:
    for i in np.flatnonzero(wrong == name):
        others = train.loc[train[name] != test.loc[i, name], name]
        mistaken.loc[i, name] = others.iloc[rng.integers(len(others))]

# %%
# Feature names
# -------------
# ``OneHotEncoder`` creates one feature per category. The names of the
# features contain those of their columns.

categories = ["kind", "fuel", "gearbox"]
numbers = [name for name in cars.columns if name not in categories]
encoder = ColumnTransformer(
    [
        ("scaled", StandardScaler(), numbers),
        ("encoded", OneHotEncoder(sparse_output=False), categories),
    ],
    verbose_feature_names_out=False,
).set_output(transform="pandas")
X_train = encoder.fit_transform(train)
X_test, X_mistaken = (
    encoder.transform(test),
    encoder.transform(mistaken),
)
for name in encoder.get_feature_names_out():
    print(name)

# %%
# Four detectors
# --------------
# `StackedAutoencoderDetector` standardises all features internally,
# including one-hot columns, so a rare category has a larger weight than
# a frequent one. The other detectors need the scaler.
#
# The other autoencoder is a single layer with ``corruption="swap"``. In
# training, some of the entries are replaced by those of other samples,
# like the wrong entries in this table. Swap noise suits both numeric
# and categorical columns. Each feature is swapped separately, so a
# corrupted sample can have two categories of a column, or none.

detectors = {
    "autoencoders": StackedAutoencoderDetector(random_state=0),
    "swap noise": DenoisingAutoencoder(
        128, corruption="swap", corruption_level=0.1, random_state=0
    ),
    "isolation forest": IsolationForest(random_state=0),
    "local outlier factor": LocalOutlierFactor(novelty=True),
}
errors = {}
for name, detector in detectors.items():
    detector.fit(X_train.to_numpy())
    errors[name] = [
        -detector.score_samples(X.to_numpy())
        for X in (X_test, X_mistaken)
    ]

# %%
# The area under the ROC curve (AUC) compares the test records with the
# wrong records, for each column with wrong entries.

area = pd.DataFrame(index=[*cars.columns, "any column"])
for name, (usual, found) in errors.items():
    for column in area.index:
        rows = (wrong == column) | (column == "any column")
        truth = np.repeat([0, 1], [len(usual), rows.sum()])
        area.loc[column, name] = roc_auc_score(
            truth, np.concatenate([usual, found[rows]])
        )
print(area.round(2).to_string())

figure, ax = plt.subplots(figsize=(6, 4.4), layout="constrained")
place = np.arange(len(area))
for name, marker in zip(area.columns, "oD^s"):
    ax.plot(area[name], place, marker, label=name, markersize=8)
ax.axvline(0.5, color="grey", linestyle=":")
ax.set_yticks(place, area.index, fontsize=11)
ax.invert_yaxis()
ax.grid(axis="y", alpha=0.4)
ax.set_xlabel("AUC (0.5 is chance)", fontsize=12)
ax.set_xlim(0.45, 1.02)
figure.legend(loc="outside upper center", ncols=2, fontsize=11)
plt.show()

# %%
# A wrong gearbox is hard to find for all detectors, because many cars
# may have either gearbox. The layer with swap noise was trained on such
# errors. In most columns it finds more of them than the detector, which
# is designed for novelties of any kind. For the kind and the fuel,
# ``LocalOutlierFactor`` is about as good as the detector.
#
# Finding the wrong entry
# -----------------------
# ``feature_scores`` splits the score of a sample into those of its
# features. The errors of the categories of a column are summed and
# divided by the usual error of the column, from ``feature_errors_``.
# The baseline chooses the entry whose standardised features are
# farthest from their mean.

detector = detectors["autoencoders"]
column_of = [
    name if name in numbers else name.split("_")[0]
    for name in X_train.columns
]


def by_column(values):
    frame = pd.DataFrame(values).set_axis(column_of, axis=1)
    return frame.T.groupby(level=0, sort=False).sum().T


usual = by_column([detector.feature_errors_]).loc[0]
scores = detector.feature_scores(X_mistaken.to_numpy())
ratios = by_column(-scores) / usual
largest = ratios.idxmax(axis=1)
standardised = (X_mistaken - detector.mean_) / detector.scale_
sizes = by_column(np.ones((1, len(column_of)))).loc[0]
farthest = (by_column(standardised**2) / sizes).idxmax(axis=1)
print("the mistaken entry is")
print(
    f"the one with the largest error: {np.mean(largest == wrong):.0%}"
)
print(
    f"the farthest from the mean:     {np.mean(farthest == wrong):.0%}"
)
print(f"one drawn by chance:            {1 / len(sizes):.0%}")

# %%
# This is the first flagged record with a wrong consumption. The
# consumption has one of the two largest errors. The fuel has the other
# one, because the two contradict each other, and either may be wrong.

flagged = detector.predict(X_mistaken.to_numpy()) == -1
i = np.flatnonzero(flagged & (wrong == "consumption"))[0]
records = {"true": test.loc[i], "mistaken": mistaken.loc[i]}
print(pd.DataFrame(records).to_string())

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.barh(cars.columns, ratios.loc[i, cars.columns])
ax.axvline(1, color="grey", linestyle=":")
ax.invert_yaxis()
ax.set_xscale("log")
ax.tick_params(axis="y", labelsize=11)
ax.set_xlabel("error, in multiples of what is usual", fontsize=12)
plt.show()
