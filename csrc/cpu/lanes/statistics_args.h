// The unit in which threads divide the columns of activations.
#pragma once

namespace tilefold::cpu {

// Columns folded together: one cache line of fp32, so that no two threads share a line.
constexpr int strip_columns = 16;

}  // namespace tilefold::cpu
