// The operators as torch calls them: each takes its arguments off the stack, checks them and calls the kernel.
#pragma once

#include "torch_abi.h"

namespace hidiff {

void pack_signs(TorchValue* arguments, uint64_t num_arguments, uint64_t num_returns);
void binary_conv2d(TorchValue* arguments, uint64_t num_arguments, uint64_t num_returns);
void stem_conv2d(TorchValue* arguments, uint64_t num_arguments, uint64_t num_returns);
void head_conv2d(TorchValue* arguments, uint64_t num_arguments, uint64_t num_returns);

}  // namespace hidiff
