"""README and the pages of docs: examples run, and names, paths, links and commands exist."""

import importlib
import re
import tomllib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

import tilefold
from tilefold.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FOLDERS = ("bench", "csrc", "cuda", "docs", "examples", "findings", "python", "tests")
FILES = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + [*ROOT.iterdir()]
PATHS = [f"/{path.relative_to(ROOT).as_posix()}" for path in FILES]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def code_spans(page: Path) -> list[str]:
    """Words in backticks of the prose, without those of blocks of code."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.M | re.S)
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)]


def code_blocks(page: Path, language: str) -> list[str]:
    """Blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def resolve(name: str) -> None:
    """Imports the module of a dotted name, and looks up what follows."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError as error:
            shorter = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or "")
            if not shorter:
                pytest.skip(f"not installed: {error}")
            continue
        for attribute in parts[end:]:
            found = getattr(found, attribute)
        return


EXAMPLES = {
    f"{page.stem}-{i}": code for page in PAGES for i, code in enumerate(code_blocks(page, "python"))
}


@pytest.mark.parametrize("code", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_runs(code: str, tmp_path, monkeypatch):
    for package in set(re.findall(r"^(?:from|import) (\w+)", code, re.M)) - {"tilefold"}:
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {})


def test_the_readme_has_examples():
    assert len(code_blocks(ROOT / "README.md", "python")) >= 2


def test_badges_are_true():
    """A badge has the words of its alternative text, and these are those of the configuration."""
    text = (ROOT / "README.md").read_text()
    badges = re.findall(r"!\[([^]]+)\]\(https://img\.shields\.io/badge/(\S+)-blue\)", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = [
        name.rpartition(" ")[2]
        for name in project["project"]["classifiers"]
        if re.search(r"Python :: 3\.\d+$", name)
    ]
    assert project["tool"]["mypy"]["strict"]
    assert [name for name, _ in badges] == [
        f"Python {versions[0]} to {versions[-1]}",
        f"License: {project['project']['license']}",
        "Typed: mypy --strict, pyright",
        "Tested on Linux: x86-64, arm64 emulated",
    ]
    for name, shown in badges:
        words = shown.replace("--", "\0").replace("-", " ").replace("_", " ").replace("\0", "-")
        assert re.findall(r"[\w.]+", words.lower()) == re.findall(r"[\w.]+", name.lower()), name


@each_page
def test_dotted_names_can_be_imported(page: Path):
    for name in code_spans(page):
        if re.fullmatch(r"tilefold(\.\w+)+(\(.*\))?", name):
            resolve(name.partition("(")[0])


@each_page
def test_paths_exist(page: Path):
    for name in code_spans(page):
        if re.fullmatch(r"[\w./-]+(/|\.(py|pyi|h|cpp|md|yaml|sh|txt|toml))", name):
            tail = f"/{name.strip('/')}"
            assert any(path.endswith(tail) for path in PATHS), name


@each_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


@each_page
def test_commands_exist(page: Path):
    blocks = chain.from_iterable(block.splitlines() for block in code_blocks(page, ""))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in (*code_spans(page), *blocks):
        words = line.split()
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, line
        elif words[:1] == ["tilefold"] and len(words) > 1 and words[1].isalpha():
            assert words[1] in main._VERBS, line


# Errors that the page quotes and a call can cause here, by what causes them.
QUOTED = {
    "search: queries have dim 5 but documents have dim 4": lambda: tilefold.search(
        np.ones((1, 5), np.float32), np.ones((2, 4), np.float32), 1
    ),
    "search: row 0 of queries has a NaN or an infinity": lambda: tilefold.search(
        np.full((1, 4), np.nan, np.float32), np.ones((2, 4), np.float32), 1
    ),
    "search: there is no argument top_k; the number of answers is k": lambda: tilefold.search(
        np.ones((1, 4), np.float32), np.ones((2, 4), np.float32), top_k=1
    ),
    "search: queries are float64 and were rounded to float32": lambda: tilefold.search(
        np.ones((1, 4)), np.ones((2, 4), np.float32), 1
    ),
    "FlatIndex.add: id 0 is already in the index": lambda: index_of_two().add(
        np.ones((1, 4), np.float32), ids=[0]
    ),
    "search_shards: memory_limit must be at least": lambda: tilefold.search_shards(
        np.ones((1, 4), np.float32), [np.ones((2, 4), np.float32)], 1, memory_limit=10
    ),
}


def index_of_two() -> tilefold.FlatIndex:
    index = tilefold.FlatIndex(4)
    index.add(np.ones((2, 4), np.float32))
    return index


def quoted_errors() -> list[str]:
    """Messages that are the headings of troubleshooting."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    return re.findall(r"^\*\*`(.+)`\*\*$", text, re.M)


@pytest.mark.parametrize("message", QUOTED)
def test_errors_of_troubleshooting_are_raised_as_quoted(message: str):
    assert any(message in quoted for quoted in quoted_errors())
    with pytest.raises((ValueError, TypeError, UserWarning), match=re.escape(message)):
        QUOTED[message]()


def test_errors_of_troubleshooting_are_in_the_sources():
    """Where a message is put together, its longest part without names and numbers is."""
    files = [*(ROOT / "python").rglob("*.py"), *(ROOT / "csrc").rglob("*.[ch]*")]
    text = " ".join(path.read_text() for path in [*files, ROOT / "pyproject.toml"])
    sources = re.sub(r'"\s*\n?\s*f?"', "", text)
    for message in quoted_errors():
        if not message.startswith("OMP:"):  # of another library
            parts = re.split(r"'\w+'|\d+|\.\.\.|[:;,]| avx|[a-z_.]+ are |\w+Warning", message)
            longest = max(parts, key=len).strip()
            assert len(longest) > 12, message
            assert longest in sources, (message, longest)
