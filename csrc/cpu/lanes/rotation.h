// A fixed orthogonal rotation: signs, then a Walsh-Hadamard transform of each block of dimensions.
// It preserves inner products and spreads outlier dimensions, which would make the int8 scale of a
// whole vector large. The block is the largest power of two that divides dim; a block below
// 32 would spread too little to pay.
#pragma once
#include <math.h>

#include <cstdint>

namespace tilefold::cpu::ISA {
namespace {

int64_t rotation_block(int64_t dim) { return dim & -dim; }

// x [dim], in place. fp32 rounding: relative to |x| under 2 log2(block) 2^-24 < 2^-18.
void rotate(float* x, int64_t dim) {
  const int64_t block = rotation_block(dim);
  const float norm = 1.0f / sqrtf(static_cast<float>(block));
  uint32_t random = 0x9e3779b9u;  // xorshift32: the same signs on every machine
  for (int64_t j = 0; j < dim; ++j) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    if (random & 0x80000000u) x[j] = -x[j];
  }
  for (float* part = x; part < x + dim; part += block)
    for (int64_t half = 1; half < block; half *= 2)
      for (int64_t start = 0; start < block; start += 2 * half)
        for (int64_t j = start; j < start + half; ++j) {
          const float a = part[j], b = part[j + half];
          part[j] = a + b;
          part[j + half] = a - b;
        }
  for (int64_t j = 0; j < dim; ++j) x[j] *= norm;
}

}  // namespace
}  // namespace tilefold::cpu::ISA
