"""`tilefold aar`: preferences and evaluation from files, with models of random weights."""

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

import tiny_language_models
from tilefold.cli.main import main
from tilefold.cli.verbs import aar as verb
from tilefold.data import read_training
from tilefold.studies.aar import AAR

DOCUMENTS = {
    "d1": "the red hen runs",
    "d2": "a blue fox sleeps",
    "d3": "the fox runs over the barn",
    "d4": "the hen sleeps under the barn",
}
QUESTIONS = {"q1": ("the red hen", "d1"), "q2": ("a fox", "d2")}


@pytest.fixture(scope="module")
def source_lm(tmp_path_factory) -> Path:
    return tiny_language_models.save("T5ForConditionalGeneration", tmp_path_factory.mktemp("t5"))


@pytest.fixture
def data(tmp_path) -> Path:
    path = tmp_path / "train.jsonl"
    lines = []
    for name, (question, gold) in QUESTIONS.items():
        passages = [
            {"docid": key, "title": "", "text": text}
            for key, text in sorted(DOCUMENTS.items(), key=lambda one: one[0] != gold)
        ]
        record = {"query_id": name, "query": question, "positive_passages": passages[:1]}
        lines.append(json.dumps({**record, "negative_passages": passages[1:]}))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def run(tmp_path) -> Path:
    path = tmp_path / "retriever.trec"
    orders = {"q1": ["d3", "d1", "d4", "d2"], "q2": ["d3", "d2", "d1", "d4"]}
    path.write_text(
        "".join(
            f"{query} Q0 {name} {rank} {10 - rank} tag\n"
            for query, names in orders.items()
            for rank, name in enumerate(names, 1)
        )
    )
    return path


def test_preferences_become_a_training_set(source_lm, data, run, tmp_path, capsys):
    out = tmp_path / "aar.jsonl"
    words = ["aar", "preferences", str(data), "--source-lm", str(source_lm), "--run", str(run)]
    words += ["--out", str(out), "--n-retrieved", "3", "--top-k", "1", "--depth", "4"]
    words += ["--negatives", "3"]
    assert main(words) == 0
    found = read_training(out)
    assert found.query_ids == ["q1", "q2"]
    for row, (_, gold) in enumerate(QUESTIONS.values()):
        names = [found.document_ids[d] for d in found.positives.of(row)]
        assert names[0] == gold
        assert 1 <= len(names) <= 2
        others = {found.document_ids[d] for d in found.negatives.of(row)}
        assert others == set(DOCUMENTS) - set(names)
    assert "2 by people, 2 by the LM" in capsys.readouterr().out
    assert (tmp_path / "aar.jsonl.yaml").is_file()


def test_the_mode_of_the_lm_trains_on_its_favourites_alone(source_lm, data, run, tmp_path):
    out = tmp_path / "lm.jsonl"
    words = ["aar", "preferences", str(data), "--source-lm", str(source_lm), "--run", str(run)]
    options = ["--mode", "lm", "--n-retrieved", "4", "--top-k", "1", "--signal", "attention mass"]
    assert main([*words, "--out", str(out), *options]) == 0
    found = read_training(out)
    for row, (_, gold) in enumerate(QUESTIONS.values()):
        assert len(found.positives.of(row)) == 1
        # A relevant passage is no negative, also where the LM prefers another.
        assert gold not in {found.document_ids[d] for d in found.negatives.of(row)}


def test_likelihoods_are_of_the_answers_of_another_file(source_lm, data, run, tmp_path):
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"_id": q, "answers": ["hen"]}) + "\n" for q in QUESTIONS)
    )
    words = ["aar", "preferences", str(data), "--source-lm", str(source_lm), "--run", str(run)]
    words += ["--signal", "likelihood", "--n-retrieved", "4", "--out", str(tmp_path / "out.jsonl")]
    assert main(words) == 1  # data has no answers
    assert main([*words, "--answers", str(answers)]) == 0
    assert read_training(tmp_path / "out.jsonl").answers == [("hen",)] * 2


def test_a_decoder_only_lm_annotates_by_its_own_signals(data, run, tmp_path, capsys):
    lm = tmp_path / "gpt2"
    tiny_language_models.save("GPT2LMHeadModel", lm, n_positions=64)
    tiny_language_models.save_words("GPT2LMHeadModel", lm, length=64)
    words = ["aar", "preferences", str(data), "--source-lm", str(lm), "--run", str(run)]
    words += ["--mode", "lm", "--n-retrieved", "4", "--top-k", "1", "--out", str(tmp_path / "x")]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "signal: 'attention' needs an encoder-decoder, and the source LM" in error
    assert not (tmp_path / "x").exists()
    assert main([*words, "--signal", "causal attention"]) == 0
    found = read_training(tmp_path / "x")
    assert [len(found.positives.of(row)) for row in range(len(found))] == [1, 1]


