// Folds over tiles of activations, which are not kept. Threads share out columns, so every number is
// the same for any number of them.
#pragma once
#include "contract/search.h"
#include "cpu/rows/table.h"

namespace tilefold {

void statistics(const StatisticsArgs& a, const Kernels& row, int threads);
void examples(const ExamplesArgs& a, const Kernels& row, int threads);
void second_moment(const SecondMomentArgs& a, const Kernels& row, int threads);

}  // namespace tilefold
