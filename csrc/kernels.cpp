// The op table. An implementation for another device is one file that fills some columns, and a
// line here.
#include "kernels.h"

#include <cstdlib>

namespace tilefold {

namespace cpu {
extern const Implementation implementation;
}
namespace cuda {
extern const Implementation implementation;
}

extern const Implementation* const implementations[] = {&cpu::implementation,
#if defined(TILEFOLD_CUDA) || defined(TILEFOLD_EMULATE_CUDA)
                                                        &cuda::implementation,
#endif
                                                        nullptr};

#if defined(TILEFOLD_EMULATE_CUDA)
const char* const cuda_kernels = "emulated";
#elif defined(TILEFOLD_CUDA)
const char* const cuda_kernels = "compiled";
#else
const char* const cuda_kernels = "none";
#endif

#ifdef TILEFOLD_CUDA
const char* const cuda_architectures = TILEFOLD_CUDA;
#else
const char* const cuda_architectures = "";
#endif

DeviceType implementing_device(DeviceType arrays) {
#ifdef TILEFOLD_EMULATE_CUDA
  const char* const emulate = std::getenv("TILEFOLD_EMULATE_CUDA");
  if (arrays == DeviceType::cpu && emulate && *emulate == '1') return DeviceType::cuda;
#endif
  return arrays;
}

}  // namespace tilefold
