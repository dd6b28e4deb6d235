"""The study of Invar-RAG from files, with models trained for a few steps."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft", reason="not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

import torch
from invar_inputs import from_files, write_inputs

from tilefold.cli.main import main
from tilefold.data import read_training, write_rewrites
from tilefold.files.steps import Steps
from tilefold.studies.invar import INVAR, run_invar
from tilefold.studies.invar.invar_result import (
    CLOSED_BOOK,
    COARSE,
    ENSEMBLE,
    GOLD,
    ORIGINAL,
    RERANKED,
    REWRITES,
    STAGE_2,
    UNTRAINED,
    VANILLA,
)
from tilefold.studies.invar.invar_subject import InvarSubject
from tilefold.studies.invar.starting_model import trained_retriever
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import read_result

EXAMPLES = Path(__file__).parents[2] / "examples"


class Recorded(Reporter):
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.warnings: list[str] = []

    def fact(self, name: str, text: str) -> None:
        self.facts.append(name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(
    "changes",
    [
        {"alignment": "representation", "divergence": "mse"},
        {"alignment": "representation", "representation_temperature": 0.1},
        {"alignment": "likelihood", "divergence": "js"},
        {"invariance": "variance", "divergence": "reverse_kl"},
        {"invariance": "risk", "training_windows": [3, 4], "n_views": 2},
        {"top_patterns": 2, "beta": 0.5, "windows": [4]},
        {"rewrites": None, "unseen_rewrites": None, "variants": ["full", "augmentation"]},
        {"invariance": "risk", "invariance_mask": "queries", "invariance_temperature": 0.1},
        {"refresh_steps": 1, "retrieval_in_generation": "merged"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_every_form_trains_from_files(files, changes):
    result = run_invar(from_files(files, **changes))
    assert {row.system for row in result.generation} == {
        CLOSED_BOOK,
        VANILLA,
        ENSEMBLE,
        STAGE_2,
        GOLD,
    }
    assert all(np.isfinite(row.value.mean) for row in (*result.retrieval, *result.robustness))
    assert result.counts["test questions"] == 10


def test_stage_2_may_be_trained_over_the_retrievers_of_several_variants(files):
    variants = ["full", "no invariance"]
    settings = from_files(files, variants=variants, generator_variants=variants, seeds=[0, 1])
    result = run_invar(settings)
    names = list(dict.fromkeys(row.system for row in result.generation))
    other = [name.replace(STAGE_2, f"{STAGE_2}, no invariance") for name in (STAGE_2, GOLD)]
    assert names == [CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD, *other]
    seeds = {row.system: len(row.by_seed) for row in result.generation}
    assert seeds == {name: 1 if name == CLOSED_BOOK else 2 for name in names}
    assert other[0] in {row.other for row in result.generation_gains}


def test_an_encoder_takes_the_place_of_the_language_model_without_stage_2(files):
    encoder = {"model": str(files / "coarse"), "generator_variants": []}
    encoder |= {"query_max_length": 64, "document_max_length": 64}  # as many as it reads
    settings = from_files(files, variants=["full", "no invariance"], **encoder)
    result = run_invar(settings)
    assert result.generation == ()
    rows = {(row.system, row.condition, row.measure): row for row in result.retrieval}
    # The model before training is the coarse encoder, with its own prefixes.
    for condition, measure in {(row.condition, row.measure) for row in result.retrieval}:
        own = rows[UNTRAINED, condition, measure]
        assert own.value == rows[COARSE, condition, measure].value
    changed = run_invar(from_files(files, query_prefix="a ", **encoder))
    before = [row.value for row in result.retrieval if row.system == UNTRAINED]
    assert before != [row.value for row in changed.retrieval if row.system == UNTRAINED]


@pytest.mark.parametrize(
    ("changes", "pooling", "append_eos"),
    [
        ({}, "last", True),
        ({"pooling": "last"}, "last", True),
        ({"pooling": "mean"}, "mean", False),
        ({"model": "coarse", "generator_variants": []}, "mean", False),
        ({"model": "coarse", "generator_variants": [], "pooling": "last"}, "last", False),
    ],
)
def test_texts_are_pooled_as_chosen_or_as_the_model_does(
    files, tmp_path, changes, pooling, append_eos
):
    if "model" in changes:
        changes = {**changes, "model": str(files / changes["model"])}
    settings = from_files(files, query_max_length=32, document_max_length=32, **changes)
    result = run_invar(settings, steps=Steps(tmp_path))
    assert bool(result.generation) == ("model" not in changes)  # stage 2 reads its adapter, too
    subject = InvarSubject("", settings.model, *[None] * 4, [], "")
    (adapter, *_) = (path.parent for path in tmp_path.glob("**/retriever*/**/adapter_config*"))
    model = trained_retriever(subject, settings, adapter).query_encoder
    assert (model.pooling, model.append_eos) == (pooling, append_eos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "generator_variants: expected none, as .*coarse is no causal language model"),
        ({"dtype": "bfloat16"}, "dtype: expected float32"),
        ({"alignment": "likelihood"}, "alignment: expected scores or representation"),
    ],
)
def test_an_encoder_has_no_use_for_settings_of_language_models(files, changes, message):
    none = {"generator_variants": []} if changes else {}
    with pytest.raises(ValueError, match=message):
        run_invar(from_files(files, model=str(files / "coarse"), **none, **changes))


def test_further_retrievers_are_measured_as_they_are(files):
    result = run_invar(from_files(files, baselines=[str(files / "coarse")], generator_variants=[]))
    own, coarse = (
        [dataclasses.replace(row, system="") for row in result.retrieval if row.system == name]
        for name in (str(files / "coarse"), COARSE)
    )
    assert own == coarse
    with pytest.raises(FileNotFoundError, match="no folder"):
        run_invar(from_files(files, baselines=[str(files / "absent")]))
    for name in ("full", "coarse encoder"):
        with pytest.raises(ValueError, match=f"baselines: '{name}' is the name of another"):
            run_invar(from_files(files, baselines=[name]))
    rows = {row.system for row in result.robustness if row.measure == "variance of probabilities"}
    assert rows == {COARSE, UNTRAINED, "full"}  # the temperature of others is not known


def test_the_full_retriever_ranks_coarse_candidates_again(files):
    options = {"generator_variants": [], "windows": [4], "variants": ["full", "no invariance"]}
    every = run_invar(from_files(files, rerank_depth=100, **options))  # there are 30 documents
    for rows in (every.retrieval, every.robustness):
        full, again = (
            {(row.condition, row.measure): row.value for row in rows if row.system == name}
            for name in ("full", RERANKED)
        )
        differ = {key for key in full if full[key] != again.get(key)}
        assert {measure for _, measure in differ} <= {"variance of probabilities"}
    assert {row.other for row in every.comparisons} == {"no invariance"}
    one = run_invar(from_files(files, rerank_depth=1, cutoff=1, **options))
    found = {(row.system, row.condition, row.measure): row.value for row in one.retrieval}
    for condition in (ORIGINAL, REWRITES):  # the first of one candidate is the coarse encoder's
        own, coarse = (found[name, condition, "Success@1"] for name in (RERANKED, COARSE))
        assert own == coarse
    (retrieval, *_) = INVAR.sections(one)
    words = f"{RERANKED}: full ranks the coarse encoder's first 1 again"
    assert words in retrieval.blocks[0].text


def test_bfloat16_is_the_precision_of_the_model_but_not_of_its_adapters(files, tmp_path):
    settings = from_files(files, dtype="bfloat16", learning_rate=0.01)
    result = run_invar(settings, steps=Steps(tmp_path))
    other = run_invar(from_files(files, learning_rate=0.01), steps=Steps(tmp_path))
    assert len(list(tmp_path.glob("**/adapter_model.safetensors"))) > 1  # trained twice
    assert [row.losses for row in result.curves] != [row.losses for row in other.curves]
    subject = InvarSubject("", str(files / "llama"), *[None] * 4, [], "")
    (adapter, *_) = sorted(
        path.parent for path in tmp_path.glob("**/retriever*/**/adapter_config*")
    )
    model = trained_retriever(subject, settings, adapter).query_encoder.model
    found = {name: weight.dtype for name, weight in model.named_parameters()}
    assert {kind for name, kind in found.items() if "lora" not in name} == {torch.bfloat16}
    assert {kind for name, kind in found.items() if "lora" in name} == {torch.float32}


def test_questions_without_answers_leave_out_stage_2(files, tmp_path):
    for name in ("train", "test"):
        lines = [json.loads(line) for line in (files / f"{name}.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("answers")
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    progress = Recorded()
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("test",)}
    settings = from_files(files, data=str(tmp_path / "train.jsonl"), **paths)
    result = run_invar(settings, progress=progress)
    assert result.generation == ()
    assert any("Stage 2 is left out" in text for text in progress.warnings)
    settings = dataclasses.replace(settings, alignment="likelihood")
    with pytest.raises(ValueError, match="alignment: expected scores or representation, as"):
        run_invar(settings)


def test_rewrites_that_the_training_has_are_not_unseen(files, tmp_path):
    path = tmp_path / "leaked.jsonl"
    train = read_training(files / "train.jsonl")
    names = [f"q{n}" for n in range(20, 30)]
    own = [[train.queries[0], "a hen over a fox", f"the barn sleeps {'a ' * n}"] for n in range(10)]
    write_rewrites(path, names, own)
    result = run_invar(from_files(files, unseen_rewrites=str(path)))
    assert result.counts["unseen rewrites that the training has, left out"] == 10
    assert result.counts["unseen rewrites"] == 20  # that are measured
    assert all(train.queries[0] not in strip.wordings for strip in result.strips)


def test_test_questions_with_too_few_rewrites_are_left_out_and_reported(files, tmp_path):
    path = tmp_path / "few.jsonl"
    write_rewrites(path, [f"q{n}" for n in range(20, 30)], [["a hen", "a fox"]] * 4 + [["a"]] * 6)
    progress = Recorded()
    result = run_invar(from_files(files, unseen_rewrites=str(path)), progress=progress)
    assert result.counts["test questions"] == 4
    assert any("6 test questions are left out" in text for text in progress.warnings)
    write_rewrites(path, ["q20"], [["a hen"]])
    with pytest.raises(ValueError, match="n_unseen: expected a test question with 2 rewrites"):
        run_invar(from_files(files, unseen_rewrites=str(path)))


@pytest.mark.parametrize("name", ["invar_canonical", "invar_author_2025", "invar_author_2026"])
def test_the_configurations_run_with_small_models(files, name, tmp_path, monkeypatch):
    monkeypatch.setenv("INVAR_MODEL", str(files / "llama"))
    monkeypatch.setenv("INVAR_COARSE", str(files / "coarse"))
    monkeypatch.setenv("INVAR_DATA", str(files / "train.jsonl"))
    monkeypatch.setenv("INVAR_TEST", str(files / "test.jsonl"))
    monkeypatch.setenv("INVAR_REWRITES", str(files / "train-rewrites.jsonl"))
    monkeypatch.setenv("INVAR_UNSEEN", str(files / "test-rewrites.jsonl"))
    words = ["invar", "run", "--config", str(EXAMPLES / f"{name}.yaml"), "--out", str(tmp_path)]
    words += ["--epochs", "1", "--generator-epochs", "1", "--max-length", "256", "--seeds", "0"]
    words += ["--max-new-tokens", "2", "--variants", "full", "--template", "popqa"]
    words += ["--group-negatives", "2", "--depth", "5", "--n-passages", "1"]
    assert main(words) == 0
    assert (tmp_path / "report.html").is_file()
    assert json.loads((tmp_path / "invar.json").read_text())


def test_the_loss_trains_a_retriever_that_aar_adapted(files, tmp_path, monkeypatch):
    monkeypatch.setenv("AAR_RETRIEVER", str(files / "coarse"))
    monkeypatch.setenv("AAR_TRAIN", str(files / "train.jsonl"))
    monkeypatch.setenv("AAR_TEST", str(files / "test.jsonl"))
    words = ["invar", "run", "--config", str(EXAMPLES / "invar_aar.yaml"), "--out", str(tmp_path)]
    words += ["--seeds", "0", "--lora-rank", "2", "--group-negatives", "2", "--depth", "5"]
    words += ["--query-max-length", "64", "--document-max-length", "64"]
    assert main(words) == 0
    result = read_result(tmp_path / "invar.json", INVAR)
    assert result.generation == ()
    assert {row.variant for row in result.curves} == {"full", "no invariance", "augmentation"}


# ---- settings ------------------------------------------------------------------------------------
