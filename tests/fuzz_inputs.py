"""Data, labels and weights for `fuzz.py`: each a kind of content, a container, and a seed.

After the last of the usual kinds, a table lists those that are wrong, or may be.
"""

import importlib
import io
import pickle
import warnings

import numpy as np
import scipy.sparse as sp

nan, inf = np.nan, np.inf


# -- data: values, and the container that they come in ----------------------------------


def samples(values, container, n, d, seed=0):
    """X of n samples and d features."""
    rng = np.random.default_rng(seed)
    return CONTAINERS[container](VALUES[values](rng, n, d))


def with_one(value):
    """Values in [0, 1) but for one, and its neighbours in a few more places."""

    def make(rng, n, d):
        X = rng.random((n, d))
        X.flat[: 1 if X.size else 0] = value
        return X

    return make


VALUES = {
    "uniform": lambda rng, n, d: rng.random((n, d)),
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "bits": lambda rng, n, d: (rng.random((n, d)) > 0.6) * 1.0,
    "few": lambda rng, n, d: rng.random((n, d)) * (rng.random((n, d)) > 0.6),
    "counts": lambda rng, n, d: rng.integers(0, 100, size=(n, d)) * 1.0,
    "zeros": lambda rng, n, d: np.zeros((n, d)),
    "constant": lambda rng, n, d: np.full((n, d), 0.5),
    "constant_columns": lambda rng, n, d: rng.random((n, d)) * (np.arange(d) % 2) + 0.25,
    "one_row": lambda rng, n, d: np.repeat(rng.random((1, d)), n, axis=0),
    "denormal": lambda rng, n, d: rng.random((n, d)) * 1e-310,
    "tiny": lambda rng, n, d: rng.random((n, d)) * 1e-30,
    "1e15": lambda rng, n, d: rng.normal(size=(n, d)) * 1e15,
    "1e38": lambda rng, n, d: rng.normal(size=(n, d)) * 1e38,
    "1e300": lambda rng, n, d: rng.normal(size=(n, d)) * 1e300,
    "one_1e30": with_one(1e30),
    "one_denormal": with_one(-5e-324),
    "nan": with_one(nan),
    "inf": with_one(-inf),
}
USUAL_VALUES = list(VALUES)[:9]


def table(module, X, **options):
    """A table of pandas or polars; ImportError if that is missing."""
    return importlib.import_module(module).DataFrame(X, **options)


def names(X):
    return [f"f{k}" for k in range(X.shape[1])]


def strided(X):
    wide = np.zeros((2 * X.shape[0], 3 * X.shape[1]))
    wide[::2, ::3] = X
    return wide[::2, ::3]


def unaligned(X):
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    view = buffer[1:].view(X.dtype).reshape(X.shape)
    view[:] = X
    return view


def read_only(X):
    for array in (X.data, X.indices, X.indptr) if sp.issparse(X) else (X,):
        array.flags.writeable = False
    return X


def with_indices(X, dtype):
    for name in {"coo": ("row", "col")}.get(X.format, ("indices", "indptr")):
        setattr(X, name, getattr(X, name).astype(dtype))
    return X


def unsorted(X):
    """Rows of a CSR matrix with each entry in two halves, the columns backwards."""
    X = sp.csr_matrix(X)
    halves = (np.repeat(part, 2) for part in (X.data / 2, X.indices))
    data, indices = (part.copy() for part in halves)
    for start, end in zip(2 * X.indptr[:-1], 2 * X.indptr[1:]):
        data[start:end], indices[start:end] = data[start:end][::-1], indices[start:end][::-1]
    return sp.csr_matrix((data, indices, 2 * X.indptr), shape=X.shape)


def explicit_zeros(X):
    X = sp.csr_matrix(X)
    X.data[::2] = 0
    return X


def outside(X):
    """A CSR matrix whose last column index is not below the number of columns."""
    X = sp.csr_matrix(X + 1.0)
    X.indices[-1:] = X.shape[1] + 3
    return X


