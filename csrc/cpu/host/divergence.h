// Host half of the losses that compare softmaxes: blocks of queries past chunks of documents, in
// several views at once.
#pragma once
#include "contract/search.h"
#include "cpu/rows/table.h"
#include "pulse.h"

namespace tilefold {

// Fills divergences and what else is asked for, as `contrastive` does.
void divergence(const DivergenceArgs& a, const Kernels& row, int threads, Pulse& pulse);

}  // namespace tilefold
