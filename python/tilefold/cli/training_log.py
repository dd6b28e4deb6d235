"""Shows the progress of `tilefold train`: a line per log, and a bar on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from .terminal import say

_SHOWN = {"loss": "8.4f", "learning_rate": "9.2e", "n_negatives": "8.1f", "negatives_age": "6.0f"}


class Lines(TrainerCallback):
    """Writes a line for each log that has a loss, and one for each evaluation."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Writes the line of a log; see `transformers.TrainerCallback`."""
        if not state.is_world_process_zero or not logs:
            return
        measured = {n.removeprefix("eval_"): v for n, v in logs.items() if n.startswith("eval_")}
        if "loss" in logs:
            shown = {name: form for name, form in _SHOWN.items() if name in logs}
            parts = (f"{name} {float(logs[name]):{form}}" for name, form in shown.items())
            say(f"  step {state.global_step:>6}  {'  '.join(parts)}")
        elif measured:
            parts = (f"{name} {float(value):.4f}" for name, value in measured.items())
            say(f"  step {state.global_step:>6}  {'  '.join(parts)}")


class Bar(ProgressCallback):
    """The bar of transformers without its lines."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Leaves lines to `Lines`."""


def show_lines(trainer: Any) -> None:
    """Replaces the callbacks of transformers that print."""
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    trainer.add_callback(Lines())
    if sys.stderr.isatty() and not trainer.args.disable_tqdm:
        trainer.add_callback(Bar())
