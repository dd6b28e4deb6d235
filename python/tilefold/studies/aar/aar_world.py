"""Makes the subject of a study of AAR from a synthetic world: readers, retriever, questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ragged_lists import Lists
from ..study import Reporter
from .aar_settings import AARSettings
from .aar_subject import AARSubject, TargetCorpus

if TYPE_CHECKING:
    from ...aar import PopqaTask, TargetLM
    from ...data import TrainingSet
    from ...models import CausalLM, FusionInDecoder
    from ...world.reading_world import ReadingWorld
    from .source_lms import SourcePrompt

SOURCE = "source"
_PARAPHRASES = (0, 1)  # of the questions about a fact
_DEV_SHARE = 1 / 3  # of the questions about other facts: recipes are chosen on them, not tested
_TEMPLATE = "{passage} {prompt}"  # as readers are trained
_NEW_TOKENS = 4  # of an answer; names are single tokens


def world_subject(settings: AARSettings, size: str, progress: Reporter) -> AARSubject:
    """Trains readers and the retriever of a world, unless they were before.

    The source task has questions about facts of the training split, with one judged passage each.
    The target task has questions about facts that are in no training data of any model.

    Args:
        settings: of the study.
        size: of the world.
        progress: receives the title.
    """
    from ...models import BiEncoder
    from ...world.reading_retriever import judged_retriever
    from ...world.reading_world import make_reading_world
    from ...world.retrieval_data import split_facts
    from ...world.world_readers import READERS
    from .source_lms import has_signal, signal_of

    seed = settings.seeds[0]
    world = make_reading_world(size, seed=seed)
    title = f"A {size} world of registers, seed {seed}"
    progress.started(title)
    train, held_out = split_facts(world, seed=seed)
    development, test = _split_unexposed(world, held_out, seed)
    readers = {name: _reader(world, name) for name in READERS}
    # Facts of the dev questions are held out of the retriever's first training as well.
    n_dev = -(-settings.dev_questions // len(_PARAPHRASES))
    if n_dev >= len(train):
        raise ValueError(
            f"AARSettings: dev_questions: expected fewer than the "
            f"{len(train) * len(_PARAPHRASES):,} source questions of the world, got "
            f"{settings.dev_questions}"
        )
    # Drawn at random: facts are sorted by the kind of their subject.
    drawn = np.random.default_rng([seed, 11]).permutation(len(train))[:n_dev].tolist()
    dev_facts = sorted(train[place] for place in drawn)
    known = sorted(set(train) - set(dev_facts))
    retriever = BiEncoder.from_pretrained(judged_retriever(world, known, seed=seed))
    source = _drawn(_questions(world, known, seed), settings.max_questions, seed)
    dev = _questions(world, dev_facts, seed) if n_dev else None
    signals = {
        name: signal_of(
            settings.signal, reader, batch_size=settings.batch_size, prompt=_prompt(reader)
        )
        for name, reader in readers.items()
        if has_signal(reader, settings.signal)
    }
    return AARSubject(
        title,
        retriever,
        source,
        dev,
        signals.pop(SOURCE),
        signals,
        {
            name: _target(name, reader, settings.batch_size)
            for name, reader in readers.items()
            if name != SOURCE
        },
        {"held-out facts": _corpus(world, test, development)},
    )


def _split_unexposed(
    world: ReadingWorld, facts: Sequence[int], seed: int
) -> tuple[list[int], list[int]]:
    """Splits facts that no reader was trained on for development and for the test."""
    unexposed = [fact for fact in facts if not world.facts[fact].exposed]
    order = np.random.default_rng([seed, 9]).permutation(unexposed).tolist()
    cut = round(_DEV_SHARE * len(order))
    return sorted(order[:cut]), sorted(order[cut:])


def _corpus(world: ReadingWorld, facts: Sequence[int], development: Sequence[int]) -> TargetCorpus:
    """Asks one question about each fact; the plain passage about it is gold."""
    texts = world.texts()
    gold = [[texts[row] for row in world.about(fact, ["plain"])[:1]] for fact in facts]
    titles = [""] * len(texts)
    return TargetCorpus(_task(world, facts), texts, titles, gold, _task(world, development))


def _task(world: ReadingWorld, facts: Sequence[int]) -> PopqaTask:
    from ...aar import PopqaTask
    from ...data import Question

    questions = []
    for number in facts:
        fact, asked = world.facts[number], world.questions(number)
        text = asked[int(np.random.default_rng([world.seed, 10, number]).integers(len(asked)))]
        metadata = {"prop": fact.relation, "s_pop": fact.popularity}
        questions.append(Question(f"f{number}", text, (fact.object,), metadata))
    return PopqaTask(tuple(questions))


def _questions(world: ReadingWorld, facts: Sequence[int], seed: int) -> TrainingSet:
    """Asks about facts with the judged passage of each, and without negatives."""
    from ...world.reading_world import judged_training_set

    data = judged_training_set(world, facts, paraphrases=_PARAPHRASES, seed=seed)
    return data.with_negatives(Lists(np.zeros(len(data) + 1, np.int64), np.zeros(0, np.int64)))


def _drawn(data: TrainingSet, most: int, seed: int) -> TrainingSet:
    """Draws some of the questions where there are more; 0 for all."""
    if not 0 < most < len(data):
        return data
    return data.take(np.sort(np.random.default_rng(seed).permutation(len(data))[:most]))


def _reader(world: ReadingWorld, name: str) -> FusionInDecoder | CausalLM:
    from ...models import CausalLM, FusionInDecoder
    from ...world.world_readers import READERS, trained_reader

    kind: Any = FusionInDecoder if READERS[name].family == "t5" else CausalLM
    seed = list(READERS).index(name)  # each learns from other lessons
    folder = trained_reader(world, name, seed=seed)
    reader: FusionInDecoder | CausalLM = kind.from_pretrained(folder)
    return reader


def _prompt(reader: FusionInDecoder | CausalLM) -> SourcePrompt:
    """Returns how a reader was trained to read a question with its passages."""
    from ...models import FusionInDecoder
    from ...world.reading_lessons import PROMPT
    from .source_lms import SourcePrompt, source_prompt

    if isinstance(reader, FusionInDecoder):
        return SourcePrompt(PROMPT, " ")
    return source_prompt(reader)


def _target(name: str, reader: FusionInDecoder | CausalLM, batch_size: int) -> TargetLM:
    from ...aar import ConcatenatedTarget, FusedTarget
    from ...models import FusionInDecoder

    options: dict[str, Any] = {
        "name": name,
        "max_new_tokens": _NEW_TOKENS,
        "batch_size": batch_size,
    }
    if isinstance(reader, FusionInDecoder):
        return FusedTarget(reader, template=_TEMPLATE, **options)
    return ConcatenatedTarget(reader, **options)
