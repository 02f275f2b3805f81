"""
Concepts in embeddings of text
==============================

A single dimension of an embedding rarely has a meaning. A sparse
autoencoder with many more units than dimensions represents each
embedding by a few active units. Many of these units stand for
something that can be named, a *concept* [1]_ [2]_.

Here, the embeddings are the components of ``TruncatedSVD`` of TF-IDF
(latent semantic analysis), so that nothing has to be downloaded. With
embeddings of a language model, the code is the same, except that units
are named only by the texts that activate them.
"""

import inspect
import re
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skae import DenoisingAutoencoder

# %%
# The text
# --------
# The samples are the paragraphs of docstrings of NumPy, SciPy and
# scikit-learn. Paragraphs with fewer than twelve different words are
# left out, and those with the same words are kept once. The numbers
# below depend a little on the versions of these packages.

MODULES = {
    "numpy": "fft linalg ma random",
    "scipy": "fft integrate interpolate linalg ndimage optimize signal "
    "sparse spatial special stats",
    "sklearn": "cluster compose covariance datasets decomposition "
    "ensemble feature_extraction feature_selection gaussian_process "
    "impute inspection linear_model manifold metrics mixture "
    "model_selection multioutput naive_bayes neighbors neural_network "
    "pipeline preprocessing svm tree utils",
}
vectorizer = TfidfVectorizer(
    stop_words="english",
    token_pattern=r"\b[a-z]{3,}\b",
    min_df=5,
    max_df=0.05,
    sublinear_tf=True,
    dtype=np.float32,
)
words_of, found = vectorizer.build_analyzer(), {}
for package, names in MODULES.items():
    for module in [package, *(f"{package}.{n}" for n in names.split())]:
        content = vars(import_module(module))
        for name in sorted(content["__all__"]):
            doc = inspect.getdoc(content.get(name)) or ""
            doc = re.split(r"\n(?:Examples|References|See Also)\n", doc)
            for text in re.split(r"\n\s*\n|\n(?=\w+ : )", doc[0]):
                key = frozenset(words_of(text))
                if len(key) >= 12:
                    found.setdefault(
                        key, (" ".join(text.split()), module)
                    )
texts, modules = map(np.array, zip(*found.values()))

tfidf = vectorizer.fit_transform(texts)
words = vectorizer.get_feature_names_out()
svd = TruncatedSVD(256, random_state=0)
embed = make_pipeline(svd, Normalizer())
embeddings = embed.fit_transform(tfidf).astype(np.float32)
print(f"{tfidf.shape[0]} paragraphs, {tfidf.shape[1]} words")
print(f"embeddings: {embeddings.shape[1]} dimensions")

# %%
# The sparse code
# ---------------
# The code has four times as many units as the embeddings have
# dimensions. ``n_active`` of them represent a paragraph. The baselines
# are as many principal components, and as many dimensions of the
# embedding, those of largest absolute value.

options = {
    "n_components": 1024,
    "learning_rate": "cosine",
    "max_iter": 10,
    "random_state": 0,
}


def r2(reconstruction):
    return r2_score(
        embeddings, reconstruction, multioutput="variance_weighted"
    )


models = {}
print(f"{'R2 of':>11s}{'top-k':>13s}{'dead':>8s}", end="")
print(f"{'largest':>13s}{'PCA':>8s}")
for n_active in [4, 8, 16]:
    models[n_active] = model = DenoisingAutoencoder(
        activation="top_k", n_active=n_active, **options
    ).fit(embeddings)
    size = np.abs(embeddings)
    least = np.sort(size, axis=1)[:, [-n_active]]
    pca = PCA(n_active, random_state=0)
    projected = pca.inverse_transform(pca.fit_transform(embeddings))
    print(
        f"{n_active:4d} active{model.reconstruction_r2_:11.2f}"
        f"{model.dead_fraction_:10.1%}"
        f"{r2(np.where(size >= least, embeddings, 0)):11.2f}"
        f"{r2(projected):10.2f}"
    )

# %%
# With more active units, the reconstruction is better, and fewer units
# are dead, i.e. never active. The next sections use the code with eight
# active units.
#
# What a unit stands for
# ----------------------
# A row of ``decoder_components_`` is the direction that an active unit
# adds to the reconstruction. ``svd.components_`` translates it to
# words. For some words, this is the unit that adds most of it: the
# words of its row, and the two paragraphs that activate it most.

