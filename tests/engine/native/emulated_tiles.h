/* AMX tiles in plain C, for machines that have none: what the instructions do for the shapes that the kernel uses. */
#include <stdint.h>
#include <string.h>

#define TILE_COUNT 8

static _Thread_local struct {
    uint16_t row_bytes[16];
    uint8_t rows[16];
    uint8_t data[TILE_COUNT][16][64];
} tiles;

static void tile_config(const void *config) {
    memcpy(tiles.row_bytes, (const char *)config + 16, sizeof tiles.row_bytes);
    memcpy(tiles.rows, (const char *)config + 48, sizeof tiles.rows);
}

static void tile_load(int tile, const void *from, size_t stride) {
    for (int row = 0; row < tiles.rows[tile]; row++)
        memcpy(tiles.data[tile][row], (const char *)from + (size_t)row * stride, tiles.row_bytes[tile]);
}

static void tile_store(int tile, void *to, size_t stride) {
    for (int row = 0; row < tiles.rows[tile]; row++)
        memcpy((char *)to + (size_t)row * stride, tiles.data[tile][row], tiles.row_bytes[tile]);
}

/* Signed bytes of a's rows times unsigned bytes of b's columns, four at a time. */
static void tile_dot(int sums, int a, int b) {
    for (int row = 0; row < tiles.rows[sums]; row++)
        for (int column = 0; column < tiles.row_bytes[sums] / 4; column++) {
            int32_t sum;
            memcpy(&sum, &tiles.data[sums][row][4 * column], sizeof sum);
            for (int k = 0; k < tiles.row_bytes[a] / 4; k++)
                for (int i = 0; i < 4; i++)
                    sum += (int32_t)(int8_t)tiles.data[a][row][4 * k + i] * tiles.data[b][k][4 * column + i];
            memcpy(&tiles.data[sums][row][4 * column], &sum, sizeof sum);
        }
}

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#define _tile_loadconfig tile_config
#define _tile_release() memset(&tiles, 0, sizeof tiles)
#define _tile_zero(tile) memset(tiles.data[tile], 0, sizeof tiles.data[tile])
#define _tile_loadd tile_load
#define _tile_stored tile_store
#define _tile_dpbsud tile_dot
