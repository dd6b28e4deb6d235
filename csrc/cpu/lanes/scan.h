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

constexpr float absolute_slack = 1.17549435e-38f;  // for products that underflow

// Half the distance of the bounds. Rounding is monotonic, so that wider extents give no smaller one.
inline Floats half_width(const QueryBound& query, const Extents& documents) {
  return multiply_add(broadcast(query.norm_factor), documents.norm,
                      multiply_add(broadcast(query.radius_factor), documents.radius,
                                   multiply_add(broadcast(query.along_factor), documents.along,
                                                broadcast(absolute_slack))));
}

// The same of document i alone, rounded alike.
inline float half_width_of(const QueryBound& query, const float* bounds, int i) {
  return multiply_add(
      query.norm_factor, bounds[block_rows + i],
      multiply_add(
          query.radius_factor, bounds[2 * block_rows + i],
          multiply_add(query.along_factor, fabsf(bounds[3 * block_rows + i]), absolute_slack)));
}

// The largest upper bound of some documents, or `largest` if that is larger.
inline float largest_bound(const QueryBound& query, const float* bounds, const float* centres,
                           uint32_t documents, float largest) {
  Floats most = broadcast(largest);
  for (int at = 0; at < block_rows; at += float_lanes) {
    const Floats upper = add(load(centres + at), half_width(query, extents(bounds, at)));
    const uint32_t some = documents >> at & static_cast<uint32_t>((1ull << float_lanes) - 1);
    most = maximum(blend(some, upper, most), most);
  }
  float lane[float_lanes];
  store(lane, most);
  for (int l = 0; l < float_lanes; ++l) largest = lane[l] > largest ? lane[l] : largest;
  return largest;
}

// Appends the documents of a block that may reach the threshold to the query's list. Documents are
// compared by the widest bounds of their block first, so that most need no others, and there is one
// branch for all.
inline void fold_query(const ScanArgs& a, int q, const int32_t* products, const Extents& widest) {
  const QueryBound& query = a.query_bounds[q];
  const float threshold = a.thresholds[q];
  const Floats scale = broadcast(query.scale), along = broadcast(query.along);
  const Floats most = half_width(query, widest), cut = broadcast(threshold);
  float centres[block_rows];
  uint32_t pass = 0;
  for (int at = 0; at < block_rows; at += float_lanes) {
    const Floats product =
        mul(mul(from_ints(products + at, 128 * query.code_sum), load(a.bounds + at)), scale);
    const Floats centre = multiply_add(along, load(a.bounds + 3 * block_rows + at), product);
    store(centres + at, centre);
    pass |= greater_equal(add(centre, most), cut) << at;
  }
  pass &= a.mask;
  uint32_t dropped = a.mask & ~pass;
  Candidate* const begin = a.candidates + q * a.capacity + a.counts[q];
  Candidate* end = begin;
  for (; pass; pass &= pass - 1) {
    const int i = __builtin_ctz(pass);
    const float width = half_width_of(query, a.bounds, i);
    const bool reaches = centres[i] + width >= threshold;
    *end = {centres[i] - width, centres[i] + width, a.first_row + i, Stage::filtered};
    end += reaches;  // no branch, since the outcome is unpredictable
    dropped |= static_cast<uint32_t>(!reaches) << i;
  }
  a.counts[q] += static_cast<int32_t>(end - begin);
  if (a.pruned) a.pruned[q] = largest_bound(query, a.bounds, centres, dropped, a.pruned[q]);
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
  const int64_t squares =
      a.n_queries >= many_queries ? shared_squares(a.codes, a.dim) : (int64_t{1} << 40);
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
