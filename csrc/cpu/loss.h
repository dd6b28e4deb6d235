// The column of the table that losses use.
#pragma once
#include "../kernels.h"
#include "softmax.h"

namespace tilefold::ISA {
namespace {

template <class T>
constexpr LossKernels<T> loss_kernels = {
    tile_columns<T>, pack_rows<T>,      pack_columns<T>, multiply<T>,
    fold_queries<T>, fold_documents<T>, weigh<T>,
};

}  // namespace
}  // namespace tilefold::ISA
