// Matrix products of bf16 on tensor cores, summed in fp32: the products of two bf16 are exact.
// Operands in fp32 are rounded to bf16 on the way.
#pragma once
#include "cuda/platform/matrix_multiply.h"
#include "cuda/platform/product.cuh"

namespace tilefold::cuda {

struct Bf16ProductShared {
  static constexpr int tile = 128, depth = 32, words = depth / 2;
  // Padding puts the words that a warp reads together in different banks.
  static constexpr int stride = words + 4;
  SharedArray<uint32_t, tile * stride> a, b;
};

// The part of an operand that a thread brings to shared memory for one step: words of two
// neighbours along the inner dimension.
template <class E>
class Bf16Panel {
 public:
  __device__ Bf16Panel(const Operand<E>& from, int64_t first, int64_t end, int64_t inner)
      : from_(from), first_(first), end_(end), inner_(inner) {}

  __device__ void load(int64_t k) {
    TILEFOLD_UNROLL
    for (int r = 0; r < per_thread; ++r) {
      const int64_t i = first_ + outer(r), at = k + 2 * word(r);
      words_[r] = value(i, at) | value(i, at + 1) << 16;
    }
  }
  template <class Shared>
  __device__ void store(Shared& shared) {
    TILEFOLD_UNROLL
    for (int r = 0; r < per_thread; ++r)
      shared[outer(r) * Bf16ProductShared::stride + word(r)] = words_[r];
  }

 private:
  static constexpr int words = Bf16ProductShared::words, tile = Bf16ProductShared::tile;
  static constexpr int per_thread = tile * words / product_threads;

  __device__ uint32_t value(int64_t i, int64_t k) const {
    if (i >= end_ || k >= inner_) return 0;
    return bf16_bits(from_.data[i * from_.outer_stride + k * from_.inner_stride]);
  }
  // Neighbouring threads have neighbouring addresses.
  __device__ int element(int r) const {
    return r * product_threads + static_cast<int>(threadIdx.x);
  }
  __device__ int outer(int r) const {
    return from_.inner_stride == 1 ? element(r) / words : element(r) % tile;
  }
  __device__ int word(int r) const {
    return from_.inner_stride == 1 ? element(r) % words : element(r) / tile;
  }

  const Operand<E>& from_;
  const int64_t first_, end_, inner_;
  uint32_t words_[per_thread];
};

// A warp has 64 rows and 32 columns of C.
template <class A, class B>
__global__ void __launch_bounds__(product_threads)
    multiply_as_bf16(const __grid_constant__ ProductArgs<float, A, B> p) {
  using Shared = Bf16ProductShared;
  Shared& shared = shared_memory<Shared>();
  const int64_t tiles = (p.columns + Shared::tile - 1) / Shared::tile;
  const int64_t first_row = blockIdx.x / tiles * Shared::tile;
  const int64_t first_column = blockIdx.x % tiles * Shared::tile;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4, row = warp / 4 * 64, column = warp % 4 * 32;
  Bf16Panel<A> a(p.a, first_row, p.rows, p.inner);
  Bf16Panel<B> b(p.b, first_column, p.columns, p.inner);
  FloatFragmentC sums[4][4] = {};
  a.load(0);
  b.load(0);
  for (int64_t k = 0; k < p.inner; k += Shared::depth) {
    __syncthreads();  // the step before has been used
    a.store(shared.a);
    b.store(shared.b);
    __syncthreads();
    a.load(k + Shared::depth);
    b.load(k + Shared::depth);
    TILEFOLD_UNROLL
    for (int half = 0; half < 2; ++half) {
      FragmentB right[4];
      TILEFOLD_UNROLL
      for (int n = 0; n < 4; ++n) {
        const int at = (column + 8 * n + g) * Shared::stride + 8 * half + t;
        right[n] = {{shared.b[at], shared.b[at + 4]}};
      }
      TILEFOLD_UNROLL
      for (int m = 0; m < 4; ++m) {
        const int at = (row + 16 * m + g) * Shared::stride + 8 * half + t;
        const int below = at + 8 * Shared::stride;
        const FragmentA left = {
            {shared.a[at], shared.a[below], shared.a[at + 4], shared.a[below + 4]}};
        TILEFOLD_UNROLL
        for (int n = 0; n < 4; ++n) multiply_bf16(sums[m][n], left, right[n]);
      }
    }
  }
  TILEFOLD_UNROLL
  for (int m = 0; m < 4; ++m) TILEFOLD_UNROLL
  for (int n = 0; n < 4; ++n) TILEFOLD_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t r = first_row + row + 16 * m + g + i / 2 * 8;
    const int64_t c = first_column + column + 8 * n + 2 * t + i % 2;
    if (r >= p.rows || c >= p.columns) continue;
    float& out = p.c[r * p.c_stride + c];
    out = p.accumulate ? out + sums[m][n].sum[i] : sums[m][n].sum[i];
  }
}

template <class A, class B>
void launch_bf16_product(const Stream& stream, const ProductArgs<float, A, B>& p) {
  constexpr int tile = Bf16ProductShared::tile;
  launch("multiply_as_bf16", multiply_as_bf16<A, B>,
         {blocks_for(p.rows, tile) * blocks_for(p.columns, tile), 1, product_threads,
          sizeof(Bf16ProductShared)},
         stream, p);
}

}  // namespace tilefold::cuda
