// The ISA table. CMake defines TILEFOLD_ROW_<NAME> for each row that it compiles.
#include "cpu/rows/table.h"

#include <cstdlib>

#include "check.h"

namespace tilefold::cpu {

extern const Row scalar_row;
#ifdef TILEFOLD_ROW_AVX2
extern const Row avx2_row;
#endif
#ifdef TILEFOLD_ROW_AVX512
extern const Row avx512_row;
#endif
#ifdef TILEFOLD_ROW_AVX512_BF16
extern const Row avx512_bf16_row;
#endif
#ifdef TILEFOLD_ROW_NEON
extern const Row neon_row;
#endif
#ifdef TILEFOLD_ROW_NEON_DOT
extern const Row neon_dot_row;
#endif

extern const Row* const rows[] = {
#ifdef TILEFOLD_ROW_AVX512_BF16
    &avx512_bf16_row,
#endif
#ifdef TILEFOLD_ROW_AVX512
    &avx512_row,
#endif
#ifdef TILEFOLD_ROW_AVX2
    &avx2_row,
#endif
#ifdef TILEFOLD_ROW_NEON_DOT
    &neon_dot_row,
#endif
#ifdef TILEFOLD_ROW_NEON
    &neon_row,
#endif
    &scalar_row,      nullptr,
};

namespace {

const Row& row_named(const std::string& name) {
  std::string known;
  for (const Row* const* row = rows; *row; ++row) {
    if (name == (*row)->name) {
      check((*row)->supported(), "TILEFOLD_ISA: this machine cannot run the row '", name,
            "' (it needs ", (*row)->needs, ")");
      return **row;
    }
    known += std::string(known.empty() ? "" : ", ") + (*row)->name;
  }
  check(false, "TILEFOLD_ISA: expected one of ", known, "; got '", name, "'");
  return scalar_row;
}

}  // namespace

const Row& active_row() {
  const char* forced = std::getenv("TILEFOLD_ISA");
  if (forced && *forced) return row_named(forced);
  const Row* const* row = rows;
  while (!(*row)->supported()) ++row;
  return **row;
}

}  // namespace tilefold::cpu
