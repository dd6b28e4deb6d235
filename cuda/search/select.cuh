// Selection by a block of threads: the k-th largest of unique or repeated integer keys, one byte at a
// time from the top. Every pass counts all keys that share the bytes found so far, so that it is
// exact however many keys share one bin.
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"
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
  int32_t digit, above;
};

// Of the keys of those i below n that `counts`, the largest bound that at least k reach; 0 if fewer
// than k are there. `above` is set to the number of keys that exceed the bound.
template <class Key, class Counts, class KeyOf>
__device__ Key kth_largest(SelectShared& shared, int64_t n, int64_t k, Counts counts, KeyOf key_of,
                           int64_t& above) {
  constexpr int digit_bits = 8, digits = 1 << digit_bits;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  Key bound = 0, known = 0;
  above = 0;
  for (int shift = 8 * static_cast<int>(sizeof(Key)) - digit_bits; shift >= 0;
       shift -= digit_bits) {
    __syncthreads();
    for (int d = thread; d < digits; d += threads) shared.histogram[d] = 0;
    __syncthreads();
    for (int64_t i = thread; i < n; i += threads) {
      if (!counts(i)) continue;
      const Key key = key_of(i);
      if ((key & known) == bound)
        atomicAdd(&shared.histogram[static_cast<int>(key >> shift & (digits - 1))], 1);
    }
    __syncthreads();
    if (thread == 0) {
      int64_t reached = above;
      int d = digits - 1;
      for (; d > 0 && reached + shared.histogram[d] < k; --d) reached += shared.histogram[d];
      shared.digit = d;
      shared.above = static_cast<int32_t>(reached);
    }
    __syncthreads();
    bound |= static_cast<Key>(shared.digit) << shift;
    known |= static_cast<Key>(digits - 1) << shift;
    above = shared.above;
  }
  return bound;
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
  int64_t above, above_id;
  const uint32_t score = kth_largest<uint32_t>(shared, n, k, counts, score_key, above);
  const auto ties = [&](int64_t i) { return counts(i) && score_key(i) == score; };
  const uint64_t id = kth_largest<uint64_t>(shared, n, k - above, ties, id_key, above_id);
  return {score, id, k - above - above_id};
}

struct CompactShared {
  SharedArray<int32_t, 32> warps;
};

// Moves the items below n that `keep` to the front, in order, and returns their number. Threads are
// a multiple of 32.
template <class Load, class Keep, class Store>
__device__ int64_t compact(CompactShared& shared, int64_t n, Load load, Keep keep, Store store) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int lane = thread % 32, warp = thread / 32;
  int64_t kept = 0;
  for (int64_t first = 0; first < n; first += threads) {
    const int64_t i = first + thread;
    // All items of the round are read before any is written.
    const auto item = load(i < n ? i : n - 1);
    const bool mine = i < n && keep(item);
    const uint32_t lanes = __ballot_sync(0xffffffffu, mine);
    __syncthreads();
    if (lane == 0) shared.warps[warp] = __popc(lanes);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < threads / 32; ++w) {
      if (w < warp) before += shared.warps[w];
      all += shared.warps[w];
    }
    if (mine) store(kept + before + __popc(lanes & ((1u << lane) - 1)), item);
    kept += all;
  }
  __syncthreads();
  return kept;
}

}  // namespace tilefold::cuda
