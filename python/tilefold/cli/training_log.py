"""Shows the progress of `tilefold train`: a line per log, and its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..progress import Progress, show_progress
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


class Steps(TrainerCallback):
    """Reports the number of steps to a callback."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Reports the step; see `transformers.TrainerCallback`."""
        self._progress(state.global_step, state.max_steps)


def show_lines(trainer: Any) -> None:
    """Replaces the callbacks of transformers that print."""
    for theirs in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(theirs)
    trainer.add_callback(Lines())


@contextmanager
def show_steps(trainer: Any) -> Iterator[None]:
    """Shows how many steps are done while a `with` block trains."""
    shown = trainer.is_world_process_zero() and not trainer.args.disable_tqdm
    with show_progress("train", show=shown) as display:
        trainer.add_callback(steps := Steps(display))
        yield
        trainer.remove_callback(steps)
