/* Attention over the paged KV cache, several query rows at a time.
 *
 * For each row: score = sum over d even + sum over d odd of query x key, both ascending and fused; e^(score - highest);
 * their sum over the virtual lane position mod 16, ascending, then over lanes; values times weights, positions
 * ascending and fused; times 1 / sum. Rows that share keys are computed together only for the sake of speed.
 */
#ifndef P2PINFER_ATTENTION_H
#define P2PINFER_ATTENTION_H

#include "keeping.h"
#include "product.h"

#define HIDDEN -1e30f /* the score of a position that a row does not see */

/* A query row: positions [first, last) are seen. */
struct query {
    const float *values;
    int first, last;
    float *scores, *seen;
};

/* Scores of one page, for `count` rows. */
INLINE void score_page(const int kind, const int count, const struct cache *c, int page, int from,
                       const struct query *rows, f32x16 *highest) {
    f32x16 even[ATTENTION_ROWS], odd[ATTENTION_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < count; r++) even[r] = odd[r] = f_zero();
    const void *keys = keys_of(c, page);
    const int group = kind == INT8 ? GROUP : c->size; /* whose scales are the same */
    for (int first = 0; first < c->size; first += group) {
        const f32x16 scales = kind == INT8 ? f_load_half(scales_of(c, keys, first)) : f_zero();
        for (int d = first; d < least(first + group, c->size); d += 2) {
            const f32x16 a = kept(kind, keys, (size_t)d * PAGE, scales);
            const f32x16 b = kept(kind, keys, (size_t)(d + 1) * PAGE, scales);
#pragma GCC unroll 8
            for (int r = 0; r < count; r++) {
                even[r] = f_fma(a, f_set(rows[r].values[d]), even[r]);
                odd[r] = f_fma(b, f_set(rows[r].values[d + 1]), odd[r]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < count; r++) {
        const int start = rows[r].first - page * PAGE, end = rows[r].last - page * PAGE;
        f32x16 scores = f_add(even[r], odd[r]);
        if (end < PAGE) scores = f_first(scores, most(end, 0), f_set(HIDDEN));
        if (start > 0) scores = f_first(f_set(HIDDEN), least(start, PAGE), scores);
        highest[r] = f_max(highest[r], scores);
        f_store(rows[r].scores + (size_t)(page - from) * PAGE, scores);
    }
}

/* Turn a row's scores into weights; returns 1 / their sum. */
INLINE float weigh(const struct query *row, int from, int to, float highest) {
    f32x16 sums = f_zero();
    for (int page = from; page < to; page++) {
        const int start = row->first - page * PAGE, end = row->last - page * PAGE;
        float *scores = row->scores + (size_t)(page - from) * PAGE;
        f32x16 weights = f_exp(f_sub(f_load(scores), f_set(highest)));
        if (end < PAGE) weights = f_first(weights, most(end, 0), f_zero());
        if (start > 0) weights = f_first(f_zero(), least(start, PAGE), weights);
        sums = f_add(sums, weights);
        f_store(scores, weights);
    }
    return 1.0f / f_sum(sums);
}

/* Add values of positions [first, last) times weights to `seen`, 16 x `vectors` values from `d` on. */
INLINE void add_values(const int kind, const int count, const int vectors, const struct cache *c, int d, int first,
                       int last, int from, const struct query *rows) {
    f32x16 seen[ATTENTION_ROWS][ATTENTION_VECTORS];
#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) seen[r][v] = f_load(rows[r].seen + d + LANES * v);
    for (int page = first / PAGE; page * PAGE < last; page++) {
        const int start = most(first - page * PAGE, 0), end = least(last - page * PAGE, PAGE);
        const void *values = values_of(c, page);
        float scales[ATTENTION_VECTORS][PAGE];
        for (int v = 0; v < vectors && kind == INT8; v++)
            f_store(scales[v], f_load_half(scales_of(c, values, d + LANES * v)));
        for (int at = start; at < end; at++) {
            f32x16 loaded[ATTENTION_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++)
                loaded[v] = kept(kind, values, (size_t)at * c->size + d + LANES * v,
                                 kind == INT8 ? f_set(scales[v][at]) : f_zero());
#pragma GCC unroll 8
            for (int r = 0; r < count; r++) {
                const f32x16 weight = f_set(rows[r].scores[(size_t)(page - from) * PAGE + at]);
#pragma GCC unroll 8
                for (int v = 0; v < vectors; v++) seen[r][v] = f_fma(weight, loaded[v], seen[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < count; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) f_store(rows[r].seen + d + LANES * v, seen[r][v]);
}

INLINE void see(const int kind, const int count, const struct cache *c, int first, int last, int from,
                const struct query *rows) {
    int d = 0;
    if (first >= last) return;
    for (; d + ATTENTION_VECTORS * LANES <= c->size; d += ATTENTION_VECTORS * LANES)
        add_values(kind, count, ATTENTION_VECTORS, c, d, first, last, from, rows);
    for (; d < c->size; d += LANES) add_values(kind, count, 1, c, d, first, last, from, rows);
}

/* What `count` rows of one session see, each in its `seen`. */
INLINE void attend_rows(const int kind, const int count, const struct cache *c, const struct query *rows) {
    int first = rows[0].first, last = rows[0].last; /* of any row */
    int all_from = first, all_to = last;            /* seen by every row */
    for (int r = 1; r < count; r++) {
        first = least(first, rows[r].first);
        last = most(last, rows[r].last);
        all_from = most(all_from, rows[r].first);
        all_to = least(all_to, rows[r].last);
    }
    all_to = most(all_from, all_to);
    const int from = first / PAGE, to = (last + PAGE - 1) / PAGE;
    f32x16 highest[ATTENTION_ROWS];
    for (int r = 0; r < count; r++) highest[r] = f_set(HIDDEN);
    for (int page = from; page < to; page++) score_page(kind, count, c, page, from, rows, highest);
    float factors[ATTENTION_ROWS];
    for (int r = 0; r < count; r++) {
        factors[r] = weigh(&rows[r], from, to, f_most(highest[r]));
        memset(rows[r].seen, 0, sizeof(float) * (size_t)c->size);
        see(kind, 1, c, rows[r].first, least(rows[r].last, all_from), from, &rows[r]);
    }
    see(kind, count, c, all_from, all_to, from, rows);
    for (int r = 0; r < count; r++) {
        see(kind, 1, c, all_to, rows[r].last, from, &rows[r]);
        for (int d = 0; d < c->size; d += LANES)
            f_store(rows[r].seen + d, f_mul(f_load(rows[r].seen + d), f_set(factors[r])));
    }
}

INLINE void attend(const int kind, const struct cache *c, const struct query *rows, int count) {
    int row = 0;
#define TILES(n) \
    for (; row + n <= count; row += n) attend_rows(kind, n, c, rows + row);
#if ATTENTION_ROWS >= 6
    TILES(6)
    TILES(4)
    TILES(3)
#endif
#if ATTENTION_ROWS >= 2
    TILES(2)
#endif
    TILES(1)
#undef TILES
}

static void attend_halves(const struct cache *c, const struct query *rows, int count) {
    attend(BINARY16, c, rows, count);
}

static void attend_bytes(const struct cache *c, const struct query *rows, int count) { attend(INT8, c, rows, count); }

#endif
