// Binary convolution: counts tile by tile, then finishes each tile while it is in the nearest cache.
#pragma once

#include "epilogue.h"

namespace hidiff {
namespace {

using Count = void (*)(const Window*, int, int32_t*);

template <int Pixels>
Count counter(int64_t vectors) {
  switch (vectors) {
    case 1:
      return count_differences<Pixels, 1>;
    case 2:
      return count_differences<Pixels, 2>;
    case 3:
      return count_differences<Pixels, 3>;
    default:
      return count_differences<Pixels, 4>;
  }
}

// Pixels of the next tile of a row of which `rest` pixels are left.
inline int64_t tile_pixels(int64_t rest) {
  if (rest == 8) return 4;
  return rest >= 6 ? 6 : rest >= 4 ? 4 : rest >= 2 ? 2 : 1;
}

// Calls work(x, pixels, count) for each tile of a row.
template <typename Work>
void for_each_tile(int64_t width, int64_t vectors, const Work& work) {
  const Count six = counter<6>(vectors), four = counter<4>(vectors), two = counter<2>(vectors), one = counter<1>(vectors);
  for (int64_t x = 0; x < width;) {
    const int64_t pixels = tile_pixels(width - x);
    work(x, pixels, pixels == 6 ? six : pixels == 4 ? four : pixels == 2 ? two : one);
    x += pixels;
  }
}

// The window of the tile that begins at output pixel (y, x), for output channels from vector `first` on.
inline Window window_at(const Bits& bits, const uint32_t* weight, const BinaryConv2d& conv, int64_t n, int64_t y,
                        int64_t x, int64_t first) {
  const int64_t taps = conv.kernel_size * conv.kernel_size, reach = conv.kernel_size / 2;
  const int64_t vector_step = taps * bits.words * kLanes;
  return {words_of(bits, n % bits.batch, y * conv.stride - reach, x * conv.stride - reach),
          conv.kernel_size,
          conv.kernel_size * bits.words,
          (bits.width + 2 * bits.border) * bits.words,
          conv.stride * bits.words,
          weight + first * vector_step,
          vector_step};
}

constexpr int64_t kNearestCacheBytes = 40 << 10;  // weights beyond this crowd a usual nearest cache

// Vectors of output channels in the chunk that begins with vector `first`.
inline int64_t chunk_vectors(const Tables& tables, int64_t first) {
  return tables.vectors - first < kTileVectors ? tables.vectors - first : kTileVectors;
}

// A row of output pixels, for one chunk of output channels.
inline void convolve_row(const BinaryConv2d& conv, const Tables& tables, Finish finish, int64_t n, int64_t y,
                         int64_t first) {
  const int64_t vectors = chunk_vectors(tables, first);
  const int sources = conv.extra.data == nullptr ? 1 : 2;
  alignas(64) int32_t counts[kTilePixels * kTileVectors * kLanes];
  for_each_tile(conv.out.width, vectors, [&](int64_t x, int64_t pixels, Count count) {
    Window windows[2] = {window_at(conv.x, conv.weight, conv, n, y, x, first)};
    if (sources == 2) windows[1] = window_at(conv.extra, conv.extra_weight, conv, n, y, x, first);
    const Tile tile{n, y, x, pixels, first, vectors};
    prefetch_shortcut(conv.shortcut, conv.out, tile);
    count(windows, sources, counts);
    finish(conv, tables, tile, counts);
  });
}

// Threads never work on chunks of the same row at a time: the signs of a pixel's channels share a cache line.
void convolve(const BinaryConv2d& conv, const Threads& threads) {
  const Tables tables(conv);
  const Finish finish = finisher(conv);
  const int64_t height = conv.out.height, rows = conv.out.batch * height;
  const int64_t chunks = ceil_div(tables.vectors, kTileVectors);
  const int64_t words = conv.x.words + (conv.extra.data == nullptr ? 0 : conv.extra.words);
  const int64_t weight_bytes = tables.stride * conv.kernel_size * conv.kernel_size * words * 4;
  const bool rows_share_weights = weight_bytes > kNearestCacheBytes;  // keep a chunk's weights there, row after row
  const int64_t passes = rows_share_weights ? chunks : 1;
  for_each(passes * rows, threads, [&](int64_t i) {
    const int64_t n = i % rows / height, y = i % rows % height;
    const int64_t begin = rows_share_weights ? i / rows : 0, end = rows_share_weights ? begin + 1 : chunks;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      convolve_row(conv, tables, finish, n, y, chunk * kTileVectors);
    }
  });
}

}  // namespace
}  // namespace hidiff
