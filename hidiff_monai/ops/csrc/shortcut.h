// The parameter-free shortcut around a convolution: resampled in space, repeated or averaged over channels.
#pragma once

#include "maps.h"

namespace hidiff {
namespace {

// What the fast loops tell apart; kGeneral takes channel by channel whatever fits none of them.
enum class Shortcut { kNone, kSame, kPooled, kAveraged, kGeneral };

inline bool is_pooled(const Map& from, const Map& to) { return from.height == 2 * to.height; }
inline bool is_upsampled(const Map& from, const Map& to) { return 2 * from.height == to.height; }

inline Shortcut kind_of(const Map& from, const Map& to) {
  if (from.data == nullptr) return Shortcut::kNone;
  const bool is_whole = to.channels % kLanes == 0 && from.channels % kLanes == 0;
  if (!is_whole) return Shortcut::kGeneral;
  if (from.channels <= to.channels) return is_pooled(from, to) ? Shortcut::kPooled : Shortcut::kSame;
  return from.channels == 2 * to.channels && !is_pooled(from, to) ? Shortcut::kAveraged : Shortcut::kGeneral;
}

// First element of the pixel that output pixel (y, x) reads: of the four that are averaged, the upper left.
inline int64_t shortcut_pixel(const Map& from, const Map& to, int64_t n, int64_t y, int64_t x) {
  if (is_upsampled(from, to)) return offset_of(from, n, y / 2, x / 2);
  return is_pooled(from, to) ? offset_of(from, n, 2 * y, 2 * x) : offset_of(from, n, y, x);
}

// Sixteen channels at `at` of the mean of 2x2 pixels.
template <bool kHalf>
inline Vector load_pooled(const Map& from, int64_t at) {
  const int64_t column = from.channels, row = from.width * column;
  const Vector three = load_whole<kHalf>(from, at) + load_whole<kHalf>(from, at + column) +
                       load_whole<kHalf>(from, at + row);
  return (three + load_whole<kHalf>(from, at + row + column)) * fill(0.25f);
}

// Sixteen channels from `channel` on; `at` is the pixel's first element.
template <Shortcut kKind, bool kHalf>
inline Vector load_shortcut(const Map& from, int64_t at, int64_t channel) {
  if (kKind == Shortcut::kAveraged) {
    const Vector low = load_whole<kHalf>(from, at + 2 * channel);
    return add_neighbours(low, load_whole<kHalf>(from, at + 2 * channel + kLanes)) * fill(0.5f);
  }
  while (channel >= from.channels) channel -= from.channels;  // repeated
  return kKind == Shortcut::kPooled ? load_pooled<kHalf>(from, at + channel) : load_whole<kHalf>(from, at + channel);
}

inline float load_one_pooled(const Map& from, bool pooled, int64_t at) {
  const float first = load_one(from, at);
  if (!pooled) return first;
  const int64_t column = from.channels, row = from.width * column;
  return (first + load_one(from, at + column) + load_one(from, at + row) + load_one(from, at + row + column)) * 0.25f;
}

// As load_shortcut, for any numbers of channels.
inline Vector load_general(const Map& from, const Map& to, int64_t at, int64_t channel) {
  const bool pooled = is_pooled(from, to);
  const int64_t averaged = from.channels > to.channels ? from.channels / to.channels : 1;
  float values[kLanes] = {};
  for (int64_t l = 0; l < kLanes && channel + l < to.channels; ++l) {
    const int64_t first = averaged == 1 ? (channel + l) % from.channels : (channel + l) * averaged;
    float sum = load_one_pooled(from, pooled, at + first);
    for (int64_t i = 1; i < averaged; ++i) sum += load_one_pooled(from, pooled, at + first + i);
    values[l] = averaged == 1 ? sum : sum * (1.0f / static_cast<float>(averaged));
  }
  return load(values);
}

}  // namespace
}  // namespace hidiff
