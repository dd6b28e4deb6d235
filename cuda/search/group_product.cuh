// Integer products of a tile by groups of four warps (wgmma), on GPUs of compute capability 9.0. Both
// operands are in shared memory, where the portable product spends half its time reading.
//
// Threads load a step ahead into registers. A thread has one query's codes, which lie along K as the
// instruction reads them, and sixteen codes of four documents, which are transposed from words.
#pragma once
#include "cuda/platform/group_multiply.h"
#include "cuda/search/filter_tile.cuh"

namespace tilefold::cuda {

// A product reads its operands until all warps have waited for it. A stage is stored two steps after
// the product before, and a barrier after every thread has waited for that.
constexpr int group_stages = 3;

struct GroupShared {
  static constexpr int step_pieces = step_codes / piece_row_bytes;
  static constexpr int row_pieces = tile_queries / piece_rows;  // neighbours along rows
  static constexpr int operand_words = tile_queries * step_codes / 4;
  SharedArray<Piece, group_stages * operand_words / 4> queries, documents;
  TileShared tile;
};

#ifdef TILEFOLD_GROUP_PRODUCTS

class GroupProduct {
 public:
  using Shared = GroupShared;
  static constexpr int rows = 4, columns = 32;  // of a thread

  __device__ GroupProduct(const SearchArgs& a, const Queries& queries, GroupShared& shared,
                          int64_t query_tile, int64_t document_tile)
      : a_(a),
        queries_(queries),
        shared_(shared),
        first_query_(query_tile * tile_queries),
        first_block_(document_tile * tile_blocks),
        dim_words_(padded_dim(a.documents.dim) / 4),
        thread_(static_cast<int>(threadIdx.x)) {}

  __device__ void multiply() {
    const int64_t steps = queries_.row_codes / step_codes;
    load(0);
    for (int64_t s = 0; s < steps; ++s) {
      const int stage = static_cast<int>(s % group_stages);
      store(stage);
      fence_operands();
      __syncthreads();
      if (s + 1 < steps) load(s + 1);
      begin_products();
      TILEFOLD_UNROLL
      for (int half = 0; half < 2; ++half) {
        const uint64_t documents = operand_of(shared_.documents, stage, half, 0);
        TILEFOLD_UNROLL
        for (int m = 0; m < 2; ++m)
          multiply_group(sums_[m], operand_of(shared_.queries, stage, half, m), documents);
      }
      commit_products();
      wait_for_products<1>();
    }
    wait_for_products<0>();
  }

  __device__ int row(int i) const {
    return group_rows * (i / 2) + 16 * (thread_ / warp_size) + 8 * (i % 2) +
           thread_ % warp_size / 4;
  }
  __device__ int column(int j) const { return 8 * (j / 2) + 2 * (thread_ % 4) + j % 2; }
  __device__ int32_t at(int i, int j) const {
    return sums_[i / 2].sum[4 * (j / 2) + 2 * (i % 2) + j % 2];
  }

 private:
  static constexpr int step_pieces = GroupShared::step_pieces;
  using Operand = SharedArray<Piece, group_stages * GroupShared::operand_words / 4>;

  // A row's piece along K: pieces of neighbouring rows lie together.
  static __device__ int place(int stage, int row, int along) {
    return (stage * step_pieces + along) * tile_queries + row;
  }

  static __device__ uint64_t operand_of(Operand& matrix, int stage, int half, int m) {
    return operand(&matrix[place(stage, group_rows * m, 2 * half)],
                   GroupShared::row_pieces * piece_bytes, piece_bytes);
  }

  __device__ void load(int64_t step) {
    const auto* const codes = reinterpret_cast<const Piece*>(
        queries_.codes + (first_query_ + thread_) * queries_.row_codes + step * step_codes);
    TILEFOLD_UNROLL
    for (int p = 0; p < step_pieces; ++p) query_[p] = codes[p];
    const int64_t block = first_block_ + quad() / (block_rows / 4);
    const bool given = block < block_count(a_.documents.rows);
    TILEFOLD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int64_t word = step * (step_codes / 4) + 4 * along() + i;
      const auto* const from = reinterpret_cast<const Piece*>(a_.packed.codes) +
                               ((block * dim_words_ + word) * block_rows) / 4 +
                               quad() % (block_rows / 4);
      document_[i] = given && word < dim_words_ ? *from : Piece{};
    }
  }

  __device__ void store(int stage) {
    TILEFOLD_UNROLL
    for (int p = 0; p < step_pieces; ++p)
      store_operand(&shared_.queries[place(stage, thread_, p)], query_[p]);
    TILEFOLD_UNROLL
    for (int i = 0; i < 4; ++i) {
      const Piece row = {
          {document_[0].word[i], document_[1].word[i], document_[2].word[i], document_[3].word[i]}};
      store_operand(&shared_.documents[place(stage, 4 * quad() + i, along())], row);
    }
  }

  // The four documents of this thread, and which piece along K of theirs.
  __device__ int quad() const { return thread_ % (tile_documents / 4); }
  __device__ int along() const { return thread_ / (tile_documents / 4); }

  const SearchArgs& a_;
  const Queries& queries_;
  GroupShared& shared_;
  const int64_t first_query_, first_block_, dim_words_;
  const int thread_;
  Piece query_[step_pieces], document_[4];
  GroupSums sums_[2] = {};
};

#endif

}  // namespace tilefold::cuda
