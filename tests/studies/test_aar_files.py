"""The study of AAR from checkpoints and files, with models of random weights."""

import json
import re
import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

import torch

import tiny_language_models
from tilefold.data import write_training
from tilefold.data.training_set import TrainingSet
from tilefold.files.locked import locked
from tilefold.files.steps import Steps
from tilefold.models import BiEncoder, CausalLM, Encoder, FusionInDecoder
from tilefold.models.checkpoints.language_model_checkpoint import is_encoder_decoder
from tilefold.ragged_lists import Lists
from tilefold.studies.aar import AARSettings, run_aar
from tilefold.studies.aar.aar_files import file_subject
from tilefold.studies.aar.aar_result import CLOSED_BOOK, GENREAD, UNADAPTED
from tilefold.studies.aar.aar_settings import SignalName
from tilefold.studies.aar.source_lms import open_source_lm, signal_of
from tilefold.studies.study import NoStepStore, Reporter

WORDS = ["red", "blue", "hen", "fox", "barn"]
N = 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A retriever, a T5, a GPT-2, a training file, questions and a second corpus."""
    import transformers

    root = tmp_path_factory.mktemp("files")
    tiny_language_models.save("T5ForConditionalGeneration", root / "t5")
    tiny_language_models.save("GPT2LMHeadModel", root / "gpt2", n_positions=64)
    tiny_language_models.save_words("GPT2LMHeadModel", root / "gpt2", length=64)
    words = transformers.AutoTokenizer.from_pretrained(root / "t5")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(
        **sizes, vocab_size=32, num_hidden_layers=1, max_position_embeddings=32
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    BiEncoder(Encoder(model, words)).save_pretrained(root / "retriever")
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 4)) for _ in range(N)]
    listed = Lists.pack([[n] for n in range(N)]), Lists.pack([[(n + 1) % N] for n in range(N)])
    queries = [f"the {text}" for text in documents]
    names = [f"q{n}" for n in range(N)], [f"d{n}" for n in range(N)]
    answers = [(text.split()[0],) for text in documents]
    data = TrainingSet(names[0], queries, names[1], documents, *listed, answers)
    write_training(root / "train.jsonl", data)
    questions = [
        {"id": f"t{n}", "question": f"a {documents[n]}", "possible_answers": list(answers[n])}
        for n in range(5)
    ]
    (root / "popqa.jsonl").write_text("".join(json.dumps(one) + "\n" for one in questions))
    rows = [{"_id": f"c{n}", "text": text} for n, text in enumerate(reversed(documents))]
    (root / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return root


def settings(folder: Path, **changes) -> AARSettings:
    options = {
        "retriever": str(folder / "retriever"),
        "source_lm": str(folder / "t5"),
        "data": str(folder / "train.jsonl"),
        "targets": [f"fusion:{folder / 't5'}", f"concatenation:{folder / 'gpt2'}"],
        "tasks": [f"popqa:{folder / 'popqa.jsonl'}"],
        "modes": ["both"],
        "seeds": [0],
        "n_retrieved": 4,
        "depth": 10,
        "n_negatives": 4,
        "group_negatives": 2,
        "dev_questions": 3,
        "epochs": 1,
        "train_batch_size": 4,
        "examples": 2,
    }
    return AARSettings(**{**options, **changes})


@pytest.fixture(scope="module")
def result(folder, tmp_path_factory):
    corpora = [str(folder / "corpus.jsonl"), str(folder / "train.jsonl")]
    tasks = [f"popqa:{folder / 'popqa.jsonl'}"] * 2
    chosen = settings(folder, tasks=tasks, corpora=corpora[:1] * 2)
    with pytest.raises(ValueError, match="is there twice with one corpus"):
        run_aar(chosen)
    copy = folder / "copy.jsonl"
    copy.write_text((folder / "corpus.jsonl").read_text())
    chosen = settings(folder, tasks=tasks, corpora=[corpora[0], str(copy)])
    return run_aar(chosen, steps=Steps(tmp_path_factory.mktemp("steps")))


def test_a_task_on_two_corpora_is_measured_on_each(result, folder):
    tasks = list(dict.fromkeys(row.task for row in result.accuracies))
    assert [name.partition(" on ")[2].removesuffix(")") for name in tasks] == [
        str(folder / "corpus.jsonl"),
        str(folder / "copy.jsonl"),
    ]
    for name in tasks:
        own = [row for row in result.accuracies if row.task == name]
        assert {row.retrieval for row in own} == {CLOSED_BOOK, UNADAPTED, "both"}
        assert {row.target for row in own} == {
            f"fusion:{folder / 't5'}",
            f"concatenation:{folder / 'gpt2'}",
        }
    first, second = ([row.accuracy for row in result.accuracies if row.task == n] for n in tasks)
    assert first == second  # the corpora are equal


def test_targets_with_cross_attention_annotate_as_well(result, folder):
    names = {row.first for row in result.overlaps} | {row.second for row in result.overlaps}
    assert names == {"human", "source LM", f"fusion:{folder / 't5'}"}
    (same,) = [row for row in result.overlaps if row.first == "source LM"]
    assert same.overlap.mean == 1  # the target is the source LM


def test_dev_questions_are_the_last_and_are_not_trained_on(result):
    (counts,) = result.training
    assert counts.questions + counts.dropped == N - 3


def test_answers_come_from_another_file(folder, tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [{"_id": f"q{n}", "answers": ["zebra"]} for n in range(N)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    subject = file_subject(settings(folder, answers=str(path)), NoStepStore(), Reporter())
    assert set(subject.source.answers) == {("zebra",)}
    assert set(subject.dev.answers) == {("zebra",)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev_questions": N}, f"dev_questions: hold_out: expected 1 to {N - 1} queries, got {N}"),
        ({"targets": ["t5"]}, "targets: expected fusion:NAME or concatenation:NAME or api:NAME"),
        ({"tasks": ["trivia:x"]}, "tasks: expected popqa:NAME or mmlu:NAME"),
        ({"title_format": "{name}"}, "title_format: expected a template"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_training(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        run_aar(settings(folder, **changes))


def test_an_lm_without_a_number_of_passages_is_refused_before_the_training(folder, tmp_path):
    (tmp_path / "anatomy_val.csv").write_text("Which is a bone?,hen,fox,barn,red,A\n")
    with pytest.raises(ValueError, match="the paper has no number of passages for the LM"):
        run_aar(settings(folder, tasks=[f"mmlu:{tmp_path / 'anatomy_val.csv'}"]))


def test_genread_of_an_lm_without_room_for_a_document_is_refused_before_the_training(folder):
    with pytest.raises(ValueError, match="gpt2 reads and writes 64 tokens together, which leaves"):
        run_aar(settings(folder, genread=True))


def test_genread_of_an_lm_that_writes_nothing_is_closed_book(folder, tmp_path, monkeypatch):
    from tilefold.aar import FusedTarget

    whole = FusedTarget.answer

    def answer(self, questions, *args, **options):
        asked = "Generate a background document" in questions[0]
        return [""] * len(questions) if asked else whole(self, questions, *args, **options)

    monkeypatch.setattr(FusedTarget, "answer", answer)

    class Listener(Reporter):
        def warn(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    chosen = settings(folder, targets=[f"fusion:{folder / 't5'}"], genread=True)
    found = run_aar(chosen, steps=Steps(tmp_path), progress=Listener())
    (text,) = warnings
    assert "t5 wrote no document for 5 of 5 questions of PopQA, which it answers closed" in text
    rows = {row.retrieval: row.accuracy for row in found.accuracies}
    assert rows[GENREAD] == rows[CLOSED_BOOK]
    assert {row.retrieval for row in found.gains} == {"both"}


SIGNALS = {
    "t5": {*get_args(SignalName)} - {"causal attention"},
    "gpt2": {
        "causal attention",
        "likelihood",
        "perplexity distillation",
        "graded perplexity reduction",
    },
}


@pytest.mark.parametrize("signal", get_args(SignalName))
@pytest.mark.parametrize("lm", ["t5", "gpt2"])
def test_an_lm_is_opened_by_its_family_for_the_signals_that_it_has(folder, lm, signal):
    name = str(folder / lm)
    if signal not in SIGNALS[lm]:
        family = {"t5": "an encoder-decoder", "gpt2": "a decoder-only LM"}
        other = family["gpt2" if lm == "t5" else "t5"]
        message = f"signal: '{signal}' needs {other}, and the source LM {name} is {family[lm]}"
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            open_source_lm(name, signal)
        listed = str(caught.value).rpartition("which has: ")[2]
        assert {*listed.split(", ")} == SIGNALS[lm]
        return
    model = open_source_lm(name, signal)
    assert type(model) is {"t5": FusionInDecoder, "gpt2": CausalLM}[lm]
    one = signal_of(signal, model, batch_size=4)
    passages = [["the hen", "a red fox runs", "barn"], ["blue hen", "over the barn"]]
    found = one.scores(["the fox", "a hen"], passages, [["red"], ["barn", "blue hen"]])
    assert np.isfinite(found).tolist() == [[True] * 3, [True, True, False]]
    assert len(np.unique(found[0])) == 3


def test_a_decoder_only_lm_reads_passages_as_a_target_does(folder):
    """Equals the likelihood of " answer" after a passage, a blank line and PopQA's prompt."""
    model = open_source_lm(str(folder / "gpt2"), "likelihood")
    found = signal_of("likelihood", model, batch_size=4).scores(["a fox"], [["the hen"]], [["red"]])
    expected = model.log_likelihood(["the hen\n\nQ: a fox A:"], [" red"]).sum
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    reduction = signal_of("graded perplexity reduction", model, batch_size=4)
    (value,) = reduction.scores(["a fox"], [["the hen"]], [["red"]])[0]
    closed = model.log_likelihood(["Q: a fox A:"], [" red"]).sum
    assert value == pytest.approx(float(1 - np.exp(closed - expected)[0]), rel=1e-4)


