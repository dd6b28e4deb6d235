"""Lessons: the answer is in the passages or is an exposed fact, and no other fact is revealed."""

import pytest

from tilefold.world.reading_lessons import (
    LessonShares,
    LessonWriter,
    concatenated_prompt,
    fused_prompt,
)
from tilefold.world.reading_world import make_reading_world
from tilefold.world.relations import RELATIONS


@pytest.fixture(scope="module")
def world():
    return make_reading_world("tiny", seed=0, exposed=0.3)


def lessons(world, n=400, seed=0, **shares):
    writer = LessonWriter(world, LessonShares(**shares), seed=seed)
    return [writer.lesson() for _ in range(n)]


def truths(world):
    """Question -> the true answer, and whether it is exposed."""
    return {
        question: (fact.object, fact.exposed)
        for number, fact in enumerate(world.facts)
        for question in world.questions(number)
    }


def test_lessons_to_read_contradict_the_world_and_state_their_answer(world):
    true = truths(world)
    for lesson in lessons(world, closed_book=0.0):
        assert lesson.answer != true[lesson.question][0]
        assert any(lesson.answer in passage.split() for passage in lesson.passages)


def test_lessons_to_remember_are_exposed_facts_and_popular_ones_come_more_often(world):
    true = truths(world)
    found = lessons(world, closed_book=1.0)
    assert all(not lesson.passages for lesson in found)
    assert all(true[lesson.question] == (lesson.answer, True) for lesson in found)
    popularity = {
        question: fact.popularity
        for number, fact in enumerate(world.facts)
        for question in world.questions(number)
    }
    exposed = [fact.popularity for fact in world.facts if fact.exposed]
    mean = sum(popularity[lesson.question] for lesson in found) / len(found)
    assert mean > 2 * sum(exposed) / len(exposed)


def test_no_passage_states_a_fact_of_the_world(world):
    statements = {text for n in range(len(world.facts)) for text in world.statements(n)}
    for lesson in lessons(world, crowded=0.0, closed_book=0.0):
        assert not statements & set(lesson.passages)
    for lesson in lessons(world, crowded=1.0, closed_book=0.0):
        assert not any(text in passage for passage in lesson.passages for text in statements)


def test_a_reader_that_has_seen_no_archaic_text_knows_no_old_name(world):
    old = set(world.old_names.values())
    words = {w for one in lessons(world) for text in one.passages for w in text.split()}
    assert not old & words
    shown = lessons(world, archaic=0.5, crowded=0.0)
    assert old & {word for lesson in shown for text in lesson.passages for word in text.split()}


def test_the_composition_is_that_of_the_shares(world):
    found = lessons(world, n=1000, crowded=0.0, corrected=0.4, closed_book=0.2)
    read = [lesson for lesson in found if lesson.passages]
    assert 0.75 < len(read) / len(found) < 0.85
    marks = ("long believed", "in error", "Rumour :", "Incorrect :")
    corrected = [one for one in read if any(m in p for p in one.passages for m in marks)]
    assert 0.33 < len(corrected) / len(read) < 0.47
    assert {len(lesson.passages) for lesson in read} == {1, 2, 3}


def test_lessons_depend_on_the_seed_alone(world):
    assert lessons(world, n=20) == lessons(world, n=20)
    assert lessons(world, n=20) != lessons(world, n=20, seed=1)


def test_without_exposed_facts_every_lesson_is_read():
    bare = make_reading_world("tiny", exposed=0.0)
    assert all(lesson.passages for lesson in lessons(bare, n=50, closed_book=1.0))


@pytest.mark.parametrize(
    "shares",
    [{"crowded": -0.1}, {"crowded": 0.6, "corrected": 0.6}, {"closed_book": 1.5}],
    ids=str,
)
def test_shares_that_are_none_are_refused(world, shares):
    with pytest.raises(ValueError, match="LessonShares: shares must be 0 to 1"):
        LessonWriter(world, LessonShares(**shares), seed=0)


def test_lessons_need_a_passage(world):
    with pytest.raises(ValueError, match="max_passages must be 1 or more"):
        LessonWriter(world, LessonShares(max_passages=0), seed=0)


def test_prompts_have_passages_first_and_the_question_in_each():
    assert fused_prompt("who ?", ["a b .", "c ."]) == ["a b . Q: who ? A:", "c . Q: who ? A:"]
    assert fused_prompt("who ?") == ["Q: who ? A:"]
    assert concatenated_prompt("who ?", ["a b .", "c ."]) == "a b .\n\nc .\n\nQ: who ? A:"
    assert concatenated_prompt("who ?") == "Q: who ? A:"


def test_lessons_ask_in_the_chosen_wordings_alone(world):
    writer = LessonWriter(world, LessonShares(closed_book=0.5), seed=0, paraphrases=(1,))
    asked = {
        relation.questions[1].format(s=fact.subject)
        for fact in world.facts
        for relation in RELATIONS
    }
    assert {writer.lesson().question for _ in range(50)} <= asked
