// fp32 and fp64 registers under one set of names, so that an algorithm is written once for both.
#pragma once
#include <math.h>

#include "../args.h"

namespace tilefold::ISA {
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

// e^a to about 1.5 units in the last place; 0 where it would be subnormal. e^a = 2^n e^r with |r| at
// most ln(2) / 2, where the Taylor series up to r^7 is off by less than 6e-9, relatively.
inline Floats exponential(Floats a) {
  const Floats smallest = broadcast(-87.0f);
  const uint32_t counts = at_least(a, smallest);
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
  return keep(counts, mul(sum, power_of_two(n)), broadcast(0));
}

// fp64 is for checks of gradients: libm, a lane at a time.
inline Doubles exponential(Doubles a) {
  double lane[double_lanes];
  store(lane, a);
  for (int l = 0; l < double_lanes; ++l) lane[l] = exp(lane[l]);
  return load(lane);
}

}  // namespace
}  // namespace tilefold::ISA
