"""`tilefold mechanisms findings`: what several seeds found, claim by claim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cli.destination import check_writable
from ...cli.results import as_json
from ...cli.terminal import heading, note, table
from ...files.atomic import replacing_text
from ..study_file import read_study

# What may differ: retrievers have seeds, too, and batches change nothing.
_OWN = ("seed", "model", "document_model", "batch_size")


def show_findings(runs: Sequence[Path], out: str | None) -> None:
    """Writes a table for each claim: differences of every run, their mean, and its interval.

    Args:
        runs: folders that `probe` and `neurons` wrote to, one for each seed.
        out: a file for the same numbers as JSON.

    Raises:
        FileNotFoundError: a folder without results.
        ValueError: runs that were asked for other things than a seed, or of another version.
    """
    from ...report.number_format import interval, number

    check_writable(out, "--out")
    found = {
        "C1, probes": _gathered(runs, "probe", _discrimination),
        "C2, queries": _gathered(runs, "neurons", lambda run: _spread(run, "queries")),
        "C2, passages": _gathered(runs, "neurons", lambda run: _spread(run, "passages")),
    }
    if not any(found.values()):
        raise FileNotFoundError(f"no results of probe or neurons in {', '.join(map(str, runs))}")
    for claim, rows in found.items():
        if rows:
            heading(f"{claim}: retriever minus base, in {len(rows[0]['differences'])} runs")
            table(
                [row["name"] for row in rows],
                {
                    "mean, 95% interval": [
                        interval([row["mean"], row["low"], row["high"]], signed=True)
                        for row in rows
                    ],
                    "of each run": [
                        " ".join(number(value, 3, signed=True) for value in row["differences"])
                        for row in rows
                    ],
                },
            )
    note("Intervals are of the mean over runs (Student's t); one run alone has none.")
    if out:
        with replacing_text(out) as file:
            file.write(as_json(found))
        note(f"Wrote {out}.")


def _gathered(runs: Sequence[Path], study: str, read: Any) -> list[dict[str, Any]]:
    from .claims import mean_of_runs

    files = [run / f"{study}.json" for run in runs]
    loaded = [read_study(path) for path in files if path.is_file()]
    if not loaded:
        return []
    if len(loaded) < len(runs):
        raise FileNotFoundError(f"some of the runs have no {study}.json, and others have")
    seeds = [run["asked"].get("seed") for run in loaded]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"runs of {study} have the seeds {seeds}; each should be another")
    asked = [{k: v for k, v in run["asked"].items() if k not in _OWN} for run in loaded]
    for one in asked[1:]:
        if one != asked[0]:
            names = sorted(k for k in {*one, *asked[0]} if one.get(k) != asked[0].get(k))
            raise ValueError(f"runs of {study} differ in {', '.join(names)}, and not in seed alone")
    values: dict[str, list[float]] = {}
    for run in loaded:
        for name, value in read(run).items():
            values.setdefault(name, []).append(value)
    lacking = next((name for name, of in values.items() if len(of) < len(loaded)), None)
    if lacking:
        raise ValueError(f"some of the runs of {study} have no {lacking!r}, and others have")
    return [
        {"name": name, **mean_of_runs(differences)._asdict(), "differences": differences}
        for name, differences in values.items()
    ]


def _discrimination(run: dict[str, Any]) -> dict[str, float]:
    return {
        f"{row['probe']}, of {row['n_candidates']}": row["difference"][0]
        for row in run["discrimination"]
    }


def _spread(run: dict[str, Any], side: str) -> dict[str, float]:
    found = {row["name"]: row["difference"][0] for row in run[side]["spread"]}
    return {name: float("nan") if value is None else value for name, value in found.items()}
