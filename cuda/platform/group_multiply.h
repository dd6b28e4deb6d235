// Products of four warps on Hopper's tensor cores (wgmma): asynchronous, with both operands in shared
// memory, as the PTX ISA describes them ("Asynchronous Warpgroup Level Matrix Instructions").
//
//     store_operand(...)                    // 16 bytes of a matrix, to shared memory
//     fence_operands(); __syncthreads();    // products see what was stored
//     begin_products();
//     multiply_group(sums, operand(a, ...), operand(b, ...));
//     commit_products();
//     wait_for_products<0>();               // sums are there, and operands may be overwritten
#pragma once
#include <cstdint>

#include "cuda/platform/cuda.h"

// Where there are such products; elsewhere there are the types and no functions.
#if defined(TILEFOLD_EMULATE_CUDA) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TILEFOLD_GROUP_PRODUCTS
#endif

namespace tilefold::cuda {

// Rows of both operands are along K, 32 bytes for each product, in pieces of 8 rows by 16 bytes that
// lie together. A has 64 rows, B 128.
constexpr int group_threads = 128, group_rows = 64, group_columns = 128, group_depth = 32;
constexpr int piece_rows = 8, piece_row_bytes = 16, piece_bytes = piece_rows * piece_row_bytes;

// Of the thread with lane l of warp w: sum 4 g + 2 h + i is that of row 16 w + 8 h + l / 4 of A and
// row 8 g + 2 (l % 4) + i of B.
struct GroupSums {
  int32_t sum[group_rows * group_columns / group_threads];
};

// Sixteen bytes.
struct alignas(16) Piece {
  uint32_t word[4];
};

// The descriptor of a matrix without swizzling: its address in shared memory, and the distances of
// pieces that are neighbours along K and along rows; all multiples of 16 bytes below 2^18.
__device__ inline uint64_t matrix_descriptor(uint32_t address, uint32_t along_depth,
                                             uint32_t along_rows) {
  constexpr uint32_t bits = (1u << 18) - 1;
  return static_cast<uint64_t>((address & bits) >> 4) |
         static_cast<uint64_t>((along_depth & bits) >> 4) << 16 |
         static_cast<uint64_t>((along_rows & bits) >> 4) << 32;
}

#ifdef TILEFOLD_EMULATE_CUDA

inline uint64_t operand(const void* shared, uint32_t along_depth, uint32_t along_rows) {
  const auto* const begin = static_cast<const unsigned char*>(shared);
  const std::ptrdiff_t address = begin - emulation::shared_memory();
  if (address % 16) emulation::fail("an operand is not aligned to 16 bytes");
  return matrix_descriptor(static_cast<uint32_t>(address), along_depth, along_rows);
}

inline void store_operand(void* shared, const Piece& piece) {
  emulation::unfenced_stores().add([=] { std::memcpy(shared, &piece, sizeof piece); });
}
inline void fence_operands() {
  emulation::unfenced_stores().commit();
  emulation::unfenced_stores().wait(0);
}

namespace emulation {

// Byte k of a row of a matrix.
inline const unsigned char* byte_of(uint64_t descriptor, int row, int k) {
  const auto field = [&](int shift) { return static_cast<int>(descriptor >> shift & 0x3fff) * 16; };
  const int at = field(0) + k / piece_row_bytes * field(16) + row / piece_rows * field(32) +
                 row % piece_rows * piece_row_bytes + k % piece_row_bytes;
  if (at >= static_cast<int>(shared_bytes())) fail("an operand exceeds shared memory");
  return shared_memory() + at;
}

// What one thread has of the sums.
inline void multiply_group(GroupSums& sums, uint64_t a, uint64_t b, int warp, int lane) {
  for (int i = 0; i < group_rows * group_columns / group_threads; ++i) {
    const int row = 16 * warp + 8 * (i / 2 % 2) + lane / 4;
    const int column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    int sum = 0;
    for (int k = 0; k < group_depth; k += piece_row_bytes) {
      const unsigned char *x = byte_of(a, row, k), *y = byte_of(b, column, k);
      for (int j = 0; j < piece_row_bytes; ++j) sum += static_cast<int8_t>(x[j]) * y[j];
    }
    sums.sum[i] += sum;
  }
}

}  // namespace emulation

inline void begin_products() {}
// sums += A B^T, of signed and unsigned bytes.
inline void multiply_group(GroupSums& sums, uint64_t a, uint64_t b) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = emulation::position->lane;
  emulation::background_products().add(
      [=, &sums] { emulation::multiply_group(sums, a, b, warp, lane); });
}
inline void commit_products() { emulation::background_products().commit(); }
// Until at most `groups_left` committed groups are under way. Other warps may be behind.
template <int groups_left>
void wait_for_products() {
  emulation::background_products().wait(groups_left);
}

#elif defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline uint64_t operand(const void* shared, uint32_t along_depth, uint32_t along_rows) {
  return matrix_descriptor(static_cast<uint32_t>(__cvta_generic_to_shared(shared)), along_depth,
                           along_rows);
}
__device__ inline void store_operand(void* shared, const Piece& piece) {
  *static_cast<Piece*>(shared) = piece;
}
__device__ inline void fence_operands() { asm volatile("fence.proxy.async;" ::: "memory"); }
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void multiply_group(GroupSums& sums, uint64_t a, uint64_t b) {
  int32_t (&s)[64] = sums.sum;
  asm volatile(
      "{ .reg .pred accumulates; setp.eq.b32 accumulates, 0, 0; "
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.u8 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, "
      "%10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, %64, %65, "
      "accumulates; }"
      : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3]), "+r"(s[4]), "+r"(s[5]), "+r"(s[6]),
        "+r"(s[7]), "+r"(s[8]), "+r"(s[9]), "+r"(s[10]), "+r"(s[11]), "+r"(s[12]), "+r"(s[13]),
        "+r"(s[14]), "+r"(s[15]), "+r"(s[16]), "+r"(s[17]), "+r"(s[18]), "+r"(s[19]), "+r"(s[20]),
        "+r"(s[21]), "+r"(s[22]), "+r"(s[23]), "+r"(s[24]), "+r"(s[25]), "+r"(s[26]), "+r"(s[27]),
        "+r"(s[28]), "+r"(s[29]), "+r"(s[30]), "+r"(s[31]), "+r"(s[32]), "+r"(s[33]), "+r"(s[34]),
        "+r"(s[35]), "+r"(s[36]), "+r"(s[37]), "+r"(s[38]), "+r"(s[39]), "+r"(s[40]), "+r"(s[41]),
        "+r"(s[42]), "+r"(s[43]), "+r"(s[44]), "+r"(s[45]), "+r"(s[46]), "+r"(s[47]), "+r"(s[48]),
        "+r"(s[49]), "+r"(s[50]), "+r"(s[51]), "+r"(s[52]), "+r"(s[53]), "+r"(s[54]), "+r"(s[55]),
        "+r"(s[56]), "+r"(s[57]), "+r"(s[58]), "+r"(s[59]), "+r"(s[60]), "+r"(s[61]), "+r"(s[62]),
        "+r"(s[63])
      : "l"(a), "l"(b));
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int groups_left>
__device__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_left) : "memory");
}

#endif

}  // namespace tilefold::cuda
