"""show_steps(): the steps of a training, shown while it runs and closed when it fails."""

import io
import sys
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("transformers")
from tilefold.cli.training_log import show_steps


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Trainer:
    """The parts of a trainer that the display uses."""

    def __init__(self, first=True, disable_tqdm=False):
        self.args = SimpleNamespace(disable_tqdm=disable_tqdm)
        self.first, self.callbacks = first, []
        self.add_callback, self.remove_callback = self.callbacks.append, self.callbacks.remove

    def is_world_process_zero(self):
        return self.first

    def end_step(self, step, steps):
        for callback in self.callbacks:
            state = SimpleNamespace(global_step=step, max_steps=steps)
            callback.on_step_end(self.args, state, None)


def terminal(monkeypatch):
    """Called by the test itself: pytest puts its own stderr back after the setup of fixtures."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_a_training_shows_its_steps(monkeypatch):
    stderr, trainer = terminal(monkeypatch), Trainer()
    with show_steps(trainer):
        for step in range(1, 5):
            trainer.end_step(step, 4)
    assert "train" in stderr.getvalue()
    assert not trainer.callbacks


def test_a_training_that_fails_closes_the_display(monkeypatch):
    stderr, trainer = terminal(monkeypatch), Trainer()
    with pytest.raises(ValueError, match="broken"), show_steps(trainer):
        raise ValueError("broken")
    assert "train" in stderr.getvalue()
    assert not [t for t in threading.enumerate() if t.name == "tilefold-progress"]
    assert not trainer.callbacks


@pytest.mark.parametrize("options", [{"first": False}, {"disable_tqdm": True}])
def test_other_processes_and_disable_tqdm_show_nothing(monkeypatch, options):
    stderr, trainer = terminal(monkeypatch), Trainer(**options)
    with show_steps(trainer):
        trainer.end_step(1, 4)
    assert stderr.getvalue() == ""
