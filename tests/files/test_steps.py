"""Steps of studies: done once, done again where they are torn, nothing left where they fail."""

import os

import numpy as np
import pytest

from tilefold.files.steps import Steps, digest_of


def counting():
    calls = []

    def make():
        calls.append(1)
        return {"x": np.arange(3), "y": np.array([[0.5]]), "n": np.array(7)}

    return calls, make


def test_a_step_is_done_once(tmp_path):
    calls, make = counting()
    first = Steps(tmp_path / "steps").once("one step", {"seed": 1}, make)
    later = Steps(tmp_path / "steps")
    again = later.once("one step", {"seed": 1}, make)
    assert len(calls) == 1
    assert later.resumed == 1
    assert np.array_equal(first["x"], again["x"])
    assert np.array_equal(first["y"], again["y"])
    assert first["n"].shape == again["n"].shape == ()


def test_steps_that_a_run_repeats_are_not_of_an_earlier_run(tmp_path):
    _, make = counting()
    first = Steps(tmp_path)
    for _ in range(2):
        first.once("a", 1, make)
    assert first.resumed == 0
    later = Steps(tmp_path)
    for _ in range(2):
        later.once("a", 1, make)
    assert later.resumed == 1


def test_what_it_depends_on_makes_another_step(tmp_path):
    calls, make = counting()
    steps = Steps(tmp_path)
    for name, depends in (("a", 1), ("a", 2), ("b", 1), ("a", digest_of(["x"])), ("a", 1)):
        steps.once(name, depends, make)
    assert len(calls) == 4


def test_a_torn_file_is_made_again(tmp_path):
    calls, make = counting()
    steps = Steps(tmp_path)
    steps.once("a", 1, make)
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 8)
    assert np.array_equal(steps.once("a", 1, make)["x"], np.arange(3))
    assert len(calls) == 2
    assert steps.resumed == 0


def test_what_fails_leaves_nothing(tmp_path):
    def fails():
        raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper") as error:
        Steps(tmp_path).once("a", 1, fails)
    assert error.value.__context__ is None  # that there was no file is no part of it
    assert not list(tmp_path.iterdir())
