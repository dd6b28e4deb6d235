// From the candidate lists of a group of queries to its answers: what remains is scored, the
// thresholds are verified, and the best documents enter the running answers.
#pragma once
#include "cpu/host/candidates.h"
#include "cpu/host/fold.h"
#include "cpu/host/group.h"

namespace tilefold::cpu {

// Scores all candidates that can still be among the k best, and drops the rest.
void settle(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
            Strategy strategy, Candidates& found);

// Whether the lists contain all answers: k documents reach each threshold, so that nothing dropped
// can be among the k best, and no canonical score contradicted its bounds.
bool verified(const SearchArgs& a, const Group& group, Candidates& found);

// Merges the candidates into the running answers.
void merge(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
           Candidates& found);

}  // namespace tilefold::cpu
