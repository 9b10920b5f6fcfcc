// The real-valued ends of the refiner, and the packing of real-valued maps.
#pragma once

#include "maps.h"

namespace hidiff {
namespace {

// Rows of a batch of maps, one piece of work each.
template <typename Work>
void for_each_row(int64_t batch, int64_t height, const Threads& threads, const Work& work) {
  for_each(batch * height, threads, [&](int64_t i) { work(i / height, i % height); });
}

void pack(const PackSigns& args, const Threads& threads) {
  const Map& values = args.values;
  const int64_t vectors = ceil_div(values.channels, kLanes);
  const Scratch<float> threshold(vectors * kLanes);
  copy_table(threshold.get(), args.threshold, values.channels);
  for_each_row(values.batch, values.height, threads, [&](int64_t n, int64_t y) {
    for (int64_t x = 0; x < values.width; ++x) {
      const int64_t pixel = offset_of(values, n, y, x);
      uint32_t* words = words_of(args.packed, n, y, x);
      for (int64_t j = 0; j < vectors; ++j) {
        const int64_t channel = j * kLanes, lanes = values.channels - channel;
        const Vector v = load_lanes(values, pixel + channel, lanes);
        store_signs(words, j, vectors, greater(v, load(threshold.get() + channel)), lanes);
      }
    }
  });
}

constexpr int64_t kStemVectors = 8;  // vectors of channels that are added up side by side, in registers

// Three rows of a target's signs around row y, with a zero on either side: [row][target][x + 1].
inline void copy_rows(const StemConv2d& args, int64_t n, int64_t y, float* rows) {
  const int64_t height = args.share.height, width = args.share.width, size = args.targets * (width + 2);
  std::memset(rows, 0, 3 * size * sizeof(float));
  for (int64_t row = 0; row < 3; ++row) {
    const int64_t from = y + row - 1;
    if (from < 0 || from >= height) continue;
    for (int64_t k = 0; k < args.targets; ++k) {
      const float* signs = args.signs + ((n * args.targets + k) * height + from) * width;
      std::memcpy(rows + row * size + k * (width + 2) + 1, signs, width * sizeof(float));
    }
  }
}

// Adds sign * weight of every tap and target to Vectors vectors of channels of pixel x, and stores them and their signs.
template <int Vectors>
void stem_pixel(const StemConv2d& args, const float* weight, const float* threshold, const float* rows, int64_t x,
                int64_t from, int64_t to, uint32_t* words, int64_t first) {
  const Map& share = args.share;
  const int64_t all = ceil_div(share.channels, kLanes), size = share.width + 2;
  Vector sums[Vectors];
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) {
    const int64_t c = (first + j) * kLanes;
    sums[j] = load_lanes(share, from + c, share.channels - c);
  }
  for (int64_t tap = 0; tap < 9; ++tap) {
    for (int64_t k = 0; k < args.targets; ++k, weight += all * kLanes) {
      const Vector sign = fill(rows[(tap / 3 * args.targets + k) * size + x + tap % 3]);
#pragma GCC unroll 8
      for (int j = 0; j < Vectors; ++j) sums[j] = sums[j] + sign * load(weight + (first + j) * kLanes);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < Vectors; ++j) {
    const int64_t c = (first + j) * kLanes, lanes = share.channels - c;
    store_signs(words, first + j, all, greater(sums[j], load(threshold + c)), lanes);
    if (args.out.data == nullptr) continue;
    args.out.is_half ? store_lanes<true>(args.out, to + c, sums[j], lanes)
                     : store_lanes<false>(args.out, to + c, sums[j], lanes);
  }
}

void stem(const StemConv2d& args, const Threads& threads) {
  const Map& share = args.share;
  const int64_t channels = share.channels, vectors = ceil_div(channels, kLanes), stride = vectors * kLanes;
  const int64_t terms = 9 * args.targets;
  const Scratch<float> threshold(stride), weight(terms * stride);
  copy_table(threshold.get(), args.threshold, channels);
  for (int64_t row = 0; row < terms; ++row) {
    copy_table(weight.get() + row * stride, args.weight + row * channels, channels);
  }
  for_each_row(args.packed.batch, share.height, threads, [&](int64_t n, int64_t y) {
    const Scratch<float> rows(3 * args.targets * (share.width + 2));
    copy_rows(args, n, y, rows.get());
    for (int64_t x = 0; x < share.width; ++x) {
      const int64_t from = offset_of(share, n % share.batch, y, x), to = offset_of(share, n, y, x);
      uint32_t* words = words_of(args.packed, n, y, x);
      for (int64_t first = 0; first < vectors;) {
        const bool is_wide = first + kStemVectors <= vectors;
        const auto pixel = is_wide ? stem_pixel<kStemVectors> : stem_pixel<1>;
        pixel(args, weight.get(), threshold.get(), rows.get(), x, from, to, words, first);
        first += is_wide ? kStemVectors : 1;
      }
    }
  });
}

// dots[term * width + pixel] of nine terms for Pixels pixels, side by side so that each weight is loaded once.
template <int Pixels>
void head_pixels(const Map& values, const float* weight, int64_t at, float* dots) {
  const int64_t vectors = ceil_div(values.channels, kLanes), stride = vectors * kLanes;
  Vector sums[Pixels][9];
#pragma GCC unroll 2
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) sums[p][i] = fill(0);
  }
  for (int64_t c = 0; c < stride; c += kLanes) {
    Vector v[Pixels];
#pragma GCC unroll 2
    for (int p = 0; p < Pixels; ++p) v[p] = load_lanes(values, at + p * values.channels + c, values.channels - c);
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) {
      const Vector factor = load(weight + i * stride + c);
#pragma GCC unroll 2
      for (int p = 0; p < Pixels; ++p) sums[p][i] = sums[p][i] + v[p] * factor;
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) dots[i * values.width + p] = reduce(sums[p][i]);
  }
}

