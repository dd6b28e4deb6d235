"""A model of a world is trained again after a change of facts, texts or settings alone."""

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.files.done_once import WrongChecksumError
from tilefold.files.tensors import CorruptedFolderError
from tilefold.models import MaskedLM
from tilefold.world import RELATIONS, make_world, world_models, world_retrievers
from tilefold.world.world_models import model_digest, pretrained
from tilefold.world.world_retrievers import fine_tuned

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world():
    return make_world("tiny", seed=0, exposed=0.0)  # there is nothing to pre-train on


@pytest.fixture
def trained(monkeypatch):
    """Kinds of the models whose training was called; nothing is trained."""
    calls = []

    def train(kind, original):
        def instead(*arguments):
            calls.append(kind)
            return original(*arguments) if kind == "bert" else None

        return instead

    monkeypatch.setattr(world_models, "_pretrain", train("bert", world_models._pretrain))
    monkeypatch.setattr(world_retrievers, "_fine_tune", train("dpr", world_retrievers._fine_tune))
    return calls


def test_an_edited_docstring_trains_nothing_again(world, trained, monkeypatch, tmp_path):
    first = pretrained(world, folder=tmp_path)
    source = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: source(module) + "# edited")
    assert pretrained(world, folder=tmp_path) == first
    assert trained == ["bert"]


@pytest.mark.parametrize(
    "options", [{"steps": 7}, {"batch_size": 7}, {"learning_rate": 7e-3}, {"seed": 7}], ids=str
)
def test_every_setting_of_pre_training_counts(world, trained, tmp_path, options):
    assert pretrained(world, folder=tmp_path) != pretrained(world, folder=tmp_path, **options)
    assert trained == ["bert", "bert"]


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 7},
        {"batch_size": 7},
        {"learning_rate": 7e-3},
        {"seed": 7},
        {"paraphrases": [0, 3]},
    ],
    ids=str,
)
def test_every_setting_of_fine_tuning_counts(world, trained, tmp_path, options):
    base = pretrained(world, folder=tmp_path)
    paths = {fine_tuned(world, base, [0, 1], folder=tmp_path, **some) for some in ({}, options)}
    paths.add(fine_tuned(world, base, [0, 2], folder=tmp_path))
    assert len(paths) == 3


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_weights_of_the_base_count_in_whichever_file(world, trained, tmp_path, file):
    base = pretrained(world, folder=tmp_path)
    model = MaskedLM.from_pretrained(base)
    paths = set()
    for change in range(2):
        model.model.bert.embeddings.word_embeddings.weight.data += change
        folder = tmp_path / f"base{change}"
        folder.mkdir()
        model.write_weights(folder)
        if file != "model.safetensors":
            (folder / "model.safetensors").unlink()
            torch.save(model.model.state_dict(), folder / file)
        paths.add(fine_tuned(world, folder, [0], folder=tmp_path))
    paths.add(fine_tuned(world, base, [0], folder=tmp_path))
    assert len(paths) == 2  # the first one is the base itself, in another folder


def test_facts_and_texts_of_the_world_count(world):
    fact = world.facts[0]._replace(object="other")
    passage = world.passages[0]._replace(text="another text .")
    changed = RELATIONS[0]._replace(questions=("What ?", *RELATIONS[0].questions[1:]))
    relations = {relation.name: relation for relation in (*RELATIONS[1:], changed)}
    worlds = [
        world,
        dataclasses.replace(world, _relations=relations),
        make_world("tiny", seed=1, exposed=0.0),
        make_world("tiny", seed=0, exposed=1.0),
        make_world("small", seed=0, exposed=0.0),
        dataclasses.replace(world, facts=[fact, *world.facts[1:]]),
        dataclasses.replace(world, passages=[passage, *world.passages[1:]]),
    ]
    digests = {model_digest(one, "bert", {}) for one in worlds}
    assert len(digests) == len(worlds)
    assert model_digest(make_world("tiny", seed=0, exposed=0.0), "bert", {}) in digests
    assert model_digest(world, "dpr", {}) not in digests


def test_another_recipe_trains_again(world, monkeypatch):
    before = model_digest(world, "bert", {})
    monkeypatch.setattr(world_models, "RECIPE", world_models.RECIPE + 1)
    assert model_digest(world, "bert", {}) != before


def test_every_process_trains_the_same_tokenizer():
    """The trainer of tokenizers 0.23 alone does not: see findings/."""
    code = (
        "import json; from tilefold.world import make_world, world_models as m; "
        "print(json.dumps(sorted(m._tokenizer(make_world('tiny', seed=0)).get_vocab().items())))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1


def test_two_who_want_one_model_at_a_time_train_it_once(world, monkeypatch, tmp_path):
    """The second waits for the first, and reads its result."""
    both, calls, train = threading.Barrier(2), [], world_models._pretrain

    def slowly(*arguments):
        calls.append(1)
        time.sleep(0.3)
        train(*arguments)

    def want(_):
        both.wait(10)
        return pretrained(world, folder=tmp_path)

    monkeypatch.setattr(world_models, "_pretrain", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(want, range(2))
    assert first == second
    assert len(calls) == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_a_model_that_was_changed_is_refused_and_one_that_is_removed_is_trained_again(
    world, trained, tmp_path
):
    folder = pretrained(world, folder=tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 4
    weights.write_bytes(content)
    with pytest.raises(WrongChecksumError, match=f"{weights} does not match its checksum: remove"):
        pretrained(world, folder=tmp_path)
    weights.unlink()
    with pytest.raises(CorruptedFolderError, match=f"{weights} is missing: remove {folder}"):
        pretrained(world, folder=tmp_path)
    shutil.rmtree(folder)
    assert pretrained(world, folder=tmp_path) == folder
    assert trained == ["bert", "bert"]


def test_a_model_in_the_place_of_another_is_refused(world, trained, tmp_path):
    one, other = (pretrained(world, folder=tmp_path, seed=seed) for seed in (0, 1))
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(CorruptedFolderError, match=f"is of {other.name}, expected {one.name}"):
        pretrained(world, folder=tmp_path, seed=0)


def test_a_model_without_digests_is_trained_again(world, trained, tmp_path):
    """Such as of an earlier version."""
    folder = pretrained(world, folder=tmp_path)
    (folder / "digests.json").unlink()
    assert pretrained(world, folder=tmp_path) == folder
    assert (folder / "digests.json").is_file()
    assert trained == ["bert", "bert"]
