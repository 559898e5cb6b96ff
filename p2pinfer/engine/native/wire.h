/* How much a row takes in the codec q8o4 (protocols/inference.md, "Codecs"). */
#ifndef P2PINFER_WIRE_H
#define P2PINFER_WIRE_H

#include <stddef.h>

#define WIRE_GROUP 64 /* values that share a scale */
#define OUTLIERS 4    /* a row's largest values, written beside their places */

static inline int wire_groups(int width) { return (width + WIRE_GROUP - 1) / WIRE_GROUP; }
static inline size_t wire_bytes(int width) {
    return (size_t)width + 2 * (size_t)wire_groups(width) + 4 * OUTLIERS;
}

#endif
