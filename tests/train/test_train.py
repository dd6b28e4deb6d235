"""Training: what is drawn, what a step adds, what is resumed, what processes do together."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

import safetensors
from safetensors import SafetensorError
from training_runs import (
    a_scored_set,
    a_set,
    arguments,
    assert_same_bits,
    load,
    losses_of,
    weights,
    without_dropout,
)
from two_processes import run_on_two_processes

from tilefold.data import Collection, Qrels, TrainingSet
from tilefold.files.tensors import CorruptedFolderError
from tilefold.losses import ContrastiveLoss
from tilefold.models import BiEncoder, add_lora
from tilefold.ragged_lists import Lists
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    Refresh,
    RetrieverTrainer,
    Validation,
    hold_out,
    train_step,
    trained_weights,
)
from tilefold.train.arguments import RetrieverTrainingArguments
from tilefold.train.checkpoints import (
    begin_checkpoint,
    last_checkpoint,
    load_negatives,
    remove_unfinished,
    save_negatives,
)

pytestmark = pytest.mark.usefixtures("one_thread")


REFRESHED = {"refresh_at_start": True, "refresh_depth": 8, "refresh_negatives": 4}
# Under its name before transformers 5, or the one since.
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {item.name for item in dataclasses.fields(RetrieverTrainingArguments)}:
    CHECKPOINTING = "gradient_checkpointing"


def as_collection(data: TrainingSet) -> Collection:
    judged = Qrels.pack([{i: 1.0} for i in range(len(data))])
    return Collection(data.document_ids, data.documents, data.query_ids, data.queries, judged)


@pytest.fixture
def model(tiny_bert: Path) -> BiEncoder:
    return load(tiny_bert)


# ---- what is drawn -------------------------------------------------------------------------------


def test_a_draw_depends_on_seed_step_and_query_alone():
    data = a_set()
    one, other = (Draw(data, group_size=2, seed=3) for _ in range(2))
    whole = one.batch(list(range(24)), step=5)
    backwards = other.batch(list(range(23, -1, -1)), step=5)
    pairs = list(zip(whole.documents[::2], whole.documents[1::2], strict=True))
    turned = list(zip(backwards.documents[::2], backwards.documents[1::2], strict=True))
    assert pairs == turned[::-1]
    assert whole.documents != one.batch(list(range(24)), step=6).documents
    assert whole.documents != Draw(data, group_size=2, seed=4).batch(range(24), step=5).documents


def test_a_query_with_few_negatives_brings_few():
    data = a_set(3).with_negatives(Lists.pack([[3, 4], [], [5]]))
    batch = Draw(data, group_size=3, seed=0).batch([0, 1, 2], step=0)
    assert batch.positives.tolist() == [0, 3, 4]
    assert len(batch.documents) == 6


def test_the_first_of_each_is_taken_when_asked_for():
    data = TrainingSet(
        ["a"], ["w1"], list("uvwx"), list("uvwx"), Lists.pack([[2, 0]]), Lists.pack([[3, 1]]), [()]
    )
    draw = Draw(data, group_size=2, seed=0, first_positive=True, first_negatives=True)
    assert {tuple(draw.batch([0], step=s).documents) for s in range(20)} == {("w", "x")}
    free = Draw(data, group_size=2, seed=0)
    drawn = {tuple(free.batch([0], step=s).documents) for s in range(40)}
    assert drawn == {("w", "x"), ("w", "v"), ("u", "x"), ("u", "v")}


def test_known_positives_that_others_bring_are_no_negatives():
    data = TrainingSet(
        ["a", "b", "c"],
        ["w1", "w2", "w2"],
        list("uvw"),
        list("uvw"),
        Lists.pack([[0, 1], [1], [2]]),
        Lists.pack([[], [], []]),
        [()] * 3,
    )
    draw = Draw(data, group_size=1, seed=0, first_positive=True)
    batch = draw.batch([0, 1, 2], step=0)
    # query 0 knows document 1; queries 1 and 2 are the same, so what answers one answers both
    assert batch.negatives() == pytest.approx((1 + 1 + 1) / 3)


def test_held_out_queries_share_no_positive_with_those_that_are_trained():
    data = TrainingSet(
        [f"q{i}" for i in range(10)],
        [f"w{i // 2}" for i in range(10)],
        list("abcdefghij"),
        list("abcdefghij"),
        Lists.pack([[i % 7] for i in range(10)]),
        Lists.pack([[] for _ in range(10)]),
        [()] * 10,
    )
    rest, collection = hold_out(data, 3, seed=1)
    held = {int(i) for i in collection.qrels.ids}
    assert len(collection.queries) == 3
    assert not held & set(rest.positives.indices.tolist())
    assert not set(rest.queries) & set(collection.queries)
    with pytest.raises(ValueError, match="hold_out: expected 1 to 9 queries, got 10"):
        hold_out(data, 10, seed=0)


def test_the_same_text_under_two_ids_is_one_passage():
    data = TrainingSet(
        ["a", "b", "c"],
        ["w1", "w2", "w3"],
        ["x", "y", "z"],
        ["same", "same", "other"],
        Lists.pack([[0], [1], [2]]),
        Lists.pack([[], [], []]),
        [()] * 3,
    )
    batch = Draw(data, group_size=1, seed=0).batch([0, 1, 2], step=0)
    assert batch.negatives() == pytest.approx((1 + 1 + 2) / 3)
    for seed in range(6):
        rest, collection = hold_out(data, 1, seed=seed)
        asked = {collection.documents[i] for i in collection.qrels.ids}
        assert not asked & {rest.documents[i] for i in rest.positives.indices}


# ---- a step --------------------------------------------------------------------------------------


def test_titles_and_prompts_train_with_the_bits_of_texts_joined_by_hand(tiny_bert: Path):
    plain = a_set(6)
    columns = dataclasses.replace(
        plain,
        titles=[f"w{i % 5}" if i % 3 else "" for i in range(18)],
        prompts=["w1 w2" if i % 2 else "" for i in range(6)],
    )
    by_hand = dataclasses.replace(
        plain,
        documents=[
            f"w{i % 5} [SEP] {text}" if i % 3 else text for i, text in enumerate(plain.documents)
        ],
        queries=[f"w1 w2 {text}" if i % 2 else text for i, text in enumerate(plain.queries)],
    )
    found = []
    for data in (columns, by_hand):
        objective = ContrastiveObjective(
            load(tiny_bert, title_format="{title} [SEP] {text}"), ContrastiveLoss(0.05)
        )
        batch = Draw(data, group_size=3, seed=1).batch(range(6), step=0)
        for sizes in (None, (2, 4)):
            loss = train_step(objective, batch, chunk_sizes=sizes).value
            gradients = [p.grad for p in objective.parameters() if p.grad is not None]
            found.append([loss, *(gradient.clone() for gradient in gradients)])
    assert len(found[0]) > 5
    for ours, theirs in zip(found[:2], found[2:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_mining_while_training_reads_titles_as_the_model_does(tiny_bert: Path):
    columns = dataclasses.replace(a_set(6), titles=[f"w{i % 5}" for i in range(18)])
    model = load(tiny_bert, title_format="{title} of {text}")
    options = {"depth": 8, "n_negatives": 4}
    found = Refresh(1, **options).run(model, columns, step=0)
    expected = Refresh(1, **options).run(model, columns.joined(model.title_format), step=0)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    held = hold_out(columns, 2, seed=0)[1]
    assert held.titles == columns.titles
    by_hand = dataclasses.replace(
        held, documents=columns.joined(model.title_format).documents, titles=[]
    )
    assert Validation(held).run(model) == Validation(by_hand).run(model)


def test_the_same_text_under_another_title_is_another_passage():
    data = TrainingSet(
        ["a", "b", "c"],
        ["w1", "w2", "w3"],
        ["x", "y", "z"],
        ["same"] * 3,
        Lists.pack([[0], [1], [2]]),
        Lists.pack([[], [], []]),
        [()] * 3,
        titles=["one", "one", "two"],
    )
    batch = Draw(data, group_size=1, seed=0).batch([0, 1, 2], step=0)
    assert batch.negatives() == pytest.approx((1 + 1 + 2) / 3)
    assert batch.titles == ["one", "one", "two"]


def test_chunks_give_the_gradients_of_the_whole_batch(model):
    batch = Draw(a_set(), group_size=3, seed=0).batch(range(12), step=0)
    found = []
    for sizes in (None, (5, 7), (1, 36)):
        objective = ContrastiveObjective(model, ContrastiveLoss(0.5, learn_temperature=True)).eval()
        objective.zero_grad()
        loss = train_step(objective, batch, chunk_sizes=sizes, weight=0.5).value
        grads = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
        found.append((loss, torch.cat([g.ravel() for g in grads])))
    for loss, grad in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(grad, found[0][1], rtol=1e-4, atol=1e-6)


def test_training_lowers_the_loss_and_finds_what_it_was_taught(model, tmp_path):
    data = a_set()
    validation = Validation(as_collection(data), ["RR@10"])
    trainer = RetrieverTrainer(
        model, arguments(tmp_path, num_train_epochs=25), data, validation=validation
    )
    before = trainer.evaluate()
    trainer.train()
    losses, after = losses_of(trainer), trainer.evaluate()
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert after["eval_RR@10"] > before["eval_RR@10"] + 0.2
    assert after["eval_average_rank"] < before["eval_average_rank"]


@pytest.mark.parametrize(
    "options",
    [
        {"grad_cache": True, "gc_q_chunk_size": 2, "gc_p_chunk_size": 5},
        {CHECKPOINTING: True},
        {"bf16": True},
    ],
    ids=["chunks", "checkpointing", "bf16"],
)
def test_what_saves_memory_or_time_trains_alike(tiny_bert, tmp_path, options):
    curves = []
    for extra in ({}, options):
        model = without_dropout(load(tiny_bert))
        trainer = RetrieverTrainer(model, arguments(tmp_path, **extra), a_set())
        trainer.train()
        curves.append(losses_of(trainer))
    assert len(curves[0]) == 8
    tolerance = 0.05 if "bf16" in options else 1e-3
    np.testing.assert_allclose(curves[1], curves[0], rtol=tolerance)


def test_a_step_of_several_batches_is_their_mean(tiny_bert, tmp_path, monkeypatch):
    model = without_dropout(load(tiny_bert))
    options = {"max_steps": 1, "gradient_accumulation_steps": 3, "learning_rate": 0.0}
    trainer = RetrieverTrainer(model, arguments(tmp_path, max_grad_norm=1e9, **options), a_set())
    drawn, draw = [], trainer.draw.batch
    monkeypatch.setattr(
        trainer.draw, "batch", lambda rows, step: drawn.append(draw(rows, step=step)) or drawn[-1]
    )
    trainer.train()
    objective = ContrastiveObjective(model, ContrastiveLoss(1.0))
    objective.zero_grad()
    losses = [float(train_step(objective, batch, weight=1 / 3).value) for batch in drawn]
    grads = [p.grad.ravel() for p in objective.parameters() if p.grad is not None]
    found = trainer.state.log_history[0]
    assert len(drawn) == 3
    assert found["loss"] == pytest.approx(sum(losses), rel=1e-4)
    assert found["grad_norm"] == pytest.approx(float(torch.cat(grads).norm()), rel=1e-4)


def test_the_log_says_how_many_negatives_there_are(model, tmp_path):
    trainer = RetrieverTrainer(model, arguments(tmp_path, max_steps=2, train_group_size=3), a_set())
    trainer.train()
    assert [e["n_negatives"] for e in trainer.state.log_history if "loss" in e] == [17, 17]


# ---- refreshed negatives -------------------------------------------------------------------------


def test_negatives_are_mined_with_the_model_as_it_is(model, tmp_path):
    data = a_set(negatives=False)
    options = {
        "refresh_steps": 3,
        "refresh_at_start": True,
        "refresh_depth": 8,
        "refresh_negatives": 4,
    }
    trainer = RetrieverTrainer(model, arguments(tmp_path, max_steps=5, **options), data)
    trainer.train()
    negatives = trainer.draw.data.negatives
    assert np.diff(negatives.offsets).tolist() == [4] * 24
    for row in range(24):
        own = negatives.indices[negatives.offsets[row] : negatives.offsets[row + 1]]
        assert row not in own
    ages = [e["negatives_age"] for e in trainer.state.log_history if "loss" in e]
    assert ages == [1, 2, 3, 1, 2]
    assert not len(data.negatives.indices)


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "refresh_steps": 4,
            "refresh_at_start": True,
            "refresh_depth": 8,
            "refresh_negatives": 4,
            "grad_cache": True,
        },
        {"gradient_accumulation_steps": 2, "learn_temperature": True, "temperature": 0.5},
    ],
    ids=["plain", "refreshed", "accumulated"],
)
def test_a_resumed_training_ends_in_the_same_bits(tiny_bert, tmp_path, options):
    schedule = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3, **options}

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        trainer = RetrieverTrainer(load(tiny_bert), arguments(folder, **schedule), a_set())
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    assert losses_of(again)[-4:] == losses_of(whole)[-4:]
    moved = load(tiny_bert).state_dict()
    assert any(
        not torch.equal(x, moved[n]) for n, x in weights(whole.training_objective.model).items()
    )


def test_a_checkpoint_holds_a_model_that_loads_as_it_was(model, tmp_path):
    trainer = RetrieverTrainer(
        model, arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=2), a_set()
    )
    trainer.train()
    again = BiEncoder.from_pretrained(tmp_path / "checkpoint-2" / "model")
    texts = ["who is w3", "w4"]
    np.testing.assert_array_equal(again.encode_queries(texts), model.encode_queries(texts))


def test_the_best_checkpoint_is_what_is_left_at_the_end(tiny_bert, tmp_path):
    data = a_set()
    trainer = RetrieverTrainer(
        load(tiny_bert),
        arguments(
            tmp_path,
            max_steps=6,
            learning_rate=3e-2,  # too much, so that the last is not the best
            save_strategy="steps",
            save_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            load_best_model_at_end=True,
            metric_for_best_model="RR@10",
            greater_is_better=True,
        ),
        data,
        validation=Validation(as_collection(data), ["RR@10"]),
    )
    trainer.train()
    found = [e["eval_RR@10"] for e in trainer.state.log_history if "eval_RR@10" in e]
    assert max(found) > found[-1]
    assert trainer.evaluate()["eval_RR@10"] == max(found)


def test_a_checkpoint_that_was_not_finished_is_passed_over(model, tmp_path):
    trainer = RetrieverTrainer(
        model, arguments(tmp_path, max_steps=2, save_strategy="steps", save_steps=1), a_set()
    )
    trainer.train()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text('{"global_step": 2, "ep')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    assert last_checkpoint(tmp_path / "nothing") is None


def test_checkpoints_have_no_copy_of_frozen_weights(model, tmp_path):
    add_lora(model.query_encoder, r=2)
    adapted = BiEncoder(model.query_encoder)
    schedule = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = RetrieverTrainer(adapted, arguments(tmp_path, **schedule), a_set())
    trainer.train()
    with safetensors.safe_open(tmp_path / "checkpoint-1" / "objective.safetensors", "pt") as file:
        names = list(file.keys())
    assert names
    assert all(".lora_" in name for name in names)
    name, frozen = next(pair for pair in adapted.named_parameters() if not pair[1].requires_grad)
    assert name not in names
    frozen.data += 1.0
    again = RetrieverTrainer(adapted, arguments(tmp_path, **schedule), a_set())
    with pytest.raises(ValueError, match="trained over other weights; resume with the model"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_full_disk_leaves_the_checkpoint_before(model, tmp_path, monkeypatch):
    save, calls = trained_weights.write_weights, []

    def fails_the_second_time(own: Any, frozen: str, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"half")
            raise SafetensorError("Error while serializing: No space left on device")
        save(own, frozen, path)

    monkeypatch.setattr(trained_weights, "write_weights", fails_the_second_time)
    schedule = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    with pytest.raises(OSError, match=r"checkpoint-2 could not be written.*No space left"):
        trainer.train()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    again = RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    again.train(resume_from_checkpoint=str(last_checkpoint(tmp_path)))
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"


def test_an_archive_that_torch_cannot_write_is_an_error_of_the_file(model, tmp_path, monkeypatch):
    """A full disk, in the words of torch 2.7."""

    def fails(value: Any, path: Any) -> None:
        raise RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 8384 vs 8278"
        )

    monkeypatch.setattr(torch, "save", fails)
    schedule = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    with pytest.raises(OSError, match="checkpoint-1 could not be written, is the disk full"):
        trainer.train()
    assert last_checkpoint(tmp_path) is None


def middle_of_largest_entry(path: Path) -> int:
    """The entry may be found by its contents: torch does not compress them."""
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
        return path.read_bytes().index(archive.read(entry)) + entry.file_size // 2


@pytest.mark.parametrize(
    "name",
    [
        "objective.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    ],
)
def test_a_checkpoint_with_a_flipped_bit_is_not_resumed(model, tmp_path, name):
    """`torch.load` loads its files all the same."""
    schedule = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set()).train()
    path = tmp_path / "checkpoint-1" / name
    whole = path.read_bytes()
    changed = bytearray(whole)
    if name == "trainer_state.json":
        changed[whole.index(b'"global_step": 1') + 15] ^= 2
    elif zipfile.is_zipfile(path):
        changed[middle_of_largest_entry(path)] ^= 4
    else:
        changed[len(whole) // 2] ^= 4
    path.write_bytes(changed)
    trainer = RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    with pytest.raises(CorruptedFolderError, match=f"{path} does not match its checksum"):
        trainer.train(resume_from_checkpoint=str(path.parent))
    path.write_bytes(whole)
    renamed = path.parent.rename(tmp_path / "mine")
    trainer.train(resume_from_checkpoint=str(renamed))
    assert trainer.state.global_step == 2


def test_what_lacks_the_optimizer_is_not_resumed(model, tmp_path):
    schedule = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    RetrieverTrainer(model, arguments(tmp_path, save_only_model=True, **schedule), a_set()).train()
    trainer = RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    with pytest.raises(FileNotFoundError, match=r"it has no optimizer\.pt"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_folders_that_training_did_not_write_stay(tmp_path):
    mine = tmp_path / "checkpoint-best"
    mine.mkdir()
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-notes.txt").write_text("x")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-best",
        "checkpoint-notes.txt",
    ]


def test_an_unfinished_checkpoint_is_removed_only_if_training_wrote_it(tmp_path):
    names = "checkpoint-2", "checkpoint-3", "checkpoint-4", "away"
    several, ours, mine, elsewhere = (tmp_path / name for name in names)
    several.mkdir()
    (several / "rng_state_1.pth").write_bytes(b"of another process")
    for folder in (several, ours):
        begin_checkpoint(folder)
        (folder / "optimizer.pt").write_bytes(b"half")
    for folder in (mine, elsewhere):
        folder.mkdir()
        (folder / "notes").write_text("mine")
    begin_checkpoint(mine)  # which holds something
    (tmp_path / "checkpoint-5").symlink_to(elsewhere)
    remove_unfinished(tmp_path)
    names = ["away", "checkpoint-4", "checkpoint-5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (mine / "notes").read_text() == (elsewhere / "notes").read_text() == "mine"


@pytest.mark.parametrize("name", ["checkpoint-best", "checkpoint-7"])
def test_a_limit_of_checkpoints_removes_no_folder_of_somebody_else(model, tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes").write_text("mine")
    schedule = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(ValueError, match=f"save_total_limit: {tmp_path / name} was not written by"):
        RetrieverTrainer(model, arguments(tmp_path, save_total_limit=1, **schedule), a_set())
    RetrieverTrainer(model, arguments(tmp_path, **schedule), a_set())
    assert (tmp_path / name / "notes").read_text() == "mine"


@pytest.mark.parametrize("state", ["[]", "null", '{"global_step": []}', '{"global_step": 1e400}'])
def test_a_state_that_is_no_state_makes_no_checkpoint(tmp_path, state):
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) is None
    remove_unfinished(tmp_path)
    assert (tmp_path / "checkpoint-3" / "trainer_state.json").read_text() == state


def test_mined_negatives_go_with_the_texts_that_they_were_mined_from(tmp_path):
    data = a_set()
    save_negatives(tmp_path, data, 7)
    lists, step = load_negatives(tmp_path, data)
    assert step == 7
    assert all(np.array_equal(one, other) for one, other in zip(lists, data.negatives, strict=True))
    for name in ("queries", "documents", "titles", "prompts"):
        changed = [*getattr(data, name)[:-1], "changed"]
        other = dataclasses.replace(data, **{name: changed})
        with pytest.raises(ValueError, match="mined from other queries or documents"):
            load_negatives(tmp_path, other)


def test_a_flipped_bit_of_mined_negatives_is_refused(tmp_path):
    save_negatives(tmp_path, a_set(), 7)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} does not match its checksum"):
        load_negatives(tmp_path, a_set())


# ---- processes -----------------------------------------------------------------------------------

TWO = """
import json, sys
from pathlib import Path
import torch
from training_runs import a_scored_set, arguments, load, losses_of, without_dropout
from tilefold.train import RetrieverTrainer
from tilefold.distributed.processes import leave
torch.set_num_threads(1)
model, folder, every = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for name, options in every.items():
    args = arguments(folder / name, ddp_backend="gloo", **options)
    data = a_scored_set(positives=2)
    trainer = RetrieverTrainer(without_dropout(load(model)), args, data)
    trainer.train()
    if args.process_index == 0:
        (folder / f"{name}.json").write_text(json.dumps(losses_of(trainer)))
    del trainer
