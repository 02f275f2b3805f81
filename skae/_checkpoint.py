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

# Types that a file may hold beside those that skops trusts.
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

    A file holds all that the fit needs to go on to the same bits, in whichever part of it: a
    layer of a stack, joint training, pretraining, fine-tuning, a network of a detector or imputer.
    `resume` loads it and goes on. Each file replaces the last one atomically: whenever the process
    ends, there is a whole file, and at most `every` epochs are lost.

    A checkpoint is a context manager: it saves the first fit of an estimator of skae within, in
    the same thread, also where that is a step of a pipeline. From scikit-learn 1.9 on it is a
    callback as well: ``estimator.set_callbacks(Checkpoint(path))``. It saves the whole estimator
    that is fitted, e.g. a classifier that pretrains a stack, and changes nothing of its fit.

    Parameters
    ----------
    path : str or path-like
        The file. Its folder must exist.
    every : int in [1, inf), default=1
        Number of epochs, counted over all parts of a fit, from one file to the next.

    Raises
    ------
    ImportError
        If skops is not installed.
    ValueError
        If a parameter is not as described. In ``fit``, if skops cannot save a parameter of the
        estimator, e.g. a function without a name; and if a checkpoint is given another estimator
        than before: each fit needs a file of its own. So it is not for all the fits of a grid
        search, nor for two steps of a pipeline; set it as a callback of one step.
    OSError
        If the file cannot be written. The last one is still there. A folder that does not exist
        or cannot be written to is refused before the fit begins.

    See Also
    --------
    resume : Go on with a fit that was saved.

    Notes
    -----
    At the end of ``fit``, the fitted estimator is saved. The last epoch is not saved by itself:
    what follows it, e.g. the threshold of a detector or a `final_estimator`, is repeated with it.

    A file is one of `skops.io`, which can be loaded without running code from it; see `resume`. It
    holds no callbacks. `skops.io.load` gives the estimator, and its next ``fit`` goes on with the
    fit that was saved, whatever `warm_start` is. The weights are those that the fit would have
    returned if it had ended there; a detector or imputer is not ready to use before its fit has
    ended.

    ``partial_fit`` is not saved: save the estimator after a call of it. The networks of a detector
    or imputer are trained one after the other.

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

    _estimator: ref[Any] | None = None  # the one that is saved
    _n_epochs = 0  # that are not saved yet
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
        # Absolute, for the working directory may change; the file itself, not a link to it.
        self.path, self.every = os.path.realpath(path), int(every)
        check_folder(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, every={self.every})"

    def __getstate__(self):
        return {"path": self.path, "every": self.every}

    def __setstate__(self, state):
        vars(self).update(state, _is_copy=True)

    # -- a context manager, and a callback that enters and leaves itself --------------------

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
        """Begin to save, as a callback of scikit-learn.

        Parameters
        ----------
        estimator : estimator
            The estimator that has this callback.
        context : sklearn.callback.CallbackContext
            Not used.
        """
        self.__enter__()

    def teardown(self, estimator: Any, context: Any) -> None:
        """End it.

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
        """Do nothing: what scikit-learn shows of a part is not the whole estimator.

        Parameters
        ----------
        estimator : estimator
            Not used.
        context : sklearn.callback.CallbackContext
            Not used.
        """

    # -- saving -----------------------------------------------------------------------------

    def _begin(self, estimator):
        """Save the fit of this estimator from now on."""
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
    """Refuse a file that cannot be written, before any work."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"The folder of the checkpoint does not exist: {folder}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"The checkpoint is to be a file, but this is a folder: {path}")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder of the checkpoint cannot be written to: {folder}")


def check_params(estimator):
    """Refuse parameters that skops cannot save and load, before any work."""
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
    """Replace a file by that of an estimator, or leave it as it is."""
    folder, name = os.path.split(path)
    # Always the same name, so that what a killed process has left is found.
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
        with suppress(OSError):  # some file systems cannot
            descriptor = os.open(folder, os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def load(path, trusted):
    """Load an estimator, if its file holds trusted types only."""
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
    """Load a fit that a `Checkpoint` has saved, and go on with it.

    With the same data, the result is that of a fit without interruption, to the last bit. It takes
    the same versions of the packages, and the same number of threads, too. While it goes on, the
    fit is saved to the same file, after as many epochs as before. A file of a fit that has ended
    gives the fitted estimator, without any work.

    Parameters
    ----------
    path : str or path-like
        The file.
    X : {array-like, sparse matrix, Dask collection} of shape (n_samples, n_features)
        The samples that were given to ``fit``, all of them. Other numbers of samples or features
        are refused; other values are not noticed.
    y : array-like, default=None
        The y that was given to ``fit``.
    sample_weight : array-like of shape (n_samples,), default=None
        The weights that were given to ``fit``.
    trusted : list of str or type, default=None
        Types that the file may hold beside NumPy's, scikit-learn's and skae's own, e.g. that of a
        `final_estimator`; as `skops.io.load` takes them.
    **dask_options
        For a Dask collection, what `skae.dask.fit` was given: its `client`, `replicas` and
        `averages`.

    Returns
    -------
    estimator : estimator
        The fitted estimator, with the parameters that it was given.

    Raises
    ------
    ImportError
        If skops is not installed.
    TypeError
        If there are `dask_options`, and X is no Dask collection.
    ValueError
        If the file holds types that are not trusted, or is no checkpoint, or as ``fit``.
    OSError
        If the file cannot be read, or written.

    See Also
    --------
    Checkpoint : Save a fit after each epoch.

    Notes
    -----
    Loading a file from elsewhere runs no code from it, as far as skops can tell: types that are
    not trusted are named in the error, and not loaded. Read the source of a type before you trust
    it. A type that is trusted may still be given any content: other weights, or arrays that fill
    the memory.

    Examples
    --------
    A program that can be started again until it has ended:

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
