cdef extern from "_team.h" nogil:
    enum:
        TEAM_HAS_MEMBERS
        TEAM_MOST
    ctypedef void (*team_function)(void *context, int part, int n_parts) noexcept nogil
    ctypedef struct team_member:
        void *lock
    ctypedef struct team_state:
        team_member *members
    void team_run(team_state *team, int n_members, team_function function, void *context,
                  int n_parts)
    void team_work(team_state *team, int member)
    void team_dissolve(team_state *team, int n_members)


cdef class Guard:
    cdef bint begun
    cdef begin_or_end(self)
    cdef end_at_last(self)


cdef class Team:
    cdef team_state state
    cdef readonly int n_threads
    cdef list threads
    cdef object begin
    cdef int start(self) except -1
    cdef void run(self, team_function function, void *context, int n_parts) noexcept nogil
