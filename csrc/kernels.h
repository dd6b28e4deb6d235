// The op table: an implementation per device, a column per op. A null column means that the
// implementation lacks the op, which is an error for arrays on its device, never a fallback.
#pragma once
#include <string>

#include "check.h"
#include "contract/losses.h"
#include "contract/search.h"
#include "contract/statistics.h"
#include "device_names.h"
#include "pulse.h"

namespace tilefold {

// Runs an op on checked arguments, on up to `threads` threads of the host. If the pulse stops it,
// its results are unspecified.
template <class Args>
using Op = void (*)(const Args&, int threads, Pulse&);

struct Implementation {
  DeviceType device;
  Op<SearchArgs> search;
  Op<PackArgs> pack;
  Op<FiniteRowsArgs> finite_rows;
  Op<ScoreArgs> score;
  Op<ContrastiveArgs> contrastive;
  Op<DivergenceArgs> divergence;
  Op<MagnitudeArgs> max_magnitude;
  Op<StatisticsArgs> statistics;
  Op<ExamplesArgs> examples;
  Op<SecondMomentArgs> second_moment;
};

extern const Implementation* const implementations[];  // ends with nullptr

// How this build has CUDA kernels: "compiled", "emulated" on the host, or "none".
extern const char* const cuda_kernels;
extern const char* const cuda_architectures;  // that they are compiled for, or ""

// The type of device whose implementation takes the arrays of an op: their own. In a build that
// emulates CUDA, arrays on the host go to CUDA's kernels while TILEFOLD_EMULATE_CUDA is 1 in the
// environment, so that the tests of the CPU run them.
DeviceType implementing_device(DeviceType arrays);

// Returns an op's implementation for a device. `argument` is an array of the op on that device.
template <class Args>
Op<Args> find_op(Op<Args> Implementation::* column, const char* op, const char* argument,
                 Device device, const Implementation* const* table = implementations) {
  std::string available;
  Op<Args> own = nullptr;
  const DeviceType wanted = implementing_device(device.type);
  for (; *table; ++table) {
    if (!((*table)->*column)) continue;
    if ((*table)->device == wanted) return (*table)->*column;
    if ((*table)->device == device.type) own = (*table)->*column;
    available += (available.empty() ? "" : ", ") + device_type_name((*table)->device);
  }
  if (own) return own;  // emulated CUDA lacks the op
  check(false, op, ": ", on_device(argument, device), ", and this build has ", op,
        " for: ", available.empty() ? "no device" : available);
  return nullptr;
}

}  // namespace tilefold
