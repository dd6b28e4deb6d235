// Whether this build has kernels for the device of a call's arrays.
#pragma once
#include "view.h"

namespace tilefold::ops {

// Throws where no implementation takes arrays on the device, after all of them have been added and
// before a library is asked to export one that nothing could read.
void check_implemented(const SharedDevice& device);

}  // namespace tilefold::ops
