// The filter: one block of documents against a group of queries. A tile of integer inner products
// becomes upper and lower bounds of scores; a document whose upper bound is strictly below the
// query's threshold cannot be among the k best. Ties are kept.
#pragma once
#include "cpu/lanes/quantise.h"

namespace tilefold::cpu::ISA {
namespace {

struct DocumentBounds {
  Floats scale, norm, radius;
};

// Computes lower and upper bounds for one query and float_lanes documents, and appends the
// documents that pass to the query's list.
inline void fold_bounds(const ScanArgs& a, int q, int at, const int32_t* products,
                        const DocumentBounds& d) {
  constexpr int log2 = coarse_codes ? 2 : 0;
  constexpr int offset = coarse_codes ? 257 : 128;
  constexpr float absolute_slack = 1.17549435e-38f;  // for products that underflow
  const QueryBound& bound = a.query_bounds[q];
  const Floats centre =
      mul(mul(from_ints(products, log2, offset * bound.code_sum), d.scale), broadcast(bound.scale));
  const Floats width = multiply_add(
      broadcast(bound.norm_factor), d.norm,
      multiply_add(broadcast(bound.radius_factor), d.radius, broadcast(absolute_slack)));
  const Floats upper = add(centre, width);
  const uint32_t allowed = a.mask >> at & static_cast<uint32_t>((1ull << float_lanes) - 1);
  uint32_t pass = greater_equal(upper, broadcast(a.thresholds[q])) & allowed;
  if (a.pruned) {
    const Floats dropped = blend(allowed & ~pass, upper, broadcast(-HUGE_VALF));
    float lane[float_lanes];
    store(lane, dropped);
    for (int l = 0; l < float_lanes; ++l)
      if (lane[l] > a.pruned[q]) a.pruned[q] = lane[l];
  }
  if (!pass) return;
  float lowers[float_lanes], uppers[float_lanes];
  store(lowers, sub(centre, width));
  store(uppers, upper);
  Candidate* list = a.candidates + q * a.capacity + a.counts[q];
  for (; pass; pass &= pass - 1) {
    const int l = __builtin_ctz(pass);
    *list++ = {lowers[l], uppers[l], a.first_row + at + l, Stage::filtered};
    ++a.counts[q];
  }
}

// Prefetches a part of the next block during each tile, so that its first tile does not wait for
// memory.
inline void prefetch_next(const ScanArgs& a, int first) {
  const int64_t bytes = a.dim * block_rows;
  const int64_t begin = bytes * first / a.n_queries;
  const int64_t end = bytes * (first + query_tile) / a.n_queries;
  for (int64_t at = begin; at < end; at += 64) __builtin_prefetch(a.codes + bytes + at);
}

void scan(const ScanArgs& a) {
  const uint8_t* codes = tile_codes(a.codes, a.dim, a.scratch);
  const float* radius = a.bounds + (coarse_codes ? 3 : 2) * block_rows;
  alignas(64) int32_t products[query_tile * block_rows];
  for (int first = 0; first < a.n_queries; first += query_tile) {
    const int n = a.n_queries - first < query_tile ? a.n_queries - first : query_tile;
    if (a.n_queries > 4 * query_tile) prefetch_next(a, first);
    tile(codes, a.query_codes + first * a.dim, n, a.dim, products);
    for (int at = 0; at < block_rows; at += float_lanes) {
      const DocumentBounds d = {load(a.bounds + at), load(a.bounds + block_rows + at),
                                load(radius + at)};
      for (int q = 0; q < n; ++q) fold_bounds(a, first + q, at, products + q * block_rows + at, d);
    }
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
