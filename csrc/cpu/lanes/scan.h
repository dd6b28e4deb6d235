// The filter: one block of documents against a group of queries. A tile of integer inner products
// becomes upper and lower bounds of scores; a document whose upper bound is strictly below the
// query's threshold cannot be among the k best. Ties are kept.
#pragma once
#include "cpu/lanes/quantise.h"

namespace tilefold::cpu::ISA {
namespace {

// What the width of bounds depends on, of documents: norms, radii and magnitudes of their parts
// along the direction.
struct Extents {
  Floats norm, radius, along;
};

inline Extents extents(const float* bounds, int at) {
  return {load(bounds + block_rows + at), load(bounds + 2 * block_rows + at),
          absolute(load(bounds + 3 * block_rows + at))};
}

// The largest of each among the documents of a block, in every lane.
inline Extents widest_extents(const float* bounds) {
  Extents widest = extents(bounds, 0);
  for (int at = float_lanes; at < block_rows; at += float_lanes) {
    const Extents some = extents(bounds, at);
    widest = {maximum(widest.norm, some.norm), maximum(widest.radius, some.radius),
              maximum(widest.along, some.along)};
  }
  return {broadcast(max_lanes(widest.norm)), broadcast(max_lanes(widest.radius)),
          broadcast(max_lanes(widest.along))};
}

// Half the distance of the bounds. Rounding is monotonic, so that wider extents give no smaller one.
inline Floats half_width(const QueryBound& query, const Extents& documents) {
  constexpr float absolute_slack = 1.17549435e-38f;  // for products that underflow
  return multiply_add(broadcast(query.norm_factor), documents.norm,
                      multiply_add(broadcast(query.radius_factor), documents.radius,
                                   multiply_add(broadcast(query.along_factor), documents.along,
                                                broadcast(absolute_slack))));
}

// Appends the documents of a block that may reach the threshold to the query's list. Documents are
// compared by the widest bounds of their block first, so that most need no others.
inline void fold_query(const ScanArgs& a, int q, const int32_t* products, const Extents& widest) {
  const QueryBound& query = a.query_bounds[q];
  const Floats threshold = broadcast(a.thresholds[q]);
  const Floats most = half_width(query, widest);
  for (int at = 0; at < block_rows; at += float_lanes) {
    const Floats product =
        mul(mul(from_ints(products + at, 128 * query.code_sum), load(a.bounds + at)),
            broadcast(query.scale));
    const Floats centre =
        multiply_add(broadcast(query.along), load(a.bounds + 3 * block_rows + at), product);
    const uint32_t allowed = a.mask >> at & static_cast<uint32_t>((1ull << float_lanes) - 1);
    uint32_t pass = greater_equal(add(centre, most), threshold) & allowed;
    if (!pass && !a.pruned) continue;
    const Floats width = half_width(query, extents(a.bounds, at));
    const Floats upper = add(centre, width);
    pass &= greater_equal(upper, threshold);
    if (a.pruned) {
      const Floats dropped = blend(allowed & ~pass, upper, broadcast(-HUGE_VALF));
      float lane[float_lanes];
      store(lane, dropped);
      for (int l = 0; l < float_lanes; ++l)
        if (lane[l] > a.pruned[q]) a.pruned[q] = lane[l];
    }
    if (!pass) continue;
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
}

// Prefetches a part of the next block during each tile, so that its first tile does not wait for
// memory.
inline void prefetch_next(const ScanArgs& a, int first) {
  const int64_t bytes = a.dim * block_rows;
  const int64_t begin = bytes * first / a.n_queries;
  const int64_t end = bytes * (first + query_tile) / a.n_queries;
  for (int64_t at = begin; at < end; at += 64) __builtin_prefetch(a.codes + bytes + at);
}

int32_t most_squares(const QueryBound* queries, int n) {
  int32_t most = queries[0].squares;
  for (int q = 1; q < n; ++q) most = queries[q].squares > most ? queries[q].squares : most;
  return most;
}

void scan(const ScanArgs& a) {
  // With few queries, the squares of documents take longer to compute than they save.
  const int64_t squares =
      a.n_queries >= 8 * query_tile ? shared_squares(a.codes, a.dim) : (int64_t{1} << 40);
  const Extents widest = widest_extents(a.bounds);
  alignas(64) int32_t products[query_tile * block_rows];
  for (int first = 0; first < a.n_queries; first += query_tile) {
    const int n = a.n_queries - first < query_tile ? a.n_queries - first : query_tile;
    if (a.n_queries > 4 * query_tile) prefetch_next(a, first);
    tile(a.codes, a.query_codes + first * packed_query_bytes(a.dim), n, a.dim,
         squares * most_squares(a.query_bounds + first, n), products);
    for (int q = 0; q < n; ++q) fold_query(a, first + q, products + q * block_rows, widest);
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
