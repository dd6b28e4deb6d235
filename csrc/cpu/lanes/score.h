// The canonical score, whose arithmetic defines every answer. Products are exact in fp64. Sixteen
// accumulators, lane l for the dimensions j = l (mod 16) in increasing j, are added pairwise and
// rounded once to fp32. Since products are exact, fused multiply-adds give the same bits.
#pragma once
#include <string.h>

#include "cpu/lanes/search_args.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int score_lanes = 16;
constexpr int registers = score_lanes / double_lanes;

inline float add_lanes(Doubles* sum) {
  for (int step = registers / 2; step > 0; step /= 2)
    for (int r = 0; r < step; ++r) sum[r] = add(sum[r], sum[r + step]);
  double lane[double_lanes];
  store_doubles(lane, sum[0]);
  for (int step = double_lanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) lane[l] += lane[l + step];
  return static_cast<float>(lane[0]);
}

// Scores N documents at once: they share the loads of the query, and the additions of a single sum
// depend on each other.
template <int N, class T>
inline void score_some(const float* query, const T* const* document, int64_t dim, float* out) {
  Doubles sum[N][registers];
  for (int i = 0; i < N; ++i)
    for (int r = 0; r < registers; ++r) sum[i][r] = zero_doubles();
  int64_t j = 0;
  for (; j + score_lanes <= dim; j += score_lanes)
    for (int r = 0; r < registers; ++r) {
      const int64_t at = j + r * double_lanes;
      const Doubles q = load_doubles(query + at);
      for (int i = 0; i < N; ++i)
        sum[i][r] = multiply_add(q, load_doubles(document[i] + at), sum[i][r]);
    }
  if (j < dim) {
    // The rest is padded with zeros: adding +-0 changes no bit of a sum that started at +0.
    float q[score_lanes] = {};
    memcpy(q, query + j, static_cast<size_t>(dim - j) * sizeof(float));
    for (int i = 0; i < N; ++i) {
      T x[score_lanes] = {};
      memcpy(x, document[i] + j, static_cast<size_t>(dim - j) * sizeof(T));
      for (int r = 0; r < registers; ++r)
        sum[i][r] = multiply_add(load_doubles(q + r * double_lanes),
                                 load_doubles(x + r * double_lanes), sum[i][r]);
    }
  }
  for (int i = 0; i < N; ++i) out[i] = add_lanes(sum[i]);
}

template <class T>
void score_rows(const CanonicalArgs& a) {
  constexpr int together = 3;  // as many as AVX2 has registers for
  const T* documents = static_cast<const T*>(a.documents.data);
  const auto document = [&](int64_t i) {
    return documents + (a.rows ? a.rows[i] : a.first_row + i) * a.documents.row_stride;
  };
  int64_t i = 0;
  for (; i + together <= a.n; i += together) {
    const T* three[together] = {document(i), document(i + 1), document(i + 2)};
    score_some<together>(a.query, three, a.documents.dim, a.scores + i);
  }
  for (; i < a.n; ++i) {
    const T* one[1] = {document(i)};
    score_some<1>(a.query, one, a.documents.dim, a.scores + i);
  }
}

void score(const CanonicalArgs& a) {
  switch (a.documents.dtype) {
    case Dtype::f32: return score_rows<float>(a);
    case Dtype::f16: return score_rows<Half>(a);
    case Dtype::bf16: return score_rows<Bfloat>(a);
    case Dtype::i8: return score_rows<int8_t>(a);
    case Dtype::f64: return;  // not accepted by searches
  }
}

}  // namespace
}  // namespace tilefold::cpu::ISA
