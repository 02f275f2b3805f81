"""A fit as a tree of tasks, for scikit-learn's callbacks and for checkpoints.

Callbacks need scikit-learn 1.9; checkpoints also work with earlier versions.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from functools import partial

from skae._dataset import Samples

# Set by scikit-learn or by another estimator during a fit, and removed after it.
TRANSIENT = (
    "_callback_fit_ctx",
    "_other_title",
    "_parent_callback_ctx",
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
    "_stop",
)

# Functions that save the next fit in this thread. Each is called with the estimator and returns a
# function ``save(task_name, make)``, which is called at the end of each task. ``make()`` returns
# the estimator as if its fit ended there, without `TRANSIENT` attributes, or None if the fit could
# not be resumed from there.
savers: ContextVar[tuple] = ContextVar("savers", default=())


@contextmanager
def saved_by(begins):
    """Save the fits in the context by these functions, see `savers`."""
    token = savers.set(tuple(begins))
    try:
        yield
    finally:
        savers.reset(token)


class FitTask:
    """A node of the callback tree: a fit, a layer or an epoch.

    Parameters
    ----------
    estimator : estimator, default=None
        The estimator that is fitted.
    context : sklearn.callback.CallbackContext, default=None
        The task as scikit-learn sees it. None: no callbacks.
    data : dict, default=None
        X, y and metadata, as the hooks take them.
    fitted : callable, default=None
        ``fitted(state)`` returns the attributes that the estimator would have if its fit ended
        with this training state.
    stop : threading.Event, default=None
        Event by which another thread stops the task, as a callback can.
    saves : tuple of callables, default=()
        Functions ``save(name, make)`` to call at the end of each task.
    name : str, default="fit"
        The name of the task.
    """

    def __init__(
        self,
        estimator=None,
        context=None,
        data=None,
        fitted=None,
        stop=None,
        saves=(),
        name="fit",
    ):
        self.estimator, self.context = estimator, context
        self.data, self.fitted, self.stop = data or {}, fitted, stop
        self.saves, self.name = saves, name

    @classmethod
    def fit_of(cls, estimator, n_subtasks, incremental=False):
        """Make the root of the tree, and set up the callbacks."""
        name, context = "partial_fit" if incremental else "fit", None
        if hasattr(estimator, "_init_callback_context"):  # a callback may add a saver
            context = estimator._init_callback_context(task_name=name, max_subtasks=n_subtasks)
        # A call of partial_fit is not resumed: a stream has no known end.
        saves = () if incremental else tuple(begin(estimator) for begin in savers.get())
        return cls(estimator, context, stop=vars(estimator).get("_stop"), saves=saves, name=name)

    def begin(self, X, y=None, sample_weight=None, fitted=None):
        """Notify callbacks that the fit begins; `fitted` builds the estimator for them.

        A fit that is resumed from a checkpoint refuses a different number of samples.
        """
        self.n_samples = X.shape[0]
        given = vars(self.estimator).pop("_to_resume", None) or {}
        if given.get("n_samples", self.n_samples) != self.n_samples:
            raise ValueError(
                f"The fit to resume had {given['n_samples']} samples to train on, "
                f"but there are {self.n_samples} now. Give the same data."
            )
        X = X.given if isinstance(X, Samples) else X
        self.data, self.fitted = {"X": X, "y": y}, fitted
        if sample_weight is not None:
            self.data["metadata"] = {"sample_weight": sample_weight}
        if self.context is not None:
            self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def subtask(self, name, n_subtasks=0, *, fitted=None):
        """Begin a subtask and return it."""
        if self.context is None and not self.saves:
            return self
        context = None
        if self.context is not None:
            context = self.context.subcontext(task_name=name, max_subtasks=n_subtasks)
        fitted = fitted or self.fitted
        part = FitTask(self.estimator, context, self.data, fitted, self.stop, self.saves, name)
        part.n_samples = self.n_samples
        if context is not None:
            context.call_on_fit_task_begin(estimator=self.estimator, **part.data)
        return part

    def end(self, state=None, *, is_last=False):
        """Notify callbacks that the task ends; return whether one asks to stop at this level.

        ``state()`` returns the training state, if a callback asks for it; None means that the
        estimator already has it. `is_last` tells that this is the last epoch: the fit cannot be
        resumed from here, because only the work after the epochs is missing.
        """
        attributes = lambda: {} if state is None else self.fitted(state())
        for save in self.saves:
            save(self.name, lambda: None if is_last else self._saved(attributes(), self.name))
        if self.context is None:
            return self.stopped
        asked = self.context.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=attributes
        )
        return asked or self.stopped

    def _saved(self, attributes, name="part"):
        """Return the estimator with these attributes, to be saved at the end of a task.

        None if all epochs are done, but the fit has not ended.
        """
        other = copy(self.estimator)
        vars(other).update(attributes)
        for transient in TRANSIENT:
            vars(other).pop(transient, None)
        if other._lacks_epochs:
            other._to_resume = {"n_samples": self.n_samples}
        return other if other._lacks_epochs or name == "fit" else None

    @property
    def stopped(self):
        """Whether another thread has stopped this task."""
        return self.stop is not None and self.stop.is_set()

    @contextmanager
    def delegated(self, name, other, fitted=None):
        """Run the fit of another estimator as a subtask, with its callbacks.

        ``fitted(part)`` returns the attributes that this estimator would have if the fit of the
        other one ended as `part`. None: nothing is saved meanwhile.
        """
        begins = [partial(self._begin_part, fitted, save) for save in self.saves if fitted]
        with saved_by(begins):
            if self.context is None:
                yield
                return
            context = self.context.subcontext(task_name=name)
            if not hasattr(other, "set_callbacks"):
                context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
                yield
                context.call_on_fit_task_end(
                    estimator=self.estimator, **self.data, reconstruction_attributes={}
                )
                return
            with context.propagate_callback_context(other):
                context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
                yield
                context.call_on_fit_task_end(estimator=self.estimator, **self.data)

    def _begin_part(self, fitted, save, other):
        """Return a function that saves this fit during the fit of another estimator in it."""

        def save_part(name, make):
            def whole():
                part = make()
                return None if part is None else self._saved(fitted(part))

            save("part" if name == "fit" else name, whole)

        return save_part
