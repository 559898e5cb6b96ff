/* A span in memory: opened, filled, stepped, closed. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "cpu.h"
#include "memory.h"
#include "pack.h"
#include "pool.h"
#include "scratch.h"
#include "serve.h"

static int most(int a, int b) { return a > b ? a : b; }

static void *copied(const void *from, size_t bytes) {
    void *to = memory_take(bytes);
    return to ? memcpy(to, from, bytes) : NULL;
}

static struct group *take_groups(int rows, int inputs) {
    return memory_take(sizeof(struct group) * (size_t)rows * (inputs / GROUP));
}

static int queries(const struct sizes *is) { return is->heads * is->head_size; }

static int layer_open(struct layer *l, const struct sizes *is, int qkv_bias, int output_bias) {
    const int joined = (is->heads + 2 * is->kv_heads) * is->head_size;
    l->kv = memory_take(page_bytes(is) * (size_t)is->pages);
    return l->kv && matrix_open(&l->qkv, joined, is->hidden, qkv_bias) &&
           matrix_open(&l->output, is->hidden, queries(is), output_bias) &&
           matrix_open(&l->gate, is->feed_forward, is->hidden, 0) &&
           matrix_open(&l->up, is->feed_forward, is->hidden, 0) &&
           matrix_open(&l->down, is->hidden, is->feed_forward, 0);
}

static void layer_close(struct layer *l) {
    matrix_close(&l->qkv);
    matrix_close(&l->output);
    matrix_close(&l->gate);
    matrix_close(&l->up);
    matrix_close(&l->down);
    memory_give(l->attention_norm);
    memory_give(l->mlp_norm);
    memory_give(l->query_norm);
    memory_give(l->key_norm);
    memory_give(l->kv);
}

static void scratch_close(struct span *span) {
    for (int thread = 0; thread < span->is.threads; thread++) {
        struct bench *bench = &span->benches[thread];
        memory_give(bench->own);
        memory_give(bench->scores);
        memory_give(bench->sums);
        memory_give(bench->queries);
        *bench = (struct bench){0};
    }
    memory_give(span->wide);
    memory_give(span->fed);
    memory_give(span->joined);
    memory_give(span->attended);
    span->wide = span->fed = NULL;
    span->joined = span->attended = NULL;
    span->rows = span->reach = 0;
}

/* Make room for a step of so many rows that reach so many positions; what there is stays if it is enough. */
static int scratch_open(struct span *span, int rows, int reach) {
    const struct sizes *is = &span->is;
    const int wide = most(is->hidden, queries(is)), shared = is->heads / is->kv_heads;
    if (rows <= span->rows && reach <= span->reach) return 1;
    rows = most(rows, span->rows);
    reach = (most(reach, span->reach) + PAGE - 1) / PAGE * PAGE;
    scratch_close(span);
    span->joined = memory_take(sizeof(float) * (size_t)rows * span->layers[0].qkv.panels * PANEL);
    span->attended = memory_take(sizeof(float) * (size_t)rows * queries(is));
    span->wide = take_groups(rows, wide);
    span->fed = take_groups(rows, is->feed_forward);
    int well = span->joined && span->attended && span->wide && span->fed;
    for (int thread = 0; thread < is->threads && well; thread++) {
        struct bench *bench = &span->benches[thread];
        bench->own = take_groups(FEW, wide);
        bench->scores = memory_take(sizeof(float) * MOST_TILE * (size_t)reach);
        bench->sums = memory_take(sizeof(float) * 2 * PANEL * (size_t)most(rows, STREAMS));
        bench->queries = memory_take(sizeof(float) * RUN * (size_t)shared * is->head_size);
        well = bench->own && bench->scores && bench->sums && bench->queries;
    }
    if (!well) {
        scratch_close(span);
        return 0;
    }
    span->rows = rows;
    span->reach = reach;
    return 1;
}

struct span *span_open(const struct sizes *is, const char *set, const float *cosines, const float *sines,
                       int qkv_bias, int output_bias, int with_head) {
    const size_t angles = sizeof(float) * (size_t)is->positions * (is->head_size / 2);
    struct span *span = calloc(1, sizeof *span);
    if (!span) return NULL;
    span->is = *is;
    span->set = find_set(set);
    span->pool = pool_open(is->threads);
    span->layers = calloc((size_t)is->layers, sizeof *span->layers);
    span->benches = calloc((size_t)is->threads, sizeof *span->benches);
    span->cosines = copied(cosines, angles);
    span->sines = copied(sines, angles);
    int well = span->set && span->pool && span->layers && span->benches && span->cosines && span->sines;
    for (int layer = 0; layer < is->layers && well; layer++)
        well = layer_open(&span->layers[layer], is, qkv_bias, output_bias);
    if (well && with_head) well = matrix_open(&span->head, is->vocabulary, is->hidden, 0);
    if (well) return span;
    span_close(span);
    return NULL;
}

