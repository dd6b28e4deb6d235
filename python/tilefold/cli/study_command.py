"""Commands of studies: options from settings, results and a report in a folder."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.steps import Steps
from ..studies.settings import StudySettings
from ..studies.study import Study
from ..studies.study_file import write_result
from .command_parser import CommandParser
from .destination import check_folder
from .saved_options import save_options
from .settings_options import add_settings_options, options_of_settings, settings_from_options
from .sources import check_source
from .study_progress import TerminalReporter, show_summary
from .terminal import note

if TYPE_CHECKING:
    from ..report import Report

WriteReport = Callable[[Path], Path]


def add_study(
    studies: Any, study: Study[Any, Any], out: str, write_report: WriteReport, name: str = ""
) -> None:
    """Adds a command that runs a study.

    Args:
        studies: sub-parsers of a verb.
        study: what is run.
        out: default folder of results.
        write_report: writes the report of the results in a folder, and returns its path.
        name: of the command; by default that of the study.
    """
    own: CommandParser = studies.add_parser(
        name or study.name,
        help=study.purpose,
        description=f"{study.purpose[0].upper()}{study.purpose[1:]}.",
    )
    add_settings_options(own, study.settings)
    own.add_argument_group("results").add_argument(
        "--out", metavar="FOLDER", default=out, help=f"results and reports (default: {out})"
    )
    own.set_defaults(run_command=partial(_run, study, write_report))
    own.add_config()


def write_pages(report: Report, folder: Path) -> Path:
    """Writes a report as HTML and as Markdown, and returns the path of the first.

    Args:
        report: of one or more studies.
        folder: of their results.
    """
    path = folder / "report.html"
    report.write(path)
    report.write(path.with_suffix(".md"))
    return path


def run_study(
    study: Study[Any, Any], settings: StudySettings, out: str, write_report: WriteReport
) -> None:
    """Runs a study, shows its summary, and writes its result, settings and the report.

    Args:
        study: what is run.
        settings: of the study.
        out: folder of results, which is created.
        write_report: writes the report of the results in a folder, and returns its path.
    """
    importlib.import_module("tilefold.report")  # a missing package is an error before the work
    if getattr(settings, "data", None) is not None:
        check_source(settings.data)  # type: ignore[attr-defined]
    folder = check_folder(out, "--out")
    steps = Steps(folder / "steps")
    result = study.run(settings, steps=steps, progress=TerminalReporter())
    show_summary(study.summary(result))
    if steps.resumed:
        kept = "step was" if steps.resumed == 1 else "steps were"
        note(f"{steps.resumed} {kept} kept from an earlier run.")
    write_result(folder / f"{study.name}.json", study, result)
    save_options({**options_of_settings(settings), "out": out}, folder / f"{study.name}.yaml")
    report = write_report(folder)
    note(f"Wrote {report}, the same as Markdown, and {study.name}.json.")


def _run(study: Study[Any, Any], write_report: WriteReport, args: argparse.Namespace) -> None:
    run_study(study, settings_from_options(args, study.settings), args.out, write_report)
