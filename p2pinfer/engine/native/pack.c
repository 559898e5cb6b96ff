#include "pack.h"

#include "half.h"

static const float FULL_HALF = 65504.0f;

struct matrix matrix_shape(int outputs, int inputs) {
    return (struct matrix){outputs, inputs, (outputs + PANEL - 1) / PANEL, inputs / GROUP, NULL, NULL};
}

size_t matrix_bytes(const struct matrix *m) { return (size_t)m->panels * (size_t)m->groups * BLOCK_BYTES; }

/* The scale of a group, as it is kept: the largest magnitude / 127 in binary16. */
static uint16_t scale_of(const float *values, int *finite) {
    float most = 0.0f;
    for (int i = 0; i < GROUP; i++) {
        const float size = fabsf(values[i]);
        *finite &= size <= 3.402823466e38f;
        most = size > most ? size : most;
    }
    return float_to_half(most / FULL < FULL_HALF ? most / FULL : FULL_HALF);
}

static int8_t weight_of(float value, float scale) {
    if (scale == 0.0f) return 0;
    const float steps = rintf(value / scale); /* beyond 127 where binary16 rounded the scale down */
    return (int8_t)(steps > FULL ? FULL : steps < -FULL ? -FULL : steps);
}

static int pack_group(uint8_t *block, int output, const uint16_t *bits, int biased) {
    float values[GROUP];
    int finite = 1;
    for (int i = 0; i < GROUP; i++) values[i] = float_of_bits((uint32_t)bits[i] << 16);
    const uint16_t scale = scale_of(values, &finite);
    if (!finite) return 0;
    memcpy(block + 2 * output, &scale, sizeof scale);
    for (int i = 0; i < GROUP; i++) {
        const int8_t weight = weight_of(values[i], half_to_float(scale));
        block[SCALE_BYTES + (i / 4) * 4 * PANEL + 4 * output + i % 4] = (uint8_t)(weight + (biased ? 128 : 0));
    }
    return 1;
}

int pack_rows(struct matrix *m, int first, int count, const uint16_t *rows, int biased) {
    for (int row = 0; row < count; row++) {
        const int output = first + row;
        uint8_t *blocks = m->blocks + (size_t)(output / PANEL) * m->groups * BLOCK_BYTES;
        for (int group = 0; group < m->groups; group++)
            if (!pack_group(blocks + (size_t)group * BLOCK_BYTES, output % PANEL,
                            rows + ((size_t)row * m->groups + group) * GROUP, biased))
                return 0;
    }
    return 1;
}
