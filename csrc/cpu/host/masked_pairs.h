// Pairs (query, document) of a block that a loss treats separately: listed pairs, such as
// positives, and excluded pairs. They are ordered by chunks of documents, which are the units of
// parallel work.
#pragma once
#include <cstddef>
#include <vector>

#include "contract/matrix.h"
#include "cpu/host/walk.h"

namespace tilefold::cpu {

struct MaskedPair {
  int64_t document;
  int64_t listed;  // position in the lists; -1: excluded
  int query;       // in the block

  bool excluded() const { return listed < 0; }
};

class MaskedPairs {
 public:
  // Pairs of the walk's current block.
  MaskedPairs(const Lists& listed, const Lists& excluded, const Walk& walk);

  struct Range {
    const MaskedPair *first, *last;
    const MaskedPair* begin() const { return first; }
    const MaskedPair* end() const { return last; }
  };
  // Listed pairs come before excluded ones.
  Range chunk(int64_t c) const {
    const auto at = static_cast<std::size_t>(c);
    return {pairs_.data() + offsets_[at], pairs_.data() + offsets_[at + 1]};
  }

 private:
  std::vector<int64_t> offsets_;  // [chunks + 1]
  std::vector<MaskedPair> pairs_;
};

}  // namespace tilefold::cpu
