// The table. CMake defines TILEFOLD_ROW_<NAME> for each row that it compiles.
#include "cpu/rows/table.h"

#include <cstdlib>

#include "check.h"

namespace tilefold {

extern const Kernels scalar_kernels;
#ifdef TILEFOLD_ROW_AVX2
extern const Kernels avx2_kernels;
#endif
#ifdef TILEFOLD_ROW_AVX512
extern const Kernels avx512_kernels;
#endif
#ifdef TILEFOLD_ROW_AVX512_BF16
extern const Kernels avx512_bf16_kernels;
#endif

extern const Kernels* const rows[] = {
#ifdef TILEFOLD_ROW_AVX512_BF16
    &avx512_bf16_kernels,
#endif
#ifdef TILEFOLD_ROW_AVX512
    &avx512_kernels,
#endif
#ifdef TILEFOLD_ROW_AVX2
    &avx2_kernels,
#endif
    &scalar_kernels,      nullptr,
};

const Kernels& row_named(const std::string& name) {
  std::string known;
  for (const Kernels* const* row = rows; *row; ++row) {
    if (name == (*row)->name) {
      check((*row)->supported(), "TILEFOLD_ISA: this machine cannot run the row '", name,
            "' (it needs ", (*row)->needs, ")");
      return **row;
    }
    known += std::string(known.empty() ? "" : ", ") + (*row)->name;
  }
  check(false, "TILEFOLD_ISA: expected one of ", known, "; got '", name, "'");
  return scalar_kernels;
}

const Kernels& active_row() {
  const char* forced = std::getenv("TILEFOLD_ISA");
  if (forced && *forced) return row_named(forced);
  const Kernels* const* row = rows;
  while (!(*row)->supported()) ++row;
  return **row;
}

}  // namespace tilefold
