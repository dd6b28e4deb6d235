// The losses over all pairs on CUDA devices.
#pragma once
#include "contract/losses.h"
#include "pulse.h"

namespace tilefold::cuda {

void contrastive(const ContrastiveArgs& a, int threads, Pulse& pulse);
void divergence(const DivergenceArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cuda
