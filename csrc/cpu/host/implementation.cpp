// The CPU's entry in the op table: all ops.
#include "cpu/host/losses.h"
#include "cpu/host/magnitude.h"
#include "cpu/host/search.h"
#include "cpu/host/statistics.h"
#include "kernels.h"

namespace tilefold::cpu {
namespace {

constexpr Implementation all_ops() {
  Implementation i = {};
  i.device = DeviceType::cpu;
  i.search = search;
  i.pack = pack;
  i.finite_rows = finite_rows;
  i.score = score;
  i.contrastive = contrastive;
  i.divergence = divergence;
  i.max_magnitude = max_magnitude;
  i.statistics = statistics;
  i.examples = examples;
  i.second_moment = second_moment;
  return i;
}

}  // namespace

extern const Implementation implementation;
constexpr Implementation implementation = all_ops();

}  // namespace tilefold::cpu
