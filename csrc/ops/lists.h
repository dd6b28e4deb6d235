// Lists of documents for each query, as two arrays in CSR form.
#pragma once
#include "contract/device.h"
#include "contract/matrix.h"
#include "view.h"

namespace tilefold::ops {

// Lists of n queries with indices of m documents; `name` is the op and the argument. Null offsets
// if the arrays are absent.
Lists read_lists(const char* name, const View& offsets, const View& indices, int64_t n, int64_t m);

}  // namespace tilefold::ops
