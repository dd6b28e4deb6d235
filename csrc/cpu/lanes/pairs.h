// Products of bf16 pairs, summed in fp32: the tile of product.h with two steps of the inner
// dimension at once. Products of two bf16 are exact in fp32, so scores lose no accuracy. Gradients
// of scores are rounded to bf16 once, before their products.
#pragma once
#include "cpu/lanes/product.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int pair_columns = tile_columns<float>;

// Multiplies N rows of A.
template <int N>
__attribute__((noinline)) void pair_rows(const PairProductArgs& p, const Bfloat* a, float* c) {
  constexpr int registers = product_registers;
  Floats sum[N][registers];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < registers; ++v) sum[i][v] = broadcast(0);
  const Bfloat* b = p.b;
  for (int64_t j = 0; j < p.inner / 2; ++j, a += p.a_pair, b += 2 * pair_columns) {
    Pairs y[registers];
#pragma GCC unroll 4
    for (int v = 0; v < registers; ++v) y[v] = load_pairs(b + 2 * v * float_lanes);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Pairs x = splat_pair(a + i * p.a_row);
#pragma GCC unroll 4
      for (int v = 0; v < registers; ++v) dot_add(sum[i][v], y[v], x);
    }
  }
  if (p.inner % 2) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Bfloat last[2] = {a[i * p.a_row], {0}};
#pragma GCC unroll 4
      for (int v = 0; v < registers; ++v)
        dot_add(sum[i][v], load_pairs(b + 2 * v * float_lanes), splat_pair(last));
    }
  }
  store_rows<N>(sum, c, p.c_row, p.columns, p.accumulate);
}

void multiply_pairs(const PairProductArgs& p) {
  PairProductArgs left = p;
  const auto step = [&](int64_t n) {
    left.a += n * p.a_row;
    left.c += n * p.c_row;
    left.rows -= n;
  };
  for (; left.rows >= 8; step(8)) pair_rows<8>(p, left.a, left.c);
  for (; left.rows >= 4; step(4)) pair_rows<4>(p, left.a, left.c);
  for (; left.rows >= 2; step(2)) pair_rows<2>(p, left.a, left.c);
  if (left.rows) pair_rows<1>(p, left.a, left.c);
}

void pack_row_pairs(const Bfloat* x, int64_t stride, int64_t n, int64_t dim, Bfloat* out) {
  for (int64_t j = 0; j < dim; j += 2, out += 2 * pair_columns) {
    for (int64_t i = 0; i < n; ++i) {
      out[2 * i] = x[i * stride + j];
      out[2 * i + 1] = j + 1 < dim ? x[i * stride + j + 1] : Bfloat{0};
    }
    memset(out + 2 * n, 0, static_cast<size_t>(pair_columns - n) * 2 * sizeof *out);
  }
}

void pack_column_pairs(const Bfloat* x, int64_t stride, int64_t n, int64_t columns, Bfloat* out) {
  for (int64_t i = 0; i < n; i += 2, x += 2 * stride, out += 2 * pair_columns) {
    const Bfloat* next = i + 1 < n ? x + stride : nullptr;
    for (int64_t j = 0; j < columns; ++j) {
      out[2 * j] = x[j];
      out[2 * j + 1] = next ? next[j] : Bfloat{0};
    }
    memset(out + 2 * columns, 0, static_cast<size_t>(pair_columns - columns) * 2 * sizeof *out);
  }
}

void round_queries(const float* panel, int64_t n_documents, int64_t stride, Bfloat* out) {
  for (int64_t d = 0; d < n_documents; ++d, panel += pair_columns, out += stride)
    for (int at = 0; at < pair_columns; at += float_lanes)
      store_narrowed(out + at, load(panel + at));
}

void round_documents(const float* panel, int64_t n_documents, Bfloat* out) {
  for (int64_t d = 0; d < n_documents; d += 2, out += 2 * pair_columns)
    for (int at = 0; at < pair_columns; at += float_lanes) {
      const float* first = panel + d * pair_columns + at;
      store_pairs(out + 2 * at, load(first),
                  d + 1 < n_documents ? load(first + pair_columns) : broadcast(0));
    }
}

// Every loop is unrolled, or the accumulators would stay in memory.
double peak_bf16(int64_t rounds) {
  constexpr int chains = 12;
  Floats sum[chains];
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = broadcast(0);
  const Bfloat half[2] = {{0x3f00}, {0x3f00}};
  const Pairs a = splat_pair(half);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) dot_add(sum[i], a, a);
  volatile float kept;
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) {
    float lane[float_lanes];
    store(lane, sum[i]);
    kept = lane[0];
  }
  (void)kept;
  return 2.0 * 2 * float_lanes * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
