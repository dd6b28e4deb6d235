// The ops on activations on the CPU. Threads divide the columns, so results do not depend on their
// number.
#pragma once
#include "contract/statistics.h"
#include "pulse.h"

namespace tilefold::cpu {

void statistics(const StatisticsArgs& a, int threads, Pulse& pulse);
void examples(const ExamplesArgs& a, int threads, Pulse& pulse);
void second_moment(const SecondMomentArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cpu
