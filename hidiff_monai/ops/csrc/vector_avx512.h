// Sixteen floats, for the loops that are written once: AVX-512.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace hidiff {
namespace {

struct Vector {
  __m512 value;
};

inline Vector load(const float* from) { return {_mm512_loadu_ps(from)}; }
inline Vector load_half(const uint16_t* from) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
}
inline void store(float* to, Vector a) { _mm512_storeu_ps(to, a.value); }
inline void store_half(uint16_t* to, Vector a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(a.value, _MM_FROUND_TO_NEAREST_INT));
}
inline Vector fill(float a) { return {_mm512_set1_ps(a)}; }
inline Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.value, b.value)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.value, b.value)}; }

// bit l: lane l of a is greater than lane l of b
inline uint32_t greater(Vector a, Vector b) { return _mm512_cmp_ps_mask(a.value, b.value, _CMP_GT_OQ); }

// v where v > 0, else v * slope
inline Vector rectify(Vector v, Vector slope) {
  const __mmask16 stays = _mm512_cmp_ps_mask(v.value, _mm512_setzero_ps(), _CMP_GT_OQ);
  return {_mm512_mask_blend_ps(stays, _mm512_mul_ps(v.value, slope.value), v.value)};
}

// float(base - 2 * count)
inline Vector signed_sum(const int32_t* base, const int32_t* count) {
  const __m512i twice = _mm512_slli_epi32(_mm512_loadu_si512(count), 1);
  return {_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(base), twice))};
}

// sums of neighbours: (low0 + low1, low2 + low3, ..., high14 + high15)
inline Vector add_neighbours(Vector low, Vector high) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return {_mm512_add_ps(_mm512_permutex2var_ps(low.value, even, high.value),
                        _mm512_permutex2var_ps(low.value, odd, high.value))};
}

// sum of all lanes: l += l + 8, then + 4, + 2, + 1
inline float reduce(Vector a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.value), _mm512_extractf32x8_ps(a.value, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

// count[16] += the sum of `number` vectors of 16-bit counts
inline void add_counts(int32_t* count, const int16_t* const* terms, int number) {
  __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(terms[0]));
  for (int i = 1; i < number; ++i) {
    sum = _mm256_add_epi16(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(terms[i])));
  }
  _mm512_storeu_si512(count, _mm512_add_epi32(_mm512_loadu_si512(count), _mm512_cvtepu16_epi32(sum)));
}

// sixteen counts below 2^15 as 16-bit numbers
inline void narrow_counts(int16_t* to, const int32_t* from) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_loadu_si512(from)));
}

}  // namespace
}  // namespace hidiff
