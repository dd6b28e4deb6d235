"""`tilefold aar`: adapts a retriever to the passages that a language model prefers."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...studies.aar import AAR
from ...studies.study_file import read_result
from ..command_parser import CommandParser
from ..study_command import add_study, write_pages
from . import aar_evaluate, aar_preferences

_OUT = "aar"


def add_arguments(parser: CommandParser) -> None:
    """Adds a sub-parser for the whole pipeline, and one for each stage that runs alone."""
    commands = parser.add_subparsers(
        metavar="COMMAND", title="commands", dest="study", required=True, parser_class=CommandParser
    )
    add_study(commands, AAR, _OUT, _write_report, name="run")
    for module, name, purpose in (
        (aar_preferences, "preferences", "write a training set with positives that an LM prefers"),
        (aar_evaluate, "evaluate", "measure a target LM on a task, with passages of a run"),
    ):
        own = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
        )
        module.add_arguments(own)
        own.set_defaults(run_command=module.run)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold aar`."""
    args.run_command(args)
    return 0


def _write_report(folder: Path) -> Path:
    """Writes the report of a run, as HTML and as Markdown."""
    from ...studies.report_pages import aar_report

    return write_pages(aar_report(AAR, read_result(folder / "aar.json", AAR)), folder)
