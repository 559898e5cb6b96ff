/* Matrix products of int8 weights with int8 activations.
 *
 * An output is summed group by group: exactly in int32 within a group, then sum = fma(group, weight scale x activation
 * scale, sum) in float32, groups ascending, from the bias or zero. So neither tiles nor chunks nor threads change a bit.
 *
 * A panel is computed in chunks of a few groups, which stay in the L1 cache while tile after tile of rows passes over
 * them. Meanwhile the tiles fetch the next chunk: memory is slower than one tile computes, and faster than all of them.
 */
#ifndef P2PINFER_PRODUCT_H
#define P2PINFER_PRODUCT_H

#include "single.h"

#define WIDENS 3                /* rows of a tile, from which on weights' scales are widened once for all tiles */

struct chunk {
    const uint8_t *blocks;
    int groups;
    int share; /* bytes that a tile fetches at each of its groups */
    float scales[CHUNK * PANEL] __attribute__((aligned(64)));
};

/* Part `n` of `total` in parts of almost the same size. */
INLINE void part(int total, int n, int parts, int *first, int *last) {
    *first = (int)((long)total * n / parts);
    *last = (int)((long)total * (n + 1) / parts);
}

/* Send for what tile `n` fetches at a group: it will be in the L2 cache. */
INLINE void fetch(const struct chunk *c, int n, int group) {
    const uint8_t *from = c->blocks + c->groups * BLOCK_BYTES + (n * c->groups + group) * c->share;
    for (int at = 0; at < c->share; at += LINE) __builtin_prefetch(from + at, 0, 2);
}

/* Add a chunk to `to`, sums of TILE_GROUPS x 16 of the panel's outputs, from 16 x `half` on, for some rows. `rows` is a
 * constant where this is called; rows of `x` are `stride` groups apart, those of `to` PANEL. */
INLINE void tile(const int rows, const struct chunk *c, int n, int half, const struct group *x, size_t stride, float *to) {
    f32x16 sums[TILE_GROUPS][TILE_ROWS];
    to += LANES * half;
#pragma GCC unroll 8
    for (int g = 0; g < TILE_GROUPS; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) sums[g][r] = f_load(to + r * PANEL + LANES * g);
    for (int group = 0; group < c->groups; group++, x++) {
        const uint8_t *block = c->blocks + group * BLOCK_BYTES, *w = block + SCALE_BYTES + 4 * LANES * half;
        const uint16_t *narrow = (const uint16_t *)(const void *)block + LANES * half;
        const float *wide = c->scales + group * PANEL + LANES * half;
        i32x16 dots[TILE_GROUPS][TILE_ROWS];
#pragma GCC unroll 8
        for (int g = 0; g < TILE_GROUPS; g++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) dots[g][r] = i_set(BIASED ? x[r * stride].offset : 0);
        fetch(c, n, group);
#pragma GCC unroll 8
        for (int k = 0; k < GROUP; k += 4, w += 4 * PANEL) {
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
                for (int g = 0; g < TILE_GROUPS; g++)
                    dots[g][r] = i_dot(dots[g][r], w + 4 * LANES * g, x[r * stride].values + k);
        }
#pragma GCC unroll 8
        for (int g = 0; g < TILE_GROUPS; g++) {
            const f32x16 scale = rows < WIDENS ? f_load_half(narrow + LANES * g) : f_load(wide + LANES * g);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sums[g][r] = f_fma(i_to_float(dots[g][r]), f_mul(scale, f_set(x[r * stride].scale)), sums[g][r]);
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < TILE_GROUPS; g++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) f_store(to + r * PANEL + LANES * g, sums[g][r]);
}

INLINE void any_tile(int rows, const struct chunk *c, int n, int half, const struct group *x, size_t stride, float *to) {
    switch (rows) {
#define TILE(height) case height: tile(height, c, n, half, x, stride, to); break;
#if TILE_ROWS >= 6
        TILE(6)
        TILE(5)
        TILE(4)
        TILE(3)
#endif
#if TILE_ROWS >= 2
        TILE(2)
#endif
        TILE(1)
#undef TILE
    }
}

#if defined(MATRIX_TILES)
#include "tiles.h"
#else
#define TILE_HEIGHT 1
#endif

INLINE void widen(struct chunk *c) {
    for (int group = 0; group < c->groups; group++) {
        const uint16_t *narrow = (const uint16_t *)(const void *)(c->blocks + group * BLOCK_BYTES);
        for (int i = 0; i < PANEL; i += LANES) f_store(c->scales + group * PANEL + i, f_load_half(narrow + i));
    }
}

INLINE void begin(const float *bias, int rows, float *sums) {
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < PANEL; i += LANES) f_store(sums + row * PANEL + i, bias ? f_load(bias + i) : f_zero());
}

