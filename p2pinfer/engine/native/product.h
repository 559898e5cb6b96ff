/* Matrix products of int8 weights with int8 activations.
 *
 * An output is summed group by group: exactly in int32 within a group, then sum = fma(group, weight scale x activation
 * scale, sum) in float32, groups ascending, from the bias or zero. So neither tiles nor threads change a bit.
 */
#ifndef P2PINFER_PRODUCT_H
#define P2PINFER_PRODUCT_H

#include "single.h"

/* Sums of `groups16` x 16 outputs for `rows` rows; both are constants where this is called. */
INLINE void tile(const int groups16, const int rows, const uint8_t *block, int half, const struct activations *x,
                 int row, int groups, const float *bias, float *y, int stride, int add) {
    f32x16 sums[TILE_GROUPS][TILE_ROWS];
#pragma GCC unroll 8
    for (int g = 0; g < groups16; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) sums[g][r] = bias ? f_load(bias + LANES * g) : f_zero();
    const int8_t *values = x->values + (size_t)row * groups * GROUP;
    const float *scales = x->scales + (size_t)row * groups;
    const int32_t *offsets = x->offsets + (size_t)row * groups;
    for (int group = 0; group < groups; group++, block += BLOCK_BYTES) {
        i32x16 dots[TILE_GROUPS][TILE_ROWS];
#pragma GCC unroll 8
        for (int g = 0; g < groups16; g++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) dots[g][r] = i_set(BIASED ? offsets[(size_t)r * groups + group] : 0);
        const uint8_t *w = block + SCALE_BYTES + 4 * LANES * half;
#pragma GCC unroll 8
        for (int k = 0; k < GROUP; k += 4, w += 4 * PANEL) {
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                for (int g = 0; g < groups16; g++)
                    dots[g][r] = i_dot(dots[g][r], w + 4 * LANES * g,
                                       values + ((size_t)r * groups + group) * GROUP + k);
        }
        const uint16_t *weight_scales = (const uint16_t *)(const void *)block + LANES * half;
#pragma GCC unroll 8
        for (int g = 0; g < groups16; g++) {
            const f32x16 scale = f_load_half(weight_scales + LANES * g);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sums[g][r] = f_fma(i_to_float(dots[g][r]), f_mul(scale, f_set(scales[(size_t)r * groups + group])),
                                   sums[g][r]);
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < groups16; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float *to = y + (size_t)r * stride + LANES * g;
            f_store(to, add ? f_add(f_load(to), sums[g][r]) : sums[g][r]);
        }
}

#if defined(MATRIX_TILES)
#include "tiles.h"
#endif

/* One panel's outputs for all rows. */
INLINE void panel_product(const struct matrix *m, int panel, const struct activations *x, int rows, float *y, int stride,
                          int add) {
    const uint8_t *block = m->blocks + (size_t)panel * m->groups * BLOCK_BYTES;
    int done = 0;
#if defined(MATRIX_TILES)
    for (; done + TILE_HEIGHT <= rows; done += TILE_HEIGHT)
        tile_panel(m, block, m->bias ? m->bias + panel * PANEL : NULL, x, done, y + (size_t)done * stride, stride, add);
#endif
    for (int half = 0; half < PANEL / LANES; half += TILE_GROUPS) {
        const float *bias = m->bias ? m->bias + panel * PANEL + half * LANES : NULL;
        float *to = y + half * LANES;
        int row = done;
#define TILES(count) \
    for (; row + count <= rows; row += count) \
        tile(TILE_GROUPS, count, block, half, x, row, m->groups, bias, to + (size_t)row * stride, stride, add);
#if TILE_ROWS >= 6
        TILES(6)
        TILES(4)
#endif
#if TILE_ROWS >= 2
        TILES(2)
#endif
        TILES(1)
#undef TILES
    }
}

/* Outputs of `count` panels from `first` on, at most STREAMS, for all rows: y of (rows, stride), added to what is there
 * or in its place. */
static void panels_product(const struct matrix *m, int first, int count, const struct activations *x, int rows, float *y,
                           int stride, int add) {
    if (rows == 1) {
        const size_t apart = (size_t)m->groups * BLOCK_BYTES;
        const uint8_t *blocks = m->blocks + apart * (size_t)first;
        const float *bias = m->bias ? m->bias + first * PANEL : NULL;
        if (count == STREAMS)
            single(STREAMS, blocks, apart, x, m->groups, bias, y, add);
        else
            for (int panel = 0; panel < count; panel++)
                single(1, blocks + apart * (size_t)panel, apart, x, m->groups, bias ? bias + panel * PANEL : NULL,
                       y + panel * PANEL, add);
    } else
        for (int panel = 0; panel < count; panel++)
            panel_product(m, first + panel, x, rows, y + panel * PANEL, stride, add);
}

/* The same of panels [first, last), however many. */
static void product(const struct matrix *m, int first, int last, const struct activations *x, int rows, float *y,
                    int stride, int add) {
    for (int panel = first; panel < last; panel += STREAMS)
        panels_product(m, panel, last - panel < STREAMS ? last - panel : STREAMS, x, rows, y + panel * PANEL, stride, add);
}

#endif
