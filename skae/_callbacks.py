"""A fit as a tree of tasks, for scikit-learn's callbacks.

Before scikit-learn 1.9 there are no callbacks, and nothing here does anything.
"""

from contextlib import contextmanager


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
        ``fitted(state)`` gives the attributes that the estimator would have if its fit ended with
        this training state.
    stop : threading.Event, default=None
        Set from another thread, it stops the task as a callback does.
    """

    def __init__(self, estimator=None, context=None, data=None, fitted=None, stop=None):
        self.estimator, self.context = estimator, context
        self.data, self.fitted, self.stop = data or {}, fitted, stop

    @classmethod
    def fit_of(cls, estimator, n_subtasks, incremental=False):
        """Make the root of the tree, and set up the callbacks."""
        stop = vars(estimator).get("_stop")
        if not hasattr(estimator, "_init_callback_context"):
            return cls(estimator, stop=stop)
        name = "partial_fit" if incremental else "fit"
        context = estimator._init_callback_context(task_name=name, max_subtasks=n_subtasks)
        return cls(estimator, context, stop=stop)

    def begin(self, X, y=None, sample_weight=None, fitted=None):
        """Notify callbacks that the fit begins; `fitted` builds the estimator for them."""
        self.data, self.fitted = {"X": X, "y": y}, fitted
        if sample_weight is not None:
            self.data["metadata"] = {"sample_weight": sample_weight}
        if self.context is not None:
            self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def subtask(self, name, n_subtasks=0, *, fitted=None):
        """Begin a part of this task."""
        if self.context is None:
            return self
        context = self.context.subcontext(task_name=name, max_subtasks=n_subtasks)
        part = FitTask(self.estimator, context, self.data, fitted or self.fitted, self.stop)
        context.call_on_fit_task_begin(estimator=self.estimator, **part.data)
        return part

    def end(self, state=None):
        """Notify callbacks of the end; return whether one asks to stop on this level.

        ``state()`` gives the training state, if a callback asks for it; None: the estimator has
        been given it already.
        """
        if self.context is None:
            return self.stopped
        attributes = {} if state is None else lambda: self.fitted(state())
        asked = self.context.call_on_fit_task_end(
            estimator=self.estimator, **self.data, reconstruction_attributes=attributes
        )
        return asked or self.stopped

    @property
    def stopped(self):
        """Whether another thread has stopped this task."""
        return self.stop is not None and self.stop.is_set()

    @contextmanager
    def delegated(self, name, other):
        """Run a part of this task that is the fit of another estimator, with its callbacks."""
        if self.context is None or not hasattr(other, "set_callbacks"):
            part = self.subtask(name)
            yield
            part.end()
            return
        context = self.context.subcontext(task_name=name)
        with context.propagate_callback_context(other):
            context.call_on_fit_task_begin(estimator=self.estimator, **self.data)
            yield
            context.call_on_fit_task_end(estimator=self.estimator, **self.data)
