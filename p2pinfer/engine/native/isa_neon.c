/* 64-bit ARM with int8 dot products. */
#if defined(__aarch64__)
#include "target.h"
TARGET("arch=armv8.2-a+dotprod")
#include "lanes_neon.h"

#include "forward.h"
#include "reading.h"

const struct instruction_set set_neon = {"neon-dotprod", BIASED, layers, head, encode, decode, best, read_part};
TARGET_END
#endif
