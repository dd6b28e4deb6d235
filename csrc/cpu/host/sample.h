// A sample of the blocks of documents, from which thresholds start: one that k documents are likely
// to reach is the value at some rank of the sample, a little more than the sample's share of k. Most
// documents are then dropped as they stream past, instead of entering a list first.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tilefold::cpu {

class Sample {
 public:
  const int64_t begin, end;  // blocks of the search
  int64_t step = 0;          // 0: no sample
  int64_t rank = 0;

  Sample(int64_t begin, int64_t end, int64_t k, bool wanted) : begin(begin), end(end) {
    const int64_t blocks = end - begin;
    if (!wanted || !possible(blocks)) return;
    step = std::max(share, blocks / most_blocks);
    // Of k documents, as many as this are in the sample, give or take its square root.
    const double expected = static_cast<double>(k) / static_cast<double>(step);
    rank = static_cast<int64_t>(std::ceil(expected + 4 * std::sqrt(expected))) + 2;
  }

  static bool possible(int64_t blocks) { return blocks >= 4 * share; }
  int64_t first() const { return begin + step / 2; }
  bool contains(int64_t block) const { return step && (block - begin) % step == step / 2; }

 private:
  static constexpr int64_t share = 16;          // every 16th block,
  static constexpr int64_t most_blocks = 1024;  // but about this many at most
};

}  // namespace tilefold::cpu
