"""Direction 1: training DPR with more knowledge, by questions that are made from passages."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_columns
from ..fact_rankings import MEASURE, fact_measures
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import WorldSubject
from .direction_values import DirectionValues, kept_values

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...exposure import SyntheticQuestions

PLAIN = "plain DPR"
CROPS, QUESTIONS = "crops of passages", "synthetic questions"
CURRICULUM = "synthetic questions, unknown first"
METHODS = (PLAIN, CROPS, QUESTIONS, CURRICULUM)
UNKNOWN = f"{MEASURE}, facts unknown to the base"
NEURONS = "active neurons of a question"
ROUND_TRIP = 3  # results of BM25 among which a question's passage must be
_SURVEYED = 40  # questions whose active neurons are counted
_TRAINING = {"batch_size": 64, "rate": 3e-4}  # of `fine_tuned`


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
    from ...models import BiEncoder

    found = DirectionValues()
    for method in METHODS:
        seconds = 0.0
        folder, count = subject.plain, 0
        if method != PLAIN:
            begin = time.perf_counter()
            made = _made(subject, method)
            seconds, count = time.perf_counter() - begin, len(made)
            folder = _exposed_retriever(settings, subject, method, made, steps)

        def make(folder: Path = folder) -> DirectionValues:
            return _measured(settings, subject, BiEncoder.from_pretrained(folder))

        name = f"exposure {METHODS.index(method)} {subject.seed}"
        own = kept_values(steps, name, [folder.name, settings.batch_size, subject.held_out], make)
        measures = {measure: values for (_, measure), values in own.values.items()}
        found.add(method, measures, seconds_to_make_questions=seconds, questions_added=count)
    return found


def _made(subject: WorldSubject, method: str) -> SyntheticQuestions:
    """Makes as many questions as there are labelled ones, or fewer."""
    from ...data import document_texts
    from ...exposure import QuestionTemplates, cropped_questions, round_trip
    from ...retrieval.bm25 import Bm25

    data = labelled(subject)
    rng = np.random.default_rng([subject.seed, 31])
    if method == CROPS:
        made = cropped_questions(data.documents, n=4, seed=subject.seed)
    else:
        made = QuestionTemplates.learn(data).write(data.documents)
    words = Bm25(document_texts(data.documents, data.titles))
    kept = round_trip(made, lambda texts, k: words.search(texts, k, warn=False).ids, k=ROUND_TRIP)
    made = made.take(kept)
    known = set(data.queries)
    made = made.take([row for row, text in enumerate(made.questions) if text not in known])
    return made.take(np.sort(rng.permutation(len(made))[: len(data)]))


def labelled(subject: WorldSubject) -> TrainingSet:
    """Returns the labelled training questions of a world."""
    from ...world.retrieval_data import training_set

    return training_set(subject.bound.world, subject.bound.train, seed=subject.seed)


def _exposed_retriever(
    settings: DirectionSettings,
    subject: WorldSubject,
    method: str,
    made: SyntheticQuestions,
    steps: StepStore,
) -> Path:
    """Returns the folder of a retriever that was trained on labelled and on other questions."""
    import torch

    from ...exposure import exposed_training_set
    from ...losses import ContrastiveLoss
    from ...train import ContrastiveObjective, Draw
    from ...world.world_models import base_model, kept_model, run_batches

    bound, seed = subject.bound, subject.seed
    data = labelled(subject)
    joined = exposed_training_set(data, made)
    total = settings.retriever_epochs * (len(data) // _TRAINING["batch_size"])
    batches = _batches(subject, joined, len(data), made, int(total), method == CURRICULUM)
    options = {
        "base": bound.model.fingerprint(),
        "questions": digest_of_columns(joined.queries),
        "positives": [joined.positives.of(row).tolist() for row in range(len(joined))],
        "batches": [rows.tolist() for rows in batches],
        "rate": _TRAINING["rate"],
        "seed": seed,
    }

    def make(folder: Path) -> None:
        torch.manual_seed(seed)
        model = base_model(bound.base)
        objective = ContrastiveObjective(model, ContrastiveLoss(1.0))
        draw = Draw(joined, group_size=2, seed=seed)
        label = f"train with {method}"
        run_batches(objective, draw, batches, _TRAINING["rate"], label=label)
        model.eval().save_pretrained(folder)

    return kept_model(bound.world, "exposed", options, steps.folder("retrievers", []), make)


def _batches(
    subject: WorldSubject,
    joined: TrainingSet,
    n_labelled: int,
    made: SyntheticQuestions,
    total: int,
    unknown_first: bool,
) -> list[NDArray[np.int64]]:
    """Returns the rows of each step: epochs in random order, or the first by knowledge."""
    from ...exposure import order_by_knowledge
    from ...world.world_models import whole_batches

    rng = np.random.default_rng([subject.seed, 4])
    size = int(_TRAINING["batch_size"])
    batches: list[NDArray[np.int64]] = []
    while len(batches) < total:
        order = rng.permutation(len(joined))
        if unknown_first and not batches:
            # Labelled questions are spread evenly over the epoch.
            places = rng.random(len(joined))
            ranked = order_by_knowledge(made, subject.bound.model)
            places[n_labelled + ranked] = np.linspace(0, 1, len(ranked))
            order = np.argsort(places, kind="stable")
        batches += whole_batches(order, size)
    return batches[:total]


def _measured(settings: DirectionSettings, subject: WorldSubject, model: Any) -> DirectionValues:
    from ...mechanisms.neurons.survey import survey_neurons

    bound = subject.bound
    values = fact_measures(bound.world, model, batch_size=settings.batch_size)[subject.held_out]
    unknown = bound.ranks[subject.held_out] > 1
    order = np.random.default_rng([subject.seed, 32]).permutation(subject.held_out)
    texts = [bound.world.questions(int(fact))[3] for fact in order[:_SURVEYED]]
    survey = survey_neurons(model.query_encoder, texts, progress=False)
    active = survey.active[:, survey.thresholds.index(survey.threshold)]
    found = DirectionValues()
    found.add("", {MEASURE: values, UNKNOWN: values[unknown], NEURONS: active})
    return found


def references(measures: Sequence[str]) -> dict[str, str]:
    """Returns the method that each measure is compared with."""
    return dict.fromkeys(measures, PLAIN)
