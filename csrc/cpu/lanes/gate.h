// Gates: scores are multiplied by the sigmoids of other scores, which are constants in gradients.
#pragma once
#include "cpu/lanes/product.h"

namespace tilefold::cpu::ISA {
namespace {

// gates = sigmoid(gates); scores *= gates.
template <class T>
void gate_scores(const GateArgs<T>& g) {
  using L = Number<T>;
  for (int64_t i = 0; i < g.n_documents * tile_columns<T>; i += L::width) {
    const typename L::Lanes gate = sigmoid(load(g.gates + i));
    store(g.gates + i, gate);
    store(g.scores + i, mul(load(g.scores + i), gate));
  }
}

// Gradients of scores *= gates.
template <class T>
void gate_gradients(const GateArgs<T>& g) {
  using L = Number<T>;
  for (int64_t i = 0; i < g.n_documents * tile_columns<T>; i += L::width)
    store(g.scores + i, mul(load(g.scores + i), load(g.gates + i)));
}

}  // namespace
}  // namespace tilefold::cpu::ISA
