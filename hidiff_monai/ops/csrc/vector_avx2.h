// Sixteen floats, for the loops that are written once: AVX2 and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace hidiff {
namespace {

struct Vector {
  __m256 low, high;
};

inline __m128i load_eight(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline __m256i load_sixteen(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store_sixteen(void* to, __m256i a) { _mm256_storeu_si256(static_cast<__m256i*>(to), a); }

inline Vector load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
inline Vector load_half(const uint16_t* from) {
  return {_mm256_cvtph_ps(load_eight(from)), _mm256_cvtph_ps(load_eight(from + 8))};
}
inline void store(float* to, Vector a) {
  _mm256_storeu_ps(to, a.low);
  _mm256_storeu_ps(to + 8, a.high);
}
inline void store_half(uint16_t* to, Vector a) {
  const __m128i low = _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT);
  const __m128i high = _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT);
  store_sixteen(to, _mm256_set_m128i(high, low));
}
inline Vector fill(float a) { return {_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
inline Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }

// bit l: lane l of a is greater than lane l of b
inline uint32_t greater(Vector a, Vector b) {
  const uint32_t low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ));
  const uint32_t high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ));
  return low | high << 8;
}

inline __m256 rectify_eight(__m256 v, __m256 slope) {
  return _mm256_blendv_ps(_mm256_mul_ps(v, slope), v, _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));
}

// v where v > 0, else v * slope
inline Vector rectify(Vector v, Vector slope) {
  return {rectify_eight(v.low, slope.low), rectify_eight(v.high, slope.high)};
}

inline __m256 signed_sum_eight(const int32_t* base, const int32_t* count) {
  const __m256i twice = _mm256_slli_epi32(load_sixteen(count), 1);
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(load_sixteen(base), twice));
}

// float(base - 2 * count)
inline Vector signed_sum(const int32_t* base, const int32_t* count) {
  return {signed_sum_eight(base, count), signed_sum_eight(base + 8, count + 8)};
}

inline __m256 add_neighbours_eight(__m256 low, __m256 high) {
  const __m256 mixed = _mm256_hadd_ps(low, high);  // pairs of low and high, alternating by half
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
}

// sums of neighbours: (low0 + low1, low2 + low3, ..., high14 + high15)
inline Vector add_neighbours(Vector low, Vector high) {
  return {add_neighbours_eight(low.low, low.high), add_neighbours_eight(high.low, high.high)};
}

// sum of all lanes: l += l + 8, then + 4, + 2, + 1
inline float reduce(Vector a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// count[16] += the sum of `number` vectors of 16-bit counts
inline void add_counts(int32_t* count, const int16_t* const* terms, int number) {
  __m256i sum = load_sixteen(terms[0]);
  for (int i = 1; i < number; ++i) sum = _mm256_add_epi16(sum, load_sixteen(terms[i]));
  const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sum));
  const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sum, 1));
  store_sixteen(count, _mm256_add_epi32(load_sixteen(count), low));
  store_sixteen(count + 8, _mm256_add_epi32(load_sixteen(count + 8), high));
}

// sixteen counts below 2^15 as 16-bit numbers
inline void narrow_counts(int16_t* to, const int32_t* from) {
  const __m256i mixed = _mm256_packs_epi32(load_sixteen(from), load_sixteen(from + 8));
  store_sixteen(to, _mm256_permute4x64_epi64(mixed, 0xd8));
}

}  // namespace
}  // namespace hidiff
