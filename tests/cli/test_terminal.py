"""Terminal: lines that are aligned, fit, and carry no colour where nobody sees it."""

import ast
import io
import sys
from pathlib import Path

import pytest

from tilefold.cli import terminal

CELLS = {"nDCG@10": ["0.1", "0.25"], "R@100": ["0.5", "1"]}


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch):
    return lambda n: monkeypatch.setenv("COLUMNS", str(n))


def test_columns_are_aligned_under_their_names(columns, capsys):
    columns(80)
    terminal.table(["dense", "BM25"], CELLS)
    assert capsys.readouterr().out.splitlines() == [
        "         nDCG@10  R@100",
        "  dense      0.1    0.5",
        "  BM25      0.25      1",
    ]


def test_columns_that_do_not_fit_continue_below(columns, capsys):
    columns(40)
    terminal.table(["dense"], {"a" * 20: ["1"], "b" * 20: ["2"], "c": ["3"]})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line] == [
        ["a" * 20], ["dense", "1"], ["b" * 20, "c"], ["dense", "2", "3"]
    ]  # fmt: skip
    assert max(map(len, lines)) <= 40


def test_a_column_wider_than_the_terminal_is_still_written(columns, capsys):
    columns(10)
    terminal.table(["x"], {"a" * 60: ["1"]})
    assert "a" * 60 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [("short", 10, "short"), ("two\n lines", 20, "two lines"), ("longer text", 8, "longe...")],
)
def test_text_is_clipped_to_one_line(text: str, room: int, shown: str):
    assert terminal.clip(text, room) == shown


def test_a_paragraph_is_wrapped_to_the_terminal_but_no_wider_than_80(columns, capsys):
    for room, widest in ((50, 50), (200, 80)):
        columns(room)
        terminal.note("word " * 60)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == ""
        assert widest - 5 < max(map(len, lines)) <= widest


@pytest.mark.parametrize(
    ("n", "noun", "words"),
    [(1, "query", "1 query"), (1200, "query", "1,200 queries"), (0, "document", "0 documents")],
)
def test_nouns_agree_with_their_numbers(n: int, noun: str, words: str):
    assert terminal.count(n, noun) == words


@pytest.mark.parametrize(("tty", "no_colour", "bold"), [(0, 0, 0), (1, 0, 1), (1, 1, 0)])
def test_headings_are_bold_on_a_terminal_only(tty, no_colour, bold, monkeypatch):
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return bool(tty)

    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal.heading("Quality")
    written = sys.stdout.getvalue()
    assert "Quality" in written
    assert ("\033[1m" in written) == bool(bold)


HOSTILE = "a\x1b[2J\x1b]0;owned\x07b\x9b31m\r\u202egpj.exe"


@pytest.mark.parametrize(
    "write",
    [
        terminal.say,
        terminal.title,
        terminal.heading,
        terminal.note,
        lambda text: terminal.fact("documents", text),
        lambda text: terminal.fact(text, "1"),
        lambda text: terminal.say(terminal.clip(text, 200)),
        lambda text: terminal.table([text], {"measure": ["1"]}),
        lambda text: terminal.table(["dense"], {text: [text]}),
    ],
    ids=["say", "title", "heading", "note", "fact", "name", "clip", "label", "cell"],
)
def test_no_text_commands_the_terminal_or_looks_like_another(write, columns, capsys):
    columns(500)
    write(HOSTILE)
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\x9b\r\u202e")
    assert "a\\x1b[2J" in out
    assert "\\u202egpj.exe" in out


def test_letters_of_every_script_stay(capsys):
    text = "Straße, 北京, Ελλάδα, مرحبا\u200fبك, नमस्ते, 👩‍🚀"
    terminal.say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_columns_of_escaped_texts_are_aligned(columns, capsys):
    columns(80)
    terminal.table(["a\x1b[1m", "b"], {"n": ["1", "2"]})
    lines = capsys.readouterr().out.splitlines()
    assert [line.rindex(n) for line, n in zip(lines, "n12", strict=True)] == [12] * 3


def test_tokens_are_not_printed(capsys):
    terminal.fact("model", "https://me:pa55@host/" + "hf_" + "aB3" * 12)
    assert capsys.readouterr().out == "  model      https://me:[redacted]@host/[redacted]\n"


def test_headings_are_bold_on_a_terminal_and_their_texts_escaped(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.title("a\x1b[0mb")
    assert stream.getvalue() == "\x1b[1ma\\x1b[0mb\x1b[0m\n"


def test_commands_print_through_the_terminal_alone():
    """So that no text reaches stdout without being escaped; `main` prints errors."""
    folder = Path(terminal.__file__).parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if path.name not in ("main.py", "terminal.py"):
                assert called not in ("print", "sys.stdout.write"), (
                    f"{path.relative_to(folder)}:{node.lineno}"
                )
