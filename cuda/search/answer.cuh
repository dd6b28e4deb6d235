// From the scored candidates of a query to its answer, once that is certain: k documents reach the
// threshold below which others were dropped. A query without an answer goes on to the next stage.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/search/arguments.h"
#include "cuda/search/canonical.cuh"
#include "cuda/search/filters.cuh"
#include "cuda/search/score.cuh"
#include "cuda/search/select.cuh"

namespace tilefold::cuda {

// Of valid entries, and those of them that reach the threshold.
struct Counts {
  int32_t valid = 0, reaching = 0;
  __device__ Counts operator+(const Counts& other) const {
    return {valid + other.valid, reaching + other.reaching};
  }
};

// Followed by places for the smallest power of two that k does not exceed.
struct AnswerShared {
  SelectShared select;
  ReduceShared<Counts> counts;
  int32_t winners, equal;
  int64_t answers;  // the first of them
};

struct Answer {
  int64_t id;
  float score;
};

// Entries are scored candidates, then earlier answers.
class Entries {
 public:
  __device__ Entries(const SearchArgs& a, const Queries& queries, const CandidateLists& lists,
                     int64_t q)
      : a_(a),
        count_(lists.counts[q]),
        rows_(lists.rows + q * lists.capacity),
        scores_(lists.lower + q * lists.capacity),
        earlier_scores_(a.scores + (queries.first + q) * a.k),
        earlier_ids_(a.ids + (queries.first + q) * a.k),
        max_(max_score(a, queries.first + q)) {}

  __device__ int64_t size() const { return count_ + a_.k; }
  __device__ bool earlier(int64_t i) const { return i >= count_; }
  __device__ float score(int64_t i) const {
    return earlier(i) ? ordered(earlier_scores_[i - count_]) : scores_[i];
  }
  __device__ int64_t id(int64_t i) const {
    return earlier(i) ? earlier_ids_[i - count_] : document_id(a_, rows_[i]);
  }
  // Whether it is an answer at all.
  __device__ bool valid(int64_t i, float least) const {
    if (earlier(i)) return earlier_ids_[i - count_] >= 0;
    return scores_[i] >= least && scores_[i] <= max_;
  }

 private:
  const SearchArgs& a_;
  int64_t count_;
  const int32_t* rows_;
  const float* scores_;
  const float* earlier_scores_;
  const int64_t* earlier_ids_;
  float max_;
};

__device__ inline bool comes_before(const Answer& a, const Answer& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

// Sorts a power of two of answers (Batcher's bitonic sort).
__device__ inline void sort_answers(Answer* answers, int64_t n) {
  for (int64_t run = 2; run <= n; run *= 2)
    for (int64_t step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int64_t pair = threadIdx.x; pair < n / 2; pair += blockDim.x) {
        const int64_t i = pair / step * 2 * step + pair % step, j = i + step;
        const bool forward = (i & run) == 0;
        const Answer x = answers[i], y = answers[j];
        if (comes_before(y, x) == forward) {
          answers[i] = y;
          answers[j] = x;
        }
      }
    }
  __syncthreads();
}

// The k best of `n` valid entries, of which `least` is a lower bound, to the query's row of scores
// and ids.
__device__ inline void write_answer(const SearchArgs& a, AnswerShared& shared,
                                    const Entries& entries, int64_t number, float least, int64_t n,
                                    int64_t places) {
  Answer* const answers = reinterpret_cast<Answer*>(&shared.answers);
  const auto valid = [&](int64_t i) { return entries.valid(i, least); };
  const auto score_key = [&](int64_t i) { return ascending_key(entries.score(i)); };
  const auto id_key = [&](int64_t i) { return descending_key(entries.id(i)); };
  Boundary boundary = {0, 0, 0};  // all are within
  if (n > a.k)
    boundary = find_boundary(shared.select, entries.size(), a.k, valid, score_key, id_key);
  if (threadIdx.x == 0) shared.winners = shared.equal = 0;
  for (int64_t i = threadIdx.x; i < places; i += blockDim.x) answers[i] = {INT64_MAX, -INFINITY};
  __syncthreads();
  for (int64_t i = threadIdx.x; i < entries.size(); i += blockDim.x) {
    if (!valid(i)) continue;
    const Boundary::Side side = boundary.side(score_key(i), id_key(i));
    if (side == Boundary::Side::beyond) continue;
    if (side == Boundary::Side::at && atomicAdd(&shared.equal, 1) >= boundary.equal) continue;
    answers[atomicAdd(&shared.winners, 1)] = {entries.id(i), entries.score(i)};
  }
  sort_answers(answers, places);
  for (int64_t i = threadIdx.x; i < shared.winners; i += blockDim.x) {
    a.scores[number * a.k + i] = answers[i].score;
    a.ids[number * a.k + i] = answers[i].id;
  }
}

static __global__ void __launch_bounds__(list_threads)
    answer(const __grid_constant__ SearchArgs a, const __grid_constant__ Queries queries,
           const __grid_constant__ CandidateLists lists, const int64_t places, const Stage stage) {
  const int64_t q = blockIdx.x, number = queries.first + q;
  if (queries.stages[q] != stage) return;
  AnswerShared& shared = shared_memory<AnswerShared>();
  const Entries entries(a, queries, lists, q);
  const float initial = queries.initial[q];
  const float threshold = stage == Stage::exact ? initial : queries.thresholds[q];
  const int32_t fault = stage == Stage::exact ? 0 : queries.faults[q];

  Counts mine;
  for (int64_t i = threadIdx.x; i < entries.size(); i += blockDim.x)
    if (entries.valid(i, threshold)) {
      ++mine.valid;
      mine.reaching += entries.score(i) >= threshold;
    }
  const Counts all = sum_block(shared.counts, mine);
  if (!fault && (threshold <= initial || all.reaching >= a.k)) {
    write_answer(a, shared, entries, number, threshold, all.valid, places);
    if (threadIdx.x != 0) return;
    queries.stages[q] = Stage::answered;
    if (a.refined) add_wrapping(a.refined + number, queries.refined[q]);
    if (a.pruned_bound && queries.pruned[q] > a.pruned_bound[number])
      a.pruned_bound[number] = queries.pruned[q];
    return;
  }
  // What k scored documents reach is certain, whatever else is wrong.
  const uint32_t bound =
      kth_largest<uint32_t>(
          shared.select, entries.size(), a.k, [&](int64_t i) { return entries.valid(i, initial); },
          [&](int64_t i) { return ascending_key(entries.score(i)); })
          .key;
  if (threadIdx.x != 0) return;
  const float certain = bound ? score_of(bound) : -INFINITY;
  queries.thresholds[q] = certain > initial ? certain : initial;
  queries.stages[q] =
      fault == bounds_wrong || stage == Stage::certain ? Stage::exact : Stage::certain;
  queries.faults[q] = 0;
  queries.pruned[q] = -INFINITY;
  lists.counts[q] = 0;
}

}  // namespace tilefold::cuda
