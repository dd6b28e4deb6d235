// How an op becomes a function of Python. The arguments of an op are the fields of its request, and
// FIELD makes one token both the field and the keyword, so an argument cannot end up in another's
// field:
//     using Request = ops::PackRequest;
//     define<Request>(m, "pack", "Quantises documents.", &ops::pack,
//                     positional(array(FIELD(documents)), array(FIELD(codes))),
//                     keywords(value(FIELD(rotate), false)));
#pragma once
#include <pybind11/pybind11.h>

#include <exception>
#include <tuple>

#include "bind/gil.h"
#include "check.h"
#include "ops/implemented_devices.h"
#include "pulse.h"
#include "workspace.h"
#include "view.h"

#define FIELD(name) &Request::name, #name

namespace tilefold::bind {

// Memory from a function of Python: given a number of bytes, it returns an address, and keeps the
// memory until the call of the op has returned.
class CallerWorkspace : public Workspace {
 public:
  // `allocate` may be None.
  explicit CallerWorkspace(const py::object& allocate) : allocate_(allocate) {}
  Workspace* get() { return allocate_.is_none() ? nullptr : this; }

  // For the time without the GIL.
  void set_gil(ReleasedGil& gil) { gil_ = &gil; }
  void* take(std::size_t bytes) override {
    uintptr_t address = 0;
    gil_->take();
    try {
      outlive_interpreter([&] { address = allocate_(bytes).template cast<uintptr_t>(); });
    } catch (...) {
      raised_ = std::current_exception();
    }
    gil_->release();
    // On its way, this error meets no code that needs the GIL; then raised() takes its place.
    check<std::runtime_error>(!raised_, "the caller gave no memory");
    check(address != 0 && address % alignment == 0, "workspace must return addresses of memory, ",
          "aligned to ", alignment, " bytes, got ", address);
    return reinterpret_cast<void*>(address);
  }
  const std::exception_ptr& raised() const { return raised_; }

 private:
  static constexpr uintptr_t alignment = 256;
  const py::object& allocate_;
  ReleasedGil* gil_ = nullptr;
  std::exception_ptr raised_;
};

// Runs an op without the GIL; Ctrl-C and `progress` reach it a few times a second.
template <class Run>
void run_without_gil(const py::object& progress, CallerWorkspace& workspace, const Run& run) try {
  std::exception_ptr raised;
  without_gil([&](ReleasedGil& gil) {
    workspace.set_gil(gil);
    Pulse pulse([&](double done) {
      gil.take();
      try {
        outlive_interpreter([&] {
          if (PyErr_CheckSignals() != 0) throw py::error_already_set();
          if (!progress.is_none()) progress(done);
        });
      } catch (...) {
        raised = std::current_exception();
      }
      gil.release();
      return raised != nullptr;
    });
    run(pulse);
  });
  if (raised) std::rethrow_exception(raised);
} catch (...) {
  if (workspace.raised()) std::rethrow_exception(workspace.raised());
  throw;
}

// ---- kinds of arguments ------------------------------------------------------------------------
// Each has the type of its value in C++ and says how Python sees it (declare), which device it is
// on (locate) and how it enters the request (fill).

template <class Request>
struct ArrayArgument {
  using Value = py::object;
  View Request::* field;
  const char* name;

  py::arg declare() const { return py::arg(name); }
  void locate(const Value& array, SharedDevice& device) const { device.add(array, name); }
  void fill(Request& r, const Value& array, const SharedDevice& device) const {
    r.*field = View(array, name, device);
  }
};

template <class Request>
struct OptionalArrayArgument : ArrayArgument<Request> {
  py::arg_v declare() const { return py::arg(this->name) = py::none(); }
};

template <class Request, class T>
struct ValueArgument {
  using Value = T;
  T Request::* field;
  const char* name;

