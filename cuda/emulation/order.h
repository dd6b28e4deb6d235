// Permutations of threads and of blocks, by the variable TILEFOLD_CUDA_ORDER: forward, backward or
// shuffled:SEED.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/emulation/block.h"

namespace tilefold::cuda::emulation {

class Order {
 public:
  Order() {
    const char* variable = std::getenv("TILEFOLD_CUDA_ORDER");
    const std::string name = variable && *variable ? variable : "forward";
    shuffled_ = name.rfind("shuffled", 0) == 0;
    backward_ = name == "backward";
    check<Fault>(name == "forward" || backward_ || shuffled_,
                 "TILEFOLD_CUDA_ORDER must be forward, backward or shuffled:SEED, got ", name);
    const std::size_t colon = name.find(':');
    if (shuffled_)
      random_.seed(colon == std::string::npos ? 0 : std::stoul(name.substr(colon + 1)));
  }

  // The numbers 0, 1, ..., n - 1.
  std::vector<int64_t> first(int64_t n) {
    std::vector<int64_t> numbers(static_cast<std::size_t>(n));
    std::iota(numbers.begin(), numbers.end(), int64_t{0});
    if (backward_) std::reverse(numbers.begin(), numbers.end());
    next(numbers);
    return numbers;
  }

  // Shuffles them anew.
  void next(std::vector<int64_t>& numbers) {
    if (shuffled_) std::shuffle(numbers.begin(), numbers.end(), random_);
  }

 private:
  bool shuffled_, backward_;
  std::mt19937 random_;
};

}  // namespace tilefold::cuda::emulation
