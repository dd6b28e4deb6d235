// The op table. An implementation for another device is one file that fills some columns, and a
// line here.
#include "kernels.h"

namespace tilefold {

namespace cpu {
extern const Implementation implementation;
}

extern const Implementation* const implementations[] = {&cpu::implementation, nullptr};

}  // namespace tilefold
