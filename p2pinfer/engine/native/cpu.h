/* Which instruction sets this machine has. */
#ifndef P2PINFER_CPU_H
#define P2PINFER_CPU_H

#include "shape.h"

/* The set of that name; NULL if the machine does not have it. */
const struct instruction_set *find_set(const char *name);

/* The name of the machine's n-th set, the fastest first; NULL beyond the last. */
const char *set_name(int n);

/* Rows as q8o4 wire bytes, and back; decoding returns 0 for bytes that no encoder writes. */
void set_encode(const struct instruction_set *set, const float *rows, int count, int width, uint8_t *wire);
int set_decode(const struct instruction_set *set, const uint8_t *wire, int count, int width, float *rows);

#endif
