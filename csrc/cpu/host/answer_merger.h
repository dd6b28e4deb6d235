// From the scored candidates of a query to its k best, in order: score descending, then id ascending.
#pragma once
#include <cstdint>
#include <vector>

#include "contract/search.h"
#include "cpu/host/select.h"

namespace tilefold::cpu {

struct Answer {
  float score;
  int64_t id;
};

class AnswerMerger {
 public:
  // Merges scored candidates into the running answers of a query.
  void merge(const SearchArgs& a, int64_t query, std::vector<Answer> found);

 private:
  void keep_best(int64_t k);
  void sort();

  std::vector<Answer> found_, sorted_;
  std::vector<uint64_t> keys_, moved_;
  std::vector<float> values_;
  Selector select_;
};

}  // namespace tilefold::cpu
