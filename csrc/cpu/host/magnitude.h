// The largest magnitude in a matrix.
#pragma once
#include "contract/losses.h"
#include "pulse.h"

namespace tilefold::cpu {

void max_magnitude(const MagnitudeArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cpu
