"""The study of Invar-RAG from a world and from files, with models trained for a few steps."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("peft", reason="not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

import torch
import transformers
from small_readers import use_small_readers

import tilefold.invar
import tiny_language_models
from tilefold.cli.main import main
from tilefold.data import read_training, write_rewrites, write_training
from tilefold.data.training_set import TrainingSet
from tilefold.files.steps import Steps
from tilefold.models import BiEncoder, Encoder
from tilefold.ragged_lists import Lists
from tilefold.studies.invar import (
    INVAR,
    InvarSettings,
    generation_stage,
    retrieval_stage,
    run_invar,
    trained_generators,
)
from tilefold.studies.invar.generator_settings import GeneratorSettings
from tilefold.studies.invar.invar_result import (
    BM25,
    BOTH,
    CLOSED_BOOK,
    COARSE,
    DPR,
    ENSEMBLE,
    GOLD,
    ORIGINAL,
    RERANKED,
    REWRITES,
    STAGE_2,
    UNTRAINED,
    VANILLA,
    WINDOWS,
)
from tilefold.studies.invar.invar_subject import InvarSubject
from tilefold.studies.invar.retriever_settings import RetrieverSettings
from tilefold.studies.invar.stage_1 import Stage1, training_key
from tilefold.studies.invar.starting_model import trained_retriever
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import read_result
from tilefold.world import reading_retriever

EXAMPLES = Path(__file__).parents[2] / "examples"
WORLD = InvarSettings(
    world="tiny",
    seeds=[0, 1],
    n_views=1,
    windows=[16],
    sweep_weights=[1.0],
    lora_rank=2,
    lora_alpha=4.0,
    lora_dropout=0.0,
    depth=10,
    group_negatives=2,
    epochs=1,
    train_batch_size=32,
    temperature=0.05,
    query_max_length=48,
    document_max_length=96,
    generator_epochs=1,
    n_passages=2,
    max_new_tokens=2,
    max_length=256,
    examples=2,
)


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
def cache(tmp_path_factory):
    """A folder of models that have one layer and were trained for two steps."""
    with pytest.MonkeyPatch.context() as patch:
        use_small_readers(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("invar")


@pytest.fixture(scope="module")
def result(cache, folder):
    return run_invar(WORLD, steps=Steps(folder))


def test_every_retriever_is_measured_on_both_wordings(result):
    systems = dict.fromkeys(row.system for row in result.retrieval)
    assert list(systems) == [BM25, COARSE, DPR, UNTRAINED, *WORLD.variants]
    for system in systems:
        own = {
            (row.condition, row.measure): row for row in result.retrieval if row.system == system
        }
        assert {condition for condition, _ in own} == {ORIGINAL, REWRITES}
        assert {measure for _, measure in own} == {"RR@10", "Success@1", "R@100"}
        seeds = 2 if system in WORLD.variants else 1
        assert {len(row.by_seed) for row in own.values()} == {seeds}
        assert all(0 <= row.value.mean <= 1 for row in own.values())


def test_robustness_is_measured_over_rewrites_over_windows_and_over_both(result):
    full = {(row.condition, row.measure) for row in result.robustness if row.system == "full"}
    assert {condition for condition, _ in full} == {REWRITES, WINDOWS, BOTH}
    names = {"deviation of RR@10", "lowest RR@10", "Jaccard@10", "RBO@10", "flips of Success@1"}
    for condition in (REWRITES, WINDOWS, BOTH):
        own = {name for of, name in full if of == condition}
        assert own == {*names, "variance of probabilities"}
    words = {row.measure for row in result.robustness if row.system == BM25}
    assert "variance of probabilities" not in words  # BM25 has no probabilities


def test_the_full_retriever_is_compared_with_every_variant(result):
    assert {row.other for row in result.comparisons} == set(WORLD.variants) - {"full"}
    for row in result.comparisons:
        found = {
            one.system: one.value.mean
            for one in (*result.retrieval, *result.robustness)
            if (one.condition, one.measure) == (row.condition, row.measure)
        }
        assert row.comparison.model.mean == pytest.approx(found["full"])
        assert row.comparison.base.mean == pytest.approx(found[row.other])


def test_questions_about_the_same_passages_are_one_sample_of_every_measure(result):
    """Chains of passages connect most of this world, so groups are questions with equal ones."""
    n = result.counts["test questions"]
    assert result.samples == f"groups of {n} questions that have the same relevant passages"
    sizes = {row.n for row in (*result.retrieval, *result.robustness, *result.generation)}
    sizes |= {row.comparison.n for row in (*result.comparisons, *result.generation_gains)}
    (samples,) = sizes
    assert n / 2 < samples < n
    for row in (*result.retrieval, *result.robustness, *result.generation):
        assert np.mean(row.by_seed) == pytest.approx(row.value.mean)


def test_losses_are_those_that_a_variant_has(result):
    terms = {row.variant: set(row.losses) for row in result.curves}
    assert terms["full"] == terms["no lora"] == {"contrastive", "alignment", "invariance"}
    assert terms["no alignment"] == {"contrastive", "invariance"}
    assert terms["no invariance"] == terms["augmentation"] == {"contrastive", "alignment"}


def test_answers_are_measured_before_and_after_stage_2(result):
    systems = list(dict.fromkeys(row.system for row in result.generation))
    assert systems == [CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD]
    assert {row.measure for row in result.generation} == {"EM", "F1", "contains"}
    assert {row.other for row in result.generation_gains} == {CLOSED_BOOK, VANILLA, ENSEMBLE}


def test_the_sweep_has_the_weight_of_the_study_and_the_others(result):
    assert {point.value for point in result.sweep} == {1.0, WORLD.invariance_weight}
    (same,) = [
        row.by_seed[0]
        for row in result.retrieval
        if (row.system, row.condition, row.measure) == ("full", REWRITES, "RR@10")
    ]
    (found,) = [
        point.result.mean
        for point in result.sweep
        if point.value == WORLD.invariance_weight and point.measure.startswith("RR@10")
    ]
    assert found == pytest.approx(same)


def test_strips_have_the_rank_of_each_passage_under_each_wording(result):
    assert len(result.strips) == WORLD.examples
    for strip in result.strips:
        assert len(strip.wordings) == 1 + WORLD.n_unseen
        assert list(strip.ranks) == ["full", "no invariance"]
        full = strip.ranks["full"]
        assert full[0] == tuple(range(1, len(strip.passages) + 1))
        assert len(full) == len(strip.wordings)


def test_a_second_run_trains_nothing_and_is_equal(result, folder, monkeypatch):
    for stage in (retrieval_stage, generation_stage):
        monkeypatch.setattr(stage, "_trainer", lambda *_: pytest.fail("a second training"))
    steps = Steps(folder)
    again = run_invar(WORLD, steps=steps)
    assert steps.resumed > 0
    assert dataclasses.replace(again, stages=()) == dataclasses.replace(result, stages=())


def test_the_report_and_the_summary_show_every_table(result):
    headings = [section.heading for section in INVAR.sections(result)]
    assert headings == [
        "Retrieval",
        "Robustness",
        "Answers",
        "Questions under their rewrites",
        "Weights and views",
        "Training",
    ]
    tables = [table.heading for table in INVAR.summary(result)]
    assert f"Retrieval, {REWRITES}" in tables
    assert "Comparisons of answers" in tables


# ---- from files ----------------------------------------------------------------------------------

WORDS = [word for word in tiny_language_models.WORDS if word not in ("the", "a")]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A Llama, a coarse encoder, training and test questions, and rewrites."""

    root = tmp_path_factory.mktemp("files")
    tiny_language_models.save("LlamaForCausalLM", root / "llama", max_position_embeddings=256)
    tiny_language_models.save_words("LlamaForCausalLM", root / "llama", length=256)
    words = transformers.AutoTokenizer.from_pretrained(root / "llama")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(
        **sizes, vocab_size=32, num_hidden_layers=1, max_position_embeddings=64
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    BiEncoder(Encoder(model, words, pooling="mean")).save_pretrained(root / "coarse")
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 6)) for _ in range(30)]
    for name, rows in (("train", range(20)), ("test", range(20, 30))):
        data = TrainingSet(
            [f"q{n}" for n in rows],
            [f"the {documents[n]}" for n in rows],
            [f"d{n}" for n in range(30)],
            documents,
            Lists.pack([[n] for n in rows]),
            Lists.pack([[(n + 1) % 30] for n in rows]),
            [(documents[n].split()[0],) for n in rows],
        )
        write_training(root / f"{name}.jsonl", data)
        texts = [[f"a {documents[n]}", f"over {documents[n]}"] for n in rows]
        write_rewrites(root / f"{name}-rewrites.jsonl", data.query_ids, texts)
    return root