// dots[target * 9 + tap][x]: what pixel (y, x) adds to its neighbours.
void head_row(const HeadConv2d& args, const float* weight, int64_t n, int64_t y, float* dots) {
  const Map& values = args.values;
  const int64_t stride = ceil_div(values.channels, kLanes) * kLanes;
  for (int64_t x = 0; x < values.width;) {
    const int64_t pixels = x + 2 <= values.width ? 2 : 1;
    const auto work = pixels == 2 ? head_pixels<2> : head_pixels<1>;
    for (int64_t term = 0; term < 9 * args.targets; term += 9) {
      work(values, weight + term * stride, offset_of(values, n, y, x), dots + term * values.width + x);
    }
    x += pixels;
  }
}

// out[x] += dots[x + shift] where that lies inside.
inline void add_shifted(float* out, const float* dots, int64_t width, int64_t shift) {
  const int64_t begin = shift < 0 ? -shift : 0, end = shift > 0 ? width - shift : width;
  for (int64_t x = begin; x < end; ++x) out[x] += dots[x + shift];
}

// A band of output rows is one piece of work; the dots of three rows are kept.
void head(const HeadConv2d& args, const Threads& threads) {
  const Map& values = args.values;
  const int64_t height = values.height, width = values.width, terms = 9 * args.targets, band_height = 16;
  const int64_t stride = ceil_div(values.channels, kLanes) * kLanes, bands = ceil_div(height, band_height);
  const Scratch<float> weight(terms * stride);
  for (int64_t row = 0; row < terms; ++row) {
    copy_table(weight.get() + row * stride, args.weight + row * values.channels, values.channels);
  }
  for_each(values.batch * bands, threads, [&](int64_t i) {
    const int64_t n = i / bands, begin = i % bands * band_height;
    const int64_t end = begin + band_height < height ? begin + band_height : height;
    const Scratch<float> dots(3 * terms * width);
    const auto dots_of = [&](int64_t y) { return dots.get() + (y + 3) % 3 * terms * width; };
    if (begin > 0) head_row(args, weight.get(), n, begin - 1, dots_of(begin - 1));
    head_row(args, weight.get(), n, begin, dots_of(begin));
    for (int64_t y = begin; y < end; ++y) {
      if (y + 1 < height) head_row(args, weight.get(), n, y + 1, dots_of(y + 1));
      for (int64_t k = 0; k < args.targets; ++k) {
        float* out = args.out + ((n * args.targets + k) * height + y) * width;
        for (int64_t x = 0; x < width; ++x) out[x] = args.bias[k];
        for (int64_t tap = 0; tap < 9; ++tap) {
          const int64_t row = y + tap / 3 - 1;
          if (row >= 0 && row < height) add_shifted(out, dots_of(row) + (k * 9 + tap) * width, width, tap % 3 - 1);
        }
      }
    }
  });
}

}  // namespace
}  // namespace hidiff
