"""Pages that a browser shows: the search page, and the reference of the API; nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from starlette.responses import HTMLResponse, Response

_PART = re.compile(r"<(script|style)>(.*?)</\1>", re.S)


class HtmlPage:
    """A page whose policy allows its own script and style, by their digests, and no others.

    Args:
        text: of the page.
    """

    def __init__(self, text: str) -> None:
        self._body = text.encode()
        digests: dict[str, list[str]] = {"script": [], "style": []}
        for kind, part in _PART.findall(text):
            digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
            digests[kind].append(f"'sha256-{digest}'")
        self._policy = "; ".join(
            [
                "default-src 'none'",
                *(f"{kind}-src {' '.join(own)}" for kind, own in digests.items() if own),
                "connect-src 'self'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )

    def response(self) -> Response:
        """Returns the page with its policy."""
        headers = {"content-security-policy": self._policy, "cache-control": "no-cache"}
        return HTMLResponse(self._body, headers=headers)


def search_page() -> HtmlPage:
    """Returns the page for trying queries and comparing indexes."""
    return HtmlPage(_packaged("search_page.html"))


def reference_page(document: Mapping[str, Any]) -> HtmlPage:
    """Returns the reference of an API as a page without scripts.

    Args:
        document: of `openapi_document`.
    """
    operations = [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f'<h3 id="{_id(name)}">{html.escape(name)}</h3>{_listing(schema)}'
        for name, schema in document["components"]["schemas"].items()
    ]
    text = _packaged("reference_page.html")
    for mark, parts in (("<!--operations-->", operations), ("<!--schemas-->", schemas)):
        text = text.replace(mark, "\n".join(parts))
    return HtmlPage(text)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{status}</td><td>{html.escape(answer['description'])}</td>"
        f"<td>{_schema_link(answer['content'])}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    body = operation.get("requestBody", {}).get("content")
    takes = f"<p>Body: {_schema_link(body)}</p>" if body else ""
    lock = " <small>with token</small>" if "security" in operation else ""
    return (
        f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code>{lock}</h2>"
        f"<p>{html.escape(operation['summary'])}</p>{takes}"
        f"<table><thead><tr><th>status</th><th>meaning</th><th>body</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def _schema_link(content: Mapping[str, Any]) -> str:
    kind, what = next(iter(content.items()))
    name = what["schema"].get("$ref", "").rpartition("/")[2]
    return f'<a href="#{_id(name)}">{html.escape(name)}</a>' if name else html.escape(kind)


def _listing(schema: Mapping[str, Any]) -> str:
    return f"<pre tabindex='0'>{html.escape(json.dumps(schema, indent=2))}</pre>"


def _id(name: str) -> str:
    return html.escape(f"schema-{name}", quote=True)


def _packaged(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
