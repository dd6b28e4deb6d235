"""Learns from labelled questions how sentences become questions, and writes new ones."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..data import TrainingSet
from .synthetic_questions import SyntheticQuestions

_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_SUBJECT, _ANSWER = "{subject}", "{answer}"  # places in patterns
_FIXED_WORDS = 2  # words of a sentence's pattern beside subject and answer
_LONGEST = 60  # words of a sentence
_MASK = "[MASK]"


@dataclass(frozen=True)
class QuestionTemplates:
    """Pairs of a sentence's pattern and a question's, learned from labelled questions.

    A labelled question, a sentence of its passage with the answer, and the longest run of words
    that both have, their subject, make a pair: "Where was {subject} born ?" of "{subject} was born
    in {answer} .". Pairs that several questions support turn every other sentence of the same
    pattern into questions. It suits collections whose sentences follow patterns; elsewhere pass the
    questions of a language model to `SyntheticQuestions.merged`.

    Args:
        pairs: patterns of sentence and question, with ``{subject}`` and ``{answer}``, and how many
            labelled questions support each pair.

    Example:
        >>> from tilefold.ragged_lists import Lists
        >>> texts = [f"{name} was born in {city} ." for name, city in
        ...          (("Ada", "Rome"), ("Ben", "Paris"), ("Cleo", "Oslo"))]
        >>> lists = Lists.pack([[0], [1]]), Lists.pack([[], []])
        >>> asked = ["Where was Ada born ?", "Where was Ben born ?"]
        >>> data = TrainingSet(["a", "b"], asked, ["0", "1", "2"], texts, *lists,
        ...                    [("Rome",), ("Paris",)])
        >>> made = QuestionTemplates.learn(data).write(texts)
        >>> made.questions[2], made.answers[2], made.clozes[2]
        ('Where was Cleo born ?', 'Oslo', 'Cleo was born in [MASK] .')
    """

    pairs: dict[tuple[str, str], int]

    @classmethod
    def learn(cls, data: TrainingSet, *, support: int = 2) -> QuestionTemplates:
        """Finds the pairs that labelled questions support.

        Args:
            data: questions with answers, and positives whose texts have sentences with these.
            support: number of questions with different subjects that a pair needs.

        Raises:
            ValueError: support below 1; no question has an answer; no pair has the support.
        """
        if support < 1:
            raise ValueError(f"QuestionTemplates.learn: support must be at least 1, got {support}")
        if not any(data.answers):
            raise ValueError("QuestionTemplates.learn: no question of the data has an answer")
        subjects: dict[tuple[str, str], set[str]] = {}
        for row, question in enumerate(data.queries):
            texts = [data.documents[d] for d in data.positives.of(row)]
            for answer in data.answers[row]:
                for sentence, subject in _evidence(question, answer, texts):
                    pattern = _pattern(sentence, subject, answer)
                    if pattern is not None:
                        pair = pattern, question.replace(subject, _SUBJECT)
                        subjects.setdefault(pair, set()).add(subject)
        pairs = {pair: len(own) for pair, own in subjects.items() if len(own) >= support}
        if not pairs:
            raise ValueError(
                f"QuestionTemplates.learn: no pair of a sentence and a question is supported by "
                f"{support} questions"
            )
        return cls(pairs)

    def write(self, documents: Sequence[str]) -> SyntheticQuestions:
        """Writes the questions of all sentences that have a known pattern.

        Args:
            documents: texts, without titles.

        Returns:
            Questions with answers and clozes; a question that several documents answer has all of
            them.
        """
        questions: dict[str, list[str]] = {}
        for pattern, question in self.pairs:
            questions.setdefault(pattern, []).append(question)
        known = [(_expression(pattern), own) for pattern, own in questions.items()]
        rows, texts, answers, clozes = [], [], [], []
        for row, document in enumerate(documents):
            for sentence in _sentences(document):
                for expression, own in known:
                    match = expression.fullmatch(sentence)
                    if match is None:
                        continue
                    begin, end = match.span("answer")
                    for question in own:
                        texts.append(question.replace(_SUBJECT, match["subject"]))
                        rows.append(row)
                        answers.append(match["answer"])
                        clozes.append(f"{sentence[:begin]}{_MASK}{sentence[end:]}")
        return SyntheticQuestions.merged(texts, rows, answers, clozes)


def _sentences(text: str) -> list[str]:
    found = [sentence.strip() for sentence in _SENTENCES.split(text)]
    return [sentence for sentence in found if 0 < len(sentence.split()) <= _LONGEST]


def _evidence(question: str, answer: str, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields sentences with the answer and the subject of the question, and the subject."""
    for text in texts:
        for sentence in _sentences(text):
            if answer and answer in sentence:
                subject = _shared_run(question, sentence.replace(answer, _ANSWER))
                if subject:
                    yield sentence, subject


def _shared_run(question: str, sentence: str) -> str:
    """Returns the longest run of words of both that begins with a capital letter, or ""."""
    asked, stated = question.split(), sentence.split()
    best: list[str] = []
    for i, first in enumerate(asked[1:], 1):  # a question's first word is no name
        if not first[:1].isupper():
            continue
        for j in (place for place, word in enumerate(stated) if word == first):
            run = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(asked[i:], stated[j:], strict=False)
            )
            words = [word for word, _ in run]
            best = max(best, words, key=len)
    while best and not best[-1][:1].isupper():  # "Ada was" is about Ada
        best = best[:-1]
    return " ".join(best)


def _pattern(sentence: str, subject: str, answer: str) -> str | None:
    """Returns a sentence with places for subject and answer, if it says more than these."""
    if sentence.count(answer) != 1 or subject in answer or answer in subject:
        return None
    pattern = sentence.replace(answer, _ANSWER)
    if pattern.count(subject) != 1:
        return None
    pattern = pattern.replace(subject, _SUBJECT)
    fixed = re.findall(r"\w+", pattern.replace(_SUBJECT, "").replace(_ANSWER, ""))
    return pattern if len(fixed) >= _FIXED_WORDS else None


def _expression(pattern: str) -> re.Pattern[str]:
    """Returns an expression that matches other sentences of a pattern."""
    escaped = re.escape(pattern)
    # The subject is a name, which begins with a capital letter; neither crosses punctuation.
    escaped = escaped.replace(re.escape(_SUBJECT), r"(?P<subject>[^\W\d_a-z][^,;:.!?]*?)")
    return re.compile(escaped.replace(re.escape(_ANSWER), r"(?P<answer>[^,;:.!?]+?)"))
