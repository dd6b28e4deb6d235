"""Writes the report of a training while it runs, when it ends and when it is interrupted."""

from __future__ import annotations

import importlib
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import TrainerCallback, TrainingArguments

from ..version import __version__

if TYPE_CHECKING:
    from ..report.training import TrainingRecord


class ReportCallback(TrainerCallback):
    """Writes an HTML page with the curves, measures, settings and versions of a training.

    The page is replaced with every checkpoint, so that one of a killed training shows what its last
    checkpoint has; at the end; after an evaluation that follows; and by `RetrieverTrainer` when the
    training is interrupted. A resumed training shows the whole curve, as its checkpoint keeps the
    log. While a training runs, a page that cannot be written is a warning.

    Lines of the log get "steps_per_second", without evaluation and checkpoints.

    Args:
        path: of the HTML file; a file that is there is replaced.
        title: of the page.
        settings: values by name, by the name of their group, shown besides the arguments of the
            training.

    Raises:
        ImportError: jinja2 or matplotlib is missing.

    Example:
        >>> trainer.add_callback(ReportCallback("report.html"))  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        *,
        title: str = "Training",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        importlib.import_module("tilefold.report")  # a missing package is an error before the work
        self.path, self.title, self.settings = Path(path), title, dict(settings or {})
        self._before: dict[str, float] = {}
        self._after: dict[str, float] = {}
        self._began = self._ended = False
        self._steps, self._seconds, self._step_began = 0, 0.0, 0.0
        self._written: TrainingRecord | None = None

    # ---- events of transformers.TrainerCallback ------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Notes that the evaluations that follow are of the training."""
        self._began, self._ended, self._after = True, False, {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Notes the time."""
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Adds the time that the step took."""
        self._seconds += time.perf_counter() - self._step_began
        self._steps += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Adds the speed to a line with a loss."""
        if logs and "loss" in logs and self._seconds:
            state.log_history[-1]["steps_per_second"] = self._steps / self._seconds
            self._steps, self._seconds = 0, 0.0

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **rest: Any
    ) -> None:
        """Notes the measures before the training and after it."""
        found = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
        if self._ended:
            self._after = found
            self._try(args, state)
        elif not self._began:
            self._before = found

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Writes the page."""
        self._try(args, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Writes the page."""
        self._ended = True
        self._try(args, state)

    # ---- writing -------------------------------------------------------------------------------

    def write(self, args: Any, state: Any, error: BaseException | None = None) -> None:
        """Writes the page; only the first of several processes does.

        Args:
            args: arguments of the training.
            state: of the trainer.
            error: that ended the training.

        Raises:
            OSError: it cannot be written.
        """
        if not state.is_world_process_zero:
            return
        from ..report.training import TrainingRecord, training_report

        record = TrainingRecord(
            self.title,
            self._status(state, error),
            [dict(line) for line in state.log_history],
            self._before,
            self._after,
            {**self.settings, **training_settings(args)},
            _versions(args),
        )
        if record != self._written or not self.path.exists():
            training_report(record).write(self.path)
            self._written = record

    def write_interrupted(self, args: Any, state: Any, error: BaseException) -> None:
        """Writes the page of a training that an error ends; a failure is a note of the error.

        An error before the training began, such as a checkpoint that cannot be read, leaves the
        page as it was.

        Args:
            args: arguments of the training.
            state: of the trainer.
            error: that ends the training.
        """
        if not self._began or self._ended:
            return
        try:
            self.write(args, state, error)
        except Exception as failure:  # must not hide what ended the training
            error.add_note(f"the report was not written: {failure}")

    def _try(self, args: Any, state: Any) -> None:
        try:
            self.write(args, state)
        except Exception as error:  # a page must not end a training
            warnings.warn(f"the report was not written: {error}", RuntimeWarning, stacklevel=3)

    def _status(self, state: Any, error: BaseException | None) -> str:
        steps = f"{state.global_step:,} of {state.max_steps:,} steps"
        if error is not None:
            return f"Interrupted after {steps} by {type(error).__name__}."
        if self._ended:
            return f"Finished after {steps}."
        return f"Not finished: {steps} were done when this page was written, with a checkpoint."


def training_settings(args: TrainingArguments) -> dict[str, dict[str, Any]]:
    """Returns the arguments that differ from their defaults and the seed, then those at defaults.

    Arguments of transformers that have its default value are left out; of an object, such as
    `accelerator_config`, there are the fields that differ.

    Args:
        args: of a training.
    """
    inherited = {one.name: one for one in fields(TrainingArguments)}
    changed: dict[str, Any] = {}
    unchanged: dict[str, Any] = {}
    for one in fields(args):
        value = getattr(args, one.name)
        if is_dataclass(value):
            value = _changed_fields(value)
        if one.name == "seed" or _differs(value, one):
            changed[one.name] = value
        elif value is not None and _differs(value, inherited.get(one.name)):
            unchanged[one.name] = value
    return {"Training": changed, "Training, at the defaults": unchanged}


def _changed_fields(value: Any) -> dict[str, Any]:
    every = {one.name: (getattr(value, one.name), one) for one in fields(value)}
    return {name: own for name, (own, one) in every.items() if _differs(own, one)}


def _differs(value: Any, argument: Any) -> bool:
    """Returns whether a value is not the default; True without an argument.

    Of an argument that is off, transformers turns None or "" into False or an empty list.
    """
    if argument is None:
        return True
    factory = argument.default_factory
    default = argument.default if factory is MISSING else factory()
    return bool(value != default and (value or default))


def _versions(args: Any) -> dict[str, str]:
    return {
        "tilefold": __version__,
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": str(args.device),
        "processes": str(args.world_size),
    }
