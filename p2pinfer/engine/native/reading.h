/* Reading memory and nothing else: the floor that steps are measured against. */
#ifndef P2PINFER_READING_H
#define P2PINFER_READING_H

#include "lanes.h"
#include "shape.h"

/* A thread's part of a buffer, in one stream; the sum keeps the compiler from leaving the loads out. */
static void read_part(void *job, int thread) {
    struct reading *r = job;
    const size_t lines = r->bytes / (4 * 4 * LANES);
    const size_t first = lines * (size_t)thread / (size_t)r->threads, last = lines * (size_t)(thread + 1) / (size_t)r->threads;
    i32x16 sums[4] = {i_set(0), i_set(0), i_set(0), i_set(0)};
    for (const float *at = r->buffer + first * 4 * LANES; at < r->buffer + last * 4 * LANES; at += 4 * LANES) {
        __builtin_prefetch((const char *)at + 4096);
        __builtin_prefetch((const char *)at + 4096 + 64);
        __builtin_prefetch((const char *)at + 4096 + 128);
        __builtin_prefetch((const char *)at + 4096 + 192);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sums[i] = i_add(sums[i], f_bits(f_load(at + LANES * i)));
    }
    const i32x16 all = i_add(i_add(sums[0], sums[1]), i_add(sums[2], sums[3]));
    __atomic_fetch_add(&r->sum, (uint32_t)i_sum(all), __ATOMIC_RELAXED);
}

#endif
