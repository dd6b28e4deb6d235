"""The pace of requests over several threads."""

import threading
import time

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.targets.request_pace import RequestPace


def run_together(n: int, work) -> None:
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_waits_of_all_threads_are_apart():
    pace, begin = RequestPace(60 * 50), time.monotonic()
    run_together(4, lambda: [pace.wait() for _ in range(3)])
    assert time.monotonic() - begin >= 11 / 50


def test_a_pause_holds_all_threads_and_a_shorter_one_does_not_end_it():
    pace, moments = RequestPace(), []
    begin = time.monotonic()
    pace.pause(0.3)
    pace.pause(0.01)
    run_together(3, lambda: moments.append((pace.wait(), time.monotonic())))
    assert all(may_begin for may_begin, _ in moments)
    assert min(moment for _, moment in moments) - begin >= 0.3


def test_a_stop_ends_every_wait():
    pace, answers = RequestPace(1), []
    assert pace.wait()  # the next one may begin in a minute
    stopping = threading.Timer(0.05, pace.stop)
    stopping.start()
    run_together(3, lambda: answers.append(pace.wait()))
    assert answers == [False] * 3
    assert not pace.wait()


@pytest.mark.parametrize("per_minute", [0, -1, float("nan")])
def test_a_pace_is_above_zero(per_minute):
    with pytest.raises(ValueError, match="per_minute must be above 0"):
        RequestPace(per_minute)