@pytest.fixture(scope="module")
def kept_steps(tmp_path_factory) -> Steps:
    return Steps(tmp_path_factory.mktemp("steps"))


def from_files(files: Path, **changes) -> InvarSettings:
    options = {
        "model": str(files / "llama"),
        "coarse": str(files / "coarse"),
        "data": str(files / "train.jsonl"),
        "test": str(files / "test.jsonl"),
        "rewrites": str(files / "train-rewrites.jsonl"),
        "unseen_rewrites": str(files / "test-rewrites.jsonl"),
        "variants": ["full"],
        "seeds": [0],
        "lora_rank": 2,
        "depth": 5,
        "group_negatives": 1,
        "epochs": 1,
        "train_batch_size": 8,
        "generator_epochs": 1,
        "max_new_tokens": 2,
        "n_passages": 1,
        "template": "popqa",
        **changes,
    }
    if options.get("generator_variants") == []:  # these have no effect then
        for name in {"generator_epochs", "max_new_tokens", "n_passages", "template"} - set(changes):
            del options[name]
    return InvarSettings(**options)


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


def test_answers_that_depend_on_no_training_are_computed_once(files, tmp_path, monkeypatch):
    steps, computed = Steps(tmp_path), []
    once = Steps.once

    def counted(self, name, depends, make):
        return once(self, name, depends, lambda: computed.append(name) or make())

    monkeypatch.setattr(Steps, "once", counted)
    result = run_invar(from_files(files, seeds=[0, 1]), steps=steps)
    assert [computed.count(name) for name in ("closed book", "answers before stage 2")] == [1, 2]
    seeds = {row.system: len(row.by_seed) for row in result.generation}
    assert seeds == {CLOSED_BOOK: 1, VANILLA: 2, ENSEMBLE: 2, STAGE_2: 2, GOLD: 2}
    computed.clear()
    run_invar(from_files(files, seeds=[0, 1], generator_learning_rate=1e-3), steps=steps)
    assert computed == ["answers"] * 2
    computed.clear()
    run_invar(from_files(files, seeds=[0, 1], max_new_tokens=3), steps=steps)
    assert computed == ["closed book", *["answers before stage 2", "answers"] * 2]


