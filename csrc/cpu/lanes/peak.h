// Peak arithmetic rate of a row: independent accumulators in registers, without memory. Benchmarks
// state speeds as fractions of it.
#pragma once
#include <cstdint>

namespace tilefold::cpu::ISA {
namespace {

constexpr int peak_chains = 12;  // more than latency times throughput of any multiply-add so far

double peak_fp32(int64_t rounds) {
  Floats sum[peak_chains];
  for (int i = 0; i < peak_chains; ++i) sum[i] = broadcast(static_cast<float>(i));
  const Floats a = broadcast(0.999f), b = broadcast(1e-3f);
  for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
    for (int i = 0; i < peak_chains; ++i) sum[i] = multiply_add(sum[i], a, b);
  volatile float kept;
  for (int i = 0; i < peak_chains; ++i) {
    float lane[float_lanes];
    store(lane, sum[i]);
    kept = lane[0];
  }
  (void)kept;
  return 2.0 * static_cast<double>(rounds) * peak_chains * float_lanes;
}

}  // namespace
}  // namespace tilefold::cpu::ISA
