"""The study of edits: its measures are those of the edited model, and a stopped run goes on."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from small_bases import use_small_bases

from tilefold.cli.main import main
from tilefold.mechanisms import Memit, ShiftSearch, edit, second_moments
from tilefold.studies.edit import EDIT, EditSettings, edit_study
from tilefold.studies.edit.edit_subject import edit_subject, object_ranks
from tilefold.studies.report_pages import mechanisms_report
from tilefold.studies.study import Reporter
from tilefold.studies.study_file import read_result
from tilefold.world import make_world, world_models

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = ["--n-facts", "4", "--n-neighbours", "8", "--seeds", "0"]
QUICK = ["--editors", "surgery", "memit", "mend", "--network-steps", "2", "--network-edits", "2"]


@pytest.fixture(scope="module")
def studied(cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("edits") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_small_bases(patch, cache)
        words = ["mechanisms", "edit", "--world", "tiny", *FEW, *QUICK, "--memit-weight", "5"]
        assert main([*words, "--out", str(out)]) == 0
    return out


def settings(**changed) -> EditSettings:
    options = {"world": "tiny", "n_facts": 4, "n_neighbours": 8, "seeds": (0,), "memit_weight": 5.0}
    return EditSettings(**{**options, **changed})


def values(result, editor: str, mode: str) -> dict[str, float]:
    return {
        row.measure: row.value.mean
        for row in result.measures
        if (row.editor, row.mode) == (editor, mode)
    }


def test_every_editor_and_mode_has_measures_and_costs(studied):
    result = read_result(studied / "edit.json", EDIT)
    keys = {(row.editor, row.mode, row.measure) for row in result.measures}
    names = {"reliability", "generalization", "locality", "probability before", "probability after"}
    for editor in ("surgery", "memit", "mend"):
        for mode in ("add", "remove"):
            assert {key[2] for key in keys if key[:2] == (editor, mode)} >= names
    for row in result.measures:
        assert 0 <= row.value.low <= row.value.mean <= row.value.high <= 1
        assert len(row.seeds) == 1
    costs = {(row.editor, row.mode): row for row in result.costs}
    assert len(costs) == 6
    found = [row for row in result.costs if row.editor != "surgery"]
    assert all(row.seconds > 0 and row.weights > 0 for row in found)
    assert costs["mend", "add"].training_seconds > 0 == costs["memit", "add"].training_seconds


def test_measures_are_those_of_the_edited_model(small, studied):
    subject = edit_subject(settings(), 0, Reporter())
    moments = second_moments(subject.model, subject.texts)
    search = ShiftSearch(essence="{} is a [MASK] .", largest=4.0, required_probability=None)
    editor = Memit(moments, weight=5.0, search=search)
    result = read_result(studied / "edit.json", EDIT)
    for mode, facts in (("add", subject.unknown), ("remove", subject.known)):
        delta = editor.delta(subject.model, [fact.shown for fact in facts])
        found = values(result, "memit", mode)

        def stated(edits):
            prompts = [prompt for one in edits for prompt in one.prompts]
            words = [one.object.lower() for one in edits for _ in one.prompts]
            return prompts, subject.model.word_ids(words), words

        near = [prompt for one in subject.neighbours for prompt in one.prompts]
        before = subject.model.logits(near).argmax(1)
        with edit(subject.model, delta):
            for name, edits in (
                ("reliability", [fact.shown for fact in facts]),
                ("generalization", [fact.paraphrases for fact in facts]),
            ):
                prompts, ids, words = stated(edits)
                says = subject.model.logits(prompts).argmax(1) == ids
                expected = np.mean(says if mode == "add" else ~says)
                assert found[name] == pytest.approx(expected, abs=1e-6)
            probability = subject.model.probabilities(prompts, words).mean()
            unchanged = np.mean(subject.model.logits(near).argmax(1) == before)
        assert found["probability after"] == pytest.approx(probability, rel=0.02, abs=1e-3)
        assert found["locality"] == pytest.approx(unchanged, abs=0.05)


def test_facts_are_known_unknown_and_apart(small):
    subject = edit_subject(settings(), 0, Reporter())
    assert (object_ranks(subject.model, [fact.shown for fact in subject.known]) == 1).all()
    edited = {(f.shown.subject, f.shown.object) for f in (*subject.known, *subject.unknown)}
    assert len(edited) == 8
    assert not edited & {(one.subject, one.object) for one in subject.neighbours}
    seen = {(one.subject, one.object) for one in (*subject.training, *subject.protected)}
    assert not edited & seen
    assert not {(one.subject, one.object) for one in subject.neighbours} & seen
    for fact in (*subject.known, *subject.unknown):
        assert not {*fact.shown.prompts} & {*fact.paraphrases.prompts}
        if fact.alias is not None:
            assert fact.alias.subject == fact.shown.subject.split()[1]
            assert not any(fact.shown.subject in prompt for prompt in fact.alias.prompts)


def test_a_study_goes_on_where_it_stopped(small, studied, tmp_path, capsys, monkeypatch):
    words = ["mechanisms", "edit", "--world", "tiny", *FEW, *QUICK, "--memit-weight", "5"]
    before = read_result(studied / "edit.json", EDIT)
    removed = sorted((studied / "steps").glob("edits-by-memit-add-*"))
    assert len(removed) == 1
    removed[0].unlink()
    calls = []
    plain = edit_study._effects

    def counted(subject, editors, name, facts):
        calls.append(name)
        return plain(subject, editors, name, facts)

    monkeypatch.setattr(edit_study, "_effects", counted)
    assert main([*words, "--out", str(studied)]) == 0
    assert calls == ["memit"]
    assert "steps were kept from an earlier run" in capsys.readouterr().out
    assert read_result(studied / "edit.json", EDIT).measures == before.measures


def test_the_report_has_both_modes(studied):
    html = (studied / "report.html").read_text()
    assert ">Edits of facts</h2>" in html
    assert not re.search(r">[^<]*\b(nan|None)\b[^<]*<", html)
    markdown = mechanisms_report([(EDIT, read_result(studied / "edit.json", EDIT))]).markdown()
    assert "Facts that the model does not know, added" in markdown
    assert "Facts that the model knows, removed" in markdown
    assert "| memit | add |" in markdown


def test_a_model_and_facts_of_files_are_studied(small, tmp_path, capsys):
    world = make_world("tiny", seed=0)
    folder = world_models.pretrained(world, seed=0)
    patterns, triples = {}, {}
    for number, fact in enumerate(world.facts):
        templates = [
            text.replace(fact.subject, "[X]").replace("[MASK]", "[Y]")
            for text in world.clozes(number)
        ]
        patterns[fact.relation] = [{"pattern": text} for text in templates]
        triple = {"sub_label": fact.subject, "obj_label": fact.object, "uuid": f"u{number}"}
        triples.setdefault(fact.relation, []).append(triple)
    for name, kinds in (("pattern_data/graphs_json", patterns), ("trex_lms_vocab", triples)):
        (tmp_path / "facts" / name).mkdir(parents=True)
        for relation, rows in kinds.items():
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (tmp_path / "facts" / name / f"{relation}.jsonl").write_text(text)
    texts = tmp_path / "texts.jsonl"
    rows = [{"_id": passage.id, "text": passage.text} for passage in world.passages]
    texts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out = tmp_path / "out"
    words = ["mechanisms", "edit", "--model", str(folder), "--facts-from", str(tmp_path / "facts")]
    words += ["--texts", str(texts), *FEW, "--editors", "rome", "--out", str(out)]
    assert main(words) == 0
    assert "216 of 216 have enough prompts and one object" in capsys.readouterr().out
    result = read_result(out / "edit.json", EDIT)
    assert values(result, "rome", "remove")["probability before"] > 0.2
    added = values(result, "rome", "add")
    assert added["probability after"] > added["probability before"]
    too_few = [*words[:-4], "--editors", "rome", "--n-prompts", "6", "--out", str(tmp_path / "b")]
    assert main(too_few) == 1
    assert "n_prompts: expected facts with more than 6 prompts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"world": None}, "expected world, or model, facts_from and texts; got none of them"),
        ({"model": "m"}, "got world, model"),
        ({"world": None, "model": "m"}, "got model"),
        ({"seeds": ()}, "seeds: expected one or more different values"),
        ({"editors": ("rome", "rome")}, "editors: expected one or more different values"),
        ({"editors": ("rome",)}, "memit_weight: has no effect without memit"),
        ({"memit_weight": 0.0}, "memit_weight: expected a number above 0"),
        ({"n_facts": 1}, "n_facts: expected 2 or more, got 1"),
        ({"editors": ("memit",), "network_steps": 9}, "network_steps: has no effect without mend"),
        (
            {"editors": ("surgery",), "memit_weight": 100.0, "n_texts": 9},
            "n_texts: has no effect without rome and memit",
        ),
    ],
)
def test_wrong_settings_are_errors(changed, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        settings(**changed)


def test_a_base_that_knows_too_little_is_an_error(cache, monkeypatch):
    from functools import partial

    monkeypatch.setenv("TILEFOLD_CACHE", str(cache))
    untrained = partial(world_models.pretrained, steps=1)
    monkeypatch.setattr(world_models, "pretrained", untrained)
    with pytest.raises(ValueError, match=r"expected at least 22 known facts .n_facts; of known"):
        edit_subject(settings(), 0, Reporter())
