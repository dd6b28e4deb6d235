"""show_progress() and track(): a bar on a terminal, lines elsewhere, closed after exceptions."""

import io
import sys
import threading
import time

import pytest

from tilefold.progress import INTERVAL, Progress, show_progress, track

LIMIT = 30  # seconds of the machine's time before a test gives up on a thread


class FakeClock:
    """Time that passes in `sleep` alone, which returns when the display has done its part."""

    def __init__(self):
        self.seconds = 0.0
        self.wakes_at = None

    def now(self):
        return self.seconds

    def wait(self, finished, seconds):
        due = self.seconds + seconds
        self.wakes_at = due
        while not finished.wait(0.001):
            if self.seconds >= due:
                return False
        return True

    def sleep(self, seconds):
        end = self.seconds + seconds
        while self._next_wake() <= end:
            due, self.wakes_at = self.wakes_at, None
            self.seconds = due
        self.seconds = end

    def _next_wake(self):
        deadline = time.monotonic() + LIMIT
        while self.wakes_at is None:
            assert time.monotonic() < deadline, "no display waits for the clock"
            time.sleep(0.001)
        return self.wakes_at


class Terminal(io.StringIO):
    def isatty(self):
        return True


def threads():
    return [t for t in threading.enumerate() if t.name == "tilefold-progress"]


def test_the_interval_keeps_the_promise_of_thirty_seconds():
    assert 20 <= INTERVAL <= 30


def test_a_step_of_70_seconds_writes_two_lines():
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("encode documents", 200, stream=stream, clock=clock) as display:
        display.advance(50)
        clock.sleep(40)
        display.advance(100)
        clock.sleep(30)
    assert stream.getvalue().splitlines() == [
        "  encode documents 25%: 25 s so far",
        "  encode documents 75%: 50 s so far",
    ]
    assert not threads()


def test_a_call_that_reports_nothing_writes_lines_too():
    """As a call into compiled code does; then time is all that is known."""
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("build the graph", stream=stream, clock=clock):
        clock.sleep(26)
    assert stream.getvalue() == "  build the graph: 25 s so far\n"


def test_a_step_below_the_interval_writes_nothing():
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("short", stream=stream, clock=clock):
        clock.sleep(INTERVAL - 1)
    assert stream.getvalue() == ""


def test_the_lines_go_to_stderr_with_the_machine_s_clock(monkeypatch, capsys):
    monkeypatch.setattr("tilefold.progress.INTERVAL", 0.01)
    with show_progress("sleep"):
        deadline, shown = time.monotonic() + LIMIT, ""
        while "sleep: 0 s so far" not in shown and time.monotonic() < deadline:
            shown += capsys.readouterr().err
            time.sleep(0.01)
    assert "sleep: 0 s so far" in shown
    assert capsys.readouterr().out == ""


def test_it_is_a_callback_of_done_and_total():
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("search", stream=stream, clock=clock) as display:
        callback: Progress = display
        callback(30, 40)
        display.note("loss 0.5")
        clock.sleep(25)
    assert stream.getvalue() == "  search 75% (loss 0.5): 25 s so far\n"


def test_steps_within_a_step_share_its_lines():
    """A long loop of short steps keeps the promise, and nobody writes twice."""
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("all", stream=stream, clock=clock):
        for part in ("first", "second", "third"):
            with show_progress(part, stream=stream, clock=clock):
                clock.sleep(20)
        assert len(threads()) == 1
    assert stream.getvalue().splitlines() == [
        "  all, second: 25 s so far",
        "  all, third: 50 s so far",
    ]


def test_an_inner_step_that_outlives_the_outer_one_goes_on():
    clock, stream = FakeClock(), io.StringIO()
    outer = show_progress("outer", stream=stream, clock=clock).__enter__()
    inner = show_progress("inner", stream=stream, clock=clock).__enter__()
    outer.__exit__(None, None, None)
    clock.wakes_at = None  # set by the thread that has ended
    clock = inner._clock = FakeClock()
    inner.__exit__(None, None, None)
    assert not threads()


def test_a_terminal_sees_a_bar_that_vanishes():
    stream = Terminal()
    with show_progress("texts", 4, stream=stream, clock=FakeClock()) as display:
        assert stream.getvalue().startswith("\rtexts   0% |")
        display.advance(2)
        display._bar.refresh()
        assert "texts  50% |" in stream.getvalue()
    assert stream.getvalue().rpartition("\r")[0].endswith(" ")
    assert "so far" not in stream.getvalue()


def test_the_bar_of_a_step_of_unknown_size_shows_its_time_which_passes():
    clock, stream = FakeClock(), Terminal()
    with show_progress("build", stream=stream, clock=clock) as display:
        shown = len(stream.getvalue())
        clock.sleep(3)
        assert stream.getvalue()[:shown].startswith("\rbuild 00:00")
        assert len(stream.getvalue()) > shown
        display(1, 4)
        display._bar.refresh()
        assert "build  25% |" in stream.getvalue()


def test_a_terminal_without_tqdm_gets_lines(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    clock, stream = FakeClock(), Terminal()
    with show_progress("texts", 4, stream=stream, clock=clock):
        clock.sleep(25)
    assert stream.getvalue() == "  texts 0%: 25 s so far\n"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_an_exception_closes_the_display(kind):
    stream = kind()
    with (
        pytest.raises(ValueError, match="broken"),
        show_progress("failing", 3, stream=stream) as display,
    ):
        raise ValueError("broken")
    assert not threads()
    assert display._bar is None or display._bar.disable  # as tqdm marks what is closed


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_an_exception_in_a_tracked_loop_closes_the_display(kind):
    """While the exception, and with it the frame of the loop, is still alive."""

    def loop():
        for _ in track(range(3), "failing", stream=kind()):
            assert len(threads()) == 1
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        loop()
    assert caught.value.__traceback__ is not None
    assert not threads()


def test_a_tracked_loop_counts_its_items():
    clock, stream = FakeClock(), io.StringIO()
    for _ in track("abcd", "letters", stream=stream, clock=clock):
        clock.sleep(15)
    for _ in track(iter("ab"), "of no length", stream=stream, clock=FakeClock()):
        pass
    assert stream.getvalue().splitlines() == [
        "  letters 25%: 25 s so far",
        "  letters 75%: 50 s so far",
    ]


def test_a_closed_stream_does_not_end_the_step():
    clock, stream = FakeClock(), io.StringIO()
    with show_progress("texts", stream=stream, clock=clock):
        stream.close()
        clock.seconds = 26
        deadline = time.monotonic() + LIMIT
        while threads() and time.monotonic() < deadline:
            time.sleep(0.001)
    assert not threads()


def test_no_stderr_and_show_false_show_nothing(monkeypatch):
    with show_progress("texts", 4, show=False, stream=Terminal()) as display:
        display.advance()
        assert not threads()
        assert display._bar is None
    monkeypatch.setattr(sys, "stderr", None)
    with show_progress("texts", 4):
        assert not threads()
