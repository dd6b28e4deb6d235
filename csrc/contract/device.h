// Where the arrays of an op are and its work goes. Devices are numbered as in DLPack, so that a
// library's own device types pass through unchanged.
#pragma once
#include <cstdint>

namespace tilefold {

class Workspace;  // workspace.h

enum class DeviceType : int32_t { cpu = 1, cuda = 2, cuda_host = 3, rocm = 10, cuda_managed = 13 };

struct Device {
  DeviceType type;
  int32_t id;
  void* stream = nullptr;          // of CUDA's work, a cudaStream_t; null: the default stream
  Workspace* workspace = nullptr;  // null: the op has memory of its own
};

// The same device, on whatever stream.
inline bool operator==(Device a, Device b) { return a.type == b.type && a.id == b.id; }
inline bool operator!=(Device a, Device b) { return !(a == b); }

// Whether host code may read the device's arrays, for example to check their values.
inline bool host_readable(Device device) { return device.type == DeviceType::cpu; }

}  // namespace tilefold
