/* The same, with matrix tiles for batches. */
#if defined(__x86_64__)
#include "target.h"
TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c" AMX_TARGET)
#include "lanes_avx512.h"

#define MATRIX_TILES
#include "forward.h"
#include "reading.h"

const struct instruction_set set_amx = {"amx", BIASED, layers, head, encode, decode, best, read_part};
TARGET_END
#endif
