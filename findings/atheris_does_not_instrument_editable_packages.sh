#!/usr/bin/env bash
# atheris 3.0.0 with scikit-build-core 1.1.2: `instrument_imports` writes "INFO: Instrumenting
# shapes" for a package that scikit-build-core installed in editable mode, and instruments nothing:
# the loader of such an install lets another loader execute the module, and so the code that Atheris
# patches is not the code that runs. A fuzzer then runs without coverage, and says only that "no
# interesting inputs were found". The same package without --editable is instrumented, and
# `instrument_func` on its functions works in both.
#
# Seen on 2026-11-30 with Python 3.11.7:
#   installed: instrumented by the import: True
#   editable: instrumented by the import: False, by instrument_func: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check "$@" --quiet; }
pip install atheris==3.0.0 scikit-build-core==1.1.2 cmake==4.4.4 ninja==1.13.2

mkdir -p "$folder/project/src/shapes"
cat > "$folder/project/pyproject.toml" <<'TOML'
[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"

[project]
name = "shapes"
version = "1"
TOML
cat > "$folder/project/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.15)
project(shapes LANGUAGES NONE)
CMAKE
cat > "$folder/project/src/shapes/__init__.py" <<'PY'
def area(width, height):
    if width < 0:
        return 0
    return width * height
PY
cat > "$folder/import.py" <<'PY'
import importlib.metadata
import sys

import atheris

assert importlib.metadata.version("atheris") == "3.0.0"
with atheris.instrument_imports():
    import shapes


def instrumented():
    """Whether the function calls Atheris, which is then among its constants."""
    return atheris in shapes.area.__code__.co_consts


print(f"{sys.argv[1]}: instrumented by the import: {instrumented()}", end="")
if sys.argv[1] == "installed":
    assert instrumented()
else:
    assert not instrumented()
    atheris.instrument_func(shapes.area)
    print(f", by instrument_func: {instrumented()}", end="")
    assert instrumented()
print()
PY
pip install --no-build-isolation "$folder/project"
"$folder/venv/bin/python" "$folder/import.py" installed 2>"$folder/log"
grep -q "INFO: Instrumenting shapes" "$folder/log"
pip uninstall --yes shapes
pip install --no-build-isolation --editable "$folder/project"
"$folder/venv/bin/python" "$folder/import.py" editable 2>"$folder/log"
grep -q "INFO: Instrumenting shapes" "$folder/log"
echo "as described"
