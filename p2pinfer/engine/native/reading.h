/* Reading memory and nothing else: the floor that steps are measured against. */
#ifndef P2PINFER_READING_H
#define P2PINFER_READING_H

#include "lanes.h"
#include "shape.h"

#define QUARTERS 4
#define LINE_VALUES (LINE / (int)sizeof(float))

/* A thread's part of a buffer, its quarters side by side, for a core reads faster from several places than from one;
 * the sum keeps the compiler from leaving the loads out. */
static void read_part(void *job, int thread) {
    struct reading *r = job;
    const size_t lines = r->bytes / (QUARTERS * LINE);
    const size_t first = lines * (size_t)thread / (size_t)r->threads, last = lines * (size_t)(thread + 1) / (size_t)r->threads;
    const float *start = r->buffer + QUARTERS * LINE_VALUES * first;
    const size_t quarter = LINE_VALUES * (last - first);
    i32x16 sums[QUARTERS] = {i_set(0), i_set(0), i_set(0), i_set(0)};
    for (const float *at = start; at < start + quarter; at += LINE_VALUES)
#pragma GCC unroll 4
        for (int i = 0; i < QUARTERS; i++) {
            __builtin_prefetch((const char *)(at + quarter * i) + 2048);
            sums[i] = i_add(sums[i], f_bits(f_load(at + quarter * i)));
        }
    const i32x16 all = i_add(i_add(sums[0], sums[1]), i_add(sums[2], sums[3]));
    __atomic_fetch_add(&r->sum, (uint32_t)i_sum(all), __ATOMIC_RELAXED);
}

#endif
