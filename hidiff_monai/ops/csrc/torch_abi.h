// What is used of libtorch's stable C interface, declared here so that the build needs no header of torch.
//
// libtorch exports these since 2.7 (torch/csrc/stable/c/shim.h and torch/csrc/inductor/aoti_torch/c/shim.h);
// the weak ones came later and are null in an older libtorch.
#pragma once

#include <cstdint>

struct TorchTensor;   // an at::Tensor on the heap
struct TorchLibrary;  // a torch::Library on the heap

// An argument on the stack of an operator: an integer, a bool, an owned tensor, or, for an optional tensor, an owned
// pointer to an owned tensor that is null for None.
using TorchValue = uint64_t;
using TorchError = int32_t;  // 0: done
using TorchKernel = void (*)(TorchValue* stack, uint64_t num_arguments, uint64_t num_returns);
using TorchBody = void (*)(int64_t begin, int64_t end, void* context);

extern "C" {
TorchError aoti_torch_library_init_def(const char* name_space, const char* file, uint32_t line, TorchLibrary** library);
TorchError aoti_torch_library_init_impl(
    const char* name_space, const char* key, const char* file, uint32_t line, TorchLibrary** library);
TorchError aoti_torch_library_def(TorchLibrary* library, const char* schema);
TorchError aoti_torch_library_impl(TorchLibrary* library, const char* name, TorchKernel kernel);

TorchError aoti_torch_delete_tensor_object(TorchTensor* tensor);
TorchError aoti_torch_get_data_ptr(TorchTensor* tensor, void** data);
TorchError aoti_torch_get_dim(TorchTensor* tensor, int64_t* rank);
TorchError aoti_torch_get_sizes(TorchTensor* tensor, int64_t** sizes);
TorchError aoti_torch_get_dtype(TorchTensor* tensor, int32_t* dtype);
TorchError aoti_torch_get_device_type(TorchTensor* tensor, int32_t* device);
TorchError aoti_torch_get_strides(TorchTensor* tensor, int64_t** strides);

int32_t aoti_torch_device_type_cpu();
int32_t aoti_torch_dtype_float16();
int32_t aoti_torch_dtype_bfloat16();
int32_t aoti_torch_dtype_float32();
int32_t aoti_torch_dtype_float64();
int32_t aoti_torch_dtype_uint8();
int32_t aoti_torch_dtype_int8();
int32_t aoti_torch_dtype_int16();
int32_t aoti_torch_dtype_int32();
int32_t aoti_torch_dtype_int64();
int32_t aoti_torch_dtype_bool();

__attribute__((weak)) TorchError torch_parallel_for(
    int64_t begin, int64_t end, int64_t grain_size, TorchBody body, void* context);
__attribute__((weak)) TorchError torch_get_num_threads(uint32_t* count);
__attribute__((weak)) TorchError torch_delete_stable_ivalue(TorchValue* value);
}
