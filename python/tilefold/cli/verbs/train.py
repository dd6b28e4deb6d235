"""`tilefold train`: trains a retriever from files, and evaluates it before and after."""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files.atomic import replacing_text
from ...files.yaml_settings import read_settings
from ..command_parser import CommandParser
from ..destination import check_writable
from ..shown_warnings import warnings_as_facts
from ..sources import check_source
from ..terminal import count, fact, heading, note, say, table, title

_NEEDED = """\
--model_name_or_path NAME  folder or name of the encoder, such as minilm
--train_path PATH          training file or folder, in any format of tilefold
--output_dir FOLDER        of the model and checkpoints (trainer_output)
All others have defaults, which --list-arguments shows."""


def add_arguments(parser: CommandParser) -> None:
    """Adds --config and --list-arguments; `tilefold.train.arguments` has all other options."""
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file of arguments; the command line overrides it"
    )
    parser.add_argument(
        "--list-arguments", action="store_true", help="show all arguments and their defaults"
    )
    parser.add_argument_group("arguments, here or in the file", _NEEDED)
    parser.usage = "%(prog)s [--config FILE] [--NAME VALUE ...]"
    parser.keeps_unknown = True
    parser.set_defaults(unknown=[])


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold train`."""
    if args.config is not None and not Path(args.config).is_file():
        raise FileNotFoundError(f"--config {args.config}: there is no such file")
    try:
        from ...distributed.processes import leave
        from ...train.argument_list import argument_list
        from ...train.yaml_arguments import parse, parser, resolved
    except ImportError:
        _check_paths(args.unknown, args.config)
        raise
    if args.list_arguments:
        for line in argument_list(parser(), args.command).splitlines():
            say(line)
        return 0
    status = _train(parse(args.unknown, args.config), resolved(args.unknown, args.config))
    leave()
    return status


def _check_report(training: Any, output: Path) -> None:
    """Checks before the work that the report can be written; the folder of outputs is created."""
    if training.report is None:
        return
    if Path(training.report).absolute().parent != output.absolute() or output.exists():
        check_writable(training.report, "--report")
    importlib.import_module("tilefold.report")  # a missing package is an error before the work


def _check_paths(words: Sequence[str], config: str | None) -> None:
    """Checks the paths of data where the real parser cannot be imported."""
    settings = {} if config is None else read_settings(config)
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("train_path", "dev_path"):
        reader.add_argument(f"--{name}", default=settings.get(name))
    try:
        paths = vars(reader.parse_known_args(list(words))[0])
    except argparse.ArgumentError:  # an option without a value
        return
    for path in filter(None, paths.values()):
        check_source(path)


def _train(arguments: Any, resolved_arguments: str) -> int:
    from ...data import own_documents
    from ...train.checkpoints import MODEL, remove_unfinished
    from ...train.model_settings import model_settings
    from ...train.trainer_setup import prepare
    from ..query_removal import show_removed
    from ..training_log import show_lines, show_steps

    model, data, training = arguments
    output = Path(training.output_dir)
    resume = _to_resume(training, output)
    _check_report(training, output)
    first = training.process_index == 0
    with warnings_as_facts("warning"):
        trainer = prepare(arguments)
        show_lines(trainer)
        if first:
            output.mkdir(parents=True, exist_ok=True)
            name = "train.yaml" if resume is None else f"train-from-{resume.name}.yaml"
            written = output / name
            save_arguments(written, resolved_arguments)
            if resume is not None:
                remove_unfinished(output)
            title(f"Training {model.model_name_or_path} on {data.train_path}")
            _show_settings(model_settings(model, data))
            _show_teacher(trainer.draw.data, training)
            _show_views(trainer.inputs.rewrites, training)
            n = trainer.draw.data
            fact("queries", f"{len(n):,} on {count(len(n.documents), 'passage')}")
            show_removed(own_documents(n, training.removal), training.removal)
            if trainer.validation is not None:
                rule = trainer.validation.remove_query
                show_removed(own_documents(trainer.validation.collection, rule), rule)
    before = trainer.evaluate() if trainer.can_evaluate else {}
    begin = time.perf_counter()
    with show_steps(trainer):
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    seconds = time.perf_counter() - begin
    after = trainer.evaluate() if trainer.can_evaluate else {}
    trainer.save_model()
    for report in trainer.reports:
        report.write(training, trainer.state)
    if first:
        _report(before, after)
        note(
            f"{count(trainer.state.global_step, 'step')} in {seconds:,.0f} s; the model is in "
            f"{output / MODEL}, its arguments in {written}."
        )
        if training.report is not None:
            note(f"Wrote curves, measures and settings to {training.report}.")
    return 0


def _show_settings(settings: Any) -> None:
    """Shows settings of the model that no argument gives, by where they are from."""
    for origin, names in (("checkpoint", settings.own), ("defaults", settings.defaults)):
        texts = {name: str(settings.values[name]) for name in names}
        shown = [
            f"{name} {text!r}" if " " in text else f"{name} {text}"
            for name, text in texts.items()
            if text
        ]
        if shown:
            fact(origin, ", ".join(shown))


def _show_teacher(data: Any, training: Any) -> None:
    """Shows which teacher's scores are used, or that those of the training file are not."""
    if training.teacher_model is not None:
        fact("teacher", f"{training.teacher_model}, in place of scores in the file")
        return
    if data.positive_scores is None and data.negative_scores is None:
        return
    weight = training.distillation_weight
    unused = training.distillation_schedule.is_zero
    fact(
        "teacher scores",
        "in the file, not used: --distillation_weight is 0" if unused else f"weight {weight}",
    )


def _show_views(rewrites: Sequence[Sequence[str]] | None, training: Any) -> None:
    """Shows what the invariance loss compares, and how many queries have no rewrite."""
    if rewrites is not None:
        total, none = sum(map(len, rewrites)), sum(not texts for texts in rewrites)
        without = f"; {count(none, 'query')} without any" if none else ""
        fact("rewrites", f"{total:,}, {training.n_query_views} of a query in a step{without}")
    if training.document_windows:
        widths = ", ".join(map(str, training.document_windows))
        fact("windows", f"{widths} words, {training.n_document_views} of a passage in a step")


def save_arguments(path: Path, arguments: str) -> None:
    """Writes the arguments of a training as YAML; a file of another kind is not replaced.

    Raises:
        FileExistsError: the name is that of a user's own file.
    """
    if path.exists() and not path.read_text("utf-8", "replace").startswith("# tilefold "):
        raise FileExistsError(f"{path} is no file of tilefold; rename it, or name another folder")
    with replacing_text(path) as file:
        file.write(arguments)


def _report(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    if not after:
        return
    heading("On the validation queries")
    columns = {"before": before, "after": after}
    table(
        [name.removeprefix("eval_") for name in after],
        {name: [f"{values[m]:.4f}" for m in after] for name, values in columns.items()},
    )


def _to_resume(training: Any, output: Path) -> Path | None:
    """Returns the checkpoint to resume from.

    Raises:
        ValueError: the folder has a training that is not to be resumed, or none to resume.
    """
    from ...train.checkpoints import MODEL, check_resumable, last_checkpoint

    wanted, last = training.resume_from_checkpoint, last_checkpoint(output)
    if wanted in (None, "", "False", "false"):
        # Of several processes the first checks: it writes there before others may have looked.
        if (last is not None or (output / MODEL).exists()) and training.process_index == 0:
            raise ValueError(
                f"output_dir: {output} holds a training already; resume it by "
                "--resume_from_checkpoint last, or name another folder"
            )
        return None
    if wanted in ("last", "True", "true"):
        if last is None:
            raise ValueError(f"resume_from_checkpoint: {output} has no finished checkpoint")
        wanted = last
    check_resumable(Path(wanted))
    return Path(wanted)
