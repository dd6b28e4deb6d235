"""Makes data for retrievers from a world: training sets, collections, and files of BEIR."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..data import Collection, Qrels, TrainingSet, document_texts
from ..files.atomic import replacing_text
from ..ragged_lists import Lists
from .facts import World

_HARD = 4  # maximum number of hard negatives of a question


def split_facts(
    world: World, *, held_out: float = 0.5, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Splits facts for training from facts for evaluation; the share exposed is equal in both.

    Args:
        world: the world that the facts are from.
        held_out: share of facts for evaluation.
        seed: of the draw.

    Returns:
        Numbers of the facts for training, and for evaluation.
    """
    rng = np.random.default_rng([seed, 1])
    train: list[int] = []
    evaluation: list[int] = []
    for exposed in (True, False):
        numbers = [n for n, fact in enumerate(world.facts) if fact.exposed == exposed]
        numbers = [numbers[i] for i in rng.permutation(len(numbers))]
        cut = round(held_out * len(numbers))
        evaluation += numbers[:cut]
        train += numbers[cut:]
    return sorted(train), sorted(evaluation)


def training_set(
    world: World, facts: Sequence[int], *, paraphrases: Sequence[int] = (0, 1, 2), seed: int = 0
) -> TrainingSet:
    """Makes questions about some facts, with passages that state them and hard negatives.

    A hard negative is about the same entity without stating the fact, or states the same relation
    of another entity.

    Args:
        world: the world of facts and passages.
        facts: numbers of facts.
        paraphrases: which questions about each fact.
        seed: of the draw of negatives.
    """
    stating, by_subject, by_relation = _index(world)
    names, queries, positives, negatives = [], [], [], []
    answers: list[tuple[str, ...]] = []
    for number in facts:
        fact, known = world.facts[number], stating[number]
        rng = np.random.default_rng([seed, 2, number])
        near = by_subject[fact.subject] | by_relation[fact.relation]
        others = np.array(sorted(near - known))
        hard = sorted(others[rng.permutation(len(others))[:_HARD]].tolist())
        for paraphrase in paraphrases:
            names.append(f"q{number}-{paraphrase}")
            queries.append(world.questions(number)[paraphrase])
            positives.append(sorted(known))
            negatives.append(hard)
            answers.append((fact.object,))
    return TrainingSet(
        names,
        queries,
        [passage.id for passage in world.passages],
        [passage.text for passage in world.passages],
        Lists.pack(positives),
        Lists.pack(negatives),
        answers,
        titles=[passage.title for passage in world.passages],
    )


def collection(
    world: World, facts: Sequence[int], *, paraphrases: Sequence[int] = (3,)
) -> Collection:
    """Makes questions about some facts, with the passages that state each fact as relevant."""
    data = training_set(world, facts, paraphrases=paraphrases)
    judged = [{int(d): 1.0 for d in data.positives.of(row)} for row in range(len(data))]
    return Collection(
        data.document_ids,
        data.documents,
        data.query_ids,
        data.queries,
        Qrels.pack(judged),
        titles=data.titles,
    )


def documents(world: World) -> list[str]:
    """Returns title and text of each passage, joined as an encoder reads them by default."""
    texts, titles = zip(*((passage.text, passage.title) for passage in world.passages), strict=True)
    return list(document_texts(texts, titles))


def write_beir(world: World, folder: str | Path, *, held_out: float = 0.5, seed: int = 0) -> None:
    """Writes corpus.jsonl, queries.jsonl, qrels/train.tsv and qrels/test.tsv, and facts.jsonl.

    Args:
        world: the world to write.
        folder: created if it does not exist.
        held_out, seed: as in `split_facts`.
    """
    root = Path(folder)
    (root / "qrels").mkdir(parents=True, exist_ok=True)
    _write_lines(
        root / "corpus.jsonl",
        ({"_id": p.id, "title": p.title, "text": p.text} for p in world.passages),
    )
    sets = {
        split: training_set(world, numbers, paraphrases=(0, 1, 2) if split == "train" else (3,))
        for split, numbers in zip(
            ("train", "test"), split_facts(world, held_out=held_out, seed=seed), strict=True
        )
    }
    queries: list[dict[str, object]] = [
        {"_id": name, "text": text}
        for data in sets.values()
        for name, text in zip(data.query_ids, data.queries, strict=True)
    ]
    _write_lines(root / "queries.jsonl", queries)
    _write_lines(
        root / "facts.jsonl",
        ({"number": n, **fact._asdict()} for n, fact in enumerate(world.facts)),
    )
    for split, data in sets.items():
        with replacing_text(root / "qrels" / f"{split}.tsv") as file:
            file.write("query-id\tcorpus-id\tscore\n")
            for row, name in enumerate(data.query_ids):
                for document in data.positives.of(row):
                    file.write(f"{name}\t{data.document_ids[document]}\t1\n")


def _index(world: World) -> tuple[list[set[int]], dict[str, set[int]], dict[str, set[int]]]:
    """Returns passages by the fact that they state, by their entity, and by relation."""
    stating: list[set[int]] = [set() for _ in world.facts]
    by_subject: dict[str, set[int]] = {}
    by_relation: dict[str, set[int]] = {}
    for number, passage in enumerate(world.passages):
        by_subject.setdefault(passage.title, set()).add(number)
        for fact in (*passage.facts, *passage.others):
            stating[fact].add(number)
        for fact in passage.facts:
            by_relation.setdefault(world.facts[fact].relation, set()).add(number)
    return stating, by_subject, by_relation


def _write_lines(path: Path, records: Iterable[dict[str, object]]) -> None:
    with replacing_text(path) as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
