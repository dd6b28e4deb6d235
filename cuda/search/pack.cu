// Quantises documents into the packed format, a block of threads for each 32 of them; and tests rows
// for NaN and infinities.
#include <algorithm>

#include "cuda/platform/launch.h"
#include "cuda/search/quantise.cuh"
#include "cuda/search/search.h"

namespace tilefold::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(pack_threads)
    pack_documents(const __grid_constant__ PackArgs a, float* scratch, const uint32_t* signs) {
  QuantiseShared& shared = shared_memory<QuantiseShared>();
  const int64_t dim = a.documents.dim, padded = padded_dim(dim);
  float* const rest = scratch + blockIdx.x * padded;
  const bool integers = a.documents.dtype == Dtype::i8 && !a.rotate && !a.direction;
  const QuantiseArgs args = {dim, padded, a.direction, a.rotate ? signs : nullptr, integers};
  for (int64_t block = blockIdx.x; block < block_count(a.documents.rows); block += gridDim.x) {
    uint8_t* const codes = a.codes + block * block_bytes(dim);
    float* const bounds = a.bounds + block * block_bounds;
    uint32_t finite = 0;
    double radius_sum = 0;
    for (int i = 0; i < block_rows; ++i) {
      const int64_t row = block * block_rows + i;
      uint8_t* const own = codes + 4 * i;
      const auto place = [&](int64_t j) { return j / 4 * 4 * block_rows + j % 4; };
      Quantised x = {};
      if (row < a.documents.rows)
        x = quantise(shared, args, row_of<T>(a.documents, row), rest, [&](int64_t j, int code) {
          own[place(j)] = static_cast<uint8_t>(code + 128);
        });
      if (!x.finite) {
        for (int64_t j = threadIdx.x; j < padded; j += blockDim.x) own[place(j)] = 128;
        x = {};
      }
      finite |= static_cast<uint32_t>(x.finite) << i;
      if (x.scale > 0) radius_sum += x.radius / x.rest_norm;
      if (threadIdx.x != 0) continue;
      constexpr double up = 1 + 0x1p-20;
      bounds[0 * block_rows + i] = x.scale;
      bounds[1 * block_rows + i] = static_cast<float>((x.rest_norm + x.radius) * up);
      bounds[2 * block_rows + i] = static_cast<float>(x.radius * up);
      bounds[3 * block_rows + i] = x.along;
    }
    if (threadIdx.x != 0) continue;
    a.finite[block] = finite;
    if (a.radius_sum) a.radius_sum[block] = radius_sum;
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
  if (a.documents.rows == 0) return;
  constexpr int64_t most_blocks = 4096;
  const Stream stream = {"pack", a.device.id, a.device.stream};
  const DeviceGuard guard(stream);
  const int64_t padded = padded_dim(a.documents.dim);
  const int64_t blocks = std::min(most_blocks, block_count(a.documents.rows));
  DeviceBuffer<float> scratch(stream, blocks * padded);
  DeviceBuffer<uint32_t> signs(stream, padded / 32 + 1);
  if (a.rotate)
    launch("write_rotation_signs", write_rotation_signs, {1, 1, 1}, stream, padded, signs.data());
  for_dtype(a.documents.dtype, [&](auto type) {
    launch("pack_documents", pack_documents<decltype(type)>,
           {blocks, 1, pack_threads, sizeof(QuantiseShared)}, stream, a, scratch.data(),
           signs.data());
  });
}

void finite_rows(const FiniteRowsArgs& a, int, Pulse&) {
  if (a.vectors.rows == 0) return;
  const Stream stream = {"finite_rows", a.device.id, a.device.stream};
  const DeviceGuard guard(stream);
  for_dtype(a.vectors.dtype, [&](auto type) {
    launch("test_rows", test_rows<decltype(type)>,
           {blocks_for(a.vectors.rows, row_threads / warp_size), 1, row_threads}, stream, a);
  });
}

}  // namespace tilefold::cuda
