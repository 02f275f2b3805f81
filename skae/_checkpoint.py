"""Checkpoints: a fit saved after each epoch, and resumed."""

import os
import sys
import warnings
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any, Self
from weakref import ref
from zipfile import BadZipFile

from sklearn.utils.validation import check_is_fitted

from skae._base import BaseModel, is_collection
from skae._callbacks import savers
from skae._compat import Interval, validate_parameter_constraints
from skae._typing import ArrayLike, MatrixLike

# Types that a file may hold in addition to those that skops trusts.
TRUSTED = [
    "skae._classifier.StackedAutoencoderClassifier",
    "skae._denoising.DenoisingAutoencoder",
    "skae._detector.StackedAutoencoderDetector",
    "skae._imputer.StackedAutoencoderImputer",
    "skae._regressor.StackedAutoencoderRegressor",
    "skae._stacked.StackedAutoencoder",
]


def skops_io():
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "Checkpoints need skops. Install it with pip install 'skae[checkpoint]'."
        ) from error
    return skops.io


class Checkpoint:
    """Save a fit after each epoch, so that it can be resumed.

    A resumed fit gives exactly the same result as an uninterrupted one. This holds for each part
    of a fit: a layer of a stack, joint training, pretraining, fine-tuning, a network of a detector
    or imputer. `resume` loads the file and continues the fit. Each file replaces the previous one
    atomically: whenever the process ends, a complete file exists, and at most `every` epochs are
    lost.

    A checkpoint is a context manager: it saves the first fit of an estimator of skae in its
    context, in the same thread, even if the estimator is a step of a pipeline. With scikit-learn
    1.9 or later it is a callback as well: ``estimator.set_callbacks(Checkpoint(path))``. It saves
    the whole estimator, e.g. a classifier that pretrains a stack, and does not change the fit.

    Parameters
    ----------
    path : str or path-like
        Path of the file. Its folder must exist.
    every : int in [1, inf), default=1
        Number of epochs between two files, counted over all parts of a fit.

    Raises
    ------
    ImportError
        If skops is not installed.
    ValueError
        If a parameter is invalid. In ``fit``, if skops cannot save a parameter of the estimator,
        e.g. a lambda function, or if the checkpoint was used for another estimator before: each
        fit needs its own file. Therefore a checkpoint cannot be used for all fits of a grid
        search, nor for two steps of a pipeline; set it as a callback of one step.
    OSError
        If the file cannot be written. The previous file is kept. A folder that does not exist or
        is not writable raises the error before the fit begins.

    See Also
    --------
    resume : Resume a saved fit.

    Notes
    -----
    At the end of ``fit``, the fitted estimator is saved. The last epoch is not saved separately:
    the computations after it, e.g. of the threshold of a detector or of a `final_estimator`, are
    repeated together with it.

    Files have the format of `skops.io`, which can be loaded without running code from them; see
    `resume`. Callbacks are not saved. `skops.io.load` returns the estimator, and its next ``fit``
    resumes the saved fit, whatever `warm_start` is. The weights are those that the fit would have
    returned if it had ended there. A detector or imputer cannot be used before its fit has ended.

    ``partial_fit`` is not saved: save the estimator after the call. With a checkpoint, the
    networks of a detector or imputer are trained one after the other.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from skae import Checkpoint, DenoisingAutoencoder, resume
    >>> X = load_digits().data / 16
    >>> dae = DenoisingAutoencoder(16, max_iter=3, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "fit.skops"
    ...     with Checkpoint(path, every=2):
    ...         dae = dae.fit(X)
    ...     saved = resume(path, X)
    >>> saved.loss_curve_ == dae.loss_curve_
    True
    """

    _estimator: ref[Any] | None = None  # whose fit is saved
    _n_epochs = 0  # number of epochs since the last file
    _is_copy = False

    def __init__(self, path: str | os.PathLike[str], *, every: int = 1) -> None:
        validate_parameter_constraints(
            {
                "path": [str, os.PathLike],
                "every": [Interval(Integral, 1, None, closed="left")],
            },
            {"path": path, "every": every},
            caller_name=type(self).__name__,
        )
        skops_io()
        # Absolute, as the working directory may change; resolved, so that a link is not replaced.
        self.path, self.every = os.path.realpath(path), int(every)
        check_folder(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, every={self.every})"

    def __getstate__(self):
        return {"path": self.path, "every": self.every}

    def __setstate__(self, state):
        vars(self).update(state, _is_copy=True)

    # -- context manager and callback -------------------------------------------------------

    def __enter__(self) -> Self:
        savers.set((*self._others(), self._begin))
        return self

    def __exit__(self, *exc_info: Any) -> None:
        savers.set(self._others())
        if self._estimator is None and sys.exc_info()[0] is None:
            warnings.warn(
                f"{self!r} has saved nothing: no estimator of skae was fitted in this thread, or "
                "by partial_fit only.",
                stacklevel=2,
            )

    def _others(self):
        return tuple(begin for begin in savers.get() if begin != self._begin)

    def setup(self, estimator: Any, context: Any) -> None:
        """Start saving, as a callback of scikit-learn.

        Parameters
        ----------
        estimator : estimator
            The estimator that has this callback.
        context : sklearn.callback.CallbackContext
            Not used.
        """
        self.__enter__()

    def teardown(self, estimator: Any, context: Any) -> None:
        """Stop saving.

        Parameters
        ----------
        estimator : estimator
            The estimator that has this callback.
        context : sklearn.callback.CallbackContext
            Not used.
        """
        self.__exit__()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing.

        Parameters
        ----------
        estimator : estimator
            Not used.
        context : sklearn.callback.CallbackContext
            Not used.
        """

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing: scikit-learn does not pass the whole estimator here.

        Parameters
        ----------
        estimator : estimator
            Not used.
        context : sklearn.callback.CallbackContext
            Not used.
        """

    # -- saving -----------------------------------------------------------------------------

    def _begin(self, estimator):
        """Prepare to save the fit of this estimator; return the function that saves it."""
        if self._is_copy or (self._estimator is not None and self._estimator() is not estimator):
            raise ValueError(
                f"Each fit needs a file of its own, but {self!r} was "
                f"{'copied' if self._is_copy else 'given another estimator before'}, e.g. by a "
                "search or a cross-validation. Give this estimator a new Checkpoint, or none."
            )
        check_folder(self.path)
        check_params(estimator)
        self._estimator, self._n_epochs = ref(estimator), 0
        return self._save

    def _save(self, task_name, make):
        self._n_epochs += task_name == "epoch"
        if self._n_epochs < self.every and task_name != "fit":
            return
        estimator = make()
        if estimator is None:
            return
        if estimator._lacks_epochs:
            estimator._to_resume["every"] = self.every
        write(estimator, self.path)
        self._n_epochs = 0


