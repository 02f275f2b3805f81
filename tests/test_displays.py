"""Pictures: what they show of which estimator, and what they refuse."""

import sys

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from skae import (
    CodeDisplay,
    DenoisingAutoencoder,
    FeatureScoreDisplay,
    FilterDisplay,
    LossCurveDisplay,
    ReconstructionDisplay,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderRegressor,
)

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")

X, y = load_digits(return_X_y=True)
X, y = X[:200] / 16, y[:200]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    few = dict(max_iter=2, random_state=0)
    sizes = (12, 6)
    return {
        "layer": DenoisingAutoencoder(12, corruption="masking", **few).fit(X),
        "stack": StackedAutoencoder(
            sizes, joint=True, joint_max_iter=3, corruption="masking", **few
        ).fit(X),
        "classifier": StackedAutoencoderClassifier(sizes, early_stopping=True, **few).fit(X, y),
        "regressor": StackedAutoencoderRegressor(sizes, **few).fit(X, y),
    }


NAMES = ["layer", "stack", "classifier", "regressor"]


# ---- filters ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_filters_are_the_weights_of_the_first_layer(fitted, name):
    display = FilterDisplay.from_estimator(fitted[name])
    own = getattr(fitted[name], "coefs_", None)
    own = own[0].T if own else getattr(fitted[name], "layers_", [fitted[name]])[0].components_
    norms = np.linalg.norm(display.filters, axis=1)
    assert (np.diff(norms) <= 0).all()
    np.testing.assert_array_equal(np.sort(display.filters, axis=0), np.sort(own, axis=0))


def test_filters_of_a_higher_layer_are_products_of_the_weights(fitted):
    bottom, top = fitted["stack"].layers_
    display = FilterDisplay.from_estimator(fitted["stack"], layer=1, n_filters=None)
    expected = top.components_ @ bottom.components_
    np.testing.assert_allclose(np.sort(display.filters, axis=0), np.sort(expected, axis=0))
    with pytest.raises(ValueError, match="layers are 0 to 1"):
        FilterDisplay.from_estimator(fitted["stack"], layer=2)


def test_each_tile_shows_its_filter():
    filters = np.arange(1.0, 4 * 6 + 1).reshape(4, 6)
    display = FilterDisplay(filters, image_shape=(2, 3)).plot(n_columns=2, scale_each=False)
    sheet = display.im_.get_array()
    assert sheet.shape == (2 * 2 + 1, 3 * 2 + 1)
    np.testing.assert_allclose(sheet[:2, :3], filters[0].reshape(2, 3) / 24)
    np.testing.assert_allclose(sheet[3:, 4:], filters[3].reshape(2, 3) / 24)
    assert np.ma.getmaskarray(sheet)[2].all() and np.ma.getmaskarray(sheet)[:, 3].all()


def test_scale_each_spans_the_colours_of_every_filter():
    filters = np.array([[1.0, -0.5, 0, 0], [0.001, 0, 0, 0], [0, 0, 0, 0]])
    sheet = FilterDisplay(filters).plot(n_columns=3).im_.get_array()
    assert sheet[0, 0] == 1 and sheet[0, 3] == 1 and sheet[0, 6] == 0


@pytest.mark.parametrize(
    "n_features, expected", [(64, (8, 8)), (48, (4, 4, 3)), (30, (30, 1)), (1, (1, 1))]
)
def test_default_shapes(n_features, expected):
    filters = np.random.default_rng(0).normal(size=(5, n_features))
    sheet = FilterDisplay(filters).plot(n_columns=5).im_.get_array()
    gap = expected[1] > 1
    assert sheet.shape[:2] == (expected[0], 5 * (expected[1] + gap) - gap)
    assert sheet.shape[2:] == expected[2:]


def test_colours_of_a_filter_are_grey_without_weight():
    sheet = FilterDisplay(np.zeros((2, 12)), image_shape=(2, 2, 3)).plot(n_columns=2).im_
    assert (sheet.get_array()[:, :2] == 0.5).all() and (sheet.get_array()[:, 2] == 1).all()


@pytest.mark.parametrize(
    "shape, message", [((3, 4), "has 12 values"), ((64,), "image_shape must")]
)
def test_shapes_that_do_not_fit(fitted, shape, message):
    with pytest.raises(ValueError, match=message):
        FilterDisplay.from_estimator(fitted["layer"], image_shape=shape)
    with pytest.raises(ValueError, match=message):
        ReconstructionDisplay.from_estimator(fitted["layer"], X, image_shape=shape)


