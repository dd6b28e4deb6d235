#include "cpu/host/masked_pairs.h"

namespace tilefold::cpu {
namespace {

template <class Visit>
void for_each(const Lists& lists, bool listed, const Walk& walk, Visit visit) {
  if (!lists.offsets) return;
  for (int64_t q = 0; q < walk.rows; ++q) {
    const int64_t* range = lists.offsets + walk.first + q;
    for (int64_t e = range[0]; e < range[1]; ++e)
      visit(MaskedPair{lists.indices[e], listed ? e : -1, static_cast<int>(q)});
  }
}

}  // namespace

// A counting sort by chunk.
MaskedPairs::MaskedPairs(const Lists& listed, const Lists& excluded, const Walk& walk) {
  const auto chunk_index = [](const MaskedPair& pair) {
    return static_cast<std::size_t>(pair.document / Walk::chunk_documents);
  };
  const auto for_all = [&](auto visit) {
    for_each(listed, true, walk, visit);
    for_each(excluded, false, walk, visit);
  };
  offsets_.assign(static_cast<std::size_t>(walk.chunks + 1), 0);
  for_all([&](const MaskedPair& pair) { ++offsets_[chunk_index(pair) + 1]; });
  for (std::size_t c = 0; c + 1 < offsets_.size(); ++c) offsets_[c + 1] += offsets_[c];
  pairs_.resize(static_cast<std::size_t>(offsets_.back()));
  std::vector<int64_t> next(offsets_.begin(), offsets_.end() - 1);
  for_all([&](const MaskedPair& pair) {
    pairs_[static_cast<std::size_t>(next[chunk_index(pair)]++)] = pair;
  });
}

}  // namespace tilefold::cpu
