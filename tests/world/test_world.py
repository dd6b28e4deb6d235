"""The world: every fact is stated, and the same seed makes the same world."""

import json

import numpy as np
import pytest

from tilefold.data import read_beir, read_training
from tilefold.world import RELATIONS, make_world
from tilefold.world.relations import INVENTED, VALUES
from tilefold.world.retrieval_data import collection, split_facts, training_set, write_beir


@pytest.fixture(scope="module")
def world():
    return make_world("tiny", seed=0)


def test_there_are_enough_relations_and_paraphrases():
    assert len(RELATIONS) >= 8
    for relation in RELATIONS:
        assert len(set(relation.clozes)) >= 6
        assert len(set(relation.questions)) >= 4
        assert all(text.count("{s}") == text.count("{o}") == 1 for text in relation.clozes)
        assert all("{o}" not in text and "{s}" in text for text in relation.questions)
        assert relation.object in {*VALUES, *INVENTED, "city", "company"}


def test_the_same_seed_makes_the_same_world(world):
    again = make_world("tiny", seed=0)
    assert again.facts == world.facts
    assert again.passages == world.passages
    assert make_world("tiny", seed=1).facts != world.facts


def test_every_entity_has_every_property_of_its_kind_once(world):
    pairs = [(fact.subject, fact.relation) for fact in world.facts]
    assert len(set(pairs)) == len(pairs)
    kinds = {relation.name: relation.subject for relation in RELATIONS}
    for subject in {fact.subject for fact in world.facts}:
        own = [fact.relation for fact in world.facts if fact.subject == subject]
        kind = kinds[own[0]]
        assert sorted(own) == sorted(r.name for r in RELATIONS if r.subject == kind)


def test_an_object_is_one_word_of_its_relations_values(world):
    for fact in world.facts:
        assert fact.object in world.objects[fact.relation]
        assert " " not in fact.object
    entities = {fact.subject for fact in world.facts}
    assert len({e.lower() for e in entities}) == len(entities)


def test_every_fact_is_stated_and_nothing_else_is(world):
    for number, fact in enumerate(world.facts):
        ways = world.statements(number)
        stating = world.stating(number)
        assert stating
        for passage in stating:
            assert any(way in world.passages[passage].text for way in ways), fact
    for passage in world.passages:
        stated = (*passage.facts, *passage.others)
        assert passage.text.count(" .") == len(stated)
        assert {world.facts[n].subject for n in passage.facts} == {passage.title}
        assert all(world.facts[n].subject != passage.title for n in passage.others)


def test_half_of_the_facts_are_exposed_by_default(world):
    share = np.mean([fact.exposed for fact in world.facts])
    assert 0.35 < share < 0.65
    assert not any(fact.exposed for fact in make_world("tiny", exposed=0.0).facts)
    assert all(fact.exposed for fact in make_world("tiny", exposed=1.0).facts)


def test_popular_entities_have_more_passages():
    world = make_world("small", seed=0)
    counts = {}
    for passage in world.passages:
        counts[passage.title] = counts.get(passage.title, 0) + 1
    people = [fact for fact in world.facts if fact.relation == "profession"]
    first = np.mean([counts[fact.subject] for fact in people[:5]])
    last = np.mean([counts[fact.subject] for fact in people[-50:]])
    assert first > 2 * last
    assert [fact.popularity for fact in people[:3]] == [1, 1 / 2, 1 / 3]


def test_clozes_mask_the_object_alone(world):
    for number in range(0, len(world.facts), 7):
        for cloze, statement in zip(world.clozes(number), world.statements(number), strict=True):
            assert cloze.count("[MASK]") == 1
            assert cloze.replace("[MASK]", world.facts[number].object) == statement


# ---- data for retrievers -------------------------------------------------------------------------


def test_negatives_never_state_the_fact(world):
    train, evaluation = split_facts(world)
    assert sorted([*train, *evaluation]) == list(range(len(world.facts)))
    data = training_set(world, train[:60])
    assert len(data) == 3 * 60
    for row, name in enumerate(data.query_ids):
        number = int(name.removeprefix("q").partition("-")[0])
        assert set(data.positives.of(row)) == set(world.stating(number))
        hard = data.negatives.of(row)
        assert 1 <= len(hard) <= 4
        assert not set(hard) & set(data.positives.of(row))


def test_both_sides_of_a_split_have_the_same_share_exposed(world):
    for side in split_facts(world, held_out=0.5):
        assert 0.35 < np.mean([world.facts[n].exposed for n in side]) < 0.65


def test_it_is_written_in_the_layout_of_beir(world, tmp_path):
    write_beir(world, tmp_path)
    _, evaluation = split_facts(world)
    found, expected = read_beir(tmp_path), collection(world, evaluation)
    assert (found.titles, found.documents) == (expected.titles, expected.documents)
    assert all(found.titles)
    assert sorted(found.queries) == sorted(expected.queries)
    assert len(read_training(tmp_path, split="train")) == 3 * (len(world.facts) - len(evaluation))
    facts = [json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()]
    assert [fact["object"] for fact in facts] == [fact.object for fact in world.facts]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "size must be one of tiny, small, medium, got 'huge'"),
        ({"exposed": 1.5}, "exposed must be 0 to 1, got 1.5"),
    ],
)
def test_wrong_arguments_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        make_world(**options)
