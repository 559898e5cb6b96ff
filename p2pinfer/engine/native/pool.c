/* A waiting thread looks again and again for a few microseconds, then lets others run, then sleeps: steps of a running
 * generation follow one another closely, and an idle node takes no core from its owner. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LOOKS 2000 /* some 40 us; a barrier in a quiet step takes less than one */
#define YIELDS 50  /* while another process has the core that a thread of ours needs */

struct pool {
    int threads;
    pool_task task;
    void *job;
    atomic_uint started;  /* tasks so far */
    atomic_uint met;      /* times all threads met */
    atomic_int arrived;   /* threads at the next meeting */
    atomic_int sleeping;
    atomic_int closing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t *workers;
};

struct worker {
    struct pool *pool;
    int thread;
};

static void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_change(struct pool *pool, atomic_uint *word, unsigned old) {
    for (int i = 0; i < LOOKS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        breathe();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != old) return;
        sched_yield();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleeping, 1); /* before the last look: `announce` changes the word, then asks who sleeps */
    while (atomic_load(word) == old) pthread_cond_wait(&pool->changed, &pool->lock);
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void announce(struct pool *pool, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&pool->sleeping)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->changed);
        pthread_mutex_unlock(&pool->lock);
    }
}

void pool_meet(struct pool *pool) {
    if (pool->threads == 1) return;
    const unsigned met = atomic_load(&pool->met);
    if (atomic_fetch_add(&pool->arrived, 1) == pool->threads - 1) {
        atomic_store(&pool->arrived, 0);
        announce(pool, &pool->met);
    } else {
        wait_change(pool, &pool->met, met);
    }
}

void pool_run(struct pool *pool, pool_task task, void *job) {
    pool->task = task;
    pool->job = job;
    if (pool->threads > 1) announce(pool, &pool->started);
    task(job, 0);
    pool_meet(pool);
}

static void *work(void *argument) {
    struct worker own = *(struct worker *)argument;
    free(argument);
    for (unsigned started = 0;; started++) {
        wait_change(own.pool, &own.pool->started, started);
        if (atomic_load(&own.pool->closing)) return NULL;
        own.pool->task(own.pool->job, own.thread);
        pool_meet(own.pool);
    }
}

static int start(struct pool *pool, int thread) {
    struct worker *worker = malloc(sizeof *worker);
    if (!worker) return 0;
    *worker = (struct worker){pool, thread};
    if (pthread_create(&pool->workers[thread - 1], NULL, work, worker) == 0) return 1;
    free(worker);
    return 0;
}

struct pool *pool_open(int threads) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    for (pool->threads = 1; pool->workers && pool->threads < threads; pool->threads++)
        if (!start(pool, pool->threads)) break;
    if (pool->threads == threads && pool->workers) return pool;
    pool_close(pool);
    return NULL;
}

void pool_close(struct pool *pool) {
    if (!pool) return;
    atomic_store(&pool->closing, 1);
    announce(pool, &pool->started);
    for (int thread = 1; thread < pool->threads; thread++) pthread_join(pool->workers[thread - 1], NULL);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}
