// Reductions of a register of fp32 lanes.
#pragma once

namespace tilefold::cpu::ISA {
namespace {

inline float sum_lanes(Floats a) {
  float lane[float_lanes], sum = 0;
  store(lane, a);
  for (int l = 0; l < float_lanes; ++l) sum += lane[l];
  return sum;
}

inline float max_lanes(Floats a) {
  float lane[float_lanes], max = 0;
  store(lane, a);
  for (int l = 0; l < float_lanes; ++l) max = lane[l] > max ? lane[l] : max;
  return max;
}

}  // namespace
}  // namespace tilefold::cpu::ISA