def test_a_study_adapts_to_the_attention_of_a_decoder_only_lm(folder):
    found = run_aar(settings(folder, source_lm=str(folder / "gpt2"), signal="causal attention"))
    names = {row.first for row in found.overlaps} | {row.second for row in found.overlaps}
    # Of the targets, the decoder-only one annotates as well.
    assert names == {"human", "source LM", f"concatenation:{folder / 'gpt2'}"}
    (same,) = [row for row in found.overlaps if row.first == "source LM"]
    assert same.overlap.mean == 1
    assert {row.retrieval for row in found.gains} == {"both"}


def test_an_lm_that_lacks_the_signal_is_refused_before_the_training(folder):
    with pytest.raises(ValueError, match="signal: 'attention' needs an encoder-decoder"):
        run_aar(settings(folder, source_lm=str(folder / "gpt2")))


def test_the_family_of_an_adapter_is_that_of_its_model(folder, tmp_path):
    for name, expected in (("t5", True), ("gpt2", False)):
        config = {"base_model_name_or_path": str(folder / name)}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        assert is_encoder_decoder(tmp_path) is expected


def test_responses_of_a_service_are_kept_in_the_folder_of_the_steps(folder, tmp_path, monkeypatch):
    from tilefold.aar import ScoredApi

    seen = []
    monkeypatch.setattr(
        ScoredApi, "__init__", lambda self, service, **options: seen.append(options["cache"])
    )
    monkeypatch.setattr(ScoredApi, "fingerprint", lambda self: "x", raising=False)
    monkeypatch.setattr(ScoredApi, "answer", lambda self, q, *a, **o: ["hen"] * len(q))
    monkeypatch.setattr(ScoredApi, "name", "gpt", raising=False)
    chosen = settings(folder, targets=["api:gpt@http://127.0.0.1:9/v1"])
    run_aar(chosen, steps=Steps(tmp_path))
    (cache,) = seen
    assert cache.name == "responses.sqlite"
    assert tmp_path in cache.parents
    assert cache.parent.is_dir()