# ---- reconstructions ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer", "stack"])
def test_reconstruction_is_that_of_the_corrupted_rows(fitted, name):
    display = ReconstructionDisplay.from_estimator(fitted[name], X, n_rows=7, random_state=0)
    lines = display.lines
    np.testing.assert_array_equal(lines["input"], X[:7])
    changed = lines["corrupted"] != lines["input"]
    assert (lines["corrupted"][changed] == 0).all() and 0.2 < changed.mean() < 0.5
    codes = fitted[name].transform(lines["corrupted"])
    np.testing.assert_array_equal(lines["reconstruction"], fitted[name].inverse_transform(codes))
    again = ReconstructionDisplay.from_estimator(fitted[name], X, n_rows=7, random_state=0)
    other = ReconstructionDisplay.from_estimator(fitted[name], X, n_rows=7, random_state=1)
    np.testing.assert_array_equal(again.lines["corrupted"], lines["corrupted"])
    assert not np.array_equal(other.lines["corrupted"], lines["corrupted"])


def test_lines_are_named_at_their_middle(fitted):
    display = ReconstructionDisplay.from_estimator(fitted["layer"], csr_array(X), n_rows=3)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["input", "corrupted", "reconstruction"]
    np.testing.assert_allclose(display.ax_.get_yticks(), [3.5, 12.5, 21.5])


@pytest.mark.parametrize("corruption", ["gaussian", "salt_and_pepper"])
def test_other_noises(corruption):
    dae = DenoisingAutoencoder(8, corruption=corruption, corruption_level=0.3, max_iter=1).fit(X)
    lines = ReconstructionDisplay.from_estimator(dae, X, n_rows=len(X), random_state=0).lines
    changed = lines["corrupted"] - lines["input"]
    if corruption == "gaussian":
        expected = 0.3 * X.std(axis=0)
        assert np.abs(changed.std(axis=0) - expected).max() < 0.05
    else:
        hit = lines["corrupted"][changed != 0]
        assert set(np.unique(hit)) <= {*X.min(axis=0), *X.max(axis=0)}


def test_without_corruption_there_is_no_line_of_it():
    dae = DenoisingAutoencoder(8, corruption=None, max_iter=1).fit(X)
    assert list(ReconstructionDisplay.from_estimator(dae, X).lines) == ["input", "reconstruction"]


def test_what_reconstructs_nothing_is_refused(fitted):
    with pytest.raises(TypeError, match="cannot reconstruct"):
        ReconstructionDisplay.from_estimator(fitted["classifier"], X)


# ---- curves -------------------------------------------------------------------------------


def test_loss_curves(fitted):
    display = LossCurveDisplay.from_estimator(fitted["stack"])
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["layer 1", "layer 2", "all layers"]
    np.testing.assert_array_equal(display.lines_[2].get_ydata(), fitted["stack"].loss_curve_)
    np.testing.assert_array_equal(display.lines_[2].get_xdata(), [1, 2, 3])
    labels = [f"{label}, mean sample" for label in labels]
    assert [line.get_label() for line in display.baselines_] == labels
    fits = [*fitted["stack"].layers_, fitted["stack"]]
    for line, curve, one in zip(display.baselines_, display.lines_, fits, strict=True):
        assert set(line.get_ydata()) == {one.baseline_loss_}
        assert line.get_linestyle() == "--" and line.get_color() == curve.get_color()

    display = LossCurveDisplay.from_estimator(fitted["classifier"])
    training, held_out = display.lines_
    assert display.baselines_ == []
    assert [training.get_label(), held_out.get_label()] == ["training", "held out"]
    curve = fitted["classifier"].validation_loss_curve_
    np.testing.assert_array_equal(held_out.get_ydata(), curve)
    assert held_out.get_color() == training.get_color()


def test_a_single_epoch_can_be_seen():
    dae = DenoisingAutoencoder(8, max_iter=1).fit(X)
    display = LossCurveDisplay.from_estimator(dae)
    [line], [baseline] = display.lines_, display.baselines_
    assert line.get_marker() == "o"
    assert baseline.get_label() == "mean sample"


def test_no_mean_sample_after_partial_fit():
    dae = DenoisingAutoencoder(8).partial_fit(X)
    assert LossCurveDisplay.from_estimator(dae).baselines_ == []
    assert LossCurveDisplay({"training": ([1.0], None)}).plot().baselines_ == []


# ---- codes --------------------------------------------------------------------------------


def test_codes_of_two_numbers_are_points():
    dae = DenoisingAutoencoder(2, max_iter=1, random_state=0).fit(X)
    display = CodeDisplay.from_estimator(dae, X, y)
    np.testing.assert_array_equal(display.points_, dae.transform(X))
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [str(k) for k in range(10)] and display.ax_.get_xlabel() == "code 1"


