// Host half of the contrastive loss: blocks of queries past chunks of documents.
#pragma once
#include "contract/search.h"
#include "cpu/rows/table.h"
#include "pulse.h"

namespace tilefold {

// Fills the losses and, where asked, the gradients of their weighted sum. The bits do not depend on
// the number of threads. If the pulse stops it, they are unspecified.
void contrastive(const ContrastiveArgs& a, const Kernels& row, int threads, Pulse& pulse);

}  // namespace tilefold
