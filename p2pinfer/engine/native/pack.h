/* Weights from bfloat16 to int8 blocks. */
#ifndef P2PINFER_PACK_H
#define P2PINFER_PACK_H

#include "shape.h"

/* Take memory for a matrix; 0 if there is none. Inputs are a multiple of GROUP; outputs are filled up to PANEL. */
int matrix_open(struct matrix *m, int outputs, int inputs, int with_bias);
void matrix_close(struct matrix *m);

/* Quantise `count` rows of bfloat16 bits, (count, inputs), as outputs from `first` on; 0 if a value is not finite. */
int pack_rows(struct matrix *m, int first, int count, const uint16_t *rows, int biased);

#endif
