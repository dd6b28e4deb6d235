// The instructions of tensor cores that kernels use, with the layout of fragments of the PTX ISA
// ("Matrix Fragments for mma.m16n8k32" and "mma.m16n8k16").
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"

namespace tilefold::cuda {

// Lane l has g = l / 4 and t = l % 4, of bytes: of A [16, 32], words (row g, bytes 4 t), (row g + 8, the
// same), (row g, bytes 16 + 4 t), (row g + 8, the same). Of B [32, 8], words of column g: bytes 4 t
// and 16 + 4 t. Of C [16, 8]: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
struct FragmentA {
  uint32_t word[4];
};
struct FragmentB {
  uint32_t word[2];
};
struct FragmentC {
  int32_t sum[4];
};
// The same places for bf16, where a word is two neighbours along the inner dimension of 16: A [16,
// 16], B [16, 8], and sums in fp32.
struct FloatFragmentC {
  float sum[4];
};

#ifdef TILEFOLD_EMULATE_CUDA

namespace emulation {

template <class C>
struct Multiplication {
  FragmentA a;
  FragmentB b;
  C* c;
};

// Lane l has the element of C at row_of(l, i), column_of(l, i).
inline int row_of(int lane, int i) { return lane / 4 + i / 2 * 8; }
inline int column_of(int lane, int i) { return lane % 4 * 2 + i % 2; }

// Signed times unsigned bytes.
inline void multiply_s8_u8(void* const (&operands)[warp_threads]) {
  int8_t a_bytes[16][32];
  uint8_t b_bytes[8][32];
  const auto at = [&](int l) { return static_cast<const Multiplication<FragmentC>*>(operands[l]); };
  for (int l = 0; l < warp_threads; ++l)
    for (int i = 0; i < 4; ++i) {
      const int k = i / 2 * 16 + l % 4 * 4;
      std::memcpy(&a_bytes[l / 4 + i % 2 * 8][k], &at(l)->a.word[i], sizeof(uint32_t));
      if (i % 2 == 0) std::memcpy(&b_bytes[l / 4][k], &at(l)->b.word[i / 2], sizeof(uint32_t));
    }
  int16_t a[16][32], b[8][32];  // compilers multiply pairs of them in one instruction
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 32; ++k) a[row][k] = a_bytes[row][k];
  for (int column = 0; column < 8; ++column)
    for (int k = 0; k < 32; ++k) b[column][k] = b_bytes[column][k];
  for (int l = 0; l < warp_threads; ++l)
    for (int i = 0; i < 4; ++i) {
      int sum = 0;
      for (int k = 0; k < 32; ++k) sum += a[row_of(l, i)][k] * b[column_of(l, i)][k];
      at(l)->c->sum[i] += sum;
    }
}

inline void multiply_bf16(void* const (&operands)[warp_threads]) {
  float a[16][16], b[8][16];
  const auto at = [&](int l) {
    return static_cast<const Multiplication<FloatFragmentC>*>(operands[l]);
  };
  const auto value = [](uint32_t word, int half) {
    return __uint_as_float(half ? word & 0xffff0000u : word << 16);
  };
  for (int l = 0; l < warp_threads; ++l)
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const int k = i / 2 * 8 + l % 4 * 2 + half;
        a[l / 4 + i % 2 * 8][k] = value(at(l)->a.word[i], half);
        if (i % 2 == 0) b[l / 4][k] = value(at(l)->b.word[i / 2], half);
      }
  for (int l = 0; l < warp_threads; ++l)
    for (int i = 0; i < 4; ++i) {
      float sum = at(l)->c->sum[i];
      for (int k = 0; k < 16; ++k) sum += a[row_of(l, i)][k] * b[column_of(l, i)][k];
      at(l)->c->sum[i] = sum;
    }
}

}  // namespace emulation

// C += A B, with A signed and B unsigned.
inline void multiply_s8_u8(FragmentC& c, const FragmentA& a, const FragmentB& b, TILEFOLD_PLACE) {
  emulation::Multiplication<FragmentC> mine = {a, b, &c};
  emulation::wait_for_warp(~0u, {file, line}, &emulation::multiply_s8_u8, &mine);
}

inline void multiply_bf16(FloatFragmentC& c, const FragmentA& a, const FragmentB& b,
                          TILEFOLD_PLACE) {
  emulation::Multiplication<FloatFragmentC> mine = {a, b, &c};
  emulation::wait_for_warp(~0u, {file, line}, &emulation::multiply_bf16, &mine);
}

#else

__device__ inline void multiply_s8_u8(FragmentC& c, const FragmentA& a, const FragmentB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c.sum[0]), "+r"(c.sum[1]), "+r"(c.sum[2]), "+r"(c.sum[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

__device__ inline void multiply_bf16(FloatFragmentC& c, const FragmentA& a, const FragmentB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c.sum[0]), "+f"(c.sum[1]), "+f"(c.sum[2]), "+f"(c.sum[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

#endif

}  // namespace tilefold::cuda
