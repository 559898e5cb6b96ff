#include "memory.h"

#include <sys/mman.h>

#define AHEAD 64 /* before the memory stands its size, and the alignment stays */

void *memory_take(size_t bytes) {
    const size_t size = bytes + AHEAD;
    if (size < bytes) return NULL;
    char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    *(size_t *)(void *)start = size;
    return start + AHEAD;
}

void *memory_take_filled(size_t bytes) {
    char *memory = memory_take(bytes);
#if defined(MADV_HUGEPAGE)
    if (memory) madvise(memory - AHEAD, bytes + AHEAD, MADV_HUGEPAGE); /* small pages do where it is refused */
#endif
    return memory;
}

void memory_give(void *memory) {
    if (!memory) return;
    char *start = (char *)memory - AHEAD;
    munmap(start, *(size_t *)(void *)start);
}
