"""skae among the tools of scikit-learn and of data frames: each used as its users would."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from skae import (
    DenoisingAutoencoder,
    StackedAutoencoder,
    StackedAutoencoderClassifier,
    StackedAutoencoderDetector,
    StackedAutoencoderImputer,
    StackedAutoencoderRegressor,
)

X, y = load_digits(return_X_y=True)
X, y = (X[:300] / 16).astype(np.float32), y[:300]
NAMES = [f"pixel_{k}" for k in range(64)]

FEW = dict(max_iter=2, random_state=0)
ALL = [
    DenoisingAutoencoder(12, **FEW),
    StackedAutoencoder((12, 6), **FEW),
    StackedAutoencoderClassifier((12, 6), **FEW),
    StackedAutoencoderRegressor((12, 6), **FEW),
]
each = pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)


def frame(library):
    """The rows in double precision, which scikit-learn makes of a polars frame in any case."""
    module = pytest.importorskip(library)
    return module.DataFrame({name: X[:, k].astype(float) for k, name in enumerate(NAMES)})


# ---- frames -------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_in_and_frames_out(estimator, library):
    rows = frame(library)
    fitted = clone(estimator).set_output(transform=library).fit(rows, y)
    codes = fitted.transform(rows)
    assert type(codes) is type(rows)
    prefix = type(estimator).__name__.lower()
    n_codes = codes.shape[1]
    assert list(codes.columns) == [f"{prefix}{k}" for k in range(n_codes)]
    assert list(fitted.get_feature_names_out()) == list(codes.columns)
    assert list(fitted.feature_names_in_) == NAMES
    plain = clone(estimator).fit(X.astype(float), y).transform(X.astype(float))
    np.testing.assert_array_equal(codes.to_numpy(), plain)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_frame_go_to_a_column_transformer(library):
    rows = frame(library)
    columns = ColumnTransformer(
        [("codes", clone(ALL[1]), NAMES[:32]), ("raw", StandardScaler(), NAMES[32:])]
    ).set_output(transform=library)
    out = columns.fit_transform(rows)
    assert out.shape == (len(X), 6 + 32)
    assert next(iter(out.columns)) == "codes__stackedautoencoder0"
    codes = clone(ALL[1]).fit_transform(X[:, :32].astype(float))
    np.testing.assert_array_equal(out.to_numpy()[:, :6], codes)


@each
def test_a_column_that_is_missing_is_named(estimator):
    rows = frame("pandas")
    fitted = clone(estimator).fit(rows, y)
    with pytest.raises(ValueError, match="pixel_7"):
        fitted.transform(rows.drop(columns="pixel_7"))


# ---- detector and imputer ------------------------------------------------------------------


SMALL = dict(n_estimators=2, **FEW)
MISSING = np.where(np.random.default_rng(0).random((300, 16)) < 0.2, np.nan, X[:, 20:36])


def with_missing(library):
    module = pytest.importorskip(library)
    columns = {name: MISSING[:, k].astype(float) for k, name in enumerate(NAMES[20:36])}
    if library == "polars":
        return module.DataFrame(columns).fill_nan(None)
    return module.DataFrame(columns).convert_dtypes()  # Float64, with NA


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_imputer_fills_frames(library):
    rows = with_missing(library)
    imputer = StackedAutoencoderImputer((12, 6), add_indicator=True, **SMALL)
    plain = clone(imputer).fit_transform(MISSING.astype(float))
    filled = imputer.set_output(transform=library).fit_transform(rows)
    assert type(filled) is type(rows)
    names = NAMES[20:36]
    indicators = [f"missingindicator_{name}" for name in names]
    assert list(filled.columns) == [*names, *indicators]
    assert list(imputer.get_feature_names_out()) == list(filled.columns)
    np.testing.assert_array_equal(filled.to_numpy(), plain)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_detector_takes_frames(library):
    rows = with_missing(library)
    found = StackedAutoencoderDetector((12, 6), **SMALL).fit(rows)
    plain = StackedAutoencoderDetector((12, 6), **SMALL).fit(MISSING.astype(float))
    np.testing.assert_array_equal(
        found.feature_scores(rows), plain.feature_scores(MISSING.astype(float))
    )
    assert list(found.feature_names_in_) == NAMES[20:36]


def test_the_imputer_before_a_classifier():
    pipe = make_pipeline(StackedAutoencoderImputer((12,), **SMALL), MinMaxScaler(), SVC())
    columns = ColumnTransformer([("some", pipe[0], slice(0, 8))], remainder="passthrough")
    assert pipe.fit(MISSING, y).score(MISSING, y) > 0.7
    out = columns.fit_transform(MISSING)
    assert np.isfinite(out[:, :8]).all() and np.isnan(out[:, 8:]).any()


def test_the_imputer_before_the_detector():
    pipe = make_pipeline(
        StackedAutoencoderImputer((12,), **SMALL), StackedAutoencoderDetector((12, 6), **SMALL)
    )
    labels = pipe.fit_predict(MISSING)
    assert labels.shape == (300,) and (labels == -1).mean() < 0.2
    assert pipe.score_samples(MISSING).shape == (300,)
    np.testing.assert_array_equal(
        pipe.decision_function(MISSING), pipe.score_samples(MISSING) - pipe[-1].offset_
    )


def test_grid_search_over_the_sizes_of_a_detector():
    detector = StackedAutoencoderDetector(n_estimators=2, max_iter=10, random_state=0)
    novel = np.where(y < 5, 1, -1)
    normal = np.flatnonzero(y < 5)
    folds = [(normal[::2], np.setdiff1d(np.arange(300), normal[::2])),
             (normal[1::2], np.setdiff1d(np.arange(300), normal[1::2]))]  # fmt: skip
    grid = {"hidden_layer_sizes": [(1,), (64, 32)]}
    search = GridSearchCV(detector, grid, scoring="roc_auc", cv=folds).fit(X, novel)
    assert search.best_params_ == {"hidden_layer_sizes": (64, 32)}
    assert search.best_score_ > 0.65


def test_grid_search_over_the_sizes_of_an_imputer():
    pipe = Pipeline([("fill", StackedAutoencoderImputer(**SMALL)), ("svm", SVC())])
    grid = {"fill__hidden_layer_sizes": [4, (12, 6)], "fill__add_indicator": [False, True]}
    search = GridSearchCV(pipe, grid, cv=2).fit(MISSING, y)
    assert search.best_score_ > 0.5 and len(search.cv_results_["params"]) == 4


@pytest.mark.parametrize("cls", [StackedAutoencoderDetector, StackedAutoencoderImputer])
def test_ensembles_are_cloned_shown_and_given_weights(cls):
    estimator = cls((12, 6), **SMALL)
    assert clone(estimator).get_params() == estimator.get_params()
    assert "n_estimators=2" in repr(estimator) and "alpha" not in repr(estimator)
    assert cls.__name__ in estimator._repr_html_()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(MinMaxScaler(), estimator.set_fit_request(sample_weight=True))
        routed.fit(MISSING, sample_weight=weights)
    scaled = routed[0].transform(MISSING)
    direct = cls((12, 6), **SMALL).fit(scaled, sample_weight=weights)
    np.testing.assert_array_equal(routed[1].mean_, direct.mean_)
    assert not np.array_equal(direct.mean_, cls((12, 6), **SMALL).fit(scaled).mean_)


# ---- pipelines ----------------------------------------------------------------------------


def test_feature_union_has_codes_beside_raw():
    union = FeatureUnion([("raw", "passthrough"), ("codes", clone(ALL[0]))])
    both = union.fit_transform(X)
    np.testing.assert_array_equal(both[:, :64], X)
    np.testing.assert_array_equal(both[:, 64:], clone(ALL[0]).fit_transform(X))


def test_pipeline_with_a_cache_learns_once(tmp_path):
    steps = [("scale", MinMaxScaler()), ("sae", clone(ALL[1])), ("svm", SVC())]
    cached, plain = Pipeline(steps, memory=str(tmp_path)), Pipeline(clone(steps, safe=False))
    first = cached.fit(X, y)["sae"]
    # A clone that is fitted again comes out of the cache.
    again = clone(cached).set_params(svm__C=10.0).fit(X, y)["sae"]
    np.testing.assert_array_equal(again.transform(X), first.transform(X))
    assert len([*tmp_path.rglob("output.pkl")]) == 2  # scaler and stack, once each
    np.testing.assert_array_equal(cached.predict(X), plain.fit(X, y).predict(X))


@pytest.mark.slow
def test_grid_search_over_hidden_sizes():
    pipe = Pipeline([("sae", StackedAutoencoder(random_state=0)), ("svm", SVC())])
    sizes = [(1,), (64, 32)]
    search = GridSearchCV(pipe, {"sae__hidden_layer_sizes": sizes}, cv=3, n_jobs=2).fit(X, y)
    assert search.best_params_ == {"sae__hidden_layer_sizes": sizes[1]}
    assert search.best_score_ > 0.7


def test_halving_search_over_the_classifiers_stack():
    clf = StackedAutoencoderClassifier(pretrain=clone(ALL[1]), max_iter=3, random_state=0)
    grid = {"pretrain__corruption_level": [0.1, 0.5], "dropout": [0.0, 0.3]}
    search = HalvingGridSearchCV(clf, grid, factor=2, cv=2, random_state=0).fit(X, y)
    assert search.best_params_.keys() == grid.keys()
    assert search.n_candidates_[0] == 4 and search.n_candidates_[-1] <= 2


def test_ensembles():
    base = StackedAutoencoderClassifier((64, 32), random_state=0)
    bagging = BaggingClassifier(base, n_estimators=2, random_state=0).fit(X, y)
    voting = VotingClassifier(
        [("a", base), ("b", LogisticRegression(max_iter=500))], voting="soft"
    )
    stacking = StackingClassifier([("a", base)], LogisticRegression(max_iter=2000), cv=2)
    for ensemble in (bagging, voting.fit(X, y), stacking.fit(X, y)):
        assert ensemble.score(X, y) > 0.5
    several = MultiOutputClassifier(base).fit(X, np.column_stack([y > 4, y % 2]))
    assert several.predict(X).shape == (len(X), 2)


def test_targets_can_be_scaled():
    target = 1000.0 + 50 * X[:, 20]
    scaled = TransformedTargetRegressor(
        StackedAutoencoderRegressor((32,), random_state=0), transformer=StandardScaler()
    )
    assert scaled.fit(X, target).score(X, target) > 0.8


# ---- routing of sample_weight ---------------------------------------------------------------


@each
def test_weights_are_routed_to_fit(estimator):
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(
            MinMaxScaler(), clone(estimator).set_fit_request(sample_weight=True)
        )
        routed.fit(X, y, sample_weight=weights)
    direct = clone(estimator).fit(routed[0].transform(X), y, sample_weight=weights)
    np.testing.assert_array_equal(routed[:-1].transform(X), routed[0].transform(X))
    np.testing.assert_array_equal(
        routed[-1].transform(routed[0].transform(X)), direct.transform(routed[0].transform(X))
    )
    unweighted = clone(estimator).fit(routed[0].transform(X), y)
    assert not np.array_equal(unweighted.transform(X), direct.transform(X))


@each
def test_weights_are_routed_through_cross_validation(estimator):
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with config_context(enable_metadata_routing=True):
        both = clone(estimator).set_fit_request(sample_weight=True)
        both.set_score_request(sample_weight=True)
        found = cross_validate(both, X, y, params={"sample_weight": weights}, cv=2)
        only_fit = clone(both).set_score_request(sample_weight=False)
        other = cross_validate(only_fit, X, y, params={"sample_weight": weights}, cv=2)
    assert np.isfinite(found["test_score"]).all()
    assert not np.array_equal(found["test_score"], other["test_score"])


@pytest.mark.parametrize("estimator", ALL[:2], ids=lambda e: type(e).__name__)
def test_score_is_the_weighted_mean_of_the_rows_scores(estimator):
    fitted = clone(estimator).fit(X)
    weights = np.arange(len(X), dtype=float)
    expected = np.average(fitted.score_samples(X), weights=weights)
    assert fitted.score(X, sample_weight=weights) == pytest.approx(expected, rel=1e-12)
    assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="Negative values in sample_weight"):
        fitted.score(X, sample_weight=-weights)


# ---- inspection and display -----------------------------------------------------------------


def test_permutation_importance_finds_the_pixels_that_matter():
    target = (X[:, 20] > 0.5).astype(int)
    clf = StackedAutoencoderClassifier((64,), random_state=0).fit(X, target)
    found = permutation_importance(clf, X, target, n_repeats=3, random_state=0)
    assert found.importances_mean.argmax() == 20
    autoencoder = clone(ALL[0]).fit(X)
    found = permutation_importance(autoencoder, X, None, n_repeats=2, random_state=0)
    constant = X.std(axis=0) == 0
    assert (found.importances_mean[constant] == 0).all() and found.importances_mean.max() > 0


def test_learning_curve_display():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    display = LearningCurveDisplay.from_estimator(
        clone(ALL[2]), X, y, train_sizes=[0.5, 1.0], cv=2, score_type="both"
    )
    assert display.test_scores.shape == (2, 2)
    plt.close(display.figure_)


@each
def test_html_repr(estimator):
    html = estimator._repr_html_()
    assert type(estimator).__name__ in html and "Not fitted" in html
    assert "hidden_layer_sizes" in html or "n_components" in html
    assert "Fitted" in clone(estimator).fit(X, y)._repr_html_()


def test_html_repr_of_a_pipeline_shows_each_step():
    pipe = make_pipeline(MinMaxScaler(), clone(ALL[1]), SVC())
    html = pipe._repr_html_()
    for name in ("MinMaxScaler", "StackedAutoencoder", "SVC"):
        assert name in html


@each
def test_repr_shows_what_was_set(estimator):
    assert "max_iter=2" in repr(estimator) and "batch_size" not in repr(estimator)