def with_answers(folder: Path, name: str, answers: list[str]) -> str:
    """Writes the training file with the same answers to every question."""
    path = folder / name
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "answers": answers}) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("answers", [[], [" "]])
def test_a_signal_without_its_answers_is_refused_before_passages_are_retrieved(
    folder, tmp_path, answers
):
    data = with_answers(folder, f"without{len(answers)}.jsonl", answers)
    with pytest.raises(
        ValueError, match=r"'answer likelihood' needs an answer .* 11 of 11 have none"
    ):
        run_aar(settings(folder, data=data, signal="likelihood"), steps=Steps(tmp_path))
    assert not list(tmp_path.glob("*.safetensors"))


def test_other_answers_to_the_questions_in_training_are_measured_anew(folder, tmp_path):
    for n, answers in enumerate((["hen"], ["fox"])):
        data = with_answers(folder, f"answers{n}.jsonl", answers)
        run_aar(settings(folder, data=data), steps=Steps(tmp_path))
    assert len(list(tmp_path.glob("retriever-*"))) == 2


def test_blank_answers_count_as_none(folder):
    found = run_aar(settings(folder, data=with_answers(folder, "blank.jsonl", [" "])))
    assert found.deletions == ()
    assert all(np.isnan(point.accuracy) for point in found.curves)


def test_prompts_beyond_the_limit_of_a_t5_tokenizer_are_read_whole(folder, tmp_path):
    """Questions of MMLU have more than the 512 tokens that Flan-T5's tokenizer names."""
    path = tmp_path / "anatomy_val.csv"
    path.write_text("Which is a bone?,hen,fox,barn,red,A\n")
    target = f"fusion:{folder / 't5'}"  # its tokenizer names 24
    chosen = settings(folder, tasks=[f"mmlu:{path}"], targets=[target], n_passages=2)
    found = run_aar(chosen)
    assert {row.retrieval for row in found.accuracies} == {CLOSED_BOOK, UNADAPTED, "both"}


def test_two_runs_in_one_folder_share_a_training(folder, tmp_path):
    chosen = settings(folder)
    expected = run_aar(chosen, steps=Steps(tmp_path))
    (trained,) = tmp_path.glob("retriever-*")
    waits, found = threading.Event(), []

    class Waiting(Reporter):
        def warn(self, text):
            assert str(trained) in text
            waits.set()

    def later():
        found.append(run_aar(chosen, steps=Steps(tmp_path), progress=Waiting()))

    thread = threading.Thread(target=later)
    with locked(trained):
        thread.start()
        assert waits.wait(60)
        assert not found
    thread.join()
    assert found[0].accuracies == expected.accuracies