leave()
"""
TRAININGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks": {"grad_cache": True, "gc_q_chunk_size": 2, "gc_p_chunk_size": 3},
    "learned": {"learn_temperature": True, "temperature": 0.5, "symmetric": True},
    "refreshed": {"refresh_steps": 2, **REFRESHED},
    "distilled": {"positives_per_query": 2, "distillation_weight": "linear:0:1:2"},
    "aligned": {
        "teacher_model": "tiny_bert",
        "distillation_weight": 1,
        "representation_weight": "linear:0:1:2",
        "refresh_steps": 2,
        **REFRESHED,
    },
    "invariant": {
        "document_windows": [2],
        "invariance_weight": "linear:0:1:2",
        "invariance_candidates": "own",
        "invariance_patterns": 2,
        "train_group_size": 3,
    },
}


@pytest.fixture(scope="module")
def trainings(tiny_bert: Path) -> dict[str, dict[str, Any]]:
    """Options of each training; that of `tiny_bert` has its folder."""
    found = {name: {"learning_rate": 1e-4, **options} for name, options in TRAININGS.items()}
    found["aligned"]["teacher_model"] = str(tiny_bert)
    return found


@pytest.fixture(scope="module")
def losses_of_two_processes(tiny_bert, trainings, tmp_path_factory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("two")
    run_on_two_processes(TWO, folder, str(tiny_bert), str(folder), json.dumps(trainings))
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in trainings}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one_with_twice_the_batch(
    tiny_bert, trainings, losses_of_two_processes, tmp_path, name
):
    one = RetrieverTrainer(
        without_dropout(load(tiny_bert)),
        arguments(tmp_path / "one", **{**trainings[name], "per_device_train_batch_size": 12}),
        a_scored_set(positives=2),  # positives of one process are known positives in another
    )
    one.train()
    two = losses_of_two_processes[name]
    assert len(two) == 4
    np.testing.assert_allclose(two, losses_of(one), rtol=1e-4)


# ---- bad input -----------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="dataloader_num_workers: expected 0"):
        RetrieverTrainer(model, arguments(tmp_path, dataloader_num_workers=2), a_set())
    with pytest.raises(ValueError, match="no queries"):
        RetrieverTrainer(model, arguments(tmp_path), a_set().take([]))
    trainer = RetrieverTrainer(model, arguments(tmp_path), a_set())
    with pytest.raises(ValueError, match="there is no Validation"):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 0.0, "temperature: expected a number above 0, got 0.0"),
        ("train_group_size", 0, "train_group_size: expected 1 or more, got 0"),
        ("refresh_steps", -1, "refresh_steps: expected 0 or more, got -1"),
        ("neftune_noise_alpha", 5.0, "neftune_noise_alpha: not for retrievers, got 5.0"),
        ("refresh_skip", 190, "refresh_negatives: expected at most .*, 10, got 20"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **{name: value})


def test_a_low_average_rank_is_the_best(tmp_path):
    assert not arguments(tmp_path, metric_for_best_model="average_rank").greater_is_better
    assert arguments(tmp_path, metric_for_best_model="nDCG@10").greater_is_better
