// What a tile of pixels and output channels is counted over.
#pragma once

#include <cstdint>

namespace hidiff {
namespace {

constexpr int64_t kLanes = 16;       // output channels of one vector
constexpr int64_t kTileVectors = 4;  // vectors of output channels in one tile, at most
constexpr int64_t kTilePixels = 6;   // pixels in one tile, at most

// Words that every output channel of a tile is compared with: `rows` runs of `run` words, `row_step` apart; the next
// pixel's begin `pixel_step` later. The weights of one vector of channels lie in a row, `vector_step` before the next's.
struct Window {
  const uint32_t* words;
  int64_t rows, run, row_step, pixel_step;
  const uint32_t* weight;
  int64_t vector_step;
};

}  // namespace
}  // namespace hidiff
