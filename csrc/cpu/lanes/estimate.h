// fp32 inner products, which take a quarter of the time of canonical scores. Eight sums are
// computed at once, because a multiply-add takes four cycles and two can start in each: two sums
// for each of four documents, which share the loads of the query, or eight sums for a single
// document.
#pragma once
#include <string.h>

#include "cpu/lanes/search_args.h"
#include "cpu/lanes/reduce.h"

namespace tilefold::cpu::ISA {
namespace {

template <int N, int chains, class T>
inline void estimate_some(const float* query, const T* const* document, int64_t dim, float* out) {
  Floats sum[N][chains];
  for (int i = 0; i < N; ++i)
    for (int c = 0; c < chains; ++c) sum[i][c] = broadcast(0);
  int64_t j = 0;
  for (; j + chains * float_lanes <= dim; j += chains * float_lanes)
    for (int c = 0; c < chains; ++c) {
      const Floats q = load(query + j + c * float_lanes);
      for (int i = 0; i < N; ++i)
        sum[i][c] = multiply_add(q, load_widened(document[i] + j + c * float_lanes), sum[i][c]);
    }
  for (; j < dim; j += float_lanes) {
    const int64_t left = dim - j < float_lanes ? dim - j : float_lanes;
    float q[float_lanes] = {};
    memcpy(q, query + j, static_cast<size_t>(left) * sizeof(float));
    for (int i = 0; i < N; ++i) {
      T x[float_lanes] = {};
      memcpy(x, document[i] + j, static_cast<size_t>(left) * sizeof(T));
      sum[i][0] = multiply_add(load(q), load_widened(x), sum[i][0]);
    }
  }
  for (int i = 0; i < N; ++i) {
    for (int step = chains / 2; step > 0; step /= 2)
      for (int c = 0; c < step; ++c) sum[i][c] = add(sum[i][c], sum[i][c + step]);
    out[i] = sum_lanes(sum[i][0]);
  }
}

template <class T>
void estimate_rows(const EstimateArgs& a) {
  constexpr int together = 4;
  const T* documents = static_cast<const T*>(a.documents.data);
  const auto document = [&](int64_t i) { return documents + a.rows[i] * a.documents.row_stride; };
  int64_t i = 0;
  for (; i + together <= a.n; i += together) {
    const T* four[together] = {document(i), document(i + 1), document(i + 2), document(i + 3)};
    estimate_some<together, 2>(a.query, four, a.documents.dim, a.estimates + i);
  }
  for (; i < a.n; ++i) {
    const T* one[1] = {document(i)};
    estimate_some<1, 8>(a.query, one, a.documents.dim, a.estimates + i);
  }
}

void estimate(const EstimateArgs& a) {
  switch (a.documents.dtype) {
    case Dtype::f32: return estimate_rows<float>(a);
    case Dtype::f16: return estimate_rows<Half>(a);
    case Dtype::bf16: return estimate_rows<Bfloat>(a);
    case Dtype::i8: return estimate_rows<int8_t>(a);
    case Dtype::f64: return;  // not accepted by searches
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
