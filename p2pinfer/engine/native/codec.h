/* The wire codec q8o4 (protocols/inference.md, "Codecs"): int8 in groups of 64 with scales in binary16, and the row's
 * four largest values in binary16 beside their places. */
#ifndef P2PINFER_CODEC_H
#define P2PINFER_CODEC_H

#include "functions.h"
#include "half.h"
#include "wire.h"

#define MOST_HALF 65504.0f

INLINE float clipped(float x) { return x > MOST_HALF ? MOST_HALF : x < -MOST_HALF ? -MOST_HALF : x; }

INLINE void put16(uint8_t *to, uint16_t x) {
    to[0] = (uint8_t)x;
    to[1] = (uint8_t)(x >> 8);
}

INLINE uint16_t get16(const uint8_t *from) { return (uint16_t)(from[0] | from[1] << 8); }

/* The 64 values of a group, zeros beyond the width and in the places of the largest. */
INLINE void wire_group(const float *row, int width, int group, const int *places, float *values) {
    const int first = group * WIRE_GROUP, count = width - first < WIRE_GROUP ? width - first : WIRE_GROUP;
    memcpy(values, row + first, sizeof(float) * (size_t)count);
    memset(values + count, 0, sizeof(float) * (size_t)(WIRE_GROUP - count));
    for (int k = 0; k < OUTLIERS; k++)
        if (places[k] >= first && places[k] < first + WIRE_GROUP) values[places[k] - first] = 0.0f;
}

/* Places of the four largest magnitudes, ascending; of equal ones the first count as larger. */
INLINE void largest(const float *row, int width, int *places) {
    float sizes[OUTLIERS];
    int held = 0;
    for (int i = 0; i < width; i++) {
        const float size = fabsf(row[i]);
        if (held == OUTLIERS && i % LANES == 0 && i + LANES <= width) {
            const f32x16 sixteen = f_load(row + i);
            if (!(f_most(f_max(sixteen, f_sub(f_zero(), sixteen))) > sizes[OUTLIERS - 1])) {
                i += LANES - 1;
                continue;
            }
        }
        if (held == OUTLIERS && !(size > sizes[OUTLIERS - 1])) continue;
        int at = held < OUTLIERS ? held++ : OUTLIERS - 1; /* descending by size, equal ones as they come */
        for (; at && size > sizes[at - 1]; at--) {
            sizes[at] = sizes[at - 1];
            places[at] = places[at - 1];
        }
        sizes[at] = size;
        places[at] = i;
    }
    for (int i = 1; i < OUTLIERS; i++)
        for (int at = i; at && places[at] < places[at - 1]; at--) {
            const int place = places[at];
            places[at] = places[at - 1];
            places[at - 1] = place;
        }
}

INLINE uint16_t wire_scale(const float *values) {
    int32_t bits = most_bits(f_load(values), f_load(values + LANES));
    const int32_t upper = most_bits(f_load(values + 2 * LANES), f_load(values + 3 * LANES));
    float size;
    bits = bits > upper ? bits : upper;
    memcpy(&size, &bits, sizeof size);
    return float_to_half(clipped(size / FULL));
}

INLINE void encode_row(const float *row, int width, uint8_t *wire) {
    const int groups = wire_groups(width);
    uint8_t *scales = wire + width, *rest = scales + 2 * groups;
    int places[OUTLIERS];
    largest(row, width, places);
    for (int group = 0; group < groups; group++) {
        float values[WIRE_GROUP];
        int8_t bytes[WIRE_GROUP];
        wire_group(row, width, group, places, values);
        const uint16_t scale = wire_scale(values);
        const f32x16 step = f_set(half_to_float(scale)), full = f_set(FULL), none = f_set(-FULL);
        put16(scales + 2 * group, scale);
        for (int i = 0; i < WIRE_GROUP; i += LANES) {
            const f32x16 rounded = f_round(f_div(f_load(values + i), step));
            const f32x16 below = f_sub(f_zero(), f_max(f_sub(f_zero(), rounded), none)); /* at most 127 */
            i_store_bytes(bytes + i, f_to_int(f_max(below, f_sub(f_zero(), full))));
        }
        if (!scale) memset(bytes, 0, sizeof bytes);
        const int left = width - group * WIRE_GROUP;
        memcpy(wire + group * WIRE_GROUP, bytes, (size_t)(left < WIRE_GROUP ? left : WIRE_GROUP));
    }
    for (int k = 0; k < OUTLIERS; k++) {
        put16(rest + 2 * k, (uint16_t)places[k]);
        put16(rest + 2 * (OUTLIERS + k), float_to_half(clipped(row[places[k]])));
    }
}

/* 0 for bytes that no encoder writes: a value of -128, places that do not ascend, what is not finite. */
INLINE int decode_row(const uint8_t *wire, int width, float *row) {
    const int groups = wire_groups(width);
    const uint8_t *scales = wire + width, *rest = scales + 2 * groups;
    int wrong = 0;
    for (int group = 0; group < groups; group++) {
        const uint16_t scale = get16(scales + 2 * group);
        const float step = half_to_float(scale);
        const int first = group * WIRE_GROUP, last = width - first < WIRE_GROUP ? width : first + WIRE_GROUP;
        wrong |= scale >= HALF_INFINITY;
        for (int i = first; i < last; i++) {
            wrong |= wire[i] == 128;
            row[i] = (float)(int8_t)wire[i] * step;
        }
    }
    for (int k = 0, last = -1; k < OUTLIERS && !wrong; k++) {
        const uint16_t place = get16(rest + 2 * k), value = get16(rest + 2 * (OUTLIERS + k));
        wrong |= place <= last || place >= width || (value & 0x7fffu) >= HALF_INFINITY;
        if (!wrong) row[place] = half_to_float(value);
        last = place;
    }
    return !wrong;
}

static void encode(const float *rows, int count, int width, uint8_t *wire) {
    for (int r = 0; r < count; r++) encode_row(rows + (size_t)r * width, width, wire + (size_t)r * wire_bytes(width));
}

static int decode(const uint8_t *wire, int count, int width, float *rows) {
    for (int r = 0; r < count; r++)
        if (!decode_row(wire + (size_t)r * wire_bytes(width), width, rows + (size_t)r * width)) return 0;
    return 1;
}

#endif
