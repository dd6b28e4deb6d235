// Element types, matrices and lists per query, which the contracts of all ops share. Strides are in
// elements. Nothing here owns memory.
#pragma once
#include <cstdint>

namespace tilefold {

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

enum class Dtype { f32, f16, bf16, i8, f64 };

constexpr int64_t item_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return 4;
    case Dtype::f16:
    case Dtype::bf16: return 2;
    case Dtype::i8: return 1;
    case Dtype::f64: return 8;
  }
  return 0;
}

struct Matrix {
  const void* data;  // [rows, dim], each row contiguous
  int64_t rows;
  int64_t dim;
  int64_t row_stride;
  Dtype dtype;
};

// Document indices for each query in CSR form, ascending within a query.
struct Lists {
  const int64_t* offsets;  // [n + 1], or null: no lists
  const int64_t* indices;
  int64_t size;  // of indices, in all
};

}  // namespace tilefold
