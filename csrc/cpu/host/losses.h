// The losses over all pairs on the CPU. Their bits do not depend on the number of threads.
#pragma once
#include "contract/losses.h"
#include "pulse.h"

namespace tilefold::cpu {

void contrastive(const ContrastiveArgs& a, int threads, Pulse& pulse);
void divergence(const DivergenceArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cpu