/* Sums of one panel's outputs for all rows: (rows, PANEL). */
static void panel_product(const struct matrix *m, int panel, const struct group *x, int rows, float *sums) {
    const size_t stride = (size_t)m->groups;
    const int tall = TILE_HEIGHT > 1 ? rows / TILE_HEIGHT : 0, above = tall * TILE_HEIGHT, rest = rows - above;
    const int low = (rest + TILE_ROWS - 1) / TILE_ROWS, tiles = tall + low * (PANEL / LANES / TILE_GROUPS);
    struct chunk c;
    c.blocks = m->blocks + panel * stride * BLOCK_BYTES;
    c.share = (BLOCK_BYTES + tiles - 1) / tiles;
    begin(m->bias ? m->bias + panel * PANEL : NULL, rows, sums);
    for (int start = 0; start < m->groups; start += c.groups, c.blocks += c.groups * BLOCK_BYTES, x += c.groups) {
        int n = 0;
        c.groups = least(CHUNK, m->groups - start);
        if (rows >= WIDENS) widen(&c);
#if defined(MATRIX_TILES)
        for (; n < tall; n++) tall_tile(&c, n, x + n * TILE_HEIGHT * stride, stride, sums + n * TILE_HEIGHT * PANEL);
#endif
        for (int i = 0; i < low; i++) {
            int first, last;
            part(rest, i, low, &first, &last);
            for (int half = 0; half < PANEL / LANES; half += TILE_GROUPS, n++)
                any_tile(last - first, &c, n, half, x + (above + first) * stride, stride, sums + (above + first) * PANEL);
        }
    }
}

/* Panels that `rows` rows go through at once. */
INLINE int together(int rows) { return rows == 1 ? STREAMS : 1; }

/* Sums of `count` panels from `first` on, no more than go together, for all rows: (panels, rows, PANEL). */
static void panels_product(const struct matrix *m, int first, int count, const struct group *x, int rows, float *sums) {
    const size_t apart = (size_t)m->groups * BLOCK_BYTES;
    const uint8_t *blocks = m->blocks + apart * (size_t)first;
    const float *bias = m->bias ? m->bias + first * PANEL : NULL;
    if (rows > 1)
        panel_product(m, first, x, rows, sums);
    else if (count == STREAMS)
        single(STREAMS, blocks, apart, x, m->groups, bias, sums);
    else
        for (int panel = 0; panel < count; panel++)
            single(1, blocks + apart * (size_t)panel, apart, x, m->groups, bias ? bias + panel * PANEL : NULL,
                   sums + panel * PANEL);
}

/* Outputs of panels [first, last) for all rows: y of (rows, stride), added to what is there or in its place. */
static void product(const struct matrix *m, int first, int last, const struct group *x, int rows, float *sums, float *y,
                    int stride, int add) {
    const int step = together(rows);
    for (int panel = first; panel < last; panel += step) {
        const int count = least(step, last - panel);
        panels_product(m, panel, count, x, rows, sums);
        for (int at = 0; at < count * rows; at++)
            for (int i = 0; i < PANEL; i += LANES) {
                float *to = y + (size_t)(at % rows) * stride + (panel + at / rows) * PANEL + i;
                const f32x16 sum = f_load(sums + at * PANEL + i);
                f_store(to, add ? f_add(f_load(to), sum) : sum);
            }
    }
}

#endif