def whole(X, dtype):
    """Whole numbers, such as fit into the type."""
    limits = np.iinfo(dtype)
    return np.clip(np.nan_to_num(X), limits.min // 2, limits.max // 2).astype(dtype)


def with_object(value):
    def make(X):
        X = X.astype(object)
        X.flat[: 1 if X.size else 0] = value
        return X

    return make


CONTAINERS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "fortran": lambda X: np.asfortranarray(X),
    "fortran32": lambda X: np.asfortranarray(X.astype(np.float32)),
    "strided": strided,
    "backwards": lambda X: X[::-1, ::-1],
    "unaligned": unaligned,
    "read_only": read_only,
    "memmap": lambda X: read_only(X.view(np.memmap)),
    "big_endian": lambda X: X.astype(">f8"),
    "float16": lambda X: X.astype(np.float16),
    "longdouble": lambda X: X.astype(np.longdouble),
    "int8": lambda X: whole(X, np.int8),
    "uint8": lambda X: whole(X, np.uint8),
    "int64": lambda X: whole(X, np.int64),
    "uint64": lambda X: whole(X, np.uint64),
    "bool": lambda X: X > 0.5,
    "object": lambda X: X.astype(object),
    "list": lambda X: X.tolist(),
    "masked": lambda X: np.ma.masked_array(X, X > 0.9),
    "csr": sp.csr_matrix,
    "csr32": lambda X: sp.csr_matrix(X.astype(np.float32)),
    "csr_array": sp.csr_array,
    "csr_int64_indices": lambda X: with_indices(sp.csr_matrix(X), np.int64),
    "csr_read_only": lambda X: read_only(sp.csr_matrix(X)),
    "csr_unsorted": unsorted,
    "csr_zeros": explicit_zeros,
    "csr_uint8": lambda X: sp.csr_matrix(whole(X, np.uint8)),
    "csr_bool": lambda X: sp.csr_matrix(X > 0.5),
    "csc": sp.csc_matrix,
    "csc_int64_indices": lambda X: with_indices(sp.csc_matrix(X), np.int64),
    "coo": sp.coo_matrix,
    "coo_array": sp.coo_array,
    "lil": sp.lil_matrix,
    "dok": sp.dok_matrix,
    "bsr": sp.bsr_matrix,
    "pandas": lambda X: table("pandas", X),
    "pandas_names": lambda X: table("pandas", X, columns=names(X)),
    "pandas_float32": lambda X: table("pandas", X, columns=names(X)).astype("float32"),
    "pandas_nullable": lambda X: table("pandas", X, columns=names(X)).astype("Float64"),
    "pandas_mixed": lambda X: table(
        "pandas", X, columns=[*range(X.shape[1] - 1), "x"][: X.shape[1]]
    ),
    "polars": lambda X: table("polars", X, schema=names(X), orient="row"),
    # the following are wrong, or may be
    "csr_outside": outside,
    "one_dimension": np.ravel,
    "three_dimensions": lambda X: X[:, :, None],
    "strings": lambda X: X.astype(str),
    "complex": lambda X: X + 1j,
    "matrix": np.asmatrix,
    "object_none": with_object(None),
    "object_string": with_object("x"),
    "object_list": with_object([[1]]),
    "dates": lambda X: np.zeros(X.shape, "M8[s]"),
    "structured": lambda X: np.zeros(len(X), [("a", float)]),
    "ragged": lambda X: [[1.0], [1.0, 2.0]],
    "no_array": lambda X: 5,
    "none": lambda X: None,
    "generator": lambda X: iter(X),
    "pandas_null": lambda X: table("pandas", with_object(None)(X)).convert_dtypes(),
    "pandas_category": lambda X: table("pandas", X.astype(str)).astype("category"),
    "polars_null": lambda X: table("polars", with_object(None)(X).tolist(), orient="row"),
    "polars_strings": lambda X: table("polars", X.astype(str), orient="row"),
}
CRASHES = set()  # containers to be left out until that is mended; to be empty
USUAL_CONTAINERS = list(CONTAINERS)[: list(CONTAINERS).index("csr_outside")]