model = models[8]
codes = model.transform(embeddings)
rows = model.decoder_components_ @ svd.components_
for word in ["fourier", "clustering", "missing", "eigenvalues", "seed"]:
    unit = rows[:, words == word].argmax()
    print(", ".join(words[np.argsort(-rows[unit])[:5]]))
    for k in np.argsort(-codes[:, unit])[:2]:
        print(f"    {modules[k]}: {texts[k][:60]}")

# %%
# A new sentence has a code, too. Its active units, strongest first:

new = "The fit minimises a loss function by stochastic gradient descent"
code = model.transform(
    embed.transform(vectorizer.transform([new])).astype(np.float32)
)[0]
for unit in np.argsort(-code)[:5]:
    print(f"{code[unit]:.2f} ", end="")
    print(", ".join(words[np.argsort(-rows[unit])[:4]]))

# %%
# Are units easier to name than dimensions?
# -----------------------------------------
# For each unit, take the ten paragraphs that activate it most. They are
# similar if
#
# - the cosine between their TF-IDF vectors is large;
# - they come from the same module;
# - they have a word in common: a unit counts as named if at least eight
#   of the ten contain the same word.
#
# The dimensions of the embedding have a positive and a negative side,
# which are counted separately. The relu code has the same size and
# settings, but no limit on active units. Units with fewer than ten
# active paragraphs are left out.

relu = DenoisingAutoencoder(**options).fit(embeddings)
rng = np.random.default_rng(0)
directions = {
    "random order": rng.random((len(texts), 500)),
    "SVD": np.hstack([embeddings, -embeddings]),
    "relu code": relu.transform(embeddings),
    "top-k code": codes,
}
tfidf = tfidf.toarray()
contains = tfidf > 0
top = {
    name: [
        np.argpartition(-column, 10)[:10]
        for column in values.T
        if np.count_nonzero(column > 0) >= 10
    ]
    for name, values in directions.items()
}
print(f"{'':13s}directions  cosine  same module  named")
for name, tens in top.items():
    cosines, shares, named = [], [], []
    for ten in tens:
        products = tfidf[ten] @ tfidf[ten].T
        cosines.append(products[~np.eye(10, dtype=bool)].mean())
        counts = np.unique(modules[ten], return_counts=True)[1]
        shares.append(counts.max() / 10)
        named.append(contains[ten].sum(axis=0).max() >= 8)
    print(
        f"{name:13s}{len(tens):10d}{np.mean(cosines):8.2f}"
        f"{np.mean(shares):11.0%}{np.mean(named):9.0%}"
    )

# %%
# Four of five units of the top-k code are named, but only a quarter of
# the dimensions and half of the units of the relu code. A named unit
# need not be a useful concept: its word can be as general as
# "required".
#
# The plot shows 14 random sides of dimensions and 14 random units of
# the top-k code. In each line are the four words that most of the ten
# paragraphs contain. The colour is the number of these paragraphs.

figure, axes = plt.subplots(
    1, 2, figsize=(9, 5.2), layout="constrained"
)
for ax, name in zip(axes, ["SVD", "top-k code"]):
    picked = rng.choice(len(top[name]), 14, replace=False)
    counts = np.array(
        [contains[top[name][k]].sum(axis=0) for k in picked]
    )
    order = np.argsort(-counts, axis=1, kind="stable")[:, :4]
    shown = np.take_along_axis(counts, order, axis=1)
    lines = np.lexsort(-shown.T[::-1])
    image = ax.imshow(
        shown[lines], cmap="Blues", vmin=0, vmax=10, aspect="auto"
    )
    for y, line in enumerate(lines):
        for x in range(4):
            ax.text(
                x,
                y,
                words[order[line, x]],
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shown[line, x] > 6 else "black",
            )
    ax.set(xticks=[], yticks=[], title=name, xlabel="words")
    ax.set_ylabel("dimension" if name == "SVD" else "unit")
figure.colorbar(image, ax=axes, label="paragraphs of ten")
plt.show()

# %%
# .. rubric:: References
#
# .. [1] L. Gao, T. Dupre la Tour, H. Tillman, G. Goh, R. Troll, A.
#    Radford, I. Sutskever, J. Leike, J. Wu. Scaling and evaluating
#    sparse autoencoders. ICLR 2025.
# .. [2] \A. Makhzani, B. Frey. k-Sparse Autoencoders. ICLR 2014.
