// Integer inner products without an 8-bit dot product instruction. maddubs adds the products of two
// neighbouring codes in 16 bits and saturates, so that neighbours of a query must add up to at most
// 128 (255 * 128 = 32640). Several maddubs share one widening step, in one of two ways:
//
//   - narrow: two of them. The four codes that share a sum must keep to the limit of 128 as well.
//     64 products cost three multiplies and two adds.
//   - wrapping: eight of them, in sums that wrap around. Documents are unsigned, code + 128, and a
//     sum starts at -128 times the sum of the query's codes. What remains is the inner product of
//     sixteen signed codes, which fits if |query codes| |document codes| <= 32767 (Cauchy-Schwarz),
//     whatever overflowed on the way. 256 products cost nine multiplies and nine adds.
//
// Behind its codes, a query has 128 times their sum in 32 bits, and where the sums of 16 bits start,
// two for each 32 dimensions.
#pragma once
#include <immintrin.h>

#include "contract/search.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int query_tile = 4;
constexpr int max_group_sum = 128;
constexpr int chunk_dims = 32;  // of the wrapping tile; the last chunk may have 8, 16 or 24
// Norm of the codes of a query that share a sum, with which nine of ten blocks of embeddings have
// sums that fit: those of their documents have norms of up to 280.
constexpr float suitable_norm = 112;

constexpr int64_t packed_query_bytes(int64_t dim) {
  return dim + 4 + (dim + chunk_dims - 1) / chunk_dims * 4;
}

__m256i broadcast_4_bytes(const int8_t* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// Multiplies N queries with 16 of the 32 documents of a block. Sixteen registers: 4 x 2
// accumulators, 4 of documents, 2 of queries, ones and a product.
template <int N>
__attribute__((noinline)) void narrow_half(const uint8_t* codes, const int8_t* queries, int64_t dim,
                                           int32_t* out) {
  __m256i sum[N][2];
  for (int q = 0; q < N; ++q) sum[q][0] = sum[q][1] = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t step = 0; step < dim / 8; ++step, codes += 256, queries += 8 * N) {
    const __m256i* documents = reinterpret_cast<const __m256i*>(codes);
    const __m256i a0 = _mm256_loadu_si256(documents), a1 = _mm256_loadu_si256(documents + 1);
    const __m256i b0 = _mm256_loadu_si256(documents + 4), b1 = _mm256_loadu_si256(documents + 5);
#pragma GCC unroll 4
    for (int q = 0; q < N; ++q) {
      const __m256i first = broadcast_4_bytes(queries + 4 * q);
      const __m256i second = broadcast_4_bytes(queries + 4 * (N + q));
      const __m256i left =
          _mm256_add_epi16(_mm256_maddubs_epi16(a0, first), _mm256_maddubs_epi16(b0, second));
      sum[q][0] = _mm256_add_epi32(sum[q][0], _mm256_madd_epi16(left, ones));
      const __m256i right =
          _mm256_add_epi16(_mm256_maddubs_epi16(a1, first), _mm256_maddubs_epi16(b1, second));
      sum[q][1] = _mm256_add_epi32(sum[q][1], _mm256_madd_epi16(right, ones));
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < N; ++q)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + q * block_rows + 8 * half),
                          sum[q][half]);
}

template <int N>
void narrow_tile(const uint8_t* codes, const int8_t* queries, int64_t dim, int32_t* out) {
  narrow_half<N>(codes, queries, dim, out);
  narrow_half<N>(codes + 64, queries, dim, out + 16);
}

// Adds the products of four queries with 16 documents in up to 32 dimensions, four at a time, to
// `out`, which is in L1: registers hold the 16-bit sums.
template <int groups>
inline void add_chunk(const uint8_t* codes, const int8_t* queries, const int8_t* starts,
                      int32_t* out) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum[query_tile][2];
#pragma GCC unroll 4
  for (int q = 0; q < query_tile; ++q) sum[q][0] = sum[q][1] = broadcast_4_bytes(starts + 4 * q);
#pragma GCC unroll 8
  for (int group = 0; group < groups; ++group, codes += 128, queries += 4 * query_tile) {
    const __m256i* documents = reinterpret_cast<const __m256i*>(codes);
    const __m256i left = _mm256_loadu_si256(documents), right = _mm256_loadu_si256(documents + 1);
#pragma GCC unroll 4
    for (int q = 0; q < query_tile; ++q) {
      const __m256i query = broadcast_4_bytes(queries + 4 * q);
      sum[q][0] = _mm256_add_epi16(sum[q][0], _mm256_maddubs_epi16(left, query));
      sum[q][1] = _mm256_add_epi16(sum[q][1], _mm256_maddubs_epi16(right, query));
      __asm__("" : "+x"(sum[q][0]), "+x"(sum[q][1]));  // in this order: sums stay in registers
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < query_tile; ++q)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m256i* total = reinterpret_cast<__m256i*>(out + q * block_rows + 8 * half);
      const __m256i wide = _mm256_madd_epi16(sum[q][half], ones);
      _mm256_storeu_si256(total, _mm256_add_epi32(_mm256_loadu_si256(total), wide));
    }
}

