"""`tilefold mechanisms`: what training a retriever did to the layers and neurons of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...files.steps import Steps
from ...studies.neurons import neuron_study
from ...studies.probe import probe_study
from ...studies.study_file import read_study, write_study
from ...studies.subject import add_subject_arguments, check_subject, dashed
from ..destination import check_folder
from ..request import add_input, save_request, settings_of
from ..terminal import fact, note

_STUDIES = {"probe": probe_study, "neurons": neuron_study}
_OUT = "mechanisms"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold mechanisms`."""
    words = "probe: which layers tell a relevant passage from others; neurons: what facts go "
    words += "through; findings: what several studies found, one folder of --runs each"
    add_input(parser, "study", words)
    add_subject_arguments(parser)
    for study in _STUDIES.values():
        study.add_arguments(parser)
    option = parser.add_argument_group("results").add_argument
    words = f"results and reports (default: {_OUT}); of findings, a file of JSON"
    option("--out", metavar="PATH", help=words)
    runs = "findings: folders of studies of other seeds"
    option("--runs", nargs="+", action="extend", metavar="FOLDER", help=runs)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mechanisms`."""
    if args.study == "findings":
        return _findings(_of_study(args))
    if args.study not in _STUDIES:
        raise ValueError(
            f"tilefold mechanisms has {', '.join([*_STUDIES, 'findings'])}, got {args.study!r}"
        )
    if args.runs:
        raise ValueError("--runs goes with findings")
    study = _STUDIES[args.study]
    args = _of_study(args)
    check_subject(args)
    folder = check_folder(args.out or _OUT, "--out")
    study.check(args)
    steps = Steps(folder / "steps")
    found = study.run(args, steps)
    if steps.resumed:
        fact("resumed", f"{steps.resumed} steps had been done before")
    asked = {name: value for name, value in settings_of(args).items() if name != "out"}
    write_study(folder / f"{args.study}.json", asked, found)
    save_request(args, folder / f"{args.study}.yaml")
    note(f"Wrote {_report(folder)}, beside it the same as Markdown, and {args.study}.json.")
    return 0


def _of_study(args: argparse.Namespace) -> argparse.Namespace:
    """Without the options of other studies.

    Raises:
        ValueError: one of them was given.
    """
    others = {name: study.add_arguments for name, study in _STUDIES.items() if name != args.study}
    if args.study == "findings":
        others["probe and neurons"] = add_subject_arguments
    own = vars(args).copy()
    for name, add in others.items():
        alone = argparse.ArgumentParser(add_help=False)
        add(alone)
        for option, default in vars(alone.parse_args([])).items():
            if own.pop(option) != default:
                raise ValueError(f"--{dashed(option)} goes with {name}, not with {args.study}")
    return argparse.Namespace(**own)


def _report(folder: Path) -> Path:
    """Of the studies in the folder, as HTML and as Markdown; where the first of them is."""
    from ...studies.report_pages import report_of

    studies = {}
    for name in _STUDIES:
        try:
            studies[name] = read_study(folder / f"{name}.json")
        except FileNotFoundError:
            continue
        except ValueError as error:
            note(f"The report is without {name}: {error}.")
    report, path = report_of(studies), folder / "report.html"
    report.write(path)
    report.write(path.with_suffix(".md"))
    return path


def _findings(args: argparse.Namespace) -> int:
    from ...studies.findings.findings_study import show_findings

    if not args.runs:
        raise ValueError("findings needs --runs FOLDER ..., what the other studies wrote")
    show_findings([Path(run) for run in args.runs], args.out)
    return 0
