#include "dispatch.h"

#include <cpuid.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#ifndef HIDIFF_SOURCE_DIGEST
#define HIDIFF_SOURCE_DIGEST ""
#endif

namespace hidiff {
namespace {

const Kernels* const all_kernels[] = {&avx512_kernels, &avx2_kernels};  // the best first
const char* const names[] = {"avx512", "avx2"};

// Not every compiler's __builtin_cpu_supports knows this one.
bool has_f16c() {
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1);
}

// The builtins also ask whether the operating system saves the registers.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
      has_f16c();
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vpopcntdq");
}

// Null where it is unknown or this CPU lacks it.
const Kernels* find_kernels(const char* name) {
  const bool has[] = {has_avx512(), has_avx2()};
  for (int i = 0; i < 2; ++i) {
    if (has[i] && std::strcmp(name, names[i]) == 0) return all_kernels[i];
  }
  return nullptr;
}

const Kernels* choose_kernels() {
  const char* wanted = std::getenv("HIDIFF_INSTRUCTION_SET");
  if (wanted && *wanted) return find_kernels(wanted);
  const Kernels* best = find_kernels("avx512");
  return best ? best : find_kernels("avx2");
}

std::atomic<const Kernels*> active{choose_kernels()};

}  // namespace

const Kernels& active_kernels() {
  if (const Kernels* kernels = active.load()) return *kernels;
  const char* wanted = std::getenv("HIDIFF_INSTRUCTION_SET");
  throw std::runtime_error(
      wanted && *wanted
          ? std::string("HIDIFF_INSTRUCTION_SET is ") + wanted +
              ", for which there is no packed kernel on this CPU; expected avx512 or avx2, or leave it unset"
          : std::string("this CPU has neither AVX-512 (F, BW, DQ, VL, VPOPCNTDQ) nor AVX2 with FMA and F16C; "
                        "expected one of them: without them the operators run from Python only"));
}

}  // namespace hidiff

extern "C" {

const char* hidiff_instruction_set() {
  const hidiff::Kernels* kernels = hidiff::active.load();
  for (int i = 0; i < 2; ++i) {
    if (kernels == hidiff::all_kernels[i]) return hidiff::names[i];
  }
  return "none";
}

int32_t hidiff_has_instruction_set(const char* name) { return hidiff::find_kernels(name) != nullptr; }

int32_t hidiff_use_instruction_set(const char* name) {
  const hidiff::Kernels* kernels = hidiff::find_kernels(name);
  if (kernels) hidiff::active.store(kernels);
  return kernels != nullptr;
}

const char* hidiff_source_digest() { return HIDIFF_SOURCE_DIGEST; }
}
