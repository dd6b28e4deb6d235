#include "cpu/host/listed_target.h"

#include <cmath>
#include <limits>

#include "cpu/host/logsum.h"

namespace tilefold::cpu {

ListedTarget::ListedTarget(const DivergenceArgs& a, int64_t n) : a_(a), n_(n) {
  if (given()) values_.resize(static_cast<size_t>(a.listed.offsets[n] * a.n_views));
}

void ListedTarget::normalize(int64_t query, int v, double logsumexp) {
  for (int64_t e = a_.listed.offsets[query]; e < a_.listed.offsets[query + 1]; ++e)
    at(e, v) -= logsumexp;
}

double ListedTarget::log_mixture(int64_t e) {
  LogSum sum;
  for (int v = 0; v < a_.n_views; ++v)
    if (a_.reference < 0 || a_.reference == v) sum.add(at(e, v), 1);
  return sum.log() - (a_.reference < 0 ? std::log(a_.n_views) : 0);
}

bool ListedTarget::compute_divergences(int64_t query) {
  const int64_t begin = a_.listed.offsets[query], end = a_.listed.offsets[query + 1];
  std::vector<double> logs;
  LogSum mass;
  for (int64_t e = begin; e < end; ++e) {
    logs.push_back(log_mixture(e));
    mass.add(logs.back(), 1);
  }
  const bool has_mass = mass.log() > -std::numeric_limits<double>::infinity();
  a_.masses[query] = has_mass ? std::exp(mass.log()) : 0;
  for (int v = 0; v < a_.n_views; ++v) a_.divergences[v * n_ + query] = 0;
  for (int64_t e = begin; e < end; ++e) {
    const double log = logs[static_cast<size_t>(e - begin)] - mass.log();
    const double target = has_mass ? std::exp(log) : 0;
    for (int v = 0; v < a_.n_views; ++v) {
      if (target > 0) a_.divergences[v * n_ + query] += target * (log - at(e, v));
      at(e, v) = target;
    }
  }
  return has_mass;
}

}  // namespace tilefold::cpu
