/* A step through a span: what each thread does of it, layer by layer (protocols/inference.md, "i8g32-1").
 *
 * Included by each isa_*.c after its lanes. Threads share outputs of a product, rows of a norm and pieces of
 * attention; who computes what changes no bit. A few rows are normed and quantised by every thread for itself, which
 * is quicker than to wait for another.
 */
#ifndef P2PINFER_FORWARD_H
#define P2PINFER_FORWARD_H

#include "attention.h"
#include "choosing.h"
#include "codec.h"
#include "pool.h"
#include "scratch.h"

#if defined(MATRIX_TILES)
#define TILES_OPEN tiles_open();
#define TILES_CLOSE tiles_close();
#else
#define TILES_OPEN
#define TILES_CLOSE
#endif

/* All rows, normed if `weight` is given, as int8: in `wide`, or for a few rows in the thread's own. */
static const struct group *quantised(const struct step *s, int thread, const float *rows, int width,
                                     const float *weight) {
    const struct span *span = s->span;
    const int few = s->rows <= FEW;
    struct group *all = few ? span->benches[thread].own : span->wide;
    int first = 0, last = s->rows;
    if (!few) part(s->rows, thread, span->is.threads, &first, &last);
    for (int row = first; row < last; row++) {
        const float *values = rows + (size_t)row * width;
        struct group *to = all + (size_t)row * (width / GROUP);
        if (weight)
            quantise_normed(values, weight, width, span->is.eps, to, s->failed + row);
        else
            quantise_row(values, width, to, s->failed + row);
    }
    if (!few) pool_meet(span->pool);
    return all;
}

static void outputs(const struct step *s, int thread, const struct matrix *m, const struct group *x, float *y, int stride,
                    int add) {
    int first, last;
    part(m->panels, thread, s->span->is.threads, &first, &last);
    product(m, first, last, x, s->rows, s->span->benches[thread].sums, y, stride, add);
}

/* Turn a head by its position's angle: its halves rotate against each other. */
INLINE void rotate(const struct span *span, const float *head, int position, float factor, float *to) {
    const int half = span->is.head_size / 2;
    const float *cosines = span->cosines + (size_t)position * half, *sines = span->sines + (size_t)position * half;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        to[i] = (a * cosines[i] - b * sines[i]) * factor;
        to[i + half] = (b * cosines[i] + a * sines[i]) * factor;
    }
}

static struct cache cache_of(const struct span *span, const struct layer *layer, const int32_t *table, int kv_head) {
    const size_t side = side_bytes(&span->is);
    return (struct cache){layer->kv + 2 * side * kv_head, table, page_bytes(&span->is), side, span->is.head_size};
}

/* Keep a row's key and value of one key head; what the cache cannot hold fails the row. */
static void store(const struct step *s, const struct layer *layer, int row, int kv_head) {
    const struct span *span = s->span;
    const struct sizes *is = &span->is;
    const int size = is->head_size, position = s->positions[row], stride = span->layers[0].qkv.panels * PANEL;
    float *key = span->joined + (size_t)row * stride + (is->heads + kv_head) * size;
    const float *value = key + is->kv_heads * size;
    const struct cache c = cache_of(span, layer, s->tables[row], kv_head);
    float turned[MOST_HEAD];
    if (layer->key_norm) norm_row(key, layer->key_norm, size, is->eps);
    rotate(span, key, position, 1.0f, turned);
    int (*const keep)(const struct cache *, int, const float *, const float *) =
        is->kv_bytes == INT8 ? keep_bytes : keep_halves;
    if (!keep(&c, position, turned, value)) fail(s->failed + row);
}

/* Attention of a run's rows through one key head. */
static void attend_run(const struct step *s, const struct layer *layer, int thread, const struct run *run, int kv_head) {
    const struct span *span = s->span;
    const struct sizes *is = &span->is;
    const struct bench *bench = &span->benches[thread];
    const int size = is->head_size, shared = is->heads / is->kv_heads, stride = span->layers[0].qkv.panels * PANEL;
    const struct cache c = cache_of(span, layer, s->tables[run->first], kv_head);
    const float factor = 1.0f / sqrtf((float)size);
    struct query rows[RUN * MOST_SHARED];
    int count = 0;
    for (int row = run->first; row < run->first + run->count; row++)
        for (int h = kv_head * shared; h < (kv_head + 1) * shared; h++, count++) {
            float *query = span->joined + (size_t)row * stride + h * size, *turned = bench->queries + count * size;
            const int position = s->positions[row];
            if (layer->query_norm) norm_row(query, layer->query_norm, size, is->eps);
            rotate(span, query, position, factor, turned);
            rows[count] = (struct query){turned, is->window ? most(0, position + 1 - is->window) : 0, position + 1,
                                         bench->scores + (size_t)(count % ATTENTION_ROWS) * span->reach,
                                         span->attended + ((size_t)row * is->heads + h) * size};
        }
    (is->kv_bytes == INT8 ? attend_bytes : attend_halves)(&c, rows, count);
}

