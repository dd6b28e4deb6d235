"""Reports: one file without a network, escaped, with words for every picture."""

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from tilefold.report import (
    Figure,
    Figures,
    Listing,
    Paragraph,
    Report,
    Section,
    SideBySide,
    Table,
    heat_maps,
    lines,
    points,
)
from tilefold.report.figures import Line

VOID = {"meta", "br", "img", "use", "path", "rect", "stop"}


class Checked(HTMLParser):
    """Elements that are open, ids, and what is fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.fetched.append(value)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def whole() -> Report:
    line = lines(
        "accuracy",
        range(5),
        {"base": Line([0.5] * 5, [0.4] * 5, [0.6] * 5), "retriever": Line([0.7] * 5)},
        x_label="layer",
        y_label="accuracy",
        level=(0.5, "chance"),
    )
    rng = np.random.default_rng(0)
    maps = {"base": rng.random((4, 9)), "retriever": 2 * rng.random((4, 9))}
    heat = heat_maps("heat", list("abcd"), maps, x_label="neurons", bar_label="share")
    blocks = [
        Paragraph("a < b & <script>alert(1)</script>"),
        Figures([Figure(line, "flat lines", "Lines."), Figure(heat, 'a "map"', "Maps.")]),
        Table(["model", "x"], [["base", "<1"]], "A table."),
        Listing([("Neuron <3>", ["text & more"])]),
        SideBySide([("Which <b>?", {"human & LM": ["one", "two"], "LM": []})]),
    ]
    return Report("Title <T>", "Summary.", [Section("One", blocks), Section("Two", [])])


def test_a_report_is_whole_and_fetches_nothing():
    html = whole().html()
    checked = Checked(html)
    assert checked.open == []
    assert checked.fetched == []
    assert len(checked.ids) == len(set(checked.ids))
    links = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert links <= set(checked.ids)
    assert not re.search(r"@import|https?://(?!www\.w3\.org)", html)


def test_texts_are_escaped():
    html = whole().html()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<td>&lt;1</td>" in html
    assert "Neuron &lt;3&gt;" in html
    assert 'aria-label="a &#34;map&#34;"' in html
    assert "Which &lt;b&gt;?" in html
    assert "<h3>human &amp; LM</h3><ol>\n<li>one</li>\n<li>two</li>\n</ol>" in html


def test_pictures_have_words_and_are_the_same_every_time():
    html = whole().html()
    assert html.count('role="img"') == html.count("<svg ") == 2
    assert "flat lines" in html
    assert ">chance<" in html  # text stays text
    assert whole().html() == html


def test_one_colour_bar_serves_all_maps():
    maps = {"low": np.zeros((2, 3)), "high": np.ones((2, 3))}
    svg = heat_maps("h", ["a", "b"], maps, x_label="x", bar_label="share of texts")
    assert svg.count("share of texts") == 1
    named = heat_maps("h", ["a", "b"], maps, x_label="x", bar_label="y", columns=["c", "d", "e f"])
    assert named.count(">e f</text>") == 1  # maps share their columns
    flat = heat_maps("h", ["a"], {"flat": np.zeros((1, 3))}, x_label="x", bar_label="y")
    assert "<svg" in flat


def test_a_report_is_written_at_once(tmp_path):
    path = tmp_path / "report.html"
    whole().write(path)
    assert path.read_text() == whole().html()
    with pytest.raises(OSError, match="none"):
        whole().write(tmp_path / "none" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_as_markdown_it_has_tables_and_words_for_pictures(tmp_path):
    path = tmp_path / "report.md"
    whole().write(path)
    lines = path.read_text().splitlines()
    assert lines[0] == "# Title \\<T>"
    assert "a \\< b & \\<script>alert(1)\\</script>" in lines
    assert "- Lines. flat lines." in lines
    table = lines.index("| model | x |")
    assert lines[table - 1] == ""
    assert lines[table + 1 : table + 3] == ["| --- | --- |", "| base | \\<1 |"]
    assert lines[lines.index("- Neuron \\<3>") + 1] == "  - text & more"
    columns = lines.index("- Which \\<b>?")
    assert lines[columns + 1 : columns + 5] == [
        "  - human & LM",
        "    1. one",
        "    2. two",
        "  - LM",
    ]
    assert "## Two" in lines
    assert "\n\n\n" not in path.read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b `c` *d*", r"a\|b \`c\` \*d\*"),
        ("one\ntwo", "one two"),
        ("_said_ by snake_case", r"\_said\_ by snake_case"),
        ("__init__", r"\_\_init\_\_"),
        ("~~x~~ &lt; R&D", r"\~\~x\~\~ \&lt; R&D"),
        ("[0.1, 0.2] and [here](there)", r"[0.1, 0.2] and [here]\(there)"),
        ("C:\\x", r"C:\\x"),
        ("1.30: said", "1.30: said"),
    ],
)
def test_marks_of_markdown_are_shown_as_they_are(text, shown):
    page = Report("T", text, [Section("S", [Table(["x"], [[text]], "Caption.")])]).markdown()
    assert f"| {shown} |" in page


@pytest.mark.parametrize("mark", ["# ", "> ", "- ", "+ ", "1. ", "12) ", "=== ", "[x]: "])
def test_no_text_begins_a_block_of_markdown(mark):
    text = f"{mark}said"
    blocks = [Paragraph(text), Listing([(text, [text])]), Table(["x"], [["-1"]], text)]
    lines = Report("T", text, [Section("S", blocks)]).markdown().splitlines()
    said = [line for line in lines if line.endswith("said")]
    assert len(said) == 5
    for line in said:
        digits = re.match(r"\d*", mark)[0]
        assert line.lstrip(" -").startswith(f"{digits}\\{mark[len(digits)]}")
    assert "| -1 |" in lines


def test_points_are_not_joined_and_gaps_are_left_out():
    values = Line([0.2, None, 0.6], [0.1, None, 0.5], [0.3, None, 0.7])
    series = {"test": values, "dev": Line([0.3, 0.4, 0.5])}
    places = ["MLP", "GNN", "LSTM"]
    svg = points("a", places, series, x_label="model", y_label="accuracy")
    assert all(f">{place}</text>" in svg for place in places)
    many = [f"model {place}" for place in range(12)]
    wide = points("b", many, {"test": Line([0.5] * 12)}, x_label="model", y_label="accuracy")
    assert all(f">{place}</text>" in wide for place in many)
    marks = re.findall(
        r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: var\(--blue, #0072b2', svg
    )
    bars = re.findall(r'd="M ([\d.]+) ([\d.]+) \nL ([\d.]+) ([\d.]+) \n"[^>]*#0072b2', svg)
    assert (len(marks), len(bars)) == (3, 3)  # two, and those of the legend
    for (x, y), (left, low, right, high) in zip(marks, bars, strict=True):
        assert x == left == right
        assert float(y) == pytest.approx((float(low) + float(high)) / 2)
    assert len(re.findall(r"<use [^>]*fill: #d55e00", svg)) == 3 + 1  # and that of the legend
    assert "nan" not in svg


@pytest.mark.parametrize("label", ["$1 to $2", r"a $\alpha$ b", r"$\notacommand{$", "$", "$$"])
def test_dollars_of_labels_are_text(label):
    """matplotlib would read what lies between two as mathematics, and fail where it is none."""
    escaped = html.escape(label, quote=False)
    svg = lines(label, [label, "b"], {label: Line([1.0, 2.0])}, x_label=label, y_label=label)
    assert svg.count(f">{escaped}</text>") == 4  # a place, a series, two axes
    maps = {label: np.eye(2)}
    svg = heat_maps("h", [label, "b"], maps, x_label=label, bar_label=label)
    assert svg.count(f">{escaped}</text>") == 4  # a row, a title, an axis, the bar


@pytest.mark.parametrize("written", [Report.html, Report.markdown])
def test_a_report_has_no_terminal_escapes_and_no_tokens(written):
    token = "hf_" + "aB3" * 12
    text = f"a\x1b[2Jb \u202e {token}"
    blocks = [Paragraph(text), Table([text], [[text]], text), Listing([(text, [text])])]
    page = written(Report(text, text, [Section(text, blocks)]))
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert token not in page
    assert page.count("[redacted]") >= 8


def test_figures_whose_names_differ_in_punctuation_share_no_id():
    def ids(name: str) -> set[str]:
        svg = lines(name, [1, 2], {"a": Line([1.0, 2.0])}, x_label="x", y_label="y")
        return set(re.findall(r'\bid="([^"]+)"', svg))

    assert ids("A b")
    assert not ids("A b") & ids("a-b")
