/* Zeroed memory straight from the system: what is never touched costs nothing. */
#ifndef P2PINFER_MEMORY_H
#define P2PINFER_MEMORY_H

#include <stddef.h>

/* NULL if there is not so much. Begins at a multiple of 64 bytes. */
void *memory_take(size_t bytes);
/* The same for what is filled at once and then read from end to end: in huge pages, where there are any. */
void *memory_take_filled(size_t bytes);
void memory_give(void *memory);

#endif
