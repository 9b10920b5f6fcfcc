// Binary 3x3 convolution of a nearest-x2 upsampled source, counted at the low resolution: a quarter of the work.
//
// Each low-resolution pixel is compared with each of the nine taps once. An output pixel adds up nine of these counts:
// its upper row of taps reads the low-resolution row above or the same one, depending on the output row's parity, and so
// on; columns alike.
#pragma once

#include "convolution.h"

namespace hidiff {
namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kChunk = kTileVectors * kLanes;  // output channels of one chunk

// Counts of three neighbouring low-resolution rows, one pixel of border on either side: [row % 3][x + 1][tap][channel].
class TapCounts {
 public:
  TapCounts(const BinaryConv2d& conv, int64_t n, int64_t first, int64_t vectors)
      : conv_(conv), n_(n), first_(first), vectors_(vectors), width_(conv.x.width + 2), counts_(3 * row_size()) {}

  void count_row(int64_t y) {
    alignas(64) int32_t counts[kTilePixels * kTileVectors * kLanes];
    const Bits& bits = conv_.x;
    const int64_t tap_step = bits.words * kLanes, vector_step = kTaps * tap_step;
    for_each_tile(width_, vectors_, [&](int64_t x, int64_t pixels, Count count) {
      for (int64_t tap = 0; tap < kTaps; ++tap) {
        const Window window{words_of(bits, n_, y, x - 1), 1,           bits.words, 0, bits.words,
                            conv_.weight + first_ * vector_step + tap * tap_step, vector_step};
        count(&window, 1, counts);
        for (int64_t i = 0; i < pixels; ++i) {
          for (int64_t j = 0; j < vectors_; ++j) {
            narrow_counts(at(y, x - 1 + i, tap) + j * kLanes, counts + (i * kTileVectors + j) * kLanes);
          }
        }
      }
    });
  }

  // Adds the nine counts of output pixel (y, x) to counts[vectors * kLanes].
  void add_to(int64_t y, int64_t x, int32_t* counts) const {
    const int16_t* terms[kTaps];
    for (int64_t tap = 0; tap < kTaps; ++tap) terms[tap] = at(half(y + tap / 3 - 1), half(x + tap % 3 - 1), tap);
    for (int64_t j = 0; j < vectors_; ++j) {
      add_counts(counts + j * kLanes, terms, kTaps);
      for (int64_t tap = 0; tap < kTaps; ++tap) terms[tap] += kLanes;
    }
  }

 private:
  static int64_t half(int64_t position) { return position < 0 ? -1 : position / 2; }
  int64_t row_size() const { return width_ * kTaps * kChunk; }
  int16_t* at(int64_t y, int64_t x, int64_t tap) const {
    return counts_.get() + (y + 3) % 3 * row_size() + ((x + 1) * kTaps + tap) * kChunk;
  }

  const BinaryConv2d& conv_;
  int64_t n_, first_, vectors_, width_;
  Scratch<int16_t> counts_;
};

// A band of low-resolution rows and one chunk of output channels is one piece of work; threads work on different bands,
// since the signs of a pixel's channels share a cache line.
void convolve_upsampled(const BinaryConv2d& conv, const Threads& threads) {
  const Tables tables(conv);
  const Finish finish = finisher(conv);
  const int64_t low_height = conv.x.height, chunks = ceil_div(tables.vectors, kTileVectors);
  const int64_t bands = low_height < 16 ? 1 : ceil_div(low_height, 32 < low_height / 2 ? 32 : low_height / 2);
  const int64_t band_height = ceil_div(low_height, bands);
  for_each(conv.out.batch * bands * chunks, threads, [&](int64_t i) {
    const int64_t band = i % bands, n = i / bands % conv.out.batch, chunk = i / bands / conv.out.batch;
    const int64_t first = chunk * kTileVectors, begin = band * band_height;
    const int64_t end = begin + band_height < low_height ? begin + band_height : low_height;
    const int64_t vectors = chunk_vectors(tables, first);
    alignas(64) int32_t counts[kTilePixels * kTileVectors * kLanes];
    TapCounts taps(conv, n, first, vectors);
    taps.count_row(begin - 1);
    taps.count_row(begin);
    for (int64_t low = begin; low < end; ++low) {
      taps.count_row(low + 1);
      for (int64_t y = 2 * low; y < 2 * low + 2; ++y) {
        for_each_tile(conv.out.width, vectors, [&](int64_t x, int64_t pixels, Count count) {
          if (conv.extra.data == nullptr) {
            std::memset(counts, 0, sizeof(counts));
          } else {
            const Window window = window_at(conv.extra, conv.extra_weight, conv, n, y, x, first);
            count(&window, 1, counts);
          }
          for (int64_t p = 0; p < pixels; ++p) taps.add_to(y, x + p, counts + p * kChunk);
          finish(conv, tables, {n, y, x, pixels, first, vectors}, counts);
        });
      }
    }
  });
}

}  // namespace
}  // namespace hidiff
