/* Virtual lanes in plain C: the reference for all others. */
#include "half.h"
#include "lanes.h"

#define BIASED 0
#define TILE_GROUPS 1
#define TILE_ROWS 1
#define ATTENTION_ROWS 1
#define ATTENTION_VECTORS 1

typedef struct { float v[LANES]; } f32x16;
typedef struct { int32_t v[LANES]; } i32x16;

#define EACH for (int l = 0; l < LANES; l++)

INLINE f32x16 f_set(float x) { f32x16 r; EACH r.v[l] = x; return r; }
INLINE f32x16 f_zero(void) { return f_set(0.0f); }
INLINE f32x16 f_load(const float *p) { f32x16 r; memcpy(r.v, p, sizeof r.v); return r; }
INLINE void f_store(float *p, f32x16 a) { memcpy(p, a.v, sizeof a.v); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { EACH a.v[l] += b.v[l]; return a; }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { EACH a.v[l] -= b.v[l]; return a; }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { EACH a.v[l] *= b.v[l]; return a; }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { EACH a.v[l] /= b.v[l]; return a; }
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) { EACH c.v[l] = fmaf(a.v[l], b.v[l], c.v[l]); return c; }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { EACH a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l]; return a; }
INLINE f32x16 f_round(f32x16 a) { EACH a.v[l] = rintf(a.v[l]); return a; }
INLINE f32x16 f_load_half(const uint16_t *p) { f32x16 r; EACH r.v[l] = half_to_float(p[l]); return r; }
INLINE f32x16 f_load_bytes(const int8_t *p) { f32x16 r; EACH r.v[l] = (float)p[l]; return r; }
INLINE void f_store_half(uint16_t *p, f32x16 a) { EACH p[l] = float_to_half(a.v[l]); }
INLINE i32x16 f_bits(f32x16 a) { i32x16 r; memcpy(r.v, a.v, sizeof r.v); return r; }
INLINE f32x16 f_from_bits(i32x16 a) { f32x16 r; memcpy(r.v, a.v, sizeof r.v); return r; }
INLINE i32x16 f_to_int(f32x16 a) { i32x16 r; EACH r.v[l] = (int32_t)rintf(a.v[l]); return r; }
INLINE f32x16 f_first(f32x16 a, int n, f32x16 rest) { EACH a.v[l] = l < n ? a.v[l] : rest.v[l]; return a; }

INLINE float f_sum(f32x16 a) {
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) a.v[l] += a.v[l + half];
    return a.v[0];
}

INLINE float f_most(f32x16 a) {
    float most = a.v[0];
    EACH most = a.v[l] > most ? a.v[l] : most;
    return most;
}

INLINE i32x16 i_set(int32_t x) { i32x16 r; EACH r.v[l] = x; return r; }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { EACH a.v[l] &= b.v[l]; return a; }
INLINE i32x16 i_max(i32x16 a, i32x16 b) { EACH a.v[l] = a.v[l] > b.v[l] ? a.v[l] : b.v[l]; return a; }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { EACH a.v[l] += b.v[l]; return a; }
INLINE i32x16 i_shift_left(i32x16 a, int by) { EACH a.v[l] = (int32_t)((uint32_t)a.v[l] << by); return a; }
INLINE f32x16 i_to_float(i32x16 a) { f32x16 r; EACH r.v[l] = (float)a.v[l]; return r; }
INLINE void i_store_bytes(int8_t *p, i32x16 a) { EACH p[l] = (int8_t)a.v[l]; }
INLINE int32_t i_sum(i32x16 a) { int32_t sum = 0; EACH sum += a.v[l]; return sum; }

INLINE int32_t i_most(i32x16 a) {
    int32_t most = a.v[0];
    EACH most = a.v[l] > most ? a.v[l] : most;
    return most;
}

INLINE i32x16 i_dot(i32x16 sums, const uint8_t *w, const int8_t *x) {
    EACH for (int k = 0; k < 4; k++) sums.v[l] += (int32_t)(int8_t)w[4 * l + k] * x[k];
    return sums;
}
