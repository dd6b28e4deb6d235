"""heartbeat(): lines while a step runs, none on a terminal, no thread left behind."""

import sys
import threading
import time

import pytest

from tilefold.cli import heartbeat as module
from tilefold.cli.heartbeat import heartbeat


def test_a_long_step_writes_lines_until_it_ends(monkeypatch, capsys):
    monkeypatch.setattr(module, "INTERVAL", 0.01)
    with heartbeat("encoding documents"):
        deadline = time.monotonic() + 30
        out = ""
        while out.count("encoding documents") < 2 and time.monotonic() < deadline:
            out += capsys.readouterr().out
            time.sleep(0.01)
    assert out.count("encoding documents: 0 s so far") >= 2
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().out == ""
    assert "tilefold-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_short_step_and_a_terminal_write_nothing(monkeypatch, capsys):
    with heartbeat("short"):
        pass
    monkeypatch.setattr(module, "INTERVAL", 0.001)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with heartbeat("with a bar"):
        time.sleep(0.05)
    assert capsys.readouterr().out == ""


def test_an_error_ends_the_lines():
    with pytest.raises(ValueError, match="broken"), heartbeat("failing"):
        raise ValueError("broken")
    assert "tilefold-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_the_interval_keeps_the_promise_of_thirty_seconds():
    assert module.INTERVAL <= 30
