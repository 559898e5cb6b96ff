/* IEEE 754 binary16 in plain C, rounded to nearest even: what the conversions of other instruction sets do. */
#ifndef P2PINFER_HALF_H
#define P2PINFER_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define HALF_INFINITY 0x7c00u

static inline float float_of_bits(uint32_t bits) { float x; memcpy(&x, &bits, sizeof x); return x; }
static inline uint32_t bits_of_float(float x) { uint32_t bits; memcpy(&bits, &x, sizeof bits); return bits; }

static inline float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    if (rest < 0x0400u) return float_of_bits(sign | bits_of_float((float)rest * 0x1p-24f)); /* subnormal */
    if (rest >= HALF_INFINITY) return float_of_bits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    return float_of_bits(sign | ((rest << 13) + (112u << 23)));
}

static inline uint16_t float_to_half(float x) {
    const uint32_t bits = bits_of_float(x), rest = bits & 0x7fffffffu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u); /* not a number */
    if (rest >= 0x47800000u) return (uint16_t)(sign | HALF_INFINITY);
    if (rest < 0x38800000u) return (uint16_t)(sign | (uint16_t)rintf(float_of_bits(rest) * 0x1p24f)); /* subnormal */
    return (uint16_t)(sign | ((rest - (112u << 23) + 0xfffu + (rest >> 13 & 1u)) >> 13)); /* may carry to infinity */
}

#endif
