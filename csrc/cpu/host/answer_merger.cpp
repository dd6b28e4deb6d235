#include "cpu/host/answer_merger.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace tilefold::cpu {
namespace {

constexpr int digit_bits = 8;

// Smaller for larger scores, and the same for zeros of both signs.
uint32_t descending_key(float score) {
  score += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? bits : 0x7fffffffu - bits;
}

bool better(const Answer& a, const Answer& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

}  // namespace

void AnswerMerger::merge(const SearchArgs& a, int64_t query, std::vector<Answer> found) {
  found_ = std::move(found);
  keep_best(a.k);
  sort();
  float* scores = a.scores + query * a.k;
  int64_t* ids = a.ids + query * a.k;
  if (ids[0] >= 0) {  // answers of earlier documents
    sorted_.clear();
    for (int64_t i = 0; i < a.k && ids[i] >= 0; ++i)
      sorted_.push_back({ordered(scores[i]), ids[i]});
    const auto earlier = static_cast<std::ptrdiff_t>(sorted_.size());
    sorted_.insert(sorted_.end(), found_.begin(), found_.end());
    std::inplace_merge(sorted_.begin(), sorted_.begin() + earlier, sorted_.end(), better);
    std::swap(found_, sorted_);
  }
  const auto kept = std::min<int64_t>(a.k, static_cast<int64_t>(found_.size()));
  for (int64_t i = 0; i < kept; ++i) {
    scores[i] = found_[static_cast<size_t>(i)].score;
    ids[i] = found_[static_cast<size_t>(i)].id;
  }
}

// Drops most of those that are not among the k best.
void AnswerMerger::keep_best(int64_t k) {
  const auto n = static_cast<int64_t>(found_.size());
  if (n <= k) return;
  values_.clear();
  for (const Answer& answer : found_) values_.push_back(answer.score);
  const float least = select_.kth_largest(values_.data(), n, k);
  found_.erase(std::remove_if(found_.begin(), found_.end(),
                              [least](const Answer& answer) { return answer.score < least; }),
               found_.end());
}

// By a radix sort of scores, which keeps the order of ids among equal ones: comparisons of a sort
// cannot be predicted, and take several times as long.
void AnswerMerger::sort() {
  const auto by_id = [](const Answer& a, const Answer& b) { return a.id < b.id; };
  if (!std::is_sorted(found_.begin(), found_.end(), by_id))
    std::sort(found_.begin(), found_.end(), by_id);
  uint32_t first = ~0u, last = 0;
  keys_.clear();
  for (size_t i = 0; i < found_.size(); ++i) {
    const uint32_t key = descending_key(found_[i].score);
    first = std::min(first, key);
    last = std::max(last, key);
    keys_.push_back(static_cast<uint64_t>(key) << 32 | i);
  }
  moved_.resize(keys_.size());
  for (int shift = 0; shift < 32 && (last - first) >> shift; shift += digit_bits) {
    constexpr uint32_t digits = 1u << digit_bits;
    uint32_t begin[digits + 1] = {};
    const auto digit = [&](uint64_t key) {
      return (static_cast<uint32_t>(key >> 32) - first) >> shift & (digits - 1);
    };
    for (const uint64_t key : keys_) ++begin[digit(key) + 1];
    for (uint32_t d = 0; d < digits; ++d) begin[d + 1] += begin[d];
    for (const uint64_t key : keys_) moved_[begin[digit(key)]++] = key;
    std::swap(keys_, moved_);
  }
  sorted_.clear();
  for (const uint64_t key : keys_) sorted_.push_back(found_[static_cast<uint32_t>(key)]);
  std::swap(found_, sorted_);
}

}  // namespace tilefold::cpu
