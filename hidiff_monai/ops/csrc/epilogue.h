// What follows a binary convolution in one pass: scale and shift, shortcut, activation, storing, the next signs.
#pragma once

#include "shortcut.h"

namespace hidiff {
namespace {

// A convolution's tables with room for whole vectors of channels: as they were given, where they have it, else copied.
// Without TA the slope is 1 and the shift 0.
class Tables {
 public:
  explicit Tables(const BinaryConv2d& conv)
      : vectors(ceil_div(conv.out.channels, kLanes)),
        stride(vectors * kLanes),
        is_whole_(conv.out.channels == stride),
        floats_(is_whole_ ? 2 * stride : 8 * stride),
        integers_(is_whole_ ? 0 : 16 * stride) {
    for (int64_t c = 0; c < stride; ++c) floats_.get()[c] = 1;  // the other row stays 0
    const float *const ones = floats_.get(), *const zeros = ones + stride;
    scale = fit(conv.scale, 2, conv.out.channels);
    bias = fit(conv.bias, 3, conv.out.channels);
    slope = conv.slope == nullptr ? ones : fit(conv.slope, 4, conv.out.channels);
    zeta = conv.zeta == nullptr ? zeros : fit(conv.zeta, 5, conv.out.channels);
    threshold = fit(conv.threshold, 6, conv.out.channels);
    skip_threshold = fit(conv.skip_threshold, 7, conv.out.channels);
    base = is_whole_ ? conv.base : integers_.get();
    for (int i = 0; i < 16 && !is_whole_; ++i) {
      std::memcpy(integers_.get() + i * stride, conv.base + i * conv.out.channels, conv.out.channels * sizeof(int32_t));
    }
  }

  const int64_t vectors, stride;

 private:
  const float* fit(const float* table, int64_t row, int64_t channels) {
    if (is_whole_ || table == nullptr) return table;
    copy_table(floats_.get() + row * stride, table, channels);
    return floats_.get() + row * stride;
  }

  const bool is_whole_;
  Scratch<float> floats_;
  Scratch<int32_t> integers_;

