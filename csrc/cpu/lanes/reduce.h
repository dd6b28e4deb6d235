// A register of fp32 lanes to one number.
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
  float lane[float_lanes], most = 0;
  store(lane, a);
  for (int l = 0; l < float_lanes; ++l) most = lane[l] > most ? lane[l] : most;
  return most;
}

}  // namespace
}  // namespace tilefold::cpu::ISA