@pytest.mark.parametrize("target", [None, np.linspace(0, 1, len(X)), np.arange(len(X)) % 15])
@pytest.mark.parametrize("name", NAMES)
def test_longer_codes_are_projected(fitted, name, target):
    display = CodeDisplay.from_estimator(fitted[name], X, target)
    assert display.points_.shape == (len(X), 2)
    assert display.ax_.get_xlabel() == "principal component 1"
    drawn = sum(len(points.get_offsets()) for points in display.ax_.collections)
    assert drawn == len(X)


def test_sparse_codes_are_drawn_as_dense_ones():
    dae = DenoisingAutoencoder(12, activation="top_k", max_iter=1, random_state=0).fit(X)
    for kind, drawn in (("scatter", "points_"), ("histogram", "codes")):
        displays = [
            CodeDisplay.from_estimator(dae.set_params(sparse_output=sparse), X, kind=kind)
            for sparse in (False, True)
        ]
        one, other = (getattr(display, drawn) for display in displays)
        assert isinstance(other, np.ndarray) and len(other) == len(X)
        np.testing.assert_array_equal(other, one)


def nullable(values):
    pd = pytest.importorskip("pandas")
    return pd.Series([pd.NA if one is None else one for one in values], dtype="Int64")


def null(values):
    return pytest.importorskip("polars").Series(values)


NAMES_OF_NUMBERS = ["cat", "dog", "fox"]
PARTLY = [None if k % 4 == 3 else k % 4 for k in range(len(X))]
PARTLY_NAMED = [None if one is None else NAMES_OF_NUMBERS[one] for one in PARTLY]
WITH_NAN = np.array(PARTLY, dtype=float)
WITH_MINUS_ONE = np.nan_to_num(WITH_NAN, nan=-1).astype(int)
LABELS = {
    "list with None": PARTLY,
    "list of strings with None": PARTLY_NAMED,
    "list of strings with nan": [np.nan if one is None else one for one in PARTLY_NAMED],
    "array of strings with None": np.array(PARTLY_NAMED, dtype=object),
    "array of strings with -1": np.array(
        [-1 if one is None else one for one in PARTLY_NAMED], dtype=object
    ),
    "floats with nan": WITH_NAN,
    "float32 with nan": WITH_NAN.astype(np.float32),
    "array of objects with nan": WITH_NAN.astype(object),
    "column": WITH_NAN[:, np.newaxis],
    "-1": WITH_MINUS_ONE,
    "floats with -1": WITH_MINUS_ONE.astype(float),
    "array of objects with -1": WITH_MINUS_ONE.astype(object),
    "array of NumPy's integers with -1": np.array([*WITH_MINUS_ONE, None], dtype=object)[:-1],
    "pandas, Int64": lambda: nullable(PARTLY),
    "pandas, strings": lambda: pytest.importorskip("pandas").Series(PARTLY_NAMED),
    "pandas, string": lambda: pytest.importorskip("pandas").Series(PARTLY_NAMED, dtype="string"),
    "pandas, categories": lambda: pytest.importorskip("pandas").Series(
        PARTLY_NAMED, dtype="category"
    ),
    "polars": lambda: null(PARTLY),
    "polars, strings": lambda: null(PARTLY_NAMED),
}


