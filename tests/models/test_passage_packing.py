"""Packing of passages: what fits, what is left out first, and what is said of it."""

import warnings

import pytest

from tilefold.models.passage_packing import pack_passages

QUESTIONS = ["who ?", "where is it ?"]
PASSAGES = [["a b", "c", "d e f"], ["g"]]


class Words:
    """A model that reads words, and refuses texts with more than it reads, as language models."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def tokenize(self, texts):
        found = [{"input_ids": [0] * len(text.split())} for text in texts]
        if any(len(one["input_ids"]) > self.max_length for one in found):
            raise ValueError("too long")
        return found


def join(row, kept):
    return " ".join([*kept, QUESTIONS[row]])


def pack(length: int, **options):
    return pack_passages(Words(length), QUESTIONS, PASSAGES, join, op="ask", **options)


def test_all_passages_are_kept_where_they_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pack(8)
    assert found.prompts == ["a b c d e f who ?", "g where is it ?"]
    assert found.kept == [[0, 1, 2], [0]]


@pytest.mark.parametrize(
    ("length", "options", "kept"),
    [
        (7, {}, [[0, 1], [0]]),
        (8, {"new_tokens": 1}, [[0, 1], [0]]),
        (8, {"endings": [[" x", ""], [""]]}, [[0, 1], [0]]),
        (4, {}, [[0], []]),
        (5, {"kept_longest": [[1, 2], []]}, [[1], [0]]),
        (5, {"kept_longest": [[2], []]}, [[2], [0]]),
        (7, {"kept_longest": [[0], []]}, [[0, 1], [0]]),
    ],
)
def test_the_last_passages_are_left_out_first(length, options, kept):
    left_out = 4 - sum(map(len, kept))
    questions = sum(len(own) < n for own, n in zip(kept, (3, 1), strict=True))
    message = f"ask: left out the last {left_out} passages of {questions} of 2 questions"
    with pytest.warns(UserWarning, match=message):
        found = pack(length, **options)
    assert found.kept == kept
    for row in range(2):
        assert found.prompts[row] == join(row, [PASSAGES[row][place] for place in kept[row]])


def test_a_question_that_is_too_long_alone_is_left_to_the_model():
    with pytest.warns(UserWarning, match="left out the last 4 passages of 2 of 2"):
        found = pack(1)
    assert found.prompts == QUESTIONS


def test_errors_name_the_question_and_the_way_out():
    with pytest.raises(ValueError, match=r"ask: a question with 3 passages .* 7: 'who \?'; pass"):
        pack(7, overflow="error")
