// Four fp32 or two fp64 lanes: NEON, which every 64-bit ARM processor has.
#pragma once
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include <cstdint>

#include "contract/matrix.h"

namespace tilefold::cpu::ISA {
namespace {

constexpr int float_lanes = 4;
using Floats = float32x4_t;

Floats load(const float* p) { return vld1q_f32(p); }
void store(float* p, Floats a) { vst1q_f32(p, a); }
Floats broadcast(float a) { return vdupq_n_f32(a); }
// *p - minus, in integers
Floats from_ints(const int32_t* p, int32_t minus) {
  return vcvtq_f32_s32(vsubq_s32(vld1q_s32(p), vdupq_n_s32(minus)));
}
Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
Floats sub(Floats a, Floats b) { return vsubq_f32(a, b); }
Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
Floats divide(Floats a, Floats b) { return vdivq_f32(a, b); }
Floats multiply_add(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
// Unlike fmax, b where one of them is NaN, as on the other rows.
Floats maximum(Floats a, Floats b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
Floats minimum(Floats a, Floats b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
// 1 where a > b, else 0
Floats exceeds(Floats a, Floats b) {
  const uint32x4_t one = vreinterpretq_u32_f32(vdupq_n_f32(1));
  return vreinterpretq_f32_u32(vandq_u32(vcgtq_f32(a, b), one));
}
Floats absolute(Floats a) { return vabsq_f32(a); }
Floats nearest(Floats a) { return vrndnq_f32(a); }
// 2^n for integers n from -126 to 127
Floats power_of_two(Floats n) {
  const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
  return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}
// floor(log2(a)) of positive normal numbers
Floats exponent(Floats a) {
  const int32x4_t bits = vshrq_n_s32(vreinterpretq_s32_f32(a), 23);
  return vcvtq_f32_s32(vsubq_s32(bits, vdupq_n_s32(127)));
}

uint32x4_t lane_bits() {
  constexpr uint32_t bits[float_lanes] = {1, 2, 4, 8};
  return vld1q_u32(bits);
}
uint32_t greater_equal(Floats a, Floats b) {
  return vaddvq_u32(vandq_u32(vcgeq_f32(a, b), lane_bits()));
}
Floats blend(uint32_t mask, Floats a, Floats otherwise) {
  return vbslq_f32(vtstq_u32(vdupq_n_u32(mask), lane_bits()), a, otherwise);
}
void store_bytes(uint8_t* p, Floats a) {
  // Narrows by truncation to the low byte of each lane, which preserves codes of either sign.
  const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(a));
  const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
  const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  memcpy(p, &four, sizeof four);
}

constexpr int double_lanes = 2;
using Doubles = float64x2_t;

Doubles zero_doubles() { return vdupq_n_f64(0); }
Doubles load_doubles(const double* p) { return vld1q_f64(p); }
void store_doubles(double* p, Doubles a) { vst1q_f64(p, a); }
Doubles multiply_add(Doubles a, Doubles b, Doubles c) { return vfmaq_f64(c, a, b); }
Doubles broadcast_doubles(double a) { return vdupq_n_f64(a); }
Doubles add(Doubles a, Doubles b) { return vaddq_f64(a, b); }
Doubles sub(Doubles a, Doubles b) { return vsubq_f64(a, b); }
Doubles mul(Doubles a, Doubles b) { return vmulq_f64(a, b); }
Doubles maximum(Doubles a, Doubles b) { return vbslq_f64(vcgtq_f64(a, b), a, b); }

// Accumulators of a product: 8 x 3 of 32 registers, three more of columns, one of rows.
constexpr int product_height = 8, product_registers = 3;

int32_t load_4_bytes(const void* p) {
  int32_t bits;
  memcpy(&bits, p, sizeof bits);
  return bits;
}

Floats load_widened(const float* p) { return load(p); }
Floats load_widened(const Half* p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
}
Floats load_widened(const Bfloat* p) {
  const uint16x4_t bits = vld1_u16(reinterpret_cast<const uint16_t*>(p));
  return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
}
Floats load_widened(const int8_t* p) {
  const int8x8_t bytes = vreinterpret_s8_s32(vdup_n_s32(load_4_bytes(p)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))));
}
Doubles load_doubles(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
Doubles load_doubles(const Half* p) {
  const float16x4_t bits = vreinterpret_f16_s32(vdup_n_s32(load_4_bytes(p)));
  return vcvt_f64_f32(vget_low_f32(vcvt_f32_f16(bits)));
}
Doubles load_doubles(const Bfloat* p) {
  const uint32x4_t bits = vshll_n_u16(vreinterpret_u16_s32(vdup_n_s32(load_4_bytes(p))), 16);
  return vcvt_f64_f32(vget_low_f32(vreinterpretq_f32_u32(bits)));
}
Doubles load_doubles(const int8_t* p) {
  const double values[double_lanes] = {static_cast<double>(p[0]), static_cast<double>(p[1])};
  return load_doubles(values);
}

}  // namespace
}  // namespace tilefold::cpu::ISA