__attribute__((noinline)) void wrapping_half(const uint8_t* codes, const int8_t* queries,
                                             int64_t dim, int32_t* out) {
  const int8_t* starts = queries + dim * query_tile;
  for (int q = 0; q < query_tile; ++q, starts += 4) {
    __m256i* total = reinterpret_cast<__m256i*>(out + q * block_rows);
    const __m256i start = broadcast_4_bytes(starts);
    _mm256_storeu_si256(total, start);
    _mm256_storeu_si256(total + 1, start);
  }
  for (; dim >= chunk_dims; dim -= chunk_dims, starts += 4 * query_tile) {
    add_chunk<8>(codes, queries, starts, out);
    codes += chunk_dims * block_rows;
    queries += chunk_dims * query_tile;
  }
  switch (dim) {
    case 8: return add_chunk<2>(codes, queries, starts, out);
    case 16: return add_chunk<4>(codes, queries, starts, out);
    case 24: return add_chunk<6>(codes, queries, starts, out);
    default: return;
  }
}

// codes [dim / 4][32][4], packed queries [bytes / 4][n_queries][4] -> out [n_queries][32].
// `squares` is the largest shared_squares of the queries times that of the block.
void tile(const uint8_t* codes, const int8_t* queries, int n_queries, int64_t dim, int64_t squares,
          int32_t* out) {
  switch (n_queries) {
    case 1: return narrow_tile<1>(codes, queries, dim, out);
    case 2: return narrow_tile<2>(codes, queries, dim, out);
    case 3: return narrow_tile<3>(codes, queries, dim, out);
    default: break;
  }
  if (squares > int64_t{32767} * 32767) return narrow_tile<query_tile>(codes, queries, dim, out);
  wrapping_half(codes, queries, dim, out);
  wrapping_half(codes + 64, queries, dim, out + 16);
}

// An upper bound of the sums of squares of codes of a document that share a sum of the wrapping
// tile. In 16 bits: eighths of squares, rounded down by less than one for each of eight groups; and
// the square of 128 counts as 128 * 127.
int32_t shared_squares(const uint8_t* codes, int64_t dim) {
  const __m256i offset = _mm256_set1_epi8(-128), most = _mm256_set1_epi8(127);
  __m256i largest = _mm256_setzero_si256();
  for (int64_t j = 0; j < dim; j += chunk_dims) {
    const int64_t groups = (dim - j < chunk_dims ? dim - j : chunk_dims) / 4;
    const __m256i* block = reinterpret_cast<const __m256i*>(codes + j * block_rows);
    __m256i eighths[4];  // of 8 documents each
    for (__m256i& some : eighths) some = _mm256_setzero_si256();
    for (int64_t group = 0; group < groups; ++group, block += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m256i size =
            _mm256_abs_epi8(_mm256_xor_si256(_mm256_loadu_si256(block + i), offset));
        const __m256i squares = _mm256_maddubs_epi16(size, _mm256_min_epu8(size, most));
        eighths[i] = _mm256_add_epi16(eighths[i], _mm256_srli_epi16(squares, 3));
      }
    for (const __m256i& some : eighths) largest = _mm256_max_epi16(largest, some);
  }
  int16_t lane[16];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lane), largest);
  int32_t eighth = 0;
  for (int32_t some : lane) eighth = some > eighth ? some : eighth;
  return 8 * (eighth + 8) * 65 / 64;
}

// Writes sums behind the codes [dim] of a query; returns its largest sum of squares.
int32_t finish_query(int8_t* codes, int64_t dim) {
  int8_t* starts = codes + dim + 4;
  int32_t most = 0, total = 0;
  for (int64_t j = 0; j < dim; j += chunk_dims, starts += 4) {
    int32_t sum[2] = {}, squares[2] = {};
    for (int64_t i = j; i < j + chunk_dims && i < dim; i += 4)
      for (int at = 0; at < 4; ++at) {
        sum[at / 2] += codes[i + at];
        squares[at / 2] += codes[i + at] * codes[i + at];
      }
    for (int pair = 0; pair < 2; ++pair) {
      const auto start = static_cast<uint16_t>(-128 * sum[pair]);
      memcpy(starts + 2 * pair, &start, sizeof start);
      most = squares[pair] > most ? squares[pair] : most;
    }
    total += 128 * (sum[0] + sum[1]);
  }
  memcpy(codes + dim, &total, sizeof total);
  return most;
}

// The instruction mix of the wrapping tile: eight maddubs and adds, a widening madd and an add for
// 256 products.
double peak_int8(int64_t rounds) {
  constexpr int chains = 4;
  __m256i sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
    __m256i part[chains];
    for (int i = 0; i < chains; ++i) part[i] = ones;
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) {
#pragma GCC unroll 4
      for (int i = 0; i < chains; ++i) {
        part[i] = _mm256_add_epi16(part[i], _mm256_maddubs_epi16(a, b));
        // Otherwise products are computed once for all chains, and added in another order.
        __asm__("" : "+x"(a), "+x"(b), "+x"(part[i]));
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < chains; ++i)
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(part[i], ones));
  }
  for (int i = 0; i < chains; ++i) __asm__ volatile("" : : "x"(sum[i]));
  return 2.0 * 256 * chains * static_cast<double>(rounds);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
