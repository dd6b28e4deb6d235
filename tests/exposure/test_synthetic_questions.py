"""Synthetic questions: templates against a world's own questions, crops, filter, training sets."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

from tilefold.data import TrainingSet
from tilefold.exposure import (
    QuestionTemplates,
    SyntheticQuestions,
    cropped_questions,
    exposed_training_set,
    order_by_knowledge,
    round_trip,
)
from tilefold.ragged_lists import Lists
from tilefold.world import make_world
from tilefold.world.retrieval_data import split_facts, training_set


@pytest.fixture(scope="module")
def world():
    return make_world("tiny", seed=3)


@pytest.fixture(scope="module")
def data(world):
    return training_set(world, split_facts(world, seed=3)[0])


def test_templates_ask_a_worlds_own_questions_about_every_passage(world, data):
    made = QuestionTemplates.learn(data).write(data.documents)
    facts = {q: n for n in range(len(world.facts)) for q in world.questions(n)}
    test = set(split_facts(world, seed=3)[1])
    right = [i for i, text in enumerate(made.questions) if text in facts]
    assert len(right) >= 0.9 * len(made)
    assert len(test & {facts[made.questions[i]] for i in right}) >= 0.7 * len(test)
    for i in right:
        fact = facts[made.questions[i]]
        assert made.answers[i] == world.facts[fact].object
        assert set(made.documents.of(i)) <= set(world.stating(fact))
        assert made.clozes[i] in world.clozes(fact)


def test_a_pair_needs_the_support_of_several_subjects():
    texts = ["Ada was born in Rome .", "Ben was born in Oslo .", "Cleo was born in Bonn ."]
    asked = ["Where was Ada born ?", "Where was Ben born ?"]
    data = TrainingSet(
        ["a", "b"],
        asked,
        ["0", "1", "2"],
        texts,
        Lists.pack([[0], [1]]),
        Lists.pack([[], []]),
        [("Rome",), ("Oslo",)],
    )
    pair = "{subject} was born in {answer} .", "Where was {subject} born ?"
    assert QuestionTemplates.learn(data).pairs == {pair: 2}
    with pytest.raises(ValueError, match="supported by 3 questions"):
        QuestionTemplates.learn(data, support=3)
    twice = data.take([0, 0])
    with pytest.raises(ValueError, match="no pair of a sentence and a question"):
        QuestionTemplates.learn(twice)
    with pytest.raises(ValueError, match="no question of the data has an answer"):
        QuestionTemplates.learn(TrainingSet(*list(vars(data).values())[:6], [(), ()]))


@pytest.mark.parametrize(
    "text",
    [
        "Ada, who was born in Rome .",  # another pattern
        "the king was born in Rome .",  # no name
        "",
        "Ada was born in Rome, Italy .",  # an answer does not cross punctuation
    ],
)
def test_other_sentences_give_no_question(text):
    templates = QuestionTemplates(
        {("{subject} was born in {answer} .", "Where was {subject} born ?"): 2}
    )
    assert len(templates.write([text])) == 0
    assert templates.write(["He left . Ada was born in Rome ."]).questions == [
        "Where was Ada born ?"
    ]


def test_crops_are_spans_with_words_left_out():
    documents = [" ".join(f"w{i}" for i in range(40)), "one", "", "a b"]
    made = cropped_questions(documents, n=3, shares=(0.2, 0.5), deletion=0.3, seed=1)
    whole = cropped_questions(documents, n=3, shares=(0.2, 0.5), deletion=0.0, seed=1)
    for row in range(len(made)):
        numbers = [int(word[1:]) for word in made.questions[row].split() if word[0] == "w"]
        assert numbers == sorted(numbers)
        assert 2 not in made.documents.of(row)
    numbered = [text for text in whole.questions if text[0] == "w"]
    assert len(numbered) == 3
    for text in numbered:
        numbers = [int(word[1:]) for word in text.split()]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert 8 <= len(numbers) <= 20
    again = cropped_questions(documents, n=3, shares=(0.2, 0.5), deletion=0.3, seed=1)
    assert made.questions == again.questions
    alone = cropped_questions(documents[:1], n=3, shares=(0.2, 0.5), deletion=0.3, seed=1)
    assert alone.questions == made.questions[: len(alone)]
    for options, message in (
        ({"shares": (0.5, 0.2)}, "shares must be above 0, ascending"),
        ({"deletion": 1.0}, "deletion must be at least 0 and below 1"),
        ({"n": 0}, "n"),
    ):
        with pytest.raises(ValueError, match=message):
            cropped_questions(documents, **options)


def test_the_filter_keeps_what_leads_back():
    made = SyntheticQuestions.merged(["x", "y", "z"], [0, 1, 2])
    found = {"x": [3, 0], "y": [1, 2], "z": [-1, -1]}

    def search(texts, k):
        return np.array([found[text][:k] for text in texts])

    assert round_trip(made, search).tolist() == [False, True, False]
    assert round_trip(made, search, k=2).tolist() == [True, True, False]
    assert made.take(round_trip(made, search)).questions == ["y"]
    with pytest.raises(ValueError, match=r"search must return ids \[3, 4\], got \[3, 2\]"):
        round_trip(made, search, k=4)


def test_questions_are_added_behind_labelled_ones(data):
    made = QuestionTemplates.learn(data).write(data.documents)
    joined = exposed_training_set(data, made, n_negatives=3)
    n = len(data)
    assert joined.queries[:n] == data.queries
    assert len(set(joined.queries)) == len(joined.queries)
    new = set(made.questions) - set(data.queries)
    assert set(joined.queries[n:]) == new
    for row in (0, n - 1):
        assert joined.negatives.of(row).tolist() == data.negatives.of(row).tolist()
    for row in range(n, len(joined)):
        negatives = joined.negatives.of(row)
        assert len(negatives) <= 3
        (answer,) = joined.answers[row]
        assert not any(answer in joined.documents[d] for d in negatives)
        assert not set(negatives) & set(joined.positives.of(row))
    assert exposed_training_set(data, made.take([])) is data
    beyond = SyntheticQuestions.merged(["new"], [len(data.documents)])
    with pytest.raises(ValueError, match="documents must be 0 to"):
        exposed_training_set(data, beyond)


def test_unknown_answers_come_first(world, tmp_path):
    from tilefold.models import MaskedLM
    from tilefold.world.world_models import pretrained

    model = MaskedLM.from_pretrained(pretrained(world, steps=5, folder=tmp_path))
    clozes = [world.clozes(n)[0] for n in range(20)]
    answers = [world.facts[n].object for n in range(20)]
    made = SyntheticQuestions.merged(
        ["no cloze", *map(str, range(20))], range(21), ["", *answers], ["", *clozes]
    )
    order = order_by_knowledge(made, model)
    logits = model.logits(clozes)
    ids = model.word_ids([answer.lower() for answer in answers])
    ranks = [(row > row[i]).sum() for row, i in zip(logits, ids, strict=True)]
    assert sorted(order) == list(range(21))
    assert order[-1] == 0
    ordered = [ranks[i - 1] for i in order[:-1]]
    assert ordered == sorted(ordered, reverse=True)


def test_wrong_columns_are_errors():
    lists = Lists.pack([[0]])
    for arguments, message in (
        ((["a", "b"], lists), "expected 2 documents, got 1"),
        ((["a"], lists, ["x", "y"]), "expected 1 answers, got 2"),
        ((["a"], Lists.pack([[]])), "must have a document"),
        ((["a", "a"], Lists.pack([[0], [1]])), "is there twice"),
    ):
        with pytest.raises(ValueError, match=message):
            SyntheticQuestions(*arguments)
    with pytest.raises(ValueError, match=r"merged: expected 1 documents, got 2"):
        SyntheticQuestions.merged(["a"], [0, 1])
    with pytest.raises(ValueError, match=r"merged: expected 2 clozes, got 1"):
        SyntheticQuestions.merged(["a", "b"], [0, 1], clozes=["x"])
