"""Plots of fitted estimators: Display objects, as in scikit-learn, with matplotlib."""

from __future__ import annotations

from math import isqrt, prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skae._compat import check_matplotlib_support
from skae._dataset import ArrayDataset
from skae._labels import is_label, is_missing, plain
from skae._training import draw_seed
from skae._typing import ArrayLike, MatrixLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skae._base import BaseAutoencoder, BaseEncoder
    from skae._detector import StackedAutoencoderDetector


def shape_of_images(n_features, image_shape):
    """Return the shape to draw a sample in: as given, else a grey or RGB square, else a column."""
    if image_shape is not None:
        shape = tuple(image_shape)
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (3, 4)):
            raise ValueError(
                f"image_shape must be (height, width), or (height, width, 3 or 4) for colour, got "
                f"{shape}."
            )
        if prod(shape) != n_features:
            raise ValueError(
                f"image_shape={shape} has {prod(shape)} values, but a sample has {n_features}."
            )
        return shape
    for n_channels in (1, 3):
        side = isqrt(n_features // n_channels)
        if side * side * n_channels == n_features:
            return (side, side) if n_channels == 1 else (side, side, 3)
    return (n_features, 1)


def tiles(images, n_columns):
    """Arrange images, shape (n_images, height, width, ...), with gaps of nan between them."""
    gap = 0 if images.shape[2] == 1 else 1  # columns are drawn without gaps
    n_images, height, width, *channels = images.shape
    n_lines = -(-n_images // n_columns)
    sheet = np.full((n_lines, height + 1, n_columns, width + gap, *channels), np.nan)
    for k, image in enumerate(images):
        sheet[k // n_columns, :height, k % n_columns, :width] = image
    sheet = sheet.reshape(n_lines * (height + 1), n_columns * (width + gap), *channels)
    return sheet[:-1, : sheet.shape[1] - gap]


def show_tiles(ax, images, n_columns, **im_kw):
    """Draw images without axes. Gaps between colour images are white, as they cannot be nan."""
    sheet = tiles(images, n_columns)
    if sheet.ndim == 3:
        sheet = np.nan_to_num(np.clip(sheet, 0, 1), nan=1.0)
    # A table's columns fill the axes; images keep their shape.
    aspect = "auto" if images.shape[2] == 1 else "equal"
    image = ax.imshow(sheet, **{"aspect": aspect, "interpolation": "nearest", **im_kw})
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return image


class _Display:
    """Base of the displays: makes axes if none are given."""

    def _open(self, ax):
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        self.ax_ = plt.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        return self.ax_


class FilterDisplay(_Display):
    """Filters of a layer: the pattern of features to which each unit responds.

    Use `from_estimator` to make one.

    Parameters
    ----------
    filters : ndarray of shape (n_filters, n_features)
        One filter in each row.
    image_shape : tuple of int, default=None
        (height, width) of a sample, or (height, width, 3) for RGB images with the channels last.
        None means a square in grey or RGB if the number of features allows it; otherwise each
        filter is drawn as a column with one cell per feature.

    Attributes
    ----------
    im_ : matplotlib.image.AxesImage
        The image.
    ax_ : matplotlib.axes.Axes
        Axes of the image.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    Raises
    ------
    ValueError
        If `image_shape` does not fit the features.

    See Also
    --------
    ReconstructionDisplay : Samples and their reconstructions.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenoisingAutoencoder, FilterDisplay
    >>> X = load_digits().data / 16
    >>> dae = DenoisingAutoencoder(64, random_state=0).fit(X)
    >>> FilterDisplay.from_estimator(dae, image_shape=(8, 8)).filters.shape
    (64, 64)
    """

    def __init__(
        self, filters: NDArray[Any], *, image_shape: tuple[int, ...] | None = None
    ) -> None:
        self.filters, self.image_shape = filters, image_shape

    def plot(
        self,
        ax: Axes | None = None,
        *,
        n_columns: int | None = None,
        scale_each: bool = True,
        **im_kw: Any,
    ) -> Self:
        """Draw the filters side by side.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        n_columns : int, default=None
            Number of filters per line. None makes the picture about square.
        scale_each : bool, default=True
            Whether to scale the colours to the range of each filter instead of all filters.
        **im_kw : dict
            Passed to `matplotlib.axes.Axes.imshow`, e.g. ``cmap``.

        Returns
        -------
        display : FilterDisplay
            The display itself.
        """
        filters = np.asarray(self.filters, dtype=np.float64)
        shape = shape_of_images(filters.shape[1], self.image_shape)
        ax = self._open(ax)
        largest = np.abs(filters).max(axis=1, keepdims=True)
        limit = np.maximum(largest if scale_each else largest.max(), np.finfo(np.float64).tiny)
        images = (filters / limit).reshape(-1, *shape)
        if len(shape) == 3:
            images = (images + 1) / 2  # a weight of zero is grey
        if n_columns is None:
            n_columns = len(images) if shape[1] == 1 else isqrt(len(images) - 1) + 1
        style = {"cmap": "RdBu_r", "vmin": -1, "vmax": 1, **im_kw}
        self.im_ = show_tiles(ax, images, n_columns, **style)
        if shape[1] == 1:
            ax.set(xlabel="unit", ylabel="feature")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEncoder,
        *,
        image_shape: tuple[int, ...] | None = None,
        layer: int = 0,
        n_filters: int | None = 100,
        ax: Axes | None = None,
        **plot_kw: Any,
    ) -> Self:
        """Draw the filters of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator of this package.
        image_shape : tuple of int, default=None
            See `FilterDisplay`.
        layer : int, default=0
            Index of the layer, from the bottom up. Filters of a higher layer are rows of the
            product of the weight matrices up to that layer, i.e. ignoring the activations below.
        n_filters : int or None, default=100
            Maximum number of filters, in decreasing order of norm. None draws all.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **plot_kw : dict
            Passed to `plot`.

        Returns
        -------
        display : FilterDisplay
            The display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        matrices = encoder_weights(estimator)
        if not 0 <= layer < len(matrices):
            raise ValueError(f"layer={layer}, but the layers are 0 to {len(matrices) - 1}.")
        filters = matrices[0]
        for weights in matrices[1 : layer + 1]:
            filters = weights @ filters
        order = np.argsort(-np.linalg.norm(filters, axis=1), kind="stable")[:n_filters]
        return cls(filters[order], image_shape=image_shape).plot(ax, **plot_kw)


def encoder_weights(estimator):
    """Return the weight matrices of the encoding layers, shapes (n_out, n_in)."""
    check_is_fitted(estimator)
    if hasattr(estimator, "coefs_"):
        return [weights.T for weights in estimator.coefs_[:-1]]
    return [layer.components_ for layer in getattr(estimator, "layers_", [estimator])]


class ReconstructionDisplay(_Display):
    """Samples, corrupted samples, and their reconstructions.

    Use `from_estimator` to make one.

    Parameters
    ----------
    lines : dict of str to ndarray of shape (n_rows, n_features)
        Lines of samples to draw below each other, by name.
    image_shape : tuple of int, default=None
        See `FilterDisplay`.

    Attributes
    ----------
    im_ : matplotlib.image.AxesImage
        The image.
    ax_ : matplotlib.axes.Axes
        Axes of the image.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    Raises
    ------
    ValueError
        If `image_shape` does not fit the features.

    See Also
    --------
    FilterDisplay : Filters of a layer.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import DenoisingAutoencoder, ReconstructionDisplay
    >>> X = load_digits().data / 16
    >>> dae = DenoisingAutoencoder(random_state=0).fit(X)
    >>> list(
    ...     ReconstructionDisplay.from_estimator(
    ...         dae, X[:5], random_state=0
    ...     ).lines
    ... )
    ['input', 'corrupted', 'reconstruction']
    """

    def __init__(
        self, lines: dict[str, NDArray[Any]], *, image_shape: tuple[int, ...] | None = None
    ) -> None:
        self.lines, self.image_shape = lines, image_shape

    def plot(self, ax: Axes | None = None, **im_kw: Any) -> Self:
        """Draw the lines below each other.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **im_kw : dict
            Passed to `matplotlib.axes.Axes.imshow`, e.g. ``cmap``.

        Returns
        -------
        display : ReconstructionDisplay
            The display itself.
        """
        lines = {name: np.asarray(rows, dtype=np.float64) for name, rows in self.lines.items()}
        first = next(iter(lines.values()))
        n_rows, shape = len(first), shape_of_images(first.shape[1], self.image_shape)
        ax = self._open(ax)
        images = np.concatenate(list(lines.values())).reshape(-1, *shape)
        low, high = first.min(), first.max()
        if len(shape) == 3:
            images = (images - low) / ((high - low) or 1)
        style = {"cmap": "gray", "vmin": low, "vmax": high, **im_kw}
        self.im_ = show_tiles(ax, images, n_rows, **style)
        ax.set_yticks(np.arange(len(lines)) * (shape[0] + 1) + (shape[0] - 1) / 2, list(lines))
        ax.tick_params(length=0)
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseAutoencoder,
        X: MatrixLike,
        *,
        image_shape: tuple[int, ...] | None = None,
        n_rows: int = 10,
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
        **im_kw: Any,
    ) -> Self:
        """Draw the first samples of X, their corrupted versions, and the reconstructions of these.

        Parameters
        ----------
        estimator : DenoisingAutoencoder or StackedAutoencoder
            Fitted autoencoder. Without corruption, the line of corrupted samples is omitted.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples, preferably not from the training set.
        image_shape : tuple of int, default=None
            See `FilterDisplay`.
        n_rows : int, default=10
            Maximum number of samples.
        random_state : int, RandomState instance or None, default=None
            Seed of the noise.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **im_kw : dict
            Passed to `plot`.

        Returns
        -------
        display : ReconstructionDisplay
            The display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if not hasattr(estimator, "inverse_transform"):
            raise TypeError(
                f"{type(estimator).__name__} cannot reconstruct. Pass a DenoisingAutoencoder or a "
                "StackedAutoencoder, e.g. pretrained_ of a classifier."
            )
        X = estimator._check_X(X)[:n_rows]
        bottom = estimator._trained_layers[0]
        corrupted = bottom._corrupted(X, draw_seed(random_state))
        lines = {"input": X.toarray() if issparse(X) else X}
        if bottom.corruption is not None:
            lines["corrupted"] = corrupted
        lines["reconstruction"] = estimator._toarray(
            estimator._reconstructed(ArrayDataset(corrupted))
        )
        return cls(lines, image_shape=image_shape).plot(ax, **im_kw)


class LossCurveDisplay(_Display):
    """Learning curves: loss of training and held-out samples after each epoch.

    Use `from_estimator` to make one.

    Parameters
    ----------
    curves : dict of str to tuple of (list of float, list of float or None)
        Losses of training and held-out samples, by the name of the layer or training stage.
    baselines : dict of str to float, default=None
        Loss of the mean sample, by the same names, drawn as dashed lines.

    Attributes
    ----------
    lines_ : list of matplotlib.lines.Line2D
        The curves.
    baselines_ : list of matplotlib.lines.Line2D
        The dashed lines of the mean sample.
    ax_ : matplotlib.axes.Axes
        Axes of the curves.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores against the number of samples.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import LossCurveDisplay, StackedAutoencoder
    >>> X = load_digits().data / 16
    >>> stack = StackedAutoencoder(
    ...     (64, 32), max_iter=5, random_state=0
    ... ).fit(X)
    >>> list(LossCurveDisplay.from_estimator(stack).curves)
    ['layer 1', 'layer 2']
    """

    def __init__(
        self,
        curves: dict[str, tuple[list[float], list[float] | None]],
        baselines: dict[str, float] | None = None,
    ) -> None:
        self.curves, self.baselines = curves, baselines or {}

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> Self:
        """Draw the curves, dotted for held-out samples.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **line_kw : dict
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        ax = self._open(ax)
        self.lines_, self.baselines_ = [], []
        for name, (training, held_out) in self.curves.items():
            epochs = np.arange(1, len(training) + 1)
            # A line of a single epoch would be invisible.
            style = {"marker": "o" if len(training) == 1 else None, **line_kw}
            [line] = ax.plot(epochs, training, **{"label": name, **style})
            self.lines_.append(line)
            if held_out:
                # They are fewer if an earlier fit had no early stopping.
                style |= {"color": line.get_color(), "linestyle": ":"}
                label = "held out" if name == "training" else f"{name}, held out"
                self.lines_ += ax.plot(epochs[-len(held_out) :], held_out, label=label, **style)
            if name in self.baselines:
                label = "mean sample" if name == "training" else f"{name}, mean sample"
                style = {"color": line.get_color(), "linestyle": "--", "linewidth": 1}
                self.baselines_.append(ax.axhline(self.baselines[name], label=label, **style))
        ax.set(xlabel="epoch", ylabel="loss per sample")
        ax.locator_params("x", integer=True)
        ax.legend()
        return self

    @classmethod
    def from_estimator(
        cls, estimator: BaseEncoder, *, ax: Axes | None = None, **line_kw: Any
    ) -> Self:
        """Draw the curves of a fitted estimator: of each layer of a stack, or of fine-tuning.

        For autoencoders, a dashed line shows the loss of the mean sample, ``baseline_loss_``.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator of this package.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **line_kw : dict
            Passed to `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        layers = getattr(estimator, "layers_", [])
        trained = {f"layer {k}": layer for k, layer in enumerate(layers, start=1)}
        if hasattr(estimator, "loss_curve_"):
            trained["all layers" if layers else "training"] = estimator
        curves = {
            name: (one.loss_curve_, getattr(one, "validation_loss_curve_", None))
            for name, one in trained.items()
        }
        baselines = {
            name: one.baseline_loss_
            for name, one in trained.items()
            if hasattr(one, "baseline_loss_")
        }
        return cls(curves, baselines).plot(ax, **line_kw)


def _is_continuous(y):
    return y.dtype.kind == "f" and len(y) > 0 and type_of_target(y) == "continuous"


class FeatureScoreDisplay(_Display):
    """Errors of the features that make up the score of a detector.

    Use `from_estimator` to make one.

    Parameters
    ----------
    feature_scores : ndarray of shape (n_samples, n_features)
        Scores of the features, from `StackedAutoencoderDetector.feature_scores`.
    feature_errors : ndarray of shape (n_features,), default=None
        Usual error of each feature, from `StackedAutoencoderDetector.feature_errors_`.
    feature_names : array-like of str of shape (n_features,), default=None
        Names of the features. None means x0, x1 and so on.

    Attributes
    ----------
    bars_ : matplotlib.container.BarContainer
        The bars.
    ax_ : matplotlib.axes.Axes
        Axes of the bars.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    See Also
    --------
    StackedAutoencoderDetector : The detector.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import FeatureScoreDisplay, StackedAutoencoderDetector
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> detector = StackedAutoencoderDetector(random_state=0).fit(X[y == 0])
    >>> display = FeatureScoreDisplay.from_estimator(
    ...     detector, X[y == 2][:1]
    ... )
    >>> len(display.bars_)
    10
    """

    def __init__(
        self,
        feature_scores: NDArray[Any],
        *,
        feature_errors: NDArray[Any] | None = None,
        feature_names: ArrayLike | None = None,
    ) -> None:
        self.feature_scores = feature_scores
        self.feature_errors, self.feature_names = feature_errors, feature_names

    def plot(self, ax: Axes | None = None, *, n_features: int = 10, **bar_kw: Any) -> Self:
        """Draw a bar chart of the largest errors of features.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        n_features : int, default=10
            Maximum number of features to draw.
        **bar_kw : dict
            Passed to `matplotlib.axes.Axes.barh`.

        Returns
        -------
        display : FeatureScoreDisplay
            The display itself.
        """
        errors = -np.asarray(self.feature_scores, dtype=np.float64).mean(axis=0)
        names = [f"x{k}" for k in range(len(errors))]
        if self.feature_names is not None:
            names = np.asarray(self.feature_names, dtype=object).tolist()
        ax = self._open(ax)
        shown = np.argsort(-errors, kind="stable")[:n_features][::-1]  # the largest on top
        places = np.arange(len(shown))
        self.bars_ = ax.barh(places, errors[shown], **bar_kw)
        ax.set_yticks(places, [names[k] for k in shown])
        ax.set_xlabel("squared error, in squared standard deviations")
        if self.feature_errors is not None:
            style: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 12}
            usual = np.asarray(self.feature_errors)[shown]
            ax.plot(usual, places, label="usual", color="black", **style)
            ax.legend(loc="lower right")
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: StackedAutoencoderDetector,
        X: MatrixLike,
        *,
        n_features: int = 10,
        ax: Axes | None = None,
        **bar_kw: Any,
    ) -> Self:
        """Draw the errors of a sample, or means over samples, and the usual errors.

        Parameters
        ----------
        estimator : StackedAutoencoderDetector
            A fitted detector.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            One or several samples.
        n_features : int, default=10
            See `plot`.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **bar_kw : dict
            Passed to `plot`.

        Returns
        -------
        display : FeatureScoreDisplay
            The display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        scores = estimator.feature_scores(X)
        display = cls(
            scores,
            feature_errors=estimator.feature_errors_,
            feature_names=getattr(estimator, "feature_names_in_", None),
        )
        return display.plot(ax, n_features=n_features, **bar_kw)


class CodeDisplay(_Display):
    """Codes of samples: a scatter plot, or a histogram of mean activations.

    Use `from_estimator` to make one.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_components)
        Codes, as returned by `transform`.
    y : array-like of shape (n_samples,), default=None
        Labels or numbers that colour the points. Unlabelled samples are grey: None, nan, pandas'
        NA, and -1 in numeric y unless the only labels are -1 and 1.

    Attributes
    ----------
    points_ : ndarray of shape (n_samples, 2)
        Coordinates of the points. Only with ``kind='scatter'``.
    ax_ : matplotlib.axes.Axes
        The axes.
    figure_ : matplotlib.figure.Figure
        Figure of the axes.

    Raises
    ------
    ValueError
        If `kind` is unknown, or is 'scatter' and the codes have only one dimension.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import CodeDisplay, DenoisingAutoencoder
    >>> X, y = load_digits(return_X_y=True)
    >>> dae = DenoisingAutoencoder(32, random_state=0).fit(X / 16)
    >>> CodeDisplay.from_estimator(dae, X / 16, y).points_.shape
    (1797, 2)
    """

    def __init__(self, codes: NDArray[Any], y: ArrayLike | None = None) -> None:
        self.codes, self.y = codes, y

    def plot(self, ax: Axes | None = None, *, kind: str = "scatter", **plot_kw: Any) -> Self:
        """Draw the codes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        kind : {'scatter', 'histogram'}, default='scatter'
            'scatter' draws each sample at its code, or at the first two principal components of
            codes with more dimensions. 'histogram' counts the units by their mean activation
            over the samples.
        **plot_kw : dict
            Passed to `matplotlib.axes.Axes.scatter` or `hist`.

        Returns
        -------
        display : CodeDisplay
            The display itself.
        """
        if kind not in ("scatter", "histogram"):
            raise ValueError(f"kind must be 'scatter' or 'histogram', got {kind!r}.")
        codes = np.asarray(self.codes)
        if kind == "scatter" and codes.shape[1] < 2:
            raise ValueError("kind='scatter' needs codes of two dimensions: use 'histogram'.")
        ax = self._open(ax)
        if kind == "scatter":
            self._scatter(codes, **plot_kw)
        else:
            ax.hist(codes.mean(axis=0), **{"bins": "auto", **plot_kw})
            ax.set(xlabel="mean activation", ylabel="units")
        return self

    def _scatter(self, codes, **scatter_kw):
        from sklearn.decomposition import PCA

        ax, name = self.ax_, "code"
        if codes.shape[1] > 2:
            codes, name = PCA(2, random_state=0).fit_transform(codes), "principal component"
        self.points_ = codes
        style = {"s": 6, **scatter_kw}
        if self.y is None:
            ax.scatter(*codes.T, **style)
        else:
            # As objects: NumPy would convert nan among strings to a string.
            self._scatter_by(column_or_1d(np.asarray(self.y, dtype=object)), codes, style)
        ax.set(xlabel=f"{name} 1", ylabel=f"{name} 2")

    def _scatter_by(self, y, codes, style):
        """Draw points coloured by labels or numbers, unlabelled ones below the others."""
        from matplotlib import colormaps

        ax, unlabelled = self.ax_, is_missing(y)
        labels = plain(y[~unlabelled])
        if not _is_continuous(labels):  # in which -1 is an ordinary number
            unlabelled[~unlabelled] = ~is_label(labels)
        if unlabelled.any():
            grey = {**style, "color": "lightgrey"}
            ax.scatter(*codes[unlabelled].T, label="unlabelled", **grey)
        codes, y = codes[~unlabelled], np.array(y[~unlabelled].tolist())
        if _is_continuous(y):
            self.figure_.colorbar(ax.scatter(*codes.T, c=y, **style), ax=ax)
            if unlabelled.any():
                ax.legend(markerscale=2)
            return
        if y.dtype.kind == "f":  # integers with nan
            y = y.astype(np.int64)
        labels = np.unique(y)
        if len(labels) <= 10:
            colours = colormaps["tab10"](np.arange(len(labels)))
        else:
            colours = colormaps["turbo"](np.linspace(0, 1, len(labels)))
        for label, colour in zip(labels, colours):
            ax.scatter(*codes[y == label].T, label=str(label), color=colour, **style)
        ax.legend(markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEncoder,
        X: MatrixLike,
        y: ArrayLike | None = None,
        *,
        kind: str = "scatter",
        ax: Axes | None = None,
        **plot_kw: Any,
    ) -> Self:
        """Draw the codes of samples from a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Any fitted estimator of this package.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), default=None
            Labels or numbers that colour the points.
        kind : {'scatter', 'histogram'}, default='scatter'
            See `plot`.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw on; None makes a new figure.
        **plot_kw : dict
            Passed to `plot`.

        Returns
        -------
        display : CodeDisplay
            The display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        codes = estimator._encode(estimator._check_X(X))
        codes = codes.toarray() if issparse(codes) else codes
        if y is not None:
            check_consistent_length(codes, y)
        return cls(codes, y).plot(ax, kind=kind, **plot_kw)
