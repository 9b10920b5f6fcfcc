#include "arguments.h"
#include "dispatch.h"
#include "operators.h"
#include "threads.h"

namespace hidiff {

void pack_signs(TorchValue* arguments, uint64_t, uint64_t) {
  Stack stack("pack_signs", arguments);
  Tensor values = stack.tensor("values");
  Tensor threshold = stack.tensor("threshold");
  Tensor packed = stack.tensor("packed");

  PackSigns call;
  call.values = as_map(values);
  const Map& map = call.values;
  call.threshold = as_floats(threshold, {map.channels});
  call.packed = as_bits(packed, map.batch, map.height, map.width, map.channels);
  check_overlap({&packed}, {&values, &threshold});
  active_kernels().pack_signs(call, threads());
}

void stem_conv2d(TorchValue* arguments, uint64_t, uint64_t) {
  Stack stack("stem_conv2d", arguments);
  Tensor signs = stack.tensor("signs");
  Tensor weight = stack.tensor("weight");
  Tensor share = stack.tensor("share");
  Tensor out = stack.optional_tensor("out");
  Tensor threshold = stack.tensor("threshold");
  Tensor packed = stack.tensor("packed");

  StemConv2d call;
  check_rank(signs, 4, "(batch, targets, height, width)");
  int64_t batch = signs.sizes[0], height = signs.sizes[2], width = signs.sizes[3];
  call.targets = signs.sizes[1];
  call.signs = as_floats(signs, {batch, call.targets, height, width});
  call.share = as_map(share);
  int64_t channels = call.share.channels;
  if (call.share.height != height || call.share.width != width || batch % call.share.batch != 0) {
    fail(share, "has shape " + share.shape(),
         "a batch that divides " + std::to_string(batch) + ", height " + std::to_string(height) + " and width " +
             std::to_string(width));
  }
  call.weight = as_floats(weight, {9, call.targets, channels});
  call.out = as_map(out, batch, height, width, channels);
  call.threshold = as_floats(threshold, {channels});
  call.packed = as_bits(packed, batch, height, width, channels);
  check_overlap({&out, &packed}, {&signs, &weight, &share, &threshold});
  active_kernels().stem_conv2d(call, threads());
}

void head_conv2d(TorchValue* arguments, uint64_t, uint64_t) {
  Stack stack("head_conv2d", arguments);
  Tensor values = stack.tensor("values");
  Tensor weight = stack.tensor("weight");
  Tensor bias = stack.tensor("bias");
  Tensor out = stack.tensor("out");

  HeadConv2d call;
  call.values = as_map(values);
  const Map& map = call.values;
  check_rank(bias, 1, "(targets,)");
  call.targets = bias.sizes[0];
  call.bias = as_floats(bias, {call.targets});
  call.weight = as_floats(weight, {call.targets, 9, map.channels});
  call.out = const_cast<float*>(as_floats(out, {map.batch, call.targets, map.height, map.width}));
  check_overlap({&out}, {&values, &weight, &bias});
  active_kernels().head_conv2d(call, threads());
}

}  // namespace hidiff
