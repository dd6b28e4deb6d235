// Documents excluded by id: for query i, those whose id is among the ids of its group. They are
// found chunk by chunk while scores are computed, because with labels as ids, lists of them would
// be as large as the score matrix.
#pragma once
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "contract/losses.h"
#include "cpu/host/walk.h"

namespace tilefold::cpu {

class IdMask {
 public:
  IdMask(const IdExclusion& a, const Walk& walk) : a_(a), walk_(walk) {
    if (!a.groups) return;
    for (int64_t d = 0; d < walk.m; ++d) sorted_.push_back({a.document_ids[d], d});
    for (int64_t c = 0; c < walk.chunks; ++c)
      std::sort(begin(c), begin(c) + static_cast<std::ptrdiff_t>(walk.n_documents(c)));
  }

  // Calls visit(query in the block, document) for the excluded pairs of a chunk.
  template <class Visit>
  void for_each(int64_t chunk, Visit visit) const {
    if (!a_.groups) return;
    const auto first = sorted_.begin() + static_cast<std::ptrdiff_t>(walk_.first_document(chunk));
    const auto last = first + static_cast<std::ptrdiff_t>(walk_.n_documents(chunk));
    for (int64_t q = 0; q < walk_.rows; ++q) {
      const int64_t group = a_.groups[walk_.first + q];
      for (int64_t e = a_.ids.offsets[group]; e < a_.ids.offsets[group + 1]; ++e) {
        const int64_t id = a_.ids.indices[e];
        for (auto at = std::lower_bound(first, last, std::make_pair(id, int64_t{0}));
             at != last && at->first == id; ++at)
          visit(q, at->second);
      }
    }
  }

 private:
  std::vector<std::pair<int64_t, int64_t>>::iterator begin(int64_t chunk) {
    return sorted_.begin() + static_cast<std::ptrdiff_t>(walk_.first_document(chunk));
  }

  const IdExclusion& a_;
  const Walk& walk_;
  std::vector<std::pair<int64_t, int64_t>> sorted_;  // [m] (id, document), by id in every chunk
};

}  // namespace tilefold::cpu
