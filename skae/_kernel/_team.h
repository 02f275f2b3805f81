/* A team of threads that share the parts of a task.
 *
 * One thread is the leader. It publishes a task with a number of parts, does parts itself, and
 * continues when all are done; the other members do parts as long as there are any. A thread
 * that the system delays thus delays only the part it has begun. A waiting thread spins ~50 us,
 * about the time between two tasks, then sleeps, so that other processes can use the core.
 *
 * The threads are Python's, without the interpreter lock, and so are the locks that they sleep
 * on. The rest are five atomic operations of GCC and clang; with another compiler, or 32-bit
 * pointers, the leader is the only member of a team.
 */
#ifndef SKAE_TEAM_H
#define SKAE_TEAM_H

#include <Python.h>
#include <stdint.h>

#if (defined(__GNUC__) || defined(__clang__)) && __SIZEOF_POINTER__ == 8
#define TEAM_HAS_MEMBERS 1
#define TEAM_LOAD(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)
#define TEAM_STORE(place, value) __atomic_store_n(place, value, __ATOMIC_SEQ_CST)
#define TEAM_EXCHANGE(place, value) __atomic_exchange_n(place, value, __ATOMIC_SEQ_CST)
#define TEAM_SUBTRACT(place, value) __atomic_sub_fetch(place, value, __ATOMIC_SEQ_CST)
#define TEAM_REPLACE(place, old, value) \
    __atomic_compare_exchange_n(place, old, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
#if defined(__x86_64__) || defined(__i386__)
#define TEAM_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define TEAM_PAUSE() __asm__ volatile("isb") /* yield does not wait */
#else
#define TEAM_PAUSE()
#endif
#else
#define TEAM_HAS_MEMBERS 0
#define TEAM_LOAD(place) (*(place))
#define TEAM_STORE(place, value) (*(place) = (value))
#define TEAM_EXCHANGE(place, value) 0
#define TEAM_SUBTRACT(place, value) (*(place) -= (value))
#define TEAM_REPLACE(place, old, value) (*(place) = (value), 1)
#define TEAM_PAUSE()
#endif

/* Spins before a thread goes to sleep: ~50 us. */
enum { TEAM_SPINS = 1500, TEAM_MOST = 64, TEAM_CACHE_LINES = 128 };

typedef void (*team_function)(void *context, int part, int n_parts);

typedef struct {
    PyThread_type_lock lock; /* held, except for a moment to wake the member */
    int asleep;
    char padding[TEAM_CACHE_LINES];
} team_member;

typedef struct {
    /* Number of the task, number of its parts, and the next part: 32, 16 and 16 bits. Thus a
     * part can only be taken of the task whose ticket was read. */
    uint64_t ticket;
    char padding_1[TEAM_CACHE_LINES];
    int64_t unfinished;
    char padding_2[TEAM_CACHE_LINES];
    team_function function;
    void *context;
    int stop;
    team_member members[TEAM_MOST]; /* the leader is the first */
} team_state;

static inline int team_has_part(uint64_t ticket)
{
    return (ticket & 0xFFFF) < (ticket >> 16 & 0xFFFF);
}

static inline void team_wake(team_member *member)
{
    if (TEAM_LOAD(&member->asleep) && TEAM_EXCHANGE(&member->asleep, 0))
        PyThread_release_lock(member->lock);
}

/* Take a part of the current task and do it; false if there is none left. */
static inline int team_do_part(team_state *team)
{
    uint64_t ticket = TEAM_LOAD(&team->ticket);
    while (team_has_part(ticket)) {
        if (!TEAM_REPLACE(&team->ticket, &ticket, ticket + 1)) continue;
        team->function(team->context, (int)(ticket & 0xFFFF), (int)(ticket >> 16 & 0xFFFF));
        if (TEAM_SUBTRACT(&team->unfinished, 1) == 0) team_wake(&team->members[0]);
        return 1;
    }
    return 0;
}

/* Whether a waiting member has something to do. */
static inline int team_calls(team_state *team, int member)
{
    if (member == 0) return TEAM_LOAD(&team->unfinished) == 0;
    return team_has_part(TEAM_LOAD(&team->ticket)) || TEAM_LOAD(&team->stop);
}

static inline void team_wait(team_state *team, int member)
{
    team_member *me = &team->members[member];
    for (int spin = 0; spin < TEAM_SPINS; spin++) {
        if (team_calls(team, member)) return;
        TEAM_PAUSE();
    }
    TEAM_STORE(&me->asleep, 1);
    /* A call may have come before the store: if the caller has not seen it, do not sleep. */
    if (team_calls(team, member) && TEAM_EXCHANGE(&me->asleep, 0)) return;
    PyThread_acquire_lock(me->lock, WAIT_LOCK);
}

/* Do all parts of a task with all members; called by the leader. */
static inline void team_run(team_state *team, int n_members, team_function function,
                            void *context, int n_parts)
{
    if (n_members == 1 || n_parts == 1) {
        for (int part = 0; part < n_parts; part++) function(context, part, n_parts);
        return;
    }
    const uint64_t number = (TEAM_LOAD(&team->ticket) >> 32) + 1;
    team->function = function;
    team->context = context;
    TEAM_STORE(&team->unfinished, n_parts);
    TEAM_STORE(&team->ticket, number << 32 | (uint64_t)n_parts << 16);
    for (int i = 1; i < n_members && i < n_parts; i++) team_wake(&team->members[i]);
    while (team_do_part(team)) {}
    while (TEAM_LOAD(&team->unfinished) > 0) team_wait(team, 0);
}

/* Do parts until the team is dissolved; called by the other members. */
static inline void team_work(team_state *team, int member)
{
    while (!TEAM_LOAD(&team->stop))
        if (!team_do_part(team)) team_wait(team, member);
}

static inline void team_dissolve(team_state *team, int n_members)
{
    TEAM_STORE(&team->stop, 1);
    for (int i = 1; i < n_members; i++) team_wake(&team->members[i]);
}

#endif
