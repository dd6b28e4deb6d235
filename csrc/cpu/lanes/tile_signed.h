// What tiles share that multiply signed codes by signed codes: documents are unsigned, code + 128,
// and read as code by flipping their highest bit. Sums start at 128 times the sum of the query's
// codes, which is behind these, so that products are those of unsigned documents. Sums have 32 bits.
#pragma once
#include <arm_neon.h>
#include <string.h>

#include "contract/search.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int max_group_sum = 0;
constexpr float suitable_norm = 1;  // any: no sum of squares reaches it

constexpr int64_t packed_query_bytes(int64_t dim) { return dim + 4; }
int32_t shared_squares(const uint8_t*, int64_t) { return 0; }

int32_t finish_query(int8_t* codes, int64_t dim) {
  int32_t start = 0;
  for (int64_t j = 0; j < dim; ++j) start += 128 * codes[j];
  memcpy(codes + dim, &start, sizeof start);
  return 0;
}

// Where the sum of a query starts; `starts` are behind the packed codes of the tile's queries.
inline int32_t start_of(const int8_t* starts, int q) {
  int32_t start;
  memcpy(&start, starts + 4 * q, sizeof start);
  return start;
}

// The codes of four documents in four dimensions.
inline int8x16_t load_codes(const uint8_t* p) {
  return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128)));
}
// The codes of a query in four dimensions, four times.
inline int8x16_t broadcast_codes(const int8_t* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

// Multiplies N queries with the 32 documents of a block; each tile has its own.
template <int N>
void whole_tile(const uint8_t* codes, const int8_t* queries, int64_t dim, int32_t* out);

// Calls whole_tile<n_queries>, for 1 to N queries.
template <int N>
void tile_of(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim,
             int32_t* out) {
  if constexpr (N > 1)
    if (n_queries < N) return tile_of<N - 1>(codes, queries, n_queries, dim, out);
  whole_tile<N>(codes, queries, dim, out);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
