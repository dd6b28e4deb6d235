#include "cpu/host/fold.h"

#include <algorithm>

namespace tilefold::cpu {
namespace {

constexpr int64_t blocks_per_beat = 16;

// Both sides keep the larger threshold of each query.
void exchange_thresholds(Candidates& found, std::atomic<float>* shared) {
  for (int q = 0; q < found.n_queries(); ++q) {
    float theirs = shared[q].load(std::memory_order_relaxed);
    while (
        theirs < found.threshold(q) &&
        !shared[q].compare_exchange_weak(theirs, found.threshold(q), std::memory_order_relaxed)) {
    }
    found.threshold(q) = std::max(found.threshold(q), theirs);
  }
}

}  // namespace

Fold::Fold(const SearchArgs& a, const SearchKernels& kernels, const Group& group, Strategy strategy,
           double share, Pulse& pulse)
    : a_(a),
      kernels_(kernels),
      group_(group),
      strategy_(strategy),
      share_(share),
      pulse_(pulse),
      refiner_(a, kernels, group),
      before_(static_cast<size_t>(group.n)) {}

std::unique_ptr<Candidates> Fold::run(int64_t begin, int64_t end, std::atomic<float>* shared) {
  const int64_t rows = std::min(end * block_rows, a_.documents.rows) - begin * block_rows;
  auto found = std::make_unique<Candidates>(group_.n, a_.k, Candidates::capacity_for(a_.k, rows),
                                            optimism(strategy_, a_.documents.dim));
  for (int q = 0; q < group_.n; ++q)
    found->threshold(q) = group_.thresholds[static_cast<size_t>(q)];
  const Sample sample(begin, end, a_.k, strategy_ == Strategy::sampled);
  if (sample.step) fold_sample(sample, *found);
  for (int64_t block = begin; block < end; ++block) {
    if ((block - begin) % blocks_per_beat == 0) {
      if (!pulse_.beat(share_ * static_cast<double>(std::min(blocks_per_beat, end - block)))) break;
      if (shared) exchange_thresholds(*found, shared);
    }
    if (!sample.contains(block)) fold_block(block, *found);
  }
  found->keep_sound(refiner_.sound());
  return found;
}

void Fold::fold_sample(const Sample& sample, Candidates& found) {
  found.set_rank(sample.rank);
  for (int64_t block = sample.first(); block < sample.end && pulse_.beat(0); block += sample.step)
    fold_block(block, found);
  for (int q = 0; q < group_.n; ++q)
    found.raise_threshold(q, optimism(strategy_, a_.documents.dim));
  found.set_rank(a_.k);
}

void Fold::fold_block(int64_t block, Candidates& found) {
  const uint32_t documents = mask(block);
  if (!documents) return;
  std::copy_n(found.counts(), group_.n, before_.data());
  if (strategy_ != Strategy::exact)
    scan(block, documents, found);
  else
    score_block(block, documents, found);
  for (int q = 0; q < group_.n; ++q) {
    if (found.count(q) == before_[static_cast<size_t>(q)]) continue;
    if (a_.exclude_offsets || a_.max_score)
      drop_filtered(q, before_[static_cast<size_t>(q)], found);
    if (found.full(q)) found.tighten(q, refiner_);
  }
}

void Fold::scan(int64_t block, uint32_t documents, Candidates& found) {
  const int64_t dim = padded_dim(a_.documents.dim);
  ScanArgs args;
  args.query_codes = group_.codes.data();
  args.query_bounds = group_.bounds.data();
  args.thresholds = found.thresholds();
  args.n_queries = group_.n;
  args.dim = dim;
  args.codes = a_.packed.codes + block * block_bytes(dim);
  args.bounds = a_.packed.bounds + block * block_bounds;
  args.mask = documents;
  args.first_row = block * block_rows;
  args.candidates = found.lists();
  args.counts = found.counts();
  args.capacity = found.capacity();
  args.pruned = a_.pruned_bound ? found.pruned_bounds() : nullptr;
  kernels_.scan(args);
}

void Fold::score_block(int64_t block, uint32_t documents, Candidates& found) {
  const int64_t first = block * block_rows;
  const int64_t n = std::min<int64_t>(block_rows, a_.documents.rows - first);
  float scores[block_rows];
  for (int q = 0; q < group_.n; ++q) {
    refiner_.score_rows(q, first, n, scores);
    for (int64_t i = 0; i < n; ++i) {
      if (!(documents >> i & 1)) continue;
      ++found.refined(q);
      if (scores[i] >= found.threshold(q)) found.append(q, {scores[i], first + i});
    }
  }
}

// Removes those of the newest candidates of q that the query excludes by id or by its maximum
// score. A candidate whose bounds include the maximum is scored at once: it must not raise the
// threshold.
void Fold::drop_filtered(int q, int32_t begin, Candidates& found) {
  const int64_t query = group_.queries[static_cast<size_t>(q)];
  const float max = a_.max_score ? a_.max_score[query] : std::numeric_limits<float>::infinity();
  Candidate* list = found.list(q);
  int32_t kept = begin;
  for (int32_t i = begin; i < found.count(q); ++i) {
    Candidate c = list[i];
    if (c.lower > max || excluded(query, refiner_.document_id(c.row))) continue;
    if (c.upper > max) found.refined(q) += refiner_.score(q, &c, 1);
    if (c.lower > max) continue;
    list[kept++] = c;
  }
  found.count(q) = kept;
}

uint32_t Fold::mask(int64_t block) const {
  const int64_t left = a_.documents.rows - block * block_rows;
  const uint32_t inside = left >= block_rows ? ~0u : (1u << left) - 1;
  return a_.allowed ? a_.allowed[block] & inside : inside;
}

bool Fold::excluded(int64_t query, int64_t id) const {
  if (!a_.exclude_offsets) return false;
  return std::binary_search(a_.exclude_ids + a_.exclude_offsets[query],
                            a_.exclude_ids + a_.exclude_offsets[query + 1], id);
}

}  // namespace tilefold::cpu
