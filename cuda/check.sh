#!/usr/bin/env bash
# Everything to learn from one visit to a GPU, in one command under eight minutes: builds for this
# GPU, runs its tests, a part of them under compute-sanitizer, and all benchmarks.
#
#     cuda/check.sh FOLDER     # figures in FOLDER/gpu.json, the log in FOLDER/check.log
#
# Needs Python with torch for CUDA, nvcc, and what pyproject.toml needs to build (see BUILD_TOOLS of
# the Makefile). A build that is carried along is used: set TILEFOLD_BUILT=1 where it is installed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:?usage: cuda/check.sh FOLDER}
mkdir -p "$out"
exec > >(tee "$out/check.log") 2>&1
python=${PYTHON:-python3}
failed=0

step() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n==== %s\n' "$name"
    if "$@"; then
        printf '==== %s: passed in %d s\n' "$name" "$((SECONDS - begin))"
    else
        printf '==== %s: FAILED after %d s\n' "$name" "$((SECONDS - begin))"
        failed=1
    fi
}

build() {
    $python -m pip install --quiet --no-deps --no-build-isolation . \
        --config-settings=cmake.define.TILEFOLD_CUDA=on \
        --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=native
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
[ "${TILEFOLD_BUILT:-}" = 1 ] || step build build
step tests timeout 150 $python -m pytest -n0 -q -p no:cacheprovider tests/kernels/test_gpu.py
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        step "$tool" timeout 60 compute-sanitizer --tool $tool --error-exitcode 9 \
            $python -m pytest -n0 -q -p no:cacheprovider tests/kernels/test_gpu.py \
            -k "reference and float32 and 5000"
    done
else
    echo "compute-sanitizer is not installed"
fi
if nvidia-smi --query-gpu=compute_cap --format=csv,noheader | grep -q '^9\.0'; then
    TILEFOLD_CUDA_GROUPS=1 step "tests with products of groups of warps" timeout 60 \
        $python -m pytest -n0 -q -p no:cacheprovider tests/kernels/test_gpu.py -k search
    TILEFOLD_CUDA_GROUPS=1 step "benchmarks of search with them" timeout 90 \
        $python bench/gpu.py --only search --json "$out/gpu_groups.json"
fi
step benchmarks timeout 200 $python bench/gpu.py --json "$out/gpu.json"
exit $failed