def drawn(display):
    """Points and colour of each part of a picture, in the order of drawing, and its legend."""
    parts = [(part.get_offsets(), part.get_facecolors()) for part in display.ax_.collections]
    legend = display.ax_.get_legend()
    return parts, legend and [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("name", LABELS)
def test_unlabelled_samples_are_grey_below_the_others(fitted, name):
    target = LABELS[name]() if callable(LABELS[name]) else LABELS[name]
    display = CodeDisplay.from_estimator(fitted["layer"], X, target)
    parts, legend = drawn(display)
    labels = NAMES_OF_NUMBERS if "strings" in name or "string" in name else ["0", "1", "2"]
    if name == "pandas, categories":
        labels = NAMES_OF_NUMBERS
    assert legend == ["unlabelled", *labels]
    for k, (points, colours) in zip((3, 0, 1, 2), parts, strict=True):
        np.testing.assert_allclose(points, display.points_[k::4])
        assert len(np.unique(colours[0, :3])) == 1 if k == 3 else len(np.unique(colours[0])) > 2


@pytest.mark.parametrize("dtype", [int, float, object])
def test_minus_one_and_one_are_labels(fitted, dtype):
    target = np.where(np.arange(len(X)) % 2, 1, -1).astype(dtype)
    _, legend = drawn(CodeDisplay.from_estimator(fitted["layer"], X, target))
    assert legend == ["-1", "1"]


def test_minus_one_and_one_beside_missing_labels(fitted):
    target = np.where(np.arange(len(X)) % 2, 1.0, -1.0)
    target[::5] = np.nan
    _, legend = drawn(CodeDisplay.from_estimator(fitted["layer"], X, target))
    assert legend == ["unlabelled", "-1", "1"]


@pytest.mark.parametrize("value", [None, -1])
@pytest.mark.parametrize("make", [np.asarray, list, nullable, null])
def test_samples_without_any_label(fitted, make, value):
    parts, legend = drawn(CodeDisplay.from_estimator(fitted["layer"], X, make([value] * len(X))))
    assert [len(points) for points, _ in parts] == [len(X)] and legend == ["unlabelled"]


def test_missing_targets_beside_a_colour_bar(fitted):
    """-1 is a number among them."""
    target = np.linspace(-1, 1, len(X))
    target[::4] = np.nan
    target[1] = -1
    display = CodeDisplay.from_estimator(fitted["regressor"], X, target)
    parts, legend = drawn(display)
    assert legend == ["unlabelled"]
    np.testing.assert_allclose(parts[0][0], display.points_[::4])
    assert len(parts[1][0]) == len(X) - len(X[::4])
    coloured = display.ax_.collections[1]
    np.testing.assert_allclose(coloured.get_array(), target[~np.isnan(target)])
    assert len(display.figure_.axes) == 2


def test_a_colour_bar_without_missing_targets_has_no_legend(fitted):
    display = CodeDisplay.from_estimator(fitted["layer"], X, np.linspace(0, 1, len(X)))
    assert display.ax_.get_legend() is None and len(display.figure_.axes) == 2


def test_several_columns_of_labels_are_refused(fitted):
    with pytest.raises(ValueError, match="1d array"):
        CodeDisplay.from_estimator(fitted["layer"], X, np.c_[y, y])


def test_histogram_counts_units(fitted):
    display = CodeDisplay.from_estimator(fitted["layer"], X, kind="histogram")
    assert sum(bar.get_height() for bar in display.ax_.patches) == 12


def test_codes_that_cannot_be_drawn(fitted):
    with pytest.raises(ValueError, match="kind must be"):
        CodeDisplay.from_estimator(fitted["layer"], X, kind="tsne")
    with pytest.raises(ValueError, match="codes of two dimensions"):
        CodeDisplay(np.zeros((5, 1))).plot()
    with pytest.raises(ValueError, match="inconsistent"):
        CodeDisplay.from_estimator(fitted["layer"], X, y[:-1])


# ---- all ----------------------------------------------------------------------------------

CALLS = {
    FilterDisplay: lambda est, **kw: FilterDisplay.from_estimator(est, **kw),
    ReconstructionDisplay: lambda est, **kw: ReconstructionDisplay.from_estimator(est, X, **kw),
    LossCurveDisplay: lambda est, **kw: LossCurveDisplay.from_estimator(est, **kw),
    CodeDisplay: lambda est, **kw: CodeDisplay.from_estimator(est, X, **kw),
}
of_each = pytest.mark.parametrize("display", CALLS, ids=lambda cls: cls.__name__)


@of_each
def test_axes_are_used_or_made(fitted, display):
    figure, ax = plt.subplots()
    drawn = CALLS[display](fitted["layer"], ax=ax)
    assert isinstance(drawn, display) and drawn.ax_ is ax and drawn.figure_ is figure
    again = drawn.plot()
    assert again is drawn and drawn.ax_ is not ax
    figure.canvas.draw()


@of_each
def test_an_unfitted_estimator_is_refused(display):
    with pytest.raises(NotFittedError):
        CALLS[display](DenoisingAutoencoder())


@of_each
def test_without_matplotlib(fitted, display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="requires matplotlib"):
        CALLS[display](fitted["layer"])


# -- scores of features ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    rng = np.random.default_rng(0)
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(rng.normal(size=(60, 5)), columns=list("abcde"))
    return StackedAutoencoderDetector(4, n_estimators=2, max_iter=2, random_state=0).fit(table)


def test_the_largest_error_is_on_top(detector):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame([[0, 0, 30, 0, -20]], columns=list("abcde"), dtype=float)
    display = FeatureScoreDisplay.from_estimator(detector, table, n_features=3, color="red")
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[::-1][:2] == ["c", "e"] and len(display.bars_) == 3
    widths = [bar.get_width() for bar in display.bars_]
    assert widths == sorted(widths)
    assert widths[-1] == -detector.feature_scores(table).min()
    (usual,) = display.ax_.get_lines()
    assert usual.get_xdata()[-1] == detector.feature_errors_[2]


def test_several_samples_are_shown_by_their_mean():
    scores = -np.array([[1.0, 2.0], [5.0, 2.0]])
    display = FeatureScoreDisplay(scores).plot()
    assert [bar.get_width() for bar in display.bars_] == [2, 3]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["x1", "x0"]
    assert not display.ax_.get_lines()
