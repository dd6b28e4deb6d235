"""Direction 1: training DPR with more knowledge, by questions that are made from passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_columns
from ..fact_rankings import MEASURE, wording_measures
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import WorldSubject
from .direction_values import DirectionValues, Key, kept_values

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...exposure import SyntheticQuestions
    from ...models import BiEncoder

PLAIN = "plain DPR"
CROPS, QUESTIONS = "crops of passages", "synthetic questions"
CURRICULUM = "synthetic questions, unknown first"
METHODS = (PLAIN, CROPS, QUESTIONS, CURRICULUM)
NEW = f"{MEASURE}, wording in no training"
NEW_UNKNOWN = f"{NEW}, facts unknown to the base"
NEW_LEFT_OUT = f"{NEW}, facts without synthetic questions"
SEEN = f"{MEASURE}, wordings of synthetic questions"
NEURONS = "active neurons of a question"
ROUND_TRIP = 3  # results of BM25 among which a question's passage must be
LEFT_OUT = 1 / 3  # of held-out facts, about which no question is made
_NEW_WORDING = 3  # of a world's questions; the others are in training, and templates make them
_CROPS = 4  # of each passage, from which some are drawn
_SURVEYED = 40  # questions whose active neurons are counted


def exposure_values(
    settings: DirectionSettings, subject: WorldSubject, steps: StepStore
) -> DirectionValues:
    """Trains retrievers with questions about all passages, and ranks for held-out facts.

    All are trained for as many steps as the plain one, so that more questions are no more training.

    Args:
        settings: epochs of the plain retriever.
        subject: world, base and plain retriever.
        steps: keeps retrievers and measures.
    """
    data = labelled(subject)
    depends = [
        [subject.bound.model.fingerprint(), subject.plain.name, subject.held_out],
        [digest_of_columns(data.queries), digest_of_columns(data.documents)],
        [settings.retriever_epochs, settings.batch_size, subject.seed],
        [ROUND_TRIP, LEFT_OUT, _NEW_WORDING, _CROPS, _SURVEYED],
    ]
    found = DirectionValues()
    for place, method in enumerate(METHODS):

        def make(method: str = method) -> DirectionValues:
            return _measured(settings, subject, method, steps)

        name = f"exposure {place} {subject.seed}"
        found.update(kept_values(steps, name, [method, *depends], make))
    return found


def labelled(subject: WorldSubject) -> TrainingSet:
    """Returns the labelled training questions of a world."""
    from ...world.retrieval_data import training_set

    return training_set(subject.bound.world, subject.bound.train, seed=subject.seed)


def left_out(subject: WorldSubject) -> set[int]:
    """Returns held-out facts about which no synthetic question is made."""
    order = np.random.default_rng([subject.seed, 35]).permutation(subject.held_out)
    return set(order[: round(LEFT_OUT * len(order))].tolist())


def made_questions(subject: WorldSubject, method: str) -> SyntheticQuestions:
    """Makes as many questions as there are labelled ones, or fewer.

    Args:
        subject: the world.
        method: of `METHODS`, but the plain one.
    """
    from ...data import document_texts
    from ...exposure import QuestionTemplates, cropped_questions, round_trip
    from ...retrieval.bm25 import Bm25

    data = labelled(subject)
    if method == CROPS:
        made = cropped_questions(data.documents, n=_CROPS, seed=subject.seed)
    else:
        made = QuestionTemplates.learn(data).write(data.documents)
    words = Bm25(document_texts(data.documents, data.titles))
    kept = round_trip(made, lambda texts, k: words.search(texts, k, warn=False).ids, k=ROUND_TRIP)
    made = made.take(kept)
    world = subject.bound.world
    refused = {question for fact in left_out(subject) for question in world.questions(fact)}
    refused.update(data.queries)
    made = made.take([row for row, text in enumerate(made.questions) if text not in refused])
    order = np.random.default_rng([subject.seed, 31]).permutation(len(made))
    return made.take(np.sort(order[: len(data)]))


def training_batches(
    subject: WorldSubject,
    joined: TrainingSet,
    made: SyntheticQuestions,
    total: int,
    *,
    unknown_first: bool,
) -> list[NDArray[np.int64]]:
    """Returns the rows of each step: epochs in random order, or the first by knowledge.

    Args:
        subject: with the base that knows.
        joined: labelled questions, and behind them the others.
        made: the others.
        total: number of steps.
        unknown_first: the others begin with what the base does not know; labelled questions are
            spread evenly among them.
    """
    from ...exposure import order_by_knowledge
    from ...world.world_retrievers import BATCH_SIZE, whole_batches

    rng = np.random.default_rng([subject.seed, 4])
    batches: list[NDArray[np.int64]] = []
    while len(batches) < total:
        order = rng.permutation(len(joined))
        if unknown_first and not batches:
            places = rng.random(len(joined))
            ranked = order_by_knowledge(made, subject.bound.model)
            places[len(joined) - len(made) + ranked] = np.linspace(0, 1, len(ranked))
            order = np.argsort(places, kind="stable")
        batches += whole_batches(order, BATCH_SIZE)
    return batches[:total]


def _measured(
    settings: DirectionSettings, subject: WorldSubject, method: str, steps: StepStore
) -> DirectionValues:
    from ...models import BiEncoder

    found = DirectionValues()
    if method == PLAIN:
        found.add(method, _measures(settings, subject, BiEncoder.from_pretrained(subject.plain)))
        return found
    begin = time.perf_counter()
    made = made_questions(subject, method)
    folder, seconds = _exposed_retriever(settings, subject, method, made, steps, begin)
    measures = _measures(settings, subject, BiEncoder.from_pretrained(folder))
    found.add(method, measures, questions_added=len(made), seconds_before_training=seconds)
    return found


def _exposed_retriever(
    settings: DirectionSettings,
    subject: WorldSubject,
    method: str,
    made: SyntheticQuestions,
    steps: StepStore,
    begin: float,
) -> tuple[Path, float]:
    """Trains on labelled and other questions; also returns the seconds from begin to training."""
    import torch

    from ...exposure import exposed_training_set
    from ...world.world_models import kept_model
    from ...world.world_retrievers import (
        BATCH_SIZE,
        LEARNING_RATE,
        base_model,
        retriever_training,
        run_batches,
    )

    bound, seed = subject.bound, subject.seed
    data = labelled(subject)
    joined = exposed_training_set(data, made)
    total = settings.retriever_epochs * (len(data) // BATCH_SIZE)
    unknown_first = method == CURRICULUM
    batches = training_batches(subject, joined, made, total, unknown_first=unknown_first)
    options = {
        "base": bound.model.fingerprint(),
        "questions": digest_of_columns(joined.queries),
        "lists": [
            [lists.of(row).tolist() for row in range(len(joined))]
            for lists in (joined.positives, joined.negatives)
        ],
        "batches": [rows.tolist() for rows in batches],
        "rate": LEARNING_RATE,
        "seed": seed,
    }
    seconds = time.perf_counter() - begin

    def make(folder: Path) -> None:
        torch.manual_seed(seed)
        model = base_model(bound.base)
        training = retriever_training(model, joined, seed)
        run_batches(*training, batches, LEARNING_RATE, label=f"train with {method}")
        model.eval().save_pretrained(folder)

    root = steps.folder("retrievers", [])
    return kept_model(bound.world, "exposed", options, root, make), seconds


def _measures(
    settings: DirectionSettings, subject: WorldSubject, model: BiEncoder
) -> dict[str, Any]:
    from ...mechanisms.neurons.survey import survey_neurons

    bound = subject.bound
    wordings = wording_measures(bound.world, model, batch_size=settings.batch_size)
    wordings = wordings[:, subject.held_out]
    new = wordings[_NEW_WORDING]
    untouched = np.isin(subject.held_out, sorted(left_out(subject)))
    order = np.random.default_rng([subject.seed, 32]).permutation(subject.held_out)
    texts = [bound.world.questions(int(fact))[_NEW_WORDING] for fact in order[:_SURVEYED]]
    survey = survey_neurons(model.query_encoder, texts, progress=False)
    return {
        NEW: new,
        NEW_UNKNOWN: new[bound.ranks[subject.held_out] > 1],
        NEW_LEFT_OUT: new[untouched],
        SEEN: np.delete(wordings, _NEW_WORDING, 0).mean(0),
        NEURONS: survey.active[:, survey.thresholds.index(survey.threshold)],
    }


def references(keys: Sequence[Key]) -> dict[Key, str]:
    """Returns the method that each method is compared with."""
    return {key: PLAIN for key in keys if key[0] != PLAIN}
