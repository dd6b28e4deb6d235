#include "marks.h"

namespace tilefold {
namespace {

// Calls visit(mark) for positives first.
template <class Visit>
void for_each(const ContrastiveArgs& a, int64_t first, int64_t n, Visit visit) {
  for (int64_t q = 0; q < n; ++q)
    for (int64_t p = a.positive_offsets[first + q]; p < a.positive_offsets[first + q + 1]; ++p)
      visit(Mark{a.positives[p], p, static_cast<int>(q)});
  if (!a.exclude_offsets) return;
  for (int64_t q = 0; q < n; ++q)
    for (int64_t e = a.exclude_offsets[first + q]; e < a.exclude_offsets[first + q + 1]; ++e)
      visit(Mark{a.excluded[e], -1, static_cast<int>(q)});
}

}  // namespace

Marks::Marks(const ContrastiveArgs& a, int64_t first, int64_t n, int64_t chunk) {
  const int64_t chunks = (a.documents.rows + chunk - 1) / chunk;
  offsets_.assign(static_cast<std::size_t>(chunks + 1), 0);
  for_each(a, first, n,
           [&](const Mark& m) { ++offsets_[static_cast<std::size_t>(m.document / chunk + 1)]; });
  for (std::size_t c = 0; c < static_cast<std::size_t>(chunks); ++c) offsets_[c + 1] += offsets_[c];
  marks_.resize(static_cast<std::size_t>(offsets_.back()));
  std::vector<int64_t> next(offsets_.begin(), offsets_.end() - 1);
  for_each(a, first, n, [&](const Mark& m) {
    marks_[static_cast<std::size_t>(next[static_cast<std::size_t>(m.document / chunk)]++)] = m;
  });
}

}  // namespace tilefold
