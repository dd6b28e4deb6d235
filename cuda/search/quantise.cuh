// Quantises a vector to int8 codes with a radius, by a warp. The arithmetic is that of
// cpu/lanes/quantise.h, with sums in fp64: codes may differ from those of the CPU in the last place,
// and the bounds hold for them.
#pragma once
#include "cuda/platform/reduce.h"
#include "cuda/platform/values.h"
#include "cuda/search/arguments.h"

namespace tilefold::cuda {

constexpr int pack_warps = 4, pack_threads = pack_warps * warp_size;

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

// The orthogonal rotation of cpu/lanes/rotation.h, by a warp, of x [dim] in global memory.
__device__ inline void rotate(float* x, int64_t dim, const uint32_t* signs) {
  const int64_t block = dim & -dim, lane = threadIdx.x % warp_size;
  for (int64_t j = lane; j < dim; j += warp_size)
    if (signs[j / 32] >> j % 32 & 1) x[j] = -x[j];
  for (int64_t half = 1; half < block; half *= 2) {
    __syncwarp();
    for (int64_t pair = lane; pair < dim / 2; pair += warp_size) {
      const int64_t j = pair / half * 2 * half + pair % half;
      const float a = x[j], b = x[j + half];
      x[j] = a + b;
      x[j + half] = a - b;
    }
  }
  __syncwarp();
  const float norm = 1.0f / sqrtf(static_cast<float>(block));
  for (int64_t j = lane; j < dim; j += warp_size) x[j] *= norm;
}

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

// Sums over the elements of a vector, of the part that a lane reads.
struct VectorSums {
  double squares = 0, product = 0, direction_squares = 0;
  int64_t faults = 0;
  __device__ VectorSums operator+(const VectorSums& other) const {
    return {squares + other.squares, product + other.product,
            direction_squares + other.direction_squares, faults + other.faults};
  }
};

struct CodeSums {
  double errors = 0;
  int64_t codes = 0, squares = 0;
  __device__ CodeSums operator+(const CodeSums& other) const {
    return {errors + other.errors, codes + other.codes, squares + other.squares};
  }
};

struct RestSums {
  double squares = 0, largest = 0;
  __device__ RestSums operator+(const RestSums& other) const {
    return {squares + other.squares, largest > other.largest ? largest : other.largest};
  }
};

// By a warp: calls emit(w, codes) for every four codes, 4 w and those after it, the first in the
// lowest byte, and leaves the rest in `rest` [padded_dim] of global memory. The result is the same
// for all lanes.
template <class T, class Emit>
__device__ Quantised quantise(const QuantiseArgs& a, const T* from, float* rest, Emit emit) {
  constexpr double min_quantised = 0x1p-40, max_quantised = 0x1p60;
  constexpr double up = 1 + 0x1p-20;
  const int64_t lane = threadIdx.x % warp_size, padded = padded_dim(a.dim);
  const float* const u = a.direction;
  Quantised result = {};

  VectorSums sums;
  __syncwarp();  // `rest` may be that of the vector before
  for (int64_t j = lane; j < padded; j += warp_size) {
    const float value = j < a.dim ? widened(from[j]) : 0.0f;
    rest[j] = value;
    if (j >= a.dim) continue;
    sums.faults += !(fabsf(value) < INFINITY);
    sums.squares += static_cast<double>(value) * value;
    if (!u) continue;
    sums.product += static_cast<double>(value) * u[j];
    sums.direction_squares += static_cast<double>(u[j]) * u[j];
  }
  sums = reduce_lanes<warp_size, Sum>(sums);
  result.finite = sums.faults == 0;
  result.norm = sqrt(sums.squares) * up;
  result.defect = fabs(sums.direction_squares - 1) + 0x1p-36;
  result.split = u && result.norm <= max_quantised;
  if (result.split) {
    result.along = static_cast<float>(sums.product);
    result.along_error = fabs(sums.product - result.along);
    for (int64_t j = lane; j < a.dim; j += warp_size)
      rest[j] = static_cast<float>(rest[j] - static_cast<double>(result.along) * u[j]);
  }
  if (a.signs) rotate(rest, padded, a.signs);

  RestSums rests;
  for (int64_t j = lane; j < padded; j += warp_size) {
    rests.largest = fmax(rests.largest, static_cast<double>(fabsf(rest[j])));
    rests.squares += static_cast<double>(rest[j]) * rest[j];
  }
  rests = reduce_lanes<warp_size, Sum>(rests);
  const auto largest = static_cast<float>(rests.largest);
  result.rest_norm = sqrt(rests.squares) * up;
  const bool small = result.norm <= max_quantised && result.rest_norm <= max_quantised;
  const bool quantised = small && largest >= min_quantised;
  const float lowest = a.integers ? -128.0f : -127.0f;
  result.scale = !quantised ? 0.0f : a.integers ? 1.0f : largest / 127;
  const float inverse = 1 / result.scale;

  CodeSums codes;
  __syncwarp();
  for (int64_t w = lane; w < a.n_codes / 4; w += warp_size) {
    uint32_t word = 0;
    for (int64_t j = 4 * w; j < 4 * w + 4 && j < padded && quantised; ++j) {
      const float code = fminf(fmaxf(rintf(rest[j] * inverse), lowest), 127.0f);
      const double error = rest[j] - static_cast<double>(result.scale) * code;
      codes.errors += error * error;
      codes.codes += static_cast<int64_t>(code);
      codes.squares += static_cast<int64_t>(code * code);
      word |= static_cast<uint32_t>(static_cast<uint8_t>(static_cast<int>(code))) << 8 * (j % 4);
    }
    emit(w, word);
  }
  codes = reduce_lanes<warp_size, Sum>(codes);
  result.code_sum = static_cast<int32_t>(codes.codes);
  result.approximation = result.scale * sqrt(static_cast<double>(codes.squares));
  result.radius = sqrt(codes.errors) * up;
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
