/* Threads that compute a step together, and sleep when there is none. */
#ifndef P2PINFER_POOL_H
#define P2PINFER_POOL_H

struct pool;

typedef void (*pool_task)(void *job, int thread);

/* A pool of `threads` threads, the caller's own included; NULL if there are not so many to be had. */
struct pool *pool_open(int threads);
void pool_close(struct pool *pool);

/* Run `task(job, thread)` on every thread, 0 to threads - 1; returns when all are through. */
void pool_run(struct pool *pool, pool_task task, void *job);

/* Within a task: wait until every thread is here. */
void pool_meet(struct pool *pool);

#endif
