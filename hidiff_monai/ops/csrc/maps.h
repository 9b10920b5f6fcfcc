// Reading and writing sixteen channels of a pixel, in real-valued maps and in packed signs.
#pragma once

#include <immintrin.h>

#include "kernels.h"
#include "scratch.h"
#include "window.h"

namespace hidiff {
namespace {

inline int64_t offset_of(const Map& map, int64_t n, int64_t y, int64_t x) {
  return ((n * map.height + y) * map.width + x) * map.channels;
}

inline float load_one(const Map& map, int64_t at) {
  return map.is_half ? _cvtsh_ss(static_cast<const uint16_t*>(map.data)[at]) : static_cast<const float*>(map.data)[at];
}

// Sixteen channels from element `at` on.
template <bool kHalf>
inline Vector load_whole(const Map& map, int64_t at) {
  return kHalf ? load_half(static_cast<const uint16_t*>(map.data) + at)
               : load(static_cast<const float*>(map.data) + at);
}

// As load_whole, in a map of either type; lanes from `lanes` on are 0.
inline Vector load_lanes(const Map& map, int64_t at, int64_t lanes) {
  if (lanes >= kLanes) return map.is_half ? load_whole<true>(map, at) : load_whole<false>(map, at);
  float values[kLanes] = {};
  for (int64_t l = 0; l < lanes; ++l) values[l] = load_one(map, at + l);
  return load(values);
}

// Writes the first `lanes` channels from element `at` on.
template <bool kHalf>
inline void store_lanes(const Map& map, int64_t at, Vector v, int64_t lanes) {
  if (kHalf) {
    uint16_t* to = static_cast<uint16_t*>(map.data) + at;
    if (lanes >= kLanes) return store_half(to, v);
    uint16_t values[kLanes];
    store_half(values, v);
    std::memcpy(to, values, lanes * sizeof(uint16_t));
  } else {
    float* to = static_cast<float*>(map.data) + at;
    if (lanes >= kLanes) return store(to, v);
    float values[kLanes];
    store(values, v);
    std::memcpy(to, values, lanes * sizeof(float));
  }
}

// The pixel's words; y and x do not count the border.
inline uint32_t* words_of(const Bits& bits, int64_t n, int64_t y, int64_t x) {
  const int64_t height = bits.height + 2 * bits.border, width = bits.width + 2 * bits.border;
  return bits.data + ((n * height + y + bits.border) * width + x + bits.border) * bits.words;
}

// Writes the signs of sixteen channels; the last vector of an odd number clears the rest of its word.
inline void store_signs(uint32_t* words, int64_t vector, int64_t vectors, uint32_t signs, int64_t lanes) {
  if (lanes < kLanes) signs &= (1u << lanes) - 1;
  if (vector % 2 == 0 && vector + 1 == vectors) {
    words[vector / 2] = signs;
  } else {
    const uint16_t half = static_cast<uint16_t>(signs);
    std::memcpy(reinterpret_cast<char*>(words) + vector * sizeof(half), &half, sizeof(half));
  }
}

// Copies a table of floats to where there is room for whole vectors.
inline void copy_table(float* to, const float* from, int64_t count) { std::memcpy(to, from, count * sizeof(float)); }

}  // namespace
}  // namespace hidiff
