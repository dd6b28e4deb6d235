"""The table that ends a bench run: one line per promise of speed or memory, met or missed.

The verdict needs every peer that the promise names: without one of them there is a ratio, but no
verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One promise; `differing` is the number of ids in which the furthest peer differs, by ties."""

    case: str
    ours: str = ""
    ratio: str = ""
    target: str = ""
    verdict: str = ""
    differing: str = ""
    peers: str = ""


_HEADER = Line("case", "tilefold", "ratio", "target", "verdict", "ids off", "peers")


class Table:
    """Lines in the order in which the cases ran."""

    def __init__(self, *, quick: bool) -> None:
        self.lines: list[Line] = []
        self._quick = quick

    def add(
        self,
        case: str,
        ours: str,
        ratio: float | None,
        *,
        target: float | None = None,
        at_most: bool = False,
        against: str = "",
        peers: str = "",
        differing: int | None = None,
        missing: Iterable[str] = (),
    ) -> Line:
        """Adds a line, and judges it.

        Args:
            case: what was measured.
            ours: our figure, with its unit.
            ratio: what the target is about; None if no peer was there.
            target: what the ratio must reach; None if nothing was promised.
            at_most: the ratio must not exceed the target, instead of reaching it.
            against: names what the ratio is relative to.
            peers: the figures of the peers.
            differing: ids in which a peer differs by rounding; None where no ids were compared.
            missing: peers that the promise names and that are not installed.
        """
        if target is None:
            goal, verdict = against or "-", "-"
        else:
            goal = f"{'<=' if at_most else '>='} {target:g} {against}".rstrip()
            met = ratio is not None and (ratio <= target if at_most else ratio >= target)
            verdict = "met" if met else "MISSED"
        if lacking := ", ".join(missing):
            verdict = f"no {lacking}"
        elif self._quick:
            verdict = "quick"
        shown = "-" if ratio is None else f"{ratio:.2f}"
        off = "" if differing is None else f"{differing:,}"
        line = Line(case, ours, shown, goal, verdict, off, peers)
        self.lines.append(line)
        return line

    def render(self) -> list[str]:
        """Lines of text in columns."""
        lines = [_HEADER, *self.lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return [text[0], "-" * max(map(len, text)), *text[1:]]


def milliseconds(seconds: float) -> str:
    """Three digits, or whole milliseconds."""
    ms = 1e3 * seconds
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"


def describe(machine: dict[str, Any]) -> str:
    """What `tilefold.testing.machine` found, in one line."""
    versions = ", ".join(f"{p} {machine[p] or 'missing'}" for p in ("numpy", "torch", "faiss"))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}; "
        f"row {machine['row']}, {machine['threads']} threads; "
        f"commit {machine['commit'] or 'unknown'}; python {machine['python']}, {versions}"
    )
