"""`tilefold invar`: trains a language model to retrieve invariantly, then to answer."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...studies.invar import INVAR
from ...studies.study_file import read_result
from ..command_parser import CommandParser
from ..study_command import add_study, write_pages

_OUT = "invar"


def add_arguments(parser: CommandParser) -> None:
    """Adds a sub-parser for the whole pipeline."""
    commands = parser.add_subparsers(
        metavar="COMMAND", title="commands", dest="study", required=True, parser_class=CommandParser
    )
    add_study(commands, INVAR, _OUT, _write_report, name="run")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold invar`."""
    args.run_command(args)
    return 0


def _write_report(folder: Path) -> Path:
    """Writes the report of a run, as HTML and as Markdown."""
    from ...studies.report_pages import invar_report

    return write_pages(invar_report(INVAR, read_result(folder / "invar.json", INVAR)), folder)
