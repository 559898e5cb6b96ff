/* What `kernel.py` calls. One thread at a time may use a span. */
#ifndef P2PINFER_KERNEL_H
#define P2PINFER_KERNEL_H

#include "shape.h"

enum { QKV, OUTPUT, GATE, UP, DOWN, HEAD };                            /* matrices */
enum { ATTENTION_NORM, MLP_NORM, QUERY_NORM, KEY_NORM, QKV_BIAS, OUTPUT_BIAS, FINAL_NORM }; /* vectors */

/* Take memory for a span; `with_head` says whether it has norm and output head. NULL if there is not enough. */
struct span *span_open(const struct sizes *is, const char *set, const float *cosines, const float *sines,
                       int qkv_bias, int output_bias, int with_head);
void span_close(struct span *span);

/* Bytes of matrices and norms, and of KV cache. */
int64_t span_weight_bytes(struct span *span);
int64_t span_cache_bytes(const struct span *span);

/* Set `count` outputs of a matrix from `first` on, bfloat16 bits; 0 if a value is not finite. */
int span_matrix(struct span *span, int layer, int which, int first, int count, const uint16_t *rows);
/* Set a vector, or a part of one; 0 if a value is not finite or there is no memory. */
int span_vector(struct span *span, int layer, int which, int first, int count, const float *values);

/* Compute rows through layers [first, last), in place. Rows of one session are consecutive positions and follow each
 * other. `failed` is set for rows that met values that are not finite. 0 if there is no memory for so many rows. */
int span_step(struct span *span, int first, int last, float *hidden, int rows, const int32_t *positions,
              const int32_t *const *tables, uint8_t *failed);
/* Logits of rows, span_logit_stride() apart: (rows, vocabulary). */
int span_logits(struct span *span, float *hidden, int rows, float *logits, uint8_t *failed);
int span_logit_stride(const struct span *span);
/* The id of a row's highest logit, the first of equal ones; -1 if one is not finite. */
int span_best(const struct span *span, const float *logits);

/* Gigabytes a second that `threads` threads read from a buffer of so many bytes, the median of several passes; 0 if
 * there is no memory for it. */
double read_bandwidth(const char *set, int64_t bytes, int threads);

#endif
