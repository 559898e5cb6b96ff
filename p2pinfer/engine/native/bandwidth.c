#include <stdlib.h>
#include <time.h>

#include "cpu.h"
#include "kernel.h"
#include "memory.h"
#include "pool.h"

#define PASSES 11 /* the first one takes the pages from the system, and does not count */

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double read_bandwidth(const char *set, int64_t bytes, int threads) {
    float *buffer = memory_take_filled((size_t)bytes);
    struct pool *pool = pool_open(threads);
    struct reading reading = {buffer, (size_t)bytes, threads, 0};
    double taken_s[PASSES], median_s = 0.0;
    for (int64_t i = 0; buffer && i < bytes / 4; i += 1024) buffer[i] = 1.0f; /* each page is one of our own */
    for (int pass = 0; pass < PASSES && buffer && pool; pass++) {
        const double began = now_s();
        pool_run(pool, find_set(set)->read, &reading);
        taken_s[pass] = now_s() - began;
    }
    if (buffer && pool) {
        qsort(taken_s + 1, PASSES - 1, sizeof *taken_s, ascending);
        median_s = taken_s[PASSES / 2];
    }
    pool_close(pool);
    memory_give(buffer);
    return median_s > 0.0 ? (double)bytes / median_s / 1e9 : 0.0;
}
