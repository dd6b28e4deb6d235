"""`tilefold mechanisms`, as a user types it."""

import dataclasses
import json
import re
import shutil
from collections import Counter
from functools import partial

import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.cli.main import main
from tilefold.data import write_training
from tilefold.files.done_once import digest_of
from tilefold.studies.every_mechanism import STUDIES
from tilefold.studies.findings import FINDINGS
from tilefold.studies.neurons import NEURONS
from tilefold.studies.probe import PROBE
from tilefold.studies.report_pages import mechanisms_report
from tilefold.studies.study_file import result_from_json
from tilefold.studies.subject_settings import SubjectSettings
from tilefold.world import make_world, world_models, world_retrievers
from tilefold.world.retrieval_data import split_facts, training_set

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["--queries", "12", "--passages", "5", "--steps", "2", "--knock-out", "1", "8"]
GAPS = ["--facts", "4"]
QUICK = ["--probes", "concatenation", "dot product", "--candidates", "2", "--epochs", "2"]

SHARED = {field.name for field in dataclasses.fields(SubjectSettings)}
NAMES = {
    study.name: {field.name for field in dataclasses.fields(study.settings)} - SHARED
    for study in (*STUDIES, FINDINGS)
}
COUNTS = Counter(name for names in NAMES.values() for name in names)
OWN = {  # options of each study that no other study has
    study: {f"--{name.replace('_', '-')}" for name in names if COUNTS[name] == 1}
    for study, names in NAMES.items()
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Folder of models that are trained once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def short(cache, monkeypatch):
    """Models that hardly learn anything."""
    use_short_training(monkeypatch, cache)


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    """A folder in which both studies of a world were written."""
    out = tmp_path_factory.mktemp("studied") / "out"
    words = ["--world", "tiny", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        use_short_training(patch, cache)
        assert main(["mechanisms", "probe", *words, *QUICK]) == 0
        assert main(["mechanisms", "neurons", *words, *FEW, *GAPS]) == 0
    return out


@pytest.fixture
def grown(short, studied, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(studied, tmp_path / "out")


def use_short_training(patch, cache):
    patch.setenv("TILEFOLD_CACHE", str(cache))
    patch.setattr(world_models, "pretrained", partial(world_models.pretrained, steps=4))
    short = partial(world_retrievers.fine_tuned, epochs=1)
    patch.setattr(world_retrievers, "fine_tuned", short)


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
    assert "kept from an earlier run" not in said
    probed = found(out)
    assert probed["settings"]["world"] == "tiny"
    keys = {(r["model"], r["layer"], r["probe"], r["control"]) for r in probed["layers"]}
    assert len(keys) == len(probed["layers"]) == 5 * 2 * (3 + 3 + 1)
    assert all(0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 for r in probed["layers"])
    names = [row["name"] for row in probed["discrimination"]]
    assert names == ["concatenation, of 2", "dot product, of 2"]
    assert main([*words, "--out", str(tmp_path / "again")]) == 0
    assert found(tmp_path / "again")["layers"] == probed["layers"]


def test_neurons_are_surveyed_and_knocked_out(short, tmp_path, capsys):
    grown = tmp_path / "out"
    words = ["mechanisms", "neurons", "--world", "tiny", "--out", str(grown), *FEW, *GAPS]
    assert main(words) == 0
    assert capsys.readouterr().err == ""  # no bars where there is no terminal
    neurons = found(grown, "neurons")
    for side, texts in (("queries", 12), ("passages", 5)):
        assert neurons[side]["texts"] == texts
        assert set(neurons[side]["shares"]) == {"base", "retriever"}
        assert len(neurons[side]["shares"]["base"]) == 8
        active = [row for row in neurons[side]["active"] if row["threshold"] == 0.1]
        assert len(active) == 8
        assert all(0 <= row["base"] <= 512 for row in active)
    assert "overlap of paraphrases" in [row["name"] for row in neurons["queries"]["spread"]]
    assert neurons["queries"]["paraphrase_groups"] == 3
    kinds = {(r["model"], r["neurons"], r["intervention"]) for r in neurons["rankings"]}
    assert len(kinds) == 2 * (1 + 2 * 3)
    whole = {
        row["model"]: row["measures"]["RR@10"] for row in neurons["rankings"] if not row["neurons"]
    }
    for row in neurons["rankings"]:
        change = row["measures"]["RR@10"][0] - whole[row["model"]][0]
        assert row["changes"]["RR@10"][0] == pytest.approx(change, abs=1e-9)
    chosen = neurons["facts"]["chosen"]
    assert [row["by"] for row in chosen] == ["attribution", "activation"]
    assert all(len(row["neurons"]) == 4 == neurons["facts"]["facts"] for row in chosen)
    assert all(sum(row["by_layer"]) == sum(row["neurons"]) for row in chosen)
    assert len(neurons["top"]) == 6
    assert all(len(row["passages"]) == 3 for row in neurons["top"])


def test_both_studies_are_in_one_report(grown):
    html = (grown / "report.html").read_text()
    for heading in (
        "Accuracy of probes by layer",
        "Rankings without neurons",
        "Settings and seeds",
    ):
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


def signed(changed):
    """The text of a changed result, with the checksum of a writer."""
    made = {name: x for name, x in changed.items() if name not in ("format", "study", "checksum")}
    return json.dumps(changed | {"checksum": digest_of(made)})


def test_a_report_says_none_where_nothing_could_be_measured(grown):
    """JSON has null for NaN."""
    neurons, probe = found(grown, "neurons"), found(grown)
    unknown = [None, None, None]
    neurons["queries"]["spread"][-1] |= {"base": unknown, "difference": unknown, "p": None}
    neurons["rankings"][1] |= {"measures": {"RR@10": unknown}, "changes": {"RR@10": unknown}}
    neurons["facts"]["chosen"][0] |= {"shared_in_relation": None, "shared_with_others": 0.5}
    neurons["facts"]["chosen"][0] |= {"relation_neurons": {}}
    neurons["facts"]["effects"] = []
    probe["layers"] = [row for row in probe["layers"] if row["control"] == "none"]
    results = [
        (study, result_from_json(study, signed(changed)))
        for study, changed in ((PROBE, probe), (NEURONS, neurons))
    ]
    markdown = mechanisms_report(results).markdown()
    assert "Controls of probes" not in markdown
    assert re.search(r"\| base \| 1 \| [a-z ]+ \| none \| none \|", markdown)
    assert re.search(r"\| overlap of paraphrases \| none \| [0-9. \[\],]+ \| none \|  \|", markdown)
    assert re.search(r"\| attribution \| [0-9.]+ \| \d+% \| none \| 0.50 \| none \|", markdown)
    neurons |= {"rankings": [], "top": [], "facts": None}
    html = mechanisms_report([(NEURONS, result_from_json(NEURONS, signed(neurons)))]).html()
    assert "Rankings without neurons" not in html


def test_numbers_of_passages_are_shown_together_and_each_once(short, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["mechanisms", "probe", "--world", "tiny", "--out", str(out), *QUICK]
    assert main([*words, "--candidates", "3", "2", "--probes", "dot product"]) == 0
    keys = [
        (row["model"], row["layer"], row["probe"], row["n_candidates"], row["control"])
        for row in found(out)["layers"]
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
    assert "steps were kept from an earlier run" in capsys.readouterr().out
    assert found(grown, "neurons") == before


def test_saved_options_give_the_same_results(grown, tmp_path):
    out = tmp_path / "again"
    settings = str(grown / "probe.yaml")
    assert main(["mechanisms", "probe", "--config", settings, "--out", str(out)]) == 0
    assert found(out)["layers"] == found(grown)["layers"]


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
    rows = json.loads(out.read_text())["claims"]["C1, probes"]
    runs = [found(folder)["discrimination"][0]["difference"][0] for folder in (grown, other)]
    assert rows[0]["differences"] == runs
    assert rows[0]["mean"][0] == pytest.approx(sum(runs) / 2)
    unknown = found(other, "neurons")
    unknown["passages"]["spread"][0]["difference"] = [None] * 3
    (other / "neurons.json").write_text(signed(unknown))
    assert main(["mechanisms", *words]) == 0
    assert json.loads(out.read_text())["claims"]["C2, passages"][0]["mean"] == [None] * 3


def test_findings_are_of_runs_that_differ_in_seed_alone(short, tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder, epochs in zip("01", folders, "23", strict=True):
        words = ["probe", "--world", "tiny", "--out", str(folder), *QUICK, "--epochs", epochs]
        words += ["--seed", seed]
        assert main(["mechanisms", *words]) == 0
    assert main(["mechanisms", "findings", "--runs", *map(str, folders)]) == 1
    assert "they differ in epochs" in capsys.readouterr().err
    assert main(["mechanisms", "findings", "--runs", str(folders[0]), str(folders[0])]) == 1
    assert "with different seeds, got [0, 0]" in capsys.readouterr().err
    assert main(["mechanisms", "findings", "--runs", str(tmp_path)]) == 1
    assert "no results of probe or neurons" in capsys.readouterr().err
    path = folders[1] / "probe.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 0'))
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
        own = [r for r in results["layers"] if r["model"] == "retriever"]
        assert all(r["mcnemar"] == 1 and r["accuracy"] == r["base"] for r in own)
    else:
        assert all(row["difference"] == [0, 0, 0] for row in results["passages"]["spread"])
        assert results["facts"] is None


def test_too_few_samples_are_an_error(tiny_bert, tmp_path, capsys):
    data = tmp_path / "one.jsonl"
    data.write_text('{"query": "who is w1", "pos": ["w1", "w2"], "neg": ["w3"]}\n')
    words = ["--model", str(tiny_bert), "--base", str(tiny_bert), "--data", str(data)]
    words += ["--out", str(tmp_path / "out")]
    assert main(["mechanisms", "probe", *words, *QUICK]) == 1
    assert "got 2 from 1 independent queries" in capsys.readouterr().err
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
        (["probe"], "expected world; or preset and data; or model, base and data; got none"),
        (["probe", "--world", "tiny", "--split", "dev"], "split: expected None with world"),
        (["probe", "--world", "tiny", "--candidates", "6"], "candidates: expected 2 to 5, got 6"),
        (["probe", "--preset", "dpr"], "data: expected a path with preset, got None"),
        (["neurons", "--world", "tiny", "--steps", "1"], "steps: expected 2 or more, got 1"),
    ],
)
def test_settings_that_are_refused_are_one_line(short, capsys, words, message):
    assert main(["mechanisms", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe", "--world", "huge"], "argument --world: invalid choice: 'huge'"),
        (["probe", "--world", "tiny", "--mode", "both"], "argument --mode: invalid choice"),
        (["probe", "--world", "tiny", "--probes", "cubic"], "argument --probes: invalid choice"),
        (["probe", "--preset", "bm25", "--data", "x"], "argument --preset: invalid choice"),
        (["probe", "--world", "tiny", "--epochs", "few"], "invalid int value: 'few'"),
        (["probe", "--world", "tiny", "--runs", "x"], "unrecognized arguments: --runs"),
        (["probe", "--world", "tiny", "--knock-out", "3"], "unrecognized arguments: --knock-out"),
        (["probe", "--world", "tiny", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["neurons", "--world", "tiny", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["findings", "--runs", "x", "--seed", "1"], "unrecognized arguments: --seed 1"),
        (["findings"], "the following arguments are required: --runs"),
        (["brain", "--world", "tiny"], "invalid choice: 'brain'"),
        ([], "the following arguments are required: STUDY"),
    ],
)
def test_options_of_other_studies_are_errors_of_usage(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        main(["mechanisms", *words])
    error = capsys.readouterr().err
    assert message in error
    study = f" {words[0]}" if words and words[0] in OWN else ""
    assert error.startswith(f"tilefold mechanisms{study}: ")


@pytest.mark.parametrize("study", OWN)
def test_help_of_a_study_lists_its_own_options_alone(study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["mechanisms", study, "--help"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    options = set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE))
    assert options >= OWN[study] | {"--out", "--config"}
    for other in OWN.keys() - {study}:
        assert not options & OWN[other]
    assert ("--world" in options) == (study != "findings")


def test_help_of_a_setting_has_its_description_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main(["mechanisms", "probe", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "--max-samples N at most as many queries are used (default: 5000)" in out
    assert "--world NAME tiny, small or medium: size of a synthetic world" in out
    assert "(default: concatenation, bilinear, interaction, dot product)" in out


def test_a_file_of_options_gives_way_to_the_command_line(short, tmp_path, monkeypatch):
    path, out = tmp_path / "probe.yaml", tmp_path / "out"
    path.write_text(
        "world: ${SIZE:-tiny}\nprobes: [bilinear, dot product]\ncandidates: [2, 3]\n"
        f"epochs: 1\nout: {out}\n"
    )
    monkeypatch.delenv("SIZE", raising=False)
    words = ["mechanisms", "probe", "--config", str(path)]
    assert main([*words, "--probes", "dot product", "--candidates=2"]) == 0
    settings = found(out)["settings"]
    assert (settings["probes"], settings["candidates"]) == (["dot product"], [2])
    assert (settings["world"], settings["epochs"]) == ("tiny", 1)


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("runs: [x]\n", 1, "unknown option 'runs'"),
        ("epochs: few\n", 2, "invalid int value"),
    ],
)
def test_a_file_with_options_of_another_study_is_refused(tmp_path, capsys, text, status, message):
    path = tmp_path / "probe.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit, match=str(status)):
        main(["mechanisms", "probe", "--world", "tiny", "--config", str(path)])
    assert message in capsys.readouterr().err


def test_results_go_to_a_folder(short, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = ["mechanisms", "probe", "--world", "tiny", "--out", str(tmp_path / "file")]
    assert main(words) == 1
    assert "it is a file" in capsys.readouterr().err