def test_a_training_that_was_stopped_ends_in_the_same_losses(files, tmp_path, monkeypatch):
    make = retrieval_stage._trainer
    settings = from_files(files, epochs=30, generator_variants=[])  # 90 steps, a line for each 4
    whole = run_invar(settings, steps=Steps(tmp_path / "whole"))

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 50:
                raise KeyboardInterrupt

    def stopped(*args):
        trainer = make(*args)
        trainer.add_callback(Stop())
        return trainer

    steps = Steps(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(retrieval_stage, "_trainer", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_invar(settings, steps=steps)
    assert list((tmp_path / "stopped").glob("**/checkpoint-*"))
    resumed = run_invar(settings, steps=steps)
    assert resumed.curves == whole.curves
    assert resumed.robustness == whole.robustness


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"alignment": "representation"}, {}),
        ({"divergence": "reverse_kl"}, {}),
        ({"alignment_weight": 2.0}, {}),
        ({"invariance": "risk"}, {}),
        ({"invariance_weight": 5.0}, {}),
        ({"warmup_share": 0.5}, {}),
        ({"ramp_share": 0.0, "warmup_share": 0.0}, {}),
        ({"n_views": 2}, {}),
        ({"training_windows": (3,)}, {}),
        ({"top_patterns": 1}, {}),
        ({"beta": 3.0}, {"top_patterns": 4}),
        ({"invariance_mask": "queries"}, {"invariance": "risk"}),
        ({"lora_rank": 3}, {}),
        ({"lora_alpha": 1.0}, {}),
        ({"lora_dropout": 0.5}, {}),
        ({"lora_targets": ("q_proj",)}, {}),
        ({"depth": 2}, {}),
        ({"group_negatives": 2}, {}),
        ({"refresh_steps": 1}, {}),
        ({"train_batch_size": 5}, {}),
        ({"learning_rate": 1e-2}, {}),
        ({"temperature": 0.5}, {}),
        ({"coarse_temperature": 0.5}, {}),
        ({"invariance_temperature": 0.5}, {}),
        ({"representation_temperature": 0.5}, {"alignment": "representation"}),
        ({"query_max_length": 4}, {}),
        ({"document_max_length": 4}, {}),
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_every_setting_of_stage_1_changes_its_losses(files, kept_steps, changes, base):
    base = {"generator_variants": [], "epochs": 2, "learning_rate": 1e-3, **base}
    curves = [
        run_invar(from_files(files, **{**base, **some}), steps=kept_steps).curves
        for some in ({}, changes)
    ]
    assert [point.losses for point in curves[0]] != [point.losses for point in curves[1]]


