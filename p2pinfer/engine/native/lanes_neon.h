/* Virtual lanes in four registers: NEON with the dot products of ARMv8.2. */
#include <arm_neon.h>

#include "lanes.h"

#define BIASED 0
#define TILE_GROUPS 1
#define TILE_ROWS 2
#define ATTENTION_ROWS 2
#define ATTENTION_VECTORS 2

typedef struct { float32x4_t v[4]; } f32x16;
typedef struct { int32x4_t v[4]; } i32x16;

#define EACH for (int q = 0; q < 4; q++)

INLINE f32x16 f_set(float x) { f32x16 r; EACH r.v[q] = vdupq_n_f32(x); return r; }
INLINE f32x16 f_zero(void) { return f_set(0.0f); }
INLINE f32x16 f_load(const float *p) { f32x16 r; EACH r.v[q] = vld1q_f32(p + 4 * q); return r; }
INLINE void f_store(float *p, f32x16 a) { EACH vst1q_f32(p + 4 * q, a.v[q]); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { EACH a.v[q] = vaddq_f32(a.v[q], b.v[q]); return a; }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { EACH a.v[q] = vsubq_f32(a.v[q], b.v[q]); return a; }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { EACH a.v[q] = vmulq_f32(a.v[q], b.v[q]); return a; }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { EACH a.v[q] = vdivq_f32(a.v[q], b.v[q]); return a; }
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) { EACH c.v[q] = vfmaq_f32(c.v[q], a.v[q], b.v[q]); return c; }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { EACH a.v[q] = vmaxq_f32(a.v[q], b.v[q]); return a; }
INLINE f32x16 f_round(f32x16 a) { EACH a.v[q] = vrndnq_f32(a.v[q]); return a; }
INLINE i32x16 f_bits(f32x16 a) { i32x16 r; EACH r.v[q] = vreinterpretq_s32_f32(a.v[q]); return r; }
INLINE f32x16 f_from_bits(i32x16 a) { f32x16 r; EACH r.v[q] = vreinterpretq_f32_s32(a.v[q]); return r; }
INLINE i32x16 f_to_int(f32x16 a) { i32x16 r; EACH r.v[q] = vcvtnq_s32_f32(a.v[q]); return r; }

INLINE f32x16 f_load_half(const uint16_t *p) {
    f32x16 r;
    EACH r.v[q] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * q)));
    return r;
}

INLINE f32x16 f_load_bytes(const int8_t *p) {
    const int8x16_t bytes = vld1q_s8(p);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (f32x16){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                     vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}

INLINE void f_store_half(uint16_t *p, f32x16 a) {
    EACH vst1_u16(p + 4 * q, vreinterpret_u16_f16(vcvt_f16_f32(a.v[q])));
}

INLINE f32x16 f_first(f32x16 a, int n, f32x16 rest) {
    static const int32_t first[4] = {0, 1, 2, 3};
    EACH a.v[q] = vbslq_f32(vcltq_s32(vld1q_s32(first), vdupq_n_s32(n - 4 * q)), a.v[q], rest.v[q]);
    return a;
}

INLINE float f_sum(f32x16 a) {
    const float32x4_t four = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

INLINE float f_most(f32x16 a) {
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3])));
}

INLINE i32x16 i_set(int32_t x) { i32x16 r; EACH r.v[q] = vdupq_n_s32(x); return r; }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { EACH a.v[q] = vandq_s32(a.v[q], b.v[q]); return a; }
INLINE i32x16 i_max(i32x16 a, i32x16 b) { EACH a.v[q] = vmaxq_s32(a.v[q], b.v[q]); return a; }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { EACH a.v[q] = vaddq_s32(a.v[q], b.v[q]); return a; }
INLINE i32x16 i_shift_left(i32x16 a, int by) { EACH a.v[q] = vshlq_s32(a.v[q], vdupq_n_s32(by)); return a; }
INLINE f32x16 i_to_float(i32x16 a) { f32x16 r; EACH r.v[q] = vcvtq_f32_s32(a.v[q]); return r; }

INLINE void i_store_bytes(int8_t *p, i32x16 a) {
    const int16x8_t low = vcombine_s16(vmovn_s32(a.v[0]), vmovn_s32(a.v[1]));
    const int16x8_t high = vcombine_s16(vmovn_s32(a.v[2]), vmovn_s32(a.v[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

INLINE int32_t i_sum(i32x16 a) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(a.v[0], a.v[1]), vaddq_s32(a.v[2], a.v[3])));
}

INLINE int32_t i_most(i32x16 a) {
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.v[0], a.v[1]), vmaxq_s32(a.v[2], a.v[3])));
}

INLINE i32x16 i_dot(i32x16 sums, const uint8_t *w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const int8x16_t all = vreinterpretq_s8_s32(vdupq_n_s32(four));
    EACH sums.v[q] = vdotq_s32(sums.v[q], vreinterpretq_s8_u8(vld1q_u8(w + 16 * q)), all);
    return sums;
}
