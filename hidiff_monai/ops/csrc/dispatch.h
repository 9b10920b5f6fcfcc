// Which of the kernels run: the best that this CPU has, or what HIDIFF_INSTRUCTION_SET names.
#pragma once

#include <cstdint>

#include "kernels.h"

#define HIDIFF_EXPORT __attribute__((visibility("default")))

namespace hidiff {

// Raises where this CPU has none of the instruction sets.
const Kernels& active_kernels();

}  // namespace hidiff

extern "C" {
// "avx512", "avx2" or "none".
HIDIFF_EXPORT const char* hidiff_instruction_set();
// 1 where this CPU has it.
HIDIFF_EXPORT int32_t hidiff_has_instruction_set(const char* name);
// Runs this one from now on and returns 1; 0, and nothing changed, where this CPU lacks it.
HIDIFF_EXPORT int32_t hidiff_use_instruction_set(const char* name);
// What the sources were when they were compiled, see source_digest in hidiff_monai/ops/build.py.
HIDIFF_EXPORT const char* hidiff_source_digest();
}
