// Names of devices in messages.
#pragma once
#include <string>

#include "contract/device.h"

namespace tilefold {

inline std::string device_type_name(DeviceType type) {
  switch (type) {
    case DeviceType::cpu: return "cpu";
    case DeviceType::cuda: return "cuda";
    case DeviceType::cuda_host: return "cuda_host";
    case DeviceType::rocm: return "rocm";
    case DeviceType::cuda_managed: return "cuda_managed";
  }
  return "DLPack device type " + std::to_string(static_cast<int>(type));
}

// "cpu" or "cuda:0".
inline std::string device_name(Device device) {
  const std::string type = device_type_name(device.type);
  return device.type == DeviceType::cpu ? type : type + ":" + std::to_string(device.id);
}

// "queries are on cuda:0"; arguments that end in s are plural.
inline std::string on_device(const std::string& argument, Device device) {
  return argument + (argument.back() == 's' ? " are on " : " is on ") + device_name(device);
}

}  // namespace tilefold
