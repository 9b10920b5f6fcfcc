// Memory of one call, aligned to cache lines, and the sharing of work between threads.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels.h"

namespace hidiff {
namespace {

template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : size_((count * sizeof(T) + 64) / 64 * 64) {
    data_ = static_cast<T*>(std::aligned_alloc(64, size_));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, size_);
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  size_t size_;
  T* data_;
};

// Calls work(index) for each index below count; threads take the next index when they are done with one.
template <typename Work>
void for_each(int64_t count, const Threads& threads, const Work& work) {
  struct Queue {
    const Work* work;
    int64_t next, count;
  } queue{&work, 0, count};
  const Body drain = [](void* context, int64_t begin, int64_t end) {
    Queue& queue = *static_cast<Queue*>(context);
    for (int64_t part = begin; part < end; ++part) {
      for (int64_t i; (i = __atomic_fetch_add(&queue.next, 1, __ATOMIC_RELAXED)) < queue.count;) (*queue.work)(i);
    }
  };
  threads.parallel_for(threads.count < count ? threads.count : count, drain, &queue);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace hidiff
