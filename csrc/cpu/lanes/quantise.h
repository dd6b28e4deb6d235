// Quantises documents and queries to int8 codes with a radius: an upper bound of the distance
// between the vector and what its codes represent. Everything that enters a bound is rounded up: a
// sum of `dim` rounded terms, in any order, has a relative error below (dim + 64) 2^-24.
#pragma once
#include <math.h>
#include <string.h>

#include "contract/search.h"
#include "cpu/lanes/direction.h"
#include "cpu/lanes/reduce.h"
#include "cpu/lanes/rotation.h"
#include "cpu/lanes/search_args.h"
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

struct Size {
  float max;   // largest magnitude
  float norm;  // rounded up

  bool quantised() const { return max >= min_quantised && norm <= max_quantised; }
};

Size size_of(const float* x, int64_t dim) {
  Floats largest = broadcast(0), squares = broadcast(0);
  for (int64_t j = 0; j < dim; j += float_lanes) {
    const Floats a = load(x + j);
    largest = maximum(largest, absolute(a));
    squares = multiply_add(a, a, squares);
  }
  return {max_lanes(largest), root_upper_bound(sum_lanes(squares), dim)};
}

struct Quantised {
  float scale;
  float norm;    // of the vector itself
  float radius;  // |x - scale codes|
  int32_t code_sum;
  int64_t code_square_sum;
};

// Quantises x [dim] to codes [dim]: signed numbers from `lowest` to 127, plus `offset`.
Quantised quantise(const float* x, int64_t dim, const Size& size, float scale, int lowest,
                   int offset, uint8_t* codes) {
  if (!size.quantised()) {
    memset(codes, offset, static_cast<size_t>(dim));
    const float bound = size.norm <= max_quantised
                            ? static_cast<float>(size.max * sqrt(static_cast<double>(dim)) * 1.001)
                            : HUGE_VALF;
    // Not zero, because zero times infinity is no bound, and enough for what underflows on the way.
    const float min_radius = 0x1p-118f;
    const float radius = bound > min_radius ? bound : min_radius;
    return {0, radius, radius, 0, 0};
  }
  const Floats inverse = broadcast(1 / scale), step = broadcast(-scale);
  const Floats top = broadcast(127), bottom = broadcast(static_cast<float>(lowest));
  const Floats shift = broadcast(static_cast<float>(offset));
  Floats errors = broadcast(0);
  for (int64_t j = 0; j < dim; j += float_lanes) {
    const Floats a = load(x + j);
    const Floats code = minimum(maximum(nearest(mul(a, inverse)), bottom), top);
    store_bytes(codes + j, add(code, shift));
    const Floats error = multiply_add(step, code, a);
    errors = multiply_add(error, error, errors);
  }
  Quantised result = {scale, size.norm, root_upper_bound(sum_lanes(errors), dim), 0, 0};
  for (int64_t j = 0; j < dim; ++j) {
    const int32_t code = offset ? codes[j] - offset : static_cast<int8_t>(codes[j]);
    result.code_sum += code;
    result.code_square_sum += static_cast<int64_t>(code) * code;
  }
  return result;
}

void pack_documents(const PackArgs& a, int64_t block) {
  const int64_t dim = padded_dim(a.documents.dim), first = block * block_rows;
  const int64_t width = (dim + float_lanes - 1) / float_lanes * float_lanes;
  alignas(64) float x[max_packed_dim + 64];
  uint8_t codes[max_packed_dim + 64];
  uint8_t* block_codes = a.codes + block * block_bytes(a.documents.dim);
  float* bounds = a.bounds + block * block_bounds;
  memset(block_codes, 128, static_cast<size_t>(block_bytes(a.documents.dim)));
  memset(bounds, 0, block_bounds * sizeof(float));
  memset(x + dim, 0, 64 * sizeof(float));
  const bool integers = a.documents.dtype == Dtype::i8 && !a.rotate && !a.direction;
  uint32_t finite = 0;
  double radius_sum = 0;
  for (int i = 0; i < block_rows && first + i < a.documents.rows; ++i) {
    widen(a.documents, first + i, x);
    for (int64_t j = a.documents.dim; j < dim; ++j) x[j] = 0;  // rotate() fills the padding
    if (!finite_row(x, a.documents.dim)) continue;
    finite |= 1u << i;
    const float along =
        a.direction ? remove_direction(x, a.direction, a.documents.dim).along : 0.0f;
    if (a.rotate) rotate(x, dim);
    const Size size = size_of(x, width);
    const Quantised r =
        quantise(x, width, size, integers ? 1 : size.max / 127, integers ? -128 : -127, 128, codes);
    for (int64_t j = 0; j < dim; j += 4) memcpy(block_codes + j * block_rows + 4 * i, codes + j, 4);
    bounds[0 * block_rows + i] = r.scale;
    bounds[1 * block_rows + i] = (r.norm + r.radius) * (1 + 0x1p-20f);
    bounds[2 * block_rows + i] = r.radius;
    bounds[3 * block_rows + i] = along;
    if (r.scale > 0) radius_sum += static_cast<double>(r.radius) / r.norm;
  }
  a.finite[block] = finite;
  if (a.radius_sum) a.radius_sum[block] = radius_sum;
}

