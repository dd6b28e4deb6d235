// Single places (query, document) of a block of queries that a loss treats apart: those listed, such
// as positives, and those left out. Ordered by chunks of documents, because chunks are what tasks
// work on.
#pragma once
#include <cstddef>
#include <vector>

#include "contract/search.h"
#include "cpu/host/walk.h"

namespace tilefold {

struct Mark {
  int64_t document;
  int64_t listed;  // index into the list; -1: left out
  int query;       // in the block
};

class Marks {
 public:
  // Of the queries of the walk's block.
  Marks(const Lists& listed, const Lists& excluded, const Walk& walk);

  // Those listed before those left out.
  const Mark* begin(int64_t chunk) const {
    return marks_.data() + offsets_[static_cast<std::size_t>(chunk)];
  }
  const Mark* end(int64_t chunk) const {
    return marks_.data() + offsets_[static_cast<std::size_t>(chunk + 1)];
  }

 private:
  std::vector<int64_t> offsets_;  // [chunks + 1]
  std::vector<Mark> marks_;
};

}  // namespace tilefold