def test_more_negatives_than_the_depth_has_are_refused(data, tmp_path, capsys):
    words = ["aar", "preferences", str(data), "--source-lm", "x", "--out", str(tmp_path / "x")]
    assert main([*words, "--depth", "12"]) == 1
    assert "--negatives: expected at most --depth, 12, got 30" in capsys.readouterr().err


def test_a_run_of_other_documents_is_refused(source_lm, data, run, tmp_path, capsys):
    run.write_text("q1 Q0 nowhere 1 3 tag\n")
    words = ["aar", "preferences", str(data), "--source-lm", str(source_lm), "--run", str(run)]
    assert main([*words, "--out", str(tmp_path / "x")]) == 1
    assert "are not among those of" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def questions(tmp_path) -> Path:
    path = tmp_path / "popqa.jsonl"
    rows = [
        {"id": name, "question": question, "possible_answers": ["hen", "fox"]}
        for name, (question, _) in QUESTIONS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def corpus(tmp_path) -> Path:
    path = tmp_path / "corpus.jsonl"
    rows = [{"_id": name, "text": text} for name, text in DOCUMENTS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_target_is_evaluated_with_passages_and_without(source_lm, run, tmp_path, capsys):
    words = ["aar", "evaluate", "--task", f"popqa:{questions(tmp_path)}"]
    words += ["--target", f"fusion:{source_lm}"]
    answers = {}
    for name, more in {
        "closed": [],
        "open": ["--run", str(run), "--corpus", str(corpus(tmp_path)), "--n-passages", "2"],
    }.items():
        out = tmp_path / f"{name}.json"
        assert main([*words, *more, "--out", str(out)]) == 0
        found = json.loads(out.read_text())
        answers[name] = [one["answer"] for one in found["answers"]]
        assert [one["_id"] for one in found["answers"]] == ["q1", "q2"]
        right = sum(one["right"] for one in found["answers"]) / 2
        assert found["summary"]["accuracy"] == right
    assert answers["closed"] != answers["open"]
    assert "95% bootstrap interval" in capsys.readouterr().out


def test_a_target_is_evaluated_with_documents_that_it_writes(tmp_path, capsys):
    from tilefold.aar import FusedTarget, PopqaTask, task_documents
    from tilefold.data import read_questions
    from tilefold.models import FusionInDecoder

    lm = tmp_path / "t5"
    model = tiny_language_models.build("T5ForConditionalGeneration")
    model.get_output_embeddings().weight.data[:4] = 0  # special tokens are seldom written
    model.save_pretrained(lm)
    tiny_language_models.save_words("T5ForConditionalGeneration", lm, length=512)
    path, out = questions(tmp_path), tmp_path / "found.json"
    words = ["aar", "evaluate", "--task", f"popqa:{path}", "--target", f"fusion:{lm}"]
    assert main([*words, "--genread", "--out", str(out)]) == 0
    assert "2 written, 0 empty" in capsys.readouterr().out
    task = PopqaTask(tuple(read_questions(path)))
    target = FusedTarget(FusionInDecoder.from_pretrained(lm))
    documents = task_documents(target, task)
    found = json.loads(out.read_text())["answers"]
    assert [[one["document"]] for one in found] == documents
    answers = task.run(target, documents, 1).answers
    assert tuple(one["answer"] for one in found) == answers != task.run(target).answers


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "fusion:x", "--task", "trivia:y"], "tasks: expected popqa:NAME or mmlu:NAME"),
        (["--target", "t5", "--task", "popqa:{q}"], "targets: expected fusion:NAME or"),
        (["--target", "api:gpt", "--task", "popqa:{q}"], "targets: expected api:MODEL@ADDRESS"),
        (["--target", "fusion:x", "--task", "popqa:{q}", "--run", "r"], "--run and --corpus go"),
        (
            ["--target", "fusion:x", "--task", "popqa:{q}", "--n-passages", "3"],
            "--n-passages needs --run",
        ),
        (
            [
                "--target",
                "fusion:x",
                "--task",
                "popqa:{q}",
                "--genread",
                "--run",
                "r",
                "--corpus",
                "c",
            ],
            "--genread: not with --run",
        ),
        (
            ["--target", "fusion:x", "--task", "popqa:{q}", "--genread", "--n-passages", "3"],
            "--n-passages needs --run",
        ),
        (
            ["--target", "fusion:x", "--task", "popqa:{q}", "--cache", "kept"],
            "--cache: has an effect with --target api:MODEL@ADDRESS alone",
        ),
    ],
)
def test_wrong_words_are_named_before_models_are_loaded(words, message, tmp_path, capsys):
    path = questions(tmp_path)
    assert main(["aar", "evaluate", *(word.format(q=path) for word in words)]) == 1
    assert message in capsys.readouterr().err


