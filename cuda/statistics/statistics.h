// The ops on activations on CUDA devices.
#pragma once
#include "contract/statistics.h"
#include "pulse.h"

namespace tilefold::cuda {

void statistics(const StatisticsArgs& a, int threads, Pulse& pulse);
void examples(const ExamplesArgs& a, int threads, Pulse& pulse);
void second_moment(const SecondMomentArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cuda
