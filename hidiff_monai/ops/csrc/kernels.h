// The packed kernels, once per instruction set; what they compute is said in hidiff_monai/ops/reference.py.
//
// Everything here has been checked already: shapes fit, memory is contiguous, nothing is empty.
#pragma once

#include <cstdint>

namespace hidiff {

// A real-valued map (batch, height, width, channels), float32 or float16; data is null where there is none.
struct Map {
  void* data = nullptr;
  bool is_half = false;
  int64_t batch = 0, height = 0, width = 0, channels = 0;
};

// Packed signs (batch, height + 2 border, width + 2 border, words); height and width without the border.
struct Bits {
  uint32_t* data = nullptr;
  int64_t batch = 0, height = 0, width = 0, words = 0, border = 0;
};

// Runs body(context, begin, end) on parts of [0, count), in parallel.
using Body = void (*)(void* context, int64_t begin, int64_t end);
struct Threads {
  void (*parallel_for)(int64_t count, Body body, void* context);
  int64_t count;  // threads that parallel_for may use
};

// Words a pixel of an upsampled source: nine taps of 32 bits each are counted in 16 bits.
constexpr int64_t kMostUpsampledWords = 65535 / (9 * 32);

struct PackSigns {
  Map values;
  const float* threshold;
  Bits packed;
};

struct BinaryConv2d {
  Bits x, extra;                   // extra.data is null without a second source
  const uint32_t *weight, *extra_weight;
  const int32_t* base;             // (16, channels)
  int64_t kernel_size, stride;
  bool upsample;
  const float *scale, *bias;
  Map shortcut;
  const float *slope, *zeta;       // null where there is none
  Map out;                         // data is null without real-valued result; its shape is filled in all the same
  const float* threshold;
  Bits packed;
  const float* skip_threshold;
  Bits skip_packed;
};

struct StemConv2d {
  const float* signs;              // (batch, targets, height, width)
  const float* weight;             // (9, targets, channels)
  int64_t targets;
  Map share, out;                  // out.data may be null; its shape is filled in all the same
  const float* threshold;
  Bits packed;
};

struct HeadConv2d {
  Map values;
  const float *weight, *bias;      // (targets, 9, channels), (targets)
  float* out;                      // (batch, targets, height, width)
  int64_t targets;
};

struct Kernels {
  const char* name;
  void (*pack_signs)(const PackSigns&, const Threads&);
  void (*binary_conv2d)(const BinaryConv2d&, const Threads&);
  void (*stem_conv2d)(const StemConv2d&, const Threads&);
  void (*head_conv2d)(const HeadConv2d&, const Threads&);
};

extern const Kernels avx512_kernels;  // F, BW, DQ, VL, VPOPCNTDQ
extern const Kernels avx2_kernels;    // AVX2, FMA, F16C

}  // namespace hidiff
