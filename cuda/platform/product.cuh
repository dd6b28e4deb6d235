// Matrix products in fp32 or fp64 on the general cores: C (+)= A B, with operands of any dtype and
// either order in memory. Every element of C is one sum in the order of the inner dimension, so that
// the bits do not depend on the device.
#pragma once
#include <cstdint>

#include "cuda/platform/launch.h"
#include "cuda/platform/shared.h"
#include "cuda/platform/values.h"

namespace tilefold::cuda {

// Element (i, k) is data[i * outer_stride + k * inner_stride]; one of the strides is 1.
template <class E>
struct Operand {
  const E* data;
  int64_t outer_stride, inner_stride;
};

template <class E>
Operand<E> by_rows(const Matrix& m, int64_t first = 0) {
  return {static_cast<const E*>(m.data) + first * m.row_stride, m.row_stride, 1};
}
template <class E>
Operand<E> by_columns(const Matrix& m, int64_t first = 0) {
  return {static_cast<const E*>(m.data) + first * m.row_stride, 1, m.row_stride};
}

// C [rows, columns] (+)= the sum over k < inner of a(i, k) b(j, k).
template <class T, class A, class B>
struct ProductArgs {
  Operand<A> a;
  Operand<B> b;
  T* c;
  int64_t rows = 0, columns = 0, inner = 0, c_stride = 0;
  bool accumulate = false;
  bool lower_triangle = false;  // only elements with column <= row
};

constexpr int product_threads = 256, product_depth = 16;
// A thread has micro_tile x micro_tile elements of C, 16 apart.
template <class T>
constexpr int micro_tile = sizeof(T) == 4 ? 8 : 4;
template <class T>
constexpr int product_tile = 16 * micro_tile<T>;

template <class T>
struct ProductShared {
  static constexpr int stride = product_tile<T> + 1;  // odd, so that columns are in all banks
  SharedArray<T, product_depth * stride> a, b;
};

// The part of an operand that a thread brings to shared memory for one step.
template <class T, class E>
class Panel {
 public:
  __device__ Panel(const Operand<E>& from, int64_t first, int64_t end, int64_t inner)
      : from_(from), first_(first), end_(end), inner_(inner) {}

  __device__ void load(int64_t k) {
    TILEFOLD_UNROLL
    for (int r = 0; r < per_thread; ++r) {
      const int64_t i = first_ + outer(r), at = k + depth(r);
      values_[r] = i < end_ && at < inner_
                       ? static_cast<T>(
                             widened(from_.data[i * from_.outer_stride + at * from_.inner_stride]))
                       : T(0);
    }
  }
  template <class Shared>
  __device__ void store(Shared& shared) {
    TILEFOLD_UNROLL
    for (int r = 0; r < per_thread; ++r)
      shared[depth(r) * ProductShared<T>::stride + outer(r)] = values_[r];
  }

 private:
  static constexpr int tile = product_tile<T>;
  static constexpr int per_thread = tile * product_depth / product_threads;

  // Neighbouring threads have neighbouring addresses.
  __device__ int element(int r) const {
    return r * product_threads + static_cast<int>(threadIdx.x);
  }
  __device__ int outer(int r) const {
    return from_.inner_stride == 1 ? element(r) / product_depth : element(r) % tile;
  }
  __device__ int depth(int r) const {
    return from_.inner_stride == 1 ? element(r) % product_depth : element(r) / tile;
  }

  const Operand<E>& from_;
  const int64_t first_, end_, inner_;
  T values_[per_thread];
};

template <class T, class A, class B>
__global__ void __launch_bounds__(product_threads)
    multiply(const __grid_constant__ ProductArgs<T, A, B> p) {
  constexpr int micro = micro_tile<T>, tile = product_tile<T>;
  ProductShared<T>& shared = shared_memory<ProductShared<T>>();
  const int64_t tiles = (p.columns + tile - 1) / tile;
  const int64_t first_row = blockIdx.x / tiles * tile, first_column = blockIdx.x % tiles * tile;
  if (p.lower_triangle && first_column >= first_row + tile) return;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  Panel<T, A> a(p.a, first_row, p.rows, p.inner);
  Panel<T, B> b(p.b, first_column, p.columns, p.inner);
  T sums[micro][micro] = {};
  a.load(0);
  b.load(0);
  for (int64_t k = 0; k < p.inner; k += product_depth) {
    __syncthreads();  // the step before has been used
    a.store(shared.a);
    b.store(shared.b);
    __syncthreads();
    a.load(k + product_depth);
    b.load(k + product_depth);
    for (int d = 0; d < product_depth; ++d) {
      T row[micro], column[micro];
      TILEFOLD_UNROLL
      for (int i = 0; i < micro; ++i) {
        row[i] = shared.a[d * ProductShared<T>::stride + 16 * i + y];
        column[i] = shared.b[d * ProductShared<T>::stride + 16 * i + x];
      }
      TILEFOLD_UNROLL
      for (int i = 0; i < micro; ++i) TILEFOLD_UNROLL
      for (int j = 0; j < micro; ++j) sums[i][j] = fma(row[i], column[j], sums[i][j]);
    }
  }
  TILEFOLD_UNROLL
  for (int i = 0; i < micro; ++i) TILEFOLD_UNROLL
  for (int j = 0; j < micro; ++j) {
    const int64_t r = first_row + 16 * i + y, c = first_column + 16 * j + x;
    if (r >= p.rows || c >= p.columns || (p.lower_triangle && c > r)) continue;
    T& out = p.c[r * p.c_stride + c];
    out = p.accumulate ? out + sums[i][j] : sums[i][j];
  }
}

template <class T, class A, class B>
void launch_product(const Stream& stream, const ProductArgs<T, A, B>& p) {
  const int64_t tiles =
      blocks_for(p.rows, product_tile<T>) * blocks_for(p.columns, product_tile<T>);
  launch("multiply", multiply<T, A, B>, {tiles, 1, product_threads, sizeof(ProductShared<T>)},
         stream, p);
}

}  // namespace tilefold::cuda
