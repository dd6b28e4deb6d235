// Selection by a block of threads: the k-th largest of unique or repeated integer keys, one byte at a
// time from the top. Every pass counts all keys that share the bytes found so far, so that it is
// exact however many keys share one bin.
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"
#include "cuda/platform/reduce.h"
#include "cuda/platform/shared.h"

namespace tilefold::cuda {

// Larger for larger scores, the same for zeros of both signs, smallest for NaN.
__device__ inline uint32_t ascending_key(float score) {
  if (!(score == score)) return 0;
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The score of a key.
__device__ inline float score_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Larger for smaller ids.
__device__ inline uint64_t descending_key(int64_t id) {
  return ~(static_cast<uint64_t>(id) ^ 0x8000000000000000u);
}

struct SelectShared {
  SharedArray<int32_t, 256> histogram;
  int32_t digit, above, equal;
};

// The k-th largest of a number of keys: how many exceed it, and how many equal it.
template <class Key>
struct Rank {
  Key key = 0;
  int64_t above = 0, equal = 0;
};

// Finds the digit of the k-th largest key from counts of all digits, of which `above` exceed all; 0
// if there are fewer than k. A lane has eight digits, of which its first is the smallest.
__device__ inline void find_digit(SelectShared& shared, int64_t above, int64_t k) {
  const int lane = static_cast<int>(threadIdx.x);
  int32_t mine = 0;
  TILEFOLD_UNROLL
  for (int i = 0; i < 8; ++i) mine += shared.histogram[8 * lane + i];
  const int64_t beyond = above + sum_of_higher_lanes(mine);
  if (lane > 0 ? beyond >= k || beyond + mine < k : beyond >= k) return;
  int64_t reached = beyond;
  int digit = 8 * lane + 7;
  for (; digit > 8 * lane && reached + shared.histogram[digit] < k; --digit)
    reached += shared.histogram[digit];
  shared.digit = digit;
  shared.above = static_cast<int32_t>(reached);
  shared.equal = shared.histogram[digit];
}

// Of the keys of those i below n that `counts`; the smallest key if fewer than k are there. Threads
// are a multiple of 32.
template <class Key, class Counts, class KeyOf>
__device__ Rank<Key> kth_largest(SelectShared& shared, int64_t n, int64_t k, Counts counts,
                                 KeyOf key_of) {
  constexpr int digit_bits = 8, digits = 1 << digit_bits;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  Rank<Key> rank;
  Key known = 0;
  for (int shift = 8 * static_cast<int>(sizeof(Key)) - digit_bits; shift >= 0;
       shift -= digit_bits) {
    for (int d = thread; d < digits; d += threads) shared.histogram[d] = 0;
    __syncthreads();
    for (int64_t i = thread; i < n; i += threads) {
      if (!counts(i)) continue;
      const Key key = key_of(i);
      if ((key & known) == rank.key)
        atomicAdd(&shared.histogram[static_cast<int>(key >> shift & (digits - 1))], 1);
    }
    __syncthreads();
    if (thread < warp_size) find_digit(shared, rank.above, k);
    __syncthreads();
    rank.key |= static_cast<Key>(shared.digit) << shift;
    known |= static_cast<Key>(digits - 1) << shift;
    rank.above = shared.above;
    rank.equal = shared.equal;
  }
  return rank;
}

// The place of the k-th best answer in the order of answers: score descending, then id ascending.
struct Boundary {
  uint32_t score_key;
  uint64_t id_key;
  int64_t equal;  // how many answers at the boundary itself are among the k best: ids may repeat

  enum class Side { within, at, beyond };
  __device__ Side side(uint32_t score, uint64_t id) const {
    if (score != score_key) return score > score_key ? Side::within : Side::beyond;
    if (id != id_key) return id > id_key ? Side::within : Side::beyond;
    return Side::at;
  }
};

// Of the i below n that `counts`. Fewer than k are all within the boundary.
template <class Counts, class ScoreKey, class IdKey>
__device__ Boundary find_boundary(SelectShared& shared, int64_t n, int64_t k, Counts counts,
                                  ScoreKey score_key, IdKey id_key) {
  const Rank<uint32_t> score = kth_largest<uint32_t>(shared, n, k, counts, score_key);
  const int64_t left = k - score.above;
  if (score.equal <= left) return {score.key, 0, score.equal};  // no ids exceed the boundary's
  const auto ties = [&](int64_t i) { return counts(i) && score_key(i) == score.key; };
  const Rank<uint64_t> id = kth_largest<uint64_t>(shared, n, left, ties, id_key);
  return {score.key, id.key, left - id.above};
}

struct CompactShared {
  int32_t kept;
};

// Moves the items below n that `keep` to the front, in any order, and returns their number.
template <class Load, class Keep, class Store>
__device__ int64_t compact(CompactShared& shared, int64_t n, Load load, Keep keep, Store store) {
  constexpr int per_thread = 4;
  const int64_t thread = threadIdx.x, threads = blockDim.x;
  if (thread == 0) shared.kept = 0;
  for (int64_t first = 0; first < n; first += per_thread * threads) {
    decltype(load(first)) items[per_thread];
    bool kept[per_thread];
    TILEFOLD_UNROLL
    for (int j = 0; j < per_thread; ++j) {
      const int64_t i = first + j * threads + thread;
      kept[j] = i < n;
      if (!kept[j]) continue;
      items[j] = load(i);
      kept[j] = keep(items[j]);
    }
    __syncthreads();  // all items of the round are read before any is written
    TILEFOLD_UNROLL
    for (int j = 0; j < per_thread; ++j)
      if (kept[j]) store(atomicAdd(&shared.kept, 1), items[j]);
  }
  __syncthreads();
  const int64_t kept = shared.kept;
  __syncthreads();  // the next call begins at 0
  return kept;
}

}  // namespace tilefold::cuda
