/* Exponential, silu and RMS norms over virtual lanes (protocols/inference.md, "i8g32-1"). */
#ifndef P2PINFER_FUNCTIONS_H
#define P2PINFER_FUNCTIONS_H

#include <float.h>

#include "shape.h"

INLINE int least(int a, int b) { return a < b ? a : b; }
INLINE int most(int a, int b) { return a > b ? a : b; }

#define EXP_LIMIT 86.0f /* e^-86 is a normal number still, e^86 is finite */

/* x brought within +-limit. */
INLINE f32x16 f_limited(f32x16 x, float limit) {
    const f32x16 least = f_set(-limit);
    return f_sub(f_zero(), f_max(f_sub(f_zero(), f_max(x, least)), least));
}

/* e^x, x first brought within +-EXP_LIMIT: 2^whole x 2^rest, the latter a polynomial on [-1/2, 1/2]. */
INLINE f32x16 f_exp(f32x16 x) {
    x = f_limited(x, EXP_LIMIT);
    const f32x16 twos = f_mul(x, f_set(1.44269504f)), whole = f_round(twos), rest = f_sub(twos, whole);
    f32x16 p = f_set(1.535336188319500e-4f);
    p = f_fma(p, rest, f_set(1.339887440266574e-3f));
    p = f_fma(p, rest, f_set(9.618437357674640e-3f));
    p = f_fma(p, rest, f_set(5.550332471162809e-2f));
    p = f_fma(p, rest, f_set(2.402264791363012e-1f));
    p = f_fma(p, rest, f_set(6.931472028550421e-1f));
    p = f_fma(p, rest, f_set(1.0f));
    return f_mul(p, f_from_bits(i_shift_left(i_add(f_to_int(whole), i_set(127)), 23)));
}

/* x / (1 + e^-x) */
INLINE f32x16 f_silu(f32x16 x) { return f_div(x, f_add(f_set(1.0f), f_exp(f_sub(f_zero(), x)))); }

/* What an RMS norm multiplies a row by; n is a multiple of LANES. */
INLINE float norm_factor(const float *row, int n, float eps) {
    f32x16 squares = f_zero();
    for (int i = 0; i < n; i += LANES) {
        const f32x16 x = f_load(row + i);
        squares = f_fma(x, x, squares);
    }
    const float sum = f_sum(squares);
    return sum <= FLT_MAX ? 1.0f / sqrtf(sum / (float)n + eps) : NAN; /* 1 / infinity would make the row zeros */
}

INLINE f32x16 normed(const float *row, const float *weight, f32x16 factor, int i) {
    return f_mul(f_mul(f_load(row + i), factor), f_load(weight + i));
}

INLINE void norm_row(float *row, const float *weight, int n, float eps) {
    const f32x16 factor = f_set(norm_factor(row, n, eps));
    for (int i = 0; i < n; i += LANES) f_store(row + i, normed(row, weight, factor, i));
}

/* Whether 16 x 2 values are finite, and the largest magnitude's bits: of floats that are not negative, bits are
 * ordered as the floats are, and those of what is not finite come last. */
INLINE int32_t most_bits(f32x16 a, f32x16 b) {
    const i32x16 magnitude = i_set(0x7fffffff);
    return i_most(i_max(i_and(f_bits(a), magnitude), i_and(f_bits(b), magnitude)));
}

#define NOT_FINITE 0x7f800000

#endif
