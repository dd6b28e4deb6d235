// Looks up ops in a table whose second device has some of them; test_devices.py compiles and reads it.
#include <cstdio>

#include "kernels.h"

using namespace tilefold;

DeviceType tilefold::implementing_device(DeviceType arrays) { return arrays; }

namespace {

template <class Args, int device>
void op(const Args&, int, Pulse&) {
  std::printf("ran on %d\n", device);
}

template <class Args>
void look_up(Op<Args> Implementation::* column, const char* name, Device device,
             const Implementation* const* table) {
  Pulse pulse([](double) { return false; });
  try {
    find_op(column, name, "queries", device, table)({}, 1, pulse);
  } catch (const std::invalid_argument& error) {
    std::printf("%s\n", error.what());
  }
}

}  // namespace

int main() {
  Implementation cpu = {}, cuda = {};
  cpu.device = DeviceType::cpu;
  cpu.search = op<SearchArgs, 1>;
  cpu.pack = op<PackArgs, 1>;
  cuda.device = DeviceType::cuda;
  cuda.search = op<SearchArgs, 2>;
  const Implementation* const table[] = {&cpu, &cuda, nullptr};
  const Device host = {DeviceType::cpu, 0}, second_gpu = {DeviceType::cuda, 1};
  look_up(&Implementation::search, "search", host, table);
  look_up(&Implementation::search, "search", second_gpu, table);
  look_up(&Implementation::search, "search", {DeviceType::rocm, 0}, table);
  look_up(&Implementation::pack, "pack", host, table);
  look_up(&Implementation::pack, "pack", second_gpu, table);
  look_up(&Implementation::score, "score", host, table);
  look_up(&Implementation::search, "search", {static_cast<DeviceType>(77), 0}, table);
}
