// Names, argument names, docstrings; no logic. tilefold._native is private: the public functions of
// the package stand in front of it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "check.h"
#include "cpu/rows/table.h"
#include "ops/ops.h"
#include "parallel.h"

namespace py = pybind11;
using namespace py::literals;
using namespace tilefold;

namespace {

// Runs an op without the GIL; Ctrl-C and `progress` reach it a few times a second.
template <class Op>
void run(const py::object& progress, const Op& op) {
  std::exception_ptr raised;
  Pulse pulse([&](double done) {
    py::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!progress.is_none()) progress(done);
      return false;
    } catch (...) {
      raised = std::current_exception();
      return true;
    }
  });
  {
    py::gil_scoped_release free;
    op(pulse);
  }
  if (raised) std::rethrow_exception(raised);
}

py::list list_rows() {
  py::list result;
  const std::string active = active_row().name;
  for (const Kernels* const* row = rows; *row; ++row)
    result.append(py::dict("name"_a = (*row)->name, "device"_a = (*row)->device,
                           "needs"_a = (*row)->needs, "supported"_a = (*row)->supported(),
                           "in_use"_a = active == (*row)->name,
                           "query_tile"_a = (*row)->search.query_tile,
                           "query_levels"_a = (*row)->search.query_levels));
  return result;
}

}  // namespace

PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
  m.doc() = "Kernels of tilefold. Private: use the functions of the package.";
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const WrongType& wrong) {
      py::set_error(PyExc_TypeError, wrong.what());
    }
  });

  m.attr("STRIP_COLUMNS") = strip_columns;
  m.attr("BINS_PER_OCTAVE") = bins_per_octave;
  m.attr("LEAST_OCTAVE") = least_octave;
  m.attr("OCTAVES") = octaves;
  m.attr("BLOCK_ROWS") = block_rows;
  m.attr("BLOCK_BOUNDS") = block_bounds;
  m.attr("MAX_PACKED_DIM") = max_packed_dim;
  m.attr("LIST_BYTES_PER_THREAD") = list_bytes_per_thread;
  m.attr("LIST_BYTES_TOGETHER") = range_list_bytes;

  m.def("rows", &list_rows, "The table of kernels, best row first.");
  m.def("list_bytes", &ops::list_bytes, "k"_a, "What the list of candidates of one query takes.");
  m.def("num_threads", &num_threads, "Threads of a call that names none.");
  m.def("set_num_threads", &set_num_threads, "n"_a, "Sets the threads of calls that name none.");

  m.def(
      "search",
      [](py::object queries, py::object documents, py::object scores, py::object ids, int64_t k,
         py::object codes, py::object bounds, bool rotated, py::object document_ids,
         int64_t first_id, py::object allowed, py::object exclude_offsets, py::object exclude_ids,
         py::object min_score, py::object max_score, py::object refined, py::object pruned_bound,
         int num_threads, py::object progress) {
        const auto view = [](py::handle array, const char* name) {
          return View(array, "search", name);
        };
        const ops::SearchViews views = {view(queries, "queries"),
                                        view(documents, "documents"),
                                        view(scores, "scores"),
                                        view(ids, "ids"),
                                        view(codes, "codes"),
                                        view(bounds, "bounds"),
                                        view(document_ids, "document_ids"),
                                        view(allowed, "allowed"),
                                        view(exclude_offsets, "exclude offsets"),
                                        view(exclude_ids, "exclude ids"),
                                        view(min_score, "min_score"),
                                        view(max_score, "max_score"),
                                        view(refined, "refined"),
                                        view(pruned_bound, "pruned_bound")};
        run(progress,
            [&](Pulse& pulse) { ops::search(views, k, rotated, first_id, num_threads, pulse); });
      },
      "queries"_a, "documents"_a, "scores"_a, "ids"_a, "k"_a, py::kw_only(), "codes"_a = py::none(),
      "bounds"_a = py::none(), "rotated"_a = false, "document_ids"_a = py::none(), "first_id"_a = 0,
      "allowed"_a = py::none(), "exclude_offsets"_a = py::none(), "exclude_ids"_a = py::none(),
      "min_score"_a = py::none(), "max_score"_a = py::none(), "refined"_a = py::none(),
      "pruned_bound"_a = py::none(), "num_threads"_a = 0, "progress"_a = py::none(),
      "Folds documents into the running answers scores, ids [n, k].");

  m.def(
      "pack",
      [](py::object documents, py::object codes, py::object bounds, py::object finite,
         py::object radius_sum, bool rotate, int num_threads) {
        const ops::PackViews views = {View(documents, "pack", "documents"),
                                      View(codes, "pack", "codes"), View(bounds, "pack", "bounds"),
                                      View(finite, "pack", "finite"),
                                      View(radius_sum, "pack", "radius_sum")};
        run(py::none(), [&](Pulse& pulse) { ops::pack(views, rotate, num_threads, pulse); });
      },
      "documents"_a, "codes"_a, "bounds"_a, "finite"_a, py::kw_only(), "radius_sum"_a = py::none(),
      "rotate"_a = false, "num_threads"_a = 0,
      "Quantises documents into int8 codes [blocks, dim / 4, 32, 4] and bounds [blocks, 4, 32].");

  m.def(
      "finite_rows",
      [](py::object vectors, py::object finite, int num_threads) {
        const View in(vectors, "finite_rows", "vectors"), out(finite, "finite_rows", "finite");
        py::gil_scoped_release free;
        ops::finite_rows(in, out, num_threads);
      },
      "vectors"_a, "finite"_a, py::kw_only(), "num_threads"_a = 0,
      "Which rows have no NaN and no infinity.");

  m.def(
      "score",
      [](py::object queries, py::object documents, py::object rows, py::object scores,
         bool canonical, int num_threads) {
        const View q(queries, "score", "queries"), d(documents, "score", "documents"),
            r(rows, "score", "rows"), s(scores, "score", "scores");
        py::gil_scoped_release free;
        ops::score(q, d, r, s, canonical, num_threads);
      },
      "queries"_a, "documents"_a, "rows"_a, "scores"_a, py::kw_only(), "canonical"_a = true,
      "num_threads"_a = 0,
      "Scores [n, m] of the documents rows [n, m] for queries [n, dim]: canonical, or fp32 "
      "estimates.");

  m.def(
      "contrastive",
      [](py::object queries, py::object documents, py::object positive_offsets,
         py::object positives, py::object query_losses, double scale, bool each,
         py::object soft_targets, py::object exclude_offsets, py::object excluded,
         py::object query_weights, py::object document_weights, py::object document_losses,
         py::object grad_queries, py::object grad_documents, py::object gate_queries,
         py::object gate_documents, py::object groups, py::object group_offsets,
         py::object group_ids, py::object document_ids, int num_threads) {
        const auto view = [](py::handle array, const char* name) {
          return View(array, "contrastive", name);
        };
        const ops::ContrastiveViews views = {view(queries, "queries"),
                                             view(documents, "documents"),
                                             view(positive_offsets, "positive offsets"),
                                             view(positives, "positives"),
                                             view(soft_targets, "soft targets"),
                                             view(exclude_offsets, "exclude offsets"),
                                             view(excluded, "exclude"),
                                             view(query_weights, "query_weights"),
                                             view(document_weights, "document_weights"),
                                             view(query_losses, "query_losses"),
                                             view(document_losses, "document_losses"),
                                             view(grad_queries, "grad_queries"),
                                             view(grad_documents, "grad_documents"),
                                             view(gate_queries, "queries of gates"),
                                             view(gate_documents, "documents of gates"),
                                             view(groups, "groups"),
                                             view(group_offsets, "group offsets"),
                                             view(group_ids, "group ids"),
                                             view(document_ids, "document ids")};
        run(py::none(),
            [&](Pulse& pulse) { ops::contrastive(views, scale, each, num_threads, pulse); });
      },
      "queries"_a, "documents"_a, "positive_offsets"_a, "positives"_a, "query_losses"_a,
      py::kw_only(), "scale"_a, "each"_a = true, "soft_targets"_a = py::none(),
      "exclude_offsets"_a = py::none(), "excluded"_a = py::none(), "query_weights"_a = py::none(),
      "document_weights"_a = py::none(), "document_losses"_a = py::none(),
      "grad_queries"_a = py::none(), "grad_documents"_a = py::none(), "gate_queries"_a = py::none(),
      "gate_documents"_a = py::none(), "groups"_a = py::none(), "group_offsets"_a = py::none(),
      "group_ids"_a = py::none(), "document_ids"_a = py::none(), "num_threads"_a = 0,
      "Contrastive losses of queries [n] (and documents [m]), and the gradients of their weighted "
      "sum.");

  m.def(
      "divergence",
      [](const std::string& op, const std::vector<py::tuple>& views, py::object divergences,
         py::object masses, py::object variances, int reference, bool mixture_first,
         py::object exclude_offsets, py::object excluded, py::object listed_offsets,
         py::object listed, py::object weights, int num_threads) {
        const auto view = [](py::handle array, const char* name) {
          return View(array, "divergence", name);
        };
        ops::DivergenceViews all = {{},
                                    view(exclude_offsets, "exclude offsets"),
                                    view(excluded, "exclude"),
                                    view(listed_offsets, "listed offsets"),
                                    view(listed, "listed"),
                                    view(weights, "weights"),
                                    view(divergences, "divergences"),
                                    view(masses, "masses"),
                                    view(variances, "variances")};
        for (const py::tuple& v : views) {
          check(v.size() == 6, op, ": a view must have 6 parts, got ", v.size());
          all.of_views.push_back({view(v[0], "queries"), view(v[1], "documents"),
                                  view(v[2], "grad_queries"), view(v[3], "grad_documents"),
                                  v[4].cast<double>(), v[5].cast<std::string>()});
        }
        run(py::none(), [&](Pulse& pulse) {
          ops::divergence(op, all, reference, mixture_first, num_threads, pulse);
        });
      },
      "op"_a, "views"_a, "divergences"_a, "masses"_a, "variances"_a, py::kw_only(),
      "reference"_a = -1, "mixture_first"_a = true, "exclude_offsets"_a = py::none(),
      "excluded"_a = py::none(), "listed_offsets"_a = py::none(), "listed"_a = py::none(),
      "weights"_a = py::none(), "num_threads"_a = 0,
      "Divergences of softmaxes from their mixture; a view is (queries, documents, grad_queries, "
      "grad_documents, scale, name), of which gradients may be None.");

  m.def(
      "statistics",
      [](py::object x, py::object rows, py::object count, py::object mean, py::object m2,
         py::object least, py::object most, py::object thresholds, py::object above,
         py::object histogram, int num_threads) {
        const auto view = [](py::handle array, const char* name) {
          return View(array, "statistics", name);
        };
        const ops::StatisticsViews all = {view(x, "x"),         view(rows, "rows"),
                                          view(count, "count"), view(mean, "mean"),
                                          view(m2, "m2"),       view(least, "least"),
                                          view(most, "most"),   view(thresholds, "thresholds"),
                                          view(above, "above"), view(histogram, "histogram")};
        py::gil_scoped_release free;
        ops::statistics(all, num_threads);
      },
      "x"_a, "rows"_a, "count"_a, "mean"_a, "m2"_a, "least"_a, "most"_a, "thresholds"_a, "above"_a,
      "histogram"_a = py::none(), py::kw_only(), "num_threads"_a = 0,
      "Folds rows of activations [rows, width] into statistics of columns.");

  m.def(
      "examples",
      [](py::object x, py::object rows, py::object offsets, py::object numbers, py::object values,
         py::object examples, int num_threads) {
        const auto view = [](py::handle array, const char* name) {
          return View(array, "examples", name);
        };
        const ops::ExamplesViews all = {view(x, "x"),
                                        view(rows, "rows"),
                                        view(offsets, "offsets"),
                                        view(numbers, "numbers"),
                                        view(values, "values"),
                                        view(examples, "examples")};
        py::gil_scoped_release free;
        ops::examples(all, num_threads);
      },
      "x"_a, "rows"_a, "offsets"_a, "numbers"_a, "values"_a, "examples"_a, py::kw_only(),
      "num_threads"_a = 0, "Keeps the examples with the largest values of each column.");

  m.def(
      "second_moment",
      [](py::object x, py::object rows, py::object sums, int num_threads) {
        const View views[] = {{x, "second_moment", "x"},
                              {rows, "second_moment", "rows"},
                              {sums, "second_moment", "sums"}};
        py::gil_scoped_release free;
        ops::second_moment(views[0], views[1], views[2], num_threads);
      },
      "x"_a, "rows"_a, "sums"_a, py::kw_only(), "num_threads"_a = 0,
      "Adds products of columns to the lower triangle of sums [width, width].");

  m.def(
      "tile",
      [](py::object codes, py::object queries, py::object products, int64_t rounds) {
        const View c(codes, "tile", "codes"), q(queries, "tile", "queries"),
            p(products, "tile", "products");
        py::gil_scoped_release free;
        ops::tile(c, q, p, rounds);
      },
      "codes"_a, "queries"_a, "products"_a, "rounds"_a = 1,
      "Integer inner products of one block of codes with a few queries.");

  m.def(
      "peak", &ops::peak, "kind"_a, py::call_guard<py::gil_scoped_release>(),
      "Arithmetic rate of one core on the row in use: operations per second, fp32, int8 or bf16.");
}