// With as many queries, sums of squares of documents take less time to compute than they save.
constexpr int many_queries = 8 * query_tile;

// The largest sum of positive values, or of magnitudes of negative ones, in groups of four
// dimensions: two neighbours and those four further on.
template <class T>
float largest_group_sum(const T* x, int64_t dim) {
  float largest = 0;
  for (int64_t j = 0; j < dim; j += 8)
    for (int64_t i = j; i < j + 4; i += 2) {
      const T group[4] = {x[i], x[i + 1], x[i + 4], x[i + 5]};
      float positive = 0, negative = 0;
      for (const T value : group) {
        positive += value > 0 ? value : 0;
        negative -= value < 0 ? value : 0;
      }
      if (positive > largest) largest = positive;
      if (negative > largest) largest = negative;
    }
  return largest;
}

// The finest scale with which codes stay within 127 and, where the tile has a limit, within
// max_group_sum in each group of dimensions, or nearly so: rounding adds at most 2 to the sum of
// four codes.
float finest_scale(const float* x, int64_t dim, float max) {
  const float scale = max / 127;
  if (max_group_sum == 0) return scale;
  const float groups = largest_group_sum(x, dim) / (max_group_sum - 0.5f);
  return groups > scale ? groups : scale;
}

// Quantises one of `n` queries with the finest scale that the tile allows or, if it is one of many,
// with one that is up to half as coarse again if its codes then have the norm that suits the tile.
Quantised quantise_query(const float* x, int64_t dim, int64_t width, const Size& size, int64_t n,
                         int8_t* codes, int32_t* squares) {
  float scale = size.quantised() ? finest_scale(x, dim, size.max) : 0;
  const float coarsest = n >= many_queries ? 1.5f * scale : 0;
  for (;;) {
    const Quantised result =
        quantise(x, width, size, scale, -127, 0, reinterpret_cast<uint8_t*>(codes));
    *squares = finish_query(codes, dim);
    const float excess = sqrtf(static_cast<float>(*squares)) / suitable_norm;
    if (max_group_sum > 0 && largest_group_sum(codes, dim) > max_group_sum)
      scale *= 1.005f;
    else if (excess > 1 && excess * scale <= coarsest)
      scale *= 1.001f * excess;
    else
      return result;
  }
}

QueryBound pack_query(const float* query, int64_t dim, const PackedDocuments& packed, int64_t n,
                      int64_t stride, int8_t* codes) {
  const int64_t padded = padded_dim(dim);
  const int64_t width = (padded + float_lanes - 1) / float_lanes * float_lanes;
  alignas(64) float x[max_packed_dim + 64];
  int8_t raw[packed_query_bytes(max_packed_dim) + 64];
  memcpy(x, query, static_cast<size_t>(dim) * sizeof(float));
  memset(x + dim, 0, static_cast<size_t>(padded - dim + 64) * sizeof(float));
  // In fp64, where squares of tiny values do not underflow.
  const double norm = sqrt(inner_product(query, query, dim)) * (1 + 0x1p-20);
  const bool split = packed.direction && norm <= max_quantised;
  const Part part = split ? remove_direction(x, packed.direction, dim) : Part{0, 0};
  if (packed.rotated) rotate(x, padded);
  const Size size = norm <= max_quantised ? size_of(x, width) : Size{HUGE_VALF, HUGE_VALF};
  int32_t squares;
  const Quantised r = quantise_query(x, padded, width, size, n, raw, &squares);
  for (int64_t j = 0; j < packed_query_bytes(padded); j += 4)
    memcpy(codes + j / 4 * stride, raw + j, 4);
  // Slack, relative to what is left of the query and the document: the fp32 arithmetic of the bound
  // (2^-21), two rotations (2^-18). Two terms of 2^-17 exceed their sum. Relative to the whole
  // query: the rounding of the canonical score to fp32, the parts along the direction and what is
  // left without them (each below 2^-22).
  const double approximation = r.scale * sqrt(static_cast<double>(r.code_square_sum));
  const double whole = split ? 0x1p-20 * norm : 0;
  const double norm_factor = r.radius + 0x1p-17 * (r.norm + approximation) + whole;
  const double radius_factor = approximation > 0x1p-100 ? approximation : 0x1p-100;
  const double along_factor =
      split ? whole + part.error + fabs(part.along) * packed.direction_defect + 0x1p-126 : 0;
  return {r.scale,
          part.along,
          static_cast<float>(norm_factor * (1 + 0x1p-18)),
          static_cast<float>(radius_factor * (1 + 0x1p-18)),
          static_cast<float>(along_factor * (1 + 0x1p-18)),
          r.code_sum,
          squares};
}

}  // namespace
}  // namespace tilefold::cpu::ISA
