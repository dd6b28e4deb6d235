#include "cpu/rows/supports.h"

#if defined(__x86_64__) || defined(_M_X64)
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#elif defined(_WIN32)
#include <windows.h>
#endif

namespace tilefold::cpu {

bool supports_scalar() { return true; }

#if defined(__x86_64__) || defined(_M_X64)
namespace {

// __builtin_cpu_supports does not know all of these features in every Clang, and on Windows needs a
// library that Clang does not link.
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
#ifdef _MSC_VER
  int values[4];
  __cpuidex(values, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<unsigned>(values[0]), static_cast<unsigned>(values[1]),
       static_cast<unsigned>(values[2]), static_cast<unsigned>(values[3])};
#else
  __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
#endif
  return r;
}

// The registers whose contents the operating system saves (XCR0): bits 1 and 2 are those of AVX, 5
// to 7 the further ones of AVX-512.
unsigned saved_registers() {
  const bool readable = cpuid(1, 0).c >> 27 & 1;  // OSXSAVE
  if (!readable) return 0;
#ifdef _MSC_VER
  return static_cast<unsigned>(_xgetbv(0));
#else
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
#endif
}

constexpr unsigned avx_registers = 0x06;
#ifdef __APPLE__
constexpr unsigned avx512_registers = avx_registers;  // macOS adds the others at their first use
#else
constexpr unsigned avx512_registers = 0xe6;
#endif

bool saves(unsigned wanted) { return (saved_registers() & wanted) == wanted; }
bool has(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }
Registers extended(unsigned subleaf) {
  return cpuid(0, 0).a < 7 || subleaf > cpuid(7, 0).a ? Registers{} : cpuid(7, subleaf);
}

bool has_avx2() {
  constexpr unsigned fma = 1u << 12, avx = 1u << 28, f16c = 1u << 29, avx2 = 1u << 5;
  return saves(avx_registers) && has(cpuid(1, 0).c, fma | avx | f16c) && has(extended(0).b, avx2);
}
bool has_avx512() {
  constexpr unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, vnni = 1u << 11;
  return saves(avx512_registers) && has(extended(0).b, f | dq | bw | vl) &&
         has(extended(0).c, vnni);
}
bool has_avx512_bf16() { return has(extended(1).a, 1u << 5); }

#ifdef TILEFOLD_EMULATE_AVX512
constexpr bool emulated = true;
#else
constexpr bool emulated = false;
#endif

}  // namespace

// Found once, since every op asks, and in a virtual machine cpuid takes microseconds.
bool supports_avx2() {
  static const bool found = has_avx2();
  return found;
}
bool supports_avx512() {
  static const bool found = emulated || (has_avx2() && has_avx512());
  return found;
}
bool supports_avx512_bf16() {
  static const bool found = emulated || (supports_avx512() && has_avx512_bf16());
  return found;
}
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
bool supports_neon() { return true; }

bool supports_neon_dot() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int present = 0;
  std::size_t size = sizeof present;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &present, &size, nullptr, 0) == 0 && present;
#elif defined(_WIN32)
  return IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE) != 0;
#else
  return false;
#endif
}
#endif

}  // namespace tilefold::cpu
