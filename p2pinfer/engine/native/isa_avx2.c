/* x86-64 since 2013. */
#if defined(__x86_64__)
#include "target.h"
TARGET("avx2,fma,f16c")
#include "lanes_avx2.h"

#include "forward.h"
#include "reading.h"

const struct instruction_set set_avx2 = {"avx2", BIASED, layers, head, encode, decode, best, read_part};
TARGET_END
#endif
