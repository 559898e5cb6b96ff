/* What a loaded span is: sizes, matrices, pages of KV cache, and the rows that one step computes. */
#ifndef P2PINFER_SHAPE_H
#define P2PINFER_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#define GROUP 32       /* values that share a scale, of weights and of activations */
#define PANEL 32       /* outputs whose weights lie together */
#define PAGE 16        /* positions of a page of KV cache */
#define LINE 64        /* bytes that come from memory together */
#define CHUNK 24       /* groups of a panel that all rows go through before any goes on */
#define FULL 127.0f    /* int8 of the largest value in a group */
#define LEAST 1e-30f   /* a group whose largest magnitude is below is all zeros */
#define SCALE_BYTES (2 * PANEL)
#define BLOCK_BYTES (SCALE_BYTES + PANEL * GROUP)

/* A matrix of int8 weights: for each 32 outputs, and in them for each 32 inputs, one block: the 32 outputs' scales in
 * binary16, then for each 4 inputs 32 x 4 weights. A product reads it from end to end in one stream. */
struct matrix {
    int outputs, inputs;
    int panels, groups; /* of outputs and inputs */
    uint8_t *blocks;
    float *bias; /* of all panels, or NULL */
};

/* 32 int8 activations of a row and their scale; `offset` is -128 x their sum. A product reads a row in one stream. */
struct group {
    int8_t values[GROUP];
    float scale;
    int32_t offset;
};

struct layer {
    float *attention_norm, *mlp_norm, *query_norm, *key_norm; /* the last two NULL where the model has none */
    struct matrix qkv, output, gate, up, down;
    uint8_t *kv; /* (pages, key heads, keys and values), cache.h */
};

/* Sizes of a model; the order is `kernel.py`'s. */
struct sizes {
    int32_t layers, hidden, feed_forward, heads, kv_heads, head_size, vocabulary;
    int32_t window; /* positions attended to; 0: all */
    int32_t pages, positions, threads;
    int32_t kv_bytes; /* of a key's or a value's number in the cache: 2 of binary16, 1 of int8 */
    float eps;
};

/* Scratch of one thread. */
struct bench {
    struct group *own; /* (FEW rows, groups) */
    float *scores, *sums, *queries; /* sums: (2, rows, PANEL) */
};

struct span {
    struct sizes is;
    const struct instruction_set *set;
    struct pool *pool;
    struct layer *layers;
    float *norm;
    struct matrix head;
    uint8_t *blocks; /* of all matrices */
    float *cosines, *sines; /* (positions, head size / 2) */
    /* scratch for `rows` rows and `reach` positions */
    int rows, reach;
    float *joined, *attended; /* (rows, queries, keys and values), (rows, heads x head size) */
    struct group *wide, *fed; /* (rows, groups) */
    struct bench *benches;
    struct session *sessions; /* that are open (serve.c) */
};

/* Consecutive positions of one session among the rows of a step. */
struct run {
    int first, count;
};

/* One step: rows of any sessions, each at its position and with its session's pages. */
struct step {
    struct span *span;
    float *hidden; /* (rows, hidden), in place */
    int rows, first, last;
    const int32_t *positions;
    const int32_t *const *tables;
    uint8_t *failed; /* a row met a value that is not finite */
    struct run *runs;
    int run_count, chained; /* chained: some session has several rows, which see each other */
    int *taken;             /* for each layer, pieces of attention that threads have taken */
    float *logits;
};

/* A buffer to be read by all threads. */
struct reading {
    const float *buffer;
    size_t bytes;
    int threads;
    uint32_t sum;
};

struct instruction_set {
    const char *name;
    int biased;
    void (*layers)(void *step, int thread);
    void (*head)(void *step, int thread);
    void (*encode)(const float *rows, int count, int width, uint8_t *wire);
    int (*decode)(const uint8_t *wire, int count, int width, float *rows);
    int (*best)(const float *logits, int count);
    void (*read)(void *reading, int thread);
};

#endif
