// Integer products of a tile by warps (mma.sync), on every GPU.
//
// Documents are read as they are packed: the four codes of a document that lie together are a word
// of a fragment. A warp has 64 queries and 64 documents, so that each byte from shared memory is used
// 64 times.
#pragma once
#include "cuda/platform/async_copy.h"
#include "cuda/platform/matrix_multiply.h"
#include "cuda/search/filter_tile.cuh"

namespace tilefold::cuda {

constexpr int filter_stages = 3;  // steps in shared memory

struct WarpShared {
  static constexpr int step_words = step_codes / 4;
  // Padding puts the words that a warp reads together in different banks.
  static constexpr int query_stride = step_words + 4, document_stride = block_rows + 8;
  SharedArray<uint32_t, filter_stages * tile_queries * query_stride> queries;
  SharedArray<uint32_t, filter_stages * tile_blocks * step_words * document_stride> documents;
  TileShared tile;
};

class WarpProduct {
 public:
  using Shared = WarpShared;
  static constexpr int rows = 8, columns = 16;  // of a thread

  __device__ WarpProduct(const SearchArgs& a, const Queries& queries, WarpShared& shared,
                         int64_t query_tile, int64_t document_tile)
      : a_(a),
        queries_(queries),
        shared_(shared),
        first_query_(query_tile * tile_queries),
        first_block_(document_tile * tile_blocks),
        dim_words_(padded_dim(a.documents.dim) / 4),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % warp_size),
        warp_(thread_ / warp_size) {}

  __device__ void multiply() {
    const int64_t steps = queries_.row_codes / step_codes;
    for (int64_t s = 0; s < filter_stages - 1; ++s) load(s, steps);
    for (int64_t s = 0; s < steps; ++s) {
      wait_for_copies<filter_stages - 2>();
      __syncthreads();  // the copies of all threads are there, and the oldest step has been used
      load(s + filter_stages - 1, steps);
      TILEFOLD_UNROLL
      for (int half = 0; half < 2; ++half) multiply_half(static_cast<int>(s % filter_stages), half);
    }
  }

  __device__ int row(int i) const { return 64 * (warp_ / 2) + 8 * i + lane_ / 4; }
  __device__ int column(int j) const {
    return 64 * (warp_ % 2) + 8 * (j / 2) + 2 * (lane_ % 4) + j % 2;
  }
  __device__ int32_t at(int i, int j) const { return c_[i / 2][j / 2].sum[2 * (i % 2) + j % 2]; }

 private:
  static constexpr int step_words = WarpShared::step_words;

  // Begins to copy a step of the codes; a step beyond the last is an empty group.
  __device__ void load(int64_t step, int64_t steps) {
    if (step < steps) {
      const int stage = static_cast<int>(step % filter_stages);
      load_queries(step, stage);
      load_documents(step, stage);
    }
    commit_copies();
  }

  __device__ void load_queries(int64_t step, int stage) {
    constexpr int pieces = step_codes / async_copy_bytes;
    for (int i = thread_; i < tile_queries * pieces; i += filter_threads) {
      const int row = i / pieces, piece = i % pieces;
      const int8_t* const from = queries_.codes + (first_query_ + row) * queries_.row_codes +
                                 step * step_codes + piece * async_copy_bytes;
      const int word = (stage * tile_queries + row) * WarpShared::query_stride + 4 * piece;
      copy_async(&shared_.queries[word], from, true);
    }
  }

  __device__ void load_documents(int64_t step, int stage) {
    constexpr int pieces = block_rows * 4 / async_copy_bytes;
    const int64_t blocks = block_count(a_.documents.rows);
    for (int i = thread_; i < tile_blocks * step_words * pieces; i += filter_threads) {
      const int piece = i % pieces, word_row = i / pieces % step_words,
                block = i / pieces / step_words;
      const int64_t word = step * step_words + word_row;
      const bool given = first_block_ + block < blocks && word < dim_words_;
      const uint8_t* const from =
          a_.packed.codes +
          (((first_block_ + block) * dim_words_ + word) * block_rows + 4 * piece) * 4;
      const int to =
          ((stage * tile_blocks + block) * step_words + word_row) * WarpShared::document_stride +
          4 * piece;
      copy_async(&shared_.documents[to], from, given);
    }
  }

  // 32 codes: 64 queries and 64 documents of this warp.
  __device__ void multiply_half(int stage, int half) {
    const int g = lane_ / 4, t = lane_ % 4, word = 8 * half + t;
    FragmentB b[8];
    TILEFOLD_UNROLL
    for (int n = 0; n < 8; ++n) {
      const int block = 2 * (warp_ % 2) + n / 4;
      const int at =
          ((stage * tile_blocks + block) * step_words + word) * WarpShared::document_stride +
          8 * (n % 4) + g;
      b[n].word[0] = shared_.documents[at];
      b[n].word[1] = shared_.documents[at + 4 * WarpShared::document_stride];
    }
    TILEFOLD_UNROLL
    for (int m = 0; m < 4; ++m) {
      const int row = 64 * (warp_ / 2) + 16 * m + g;
      const int at = (stage * tile_queries + row) * WarpShared::query_stride + word;
      FragmentA fragment;
      fragment.word[0] = shared_.queries[at];
      fragment.word[1] = shared_.queries[at + 8 * WarpShared::query_stride];
      fragment.word[2] = shared_.queries[at + 4];
      fragment.word[3] = shared_.queries[at + 8 * WarpShared::query_stride + 4];
      TILEFOLD_UNROLL
      for (int n = 0; n < 8; ++n) multiply_s8_u8(c_[m][n], fragment, b[n]);
    }
  }

  const SearchArgs& a_;
  const Queries& queries_;
  WarpShared& shared_;
  const int64_t first_query_, first_block_, dim_words_;
  const int thread_, lane_, warp_;
  FragmentC c_[4][8] = {};
};

}  // namespace tilefold::cuda
