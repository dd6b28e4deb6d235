#include "ops/lists.h"

#include "check.h"

namespace tilefold::ops {
namespace {

void check_indices(const char* name, const Lists& l, int64_t n, int64_t m) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t e = l.offsets[i]; e < l.offsets[i + 1]; ++e) {
      check(l.indices[e] >= 0 && l.indices[e] < m, name, " must be indices of documents, 0 to ",
            m - 1, ", got ", l.indices[e], " for query ", i);
      check(e == l.offsets[i] || l.indices[e - 1] < l.indices[e], name, " of query ", i,
            " must rise without repeating, got ", l.indices[e], " after ",
            l.indices[e > 0 ? e - 1 : 0]);
    }
}

}  // namespace

OwnLists read_lists(const char* name, const View& offsets, const View& indices, int64_t n,
                    int64_t m) {
  check(offsets.given() == indices.given(), name, " need both offsets and indices");
  if (!offsets.given()) return {};
  OwnLists l = {Places(offsets, n + 1), Places(indices, indices.rows())};
  if (!host_readable(offsets.device())) return l;
  check_offsets(name, l.offsets.data(), n, indices.rows());
  check_indices(name, l.lists(), n, m);
  return l;
}

}  // namespace tilefold::ops
