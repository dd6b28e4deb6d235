"""`tilefold mechanisms`: studies of the layers and neurons of a retriever and of its base."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...studies.every_mechanism import STUDIES, EverySettings
from ...studies.findings import FINDINGS
from ...studies.study_file import read_result, write_result
from ..command_parser import CommandParser
from ..destination import check_writable
from ..settings_options import add_settings_options, settings_from_options
from ..study_command import add_study, run_study, write_pages
from ..study_progress import show_summary
from ..terminal import note

_OUT = "mechanisms"


def add_arguments(parser: CommandParser) -> None:
    """Adds a sub-parser for each study."""
    studies = parser.add_subparsers(
        metavar="STUDY", title="studies", dest="study", required=True, parser_class=CommandParser
    )
    for study in STUDIES:
        add_study(studies, study, _OUT, _write_report)
    every = studies.add_parser(
        "all",
        help="run all studies on one world, for one report",
        description="Run all studies on one world, for one report.",
    )
    add_settings_options(every, EverySettings)
    every.add_argument_group("results").add_argument(
        "--out", metavar="FOLDER", default=_OUT, help=f"results and reports (default: {_OUT})"
    )
    every.set_defaults(run_command=_run_all)
    every.add_config()
    own = studies.add_parser(
        FINDINGS.name,
        help=FINDINGS.purpose,
        description=f"{FINDINGS.purpose[0].upper()}{FINDINGS.purpose[1:]}.",
    )
    add_settings_options(own, FINDINGS.settings)
    results = own.add_argument_group("results")
    results.add_argument("--out", metavar="FILE", help="write findings as JSON")
    own.set_defaults(run_command=_run_findings)
    own.add_config()


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mechanisms`."""
    args.run_command(args)
    return 0


def _write_report(folder: Path) -> Path:
    """Writes the report of all results in a folder, as HTML and as Markdown."""
    from ...studies.report_pages import mechanisms_report

    results = []
    for study in STUDIES:
        try:
            results.append((study, read_result(folder / f"{study.name}.json", study)))
        except FileNotFoundError:
            continue
        except ValueError as error:
            note(f"The report is without {study.name}: {error}.")
    return write_pages(mechanisms_report(results), folder)


def _run_all(args: argparse.Namespace) -> None:
    settings = settings_from_options(args, EverySettings)
    chosen = [(study, settings.of_study(study)) for study in STUDIES]
    for study, own in chosen:
        run_study(study, own, args.out, _write_report)


def _run_findings(args: argparse.Namespace) -> None:
    settings = settings_from_options(args, FINDINGS.settings)
    check_writable(args.out, "--out")
    result = FINDINGS.run(settings)
    show_summary(FINDINGS.summary(result))
    if args.out:
        write_result(args.out, FINDINGS, result)
        note(f"Wrote {args.out}.")
