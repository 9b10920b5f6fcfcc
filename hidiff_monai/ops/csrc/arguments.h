// The arguments of an operator: taken from torch's stack, owned, and checked before a kernel sees them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "kernels.h"
#include "torch_abi.h"

namespace hidiff {

struct ReleaseTensor {
  void operator()(TorchTensor* tensor) const { aoti_torch_delete_tensor_object(tensor); }
};

// A tensor argument, or none. Reading it throws nothing, so that every argument is owned before the first check.
struct Tensor {
  const char* operation;
  const char* name;
  std::unique_ptr<TorchTensor, ReleaseTensor> handle;
  bool is_readable = false;
  int32_t dtype = -1, device = -1;
  int64_t rank = 0;
  const int64_t *sizes = nullptr, *strides = nullptr;  // belong to the handle

  Tensor(const char* operation, const char* name, TorchTensor* handle);
  explicit operator bool() const { return handle != nullptr; }
  bool is_contiguous() const;
  int64_t count() const;  // of elements
  int64_t bytes() const;  // once its dtype has been checked
  char* data() const;
  std::string shape() const;  // (2, 3)
};

// Takes the arguments off the stack, in the order of the schema.
class Stack {
 public:
  Stack(const char* operation, TorchValue* next) : operation_(operation), next_(next) {}
  Tensor tensor(const char* name);
  Tensor optional_tensor(const char* name);
  int64_t integer() { return static_cast<int64_t>(*next_++); }
  bool boolean() { return (*next_++ & 0xff) != 0; }

 private:
  const char* operation_;
  TorchValue* next_;
};

// Raises "<operation>: <name> <got>; expected <expected>".
[[noreturn]] void fail(const Tensor& tensor, const std::string& got, const std::string& expected);
[[noreturn]] void fail(const char* operation, const std::string& message);

// Each checks a tensor and gives it back as the kernels take it; a tensor that is not there gives null.
Map as_map(const Tensor& tensor);
Map as_map(const Tensor& tensor, int64_t batch, int64_t height, int64_t width, int64_t channels);
Bits as_bits(const Tensor& tensor, int64_t border);
// The border, none or one word, is read from the shape.
Bits as_bits(const Tensor& tensor, int64_t batch, int64_t height, int64_t width, int64_t channels);
const float* as_floats(const Tensor& tensor, std::initializer_list<int64_t> shape);
const int32_t* as_integers(const Tensor& tensor, std::initializer_list<int64_t> shape);

// Rank alone, for the tensors that others are measured by.
void check_rank(const Tensor& tensor, int64_t rank, const char* axes);
// The rest is not written to, so nothing written may share memory with it or with what else is written.
void check_overlap(std::initializer_list<const Tensor*> written, std::initializer_list<const Tensor*> read);

}  // namespace hidiff
