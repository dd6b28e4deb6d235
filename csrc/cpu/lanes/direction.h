// The part of a vector along a unit vector u that all documents of a packed array share, and the
// rest: x = along * u + rest. Any `along` is right, as long as both sides use the same u; the nearest
// one makes the rest short, and orthogonal to u up to rounding.
#pragma once
#include <math.h>

#include <cstdint>

namespace tilefold::cpu::ISA {
namespace {

struct Part {
  float along;
  double error;  // at least |<x, u> - along|, up to dim 2^-53 |x|
};

double inner_product(const float* x, const float* u, int64_t dim) {
  Doubles sums[2] = {zero_doubles(), zero_doubles()};
  int64_t j = 0;
  for (; j + 2 * double_lanes <= dim; j += 2 * double_lanes)
    for (int i = 0; i < 2; ++i) {
      const int64_t at = j + i * double_lanes;
      sums[i] = multiply_add(load_doubles(x + at), load_doubles(u + at), sums[i]);
    }
  double lanes[double_lanes];
  store_doubles(lanes, add(sums[0], sums[1]));
  double sum = 0;
  for (int l = 0; l < double_lanes; ++l) sum += lanes[l];
  for (; j < dim; ++j) sum += static_cast<double>(x[j]) * u[j];
  return sum;
}

// Leaves the rest in x [dim]. Its rounding to fp32 is the only error: products of two fp32 numbers
// are exact in fp64. A vector that is too long for codes (see quantise.h) stays as it is.
Part remove_direction(float* x, const float* u, int64_t dim) {
  constexpr double max_along = 0x1p61;
  const double exact = inner_product(x, u, dim);
  if (!(fabs(exact) <= max_along)) return {0, 0};
  const float along = static_cast<float>(exact);
  for (int64_t j = 0; j < dim; ++j)
    x[j] = static_cast<float>(x[j] - static_cast<double>(along) * u[j]);
  return {along, fabs(exact - along)};
}

}  // namespace
}  // namespace tilefold::cpu::ISA