void span_close(struct span *span) {
    if (!span) return;
    sessions_close(span);
    pool_close(span->pool);
    if (span->benches) scratch_close(span);
    for (int layer = 0; span->layers && layer < span->is.layers; layer++) layer_close(&span->layers[layer]);
    matrix_close(&span->head);
    memory_give(span->norm);
    memory_give(span->cosines);
    memory_give(span->sines);
    free(span->layers);
    free(span->benches);
    free(span);
}

static int64_t matrix_bytes(const struct matrix *m) {
    return m->blocks ? (int64_t)m->panels * m->groups * BLOCK_BYTES : 0;
}

int64_t span_weight_bytes(const struct span *span) {
    int64_t bytes = matrix_bytes(&span->head);
    for (int i = 0; i < span->is.layers; i++) {
        const struct layer *l = &span->layers[i];
        bytes += matrix_bytes(&l->qkv) + matrix_bytes(&l->output) + matrix_bytes(&l->gate) + matrix_bytes(&l->up) +
                 matrix_bytes(&l->down) + (int64_t)sizeof(float) * 2 * span->is.hidden;
    }
    return bytes;
}

int64_t span_cache_bytes(const struct span *span) {
    const struct sizes *is = &span->is;
    return (int64_t)page_bytes(is) * is->layers * is->pages;
}

static struct matrix *matrix_of(struct span *span, int layer, int which) {
    struct layer *l = &span->layers[which == HEAD ? 0 : layer];
    struct matrix *all[] = {&l->qkv, &l->output, &l->gate, &l->up, &l->down, &span->head};
    return all[which];
}

int span_matrix(struct span *span, int layer, int which, int first, int count, const uint16_t *rows) {
    return pack_rows(matrix_of(span, layer, which), first, count, rows, span->set->biased);
}

static int is_finite(float x) { return x - x == 0.0f; }

int span_vector(struct span *span, int layer, int which, int first, int count, const float *values) {
    struct layer *l = &span->layers[which == FINAL_NORM ? 0 : layer];
    float **all[] = {&l->attention_norm, &l->mlp_norm, &l->query_norm, &l->key_norm,
                     &l->qkv.bias, &l->output.bias, &span->norm};
    float **to = all[which];
    if (!*to && !(*to = memory_take(sizeof(float) * (size_t)(first + count)))) return 0;
    for (int i = 0; i < count; i++) {
        if (!is_finite(values[i])) return 0;
        (*to)[first + i] = values[i];
    }
    return 1;
}

/* Rows of one session in pieces of at most RUN: each is attention's work through one key head. */
static void cut_runs(struct step *step) {
    for (int row = 0; row < step->rows; row++) {
        struct run *last = step->run_count ? &step->runs[step->run_count - 1] : NULL;
        const int follows = row && step->tables[row] == step->tables[row - 1];
        step->chained |= follows;
        if (follows && last->count < RUN)
            last->count++;
        else
            step->runs[step->run_count++] = (struct run){row, 1};
    }
}

int span_step(struct span *span, int first, int last, float *hidden, int rows, const int32_t *positions,
              const int32_t *const *tables, uint8_t *failed) {
    int reach = 0;
    for (int row = 0; row < rows; row++) reach = most(reach, positions[row] + 1);
    struct step step = {span, hidden, rows, first, last, positions, tables, failed, NULL, 0, 0, NULL, NULL};
    step.runs = malloc(sizeof *step.runs * (size_t)rows);
    step.taken = calloc((size_t)span->is.layers, sizeof *step.taken);
    const int well = step.runs && step.taken && scratch_open(span, rows, reach);
    if (well) {
        cut_runs(&step);
        pool_run(span->pool, span->set->layers, &step);
    }
    free(step.runs);
    free(step.taken);
    return well;
}

int span_logits(struct span *span, float *hidden, int rows, float *logits, uint8_t *failed) {
    struct step step = {span, hidden, rows, 0, 0, NULL, NULL, failed, NULL, 0, 0, NULL, logits};
    if (!scratch_open(span, rows, 1)) return 0;
    pool_run(span->pool, span->set->head, &step);
    return 1;
}

int span_logit_stride(const struct span *span) { return span->head.panels * PANEL; }

int span_best(const struct span *span, const float *logits) {
    return span->set->best(logits, span->is.vocabulary);
}
