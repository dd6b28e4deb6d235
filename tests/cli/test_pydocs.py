"""read_pydocs(): a quiet, deterministic retrieval task from installed documentation."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tilefold.cli.demo.pydocs import read_pydocs
from tilefold.data import Collection


@pytest.fixture(scope="module")
def standard_library() -> Collection:
    return read_pydocs()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Reads the documentation of a module with the given source."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def read(source: str, **others: str) -> Collection:
        name = f"documented_{len(names)}"
        names.append(name)
        folder = tmp_path / name
        folder.mkdir()
        for module, text in {"__init__": source, **others}.items():
            (folder / f"{module}.py").write_text(text)
        return read_pydocs([name], standard_library=False)

    yield read
    for module in [m for m in sys.modules if m.partition(".")[0] in names]:
        del sys.modules[module]


def digest(collection: Collection) -> str:
    parts = [collection.document_ids, collection.documents, collection.queries]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# ---- the standard library ------------------------------------------------------------------------


def test_the_standard_library_gives_about_two_thousand_pairs(standard_library: Collection):
    n = len(standard_library.documents)
    assert 1500 < n < 3000
    assert n == len(set(standard_library.document_ids))
    assert n == len(standard_library.qrels.ids)
    assert sorted(standard_library.qrels.ids) == list(range(n))
    assert len(standard_library.queries) == len(set(standard_library.queries)) <= n
    assert (standard_library.qrels.gains == 1).all()


def test_documents_hide_their_names_and_their_summaries(standard_library: Collection):
    offsets, ids, _ = standard_library.qrels
    for query, row in zip(standard_library.queries, np.split(ids, offsets[1:-1]), strict=True):
        for document in row:
            text = standard_library.documents[document]
            leaf = standard_library.document_ids[document].rpartition(".")[2]
            assert not re.search(rf"(?<!\w){re.escape(leaf)}(?!\w)", text)
            assert "\n" not in query
            assert not text.startswith(query)


def test_well_known_functions_have_their_public_names(standard_library: Collection):
    names = set(standard_library.document_ids)
    assert {"statistics.median", "heapq.merge", "os.walk", "shutil.copytree"} <= names
    modules = {name.partition(".")[0] for name in names}
    assert not modules & {"posix", "nt", "this", "antigravity", "idlelib", "test", "tkinter"}
    assert not any(part.startswith("_") for name in names for part in name.split("."))


def test_two_processes_read_the_same_and_print_nothing():
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from test_pydocs import digest\n"
        "from tilefold.cli.demo.pydocs import read_pydocs\n"
        "collection = read_pydocs()\n"
        "sys.stdout.write(digest(collection))"
    )
    children = [
        subprocess.run(
            [sys.executable, "-W", "default", "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert [child.stderr for child in children] == ["", ""]
    assert children[0].stdout == children[1].stdout
    assert len(children[0].stdout) == 64


def test_a_method_that_somebody_adds_to_a_class_is_not_of_the_standard_library(
    standard_library: Collection, monkeypatch: pytest.MonkeyPatch
):
    def shout(self: object) -> None:
        """Log a message very loudly.

        Nobody will miss it.
        """

    monkeypatch.setattr("logging.Logger.shout", shout, raising=False)
    assert digest(read_pydocs()) == digest(standard_library)


# ---- what counts ---------------------------------------------------------------------------------

SOURCE = '''
def pick(items, *, key=print, among=object()):
    """Pick one of the items.

    Use pick() where any will do; picking is cheap.
    """

class Basket:
    """Hold a few items.

    A Basket is not ordered.
    """

    @staticmethod
    def weigh(scale) -> int:
        """Weigh what is inside.

        The scale must be level.
        """

    def _hidden(self):
        """Do not read this.

        It is private.
        """

def short():
    """Say only one thing."""

def wrapped():
    """Say a thing that does not fit on
    one line.

    More.
    """

again = pick
'''


def test_functions_classes_and_methods_with_a_summary_line_count_once(package):
    collection = package(SOURCE)
    name = collection.document_ids[0].partition(".")[0]
    assert dict(zip(collection.document_ids, collection.documents, strict=True)) == {
        f"{name}.Basket": "_()\nA _ is not ordered.",
        f"{name}.Basket.weigh": "_(scale)\nThe scale must be level.",
        f"{name}.again": "_(items, *, key, among)\nUse pick() where any will do; picking is cheap.",
    }
    assert collection.queries == [
        "Hold a few items.", "Weigh what is inside.", "Pick one of the items."
    ]  # fmt: skip


def test_objects_with_the_same_summary_answer_the_same_query(package):
    one = 'def {name}():\n    """Close the open file.\n\n    {more}\n    """\n'
    collection = package(one.format(name="a", more="Now.") + one.format(name="b", more="Later."))
    assert collection.queries == ["Close the open file."]
    assert collection.qrels.ids.tolist() == [0, 1]
    assert collection.query_ids == collection.document_ids[:1]


def test_a_c_style_signature_is_not_the_summary(package):
    collection = package(
        'def f():\n    """f(x, [y]) -> int\n    f() -> None\n\n    Do it at once.\n\n    Or not."""'
    )
    assert collection.queries == ["Do it at once."]
    assert collection.documents == ["_()\nOr not."]


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit(3)",
        "raise RuntimeError",
        "import not_there_at_all",
        "print('hello'); import warnings; warnings.warn('look out')",
    ],
)
def test_a_module_that_fails_or_talks_disturbs_nothing(package, source: str, capfd):
    collection = package(SOURCE, submodule=source)
    assert len(collection.documents) == 3
    assert capfd.readouterr() == ("", "")


def test_private_and_dangerous_modules_are_not_imported(package):
    boom = "raise KeyboardInterrupt"
    assert len(package(SOURCE, _private=boom, __main__=boom, conftest=boom).documents) == 3


def test_a_package_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="package 'no_such_package' is not installed"):
        read_pydocs(["no_such_package"])
    with pytest.raises(ValueError, match=r"package '\.\./x' is not installed"):
        read_pydocs(["../x"])


def test_a_package_without_documentation_is_an_error(package):
    with pytest.raises(ValueError, match="no documentation found in"):
        package("x = 1")
