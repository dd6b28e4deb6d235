// The search ops on CUDA devices.
#pragma once
#include "contract/search.h"
#include "pulse.h"

namespace tilefold::cuda {

void search(const SearchArgs& a, int threads, Pulse& pulse);
void pack(const PackArgs& a, int threads, Pulse& pulse);
void finite_rows(const FiniteRowsArgs& a, int threads, Pulse& pulse);
void score(const ScoreArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cuda
