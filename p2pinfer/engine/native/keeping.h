/* Keys and values put into the cache and read from it, in binary16 or in int8 (protocols/inference.md, "i8g32k8-1"). */
#ifndef P2PINFER_KEEPING_H
#define P2PINFER_KEEPING_H

#include "cache.h"
#include "functions.h"
#include "half.h"
#include "scratch.h"

/* 16 numbers of a page's keys or values; times their scales in int8, which is exact: 7 bits times 11. */
INLINE f32x16 kept(const int kind, const void *side, size_t at, f32x16 scales) {
    if (kind == BINARY16) return f_load_half((const uint16_t *)side + at);
    return f_mul(f_load_bytes((const int8_t *)side + at), scales);
}

/* Keep a position's key and value of one key head; 0 if binary16 cannot hold one of them. */
static int keep_halves(const struct cache *c, int position, const float *key, const float *value) {
    uint16_t *keys = (uint16_t *)keys_of(c, position / PAGE) + position % PAGE;
    uint16_t *values = (uint16_t *)values_of(c, position / PAGE) + position % PAGE * c->size;
    int well = 1;
    for (int d = 0; d < c->size; d += LANES) {
        uint16_t halves[LANES];
        well &= most_bits(f_load(key + d), f_load(value + d)) < HALF_OVERFLOW;
        f_store_half(halves, f_load(key + d));
        for (int l = 0; l < LANES; l++) keys[(d + l) * PAGE] = halves[l];
        f_store_half(values + d, f_load(value + d));
    }
    return well;
}

/* 32 values, or 16, as int8; 0 if binary16 cannot hold their scale, and then they count as zeros. */
INLINE int keep_group(const float *from, int count, int8_t *bytes, uint16_t *scale) {
    const f32x16 low = f_load(from), high = count > LANES ? f_load(from + LANES) : f_zero();
    const int32_t bits = most_bits(low, high);
    float most;
    uint16_t halves[LANES];
    memcpy(&most, &bits, sizeof most);
    f_store_half(halves, f_set(most / FULL));
    const f32x16 scales = f_load_half(halves);
    const int well = (halves[0] & HALF_INFINITY) != HALF_INFINITY; /* nor is it not a number */
    *scale = well ? halves[0] : 0;
    if (!*scale) {
        memset(bytes, 0, GROUP);
        return well;
    }
    /* the scale may have been rounded down */
    i_store_bytes(bytes, f_to_int(f_limited(f_div(low, scales), FULL)));
    i_store_bytes(bytes + LANES, f_to_int(f_limited(f_div(high, scales), FULL)));
    return 1;
}

/* The same as `keep_halves` in int8. */
static int keep_bytes(const struct cache *c, int position, const float *key, const float *value) {
    const int place = position % PAGE;
    int8_t *keys = keys_of(c, position / PAGE), *values = values_of(c, position / PAGE), bytes[GROUP];
    int well = 1;
    for (int d = 0; d < c->size; d += GROUP) {
        const int count = c->size - d < GROUP ? c->size - d : GROUP;
        well &= keep_group(key + d, count, bytes, scales_of(c, keys, d) + place);
        for (int i = 0; i < count; i++) keys[(d + i) * PAGE + place] = bytes[i];
        well &= keep_group(value + d, count, bytes, scales_of(c, values, d) + place);
        memcpy(values + place * c->size + d, bytes, (size_t)count);
    }
    return well;
}

#endif
