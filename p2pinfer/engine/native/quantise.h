/* Activations in int8, each 32 of a row with a scale of their own. */
#ifndef P2PINFER_QUANTISE_H
#define P2PINFER_QUANTISE_H

#include "functions.h"

/* Quantise 32 values; 0 if one of them is not finite, and then they count as zeros. */
INLINE int quantise(f32x16 a, f32x16 b, int8_t *values, float *scale, int32_t *offset) {
    const int32_t bits = most_bits(a, b);
    float most;
    memcpy(&most, &bits, sizeof most);
    if (bits >= NOT_FINITE || most < LEAST) {
        memset(values, 0, GROUP);
        *scale = 0.0f;
        *offset = 0;
        return bits < NOT_FINITE;
    }
    const f32x16 steps = f_set(FULL / most);
    const i32x16 low = f_to_int(f_mul(a, steps)), high = f_to_int(f_mul(b, steps));
    i_store_bytes(values, low);
    i_store_bytes(values + LANES, high);
    *scale = most / FULL;
    *offset = -128 * i_sum(i_add(low, high));
    return 1;
}

INLINE void fail(uint8_t *failed) { __atomic_store_n(failed, 1, __ATOMIC_RELAXED); }

INLINE void quantise_group(const struct activations *to, int row, int groups, int group, f32x16 a, f32x16 b,
                           uint8_t *failed) {
    const size_t at = (size_t)row * groups + group;
    if (!quantise(a, b, to->values + at * GROUP, to->scales + at, to->offsets + at)) fail(failed);
}

INLINE void quantise_row(const float *row, int n, const struct activations *to, int at, uint8_t *failed) {
    for (int i = 0; i < n; i += GROUP)
        quantise_group(to, at, n / GROUP, i / GROUP, f_load(row + i), f_load(row + i + LANES), failed);
}

INLINE void quantise_normed(const float *row, const float *weight, int n, float eps, const struct activations *to,
                            int at, uint8_t *failed) {
    const f32x16 factor = f_set(norm_factor(row, n, eps));
    for (int i = 0; i < n; i += GROUP)
        quantise_group(to, at, n / GROUP, i / GROUP, normed(row, weight, factor, i),
                       normed(row, weight, factor, i + LANES), failed);
}

#endif
