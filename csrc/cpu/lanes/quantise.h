// Quantises documents and queries to int8 codes with a radius: an upper bound of the distance
// between the vector and what its codes represent. Everything that enters a bound is rounded up: a
// sum of `dim` rounded terms, in any order, has a relative error below (dim + 64) 2^-24.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/search.h"
#include "cpu/lanes/search_args.h"
#include "cpu/lanes/reduce.h"
#include "cpu/lanes/rotation.h"
#include "cpu/lanes/widen.h"

namespace tilefold::cpu::ISA {
namespace {

// The range in which squares and products are far from overflow and underflow in fp32. Vectors
// outside it get codes of zero: small ones with their norm as radius, large ones with an infinite
// radius.
constexpr float min_quantised = 9.094947017729282e-13f;  // 2^-40
constexpr float max_quantised = 1.152921504606847e18f;   // 2^60

// Upper bound of the square root of a sum of `dim` squares.
float root_upper_bound(float sum, int64_t dim) {
  const double slack = 1 + static_cast<double>(dim + 64) * 0x1p-24;
  return static_cast<float>(sqrt(static_cast<double>(sum) * slack) * (1 + 0x1p-20));
}

struct Quantised {
  float scale;
  float norm;           // of the vector itself
  float radius;         // |x - scale codes|
  float coarse_radius;  // |x - scale (2 floor((code + 1) / 2) - 1/2)|
  int32_t code_sum;
  int64_t code_square_sum;
};

// Quantises x [dim] to codes [dim]: signed numbers in [-levels, levels], plus `offset`.
Quantised quantise(const float* x, int64_t dim, int levels, int offset, bool integers,
                   uint8_t* codes) {
  Floats largest = broadcast(0), squares = broadcast(0);
  for (int64_t j = 0; j < dim; j += float_lanes) {
    const Floats a = load(x + j);
    largest = maximum(largest, absolute(a));
    squares = multiply_add(a, a, squares);
  }
  const float max = max_lanes(largest);
  const float norm = root_upper_bound(sum_lanes(squares), dim);
  const bool in_range = max >= min_quantised && norm <= max_quantised;
  if (!in_range) {
    memset(codes, offset, static_cast<size_t>(dim));
    const float bound = norm <= max_quantised
                            ? static_cast<float>(max * sqrt(static_cast<double>(dim)) * 1.001)
                            : HUGE_VALF;
    // At least the smallest normal number, because zero times infinity is no bound.
    const float min_radius = 1.17549435e-38f;
    const float radius = bound > min_radius ? bound : min_radius;
    return {0, radius, radius, radius, 0, 0};
  }
  const float scale = integers ? 1 : max / static_cast<float>(levels);
  const Floats inverse = broadcast(1 / scale), step = broadcast(-scale), half = broadcast(0.5f);
  const Floats top = broadcast(static_cast<float>(levels));
  const Floats shift = broadcast(static_cast<float>(offset));
  const Floats bottom = broadcast(-static_cast<float>(levels) - (integers ? 1 : 0));
  Floats fine = broadcast(0), coarse = broadcast(0);
  for (int64_t j = 0; j < dim; j += float_lanes) {
    const Floats a = load(x + j);
    Floats code = nearest(mul(a, inverse));
    code = maximum(code, bottom);
    code = sub(broadcast(0), maximum(sub(broadcast(0), code), sub(broadcast(0), top)));
    store_bytes(codes + j, add(code, shift));
    const Floats error = multiply_add(step, code, a);
    fine = multiply_add(error, error, fine);
    const Floats pair = floor(mul(add(code, broadcast(1)), half));
    const Floats coarse_error = multiply_add(step, sub(add(pair, pair), half), a);
    coarse = multiply_add(coarse_error, coarse_error, coarse);
  }
  Quantised result = {
      scale, norm, root_upper_bound(sum_lanes(fine), dim), root_upper_bound(sum_lanes(coarse), dim),
      0,     0};
  for (int64_t j = 0; j < dim; ++j) {
    const int32_t code = offset ? codes[j] - offset : static_cast<int8_t>(codes[j]);
    result.code_sum += code;
    result.code_square_sum += static_cast<int64_t>(code) * code;
  }
  return result;
}

void pack_documents(const PackArgs& a, int64_t block) {
  const int64_t dim = padded_dim(a.documents.dim), first = block * block_rows;
  alignas(64) float x[max_packed_dim + 64];
  uint8_t codes[max_packed_dim + 64];
  uint8_t* block_codes = a.codes + block * block_bytes(a.documents.dim);
  float* bounds = a.bounds + block * block_bounds;
  memset(block_codes, 128, static_cast<size_t>(block_bytes(a.documents.dim)));
  memset(bounds, 0, block_bounds * sizeof(float));
  memset(x + dim, 0, 64 * sizeof(float));
  uint32_t finite = 0;
  double radius_sum = 0;
  for (int i = 0; i < block_rows && first + i < a.documents.rows; ++i) {
    widen(a.documents, first + i, x);
    for (int64_t j = a.documents.dim; j < dim; ++j) x[j] = 0;  // rotate() fills the padding
    if (!finite_row(x, a.documents.dim)) continue;
    finite |= 1u << i;
    if (a.rotate) rotate(x, dim);
    const bool integers = a.documents.dtype == Dtype::i8 && !a.rotate;
    const Quantised r =
        quantise(x, (dim + float_lanes - 1) / float_lanes * float_lanes, 127, 128, integers, codes);
    for (int64_t j = 0; j < dim; j += 4) memcpy(block_codes + j * block_rows + 4 * i, codes + j, 4);
    const float widest = r.radius > r.coarse_radius ? r.radius : r.coarse_radius;
    bounds[0 * block_rows + i] = r.scale;
    bounds[1 * block_rows + i] = (r.norm + widest) * (1 + 0x1p-20f);
    bounds[2 * block_rows + i] = r.radius;
    bounds[3 * block_rows + i] = r.coarse_radius;
    if (r.scale > 0) radius_sum += static_cast<double>(r.radius) / r.norm;
  }
  a.finite[block] = finite;
  if (a.radius_sum) a.radius_sum[block] = radius_sum;
}

QueryBound pack_query(const float* query, int64_t dim, bool rotated, int64_t stride,
                      int8_t* codes) {
  alignas(64) float x[max_packed_dim + 64];
  uint8_t raw[max_packed_dim + 64];
  memcpy(x, query, static_cast<size_t>(dim) * sizeof(float));
  memset(x + dim, 0, 64 * sizeof(float));
  if (rotated) rotate(x, dim);
  const Quantised r =
      quantise(x, (dim + float_lanes - 1) / float_lanes * float_lanes, query_levels, 0, false, raw);
  for (int64_t j = 0; j < dim; j += 4) memcpy(codes + j / 4 * stride, raw + j, 4);
  // Slack, relative to |q| |x|: the fp32 arithmetic of the bound (2^-21), two rotations (2^-18),
  // the rounding of the canonical score to fp32 (2^-24). Two terms of 2^-17 exceed their sum.
  const double approximation = r.scale * sqrt(static_cast<double>(r.code_square_sum));
  const double norm_factor = r.radius + 0x1p-17 * (r.norm + approximation);
  const double radius_factor = approximation > 0x1p-100 ? approximation : 0x1p-100;
  return {coarse_codes ? r.scale / 2 : r.scale, static_cast<float>(norm_factor * (1 + 0x1p-18)),
          static_cast<float>(radius_factor * (1 + 0x1p-18)), r.code_sum};
}

}  // namespace
}  // namespace tilefold::cpu::ISA
