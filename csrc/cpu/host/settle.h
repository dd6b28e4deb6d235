// From the candidate lists of a group of queries to its answers: what remains is scored, the
// thresholds are verified, and the best documents enter the running answers.
#pragma once
#include "cpu/host/answer_merger.h"
#include "cpu/host/candidates.h"
#include "cpu/host/fold.h"
#include "cpu/host/group.h"

namespace tilefold::cpu {

// Scores all candidates that can still be among the k best, and drops the rest.
void settle(const SearchArgs& a, const SearchKernels& kernels, const Group& group,
            Strategy strategy, Candidates& found);

// Whether list q has all answers, unless bounds were wrong: k documents reach its threshold, so that
// nothing dropped can be among the k best.
bool verified(const SearchArgs& a, const Group& group, int q, Candidates& found);

// Merges the candidates of query q of the group into its running answers.
void merge(const SearchArgs& a, const SearchKernels& kernels, const Group& group, int q,
           Candidates& found, AnswerMerger& merger);

}  // namespace tilefold::cpu
