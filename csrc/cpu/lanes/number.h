// fp32 and fp64 registers under one set of names, so that an algorithm is written once for both.
#pragma once
#include <math.h>

#include "cpu/lanes/loss_args.h"

namespace tilefold::cpu::ISA {
namespace {

inline Doubles load(const double* p) { return load_doubles(p); }
inline void store(double* p, Doubles a) { store_doubles(p, a); }

template <class T>
struct Number;
template <>
struct Number<float> {
  using Lanes = Floats;
  static constexpr int width = float_lanes;
  static Lanes splat(float a) { return broadcast(a); }
};
template <>
struct Number<double> {
  using Lanes = Doubles;
  static constexpr int width = double_lanes;
  static Lanes splat(double a) { return broadcast_doubles(a); }
};

// e^a for a up to 88, with an error of about 1.5 ulp; 0 if the result would be subnormal.
// e^a = 2^n e^r with |r| at most ln(2) / 2, where the Taylor series up to r^7 has a relative error
// below 6e-9.
inline Floats exponential(Floats a) {
  const Floats smallest = broadcast(-87.0f);
  const uint32_t counts = greater_equal(a, smallest);
  a = maximum(a, smallest);
  const Floats n = nearest(mul(a, broadcast(1.44269504f)));
  // ln 2 in two parts, the first of which has few enough bits for exact products with n
  Floats r = multiply_add(n, broadcast(-0.693359375f), a);
  r = multiply_add(n, broadcast(2.12194440e-4f), r);
  Floats sum = broadcast(1.0f / 5040);
  sum = multiply_add(sum, r, broadcast(1.0f / 720));
  sum = multiply_add(sum, r, broadcast(1.0f / 120));
  sum = multiply_add(sum, r, broadcast(1.0f / 24));
  sum = multiply_add(sum, r, broadcast(1.0f / 6));
  sum = multiply_add(sum, r, broadcast(0.5f));
  sum = multiply_add(sum, r, broadcast(1.0f));
  sum = multiply_add(sum, r, broadcast(1.0f));
  return blend(counts, mul(sum, power_of_two(n)), broadcast(0));
}

// log(a) of positive normal numbers, with an error of about 1.5 ulp: a = 2^n m with m from 3/4 to
// 3/2, and log(m) = 2 artanh(s) for s = (m - 1) / (m + 1), at most 1/5, where the series up to s^11
// has a relative error below 1e-9.
inline Floats logarithm(Floats a) {
  const Floats n = exponent(mul(a, broadcast(4.0f / 3)));
  const Floats f = sub(mul(a, power_of_two(sub(broadcast(0), n))), broadcast(1));
  const Floats s = divide(f, add(f, broadcast(2))), square = mul(s, s);
  Floats sum = broadcast(2.0f / 11);
  sum = multiply_add(sum, square, broadcast(2.0f / 9));
  sum = multiply_add(sum, square, broadcast(2.0f / 7));
  sum = multiply_add(sum, square, broadcast(2.0f / 5));
  sum = multiply_add(sum, square, broadcast(2.0f / 3));
  // 2 artanh(s) = 2 s + s^3 (...), and 2 s = f - f s: f is exact, so the result is accurate near 1
  const Floats rest = mul(s, sub(mul(square, sum), f));
  const Floats low = multiply_add(n, broadcast(-2.12194440e-4f), rest);
  return multiply_add(n, broadcast(0.693359375f), add(f, low));
}

// 1 / (1 + e^-a), at least e^-87.
inline Floats sigmoid(Floats a) {
  const Floats e = exponential(sub(broadcast(0), maximum(a, broadcast(-87.0f))));
  return divide(broadcast(1), add(broadcast(1), e));
}

// a >= b ? x : otherwise, for each lane
inline Floats select(Floats a, Floats b, Floats x, Floats otherwise) {
  return blend(greater_equal(a, b), x, otherwise);
}

// fp64 serves to check gradients, so it calls libm for each lane.
template <class F>
Doubles each_lane(Doubles a, F f) {
  double lane[double_lanes];
  store(lane, a);
  for (int l = 0; l < double_lanes; ++l) lane[l] = f(lane[l]);
  return load(lane);
}
inline Doubles exponential(Doubles a) {
  return each_lane(a, [](double x) { return exp(x); });
}
inline Doubles logarithm(Doubles a) {
  return each_lane(a, [](double x) { return log(x); });
}
inline Doubles sigmoid(Doubles a) {
  return each_lane(a, [](double x) { return 1 / (1 + exp(-x)); });
}
inline Doubles select(Doubles a, Doubles b, Doubles x, Doubles otherwise) {
  double lane[4][double_lanes];
  store(lane[0], a);
  store(lane[1], b);
  store(lane[2], x);
  store(lane[3], otherwise);
  for (int l = 0; l < double_lanes; ++l)
    if (lane[0][l] < lane[1][l]) lane[2][l] = lane[3][l];
  return load(lane[2]);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
