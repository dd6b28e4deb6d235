// Which documents a query may have as answers.
#pragma once
#include "contract/search.h"
#include "cuda/platform/cuda.h"

namespace tilefold::cuda {

__device__ inline bool allowed(const SearchArgs& a, int64_t row) {
  return row < a.documents.rows &&
         (!a.allowed || (a.allowed[row / block_rows] >> row % block_rows & 1));
}

__device__ inline int64_t document_id(const SearchArgs& a, int64_t row) {
  return a.document_ids ? a.document_ids[row] : a.first_id + row;
}

// Whether the query excludes a document by id.
__device__ inline bool excluded(const SearchArgs& a, int64_t query, int64_t row) {
  if (!a.exclude_offsets) return false;
  const int64_t id = document_id(a, row);
  int64_t begin = a.exclude_offsets[query], end = a.exclude_offsets[query + 1];
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    if (a.exclude_ids[middle] < id)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin < a.exclude_offsets[query + 1] && a.exclude_ids[begin] == id;
}

__device__ inline float max_score(const SearchArgs& a, int64_t query) {
  return a.max_score ? a.max_score[query] : INFINITY;
}

}  // namespace tilefold::cuda
