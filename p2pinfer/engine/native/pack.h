/* Weights from bfloat16 to int8 blocks. */
#ifndef P2PINFER_PACK_H
#define P2PINFER_PACK_H

#include "shape.h"

/* A matrix without memory yet. Inputs are a multiple of GROUP; outputs are filled up to PANEL. */
struct matrix matrix_shape(int outputs, int inputs);
size_t matrix_bytes(const struct matrix *m);

/* Quantise `count` rows of bfloat16 bits, (count, inputs), as outputs from `first` on; 0 if a value is not finite. */
int pack_rows(struct matrix *m, int first, int count, const uint16_t *rows, int biased);

#endif