def test_a_service_that_fails_is_one_line(tmp_path, monkeypatch, capsys):
    from tilefold.aar import ApiError, ScoredApi

    def fail(self, *args, **options):
        raise ApiError("http://127.0.0.1:9/v1/completions: failed at each of 6 attempts")

    monkeypatch.setattr(ScoredApi, "answer", fail)
    words = ["--task", f"popqa:{questions(tmp_path)}", "--target", "api:gpt@http://127.0.0.1:9/v1"]
    assert main(["aar", "evaluate", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tilefold aar evaluate: http://127.0.0.1:9/v1/completions: failed")
    assert error.count("\n") == 1


def test_the_study_names_its_options(capsys):
    assert main(["aar", "run", "--world", "tiny", "--top-k", "11"]) == 1
    assert "--top-k: expected at most n_retrieved, 10, got 11" in capsys.readouterr().err


def test_the_example_is_a_whole_configuration(monkeypatch, tmp_path):
    """Parsed by the command itself, which runs a study that only keeps its settings."""
    seen = []

    def keep(settings, **options):
        seen.append(settings)
        raise ValueError("stop here")

    example = Path(__file__).parents[2] / "examples" / "aar_world.yaml"
    monkeypatch.chdir(tmp_path)
    kept = dataclasses.replace(AAR, run=keep)
    monkeypatch.setattr(verb, "AAR", kept)
    assert main(["aar", "run", "--config", str(example)]) == 1
    (settings,) = seen
    assert settings.world == "small"
    assert (settings.n_retrieved, settings.top_k, settings.depth) == (10, 2, 100)
    assert len(settings.seeds) >= 3


@pytest.mark.parametrize("command", ["run", "preferences", "evaluate"])
def test_help_is_within_80_columns_and_shows_no_empty_default(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["aar", command, "--help"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "(default: )" not in out


def test_what_the_source_lm_lacks_is_found_before_the_corpus_is_encoded(
    source_lm, data, tmp_path, capsys, monkeypatch
):
    from tilefold.cli.verbs import aar_preferences

    monkeypatch.setattr(aar_preferences, "load_model", lambda args: pytest.fail("loaded"))
    words = ["aar", "preferences", str(data), "--out", str(tmp_path / "x")]
    assert main([*words, "--source-lm", str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
    assert main([*words, "--source-lm", str(source_lm), "--signal", "likelihood"]) == 1
    assert "2 of 2 have none, such as 'q1'" in capsys.readouterr().err


def test_more_positives_than_passages_are_scored_are_refused(data, tmp_path, capsys):
    words = ["aar", "preferences", str(data), "--source-lm", "x", "--out", str(tmp_path / "x")]
    assert main([*words, "--n-retrieved", "3", "--top-k", "4"]) == 1
    assert "--top-k: expected at most --n-retrieved, 3, got 4" in capsys.readouterr().err


def test_questions_that_a_run_lacks_are_counted(source_lm, run, tmp_path, capsys):
    run.write_text("q1 Q0 d1 1 3 tag\n")
    words = ["aar", "evaluate", "--task", f"popqa:{questions(tmp_path)}", "--n-passages", "1"]
    words += ["--target", f"fusion:{source_lm}", "--run", str(run)]
    assert main([*words, "--corpus", str(corpus(tmp_path))]) == 0
    assert "has none of 1 question of 2, which are answered closed book" in " ".join(
        capsys.readouterr().out.split()
    )


def test_what_is_left_out_is_a_line_of_the_output(source_lm, data, run, tmp_path, capsys):
    text = run.read_text().splitlines()
    run.write_text("\n".join(text[:5]) + "\n")  # one passage of the second question
    words = ["aar", "preferences", str(data), "--source-lm", str(source_lm), "--run", str(run)]
    words += ["--n-retrieved", "3", "--top-k", "1", "--depth", "4", "--negatives", "3"]
    assert main([*words, "--out", str(tmp_path / "x")]) == 0
    out = capsys.readouterr()
    assert "left out 1 of 2 queries, as every candidate is a positive" in out.out
    assert "UserWarning" not in out.err
