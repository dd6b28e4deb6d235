// Quantises a vector to int8 codes with a radius, by a block of threads. The arithmetic is that of
// cpu/lanes/quantise.h, with sums in fp64: codes may differ from those of the CPU in the last place,
// and the bounds hold for them.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/platform/values.h"
#include "cuda/search/arguments.h"

namespace tilefold::cuda {

constexpr int pack_threads = 128;

// Bit j: the rotation changes the sign of dimension j (xorshift32, as in cpu/lanes/rotation.h).
static __global__ void write_rotation_signs(int64_t dim, uint32_t* signs) {
  uint32_t random = 0x9e3779b9u, word = 0;
  for (int64_t j = 0; j < dim; ++j) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    word |= (random >> 31) << j % 32;
    if (j % 32 == 31 || j + 1 == dim) {
      signs[j / 32] = word;
      word = 0;
    }
  }
}

// The orthogonal rotation of cpu/lanes/rotation.h, of x [dim] in global memory that no other block
// of threads uses.
__device__ inline void rotate(float* x, int64_t dim, const uint32_t* signs) {
  const int64_t block = dim & -dim;
  const int64_t thread = threadIdx.x, threads = blockDim.x;
  for (int64_t j = thread; j < dim; j += threads)
    if (signs[j / 32] >> j % 32 & 1) x[j] = -x[j];
  for (int64_t half = 1; half < block; half *= 2) {
    __syncthreads();
    for (int64_t pair = thread; pair < dim / 2; pair += threads) {
      const int64_t j = pair / half * 2 * half + pair % half;
      const float a = x[j], b = x[j + half];
      x[j] = a + b;
      x[j + half] = a - b;
    }
  }
  __syncthreads();
  const float norm = 1.0f / sqrtf(static_cast<float>(block));
  for (int64_t j = thread; j < dim; j += threads) x[j] *= norm;
  __syncthreads();
}

struct QuantiseShared {
  ReduceShared<double> doubles;
  ReduceShared<float> floats;
  ReduceShared<int64_t> integers;
};

// x = along * direction + rest, and the rest is approximated by scale * codes.
struct Quantised {
  bool finite, split;
  float along, scale;
  double norm;           // of x, rounded up
  double along_error;    // at least |<x, direction> - along|, up to dim 2^-53 |x|
  double defect;         // at least | |direction|^2 - 1 |
  double rest_norm;      // rounded up
  double radius;         // of the approximation's error, rounded up
  double approximation;  // its norm
  int32_t code_sum;
};

struct QuantiseArgs {
  int64_t dim, n_codes;    // codes beyond padded_dim are 0
  const float* direction;  // or null
  const uint32_t* signs;   // of the rotation, or null
  bool integers;           // values are codes already: the scale is 1
};

// Calls emit(j, code) for every code, and leaves the rest in `rest` [padded_dim]. The result is the
// same for all threads.
template <class T, class Emit>
__device__ Quantised quantise(QuantiseShared& shared, const QuantiseArgs& a, const T* from,
                              float* rest, Emit emit) {
  constexpr double min_quantised = 0x1p-40, max_quantised = 0x1p60;
  constexpr double up = 1 + 0x1p-20;
  const int64_t thread = threadIdx.x, threads = blockDim.x, padded = padded_dim(a.dim);
  const float* const u = a.direction;
  Quantised result = {};

  double squares = 0, product = 0, direction_squares = 0;
  int64_t faults = 0;
  __syncthreads();  // `rest` may be that of the vector before
  for (int64_t j = thread; j < padded; j += threads) {
    const float value = j < a.dim ? widened(from[j]) : 0.0f;
    rest[j] = value;
    if (j >= a.dim) continue;
    faults += !(fabsf(value) < INFINITY);
    squares += static_cast<double>(value) * value;
    if (!u) continue;
    product += static_cast<double>(value) * u[j];
    direction_squares += static_cast<double>(u[j]) * u[j];
  }
  result.finite = sum_block(shared.integers, faults) == 0;
  result.norm = sqrt(sum_block(shared.doubles, squares)) * up;
  product = sum_block(shared.doubles, product);
  result.defect = fabs(sum_block(shared.doubles, direction_squares) - 1) + 0x1p-36;
  result.split = u && result.norm <= max_quantised;
  if (result.split) {
    result.along = static_cast<float>(product);
    result.along_error = fabs(product - result.along);
    for (int64_t j = thread; j < a.dim; j += threads)
      rest[j] = static_cast<float>(rest[j] - static_cast<double>(result.along) * u[j]);
  }
  __syncthreads();
  if (a.signs) rotate(rest, padded, a.signs);

  float largest = 0;
  squares = 0;
  for (int64_t j = thread; j < padded; j += threads) {
    largest = fmaxf(largest, fabsf(rest[j]));
    squares += static_cast<double>(rest[j]) * rest[j];
  }
  largest = max_block(shared.floats, largest);
  result.rest_norm = sqrt(sum_block(shared.doubles, squares)) * up;
  const bool small = result.norm <= max_quantised && result.rest_norm <= max_quantised;
  const bool quantised = small && largest >= min_quantised;
  const float lowest = a.integers ? -128.0f : -127.0f;
  result.scale = !quantised ? 0.0f : a.integers ? 1.0f : largest / 127;

  double errors = 0;
  int64_t code_sum = 0, code_squares = 0;
  for (int64_t j = thread; j < a.n_codes; j += threads) {
    float code = 0;
    if (quantised && j < padded) {
      code = fminf(fmaxf(rintf(rest[j] / result.scale), lowest), 127.0f);
      const double error = rest[j] - static_cast<double>(result.scale) * code;
      errors += error * error;
    }
    emit(j, static_cast<int>(code));
    code_sum += static_cast<int64_t>(code);
    code_squares += static_cast<int64_t>(code * code);
  }
  errors = sum_block(shared.doubles, errors);
  result.code_sum = static_cast<int32_t>(sum_block(shared.integers, code_sum));
  code_squares = sum_block(shared.integers, code_squares);
  result.approximation = result.scale * sqrt(static_cast<double>(code_squares));
  result.radius = sqrt(errors) * up;
  if (!quantised) {
    // Infinite where products could overflow. Not zero, because zero times infinity is no bound, and
    // enough for what underflows on the way.
    constexpr double min_radius = 0x1p-118;
    const double norm = small ? result.rest_norm : HUGE_VAL;
    result.radius = result.rest_norm = norm > min_radius ? norm : min_radius;
  }
  return result;
}

}  // namespace tilefold::cuda
