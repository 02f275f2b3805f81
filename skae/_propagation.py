"""Label propagation to unlabelled samples, on a graph of nearest neighbours."""

import warnings

import numpy as np
from scipy.sparse import issparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.semi_supervised import LabelSpreading

from skae._dataset import filled, has_missing, working_memory

# Number of neighbours in the graph, and maximum number of principal components for the distances.
N_NEIGHBORS, N_COMPONENTS = 5, 50

# Weights of edges are exp(-SHARPNESS d^2), where d is the length relative to the longest edge of
# the sample.
SHARPNESS = 4.0

# Fraction of its distribution that a sample takes from its neighbours in an iteration; iterations.
ALPHA, N_ROUNDS = 0.99, 100


def class_shares(counts):
    """Estimate class proportions from the numbers of labels, shrunk towards equal proportions.

    This is the positive-part estimator of James and Stein (1961), with the variances of a
    multinomial distribution: the proportions are equal if chance can explain the differences.
    """
    expected = counts.sum() / len(counts)
    spread = np.sum((counts - expected) ** 2) / expected
    kept = max(0.0, 1.0 - (len(counts) - 1) / spread) if spread > 0 else 0.0
    return (expected + kept * (counts - expected)) / counts.sum()


def propagated(dataset, head, class_weights, seed, labelled):
    """Propagate labels in a data set; return the targets of all samples and their weights.

    Only the samples at the positions in `labelled` propagate their labels. Weights of unlabelled
    samples are multiplied by `class_weights`, if given; those of labelled ones already include
    them.
    """
    X, y = dataset.X, np.full(len(dataset), -1)
    if not issparse(X) or dataset.dtype.itemsize * X.shape[0] * X.shape[1] <= working_memory():
        X = filled(dataset.toarray())  # as for the network
    elif has_missing(X.data):
        X = X.copy()
        X.data = filled(X.data)
    y[labelled] = dataset.strata[labelled]
    classes, confidence = propagate(X, y, len(head.classes), seed)
    weights = confidence**2
    if dataset.sample_weight is not None:
        weights *= dataset.sample_weight
    if class_weights is not None:
        weights[~dataset.labelled] *= class_weights[classes[~dataset.labelled]]
    return head.encode(head.classes[classes], dataset.dtype), weights


def propagate(X, y, n_classes, seed):
    """Propagate labels on a graph of nearest neighbours.

    D. Zhou, O. Bousquet, T. Lal, J. Weston, B. Schölkopf. Learning with Local and Global
    Consistency. NIPS 2004.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_samples, n_features)
        Samples, without missing values.
    y : ndarray of shape (n_samples,), int
        Class indices, -1 for unlabelled samples.
    n_classes : int
    seed : int

    Returns
    -------
    classes : ndarray of shape (n_samples,), int
        The class of each sample; that of y for labelled samples.
    confidence : ndarray of shape (n_samples,)
        Normalised probability of this class, in [0, 1]; 0 for samples that no label reaches.
    """
    graph = neighbour_graph(principal_components(X, seed))
    model = LabelSpreading(kernel=lambda *_: graph, alpha=ALPHA, max_iter=N_ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # N_ROUNDS iterations are enough
        warnings.simplefilter("ignore", RuntimeWarning)  # from samples that no label reaches
        model.fit(np.zeros((len(y), 1)), y)  # X is not used by the kernel
    labelled = y >= 0
    # Class mass normalisation: scale the distributions to the estimated class proportions.
    found = np.zeros((len(y), n_classes))
    found[:, model.classes_] = np.nan_to_num(model.label_distributions_)
    mass = found.sum(axis=0)
    share = class_shares(np.bincount(y[labelled], minlength=n_classes))
    found *= np.divide(share, mass, out=np.zeros(n_classes), where=mass > 0)
    total = found.sum(axis=1)
    best = found.max(axis=1)
    confidence = np.divide(best, total, out=np.zeros(len(y)), where=total > 0)
    return np.where(labelled, y, found.argmax(axis=1)), np.where(labelled, 1.0, confidence)


def principal_components(X, seed):
    """Compute at most `N_COMPONENTS` principal components of X, scaled by its largest value.

    Sparse samples are not centred; centring does not change distances.
    """
    values = X.data if issparse(X) else X
    largest = np.abs(values).max(initial=0.0)
    if largest == 0:
        return np.zeros((X.shape[0], 1))
    values = values / largest
    kind = PCA
    if issparse(X) and X.shape[1] > 1:
        kind, X = TruncatedSVD, X.copy()
        X.data = values
    else:
        X = X.toarray() / largest if issparse(X) else values
    with np.errstate(all="ignore"):  # samples that are all equal
        return kind(min(N_COMPONENTS, *X.shape), random_state=seed).fit_transform(X)


def neighbour_graph(X):
    """Make a symmetric graph of nearest neighbours; shorter edges have larger weights."""
    n_neighbors = min(N_NEIGHBORS, len(X) - 1)
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(X)
    graph = search.kneighbors_graph(mode="distance")
    lengths = graph.data.reshape(len(X), n_neighbors)
    lengths /= lengths.max(axis=1, keepdims=True) + np.finfo(lengths.dtype).tiny
    graph.data = np.exp(-SHARPNESS * lengths.ravel() ** 2)
    return graph + graph.T
