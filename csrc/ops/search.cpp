#include "ops/ops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/arguments.h"
#include "cpu/host/candidates.h"
#include "check.h"
#include "cpu/rows/table.h"
#include "parallel.h"
#include "cpu/host/search.h"

namespace tilefold::ops {

void search(const SearchViews& v, int64_t k, bool rotated, int64_t first_id, int threads,
            Pulse& pulse) {
  SearchArgs a = {};
  a.queries = v.queries.matrix();
  a.documents = v.documents.matrix();
  a.k = k;
  a.first_id = first_id;
  const int64_t n = a.queries.rows, blocks = block_count(a.documents.rows);
  check(a.queries.dim == a.documents.dim, "search: queries have dim ", a.queries.dim,
        " but documents have dim ", a.documents.dim);
  check((a.queries.dtype == Dtype::i8) == (a.documents.dtype == Dtype::i8),
        "search: int8 is searched with int8 only; convert queries and documents to one dtype");
  check(k >= 1, "search: k must be at least 1, got ", k);
  check(k <= (int64_t{1} << 31) - 64, "search: k must be below 2^31, got ", k);
  a.scores = v.scores.write<float>(n * k);
  a.ids = v.ids.write<int64_t>(n * k);
  a.packed.codes = v.codes.read<uint8_t>(blocks * block_bytes(a.documents.dim));
  a.packed.bounds = v.bounds.read<float>(blocks * block_bounds);
  check(v.codes.given() == v.bounds.given(), "search: codes and bounds must be given together");
  a.packed.rotated = rotated;
  a.document_ids = v.document_ids.read<int64_t>(a.documents.rows);
  a.allowed = v.allowed.read<uint32_t>(blocks);
  a.exclude_offsets = v.exclude_offsets.read<int64_t>(n + 1);
  if (a.exclude_offsets) {
    a.exclude_ids = v.exclude_ids.read<int64_t>(v.exclude_ids.rows());
    check_offsets("search: exclude", a.exclude_offsets, n, v.exclude_ids.rows());
  }
  a.min_score = v.min_score.read<float>(n);
  a.max_score = v.max_score.read<float>(n);
  a.refined = v.refined.write_if_given<int64_t>(n);
  a.pruned_bound = v.pruned_bound.write_if_given<float>(n);
  tilefold::search(a, active_row(), threads_of("search", threads), pulse);
}

void pack(const PackViews& v, bool rotate, int threads, Pulse& pulse) {
  PackArgs a = {};
  a.documents = v.documents.matrix();
  a.rotate = rotate;
  const int64_t blocks = block_count(a.documents.rows);
  check(a.documents.dim <= max_packed_dim, "pack: documents must have dim <= ", max_packed_dim,
        ", got ", a.documents.dim);
  a.codes = v.codes.write<uint8_t>(blocks * block_bytes(a.documents.dim));
  a.bounds = v.bounds.write<float>(blocks * block_bounds);
  a.finite = v.finite.write<uint32_t>(blocks);
  a.radius_sum = v.radius_sum.write_if_given<double>(blocks);
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t together = 32;  // blocks per task: 1,024 documents
  const int64_t tasks = (blocks + together - 1) / together;
  parallel_for(
      tasks, threads_of("pack", threads),
      [&](int64_t t) {
        for (int64_t b = t * together; b < blocks && b < (t + 1) * together; ++b) {
          if (pulse.stopped()) return;
          kernels.pack_documents(a, b);
        }
        pulse.beat(1.0 / static_cast<double>(tasks));
      },
      [&] { pulse.ask(); });
}

void finite_rows(const View& vectors, const View& finite, int threads) {
  const Matrix m = vectors.matrix();
  uint8_t* out = finite.write<uint8_t>(m.rows);
  const SearchKernels& kernels = active_row().search;
  constexpr int64_t together = 1024;
  parallel_for((m.rows + together - 1) / together, threads_of("finite_rows", threads),
               [&](int64_t t) {
                 std::vector<float> x(static_cast<size_t>(padded_dim(m.dim)));
                 for (int64_t r = t * together; r < m.rows && r < (t + 1) * together; ++r) {
                   kernels.widen(m, r, x.data());
                   out[r] = kernels.finite(x.data(), m.dim);
                 }
               });
}

int64_t list_bytes(int64_t k) {
  check(k >= 1, "list_bytes: k must be at least 1, got ", k);
  return Candidates::bytes_for(k, std::numeric_limits<int64_t>::max());
}

void score(const View& queries, const View& documents, const View& rows, const View& scores,
           bool canonical, int threads) {
  const Matrix q = queries.matrix(), d = documents.matrix();
  check(q.dim == d.dim, "score: queries have dim ", q.dim, " but documents have dim ", d.dim);
  const int64_t size = rows.size(), m = q.rows > 0 ? size / q.rows : 0;
  const int64_t* wanted = rows.read<int64_t>(q.rows * m);
  float* const out = scores.write<float>(q.rows * m);
  for (int64_t i = 0; i < size; ++i)
    check(wanted[i] >= 0 && wanted[i] < d.rows, "score: rows must be 0 to ", d.rows - 1, ", got ",
          wanted[i]);
  const SearchKernels& kernels = active_row().search;
  threads = static_cast<double>(size) * d.dim < 1e6 ? 1 : threads_of("score", threads);
  parallel_for(q.rows, threads, [&](int64_t i) {
    std::vector<float> wide(static_cast<size_t>(q.dim));
    kernels.widen(q, i, wide.data());
    if (!canonical) return kernels.estimate({wide.data(), d, wanted + i * m, m, out + i * m});
    const std::vector<double> exact(wide.begin(), wide.end());
    kernels.score({exact.data(), d, wanted + i * m, 0, m, out + i * m});
  });
}

void tile(const View& codes, const View& queries, const View& products, int64_t rounds) {
  // queries arrive as [dim / 4][n][4], codes as [dim / 4][32][4]
  const SearchKernels& kernels = active_row().search;
  const int64_t dim = codes.rows() * 4;
  const uint8_t* block = codes.read<uint8_t>(dim * block_rows);
  const int64_t n = products.rows();
  check(n >= 1 && n <= kernels.query_tile, "tile: expected 1 to ", kernels.query_tile,
        " queries, got ", n);
  check(dim % 8 == 0, "tile: dim must be a multiple of 8, got ", dim);
  const int8_t* query_codes = queries.read<int8_t>(dim * n);
  int32_t* out = products.write<int32_t>(n * block_rows);
  std::vector<uint8_t> scratch(static_cast<size_t>(dim * block_rows + 64));
  uint8_t* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  std::copy_n(block, dim * block_rows, aligned);
  const uint8_t* ready = kernels.tile_codes(aligned, dim, aligned);
  for (int64_t r = 0; r < rounds; ++r)
    kernels.tile(ready, query_codes, static_cast<int>(n), dim, out);
}

double peak(const std::string& kind) {
  check(kind == "fp32" || kind == "int8" || kind == "bf16",
        "peak: kind must be fp32, int8 or bf16, got ", kind);
  const Kernels& row = active_row();
  const auto run = kind == "fp32" ? row.peak.fp32 : kind == "int8" ? row.peak.int8 : row.peak.bf16;
  check(run, "peak: the row '", row.name, "' multiplies bf16 as fp32");
  run(100000);
  const auto begin = std::chrono::steady_clock::now();
  const double operations = run(4000000);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return operations / time.count();
}

}  // namespace tilefold::ops
