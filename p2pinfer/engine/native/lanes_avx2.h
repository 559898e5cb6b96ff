/* Virtual lanes in two registers: AVX2 with FMA and F16C. */
#include <immintrin.h>

#include "lanes.h"

#define BIASED 0
#define TILE_GROUPS 1
#define TILE_ROWS 2
#define ATTENTION_ROWS 2
#define ATTENTION_VECTORS 2

typedef struct { __m256 low, high; } f32x16;
typedef struct { __m256i low, high; } i32x16;

#define BOTH(type, operation) ((type){operation(a.low, b.low), operation(a.high, b.high)})

INLINE f32x16 f_set(float x) { return (f32x16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE f32x16 f_zero(void) { return (f32x16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE f32x16 f_load(const float *p) { return (f32x16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void f_store(float *p, f32x16 a) { _mm256_storeu_ps(p, a.low); _mm256_storeu_ps(p + 8, a.high); }
INLINE f32x16 f_add(f32x16 a, f32x16 b) { return BOTH(f32x16, _mm256_add_ps); }
INLINE f32x16 f_sub(f32x16 a, f32x16 b) { return BOTH(f32x16, _mm256_sub_ps); }
INLINE f32x16 f_mul(f32x16 a, f32x16 b) { return BOTH(f32x16, _mm256_mul_ps); }
INLINE f32x16 f_div(f32x16 a, f32x16 b) { return BOTH(f32x16, _mm256_div_ps); }
INLINE f32x16 f_max(f32x16 a, f32x16 b) { return BOTH(f32x16, _mm256_max_ps); }
INLINE i32x16 f_bits(f32x16 a) { return (i32x16){_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }
INLINE f32x16 f_from_bits(i32x16 a) { return (f32x16){_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
INLINE i32x16 f_to_int(f32x16 a) { return (i32x16){_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }

INLINE f32x16 f_fma(f32x16 a, f32x16 b, f32x16 c) {
    return (f32x16){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}

INLINE f32x16 f_round(f32x16 a) {
    const int even = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return (f32x16){_mm256_round_ps(a.low, even), _mm256_round_ps(a.high, even)};
}

INLINE f32x16 f_load_half(const uint16_t *p) {
    return (f32x16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                    _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

INLINE f32x16 f_load_bytes(const int8_t *p) {
    return (f32x16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p))),
                    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8))))};
}

INLINE void f_store_half(uint16_t *p, f32x16 a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT));
}

INLINE f32x16 f_first(f32x16 a, int n, f32x16 rest) {
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), at));
    const __m256 high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), at));
    return (f32x16){_mm256_blendv_ps(rest.low, a.low, low), _mm256_blendv_ps(rest.high, a.high, high)};
}

INLINE float f_sum(f32x16 a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float f_most(f32x16 a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

INLINE i32x16 i_set(int32_t x) { return (i32x16){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE i32x16 i_and(i32x16 a, i32x16 b) { return BOTH(i32x16, _mm256_and_si256); }
INLINE i32x16 i_max(i32x16 a, i32x16 b) { return BOTH(i32x16, _mm256_max_epi32); }
INLINE i32x16 i_add(i32x16 a, i32x16 b) { return BOTH(i32x16, _mm256_add_epi32); }
INLINE f32x16 i_to_float(i32x16 a) { return (f32x16){_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }

INLINE i32x16 i_shift_left(i32x16 a, int by) {
    return (i32x16){_mm256_slli_epi32(a.low, by), _mm256_slli_epi32(a.high, by)};
}

INLINE void i_store_bytes(int8_t *p, i32x16 a) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

INLINE int32_t i_sum(i32x16 a) {
    const __m256i eight = _mm256_add_epi32(a.low, a.high);
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

INLINE int32_t i_most(i32x16 a) {
    const __m256i eight = _mm256_max_epi32(a.low, a.high);
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* Pairs of products are added in int16 and saturate there: |x| and |w| are at most 127, so that two fit. */
INLINE __m256i dot_eight(__m256i sums, __m256i w, __m256i x, __m256i x_size) {
    const __m256i pairs = _mm256_maddubs_epi16(x_size, _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE i32x16 i_dot(i32x16 sums, const uint8_t *w, const int8_t *x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    const __m256i all = _mm256_set1_epi32(four), size = _mm256_abs_epi8(all);
    return (i32x16){dot_eight(sums.low, _mm256_loadu_si256((const __m256i *)w), all, size),
                    dot_eight(sums.high, _mm256_loadu_si256((const __m256i *)(w + 32)), all, size)};
}
