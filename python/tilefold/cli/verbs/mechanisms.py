"""`tilefold mechanisms`: studies of the layers and neurons of a retriever and of its base."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from ...files.steps import Steps
from ...studies.findings import FINDINGS
from ...studies.neurons import NEURONS
from ...studies.probe import PROBE
from ...studies.study import Study
from ...studies.study_file import read_result, write_result
from ..command_parser import CommandParser
from ..destination import check_folder, check_writable
from ..saved_options import save_options
from ..settings_options import add_settings_options, options_of_settings, settings_from_options
from ..sources import check_source
from ..study_progress import TerminalReporter, show_summary
from ..terminal import note

_STUDIES: tuple[Study[Any, Any], ...] = (PROBE, NEURONS)  # whose results make a report
_OUT = "mechanisms"


def add_arguments(parser: CommandParser) -> None:
    """Adds a sub-parser for each study."""
    studies = parser.add_subparsers(
        metavar="STUDY", title="studies", dest="study", required=True, parser_class=CommandParser
    )
    for study in (*_STUDIES, FINDINGS):
        own = studies.add_parser(
            study.name,
            help=study.purpose,
            description=f"{study.purpose[0].upper()}{study.purpose[1:]}.",
        )
        add_settings_options(own, study.settings)
        results = own.add_argument_group("results")
        if study is FINDINGS:
            results.add_argument("--out", metavar="FILE", help="write findings as JSON")
            own.set_defaults(run_study=_run_findings)
        else:
            words = f"results and reports (default: {_OUT})"
            results.add_argument("--out", metavar="FOLDER", default=_OUT, help=words)
            own.set_defaults(run_study=partial(_run_study, study))
        own.add_config()


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mechanisms`."""
    args.run_study(args)
    return 0


def _run_study(study: Study[Any, Any], args: argparse.Namespace) -> None:
    settings = settings_from_options(args, study.settings)
    if getattr(settings, "data", None) is not None:
        check_source(settings.data)
    folder = check_folder(args.out, "--out")
    steps = Steps(folder / "steps")
    result = study.run(settings, steps=steps, progress=TerminalReporter())
    show_summary(study.summary(result))
    if steps.resumed:
        note(f"{steps.resumed} steps were kept from an earlier run.")
    write_result(folder / f"{study.name}.json", study, result)
    options = {**options_of_settings(settings), "out": args.out}
    save_options(options, folder / f"{study.name}.yaml")
    report = _write_report(folder)
    note(f"Wrote {report}, the same as Markdown, and {study.name}.json.")


def _write_report(folder: Path) -> Path:
    """Writes the report of all results in a folder, as HTML and as Markdown."""
    from ...studies.report_pages import mechanisms_report

    results = []
    for study in _STUDIES:
        try:
            results.append((study, read_result(folder / f"{study.name}.json", study)))
        except FileNotFoundError:
            continue
        except ValueError as error:
            note(f"The report is without {study.name}: {error}.")
    report, path = mechanisms_report(results), folder / "report.html"
    report.write(path)
    report.write(path.with_suffix(".md"))
    return path


def _run_findings(args: argparse.Namespace) -> None:
    settings = settings_from_options(args, FINDINGS.settings)
    check_writable(args.out, "--out")
    result = FINDINGS.run(settings)
    show_summary(FINDINGS.summary(result))
    if args.out:
        write_result(args.out, FINDINGS, result)
        note(f"Wrote {args.out}.")
