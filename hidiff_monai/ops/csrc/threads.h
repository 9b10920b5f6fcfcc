// Threads of torch, or the calling one alone where torch is too old to lend them.
#pragma once

#include <stdexcept>

#include "kernels.h"
#include "torch_abi.h"

namespace hidiff {
namespace {

struct Job {
  Body body;
  void* context;
};

inline void run_part(int64_t begin, int64_t end, void* job) {
  const Job& whole = *static_cast<const Job*>(job);
  whole.body(whole.context, begin, end);
}

inline void parallel_for(int64_t count, Body body, void* context) {
  Job job{body, context};
  if (!torch_parallel_for) {
    body(context, 0, count);
  } else if (torch_parallel_for(0, count, 1, run_part, &job) != 0) {
    throw std::runtime_error("hidiff_monai: torch's parallel_for failed");
  }
}

inline Threads threads() {
  uint32_t count = 1;
  if (torch_get_num_threads && torch_parallel_for) torch_get_num_threads(&count);
  return Threads{parallel_for, count ? static_cast<int64_t>(count) : 1};
}

}  // namespace
}  // namespace hidiff
