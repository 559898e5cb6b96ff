/* One row through several panels at once: what a single session's step spends its time on, reading weights.
 *
 * Each panel is a stream of its own. The hardware fetches ahead within 4 KiB pages only, and begins anew at each; while
 * one stream does, the others go on: a core reads 8 to 20 % faster from four places than from one.
 */
#ifndef P2PINFER_SINGLE_H
#define P2PINFER_SINGLE_H

#include "quantise.h"
#include "scratch.h"

#define AHEAD (2 * BLOCK_BYTES) /* bytes of each stream that are asked for early */

/* Outputs of `panels` panels, which lie `apart` bytes from each other; a constant where this is called. */
INLINE void single(const int panels, const uint8_t *blocks, size_t apart, const struct activations *x, int groups,
                   const float *bias, float *y, int add) {
    f32x16 sums[2 * STREAMS];
#pragma GCC unroll 8
    for (int s = 0; s < 2 * panels; s++) sums[s] = bias ? f_load(bias + LANES * s) : f_zero();
    for (int group = 0; group < groups; group++, blocks += BLOCK_BYTES) {
        const int8_t *values = x->values + (size_t)group * GROUP;
        const i32x16 offset = i_set(BIASED ? x->offsets[group] : 0);
        const f32x16 scale = f_set(x->scales[group]);
#pragma GCC unroll 8
        for (int panel = 0; panel < panels; panel++) {
            const uint8_t *block = blocks + apart * (size_t)panel, *w = block + SCALE_BYTES;
            const uint16_t *scales = (const uint16_t *)(const void *)block;
            i32x16 low = offset, high = offset;
            __builtin_prefetch(block + AHEAD);
#pragma GCC unroll 8
            for (int k = 0; k < GROUP; k += 4, w += 4 * PANEL) {
                __builtin_prefetch(w + AHEAD);
                __builtin_prefetch(w + 4 * LANES + AHEAD);
                low = i_dot(low, w, values + k);
                high = i_dot(high, w + 4 * LANES, values + k);
            }
            f32x16 *to = sums + 2 * panel;
            to[0] = f_fma(i_to_float(low), f_mul(f_load_half(scales), scale), to[0]);
            to[1] = f_fma(i_to_float(high), f_mul(f_load_half(scales + LANES), scale), to[1]);
        }
    }
#pragma GCC unroll 8
    for (int s = 0; s < 2 * panels; s++) {
        float *to = y + LANES * s;
        f_store(to, add ? f_add(f_load(to), sums[s]) : sums[s]);
    }
}

#endif
