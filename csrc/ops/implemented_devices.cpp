#include "ops/implemented_devices.h"

#include <string>

#include "check.h"
#include "device_names.h"
#include "kernels.h"

namespace tilefold::ops {

void check_implemented(const SharedDevice& device) {
  if (!device.first()) return;
  std::string available;
  for (const Implementation* const* table = implementations; *table; ++table) {
    if ((*table)->device == device.get().type) return;
    available += (available.empty() ? "" : ", ") + device_type_name((*table)->device);
  }
  check(false, device.op(), ": ", on_device(device.first(), device.get()),
        ", and this build has kernels for: ", available);
}

}  // namespace tilefold::ops
