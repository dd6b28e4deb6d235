"""Facts with prompts: ParaRel, LAMA, CounterFact and zsRE come down to one shape."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import ClozeFact, Neighbour, read_facts

BAGS = [
    [
        ["The capital of [MASK] is Edmonton.", "Alberta", "P1376(capital of)"],
        ["Edmonton is the capital of [MASK].", "Alberta", "P1376(capital of)"],
    ],
    [
        ["The capital of [MASK] is New Delhi.", "India", "P1376(capital of)"],
        ["New Delhi is the capital of [MASK].", "India", "P1376(capital of)"],
    ],
]
REWRITE = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Danielle Darrieux spoke the language"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is"],
    "attribute_prompts": [],
    "generation_prompts": [],
}
FLAT = {
    "case_id": 2,
    "prompt": "Toko Yasuda, the",
    "target_new": "piano",
    "subject": "Toko Yasuda",
    "ground_truth": "guitar",
    "rephrase_prompt": "Toko Yasuda is incredible at",
    "locality_prompt": "John Lennon performs on the",
    "locality_ground_truth": "guitar",
}
ZSRE = {
    "subject": "UniFirst",
    "src": "What is the product made by UniFirst?",
    "pred": "uniform",
    "rephrase": "What will be the product of UniFirst?",
    "alt": "unmanned aircraft",
    "answers": ["uniform"],
    "loc": "nq question: who sang it",
    "loc_ans": "Walter Sobchak",
    "cond": "uniform >> unmanned aircraft",
}


def written(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def test_subjects_of_bags_are_what_their_prompts_share_and_others_do_not(tmp_path):
    path = tmp_path / "bags.json"
    path.write_text(json.dumps(BAGS))
    one, other = read_facts(path)
    assert one == ClozeFact(
        "0", "Edmonton", "P1376(capital of)", "Alberta", tuple(row[0] for row in BAGS[0])
    )
    assert other.subject == "New Delhi"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_facts(path) == [one, other]


def test_a_subject_of_several_words_can_stand_alone_in_its_relation(tmp_path):
    path = tmp_path / "bags.json"
    prompts = ["Ada Lovelace lives in [MASK].", "[MASK] is home to Ada Lovelace."]
    path.write_text(json.dumps([[[prompt, "Rome", "P1"] for prompt in prompts]]))
    assert read_facts(path)[0].subject == "Ada Lovelace"


def test_pararel_fills_its_patterns(tmp_path):
    patterns = [{"pattern": "[X] was born in [Y] ."}, {"pattern": "[Y] is where [X] is from ."}]
    written(
        tmp_path / "pattern_data" / "graphs_json" / "P19.jsonl", *patterns, {"pattern": "[X] ."}
    )
    triple = {"sub_label": "Ada", "obj_label": "New York", "uuid": "u1"}
    written(tmp_path / "trex_lms_vocab" / "P19.jsonl", triple, {**triple, "uuid": "u2"})
    written(tmp_path / "trex_lms_vocab" / "P20.jsonl", triple)  # has no patterns
    one, other = read_facts(tmp_path)
    prompts = ("Ada was born in [MASK] .", "[MASK] is where Ada is from .")
    assert one == ClozeFact("u1", "Ada", "P19", "New York", prompts)
    assert other.id == "u2"


@pytest.mark.parametrize(
    "names", [("subject", "object", "relation"), ("sub_label", "obj_label", "predicate_id")]
)
def test_lama_fills_its_templates(tmp_path, names):
    relations = [
        {"relation": "P19", "template": "[X] was born in [Y] ."},
        {"relation": "P31", "template": "a template without its places"},
    ]
    written(tmp_path / "relations.jsonl", *relations)
    triples = [
        dict(zip(names, row, strict=True)) for row in (("Ada", "Rome", "P19"), ("Bo", "x", "P31"))
    ]
    path = written(tmp_path / "triples.jsonl", *triples)
    expected = [ClozeFact("triples-0", "Ada", "P19", "Rome", ("Ada was born in [MASK] .",))]
    assert read_facts(path) == expected == read_facts(tmp_path)


def test_counterfact_as_published_and_flat(tmp_path):
    (fact,) = read_facts(written(tmp_path / "published.json", REWRITE))
    assert fact == ClozeFact(
        "7",
        "Danielle Darrieux",
        "P103",
        "French",
        ("The mother tongue of Danielle Darrieux is [MASK]",),
        "English",
        ("Danielle Darrieux spoke the language [MASK]",),
        (Neighbour("The mother tongue of Léon Blum is [MASK]", "French"),),
    )
    path = tmp_path / "flat.json"
    path.write_text(json.dumps([FLAT]))
    (fact,) = read_facts(path)
    assert (fact.object, fact.new_object) == ("guitar", "piano")
    assert fact.prompts == ("Toko Yasuda, the [MASK]",)
    assert fact.paraphrases == ("Toko Yasuda is incredible at [MASK]",)
    assert fact.neighbours == (Neighbour("John Lennon performs on the [MASK]", "guitar"),)


def test_zsre_asks_questions(tmp_path):
    (fact,) = read_facts(written(tmp_path / "zsre.jsonl", ZSRE))
    assert fact == ClozeFact(
        "0",
        "UniFirst",
        "",
        "uniform",
        ("What is the product made by UniFirst? [MASK]",),
        "unmanned aircraft",
        ("What will be the product of UniFirst? [MASK]",),
        (Neighbour("nq question: who sang it [MASK]", "Walter Sobchak"),),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[[["a [MASK]", "b"]]]', r"fact 0: expected a list of \[prompt, object, relation\], got"),
        ('[["a"]]', r"fact 0: expected a list of \[prompt, object, relation\]"),
        ('[[["x [MASK]", "b", "P"], ["x [MASK] .", "c", "P"]]]', "several objects or relations"),
        (
            '[[["a [MASK]", "b", "P"], ["c [MASK]", "b", "P"]]]',
            "not known: 0 texts are",
        ),
        ('[[["Ada lives here.", "Rome", "P1"]]]', r"fact 0: every prompt must have one \[MASK\]"),
        (
            '[[["The home of [MASK] is A.", "B", "P"], ["A is the home of [MASK].", "B", "P"]]]',
            "the subject is not known: . texts are in all of its prompts",
        ),
        ('[[["a', "not JSON"),
        ('{"case_id": 1}', "expected the fields of CounterFact, zsRE or LAMA, got"),
        ("a,b\n1,2\n", "must be JSON"),
        (
            json.dumps({**FLAT, "subject": "Nobody"}),
            r"flaw.json:1: a prompt must have the subject 'Nobody' and one",
        ),
        (
            json.dumps({**FLAT, "prompt": "Toko Yasuda [MASK]"}),
            r"and one \[MASK\], got 'Toko Yasuda",
        ),
        (json.dumps({**FLAT, "target_new": 3}), "'target_new' must be a string, got 3"),
        ('{"subject": "a", "object": "b", "relation": "c"}', "which is not there"),
    ],
)
def test_flaws_are_errors_with_file_and_line(tmp_path, content, message):
    path = tmp_path / "flaw.json"
    path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_facts(path)


def test_missing_and_unknown_sources_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_facts(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="must have the folders pattern_data/graphs_json and trex"):
        read_facts(tmp_path)
    written(tmp_path / "relations.jsonl")
    with pytest.raises(ValueError, match="has no facts"):
        read_facts(tmp_path)


def test_published_files_are_read_whole(data_folder):
    counts = {
        "pararel/fact_bags.json": 937,
        "pararel/orig": 27610,
        "lama_trex/facts": 22881,
        "counterfact/orig/counterfact-train.json": 10000,
        "counterfact/orig/zsre_mend_train-1k.json": 1000,
    }
    found = {name: read_facts(data_folder / name) for name in counts}
    assert {name: len(facts) for name, facts in found.items()} == counts
    # Subjects of bags are those of ParaRel's own triples, wherever these have the object.
    subjects: dict[tuple[str, str], set[str]] = {}
    for fact in found["pararel/orig"]:
        subjects.setdefault((fact.relation, fact.object), set()).add(fact.subject)
    known = 0
    for fact in found["pararel/fact_bags.json"]:
        own = subjects.get((fact.relation.partition("(")[0], fact.object), set())
        candidates = [s for s in own if all(s in prompt for prompt in fact.prompts)]
        if candidates:
            assert fact.subject == max(candidates, key=len)
            known += 1
    assert known > 600
