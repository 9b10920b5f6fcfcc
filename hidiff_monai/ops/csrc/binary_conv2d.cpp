#include <string>

#include "arguments.h"
#include "dispatch.h"
#include "operators.h"
#include "threads.h"

namespace hidiff {
namespace {

struct BinaryArguments {
  Tensor x, weight, extra, extra_weight, base;
  int64_t kernel_size, stride;
  bool upsample;
  Tensor scale, bias, shortcut, slope, zeta, out, threshold, packed, skip_threshold, skip_packed;

  explicit BinaryArguments(Stack stack)
      : x(stack.tensor("x")), weight(stack.tensor("weight")), extra(stack.optional_tensor("extra")),
        extra_weight(stack.optional_tensor("extra_weight")), base(stack.tensor("base")),
        kernel_size(stack.integer()), stride(stack.integer()), upsample(stack.boolean()),
        scale(stack.tensor("scale")), bias(stack.tensor("bias")), shortcut(stack.optional_tensor("shortcut")),
        slope(stack.optional_tensor("slope")), zeta(stack.optional_tensor("zeta")), out(stack.optional_tensor("out")),
        threshold(stack.optional_tensor("threshold")), packed(stack.optional_tensor("packed")),
        skip_threshold(stack.optional_tensor("skip_threshold")), skip_packed(stack.optional_tensor("skip_packed")) {}
};

void check_options(const BinaryArguments& given) {
  const char* operation = given.x.operation;
  if (given.kernel_size != 1 && given.kernel_size != 3) {
    fail(operation, "kernel_size is " + std::to_string(given.kernel_size) + "; expected 1 or 3");
  }
  if (given.stride != 1 && (given.stride != 2 || given.kernel_size == 1)) {
    fail(operation, "stride is " + std::to_string(given.stride) + "; expected 1, or 2 with kernel_size 3");
  }
  if (given.upsample && (given.kernel_size != 3 || given.stride != 1)) {
    fail(operation, "upsample is True; expected False but with kernel_size 3 and stride 1");
  }
  if (static_cast<bool>(given.extra) != static_cast<bool>(given.extra_weight)) {
    fail(given.extra ? given.extra_weight : given.extra, "is None", "both extra and extra_weight, or neither");
  }
  if (given.packed && !given.threshold) fail(given.threshold, "is None", "a threshold for packed");
  if (given.skip_packed && !given.skip_threshold) fail(given.skip_threshold, "is None", "a threshold for skip_packed");
  if (!given.out && !given.packed && !given.skip_packed) {
    fail(operation, "out, packed and skip_packed are None; expected at least one of them");
  }
}

// As it is, twice as fine in both directions, or half as fine; channels equal, repeated or averaged.
void check_shortcut(const Tensor& tensor, const Map& shortcut, const Map& out) {
  auto fits = [&](int64_t numerator, int64_t denominator) {
    return shortcut.height * denominator == out.height * numerator &&
        shortcut.width * denominator == out.width * numerator;
  };
  bool has_channels = shortcut.channels % out.channels == 0 || out.channels % shortcut.channels == 0;
  if (shortcut.batch != out.batch || !has_channels || !(fits(1, 1) || fits(2, 1) || fits(1, 2))) {
    const int64_t sizes[] = {out.batch, out.height, out.width, out.channels};
    std::string text;
    for (int64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
    fail(tensor, "has shape " + tensor.shape(),
         "(" + text + "), or twice or half its height and width, or channels that divide or are a multiple of it");
  }
}

// In place is allowed where every element is read and written at the same place.
void check_binary_overlap(const BinaryArguments& given, const Map& shortcut, const Map& out) {
  bool is_identity = shortcut.data && shortcut.data == out.data && shortcut.is_half == out.is_half &&
      shortcut.height == out.height && shortcut.width == out.width && shortcut.channels == out.channels;
  check_overlap(
      {&given.out, &given.packed, &given.skip_packed},
      {&given.x, &given.weight, &given.extra, &given.extra_weight, &given.base, &given.scale, &given.bias,
       &given.slope, &given.zeta, &given.threshold, &given.skip_threshold});
  if (!is_identity) check_overlap({&given.out}, {&given.shortcut});
  check_overlap({&given.packed, &given.skip_packed}, {&given.shortcut});
}

void set_sources(const BinaryArguments& given, BinaryConv2d& call) {
  int64_t border = given.kernel_size / 2, taps = given.kernel_size * given.kernel_size;
  int64_t channels = call.out.channels, groups = (channels + 15) / 16;
  call.weight = reinterpret_cast<const uint32_t*>(as_integers(given.weight, {groups, taps, call.x.words, 16}));
  if (given.upsample && call.x.words > kMostUpsampledWords) {
    fail(given.x, "has " + std::to_string(call.x.words) + " words a pixel",
         "at most " + std::to_string(kMostUpsampledWords) + " with upsample");
  }
  if (!given.extra) return;
  int64_t zoom = given.upsample ? 2 : 1, height = call.x.height * zoom, width = call.x.width * zoom;
  call.extra = as_bits(given.extra, border);
  const Bits& extra = call.extra;
  if (extra.height != height || extra.width != width || call.x.batch % extra.batch != 0) {
    fail(given.extra, "has shape " + given.extra.shape(),
         "a batch that divides " + std::to_string(call.x.batch) + ", height " + std::to_string(height + 2 * border) +
             " and width " + std::to_string(width + 2 * border));
  }
  call.extra_weight =
      reinterpret_cast<const uint32_t*>(as_integers(given.extra_weight, {groups, taps, extra.words, 16}));
}

void set_results(const BinaryArguments& given, BinaryConv2d& call) {
  int64_t zoom = given.upsample ? 2 : 1, channels = given.base.sizes[1], batch = call.x.batch;
  int64_t height = (call.x.height * zoom - 1) / given.stride + 1, width = (call.x.width * zoom - 1) / given.stride + 1;
  call.out = as_map(given.out, batch, height, width, channels);
  call.shortcut = as_map(given.shortcut);
  if (given.shortcut) check_shortcut(given.shortcut, call.shortcut, call.out);
  call.packed = as_bits(given.packed, batch, height, width, channels);
  call.skip_packed = as_bits(given.skip_packed, batch, height, width, channels);
}

}  // namespace

void binary_conv2d(TorchValue* arguments, uint64_t, uint64_t) {
  const BinaryArguments given{Stack("binary_conv2d", arguments)};
  check_options(given);

  BinaryConv2d call;
  call.kernel_size = given.kernel_size;
  call.stride = given.stride;
  call.upsample = given.upsample;
  call.extra_weight = nullptr;
  call.x = as_bits(given.x, given.kernel_size / 2);
  check_rank(given.base, 2, "(16, channels)");
  int64_t channels = given.base.sizes[1];
  call.base = as_integers(given.base, {16, channels});
  set_results(given, call);
  set_sources(given, call);
  call.scale = as_floats(given.scale, {channels});
  call.bias = as_floats(given.bias, {channels});
  call.slope = as_floats(given.slope, {channels});
  call.zeta = as_floats(given.zeta, {channels});
  call.threshold = as_floats(given.threshold, {channels});
  call.skip_threshold = as_floats(given.skip_threshold, {channels});
  check_binary_overlap(given, call.shortcut, call.out);
  active_kernels().binary_conv2d(call, threads());
}

}  // namespace hidiff
