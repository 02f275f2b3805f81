"""Threads that do the tasks of the kernel in parts (see _team.h), and a guard for resources."""

from threading import Thread

from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.object cimport PyObject

from cpython.pythread cimport (
    WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
)


HAS_MEMBERS = bool(TEAM_HAS_MEMBERS)

cdef int MOST_ATTEMPTS = 100  # to call an `end` that raises


cdef class Guard:
    """A context manager whose `end` is called even if an interrupt comes at any moment.

    Python handles Ctrl-C between two bytecodes, so an interrupt can leave any function at any
    place, even in a ``finally`` block. Compiled code has no bytecodes. An interrupted `end` is
    called again until it succeeds, and then the interrupt is raised. If the ``with`` statement is
    left without a call of ``__exit__``, `end` is called when the guard is deleted.

    Subclasses define `begin`, which returns the value of the ``with`` statement, and `end`, which
    undoes as much as was begun and may be called more than once.
    """
    lock = None  # held during `begin` and `end`, if not None

    def __enter__(self):
        self.begun = True
        if self.lock is None:
            return self.begin_or_end()
        with self.lock:
            return self.begin_or_end()

    def __exit__(self, *exception):
        if self.lock is None:
            self.end_at_last()
        else:
            with self.lock:
                self.end_at_last()

    def __del__(self):
        cdef PyObject *kind
        cdef PyObject *value
        cdef PyObject *traceback
        if self.begun:
            PyErr_Fetch(&kind, &value, &traceback)  # the error that has left the `with` statement
            try:
                self.__exit__()
            finally:
                PyErr_Restore(kind, value, traceback)

    cdef begin_or_end(self):
        try:
            return self.begin()
        except BaseException:
            self.end_at_last()
            raise

    cdef end_at_last(self):
        cdef int _attempt
        cdef object interrupt = None
        for _attempt in range(MOST_ATTEMPTS):
            try:
                self.end()
                self.begun = False
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


cdef class Team:
    """Threads that share the parts of a task; a context manager.

    They exist from ``__enter__`` to ``__exit__``, and do not hold the interpreter lock meanwhile.

    Parameters
    ----------
    n_threads : int
        Number of threads, including the leader. It is one if the compiler had no atomic
        operations; within the context, it is the number of threads that could be started.
    begin : callable, default=None
        Function that each of the other threads calls first.
    """

    def __cinit__(self, int n_threads=1, begin=None):
        self.begin = begin
        self.n_threads = max(1, min(n_threads, TEAM_MOST)) if TEAM_HAS_MEMBERS else 1
        self.threads = []

    def __dealloc__(self):
        cdef int i
        for i in range(TEAM_MOST):
            if self.state.members[i].lock != NULL:
                PyThread_free_lock(self.state.members[i].lock)

    def __enter__(self):
        if self.n_threads > 1 and not self.threads:
            try:
                self.n_threads = self.start()
            except BaseException:  # an interrupt
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception):
        team_dissolve(&self.state, TEAM_MOST)  # also threads beyond n_threads
        for thread in self.threads:
            if thread.is_alive():
                thread.join()

    cdef int start(self) except -1:
        """Start threads, as many as possible; return their number."""
        cdef int i
        for i in range(self.n_threads):
            self.state.members[i].lock = PyThread_allocate_lock()
            if self.state.members[i].lock == NULL:
                return max(1, i)
            PyThread_acquire_lock(self.state.members[i].lock, WAIT_LOCK)
            if i > 0:
                try:
                    thread = Thread(target=self._work, args=(i,), name=f"skae-{i}", daemon=True)
                    self.threads.append(thread)
                    thread.start()
                except (RuntimeError, MemoryError):
                    return i
        return self.n_threads

    def _work(self, int member):
        if self.begin is not None:
            self.begin()
        with nogil:
            team_work(&self.state, member)

    cdef void run(self, team_function function, void *context, int n_parts) noexcept nogil:
        """Call the function with each part of n_parts, and return when all are done.

        Outside the context, the leader does all parts.
        """
        team_run(&self.state, self.n_threads, function, context, n_parts)
