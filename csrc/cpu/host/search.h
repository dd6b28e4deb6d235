// Host half of search: splits the work, runs the filter, refines what is left.
#pragma once
#include "contract/search.h"
#include "cpu/rows/table.h"
#include "pulse.h"

namespace tilefold {

// Folds a.documents into the running answers a.scores, a.ids. The answers do not depend on the row
// or the number of threads. If the pulse stops it, they are unspecified.
void search(const SearchArgs& a, const Kernels& row, int threads, Pulse& pulse);

}  // namespace tilefold
