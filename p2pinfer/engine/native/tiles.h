/* Matrix products of 16 rows at a time in AMX tiles; `product.h` says what is summed, and in which order.
 *
 * A group of 32 inputs is one tile operation: 16 rows of activations times 16 outputs of weights. Rows beyond a
 * multiple of 16 go the way of fewer rows.
 */
#ifndef P2PINFER_TILES_H
#define P2PINFER_TILES_H

#if defined(TILES_EMULATED)
#include "emulated_tiles.h"
#else
#include <immintrin.h>
#endif

#define TILE_HEIGHT 16

struct tile_shapes {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((packed, aligned(64)));

/* Tiles 0 and 1 hold sums of 16 outputs each, 2 activations, 3 and 4 weights. */
INLINE void tiles_open(void) {
    const struct tile_shapes shapes = {.palette = 1, .row_bytes = {64, 64, 32, 64, 64}, .rows = {16, 16, 16, 8, 8}};
    _tile_loadconfig(&shapes);
}

INLINE void tiles_close(void) { _tile_release(); }

/* Add a chunk to the sums of 16 rows, PANEL apart. */
INLINE void tall_tile(const struct chunk *c, int n, const struct group *x, size_t stride, float *sums) {
    int32_t dots[2][TILE_HEIGHT][LANES] __attribute__((aligned(64)));
    for (int group = 0; group < c->groups; group++, x++) {
        const uint8_t *w = c->blocks + group * BLOCK_BYTES + SCALE_BYTES;
        fetch(c, n, group);
        _tile_zero(0);
        _tile_zero(1);
        _tile_loadd(2, x->values, stride * sizeof *x);
        _tile_loadd(3, w, 4 * PANEL);
        _tile_loadd(4, w + 4 * LANES, 4 * PANEL);
        _tile_dpbsud(0, 2, 3);
        _tile_dpbsud(1, 2, 4);
        _tile_stored(0, dots[0], 4 * LANES);
        _tile_stored(1, dots[1], 4 * LANES);
        const f32x16 low = f_load(c->scales + group * PANEL), high = f_load(c->scales + group * PANEL + LANES);
        for (int r = 0; r < TILE_HEIGHT; r++) {
            float *to = sums + r * PANEL;
            const i32x16 offset = i_set(x[r * stride].offset);
            const f32x16 scale = f_set(x[r * stride].scale);
            const i32x16 a = i_add(_mm512_load_si512(dots[0][r]), offset), b = i_add(_mm512_load_si512(dots[1][r]), offset);
            f_store(to, f_fma(i_to_float(a), f_mul(low, scale), f_load(to)));
            f_store(to + LANES, f_fma(i_to_float(b), f_mul(high, scale), f_load(to + LANES)));
        }
    }
}

#endif
