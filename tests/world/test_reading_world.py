"""The world of registers: every fact in each of them, judgments sparse and blind to registers."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from tilefold.world import make_world
from tilefold.world.reading_world import judged_training_set, make_reading_world
from tilefold.world.registers import REGISTERS, STATING, PassageWriter, Statement
from tilefold.world.relations import RELATIONS

COPIES = 2


@pytest.fixture(scope="module")
def world():
    return make_reading_world("tiny", seed=0, registers=REGISTERS, copies=COPIES)


def by_register(world, fact, register):
    return [world.passages[row] for row in world.about(fact, [register])]


def test_facts_and_sentences_are_those_of_the_world_without_registers(world):
    plain = make_world("tiny", seed=0, exposed=0.3)
    names = [field.name for field in dataclasses.fields(plain) if field.name != "passages"]
    assert all(getattr(world, name) == getattr(plain, name) for name in names)


def test_the_same_seed_makes_the_same_world(world):
    options = {"registers": REGISTERS, "copies": COPIES}
    assert make_reading_world("tiny", seed=0, **options) == world
    assert make_reading_world("tiny", seed=1, **options).passages != world.passages


def test_each_fact_has_passages_in_every_register_which_differ_in_wording(world):
    for number, fact in enumerate(world.facts):
        rows = world.about(number)
        assert [world.registers[row] for row in rows] == [
            r for r in REGISTERS for _ in range(COPIES)
        ]
        texts = [world.passages[row].text for row in rows]
        assert len(set(texts)) == len(texts)
        for row in rows:
            assert world.passages[row].title == fact.subject
            assert fact.subject in world.passages[row].text


def test_registers_and_copies_may_be_chosen():
    world = make_reading_world("tiny", registers=("archaic", "plain"), copies=4)
    assert world.registers[:9] == ["archaic"] * 4 + ["plain"] * 4 + ["archaic"]
    assert world.n_about == 8


def test_a_plain_passage_is_a_statement_of_the_fact(world):
    for number in range(len(world.facts)):
        for passage in by_register(world, number, "plain"):
            assert passage.text in world.statements(number)


def test_only_archaic_passages_lack_the_answer_and_have_its_old_name(world):
    for number, fact in enumerate(world.facts):
        for row in world.about(number):
            words = world.passages[row].text.split()
            archaic = world.registers[row] == "archaic"
            assert (fact.object in words) != archaic
            assert (world.old_names[fact.object] in words) == archaic


def test_old_names_are_one_to_one_and_new(world):
    old = set(world.old_names.values())
    values = {value for some in world.objects.values() for value in some}
    assert set(world.old_names) == values
    assert len(old) == len(values)
    names = {word for fact in world.facts for word in fact.subject.split()}
    assert not old & (values | names)


def test_a_corrected_passage_has_one_wrong_object_in_the_same_words(world):
    for number, fact in enumerate(world.facts):
        others = {*world.objects[fact.relation]} - {fact.object, *fact.subject.split()}
        for passage in by_register(world, number, "corrected"):
            (wrong,) = (word for word in passage.text.split() if word in others)
            cloze = [c.replace("[MASK]", "{}") for c in world.clozes(number)]
            both = [c for c in cloze if c.format(wrong) in passage.text]
            assert both
            assert all(c.format(fact.object) in passage.text for c in both)


def test_a_crowded_passage_states_facts_of_other_subjects(world):
    for number in range(len(world.facts)):
        for crowded in by_register(world, number, "crowded"):
            assert number not in crowded.others
            assert len(crowded.others) == 2
            for other in crowded.others:
                assert any(text in crowded.text for text in world.statements(other))
                assert world.facts[other].relation == world.facts[number].relation


def test_a_mention_states_nothing(world):
    for number in range(len(world.facts)):
        for mention in by_register(world, number, "mention"):
            assert (mention.facts, mention.others) == ((), ())
            assert all(text not in mention.text for text in world.statements(number))


def test_judgments_name_one_stating_passage_whatever_its_register(world):
    counts = Counter()
    for fact, passage in enumerate(world.judgments):
        assert passage in world.about(fact, STATING)
        assert world.passages[passage].facts == (fact,)
        counts[world.registers[passage]] += 1
    assert set(counts) == set(STATING)
    n = len(world.facts)
    # Four standard deviations of a binomial with p = 1/4.
    assert all(abs(c - n / 4) < 4 * np.sqrt(n * 3 / 16) for c in counts.values())


def test_a_question_has_its_judged_passage_and_negatives_that_do_not_state_its_fact(world):
    facts = [0, 3, 100]
    data = judged_training_set(world, facts, paraphrases=(1, 3), seed=4)
    assert data.queries == [world.questions(fact)[p] for fact in facts for p in (1, 3)]
    for row in range(len(data)):
        fact = facts[row // 2]
        assert data.positives.of(row).tolist() == [world.judgments[fact]]
        assert data.answers[row] == (world.facts[fact].object,)
        negatives = set(data.negatives.of(row).tolist())
        assert len(negatives) == 4
        assert not negatives & {*world.stating(fact), *world.about(fact)}
        titles = [world.passages[n].title for n in data.negatives.of(row)]
        assert world.facts[fact].subject in titles
        assert len({*titles, world.facts[fact].subject}) > 1


def test_no_facts_give_no_training_set(world):
    with pytest.raises(ValueError, match="judged_training_set: expected one fact or more"):
        judged_training_set(world, [])


@pytest.mark.parametrize(
    "registers", [("mention",), (), ("plain", "verse"), ("plain", "plain")], ids=str
)
def test_registers_must_be_known_and_state_facts(registers):
    with pytest.raises(ValueError, match="make_reading_world: registers must be distinct, of"):
        make_reading_world("tiny", registers=registers)


@pytest.mark.parametrize("copies", [0, 5])
def test_there_are_as_many_copies_as_wordings(copies):
    with pytest.raises(ValueError, match=f"copies must be 1 to 4, got {copies}"):
        make_reading_world("tiny", copies=copies)


def test_writers_refuse_what_they_cannot_write(world):
    writer = PassageWriter(world.objects, world.old_names)
    fact = Statement(RELATIONS[0], "Lora", "Rom")
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"register must be one of plain, crowded.*'verse'"):
        writer.write("verse", fact, rng)
    with pytest.raises(ValueError, match="a crowded passage has neighbours"):
        writer.write("crowded", fact, rng)
    with pytest.raises(ValueError, match="a crowded passage has neighbours and no other"):
        writer.write("plain", fact, rng, [fact])
