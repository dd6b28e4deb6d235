// CUDA's entry in the op table.
#include "cuda/losses/losses.h"
#include "cuda/search/search.h"
#include "cuda/statistics/statistics.h"
#include "kernels.h"

namespace tilefold::cuda {
namespace {

constexpr Implementation ops() {
  Implementation i = {};
  i.device = DeviceType::cuda;
  i.search = search;
  i.pack = pack;
  i.finite_rows = finite_rows;
  i.score = score;
  i.contrastive = contrastive;
  i.divergence = divergence;
  i.statistics = statistics;
  i.examples = examples;
  i.second_moment = second_moment;
  return i;
}

}  // namespace

extern const Implementation implementation;
constexpr Implementation implementation = ops();

}  // namespace tilefold::cuda
