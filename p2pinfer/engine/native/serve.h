/* Requests of the engine's door, answered without Python where they ask for nothing unusual. */
#ifndef P2PINFER_SERVE_H
#define P2PINFER_SERVE_H

#include "shape.h"

struct door;

/* Serve what comes on a socket. `first`: the model's number of the span's first layer. `embedding`: (vocabulary, hidden)
 * in bfloat16 at a head, else NULL; not copied. NULL if there is no memory. */
struct door *door_open(struct span *span, int socket, int first, const uint16_t *embedding, int tail);
void door_close(struct door *door);

/* Open a session with these pages; its number of positions held is read and written by both sides. NULL if there is no
 * memory. */
struct session *session_open(struct span *span, uint32_t slot, const int32_t *pages, int count);
void session_close(struct span *span, struct session *session);
int32_t *session_held(struct session *session);
const int32_t *session_pages(const struct session *session);
void sessions_close(struct span *span);

/* Answer requests until one comes that Python has to answer: the number of its bytes, which lie at `*body` until the
 * next call. Nothing has changed by looking at it. 0 when the parent is gone, -1 if there is no memory. */
int64_t door_next(struct door *door, const uint8_t **body);

#endif
