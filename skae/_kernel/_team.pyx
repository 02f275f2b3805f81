"""Threads for the kernel: each task is done in parts, see _team.h."""

from threading import Thread

from cpython.pythread cimport (
    WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
)


HAS_MEMBERS = bool(TEAM_HAS_MEMBERS)


cdef class Team:
    """Threads that share out the parts of a task; a context manager.

    They live from ``__enter__`` to ``__exit__``, and do not hold the interpreter lock in between.

    Parameters
    ----------
    n_threads : int
        The leader included. One where the compiler had no atomic operations.
    begin : callable, default=None
        Called first by each of the others.
    """

    def __cinit__(self, int n_threads=1, begin=None):
        self.begin = begin
        self.n_threads = max(1, min(n_threads, TEAM_MOST)) if TEAM_HAS_MEMBERS else 1
        self.threads = []

    def __dealloc__(self):
        cdef int i
        for i in range(self.n_threads):
            if self.state.members[i].lock != NULL:
                PyThread_free_lock(self.state.members[i].lock)

    def __enter__(self):
        cdef int i
        if self.n_threads > 1 and not self.threads:
            for i in range(self.n_threads):
                self.state.members[i].lock = PyThread_allocate_lock()
                if self.state.members[i].lock == NULL:
                    raise MemoryError("no lock for a thread")
                PyThread_acquire_lock(self.state.members[i].lock, WAIT_LOCK)
            try:
                for i in range(1, self.n_threads):
                    thread = Thread(target=self._work, args=(i,), name=f"skae-{i}", daemon=True)
                    thread.start()
                    self.threads.append(thread)
            except BaseException:  # an interrupt, or too many threads
                self.__exit__()
                raise
        return self

    def __exit__(self, *exception):
        team_dissolve(&self.state, self.n_threads)
        for thread in self.threads:
            thread.join()

    def _work(self, int member):
        if self.begin is not None:
            self.begin()
        with nogil:
            team_work(&self.state, member)

    cdef void run(self, team_function function, void *context, int n_parts) noexcept nogil:
        """Call the function with each part of n_parts, and come back when all are done.

        Outside the context the leader does them all.
        """
        team_run(&self.state, self.n_threads, function, context, n_parts)