# -- y and sample_weight ---------------------------------------------------------------------


def labels(kind, n, seed=0):
    """Labels, or targets, of n samples."""
    rng = np.random.default_rng(seed)
    return LABELS[kind](rng, rng.integers(0, 3, size=n))


def indicator(rng, n, columns=3):
    return (rng.random((n, columns)) > 0.5).astype(int)


def first_as(y, value, dtype=None):
    y = y.astype(dtype or y.dtype)
    y[:1] = value
    return y


def letters(codes, dtype=object):
    return np.array(["a", "b", "c"], dtype=dtype)[codes]


def series(module, values, **options):
    """A column of pandas or polars; ImportError if that is missing."""
    module = importlib.import_module(module)
    return module.Series(
        **{"data" if module.__name__ == "pandas" else "values": values}, **options
    )


LABELS = {
    "ints": lambda rng, c: c,
    "two": lambda rng, c: c % 2,
    "strings": lambda rng, c: letters(c, str),
    "objects": lambda rng, c: letters(c),
    "bool": lambda rng, c: c > 0,
    "signs": lambda rng, c: np.where(c > 0, 1, -1),
    "unlabelled": lambda rng, c: np.where(rng.random(len(c)) < 0.5, -1, c),
    "object_unlabelled": lambda rng, c: first_as(letters(c), -1),
    "indicator": lambda rng, c: indicator(rng, len(c)),
    "indicator_unlabelled": lambda rng, c: first_as(indicator(rng, len(c)), -1),
    "csr_indicator": lambda rng, c: sp.csr_matrix(indicator(rng, len(c))),
    "csr_array_indicator": lambda rng, c: sp.csr_array(indicator(rng, len(c))),
    "csc_indicator": lambda rng, c: sp.csc_matrix(indicator(rng, len(c))),
    "one_label": lambda rng, c: indicator(rng, len(c), 1),
    "whole_floats": lambda rng, c: c * 1.0,
    "none": lambda rng, c: first_as(letters(c), None),
    "nan": lambda rng, c: first_as(c, nan, float),
    "object_nan": lambda rng, c: first_as(letters(c), nan),
    "pandas": lambda rng, c: series("pandas", c, name="y"),
    "pandas_na": lambda rng, c: series("pandas", first_as(c, None, object), dtype="Int64"),
    "pandas_category": lambda rng, c: series("pandas", letters(c), dtype="category"),
    "pandas_string": lambda rng, c: series("pandas", letters(c), dtype="string"),
    "polars": lambda rng, c: series("polars", c, name="y"),
    "polars_null": lambda rng, c: series("polars", first_as(c, None, object).tolist(), name="y"),
    "list": lambda rng, c: c.tolist(),
    # of a regressor
    "floats": lambda rng, c: rng.normal(size=len(c)),
    "float32": lambda rng, c: rng.normal(size=len(c)).astype(np.float32),
    "outputs": lambda rng, c: rng.normal(size=(len(c), 2)),
    "floats_unlabelled": lambda rng, c: first_as(rng.normal(size=len(c)), nan),
    "outputs_unlabelled": lambda rng, c: first_as(rng.normal(size=(len(c), 2)), nan),
    "column": lambda rng, c: rng.normal(size=(len(c), 1)),
    "1e20": lambda rng, c: rng.normal(size=len(c)) * 1e20,
    # wrong, or may be
    "1e300": lambda rng, c: rng.normal(size=len(c)) * 1e300,
    "denormal": lambda rng, c: rng.normal(size=len(c)) * 1e-310,
    "inf": lambda rng, c: first_as(c, inf, float),
    "minus_one_string": lambda rng, c: first_as(letters(c), "-1"),
    "empty_string": lambda rng, c: first_as(letters(c), ""),
    "mixed_objects": lambda rng, c: first_as(letters(c), 5),
    "all_unlabelled": lambda rng, c: np.full(len(c), -1),
    "all_nan": lambda rng, c: np.full(len(c), nan),
    "all_none": lambda rng, c: np.full(len(c), None),
    "one_class": lambda rng, c: np.zeros(len(c), int),
    "rare": lambda rng, c: first_as(np.zeros(len(c), int), 1),
    "each_its_own": lambda rng, c: np.arange(len(c)),
    "bytes": lambda rng, c: letters(c, "S1"),
    "complex": lambda rng, c: c + 1j,
    "dates": lambda rng, c: c.astype("M8[D]"),
    "lists": lambda rng, c: [[k] * k for k in c],
    "three_dimensions": lambda rng, c: np.zeros((len(c), 2, 2)),
    "no_columns": lambda rng, c: np.zeros((len(c), 0)),
    "multioutput": lambda rng, c: np.stack([c, c], axis=1),
    "short": lambda rng, c: c[1:],
    "scalar": lambda rng, c: 1,
    "sparse_column": lambda rng, c: sp.csr_matrix(c[:, None]),
    "polars_strings_null": lambda rng, c: series("polars", [None, *letters(c)[1:]], name="y"),
}
OF_CLASSIFIER = [*list(LABELS)[: list(LABELS).index("floats")], "unlabelled", "ints", "two"]
OF_REGRESSOR = [
    *list(LABELS)[list(LABELS).index("floats") : list(LABELS).index("1e300")],
    "ints", "bool", "nan", "pandas", "pandas_na", "polars", "polars_null", "list", "floats",
]  # fmt: skip


