// The search ops on the CPU. The answers depend neither on the row of the ISA table nor on the
// number of threads.
#pragma once
#include "contract/search.h"
#include "pulse.h"

namespace tilefold::cpu {

void search(const SearchArgs& a, int threads, Pulse& pulse);
void pack(const PackArgs& a, int threads, Pulse& pulse);
void finite_rows(const FiniteRowsArgs& a, int threads, Pulse& pulse);
void score(const ScoreArgs& a, int threads, Pulse& pulse);

}  // namespace tilefold::cpu