  py::arg declare() const { return py::arg(name); }
  void locate(const T&, SharedDevice&) const {}
  void fill(Request& r, const T& value, const SharedDevice&) const { r.*field = value; }
};

template <class Request, class T>
struct DefaultArgument : ValueArgument<Request, T> {
  T otherwise;
  py::arg_v declare() const { return py::arg(this->name) = otherwise; }
};

// The caller's function of the share of work done, or None. It is no part of the request.
struct ProgressArgument {
  using Value = py::object;
  py::arg_v declare() const { return py::arg("progress") = py::none(); }
  void locate(const Value&, SharedDevice&) const {}
  template <class Request>
  void fill(Request&, const Value&, const SharedDevice&) const {}
};

// The stream on which CUDA does the work; every op has it.
struct StreamArgument {
  using Value = int64_t;
  py::arg_v declare() const { return py::arg("stream") = int64_t{0}; }
  void locate(int64_t stream, SharedDevice& device) const { device.set_stream(stream); }
  template <class Request>
  void fill(Request&, int64_t, const SharedDevice&) const {}
};

// The function of the op's memory on CUDA, or None; every op has it.
struct WorkspaceArgument {
  using Value = py::object;
  py::arg_v declare() const { return py::arg("workspace") = py::none(); }
  void locate(const Value&, SharedDevice&) const {}
  template <class Request>
  void fill(Request&, const Value&, const SharedDevice&) const {}
};

template <class Request>
ArrayArgument<Request> array(View Request::* field, const char* name) {
  return {field, name};
}
template <class Request>
OptionalArrayArgument<Request> optional_array(View Request::* field, const char* name) {
  return {{field, name}};
}
template <class Request, class T>
ValueArgument<Request, T> value(T Request::* field, const char* name) {
  return {field, name};
}
template <class Request, class T>
DefaultArgument<Request, T> value(T Request::* field, const char* name, T otherwise) {
  return {{field, name}, otherwise};
}

// ---- the function ------------------------------------------------------------------------------

template <class... Arguments>
std::tuple<Arguments...> positional(Arguments... arguments) {
  return {arguments...};
}
template <class... Arguments>
std::tuple<Arguments...> keywords(Arguments... arguments) {
  return {arguments...};
}

// Finds the value of an argument of a kind, of which there is at most one.
template <class Kind>
struct Finder {
  py::object found = py::none();
  void see(const Kind&, const py::object& value) { found = value; }
  template <class Argument, class Value>
  void see(const Argument&, const Value&) {}
};

template <class Request, class... P, class... K>
void define_all(py::module_& m, const char* name, const char* doc,
                void (*op)(const Request&, Pulse&), const std::tuple<P...>& positional,
                const std::tuple<K...>& keywords) {
  const auto function = [=, all = std::tuple_cat(positional, keywords)](
                            typename P::Value... positional_values,
                            typename K::Value... keyword_values) {
    std::apply(
        [&](const P&... p, const K&... k) {
          SharedDevice device(name);
          (p.locate(positional_values, device), ...);
          (k.locate(keyword_values, device), ...);
          ops::check_implemented(device);
          Finder<WorkspaceArgument> allocate;
          (allocate.see(k, keyword_values), ...);
          CallerWorkspace workspace(allocate.found);
          device.set_workspace(workspace.get());
          Request request = {};
          (p.fill(request, positional_values, device), ...);
          (k.fill(request, keyword_values, device), ...);
          Finder<ProgressArgument> progress;
          (progress.see(k, keyword_values), ...);
          run_without_gil(progress.found, workspace, [&](Pulse& pulse) { op(request, pulse); });
        },
        all);
  };
  std::apply(
      [&](const P&... p) {
        std::apply(
            [&](const K&... k) {
              m.def(name, function, p.declare()..., py::kw_only(), k.declare()..., doc);
            },
            keywords);
      },
      positional);
}

// Defines m.name(positional..., *, keywords..., stream=0, workspace=None). All arrays of a call must be on one
// device.
template <class Request, class... P, class... K>
void define(py::module_& m, const char* name, const char* doc, void (*op)(const Request&, Pulse&),
            const std::tuple<P...>& positional, const std::tuple<K...>& keywords) {
  define_all(m, name, doc, op, positional,
             std::tuple_cat(keywords, std::make_tuple(StreamArgument(), WorkspaceArgument())));
}

}  // namespace tilefold::bind
