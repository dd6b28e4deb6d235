"""_native.pyi has the functions, parameters and defaults of the compiled extension.

The stub is written by hand, since a generated one loses types: the items of `rows()`, the signature
of `progress`, the fields of a view. Names, order, kinds and defaults, which pybind11 knows, are
compared.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tilefold
from tilefold import _native

pytest.importorskip("pybind11_stubgen", reason="not installed: pip install pybind11-stubgen")
WRITTEN = Path(tilefold.__file__).parent / "_native.pyi"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ast.Module:
    folder = tmp_path_factory.mktemp("stubs")
    command = [sys.executable, "-m", "pybind11_stubgen", "tilefold._native", "-o", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return ast.parse((folder / "tilefold" / "_native.pyi").read_text())


@pytest.fixture(scope="module")
def written() -> ast.Module:
    return ast.parse(WRITTEN.read_text())


def signatures(module: ast.Module | ast.ClassDef) -> dict[str, tuple[object, ...]]:
    """Positional parameters, keyword-only parameters and defaults of every function."""
    return {
        node.name: (
            [argument.arg for argument in node.args.args],
            [argument.arg for argument in node.args.kwonlyargs],
            [ast.unparse(value) for value in node.args.defaults],
            [value and ast.unparse(value) for value in node.args.kw_defaults],
        )
        for node in module.body
        if isinstance(node, ast.FunctionDef)
    }


def constants(module: ast.Module) -> dict[str, str]:
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in module.body
        if isinstance(node, ast.AnnAssign) and node.target.id != "__all__"
    }


def test_the_stub_has_the_signatures_of_the_extension(generated, written):
    assert signatures(written) == signatures(generated)


def test_the_stub_has_the_constants_of_the_extension(generated, written):
    assert constants(written) == constants(generated)


def test_the_stub_has_the_methods_of_the_extensions_classes(generated, written):
    methods = [
        {
            node.name: {name for name in signatures(node) if not name.startswith("_")}
            for node in module.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        }
        for module in (written, generated)
    ]
    assert methods[0] == methods[1]


def test_every_public_name_is_in_the_stub(written):
    public = {name for name in vars(_native) if not name.startswith("_")}
    classes = {node.name for node in written.body if isinstance(node, ast.ClassDef)}
    classes = {name for name in classes if not name.startswith("_")}
    assert public == signatures(written).keys() | constants(written).keys() | classes
