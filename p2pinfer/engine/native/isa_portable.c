/* The reference: any machine with a C compiler. */
#include "lanes_portable.h"

#include "forward.h"
#include "reading.h"

const struct instruction_set set_portable = {"portable", BIASED, layers, head, encode, decode, best, read_part};
