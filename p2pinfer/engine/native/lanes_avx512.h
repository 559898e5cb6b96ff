/* Virtual lanes in one register: AVX-512 with VNNI. */
#include <immintrin.h>

#include "lanes.h"

#define BIASED 1
#define TILE_GROUPS 2
#define TILE_ROWS 6
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS 4

typedef __m512 f32x16;
typedef __m512i i32x16;

INLINE f32x16 f_zero(void) { return _mm512_setzero_ps(); }
INLINE f32x16 f_set(float x) { return _mm512_set1_ps(x); }
INLINE f32x16 f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, f32x16 a) { _mm512_storeu_ps(p, a); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { return _mm512_add_ps(a, b); }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { return _mm512_sub_ps(a, b); }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { return _mm512_div_ps(a, b); }
INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { return _mm512_max_ps(a, b); }
INLINE f32x16 f_round(f32x16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE f32x16 f_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE i32x16 f_bits(f32x16 a) { return _mm512_castps_si512(a); }
INLINE f32x16 f_from_bits(i32x16 a) { return _mm512_castsi512_ps(a); }
INLINE i32x16 f_to_int(f32x16 a) { return _mm512_cvtps_epi32(a); }
INLINE float f_most(f32x16 a) { return _mm512_reduce_max_ps(a); }

INLINE f32x16 f_load_bytes(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE void f_store_half(uint16_t *p, f32x16 a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}

INLINE f32x16 f_first(f32x16 a, int n, f32x16 rest) {
    return _mm512_mask_blend_ps((__mmask16)(n < LANES ? (1u << n) - 1 : 0xffffu), rest, a);
}

INLINE float f_sum(f32x16 a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE i32x16 i_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { return _mm512_and_si512(a, b); }
INLINE i32x16 i_max(i32x16 a, i32x16 b) { return _mm512_max_epi32(a, b); }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { return _mm512_add_epi32(a, b); }
INLINE i32x16 i_shift_left(i32x16 a, int by) { return _mm512_slli_epi32(a, (unsigned)by); }
INLINE f32x16 i_to_float(i32x16 a) { return _mm512_cvtepi32_ps(a); }
INLINE void i_store_bytes(int8_t *p, i32x16 a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
INLINE int32_t i_sum(i32x16 a) { return _mm512_reduce_add_epi32(a); }
INLINE int32_t i_most(i32x16 a) { return _mm512_reduce_max_epi32(a); }

INLINE i32x16 i_dot(i32x16 sums, const uint8_t *w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(w), _mm512_set1_epi32(four));
}
