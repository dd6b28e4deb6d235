"""Tables of reports in a browser: sorted by any column, filtered by text, plain without scripts."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from tilefold.report import Report, Section, Table

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
ROWS = [
    ["what is ten", "+0.250", "10, 12"],
    ["a fox & a hen", "-1.5", "2 (1 missed)"],
    ["Why FOXES?", "none", "all missed"],
    ["seven", "1,200", "7"],
]
# Clicks on each header twice, then filters; the order of rows after each step is the result.
STEPS = """
const table = document.querySelector("table"), found = [];
const note = () => found.push([...table.rows].slice(1).filter((r) => !r.hidden)
  .map((r) => r.cells[0].textContent));
table.querySelectorAll("th button").forEach((button) => {
  button.click(); note(); button.click(); note();
});
const input = document.querySelector("input");
input.value = " fox "; input.dispatchEvent(new Event("input")); note();
found.push(document.querySelector("output").textContent);
found.push([...table.querySelectorAll("[aria-sort]")].map((h) => h.textContent));
document.body.textContent = JSON.stringify(found);
"""


def a_page() -> str:
    table = Table(["query", "difference", "ranks"], ROWS, "Queries.", sortable=True)
    return Report("Tables", "Summary.", [Section("One", [table])]).html()


def shown(html: str, folder: Path) -> str:
    """The document that a browser has after it ran the scripts of a page."""
    page = folder / "page.html"
    page.write_text(html)
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    child = subprocess.run(
        [BROWSER, *flags.split(), f"--user-data-dir={folder}/user", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_without_scripts_it_is_a_plain_table():
    html = a_page().partition("<script>")[0]
    assert "<input" not in html
    assert "<button" not in html
    assert html.count("<tr>") == 1 + len(ROWS)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_rows_are_sorted_by_any_column_and_filtered(tmp_path):
    html = re.sub(r"<meta http-equiv[^>]*>", "", a_page())  # whose policy forbids these steps
    found = shown(html.replace("</body>", f"<script>{{{STEPS}}}</script></body>"), tmp_path)
    ten, fox, why, seven = (row[0] for row in ROWS)
    orders = json.loads(re.search(r"<body>(.*)</body>", found, re.DOTALL)[1].replace("&amp;", "&"))
    assert orders == [
        [fox, seven, ten, why],
        [why, ten, seven, fox],
        [fox, ten, seven, why],
        [seven, ten, fox, why],  # a missing value is last either way
        [fox, seven, ten, why],
        [why, ten, seven, fox],
        [why, fox],
        "2 of 4",
        ["ranks"],
    ]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_policy_lets_the_script_of_the_page_run_and_no_other(tmp_path):
    other = "<script>document.title = 'changed'</script></body>"
    found = shown(a_page().replace("</body>", other), tmp_path)
    assert "<output>4 of 4</output>" in found
    assert "<title>Tables</title>" in found