static void attention(const struct step *s, int number, int thread) {
    const struct span *span = s->span;
    const struct layer *layer = &span->layers[number];
    const int kv_heads = span->is.kv_heads, pieces = s->run_count * kv_heads;
    if (s->chained) { /* rows of one session see each other's keys: all are there first */
        int first, last;
        part(s->rows * kv_heads, thread, span->is.threads, &first, &last);
        for (int at = first; at < last; at++) store(s, layer, at / kv_heads, at % kv_heads);
        pool_meet(span->pool);
    }
    for (int at; (at = __atomic_fetch_add(&s->taken[number], 1, __ATOMIC_RELAXED)) < pieces;) {
        const struct run *run = &s->runs[at / kv_heads];
        if (!s->chained) store(s, layer, run->first, at % kv_heads);
        attend_run(s, layer, thread, run, at % kv_heads);
    }
}

/* silu(gate) x up, 32 features at a time, as int8 for the product that follows. */
static void feed(const struct step *s, const struct layer *layer, int thread, const struct group *x) {
    const struct span *span = s->span;
    const int rows = s->rows, step = together(rows);
    float *gate = span->benches[thread].sums, *up = gate + step * rows * PANEL;
    int first, last;
    part(layer->gate.panels, thread, span->is.threads, &first, &last);
    for (int panel = first; panel < last; panel += step) {
        const int count = least(step, last - panel);
        panels_product(&layer->gate, panel, count, x, rows, gate);
        panels_product(&layer->up, panel, count, x, rows, up);
        for (int at = 0; at < count * rows; at++) {
            const float *g = gate + at * PANEL, *u = up + at * PANEL;
            const int row = at % rows;
            quantise_group(f_mul(f_silu(f_load(g)), f_load(u)), f_mul(f_silu(f_load(g + LANES)), f_load(u + LANES)),
                           span->fed + (size_t)row * layer->gate.panels + panel + at / rows, s->failed + row);
        }
    }
}

/* Layers [first, last) of the span, on one thread of all. */
static void layers(void *job, int thread) {
    const struct step *s = job;
    const struct span *span = s->span;
    const struct sizes *is = &span->is;
    TILES_OPEN
    for (int number = s->first; number < s->last; number++) {
        const struct layer *layer = &span->layers[number];
        const struct group *x = quantised(s, thread, s->hidden, is->hidden, layer->attention_norm);
        outputs(s, thread, &layer->qkv, x, span->joined, layer->qkv.panels * PANEL, 0);
        pool_meet(span->pool);
        attention(s, number, thread);
        pool_meet(span->pool);
        x = quantised(s, thread, span->attended, is->heads * is->head_size, NULL);
        outputs(s, thread, &layer->output, x, s->hidden, is->hidden, 1);
        pool_meet(span->pool);
        feed(s, layer, thread, quantised(s, thread, s->hidden, is->hidden, layer->mlp_norm));
        pool_meet(span->pool);
        outputs(s, thread, &layer->down, span->fed, s->hidden, is->hidden, 1);
        pool_meet(span->pool);
    }
    TILES_CLOSE
    if (thread == 0)
        for (int row = 0; row < s->rows; row++)
            for (int i = 0; i < is->hidden; i += 2 * LANES) {
                const float *values = s->hidden + (size_t)row * is->hidden + i;
                if (most_bits(f_load(values), f_load(values + LANES)) >= NOT_FINITE) fail(s->failed + row);
            }
}

/* Final norm and output head of rows. */
static void head(void *job, int thread) {
    const struct step *s = job;
    const struct span *span = s->span;
    TILES_OPEN
    const struct group *x = quantised(s, thread, s->hidden, span->is.hidden, span->norm);
    outputs(s, thread, &span->head, x, s->logits, span->head.panels * PANEL, 0);
    TILES_CLOSE
}

#endif
