"""Makes examples for fine-tuning: questions with retrieved passages, and their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ...data import TEXT_FORMAT, TrainingSet, document_texts
from ...data.ranked_passages import checked_ranking
from ...evaluate import has_answer
from ...integers import as_integer

Treatment = Literal["kept", "inserted", "removed"]
Form = Literal["together", "apart"]


class ReadingExample(NamedTuple):
    """A question with passages, and the answer that is to be written."""

    query: int  # row of the training set
    question: str
    passages: tuple[str, ...]  # in the order in which they are read
    answer: str
    gold: tuple[int, ...]  # places of passages that are positives of the query
    treatment: Treatment | None  # of the gold passages; None in a closed book


@dataclass(frozen=True)
class GoldShares:
    """Holds the shares of questions whose gold passages are put in, or left out.

    The others are as they were retrieved ("kept"). With "inserted", a question none of whose gold
    passages was retrieved gets one of them, in place of the last passage, at a place that is drawn.
    With "removed" all gold passages are left out, and the next ones of the ranking take their
    place.

    Args:
        inserted, removed: shares, between 0 and 1 together.

    Raises:
        ValueError: a share below 0, or a sum above 1.

    Example:
        >>> GoldShares(inserted=0.5, removed=0.25)
        GoldShares(inserted=0.5, removed=0.25)
    """

    inserted: float = 0.5
    removed: float = 0.0

    def __post_init__(self) -> None:
        if not (self.inserted >= 0 and self.removed >= 0 and self.inserted + self.removed <= 1):
            raise ValueError(
                f"GoldShares: inserted and removed must be at least 0, and at most 1 together, got "
                f"{self.inserted} and {self.removed}"
            )

    def treatment(self, draw: float) -> Treatment:
        """Returns the treatment that belongs to a number between 0 and 1."""
        if draw < self.inserted:
            return "inserted"
        return "removed" if draw < self.inserted + self.removed else "kept"


def reading_examples(
    data: TrainingSet,
    ranking: Any = None,
    *,
    n_passages: int = 5,
    shares: GoldShares = GoldShares(),
    form: Form = "together",
    answers_are_gold: bool = False,
    title_format: str = TEXT_FORMAT,
    seed: int = 0,
) -> list[ReadingExample]:
    """Makes an example of each question, or of each of its passages.

    What is drawn for a question is a function of the seed and of its row alone.

    Args:
        data: questions with answers, of which the first is the one to be written, and positives,
            which are the gold passages.
        ranking: ``[n, depth]`` rows of ``data.documents`` for each question, best first, -1 where
            there is no result; None for examples without passages (closed book).
        n_passages: passages of a question; fewer where its ranking ends before.
        shares: of questions whose gold passages are put in or left out.
        form: "together" gives an example with all passages of a question; "apart" one for each of
            its passages, as in RA-DIT (Lin et al., ICLR 2024), so that the model learns to use good
            passages and to leave bad ones aside.
        answers_are_gold: whether retrieved passages that contain an answer (`evaluate.has_answer`)
            are gold passages too, for data whose positives are not all that there are.
        title_format: joins titles and texts of passages; by default titles are left out.
        seed: of the draw of treatments and places.

    Returns:
        Examples in the order of questions and, "apart", of passages.

    Raises:
        ValueError: a question without an answer; a ranking of another shape, with an id that is no
            document, with one twice, or with fewer results than n_passages; an unknown form.

    Example:
        >>> from tilefold.ragged_lists import Lists
        >>> data = TrainingSet(
        ...     ["q"], ["who?"], ["a", "b", "c"], ["Ann.", "Bob.", "Cat."],
        ...     Lists.pack([[2]]), Lists.pack([[]]), [("Cat",)],
        ... )
        >>> examples = reading_examples(data, [[0, 1]], n_passages=2, shares=GoldShares(1.0))
        >>> examples[0].passages, examples[0].gold
        (('Ann.', 'Cat.'), (1,))
    """
    op = "reading_examples"
    if form not in get_args(Form):
        raise ValueError(f"{op}: form must be 'together' or 'apart', got {form!r}")
    unanswered = [row for row, answers in enumerate(data.answers) if not any(answers[:1])]
    if unanswered:
        raise ValueError(
            f"{op}: {len(unanswered)} of {len(data)} questions have no answer, such as "
            f"{data.query_ids[unanswered[0]]!r}; leave them out by data.take(rows)"
        )
    if ranking is None:
        return [
            ReadingExample(row, data.queries[row], (), data.answers[row][0], (), None)
            for row in range(len(data))
        ]
    n = as_integer(n_passages, op, "n_passages", at_least=1)
    ranked = checked_ranking(op, ranking, len(data.documents), at_least=n)
    if len(ranked) != len(data):
        raise ValueError(f"{op}: expected a ranking of {len(data)} questions, got {len(ranked)}")
    as_integer(seed, op, "seed", at_least=0)
    texts = document_texts(data.documents, data.titles, title_format)
    found = []
    for row, results in enumerate(ranked.tolist()):
        results = [document for document in results if document >= 0]
        if len(set(results)) < len(results):
            [(twice, _)] = Counter(results).most_common(1)
            raise ValueError(f"{op}: the ranking of question {row} has document {twice} twice")
        rng = np.random.default_rng([seed, row])
        treatment = shares.treatment(float(rng.random()))
        positives = data.positives.of(row).tolist()
        golds = set(positives)
        if answers_are_gold:
            answers = data.answers[row]
            golds |= {one for one in results if has_answer(data.documents[one], answers)}
        chosen = _chosen(results, golds, positives, treatment, n, rng)
        # A question without any passage is one example in either form.
        parts = [chosen] if form == "together" else [[one] for one in chosen] or [[]]
        for part in parts:
            found.append(
                ReadingExample(
                    row,
                    data.queries[row],
                    tuple(texts[document] for document in part),
                    data.answers[row][0],
                    tuple(place for place, document in enumerate(part) if document in golds),
                    treatment,
                )
            )
    return found


def example_counts(examples: Sequence[ReadingExample]) -> dict[str, int]:
    """Counts examples by the treatment of gold passages, and those with a gold passage.

    Args:
        examples: of `reading_examples`.

    Returns:
        Counts by name: "examples", "with gold", "passages", and each treatment.

    Example:
        >>> example_counts([ReadingExample(0, "who?", ("Ann.",), "Ann", (0,), "kept")])
        {'examples': 1, 'with gold': 1, 'passages': 1, 'kept': 1, 'inserted': 0, 'removed': 0}
    """
    treatments = Counter(example.treatment for example in examples)
    return {
        "examples": len(examples),
        "with gold": sum(bool(example.gold) for example in examples),
        "passages": sum(len(example.passages) for example in examples),
        **{treatment: treatments[treatment] for treatment in get_args(Treatment)},
    }


def _chosen(
    results: list[int],
    golds: set[int],
    positives: list[int],
    treatment: Treatment,
    n: int,
    rng: np.random.Generator,
) -> list[int]:
    """Returns the documents of a question, in the order in which they are read."""
    if treatment == "removed":
        return [document for document in results if document not in golds][:n]
    chosen = results[:n]
    if treatment == "inserted" and not golds.intersection(chosen):
        chosen = chosen[: n - 1]
        gold = positives[int(rng.integers(len(positives)))]
        chosen.insert(int(rng.integers(len(chosen) + 1)), gold)
    return chosen
