// Launches of kernels, memory of a stream, and errors: CUDA's runtime, or the emulation, where work
// is done by the time a function returns and memory is that of the host.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "check.h"
#include "contract/device.h"
#include "cuda/platform/cuda.h"
#include "workspace.h"

#ifdef TILEFOLD_EMULATE_CUDA
#include <cstring>
#include <memory>
#endif

namespace tilefold::cuda {

// Where the work of an op goes, and the op's name in messages.
struct Stream {
  const char* op;
  int device;
  void* handle;                    // a cudaStream_t
  Workspace* workspace = nullptr;  // of the caller; or null

  Stream(const char* op, const Device& device)
      : op(op), device(device.id), handle(device.stream), workspace(device.workspace) {}
};

struct Grid {
  int64_t blocks_x, blocks_y;
  int threads;
  int64_t shared_bytes = 0;  // beyond what a kernel declares
};

#ifndef TILEFOLD_EMULATE_CUDA

inline void check_cuda(cudaError_t error, const Stream& stream, const char* what) {
  if (error != cudaSuccess) (void)cudaGetLastError();  // the next call must not see it again
  check<std::runtime_error>(error == cudaSuccess, stream.op, ": ", what, " on cuda:", stream.device,
                            ": ", cudaGetErrorString(error));
}

inline cudaStream_t handle(const Stream& stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

// Makes the device of a stream current, and the one before when it ends.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Stream& stream) {
    check_cuda(cudaGetDevice(&before_), stream, "cudaGetDevice");
    if (stream.device != before_) check_cuda(cudaSetDevice(stream.device), stream, "cudaSetDevice");
  }
  ~DeviceGuard() { (void)cudaSetDevice(before_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
};

// Such as 90 for 9.0.
inline int compute_capability(const Stream& stream) {
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, stream.device),
             stream, "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, stream.device),
             stream, "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, const Stream& stream,
            Arguments&&... arguments) {
  constexpr int64_t shared_without_opt_in = 48 << 10;
  if (grid.shared_bytes > shared_without_opt_in)
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(grid.shared_bytes)),
               stream, name);
  const dim3 blocks(static_cast<unsigned>(grid.blocks_x), static_cast<unsigned>(grid.blocks_y));
  kernel<<<blocks, static_cast<unsigned>(grid.threads), static_cast<std::size_t>(grid.shared_bytes),
           handle(stream)>>>(std::forward<Arguments>(arguments)...);
  check_cuda(cudaGetLastError(), stream, name);
}

// Uninitialised memory for the work of a stream: the caller's, or memory that is free for others
// once the work before is done.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer(const Stream& stream, int64_t size) : stream_(stream) {
    void* memory = nullptr;
    const auto bytes = static_cast<std::size_t>(size > 0 ? size : 1) * sizeof(T);
    if (stream.workspace)
      memory = stream.workspace->take(bytes);
    else
      check_cuda(cudaMallocAsync(&memory, bytes, handle(stream)), stream, "cudaMallocAsync");
    memory_ = static_cast<T*>(memory);
  }
  ~DeviceBuffer() {
    if (!stream_.workspace) (void)cudaFreeAsync(memory_, handle(stream_));
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  T* data() { return memory_; }

 private:
  Stream stream_;
  T* memory_ = nullptr;
};

#else

class DeviceGuard {
 public:
  explicit DeviceGuard(const Stream&) {}
};

inline int compute_capability(const Stream&) { return 90; }

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, const Stream&,
            Arguments&&... arguments) {
  const emulation::Launch size = {
      {static_cast<unsigned>(grid.blocks_x), static_cast<unsigned>(grid.blocks_y), 1},
      {static_cast<unsigned>(grid.threads), 1, 1},
      static_cast<std::size_t>(grid.shared_bytes)};
  emulation::run(size, name, [&] { kernel(arguments...); });
}

template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer(const Stream& stream, int64_t size) {
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    void* memory = stream.workspace ? stream.workspace->take(bytes) : nullptr;
    if (!memory) {
      own_.reset(new unsigned char[bytes]);
      memory = own_.get();
    }
    constexpr int poison = 0xA5;
    std::memset(memory, poison, bytes);
    memory_ = static_cast<T*>(memory);
  }
  T* data() { return memory_; }

 private:
  T* memory_;
  std::unique_ptr<unsigned char[]> own_;
};

#endif

// Fills memory with zeros.
template <class T>
void clear([[maybe_unused]] const Stream& stream, T* memory, int64_t size) {
  const auto bytes = static_cast<std::size_t>(size) * sizeof(T);
#ifdef TILEFOLD_EMULATE_CUDA
  std::memset(memory, 0, bytes);
#else
  check_cuda(cudaMemsetAsync(memory, 0, bytes, handle(stream)), stream, "cudaMemsetAsync");
#endif
}

// The number of blocks that take `items`, `per_block` each.
inline int64_t blocks_for(int64_t items, int64_t per_block) {
  return (items + per_block - 1) / per_block;
}

}  // namespace tilefold::cuda