def weights(kind, n, seed=0):
    """Weights of n samples."""
    return WEIGHTS[kind](np.random.default_rng(seed).random(n))


WEIGHTS = {
    "uniform": lambda w: w,
    "ints": lambda w: (w * 4).astype(int),
    "float32": lambda w: w.astype(np.float32),
    "some_zeros": lambda w: w * (w > 0.5),
    "read_only": read_only,
    "strided": lambda w: np.repeat(w, 2)[::2],
    "list": lambda w: w.tolist(),
    "bool": lambda w: w > 0.3,
    "pandas": lambda w: series("pandas", w),
    "tiny": lambda w: np.full(len(w), 5e-324),
    "1e300": lambda w: w * 1e300,
    # wrong, or may be
    "zeros": lambda w: w * 0,
    "negative": lambda w: first_as(w, -1),
    "nan": lambda w: first_as(w, nan),
    "inf": lambda w: first_as(w, inf),
    "1e308": lambda w: np.full(len(w) + 0, 1e308),
    "short": lambda w: w[1:],
    "column": lambda w: w[:, None],
    "strings": lambda w: w.astype(str),
    "words": lambda w: np.full(len(w), "a"),
    "objects": lambda w: first_as(w.astype(object), None),
    "complex": lambda w: w + 1j,
    "scalar": lambda w: 2.0,
}
USUAL_WEIGHTS = list(WEIGHTS)[:11]

# -- whether they were changed --------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Leaves out the state of a RandomState: a fit may draw from it."""

    dispatch_table = {np.random.RandomState: lambda state: (str, ())}


def fingerprint(value):
    """Bytes that change with anything in an object."""
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()).encode() if value.dtype == object else value.tobytes()
        return (
            repr((value.shape, value.strides, value.dtype, value.flags.writeable)).encode()
            + content
        )
    if sp.issparse(value):
        parts = [v for v in vars(value).values() if isinstance(v, np.ndarray)]
        return b"".join([value.format.encode(), *map(fingerprint, parts)])
    if hasattr(value, "to_numpy"):  # a table or a column of one
        return fingerprint(value.to_numpy())
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _Pickler(file).dump(value)
    except TypeError:  # a generator
        return b""
    return file.getvalue()
