"""The documentation of Python packages on this machine, as a retrieval task with known answers.

A public function, method or class whose docstring follows PEP 257 (a summary line, a blank line,
more) gives a query, the summary, and a document, its parameters and the rest of the docstring, in
which its own name is masked: to find it, one has to understand it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from ...data import Collection, Qrels

# Importing these opens a browser or a window, prints, writes to the terminal or runs programs;
# setuptools replaces distutils by its own.
_NOT_IMPORTED = {
    *("antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "readline", "rlcompleter"),
    *("test", "tests", "testing", "this", "tkinter", "turtle", "turtledemo", "conftest", "setup"),
}
_OS_IN_C = {"posix", "nt"}  # `os` exports their functions
_MASK = "_"
_MIN_WORDS = 3  # a shorter summary does not identify one object


class Documented(NamedTuple):
    """One documented object."""

    name: str  # queue.Queue.get
    summary: str
    text: str


def read_pydocs(packages: Sequence[str] = (), *, standard_library: bool = True) -> Collection:
    """Reads the documentation of the standard library, and of `packages`, as a collection.

    Modules are imported with their output suppressed; those that fail to import, or that open
    windows or run programs, are left out. The same Python and the same packages give the same
    collection. Objects with the same summary are relevant to the same query; of a docstring that
    appears twice, only the first is kept.

    Args:
        packages: installed packages to add, such as "numpy".
        standard_library: whether to read the standard library.

    Raises:
        ValueError: a package is not installed, or nothing is documented.
    """
    for package in packages:
        if not package.isidentifier() or importlib.util.find_spec(package) is None:
            raise ValueError(f"read_pydocs: package {package!r} is not installed")
    roots = sorted(sys.stdlib_module_names) if standard_library else []
    found = list(_distinct(_documented([*roots, *packages])))
    if not found:
        raise ValueError(f"read_pydocs: no documentation found in {list(packages)}")
    answers: dict[str, dict[int, float]] = {}
    for number, entry in enumerate(found):
        answers.setdefault(entry.summary, {})[number] = 1
    return Collection(
        document_ids=[entry.name for entry in found],
        documents=[entry.text for entry in found],
        query_ids=[found[min(numbers)].name for numbers in answers.values()],
        queries=list(answers),
        qrels=Qrels.pack(list(answers.values())),
    )


def _distinct(entries: Iterator[Documented]) -> Iterator[Documented]:
    """Yields the first entry of each name and of each docstring."""
    seen: set[tuple[str, ...]] = set()
    for entry in entries:
        keys = {(entry.name,), (entry.summary, entry.text)}
        if not seen & keys:
            yield entry
        seen |= keys


# ---- objects -------------------------------------------------------------------------------------


def _documented(packages: Sequence[str]) -> Iterator[Documented]:
    visited: set[int] = set()  # objects that several modules export
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # All are imported before any is read: a submodule may hide a function of its package.
        modules = [module for package in packages for module in _modules(package)]
        for name, item in (member for module in modules for member in _members(module)):
            if id(item) not in visited:
                visited.add(id(item))
                entry = _entry(name, item)
                if entry is not None:
                    yield entry


def _modules(package: str) -> Iterator[ModuleType]:
    """Imports a package and its public modules, and yields them."""
    module = _imported(package)
    if module is None:
        return
    yield module
    for _, name, _ in sorted(pkgutil.iter_modules(getattr(module, "__path__", []))):
        yield from _modules(f"{package}.{name}")


def _imported(name: str) -> ModuleType | None:
    last = name.rpartition(".")[2]
    if last.startswith("_") or last in _NOT_IMPORTED | _OS_IN_C:
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit):  # for another system, or not importable on its own
            return None


def _members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yields (name, object) of the module's own public functions, classes and methods."""
    for name, item in sorted(vars(module).items()):
        if name.startswith("_") or not _is_own(item, module):
            continue
        if inspect.isclass(item):
            yield f"{module.__name__}.{name}", item
            for method, member in sorted(vars(item).items()):
                function = getattr(member, "__func__", member)  # of static and class methods
                if method.startswith("_") or not inspect.isroutine(function):
                    continue
                if _is_own(function, module):  # transformers adds methods to logging.Logger
                    yield f"{module.__name__}.{name}.{method}", function
        elif inspect.isroutine(item):
            yield f"{module.__name__}.{name}", item


def _is_own(item: Any, module: ModuleType) -> bool:
    """Returns whether a module defines an object, or exports it for a private module (_heapq)."""
    home = getattr(item, "__module__", None)
    if not isinstance(home, str) or home == module.__name__:
        return True
    parts = home.split(".")
    public = [part for part in parts if not part.startswith("_") and part not in _OS_IN_C]
    return len(public) < len(parts) and public[:1] in ([], [module.__name__.partition(".")[0]])


# ---- docstrings ----------------------------------------------------------------------------------


def _entry(name: str, item: Any) -> Documented | None:
    leaf = re.escape(name.rpartition(".")[2])
    if not isinstance(item.__doc__, str):
        return None
    # C functions' docstrings may begin with calls: `addch(ch[, attr])`, one a line.
    prose = re.sub(rf"\A(?:[\w.]*{leaf}\s*\(.*\s*)+", "", inspect.cleandoc(item.__doc__))
    summary, *body = re.split(r"\n\s*\n", prose.strip(), maxsplit=1)
    if not body or "\n" in summary or len(summary.split()) < _MIN_WORDS:
        return None
    if not summary[0].isalpha():  # an example, a list, markup
        return None
    text = f"{_MASK}{_parameters(item)}\n{body[0]}"
    return Documented(name, summary, re.sub(rf"(?<!\w){leaf}(?!\w)", _MASK, text))


def _parameters(item: Any) -> str:
    """Returns the names of the parameters; defaults may hold addresses, paths or sets."""
    try:
        signature = inspect.signature(item)
    except Exception:  # many C functions have no signature; annotations may fail to evaluate
        return "(...)"
    bare = [
        parameter.replace(default=inspect.Parameter.empty, annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))
