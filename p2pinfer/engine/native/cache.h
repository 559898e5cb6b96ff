/* How keys and values lie in a page of KV cache.
 *
 * Of each key head a page holds 16 positions: keys (head size, 16), then values (16, head size), in binary16 or in
 * int8. In int8 each of the two is followed by its scales in binary16, (groups of 32 of the head, 16).
 */
#ifndef P2PINFER_CACHE_H
#define P2PINFER_CACHE_H

#include "shape.h"

enum { INT8 = 1, BINARY16 = 2 }; /* kinds, as bytes of a number: `kv_bytes` of struct sizes */

/* Where a session's keys and values of one key head lie. */
struct cache {
    uint8_t *pages; /* of a layer, at the key head */
    const int32_t *table;
    size_t page_bytes; /* from one page to the next */
    size_t side_bytes; /* from a page's keys to its values */
    int size;          /* of a head */
};

/* Bytes of the keys, and of the values, of a page and key head. */
static inline size_t side_bytes(const struct sizes *is) {
    const size_t groups = is->kv_bytes == INT8 ? (size_t)(is->head_size + GROUP - 1) / GROUP : 0;
    return PAGE * ((size_t)is->head_size * (size_t)is->kv_bytes + groups * sizeof(uint16_t));
}

static inline size_t page_bytes(const struct sizes *is) { return 2 * side_bytes(is) * (size_t)is->kv_heads; }

static inline void *keys_of(const struct cache *c, int page) {
    return c->pages + (size_t)c->table[page] * c->page_bytes;
}

static inline void *values_of(const struct cache *c, int page) { return (uint8_t *)keys_of(c, page) + c->side_bytes; }

/* In int8: the 16 scales that a page's keys, or its values, have from `d` on. */
static inline uint16_t *scales_of(const struct cache *c, const void *side, int d) {
    return (uint16_t *)((uint8_t *)side + (size_t)PAGE * c->size) + d / GROUP * PAGE;
}

#endif
