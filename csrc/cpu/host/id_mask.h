// Documents that are left out by what they are: those of query i whose id is one of its group's. Found
// chunk by chunk while scores are formed, because labels as ids would make lists as long as a matrix.
#pragma once
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "contract/search.h"
#include "cpu/host/walk.h"

namespace tilefold {

class Identity {
 public:
  Identity(const IdentityArgs& a, const Walk& walk) : a_(a), walk_(walk) {
    if (!a.groups) return;
    for (int64_t d = 0; d < walk.m; ++d) sorted_.push_back({a.document_ids[d], d});
    for (int64_t c = 0; c < walk.chunks; ++c)
      std::sort(begin(c), begin(c) + static_cast<std::ptrdiff_t>(walk.documents_of(c)));
  }

  // Calls visit(query in the block, document) for those of a chunk.
  template <class Visit>
  void for_each(int64_t chunk, Visit visit) const {
    if (!a_.groups) return;
    const auto first = sorted_.begin() + static_cast<std::ptrdiff_t>(walk_.first_of(chunk));
    const auto last = first + static_cast<std::ptrdiff_t>(walk_.documents_of(chunk));
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
    return sorted_.begin() + static_cast<std::ptrdiff_t>(walk_.first_of(chunk));
  }

  const IdentityArgs& a_;
  const Walk& walk_;
  std::vector<std::pair<int64_t, int64_t>> sorted_;  // [m] (id, document), by id in every chunk
};

}  // namespace tilefold
