"""A run that finds another one training in the folder waits for it, and takes its result."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("fcntl", reason="this system has no flock")

from tilefold.files.locked import locked
from tilefold.studies.aar import retriever_training
from tilefold.studies.invar import generation_stage, retrieval_stage
from tilefold.studies.resumable_training import locked_training
from tilefold.studies.study import Reporter

HOLDS = """
import pathlib, sys
from tilefold.files.locked import locked
with locked(pathlib.Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


class OtherRun(Reporter):
    """A process that holds a folder: once it is waited for, there is a result, and it dies."""

    def __init__(self, folder, result="", text=""):
        self.folder, self.result, self.text = folder, result, text
        self.warnings = []

    def __enter__(self):
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLDS, str(self.folder)]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        assert self.process.stdout.readline() == b"locked\n"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def warn(self, text):
        self.warnings.append(text)
        if self.result:
            (self.folder / self.result).write_text(self.text)
        self.process.kill()


# Without settings, models and data a training would fail: the result is that of the other run.
LOSSES = [{"step": 1, "contrastive": 0.5}]
TRAININGS = {
    "retriever of invar": (
        lambda folder, progress: retrieval_stage.train_retriever(
            None, None, None, None, folder, likelihoods=None, progress=progress
        ),
        "losses.json",
        lambda folder: (folder / "model", LOSSES),
    ),
    "generator of invar": (
        lambda folder, progress: generation_stage.train_generator(
            None, None, None, None, 0, folder, progress=progress
        ),
        "losses.json",
        lambda folder: folder / "model",
    ),
    "retriever of aar": (
        lambda folder, progress: retriever_training.train_retriever(
            None, None, None, None, 0, folder, progress=progress
        ),
        "evaluations.json",
        lambda folder: (folder / "model", LOSSES),
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_second_run_waits_and_takes_the_result_of_the_first(tmp_path, name):
    train, result, wanted = TRAININGS[name]
    with OtherRun(tmp_path, result, json.dumps(LOSSES)) as other:
        assert train(tmp_path, other) == wanted(tmp_path)
    assert other.warnings == [f"Waiting for another run, which trains in {tmp_path}."]


def test_a_folder_that_nobody_holds_is_entered_without_a_warning(tmp_path):
    other = OtherRun(tmp_path)
    with (
        locked_training(tmp_path, other),
        pytest.raises(BlockingIOError),
        locked(tmp_path, wait=False),
    ):
        pass
    assert other.warnings == []
    with locked(tmp_path, wait=False):  # it is released at the end
        pass


def test_a_run_whose_predecessor_dies_takes_over(tmp_path):
    with OtherRun(tmp_path) as other:
        with locked_training(tmp_path, other):
            assert other.process.wait() != 0
        assert len(other.warnings) == 1
