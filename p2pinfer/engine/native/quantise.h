/* Activations in int8, each 32 of a row with a scale of their own. */
#ifndef P2PINFER_QUANTISE_H
#define P2PINFER_QUANTISE_H

#include "functions.h"

/* Quantise 32 values; 0 if one of them is not finite, and then they count as zeros. */
INLINE int quantise(f32x16 a, f32x16 b, struct group *to) {
    const int32_t bits = most_bits(a, b);
    float most;
    memcpy(&most, &bits, sizeof most);
    if (bits >= NOT_FINITE || most < LEAST) {
        memset(to, 0, sizeof *to);
        return bits < NOT_FINITE;
    }
    const f32x16 steps = f_set(FULL / most);
    const i32x16 low = f_to_int(f_mul(a, steps)), high = f_to_int(f_mul(b, steps));
    i_store_bytes(to->values, low);
    i_store_bytes(to->values + LANES, high);
    to->scale = most / FULL;
    to->offset = -128 * i_sum(i_add(low, high));
    return 1;
}

INLINE void fail(uint8_t *failed) { __atomic_store_n(failed, 1, __ATOMIC_RELAXED); }

INLINE void quantise_group(f32x16 a, f32x16 b, struct group *to, uint8_t *failed) {
    if (!quantise(a, b, to)) fail(failed);
}

INLINE void quantise_row(const float *row, int n, struct group *to, uint8_t *failed) {
    for (int i = 0; i < n; i += GROUP, to++) quantise_group(f_load(row + i), f_load(row + i + LANES), to, failed);
}

INLINE void quantise_normed(const float *row, const float *weight, int n, float eps, struct group *to, uint8_t *failed) {
    const f32x16 factor = f_set(norm_factor(row, n, eps));
    for (int i = 0; i < n; i += GROUP, to++)
        quantise_group(normed(row, weight, factor, i), normed(row, weight, factor, i + LANES), to, failed);
}

#endif
