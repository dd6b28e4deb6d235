"""`tilefold mechanisms`, as a user types it."""

import json
import re
from functools import partial

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.cli.main import main
from tilefold.data import write_training
from tilefold.studies.report_pages import report_of
from tilefold.world import make_world, world_models
from tilefold.world.retrieval_data import split_facts, training_set

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["--queries", "12", "--passages", "5", "--steps", "2", "--knock-out", "1", "8"]
GAPS = ["--facts", "4"]
QUICK = ["--probes", "concatenation", "dot product", "--candidates", "2", "--epochs", "2"]


@pytest.fixture
def short(tmp_path, monkeypatch):
    """Models that hardly learn anything, kept in a folder of the test."""
    monkeypatch.setenv("TILEFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(world_models, "pretrained", partial(world_models.pretrained, steps=4))
    monkeypatch.setattr(world_models, "fine_tuned", partial(world_models.fine_tuned, epochs=1))


@pytest.fixture
def grown(short, tmp_path):
    """A folder in which both studies of a world were written."""
    out = tmp_path / "out"
    assert main(["mechanisms", "probe", "--world", "tiny", "--out", str(out), *QUICK]) == 0
    assert main(["mechanisms", "neurons", "--world", "tiny", "--out", str(out), *FEW, *GAPS]) == 0
    return out


def found(folder, study="probe"):
    return json.loads((folder / f"{study}.json").read_text())


def test_a_world_is_probed(short, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["mechanisms", "probe", "--world", "tiny", *QUICK]
    assert main([*words, "--out", str(out)]) == 0
    said, complaints = capsys.readouterr()
    assert complaints == ""  # no bars where there is no terminal
    assert "chance 0.50" in said
    assert "random weights" in said
    assert "resumed" not in said
    probed = found(out)
    assert probed["asked"]["world"] == "tiny"
    keys = {(r["model"], r["layer"], r["probe"], r["control"]) for r in probed["results"]}
    assert len(keys) == len(probed["results"]) == 5 * 2 * (3 + 3 + 1)
    assert all(0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 for r in probed["results"])
    assert [row["probe"] for row in probed["discrimination"]] == ["concatenation", "dot product"]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    assert found(tmp_path / "again")["results"] == probed["results"]


def test_neurons_are_surveyed_and_knocked_out(capsys, grown):
    assert capsys.readouterr().err == ""  # no bars where there is no terminal
    neurons = found(grown, "neurons")
    for side, texts in (("queries", 12), ("passages", 5)):
        assert neurons[side]["texts"] == texts
        assert set(neurons[side]["shares"]) == {"base", "retriever"}
        assert len(neurons[side]["shares"]["base"]) == 8
        active = [row for row in neurons[side]["engaged"] if row["threshold"] == 0.1]
        assert len(active) == 8
        assert all(0 <= row["base"] <= 512 for row in active)
    assert "overlap of paraphrases" in [row["name"] for row in neurons["queries"]["spread"]]
    assert neurons["queries"]["paraphrased"] == 3
    kinds = {(r["model"], r["neurons"], r["intervention"]) for r in neurons["rankings"]}
    assert len(kinds) == 2 * (1 + 2 * 3)
    whole = {row["model"]: row["RR@10"] for row in neurons["rankings"] if not row["neurons"]}
    for row in neurons["rankings"]:
        change = row["RR@10"][0] - whole[row["model"]][0]
        assert row["RR@10 change"][0] == pytest.approx(change, abs=1e-9)
    chosen = neurons["facts"]["chosen"]
    assert [row["by"] for row in chosen] == ["attribution", "activation"]
    assert all(len(row["neurons"]) == 4 == neurons["facts"]["facts"] for row in chosen)
    assert all(sum(row["by_layer"]) == sum(row["neurons"]) for row in chosen)
    assert len(neurons["top"]) == 6
    assert all(len(row["passages"]) == 3 for row in neurons["top"])


def test_both_studies_are_in_one_report(grown):
    html = (grown / "report.html").read_text()
    for heading in ("What layers tell apart", "Rankings without neurons", "Settings and seeds"):
        assert f">{heading}</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)
    assert len(html) < 5_000_000
    markdown = (grown / "report.md").read_text()
    assert "## Words in gaps without neurons" in markdown
    assert "| concatenation, of 2 | 0." in markdown


def test_what_another_version_wrote_is_left_out_of_the_report(grown, capsys):
    results = found(grown, "neurons")
    (grown / "neurons.json").write_text(json.dumps({**results, "format": 0}))
    capsys.readouterr()
    assert main(["mechanisms", "probe", "--world", "tiny", "--out", str(grown), *QUICK]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The report is without neurons" in said
    assert "written by another version" in said
    assert "Rankings without neurons" not in (grown / "report.html").read_text()


def test_a_report_says_what_was_taken(grown):
    markdown = (grown / "report.md").read_text()
    settings = markdown[markdown.index("## Settings and seeds") :]
    for row in ("candidates | 2", "probe-learning-rate | 0.005", "knock-out | 1, 8", "facts | 4"):
        assert f"| {row} |" in settings


def test_a_report_says_none_where_nothing_could_be_measured(grown):
    """JSON has null for what is not a number."""
    neurons, probe = found(grown, "neurons"), found(grown)
    unknown = [None, None, None]
    neurons["queries"]["spread"][-1] |= {"base": unknown, "difference": unknown, "p": None}
    neurons["rankings"][1] |= {"RR@10": unknown, "RR@10 change": unknown}
    neurons["facts"]["chosen"][0] |= {"shared": {"same relation": None, "other relation": 0.5}}
    neurons["facts"]["chosen"][0] |= {"of_relations": {}}
    neurons["facts"]["effects"] = []
    probe["results"] = [row for row in probe["results"] if row["control"] == "none"]
    markdown = report_of({"probe": probe, "neurons": neurons}).markdown()
    assert "Controls of probes" not in markdown
    assert re.search(r"\| base \| 1 \| [a-z ]+ \| none \| none \|", markdown)
    assert re.search(r"\| overlap of paraphrases \| none \| [0-9. \[\],]+ \| none \|  \|", markdown)
    assert re.search(r"\| attribution \| [0-9.]+ \| \d+% \| none \| 0.50 \| none \|", markdown)
    neurons |= {"rankings": [], "top": [], "facts": None}
    html = report_of({"neurons": neurons}).html()
    assert "Rankings without neurons" not in html
    with pytest.raises(ValueError, match="got none"):
        report_of({})


def test_numbers_of_passages_are_shown_together_and_each_once(short, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["mechanisms", "probe", "--world", "tiny", "--out", str(out), *QUICK]
    assert main([*words, "--candidates", "3", "2", "--probes", "dot product"]) == 0
    keys = [
        (row["model"], row["layer"], row["probe"], row["n_candidates"], row["control"])
        for row in found(out)["results"]
    ]
    assert len(keys) == len(set(keys))
    assert {key[3] for key in keys} == {2, 3}
    assert "Dot product probe, 3 passages" in (out / "report.html").read_text()


def test_a_study_goes_on_where_it_stopped(grown, capsys):
    before = found(grown, "neurons")
    steps = sorted((grown / "steps").iterdir())
    for path in steps[::2]:
        path.unlink()
    capsys.readouterr()
    assert main(["mechanisms", "neurons", "--world", "tiny", "--out", str(grown), *FEW, *GAPS]) == 0
    assert "steps had been done before" in capsys.readouterr().out
    assert found(grown, "neurons") == before


def test_what_was_asked_for_is_asked_for_again(grown, tmp_path):
    out = tmp_path / "again"
    settings = str(grown / "probe.yaml")
    assert main(["mechanisms", "--config", settings, "--out", str(out)]) == 0
    assert found(out)["results"] == found(grown)["results"]


def test_findings_are_of_several_seeds(grown, tmp_path, capsys):
    other = tmp_path / "other"
    words = ["probe", "--world", "tiny", "--seed", "1", "--out", str(other), *QUICK]
    assert main(["mechanisms", *words]) == 0
    words = ["neurons", "--world", "tiny", "--seed", "1", "--out", str(other), *FEW, *GAPS]
    assert main(["mechanisms", *words]) == 0
    capsys.readouterr()
    out = tmp_path / "findings.json"
    words = ["findings", "--runs", str(grown), str(other), "--out", str(out)]
    assert main(["mechanisms", *words]) == 0
    said = capsys.readouterr().out
    assert "C1, probes: retriever minus base, in 2 runs" in said
    assert "C2, passages" in said
    rows = json.loads(out.read_text())["C1, probes"]
    runs = [found(folder)["discrimination"][0]["difference"][0] for folder in (grown, other)]
    assert rows[0]["differences"] == runs
    assert rows[0]["mean"] == pytest.approx(sum(runs) / 2)
    unknown = found(other, "neurons")
    unknown["passages"]["spread"][0]["difference"] = [None] * 3
    (other / "neurons.json").write_text(json.dumps(unknown))
    assert main(["mechanisms", *words]) == 0
    assert json.loads(out.read_text())["C2, passages"][0]["mean"] is None


def test_findings_are_of_runs_that_differ_in_seed_alone(short, tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder, epochs in zip("01", folders, "23", strict=True):
        words = ["probe", "--world", "tiny", "--out", str(folder), *QUICK, "--epochs", epochs]
        words += ["--seed", seed]
        assert main(["mechanisms", *words]) == 0
    assert main(["mechanisms", "findings", "--runs", *map(str, folders)]) == 1
    assert "differ in epochs" in capsys.readouterr().err
    assert main(["mechanisms", "findings", "--runs", str(folders[0]), str(folders[0])]) == 1
    assert "have the seeds [0, 0]; each should be another" in capsys.readouterr().err
    assert main(["mechanisms", "findings", "--runs", str(tmp_path)]) == 1
    assert "no results of probe or neurons" in capsys.readouterr().err
    path = folders[1] / "probe.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    assert main(["mechanisms", "findings", "--runs", *map(str, folders)]) == 1
    assert "written by another version" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["probe", "neurons"])
def test_any_retriever_is_studied_beside_its_base(tiny_bert, tmp_path, capsys, study):
    world = make_world("tiny")
    data = tmp_path / "train.jsonl"
    write_training(data, training_set(world, split_facts(world)[0][:30], paraphrases=(0,)))
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    words += ["--out", str(tmp_path / "out"), *(QUICK if study == "probe" else FEW)]
    assert main(["mechanisms", study, *words]) == 0
    results = found(tmp_path / "out", study)
    if study == "probe":
        own = [r for r in results["results"] if r["model"] == "retriever"]
        assert all(r["mcnemar"] == 1 and r["accuracy"] == r["base"] for r in own)
    else:
        assert all(row["difference"] == [0, 0, 0] for row in results["passages"]["spread"])
        assert "facts" not in results


def test_what_is_too_little_is_said(tiny_bert, tmp_path, capsys):
    data = tmp_path / "one.jsonl"
    data.write_text('{"query": "who is w1", "pos": ["w1", "w2"], "neg": ["w3"]}\n')
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    words += ["--out", str(tmp_path / "out")]
    assert main(["mechanisms", "probe", *words, *QUICK]) == 1
    assert "2 samples of 1 independent query are too few" in capsys.readouterr().err
    assert main(["mechanisms", "neurons", *words, *FEW]) == 0
    assert found(tmp_path / "out", "neurons")["rankings"] == []


def test_few_documents_and_many_neurons_are_no_trouble(tiny_bert, tmp_path, capsys):
    data = tmp_path / "few.jsonl"
    lines = [
        '{"query": "who is w1", "pos": ["w1"], "neg": ["w3", "w4", "w5", "w6"]}',
        '{"query": "who is w2", "pos": ["w2"], "neg": []}',
        '{"query": "who is w3", "pos": ["w3", "w4", "w5", "w6", "w7"], "neg": []}',
        '{"query": "who is w7", "pos": ["w7"], "neg": ["w1"]}',
    ]
    data.write_text("\n".join(lines * 2) + "\n")
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    words += ["--out", str(tmp_path / "out"), *FEW, "1", "90"]
    assert main(["mechanisms", "neurons", *words]) == 0
    said = capsys.readouterr().out
    assert "90 neurons of the base are more than half of a layer" in said
    sizes = [row["neurons"] for row in found(tmp_path / "out", "neurons")["rankings"]]
    assert sorted(set(sizes)) == [0, 1, 8]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe"], "give --world SIZE, --preset and --data, or --model, --base and --data"),
        (["probe", "--world", "tiny", "--data", "x"], "give --world SIZE"),
        (["probe", "--model", "x", "--base", "y"], "give --world SIZE"),
        (["probe", "--world", "tiny", "--split", "dev"], "--split goes with --data"),
        (["probe", "--world", "tiny", "--document-model", "x"], "--document-model goes with"),
        (["probe", "--world", "tiny", "--candidates", "6"], "must be 2 to 5, got 6"),
        (["probe", "--world", "tiny", "--epochs", "0"], "--epochs must be at least 1"),
        (["probe", "--world", "tiny", "--runs", "x"], "--runs goes with findings"),
        (["brain", "--world", "tiny"], "has probe, neurons, findings, got 'brain'"),
        (["probe", "--world", "tiny", "--mode", "both"], "mode must be one of query"),
        (["probe", "--world", "tiny", "--probes", "cubic"], "probes must be of concatenation"),
        (["probe", "--preset", "bm25", "--data", "x"], "must be one of dpr, contriever, repllama"),
        (["probe", "--preset", "dpr"], "--preset needs --data"),
        (["probe", "--preset", "dpr", "--base", "x"], "leave out --base"),
        (["neurons", "--world", "tiny", "--threshold", "1"], "--threshold must be above 0"),
        (["neurons", "--world", "tiny", "--steps", "1"], "--steps must be at least 2, got 1"),
        (["neurons", "--world", "tiny", "--batch-size", "0"], "--batch-size must be at least 1"),
        (
            ["neurons", "--model", "x", "--base", "y", "--data", "z", *GAPS],
            "--facts goes with --world",
        ),
        (["neurons", "--world", "tiny", "--facts", "1"], "--facts must be at least 2, got 1"),
        (["neurons", "--world", "tiny", "--knock-out", "0"], "--knock-out must be at least 1"),
        (
            ["neurons", "--world", "tiny", "--epochs", "3"],
            "--epochs goes with probe",
        ),
        (["probe", "--world", "tiny", "--knock-out", "3"], "--knock-out goes with neurons"),
        (["findings"], "findings needs --runs"),
        (["findings", "--runs", "x", "--seed", "1"], "--seed goes with probe and neurons"),
        (["findings", "--runs", "x", "--facts", "3"], "--facts goes with neurons"),
    ],
)
def test_what_cannot_be_studied_is_said_in_a_line(short, capsys, words, message):
    assert main(["mechanisms", *words]) == 1
    assert message in capsys.readouterr().err


def test_results_go_to_a_folder(short, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["mechanisms", "probe", "--world", "tiny", "--out", str(tmp_path / "file")]
    assert main(words) == 1
    assert "it is a file" in capsys.readouterr().err
