"""Reads pages of reports as a browser does: tables, links, headings, scripts and texts."""

import csv
import io
from html.parser import HTMLParser
from urllib.parse import unquote

VOID = {"meta", "br", "img", "use", "path", "rect", "stop", "image", "input"}


class Page(HTMLParser):
    """A page that is whole: every element is closed, and every id is there once."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []  # rows of cells, the header first
        self.links: list[tuple[str, str]] = []  # name of the file and address
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[str, str]] = []
        self.scripts: list[str] = []
        self.titles: list[str] = []  # of points
        self.pictures: list[str] = []
        self.policy = ""
        self.text = ""
        self._open: list[str] = []
        self._parts: list[str] | None = None
        self.feed(text)
        self.close()
        assert self._open == []
        assert len(self.ids) == len(set(self.ids))

    def files(self) -> dict[str, list[list[str]]]:
        """Rows of the CSV files by name."""
        found = {}
        for name, address in self.links:
            kind, _, content = address.partition(",")
            assert kind == "data:text/csv;charset=utf-8"
            found[name] = list(csv.reader(io.StringIO(unquote(content))))
        return found

    def table(self, first: str) -> dict[str, list[str]]:
        """Cells by the label of the row, of the first table whose header begins with a text."""
        rows = next(rows for rows in self.tables if rows[0][0] == first)
        return {row[0]: row[1:] for row in rows}

    def handle_starttag(self, tag, attrs):
        self._note(tag, dict(attrs))
        if tag in VOID and tag != "use":
            return
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th", "h1", "h2", "h3", "script", "title"):
            self._parts = []

    def handle_startendtag(self, tag, attrs):
        self._note(tag, dict(attrs))

    def handle_data(self, data):
        self.text += data
        if self._parts is not None:
            self._parts.append(data)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        parts, self._parts = "".join(self._parts or []), None
        if tag in ("td", "th"):
            self.tables[-1][-1].append(parts)
        elif tag in ("h1", "h2", "h3"):
            self.headings.append((tag, parts))
        elif tag == "script":
            self.scripts.append(parts)
        elif tag == "title" and "svg" in self._open:
            self.titles.append(parts)

    def _note(self, tag, attributes):
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if attributes.get("role") == "img":
            self.pictures.append(attributes["aria-label"])
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "download" in attributes:
            self.links.append((attributes["download"], attributes["href"]))
            return
        for name in ("src", "href", "xlink:href"):
            if name in attributes and not attributes[name].startswith(("#", "data:")):
                self.fetched.append(attributes[name])
