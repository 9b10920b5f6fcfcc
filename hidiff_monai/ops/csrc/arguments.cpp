#include "arguments.h"

#include <stdexcept>

namespace hidiff {
namespace {

std::string dtype_name(int32_t dtype) {
  if (dtype == aoti_torch_dtype_float16()) return "float16";
  if (dtype == aoti_torch_dtype_bfloat16()) return "bfloat16";
  if (dtype == aoti_torch_dtype_float32()) return "float32";
  if (dtype == aoti_torch_dtype_float64()) return "float64";
  if (dtype == aoti_torch_dtype_uint8()) return "uint8";
  if (dtype == aoti_torch_dtype_int8()) return "int8";
  if (dtype == aoti_torch_dtype_int16()) return "int16";
  if (dtype == aoti_torch_dtype_int32()) return "int32";
  if (dtype == aoti_torch_dtype_int64()) return "int64";
  if (dtype == aoti_torch_dtype_bool()) return "bool";
  return "another type";
}

std::string shape_text(const int64_t* sizes, int64_t rank) {
  std::string text = "(";
  for (int64_t axis = 0; axis < rank; ++axis) text += (axis ? ", " : "") + std::to_string(sizes[axis]);
  return text + (rank == 1 ? ",)" : ")");
}

// What holds for every tensor: plain memory of the CPU with something in it.
void check_memory(const Tensor& tensor) {
  if (!tensor.is_readable) fail(tensor, "is undefined", "a tensor");
  if (tensor.device != aoti_torch_device_type_cpu()) fail(tensor, "is on another device", "all tensors on the CPU");
  if (tensor.count() == 0) fail(tensor, "is empty: shape " + tensor.shape(), "at least one element");
  if (!tensor.is_contiguous()) fail(tensor, "is not contiguous", "a contiguous tensor: call .contiguous()");
  if (tensor.data() == nullptr) fail(tensor, "has no memory", "a tensor with values");
}

void check_dtype(const Tensor& tensor, int32_t dtype) {
  if (tensor.dtype != dtype) fail(tensor, "is " + dtype_name(tensor.dtype), dtype_name(dtype));
}

void check_shape(const Tensor& tensor, std::initializer_list<int64_t> shape) {
  bool is_equal = tensor.rank == static_cast<int64_t>(shape.size());
  for (int64_t axis = 0; is_equal && axis < tensor.rank; ++axis) {
    is_equal = tensor.sizes[axis] == shape.begin()[axis];
  }
  if (!is_equal) fail(tensor, "has shape " + tensor.shape(), shape_text(shape.begin(), shape.size()));
}

bool share_memory(const Tensor& first, const Tensor& second) {
  return first.data() < second.data() + second.bytes() && second.data() < first.data() + first.bytes();
}

}  // namespace

Tensor::Tensor(const char* operation, const char* name, TorchTensor* handle)
    : operation(operation), name(name), handle(handle) {
  if (handle == nullptr) return;
  int64_t *own_sizes = nullptr, *own_strides = nullptr;
  is_readable = aoti_torch_get_device_type(handle, &device) == 0 && aoti_torch_get_dtype(handle, &dtype) == 0 &&
      aoti_torch_get_dim(handle, &rank) == 0 && aoti_torch_get_sizes(handle, &own_sizes) == 0 &&
      aoti_torch_get_strides(handle, &own_strides) == 0;
  sizes = own_sizes;
  strides = own_strides;
}

bool Tensor::is_contiguous() const {
  int64_t stride = 1;
  for (int64_t axis = rank - 1; axis >= 0; --axis) {
    if (sizes[axis] != 1 && strides[axis] != stride) return false;
    stride *= sizes[axis];
  }
  return true;
}

int64_t Tensor::count() const {
  int64_t product = 1;
  for (int64_t axis = 0; axis < rank; ++axis) product *= sizes[axis];
  return product;
}

int64_t Tensor::bytes() const { return count() * (dtype == aoti_torch_dtype_float16() ? 2 : 4); }

char* Tensor::data() const {
  void* data = nullptr;
  return aoti_torch_get_data_ptr(handle.get(), &data) == 0 ? static_cast<char*>(data) : nullptr;
}

std::string Tensor::shape() const { return shape_text(sizes, rank); }

Tensor Stack::tensor(const char* name) {
  return Tensor(operation_, name, reinterpret_cast<TorchTensor*>(*next_++));
}

Tensor Stack::optional_tensor(const char* name) {
  auto* value = reinterpret_cast<TorchValue*>(*next_++);
  auto* handle = value ? reinterpret_cast<TorchTensor*>(*value) : nullptr;
  if (value && torch_delete_stable_ivalue) {
    torch_delete_stable_ivalue(value);
  } else {
    delete value;
  }
  return Tensor(operation_, name, handle);
}

void fail(const char* operation, const std::string& message) {
  throw std::runtime_error(std::string(operation) + ": " + message);
}

void fail(const Tensor& tensor, const std::string& got, const std::string& expected) {
  fail(tensor.operation, std::string(tensor.name) + " " + got + "; expected " + expected);
}

void check_rank(const Tensor& tensor, int64_t rank, const char* axes) {
  check_memory(tensor);
  if (tensor.rank != rank) fail(tensor, "has shape " + tensor.shape(), axes);
}

Map as_map(const Tensor& tensor) {
  if (!tensor) return Map{};
  check_rank(tensor, 4, "(batch, height, width, channels)");
  bool is_half = tensor.dtype == aoti_torch_dtype_float16();
  if (!is_half && tensor.dtype != aoti_torch_dtype_float32()) {
    fail(tensor, "is " + dtype_name(tensor.dtype), "float32 or float16");
  }
  const int64_t* sizes = tensor.sizes;
  return Map{tensor.data(), is_half, sizes[0], sizes[1], sizes[2], sizes[3]};
}

Map as_map(const Tensor& tensor, int64_t batch, int64_t height, int64_t width, int64_t channels) {
  if (!tensor) return Map{nullptr, false, batch, height, width, channels};
  Map map = as_map(tensor);
  check_shape(tensor, {batch, height, width, channels});
  return map;
}

Bits as_bits(const Tensor& tensor, int64_t border) {
  if (!tensor) return Bits{};
  check_rank(tensor, 4, "(batch, height + 2 border, width + 2 border, words)");
  check_dtype(tensor, aoti_torch_dtype_int32());
  const int64_t* sizes = tensor.sizes;
  if (sizes[1] <= 2 * border || sizes[2] <= 2 * border) {
    fail(tensor, "has shape " + tensor.shape(), "a border of one word around at least one word");
  }
  auto* data = reinterpret_cast<uint32_t*>(tensor.data());
  return Bits{data, sizes[0], sizes[1] - 2 * border, sizes[2] - 2 * border, sizes[3], border};
}

Bits as_bits(const Tensor& tensor, int64_t batch, int64_t height, int64_t width, int64_t channels) {
  if (!tensor) return Bits{};
  check_rank(tensor, 4, "(batch, height + 2 border, width + 2 border, words)");
  int64_t border = tensor.sizes[1] == height ? 0 : 1, words = (channels + 31) / 32;
  check_shape(tensor, {batch, height + 2 * border, width + 2 * border, words});
  return as_bits(tensor, border);
}

const float* as_floats(const Tensor& tensor, std::initializer_list<int64_t> shape) {
  if (!tensor) return nullptr;
  check_memory(tensor);
  check_dtype(tensor, aoti_torch_dtype_float32());
  check_shape(tensor, shape);
  return reinterpret_cast<const float*>(tensor.data());
}

const int32_t* as_integers(const Tensor& tensor, std::initializer_list<int64_t> shape) {
  if (!tensor) return nullptr;
  check_memory(tensor);
  check_dtype(tensor, aoti_torch_dtype_int32());
  check_shape(tensor, shape);
  return reinterpret_cast<const int32_t*>(tensor.data());
}

void check_overlap(std::initializer_list<const Tensor*> written, std::initializer_list<const Tensor*> read) {
  for (auto first = written.begin(); first != written.end(); ++first) {
    if (!**first) continue;
    auto check = [&](const Tensor& other) {
      if (other && share_memory(**first, other)) {
        fail(**first, std::string("shares memory with ") + other.name, "memory of its own");
      }
    };
    for (auto second = first + 1; second != written.end(); ++second) check(**second);
    for (const Tensor* other : read) check(*other);
  }
}

}  // namespace hidiff
