// refine MODEL IMAGE PROBABILITY [OPERATORS]: runs what `hidiff export --format ts [--packed]` wrote; see README.md.
#include <dlfcn.h>
#include <torch/script.h>

#include <fstream>
#include <iostream>
#include <iterator>

int main(int argc, char** argv) {
    if (argc < 4 || (argc > 4 && !dlopen(argv[4], RTLD_NOW | RTLD_LOCAL))) {  // operators register as they are loaded
        std::cerr << (argc < 4 ? "usage: refine MODEL IMAGE PROBABILITY [OPERATORS]" : dlerror()) << std::endl;
        return 1;
    }
    torch::jit::Module network = torch::jit::load(argv[1]);
    torch::NoGradGuard no_grad;
    std::ifstream file(argv[2], std::ios::binary);  // a tensor (B, C, H, W) that torch.save wrote
    if (!file) {
        std::cerr << argv[2] << ": cannot be read; expected a tensor that torch.save wrote" << std::endl;
        return 1;
    }
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
    const torch::Tensor image = torch::jit::pickle_load(bytes).toTensor();
    const torch::Tensor probability = network.forward({image}).toTensor();
    const std::vector<char> written = torch::jit::pickle_save(probability);
    std::ofstream output(argv[3], std::ios::binary);
    output.write(written.data(), static_cast<std::streamsize>(written.size()));
    output.close();
    if (!output) {
        std::cerr << argv[3] << ": cannot be written" << std::endl;
        return 1;
    }
    std::cout << probability.sizes() << ", share above 1/2: " << (probability > 0.5).to(torch::kFloat).mean().item<float>()
              << std::endl;
}
