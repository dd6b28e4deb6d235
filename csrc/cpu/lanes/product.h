// The matrix product of the losses: C (+)= A B for a tile of B's columns. A tile of sums stays in
// registers along the inner dimension. A is read in place; B is packed so that each step reads a
// few consecutive registers.
#pragma once
#include <string.h>

#include "cpu/lanes/number.h"

namespace tilefold::cpu::ISA {
namespace {

template <class T>
constexpr int tile_columns = product_registers * Number<T>::width;

// Stores N rows of sums in C.
template <int N, class T, class Lanes>
inline __attribute__((always_inline)) void store_rows(Lanes (&sum)[N][product_registers], T* c,
                                                      int64_t c_row, int64_t columns,
                                                      bool accumulate) {
  using L = Number<T>;
  if (columns == tile_columns<T>) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < product_registers; ++v) {
        T* at = c + i * c_row + v * L::width;
        store(at, accumulate ? add(load(at), sum[i][v]) : sum[i][v]);
      }
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    T lane[tile_columns<T>];
#pragma GCC unroll 4
    for (int v = 0; v < product_registers; ++v) store(lane + v * L::width, sum[i][v]);
    T* out = c + i * c_row;
    for (int64_t j = 0; j < columns; ++j) out[j] = accumulate ? out[j] + lane[j] : lane[j];
  }
}

// Multiplies N rows of A.
template <int N, class T>
__attribute__((noinline)) void product_rows(const ProductArgs<T>& p, const T* a, T* c) {
  using L = Number<T>;
  typename L::Lanes sum[N][product_registers];
  for (int i = 0; i < N; ++i)
    for (int v = 0; v < product_registers; ++v) sum[i][v] = L::splat(0);
  const T* b = p.b;
  for (int64_t o = 0; o < p.outer; ++o) {
    const T* x = a + o * p.a_outer;
    for (int64_t j = 0; j < p.inner; ++j, x += p.a_inner, b += tile_columns<T>) {
      typename L::Lanes y[product_registers];
      for (int v = 0; v < product_registers; ++v) y[v] = load(b + v * L::width);
      for (int i = 0; i < N; ++i) {
        const typename L::Lanes s = L::splat(x[i * p.a_row]);
        for (int v = 0; v < product_registers; ++v) sum[i][v] = multiply_add(s, y[v], sum[i][v]);
      }
    }
  }
  store_rows<N>(sum, c, p.c_row, p.columns, p.accumulate);
}

template <class T>
void multiply(const ProductArgs<T>& p) {
  const T* a = p.a;
  T* c = p.c;
  int64_t left = p.rows;
  const auto step = [&](int64_t n) {
    a += n * p.a_row;
    c += n * p.c_row;
    left -= n;
  };
  while (left >= product_height) {
    product_rows<product_height>(p, a, c);
    step(product_height);
  }
  if (product_height > 4 && left >= 4) {
    product_rows<4>(p, a, c);
    step(4);
  }
  if (left >= 2) {
    product_rows<2>(p, a, c);
    step(2);
  }
  if (left) product_rows<1>(p, a, c);
}

// Transposes n <= tile_columns rows x [n][dim] to out [dim][tile columns], padded with zeros.
template <class T>
void pack_rows(const T* x, int64_t stride, int64_t n, int64_t dim, T* out) {
  for (int64_t j = 0; j < dim; ++j, out += tile_columns<T>) {
    for (int64_t i = 0; i < n; ++i) out[i] = x[i * stride + j];
    for (int64_t i = n; i < tile_columns<T>; ++i) out[i] = 0;
  }
}

// Copies some columns of n rows to out [n][tile columns], padded with zeros.
template <class T>
void pack_columns(const T* x, int64_t stride, int64_t n, int64_t columns, T* out) {
  using L = Number<T>;
  if (columns == tile_columns<T>) {
    for (int64_t i = 0; i < n; ++i, x += stride, out += tile_columns<T>)
#pragma GCC unroll 4
      for (int v = 0; v < product_registers; ++v) store(out + v * L::width, load(x + v * L::width));
    return;
  }
  for (int64_t i = 0; i < n; ++i, x += stride, out += tile_columns<T>) {
    memcpy(out, x, static_cast<size_t>(columns) * sizeof(T));
    memset(out + columns, 0, static_cast<size_t>(tile_columns<T> - columns) * sizeof(T));
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