 public:
  const float *scale, *bias, *slope, *zeta, *threshold, *skip_threshold;
  const int32_t* base;
};

// 1 where a kernel's first row or column of taps lies in the border, 2 where its last does.
inline int64_t border_class(const BinaryConv2d& conv, int64_t position, int64_t input_size) {
  if (conv.kernel_size == 1) return 0;
  const int64_t centre = position * conv.stride;
  return (centre == 0 ? 1 : 0) + (centre + 1 >= input_size ? 2 : 0);
}

// Pixels (y, x) ... (y, x + pixels - 1) and a chunk of output channels.
struct Tile {
  int64_t n, y, x, pixels;
  int64_t first, vectors;  // of output channels
};

// Asks for the tile's part of the shortcut, so that it is near when the tile has been counted.
inline void prefetch_shortcut(const Map& shortcut, const Map& out, const Tile& tile) {
  if (shortcut.data == nullptr) return;
  constexpr int64_t kLine = 64;
  const int64_t bytes = shortcut.is_half ? 2 : 4, averaged = (shortcut.channels + out.channels - 1) / out.channels;
  const int64_t channels = tile.vectors * kLanes * averaged, rows = is_pooled(shortcut, out) ? 2 : 1;
  int64_t first = tile.first * kLanes * averaged;
  while (first >= shortcut.channels) first -= shortcut.channels;
  for (int64_t i = 0; i < tile.pixels; ++i) {
    const int64_t pixel = shortcut_pixel(shortcut, out, tile.n, tile.y, tile.x + i) + first;
    for (int64_t p = 0; p < rows * rows; ++p) {
      const int64_t at = pixel + (p / 2 * shortcut.width + p % 2) * shortcut.channels;
      const char* from = static_cast<const char*>(shortcut.data) + at * bytes;
      for (int64_t byte = 0; byte < channels * bytes; byte += kLine) _mm_prefetch(from + byte, _MM_HINT_T0);
    }
  }
}

// Finishes what count_differences left in `counts` for a tile. kHalf: shortcut and result are float16 maps.
template <Shortcut kKind, bool kHalf>
void finish(const BinaryConv2d& conv, const Tables& tables, const Tile& tile, const int32_t* counts) {
  // copies: what is stored below could change the originals, as far as the compiler knows
  const Map shortcut = conv.shortcut, out = conv.out;
  const Bits packed = conv.packed, skip_packed = conv.skip_packed;
  const float *const scale = tables.scale, *const bias = tables.bias, *const slope = tables.slope;
  const float *const zeta = tables.zeta, *const threshold = tables.threshold, *const skip_threshold = tables.skip_threshold;
  const int64_t all = tables.vectors, begin = tile.first, end = begin + tile.vectors;
  const int64_t factor = conv.upsample ? 2 : 1;
  const int64_t row_class = border_class(conv, tile.y, factor * conv.x.height);
  int64_t to = out.data == nullptr ? 0 : offset_of(out, tile.n, tile.y, tile.x);
  uint32_t* words = packed.data == nullptr ? nullptr : words_of(packed, tile.n, tile.y, tile.x);
  uint32_t* skip = skip_packed.data == nullptr ? nullptr : words_of(skip_packed, tile.n, tile.y, tile.x);
  for (int64_t i = 0; i < tile.pixels; ++i, counts += kTileVectors * kLanes) {
    const int64_t x = tile.x + i;
    const int64_t column_class = border_class(conv, x, factor * conv.x.width);
    const int32_t* const base = tables.base + (4 * row_class + column_class) * tables.stride;
    const int64_t from = kKind == Shortcut::kNone ? 0 : shortcut_pixel(shortcut, out, tile.n, tile.y, x);
    for (int64_t vector = begin; vector < end; ++vector) {
      const int64_t c = vector * kLanes, lanes = out.channels - c;
      Vector v = signed_sum(base + c, counts + (vector - begin) * kLanes) * load(scale + c) + load(bias + c);
      if (kKind == Shortcut::kGeneral) {
        v = v + load_general(shortcut, out, from, c);
      } else if (kKind != Shortcut::kNone) {
        v = v + load_shortcut<kKind, kHalf>(shortcut, from, c);
      }
      v = rectify(v, load(slope + c)) + load(zeta + c);
      if (words != nullptr) store_signs(words, vector, all, greater(v, load(threshold + c)), lanes);
      if (skip != nullptr) store_signs(skip, vector, all, greater(v, load(skip_threshold + c)), lanes);
      if (out.data != nullptr) store_lanes<kHalf>(out, to + c, v, lanes);
    }
    to += out.channels;
    if (words != nullptr) words += packed.words;
    if (skip != nullptr) skip += skip_packed.words;
  }
}

using Finish = void (*)(const BinaryConv2d&, const Tables&, const Tile&, const int32_t*);

template <bool kHalf>
Finish finisher(Shortcut kind) {
  switch (kind) {
    case Shortcut::kNone:
      return finish<Shortcut::kNone, kHalf>;
    case Shortcut::kSame:
      return finish<Shortcut::kSame, kHalf>;
    case Shortcut::kPooled:
      return finish<Shortcut::kPooled, kHalf>;
    case Shortcut::kAveraged:
      return finish<Shortcut::kAveraged, kHalf>;
    default:
      return finish<Shortcut::kGeneral, kHalf>;
  }
}

// The loop for a convolution's shortcut and its maps' types; different types are taken channel by channel.
inline Finish finisher(const BinaryConv2d& conv) {
  const bool is_mixed = conv.shortcut.data != nullptr && conv.out.data != nullptr &&
                        conv.shortcut.is_half != conv.out.is_half;
  const Shortcut kind = is_mixed ? Shortcut::kGeneral : kind_of(conv.shortcut, conv.out);
  const bool is_half = conv.out.data == nullptr ? conv.shortcut.is_half : conv.out.is_half;
  return is_half ? finisher<true>(kind) : finisher<false>(kind);
}

}  // namespace
}  // namespace hidiff
