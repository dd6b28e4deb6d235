// Lists of documents for each query, as two arrays in CSR form.
#pragma once
#include "contract/matrix.h"
#include "ops/arguments.h"
#include "view.h"

namespace tilefold::ops {

// Checked lists, which live as long as this object.
struct OwnLists {
  Places offsets, indices;

  bool given() const { return offsets.given(); }
  Lists lists() const { return {offsets.data(), indices.data(), indices.size()}; }
};

// Lists of n queries with indices of m documents; `name` is the op and the argument. Null offsets
// if the arrays are absent.
OwnLists read_lists(const char* name, const View& offsets, const View& indices, int64_t n,
                    int64_t m);

}  // namespace tilefold::ops
