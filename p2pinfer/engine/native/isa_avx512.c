/* x86-64 with AVX-512 and its int8 dot products. */
#if defined(__x86_64__)
#include "target.h"
TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#include "lanes_avx512.h"

#include "forward.h"
#include "reading.h"

const struct instruction_set set_avx512 = {"avx512-vnni", BIASED, layers, head, encode, decode, best, read_part};
TARGET_END
#endif
