/* The id that a row of logits speaks for most. */
#ifndef P2PINFER_CHOOSING_H
#define P2PINFER_CHOOSING_H

#include "functions.h"

/* The place of the highest value, the first of equal ones; -1 if a value is not finite. */
static int best(const float *logits, int count) {
    f32x16 most = f_set(-FLT_MAX), sizes = f_zero();
    for (int i = 0; i < count; i += LANES) { /* rows are padded to whole panels, which are read and not looked at */
        const f32x16 values = f_load(logits + i);
        most = f_max(most, f_first(values, count - i, most));
        const f32x16 known = f_first(values, count - i, f_zero());
        sizes = f_from_bits(i_max(f_bits(sizes), i_and(f_bits(known), i_set(0x7fffffff))));
    }
    if (most_bits(sizes, sizes) >= NOT_FINITE) return -1;
    const float highest = f_most(most);
    int at = 0;
    while (logits[at] != highest) at++;
    return at;
}

#endif
