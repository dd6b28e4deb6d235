"""Weights that follow a schedule: their values, their text, what is refused."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.train import Schedule


def test_a_linear_ramp_is_interpolation_and_stays_at_its_end():
    ramp = Schedule(3.0, start=1.0, steps=8, shape="linear")
    values = [ramp(step) for step in range(20)]
    np.testing.assert_allclose(values, np.interp(np.arange(20), [0, 8], [1.0, 3.0]), rtol=1e-15)


def test_a_cosine_is_flat_at_both_ends_and_halfway_in_the_middle():
    fall = Schedule(0.0, start=2.0, steps=1000, shape="cosine")
    assert (fall(0), fall(1000), fall(5000)) == (2.0, 0.0, 0.0)
    assert fall(500) == pytest.approx(1.0)
    # Slopes at the ends are those of a parabola: 2 (pi p / 2)^2 after a share p of the steps.
    assert 2.0 - fall(10) == pytest.approx(2 * (np.pi * 0.01 / 2) ** 2, rel=1e-3)
    assert fall(990) == pytest.approx(2.0 - fall(10), rel=1e-9)


def test_a_constant_has_one_value():
    assert {Schedule(0.25)(step) for step in (0, 1, 10**9)} == {0.25}


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.5", Schedule(0.5)),
        ("1e-3", Schedule(0.001)),
        (2, Schedule(2.0)),
        ("linear:0:0.5:1000", Schedule(0.5, start=0.0, steps=1000, shape="linear")),
        ("cosine:1:0:7", Schedule(0.0, start=1.0, steps=7, shape="cosine")),
    ],
)
def test_schedules_are_read_from_text(text, schedule):
    assert Schedule.parse(text) == schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half", "expected a number or SHAPE:START:END:STEPS .* got 'half'"),
        ("linear:0:1", "got 'linear:0:1'"),
        ("linear:0:1:0", "steps must be 1 or more, got 0"),
        ("linear:0:1:2.5", "got 'linear:0:1:2.5'"),
        ("stairs:0:1:10", "shape must be one of .* got 'stairs'"),
        ("nan", "end must be finite and 0 or more, got nan"),
        ("inf", "end must be finite and 0 or more, got inf"),
        ("-1", "end must be finite and 0 or more, got -1"),
        ("linear:-1:1:10", "start must be finite and 0 or more, got -1"),
        ("constant:0:1:10", "steps must be 0 for a constant, got 10"),
    ],
)
def test_text_that_is_no_schedule_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Schedule.parse(text)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"end": -1.0}, ValueError),
        ({"end": 1.0, "start": -0.5, "steps": 2, "shape": "linear"}, ValueError),
        ({"end": "1"}, TypeError),
        ({"end": True}, TypeError),
        ({"end": 1.0, "steps": 2.5, "shape": "linear"}, TypeError),
        ({"end": 1.0, "steps": "2", "shape": "linear"}, TypeError),
    ],
)
def test_weights_are_numbers_from_0_on(values, error):
    with pytest.raises(error, match=r"Schedule: (start|end|steps) must be"):
        Schedule(**values)


def test_a_delay_keeps_the_start_and_moves_the_rest():
    ramp = Schedule(3.0, start=1.0, steps=8, shape="linear", delay=4)
    plain = Schedule(3.0, start=1.0, steps=8, shape="linear")
    assert [ramp(step) for step in range(5)] == [1.0] * 5
    assert [ramp(step + 4) for step in range(20)] == [plain(step) for step in range(20)]
    assert Schedule.parse("linear:1:3:8:4") == ramp
    for text in ("linear:1:3:8:4:5", "linear:1:3:8:-1", "linear:1:3:8:x"):
        with pytest.raises(ValueError, match="Schedule"):
            Schedule.parse(text)
    with pytest.raises(ValueError, match="delay must be 0 for a constant"):
        Schedule(1.0, delay=1)
