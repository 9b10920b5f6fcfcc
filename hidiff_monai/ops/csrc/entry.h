// The four kernels of one instruction set, behind plain function pointers.
#pragma once

#include "ends.h"
#include "upsampled.h"

namespace hidiff {
namespace {

void binary_conv2d(const BinaryConv2d& conv, const Threads& threads) {
  conv.upsample ? convolve_upsampled(conv, threads) : convolve(conv, threads);
}

constexpr Kernels entries(const char* name) { return {name, pack, binary_conv2d, stem, head}; }

}  // namespace
}  // namespace hidiff