def test_kept_trainings_depend_on_every_setting(files):
    """On those of stage 1 and stage 2, but for the ones that name them."""
    settings = from_files(files)
    subject = InvarSubject("", "", *[None] * 4, [], "")
    stage = Stage1("full", 0, 1.0, 1.0, 1)
    key = training_key(subject, settings, stage, [])
    (chosen,) = (part for part in key if isinstance(part, dict))
    fields = {field.name for field in dataclasses.fields(RetrieverSettings)}
    of_stage = {field.name for field in dataclasses.fields(Stage1)} & fields
    assert of_stage == {"alignment_weight", "invariance_weight", "n_views"}
    assert tuple(key[-5:]) == dataclasses.astuple(stage)
    assert set(chosen) | of_stage | {"variants"} == fields
    fields = {field.name for field in dataclasses.fields(GeneratorSettings)}
    named = {"generator_variants", "template", "max_new_tokens"}  # template: of the subject
    assert fields - set(trained_generators._TRAINING) == named


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


def test_likelihoods_of_answers_are_computed_once(files, tmp_path, monkeypatch):
    computed = []
    teacher = tilefold.invar.likelihood_teacher

    def counted(*args, **options):
        computed.append(options["template"])
        return teacher(*args, **options)

    monkeypatch.setattr(tilefold.invar, "likelihood_teacher", counted)
    options = {"alignment": "likelihood", "variants": ["full", "no invariance"]}
    settings = from_files(files, **options)
    first = run_invar(settings, steps=Steps(tmp_path))
    assert computed == ["popqa"]
    for training in tmp_path.glob("retriever-*"):
        shutil.rmtree(training)
    again = run_invar(settings, steps=Steps(tmp_path))
    assert computed == ["popqa"]
    assert dataclasses.replace(again, stages=()) == dataclasses.replace(first, stages=())
    unkept = run_invar(settings)  # once in a run that keeps nothing
    assert computed == ["popqa"] * 2
    assert dataclasses.replace(unkept, stages=()) == dataclasses.replace(first, stages=())
    other = from_files(files, alignment="likelihood", template="author")
    run_invar(other, steps=Steps(tmp_path))
    assert computed == ["popqa", "popqa", "author"]


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": ["no lora"]}, "variants: expected 'full' among them"),
        (
            {"families": ["typo"], "unseen_families": ["typo"]},
            "expected none of families, got typo",
        ),
        ({"divergence": "mse"}, "divergence: mse is for representations"),
        ({"group_negatives": 11, "depth": 10}, "group_negatives: expected at most depth, 10"),
        ({"warmup_share": 0.7, "ramp_share": 0.4}, "ramp_share: expected at most 1 - warmup_share"),
        ({"lora_dropout": 1.5}, "lora_dropout: expected a number at least 0 and at most 1"),
        ({"lora_dropout": 1.0}, "lora_dropout: expected a number below 1"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"training_windows": [8], "n_views": 2}, "training_windows: expected as many widths"),
        ({"sweep_weights": [0.0]}, "sweep_weights: expected numbers above 0"),
        ({"seeds": []}, "seeds: expected one or more"),
        ({"lora_targets": []}, "lora_targets: expected one or more"),
        ({"lora_targets": ["q_proj", "query"]}, "lora_targets: expected all-linear or some of"),
        ({"lora_targets": ["all-linear", "q_proj"]}, "or names of layers, got both"),
        ({"pooling": "mean"}, "pooling: not with world"),
        ({"warmup_share": 1.0, "ramp_share": 0.0}, "warmup_share: expected a number below 1"),
        ({"alignment_weight": 0.0}, "variants: 'no alignment' is the same as 'full'"),
        ({"invariance_weight": 0.0}, "variants: 'no invariance' is the same as 'full'"),
        ({"rerank_depth": 9}, "rerank_depth: expected a number at least 10 and at most 100, got 9"),
        ({"cutoff": 101}, "cutoff: expected a number at least 1 and at most 100, got 101"),
        ({"families": []}, "families: expected one or more"),
        ({"rewrites": "r", "families": ["typo"]}, "families: not with rewrites, a file"),
        ({"rewrites": "r", "n_rewrites": 2}, "n_rewrites: not with rewrites, a file"),
        (
            {"unseen_rewrites": "r", "unseen_families": ["order"]},
            "unseen_families: not with unseen_rewrites, a file",
        ),
        (
            {"world": None, **dict.fromkeys(["model", "coarse", "data", "test"], "a")}
            | {"sweep_views": [3]},
            "sweep_views: expected at most n_rewrites, 1, got 3",
        ),
        ({"generator_variants": [], "gold_share": 0.1}, "gold_share: has no effect without gener"),
        ({"beta": 0.5}, "beta: has no effect without top_patterns"),
        ({"invariance_temperature": 0.0}, "invariance_temperature: expected a number above 0"),
        ({"invariance_mask": "queries"}, "invariance_mask: is of the form risk"),
        ({"generator_variants": ["full", "no lora"]}, "expected variants with an adapter"),
        ({"generator_variants": ["no invariance"]}, "generator_variants: expected 'full' among"),
        (
            {"variants": ["full"], "generator_variants": ["full", "augmentation"]},
            "generator_variants: expected some of variants",
        ),
        ({"dtype": "bfloat16"}, "dtype: expected float32, as the variant 'no lora'"),
        (
            {"generator_variants": [], "retrieval_in_generation": "merged"},
            "retrieval_in_generation: has no effect without generator_variants",
        ),
        ({"refresh_steps": 2, "alignment": "likelihood"}, "refresh_steps: expected 0 with"),
        ({"baselines": ["x"]}, "baselines: not with world"),
        ({"top_patterns": 2, "invariance": "risk"}, "top_patterns: is of the form consistency"),
        ({"representation_temperature": 1.0}, "representation_temperature: is of alignment"),
        ({"template": "popqa"}, "template: not with world"),
        ({"n_unseen": 5}, "n_unseen: not with world"),
        ({"n_views": 3}, "n_views: expected 1, as a world has one rewrite"),
        ({"model": "x"}, "model: not with world"),
        ({"answers": "x"}, "answers: not with world"),
        ({"world": None}, "expected world; or model, coarse, data, test"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        InvarSettings(**{"world": "tiny", **changes})


def test_a_coarse_retriever_of_other_wordings_is_another_model(cache):
    from tilefold.world.reading_world import make_reading_world

    world = make_reading_world("tiny")
    train = partial(reading_retriever.judged_retriever, world, range(64), width=16, layers=1)
    assert train(paraphrases=(0,), epochs=1) != train(epochs=1)
