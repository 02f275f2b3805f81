"""
A table of numbers and categories
=================================

The table has numerical and categorical columns: used cars, generated
with dependencies as in the real world. A ``ColumnTransformer``
standardises the numbers and encodes the categories as features of 0
and 1. Autoencoders then learn how the columns depend on each other.

They are used here to find inconsistent records, in which one entry is
mistaken, and to tell which entry it is. A single layer that is trained
with swap noise finds the most, then comes `StackedAutoencoderDetector`,
with ``LocalOutlierFactor`` not far behind. ``IsolationForest`` is much
worse: no entry is unusual by itself.
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
# Power and weight depend on the kind of car, consumption on both of
# them and on the fuel, the price on power, weight, age and mileage, and
# so on. The consumption is in litres, or in kWh, for 100 km.

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
# In each test record, one entry is replaced by that of another car. No
# entry is unusual by itself; it may not fit the others.

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
# Features with names
# -------------------
# Of each category, ``OneHotEncoder`` makes a feature. They keep the
# names of their columns.

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
# `StackedAutoencoderDetector` standardises all features itself, those
# of 0 and 1, too, so that a rare category weighs more than a frequent
# one. The scaler is there for the others.
#
# A single layer with ``corruption="swap"`` is the other autoencoder. In
# training, some of the entries are replaced by those of other samples,
# which is much like the mistakes in this table. It suits numbers and
# categories alike. Each feature is swapped by itself, so that a
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
# The area under the ROC curve (AUC) of the test records against those
# with a mistake, for each column that it was made in.

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
# A wrong gearbox is hard to find for all of them, since many cars come
# with either. The layer with swap noise was trained on such mistakes.
# In most columns it finds more of them than the detector, which is made
# for novelties of any kind. For the kind and the fuel,
# ``LocalOutlierFactor`` is about as good as the detector.
#
# Which entry
# -----------
# ``feature_scores`` divides the score of a sample among the features.
# The errors of the categories of a column add up to that of the column.
# They are compared with what is usual for it, ``feature_errors_``. The
# baseline takes the entry that is the farthest from the mean of its
# standardised features.

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
# One of the records: the first whose consumption is wrong and which the
# detector flags. The consumption is one of the two largest errors. The
# other one is the fuel, since it contradicts the consumption: of the
# two, either may be wrong.

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