def check_folder(path):
    """Raise an error early if the file cannot be written."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder of the checkpoint does not exist: {folder}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"The checkpoint must be a file, but this is a folder: {path}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder of the checkpoint cannot be written to: {folder}")


def check_params(estimator):
    """Raise an error early if skops cannot save and load the parameters."""
    io = skops_io()
    try:
        saved = io.dumps(estimator.get_params(deep=False))
        io.loads(saved, trusted=io.get_untrusted_types(data=saved))
    except Exception as error:
        raise ValueError(
            f"A checkpoint of {type(estimator).__name__} cannot be saved: skops does not know how "
            f"to save and load one of its parameters ({error})."
        ) from error


def write(estimator, path):
    """Save the estimator to a file, atomically."""
    folder, name = os.path.split(path)
    # Always the same name, so that the file left by a killed process is removed.
    temporary = os.path.join(folder, f".{name}.tmp")
    try:
        with suppress(FileNotFoundError):
            os.remove(temporary)
        try:
            with open(temporary, "xb") as file:
                skops_io().dump(estimator, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.remove(temporary)
            raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"The checkpoint cannot be written ({error.strerror}); an earlier one is as it was",
            path,
        ) from error
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        with suppress(OSError):  # not supported by all file systems
            descriptor = os.open(folder, os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def load(path, trusted):
    """Load an estimator from a file with trusted types only."""
    io = skops_io()
    also = [
        item if isinstance(item, str) else f"{item.__module__}.{item.__qualname__}"
        for item in trusted or []
    ]
    try:
        unknown = set(io.get_untrusted_types(file=path)) - {*TRUSTED, *also}
        if unknown:
            raise ValueError(
                f"{path} holds types that are not trusted: {', '.join(sorted(unknown))}. If you "
                f"know that they are safe to load, pass trusted={sorted(unknown)}."
            )
        estimator = io.load(path, trusted=[*TRUSTED, *also])
    except BadZipFile as error:
        raise ValueError(f"{path} is not a checkpoint: it is no file of skops.") from error
    if not isinstance(estimator, BaseModel):
        raise ValueError(f"{path} is not a checkpoint: it holds a {type(estimator).__name__}.")
    return estimator


def resume(
    path: str | os.PathLike[str],
    X: MatrixLike,
    y: Any = None,
    sample_weight: ArrayLike | None = None,
    *,
    trusted: list[Any] | None = None,
    **dask_options: Any,
) -> Any:
    """Resume a fit that a `Checkpoint` has saved.

    With the same data, package versions and number of threads, the result is exactly that of an
    uninterrupted fit. The resumed fit is saved to the same file, after the same number of epochs.
    If the saved fit had ended, the fitted estimator is returned directly.

    Parameters
    ----------
    path : str or path-like
        Path of the file.
    X : {array-like, sparse matrix, Dask collection} of shape (n_samples, n_features)
        All samples that were given to ``fit``. A different number of samples or features raises
        an error; different values are not detected.
    y : array-like, default=None
        The y that was given to ``fit``.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights that were given to ``fit``.
    trusted : list of str or type, default=None
        Types that the file may hold in addition to those of NumPy, scikit-learn and skae, e.g.
        that of a `final_estimator`, as in `skops.io.load`.
    **dask_options
        For a Dask collection, the options that were given to `skae.dask.fit`: `client`,
        `replicas` and `averages`.

    Returns
    -------
    estimator : estimator
        The fitted estimator, with its saved parameters.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If `dask_options` are given, but X is not a Dask collection.
    ValueError
        If the file is not a checkpoint, or holds types that are not trusted; also as in ``fit``.
    OSError
        If the file cannot be read or written.

    See Also
    --------
    Checkpoint : Save a fit after each epoch.

    Notes
    -----
    Loading a file from an unknown source runs no code from it, as far as skops can tell: types
    that are not trusted are named in the error, and not loaded. Read the source code of a type
    before you trust it. Objects of a trusted type may still have any content, e.g. different
    weights, or arrays that fill the memory.

    Examples
    --------
    A script that can be restarted until the fit has ended:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from skae import Checkpoint, DenoisingAutoencoder, resume
    >>> X = load_digits().data / 16
    >>> def fit(path):
    ...     if path.exists():
    ...         return resume(path, X)
    ...     with Checkpoint(path):
    ...         return DenoisingAutoencoder(
    ...             16, max_iter=3, random_state=0
    ...         ).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted = fit(Path(folder) / "fit.skops")
    ...     again = fit(Path(folder) / "fit.skops")
    >>> again.loss_curve_ == fitted.loss_curve_
    True
    """
    validate_parameter_constraints(
        {"path": [str, os.PathLike], "trusted": [None, list, tuple, set]},
        {"path": path, "trusted": trusted},
        caller_name="resume",
    )
    if dask_options and not is_collection(X):
        raise TypeError(
            f"resume got {', '.join(dask_options)}, which are for a Dask collection, but X is "
            f"{type(X).__name__}."
        )
    path = os.fspath(path)
    estimator = load(Path(path), trusted)
    check_is_fitted(estimator)
    if not estimator._lacks_epochs:
        return estimator
    if estimator._to_resume is None:  # saved by other means, after Ctrl-C
        estimator._to_resume = {}
    with Checkpoint(path, every=estimator._to_resume.get("every", 1)):
        if is_collection(X):
            from skae.dask import fit

            return fit(estimator, X, y, sample_weight, **dask_options)
        return estimator.fit(X, y, sample_weight=sample_weight)
