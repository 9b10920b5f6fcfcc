// Differing bits of a tile of pixels and output channels, counted in registers: AVX-512 VPOPCNTDQ.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "window.h"

namespace hidiff {
namespace {

// counts[pixel][kTileVectors * kLanes] += or = differing bits, for Pixels pixels and Vectors vectors of channels.
template <int Pixels, int Vectors>
inline void count_differences(const Window* windows, int number, int32_t* counts) {
  __m512i sums[Pixels][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Pixels; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) sums[i][j] = _mm512_setzero_si512();
  }
  for (int k = 0; k < number; ++k) {
    const Window& window = windows[k];
    const uint32_t* weight = window.weight;
    const uint32_t* words = window.words;
    for (int64_t row = 0; row < window.rows; ++row, words += window.row_step) {
      for (int64_t l = 0; l < window.run; ++l, weight += kLanes) {
        __m512i filter[Vectors];
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) filter[j] = _mm512_loadu_si512(weight + j * window.vector_step);
#pragma GCC unroll 16
        for (int i = 0; i < Pixels; ++i) {
          const __m512i x = _mm512_set1_epi32(static_cast<int32_t>(words[i * window.pixel_step + l]));
#pragma GCC unroll 4
          for (int j = 0; j < Vectors; ++j) {
            sums[i][j] = _mm512_add_epi32(sums[i][j], _mm512_popcnt_epi32(_mm512_xor_si512(x, filter[j])));
          }
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Pixels; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) {
      _mm512_storeu_si512(counts + (i * kTileVectors + j) * kLanes, sums[i][j]);
    }
  }
}

}  // namespace
}  // namespace hidiff
