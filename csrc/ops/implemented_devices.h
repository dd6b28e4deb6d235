// The devices for which this build has kernels.
#pragma once
#include "view.h"

namespace tilefold::ops {

// Throws if no op of this build has kernels for the device of a call's arrays. It is called when the
// device of every array is known and before any array is exported: a library may refuse the export
// with an error of its own, which says nothing about this build.
void check_implemented(const SharedDevice& device);

}  // namespace tilefold::ops
