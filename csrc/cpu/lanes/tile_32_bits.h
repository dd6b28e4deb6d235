// What a tile whose sums have 32 bits requires of queries and documents: nothing. See tile_avx2.h
// for one with sums of 16 bits.
#pragma once
#include <cstdint>

namespace tilefold::cpu::ISA {
namespace {

constexpr int max_group_sum = 0;
constexpr float suitable_norm = 1;  // any: no sum of squares reaches it

constexpr int64_t packed_query_bytes(int64_t dim) { return dim; }
int32_t shared_squares(const uint8_t*, int64_t) { return 0; }
int32_t finish_query(int8_t*, int64_t) { return 0; }

}  // namespace
}  // namespace tilefold::cpu::ISA
