// One lane in plain C++ with baseline flags. All other rows must agree with this one.
#pragma once
#include <math.h>
#include <string.h>

#include <cstdint>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int float_lanes = 1;
using Floats = float;

Floats load(const float* p) { return *p; }
void store(float* p, Floats a) { *p = a; }
Floats broadcast(float a) { return a; }
// *p - minus, in integers
Floats from_ints(const int32_t* p, int32_t minus) { return static_cast<float>(*p - minus); }
Floats add(Floats a, Floats b) { return a + b; }
Floats sub(Floats a, Floats b) { return a - b; }
Floats mul(Floats a, Floats b) { return a * b; }
Floats divide(Floats a, Floats b) { return a / b; }
// The product is exact in fp64, so this rounds like a fused multiply-add except for rare double
// roundings, which the slack of the radii covers.
Floats multiply_add(Floats a, Floats b, Floats c) {
  return static_cast<float>(static_cast<double>(a) * b + c);
}
Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
Floats minimum(Floats a, Floats b) { return a < b ? a : b; }
// 1 where a > b, else 0
Floats exceeds(Floats a, Floats b) { return a > b ? 1.0f : 0.0f; }
Floats absolute(Floats a) { return fabsf(a); }
Floats nearest(Floats a) { return nearbyintf(a); }
Floats power_of_two(Floats n) { return ldexpf(1, static_cast<int>(n)); }
// floor(log2(a)) of positive normal numbers
Floats exponent(Floats a) { return static_cast<float>(ilogbf(a)); }
uint32_t greater_equal(Floats a, Floats b) { return a >= b; }
Floats blend(uint32_t mask, Floats a, Floats otherwise) { return mask ? a : otherwise; }
void store_bytes(uint8_t* p, Floats a) { *p = static_cast<uint8_t>(static_cast<int32_t>(a)); }

constexpr int double_lanes = 1;
using Doubles = double;

Doubles zero_doubles() { return 0; }
Doubles load_doubles(const double* p) { return *p; }
void store_doubles(double* p, Doubles a) { *p = a; }
Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return a * b + c; }
Doubles broadcast_doubles(double a) { return a; }
Doubles add(Doubles a, Doubles b) { return a + b; }
Doubles sub(Doubles a, Doubles b) { return a - b; }
Doubles mul(Doubles a, Doubles b) { return a * b; }
Doubles maximum(Doubles a, Doubles b) { return a > b ? a : b; }

// Accumulators of a product.
constexpr int product_height = 4, product_registers = 4;

float widen_one(float x) { return x; }
float widen_one(int8_t x) { return x; }
float widen_one(Bfloat x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
float widen_one(Half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 31, fraction = x.bits & 1023;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign ? -value : value;
  }
  const uint32_t bits =
      sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
Floats load_widened(const T* p) {
  return widen_one(*p);
}
template <class T>
Doubles load_doubles(const T* p) {
  return widen_one(*p);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
