// Binds the losses over all pairs.
#include "ops/losses.h"

#include <pybind11/stl.h>

#include "bind/bind.h"
#include "bind/call.h"
#include "check.h"

namespace tilefold::bind {
namespace {

// A view as Python passes it: (queries, documents, grad_queries, grad_documents, scale, name).
constexpr size_t view_parts = 6;
constexpr ArrayArgument<ops::ScoreViewRequest> view_arrays[] = {
    {&ops::ScoreViewRequest::queries, "queries"},
    {&ops::ScoreViewRequest::documents, "documents"},
    {&ops::ScoreViewRequest::grad_queries, "grad_queries"},
    {&ops::ScoreViewRequest::grad_documents, "grad_documents"},
};

// The name of the loss in messages. It is the first argument, so that all messages have it.
struct OpArgument {
  using Value = std::string;

  py::arg declare() const { return py::arg("op"); }
  void locate(const Value& op, SharedDevice& device) const { device.set_op(op.c_str()); }
  void fill(ops::DivergenceRequest& r, const Value& op, const SharedDevice&) const { r.op = op; }
};

struct ViewsArgument {
  using Value = std::vector<py::tuple>;

  py::arg declare() const { return py::arg("views"); }
  void locate(const Value& views, SharedDevice& device) const {
    for (const py::tuple& view : views) {
      check(view.size() == view_parts, device.op(), ": a view must have ", view_parts,
            " parts, got ", view.size());
      size_t part = 0;
      for (const auto& array : view_arrays) array.locate(view[part++], device);
    }
  }
  template <class T>
  static T cast(py::handle part, const SharedDevice& device, const char* expected) {
    py::detail::make_caster<T> caster;
    check_type(caster.load(part, true), device.op(), ": ", expected);
    return py::detail::cast_op<T>(caster);
  }
  void fill(ops::DivergenceRequest& r, const Value& views, const SharedDevice& device) const {
    for (const py::tuple& view : views) {
      ops::ScoreViewRequest& request = r.views.emplace_back();
      size_t part = 0;
      for (const auto& array : view_arrays) array.fill(request, view[part++], device);
      request.scale = cast<double>(view[part++], device, "the scale of a view must be a number");
      request.name = cast<std::string>(view[part], device, "the name of a view must be a string");
    }
  }
};

void define_contrastive(py::module_& m) {
  using Request = ops::ContrastiveRequest;
  define<Request>(
      m, "contrastive",
      "Contrastive losses of queries [n] (and documents [m]), and the gradients of their weighted "
      "sum.",
      &ops::contrastive,
      positional(array(FIELD(queries)), array(FIELD(documents)), array(FIELD(positive_offsets)),
                 array(FIELD(positives)), array(FIELD(query_losses))),
      keywords(value(FIELD(scale)), value(FIELD(each), true), optional_array(FIELD(soft_targets)),
               optional_array(FIELD(exclude_offsets)), optional_array(FIELD(excluded)),
               optional_array(FIELD(query_weights)), optional_array(FIELD(document_weights)),
               optional_array(FIELD(document_losses)), optional_array(FIELD(grad_queries)),
               optional_array(FIELD(grad_documents)), optional_array(FIELD(gate_queries)),
               optional_array(FIELD(gate_documents)), optional_array(FIELD(groups)),
               optional_array(FIELD(group_offsets)), optional_array(FIELD(group_ids)),
               optional_array(FIELD(document_ids)), value(FIELD(num_threads), 0)));
}

void define_divergence(py::module_& m) {
  using Request = ops::DivergenceRequest;
  define<Request>(
      m, "divergence",
      "Divergences between softmax distributions of several views and a target. A view is "
      "(queries, "
      "documents, grad_queries, grad_documents, scale, name); its gradients may be None.",
      &ops::divergence,
      positional(OpArgument(), ViewsArgument(), array(FIELD(divergences)), array(FIELD(masses)),
                 array(FIELD(variances))),
      keywords(value(FIELD(reference), -1), value(FIELD(mixture_first), true),
               optional_array(FIELD(exclude_offsets)), optional_array(FIELD(excluded)),
               optional_array(FIELD(listed_offsets)), optional_array(FIELD(listed)),
               optional_array(FIELD(weights)), value(FIELD(num_threads), 0)));
}

}  // namespace

void define_losses(py::module_& m) {
  define_contrastive(m);
  define_divergence(m);
}

}  // namespace tilefold::bind
