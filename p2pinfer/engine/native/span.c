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

static float *take_bias(const struct matrix *m) { return memory_take(sizeof(float) * PANEL * (size_t)m->panels); }

static int layer_open(struct layer *l, const struct sizes *is, int qkv_bias, int output_bias) {
    l->qkv = matrix_shape((is->heads + 2 * is->kv_heads) * is->head_size, is->hidden);
    l->output = matrix_shape(is->hidden, queries(is));
    l->gate = l->up = matrix_shape(is->feed_forward, is->hidden);
    l->down = matrix_shape(is->hidden, is->feed_forward);
    if (qkv_bias && !(l->qkv.bias = take_bias(&l->qkv))) return 0;
    if (output_bias && !(l->output.bias = take_bias(&l->output))) return 0;
    return (l->kv = memory_take(page_bytes(is) * (size_t)is->pages)) != NULL;
}

static void layer_close(struct layer *l) {
    memory_give(l->qkv.bias);
    memory_give(l->output.bias);
    memory_give(l->attention_norm);
    memory_give(l->mlp_norm);
    memory_give(l->query_norm);
    memory_give(l->key_norm);
    memory_give(l->kv);
}

static struct matrix *matrix_of(struct span *span, int layer, int which) {
    struct layer *l = &span->layers[which == HEAD ? 0 : layer];
    struct matrix *all[] = {&l->qkv, &l->output, &l->gate, &l->up, &l->down, &span->head};
    return all[which];
}

static uint8_t *place(struct matrix *m, uint8_t *at) {
    m->blocks = at;
    return at + matrix_bytes(m);
}

static size_t blocks_bytes(struct span *span) {
    size_t bytes = matrix_bytes(&span->head);
    for (int layer = 0; layer < span->is.layers; layer++)
        for (int which = QKV; which < HEAD; which++) bytes += matrix_bytes(matrix_of(span, layer, which));
    return bytes;
}

/* Memory for all matrices in one piece, as a step reads them: one of a small model would not fill a huge page. */
static int blocks_open(struct span *span) {
    /* products prefetch a chunk beyond the last */
    uint8_t *at = span->blocks = memory_take_filled(blocks_bytes(span) + CHUNK * BLOCK_BYTES);
    if (!at) return 0;
    for (int layer = 0; layer < span->is.layers; layer++)
        for (int which = QKV; which < HEAD; which++) at = place(matrix_of(span, layer, which), at);
    place(&span->head, at);
    return 1;
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
    if (with_head) span->head = matrix_shape(is->vocabulary, is->hidden);
    if (well && blocks_open(span)) return span;
    span_close(span);
    return NULL;
}

void span_close(struct span *span) {
    if (!span) return;
    sessions_close(span);
    pool_close(span->pool);
    if (span->benches) scratch_close(span);
    for (int layer = 0; span->layers && layer < span->is.layers; layer++) layer_close(&span->layers[layer]);
    memory_give(span->blocks);
    memory_give(span->norm);
    memory_give(span->cosines);
    memory_give(span->sines);
    free(span->layers);
    free(span->benches);
    free(span);
}

int64_t span_weight_bytes(struct span *span) {
    const size_t norms = sizeof(float) * 2 * (size_t)span->is.hidden;
    return (int64_t)(blocks_bytes(span) + norms * (size_t)span->is.layers);
}

int64_t span_cache_bytes(const struct span *span) {
    const struct sizes *is = &span->is;
    return (int64_t)page_bytes(is) * is->layers * is->pages;
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
