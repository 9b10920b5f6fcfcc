// Defines the operators of namespace hidiff_monai when the library is loaded.
#include <string>

#include "dispatch.h"
#include "operators.h"
#include "threads.h"
#include "torch_abi.h"

namespace hidiff {
namespace {

const char* const schemas =
#include "schemas.inc"
    ;

// One schema after the other; a blank line is between two.
bool define_schemas(TorchLibrary* library) {
  std::string text(schemas);
  for (size_t begin = 1; begin < text.size();) {
    size_t end = text.find("\n\n", begin);
    if (end == std::string::npos) end = text.size() - 1;
    if (aoti_torch_library_def(library, text.substr(begin, end - begin).c_str()) != 0) return false;
    begin = end + 2;
  }
  return true;
}

// Runs when the library is loaded; what it registers stays for the life of the process.
bool register_operators() {
  TorchLibrary *definitions = nullptr, *kernels = nullptr;
  return aoti_torch_library_init_def("hidiff_monai", __FILE__, __LINE__, &definitions) == 0 &&
      define_schemas(definitions) &&
      aoti_torch_library_init_impl("hidiff_monai", "CPU", __FILE__, __LINE__, &kernels) == 0 &&
      aoti_torch_library_impl(kernels, "pack_signs", pack_signs) == 0 &&
      aoti_torch_library_impl(kernels, "binary_conv2d", binary_conv2d) == 0 &&
      aoti_torch_library_impl(kernels, "stem_conv2d", stem_conv2d) == 0 &&
      aoti_torch_library_impl(kernels, "head_conv2d", head_conv2d) == 0;
}

const bool is_registered = register_operators();

}  // namespace
}  // namespace hidiff

extern "C" {
// 0 where torch refused the operators; it said why on stderr.
HIDIFF_EXPORT int32_t hidiff_is_registered() { return hidiff::is_registered; }
// How many threads the kernels use: those of torch, from 2.10 on.
HIDIFF_EXPORT int64_t hidiff_num_threads() { return hidiff::threads().count; }
}
