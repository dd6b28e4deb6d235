// Quantises documents into the packed format, a block of threads for each 32 of them and a warp for
// one at a time; and tests rows for NaN and infinities.
#include <algorithm>

#include "check.h"
#include "cuda/platform/launch.h"
#include "cuda/search/quantise.cuh"
#include "cuda/search/search.h"

namespace tilefold::cuda {
namespace {

struct PackShared {
  SharedArray<bool, block_rows> finite;
  SharedArray<double, block_rows> radii;  // relative to the norms
};

template <class T>
__global__ void __launch_bounds__(pack_threads, 4)
    pack_documents(const __grid_constant__ PackArgs a, float* rests, const uint32_t* signs) {
  PackShared& shared = shared_memory<PackShared>();
  const int64_t dim = a.documents.dim, padded = padded_dim(dim), words = padded / 4;
  const int64_t warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  float* const rest = rests + (blockIdx.x * static_cast<int64_t>(pack_warps) + warp) * padded;
  const bool integers = a.documents.dtype == Dtype::i8 && !a.rotate && !a.direction;
  const QuantiseArgs args = {dim, padded, a.direction, a.rotate ? signs : nullptr, integers};
  for (int64_t block = blockIdx.x; block < block_count(a.documents.rows); block += gridDim.x) {
    uint32_t* const codes = reinterpret_cast<uint32_t*>(a.codes + block * block_bytes(dim));
    float* const bounds = a.bounds + block * block_bounds;
    for (int64_t i = warp; i < block_rows; i += pack_warps) {
      const int64_t row = block * block_rows + i;
      constexpr uint32_t zeros = 0x80808080u;  // codes are stored + 128
      Quantised x = {};
      if (row < a.documents.rows)
        x = quantise(args, row_of<T>(a.documents, row), rest,
                     [&](int64_t w, uint32_t word) { codes[w * block_rows + i] = word ^ zeros; });
      if (!x.finite) {
        for (int64_t w = lane; w < words; w += warp_size) codes[w * block_rows + i] = zeros;
        x = {};
      }
      if (lane != 0) continue;
      shared.finite[i] = x.finite;
      shared.radii[i] = x.scale > 0 ? x.radius / x.rest_norm : 0;
      constexpr double up = 1 + 0x1p-20;
      bounds[0 * block_rows + i] = x.scale;
      bounds[1 * block_rows + i] = static_cast<float>((x.rest_norm + x.radius) * up);
      bounds[2 * block_rows + i] = static_cast<float>(x.radius * up);
      bounds[3 * block_rows + i] = x.along;
    }
    __syncthreads();
    if (warp == 0) {
      const uint32_t finite = __ballot_sync(all_lanes, shared.finite[lane]);
      const double radii = reduce_lanes<warp_size, Sum>(shared.radii[lane]);
      if (lane == 0) a.finite[block] = finite;
      if (lane == 0 && a.radius_sum) a.radius_sum[block] = radii;
    }
    __syncthreads();
  }
}

constexpr int row_threads = 256;

// A warp takes a row.
template <class T>
__global__ void __launch_bounds__(row_threads) test_rows(const __grid_constant__ FiniteRowsArgs a) {
  const int64_t row =
      blockIdx.x * static_cast<int64_t>(row_threads / warp_size) + threadIdx.x / warp_size;
  bool finite = true;
  if (row < a.vectors.rows)
    for (int64_t j = threadIdx.x % warp_size; j < a.vectors.dim; j += warp_size)
      finite = finite && fabsf(widened(row_of<T>(a.vectors, row)[j])) < INFINITY;
  const bool fault = __any_sync(all_lanes, !finite);
  if (row < a.vectors.rows && threadIdx.x % warp_size == 0) a.finite[row] = !fault;
}

}  // namespace

void pack(const PackArgs& a, int, Pulse&) {
  check(reinterpret_cast<uintptr_t>(a.codes) % sizeof(uint32_t) == 0,
        "pack: codes must be aligned to ", sizeof(uint32_t), " bytes on cuda, got address ",
        static_cast<const void*>(a.codes), "; pass another array");
  if (a.documents.rows == 0) return;
  constexpr int64_t most_blocks = 4096, most_bytes = int64_t{64} << 20;
  const Stream stream("pack", a.device);
  const DeviceGuard guard(stream);
  const int64_t padded = padded_dim(a.documents.dim);
  const int64_t bytes = pack_warps * padded * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::clamp<int64_t>(most_bytes / bytes, 1, most_blocks);
  const int64_t blocks = std::min(most, block_count(a.documents.rows));
  DeviceBuffer<float> rests(stream, blocks * pack_warps * padded);
  DeviceBuffer<uint32_t> signs(stream, padded / 32 + 1);
  if (a.rotate)
    launch("write_rotation_signs", write_rotation_signs, {1, 1, 1}, stream, padded, signs.data());
  for_dtype(a.documents.dtype, [&](auto type) {
    launch("pack_documents", pack_documents<decltype(type)>,
           {blocks, 1, pack_threads, sizeof(PackShared)}, stream, a, rests.data(), signs.data());
  });
}

void finite_rows(const FiniteRowsArgs& a, int, Pulse&) {
  if (a.vectors.rows == 0) return;
  const Stream stream("finite_rows", a.device);
  const DeviceGuard guard(stream);
  for_dtype(a.vectors.dtype, [&](auto type) {
    launch("test_rows", test_rows<decltype(type)>,
           {blocks_for(a.vectors.rows, row_threads / warp_size), 1, row_threads}, stream, a);
  });
}

}  // namespace tilefold::cuda
