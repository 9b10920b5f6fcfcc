// Differing bits of a tile of pixels and output channels, counted by a table of half bytes: AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "window.h"

namespace hidiff {
namespace {

// ones in each byte, 0 ... 8
inline __m256i count_bytes(__m256i bits) {
  const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(15);
  const __m256i low = _mm256_shuffle_epi8(ones, _mm256_and_si256(bits, half));
  const __m256i high = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi32(bits, 4), half));
  return _mm256_add_epi8(low, high);
}

// sums of the four bytes of each lane
inline __m256i widen(__m256i bytes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
}

// Eight channels of Pixels pixels.
template <int Pixels>
inline void count_eight(const Window* windows, int number, int64_t offset, int32_t* counts) {
  constexpr int kWordsPerByte = 31;  // 31 * 8 ones fit in a byte
  __m256i sums[Pixels], bytes[Pixels];
#pragma GCC unroll 8
  for (int i = 0; i < Pixels; ++i) sums[i] = bytes[i] = _mm256_setzero_si256();
  int filled = 0;
  for (int k = 0; k < number; ++k) {
    const Window& window = windows[k];
    const uint32_t* weight = window.weight + offset;
    const uint32_t* words = window.words;
    for (int64_t row = 0; row < window.rows; ++row, words += window.row_step) {
      for (int64_t l = 0; l < window.run; ++l, weight += kLanes) {
        const __m256i filter = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight));
#pragma GCC unroll 8
        for (int i = 0; i < Pixels; ++i) {
          const __m256i x = _mm256_set1_epi32(static_cast<int32_t>(words[i * window.pixel_step + l]));
          bytes[i] = _mm256_add_epi8(bytes[i], count_bytes(_mm256_xor_si256(x, filter)));
        }
        if (++filled == kWordsPerByte) {
          filled = 0;
#pragma GCC unroll 8
          for (int i = 0; i < Pixels; ++i) {
            sums[i] = _mm256_add_epi32(sums[i], widen(bytes[i]));
            bytes[i] = _mm256_setzero_si256();
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Pixels; ++i) {
    sums[i] = _mm256_add_epi32(sums[i], widen(bytes[i]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts + i * kTileVectors * kLanes), sums[i]);
  }
}

// counts[pixel][kTileVectors * kLanes] = differing bits, for Pixels pixels and Vectors vectors of channels.
template <int Pixels, int Vectors>
inline void count_differences(const Window* windows, int number, int32_t* counts) {
  constexpr int kSide = Pixels == 6 ? 3 : Pixels;  // more pixels side by side do not fit into sixteen registers
  for (int first = 0; first < Pixels; first += kSide) {
    for (int j = 0; j < Vectors; ++j) {
      Window part[2];
      for (int k = 0; k < number; ++k) {
        part[k] = windows[k];
        part[k].words += first * windows[k].pixel_step;
        part[k].weight += j * windows[k].vector_step;
      }
      int32_t* to = counts + (first * kTileVectors + j) * kLanes;
      for (int half = 0; half < 2; ++half) count_eight<kSide>(part, number, half * 8, to + half * 8);
    }
  }
}

}  // namespace
}  // namespace hidiff
