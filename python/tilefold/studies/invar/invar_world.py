"""Makes the subject of a study of Invar-RAG from a synthetic world: all models are trained here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ragged_lists import Lists
from ..study import Reporter
from .invar_result import DPR
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .invar_subject_settings import WorldSize

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...world.facts import World

ASKED, SEEN, UNSEEN = 0, (1,), (2, 3)  # questions about a fact: of the data, and rewrites
_DEV_SHARE = 1 / 3  # of the questions about other facts: recipes are chosen on them, not tested
_EXPOSED = 0.3  # share of the facts that the language model has seen
_TEMPLATE = "{passages}\n\nQ: {question} A:"  # as the language model reads
# A coarse encoder is small, and knows the wording of the data alone.
_COARSE: dict[str, Any] = {"width": 48, "layers": 1, "epochs": 3}
_PREFIXES = "query : ", "passage : "  # words of the tokenizer are separated by blanks


def invar_world_subject(
    settings: InvarSettings, size: WorldSize, progress: Reporter
) -> InvarSubject:
    """Trains the language model and the coarse encoder of a world, unless they were before.

    A passage states facts about a subject, and others between them. Each question has four
    wordings: one in the data, one as its rewrite in training, and two that no training uses, those
    of the language model and of DPR included. Test questions are about facts that are in no
    training data of the retriever or the generator.

    Args:
        settings: of the study.
        size: of the world.
        progress: receives the title.
    """
    from ...models import BiEncoder
    from ...world.facts import make_world
    from ...world.reading_retriever import judged_retriever
    from ...world.reading_world import make_reading_world
    from ...world.retrieval_data import split_facts
    from ...world.world_models import pretrained
    from ...world.world_readers import trained_reader
    from ...world.world_retrievers import fine_tuned

    seed = settings.seeds[0]
    world = make_world(size, seed=seed, exposed=_EXPOSED)
    title = f"A {size} world, seed {seed}"
    progress.started(title)
    # The same facts in single sentences, which the language model and the coarse encoder learn
    # from.
    sentences = make_reading_world(size, seed=seed, exposed=_EXPOSED)
    train, held_out = split_facts(world, seed=seed)
    _, test = split_held_out(held_out, seed)
    model = trained_reader(sentences, "causal", seed=seed, paraphrases=(ASKED, *SEEN))
    coarse = judged_retriever(sentences, train, paraphrases=(ASKED,), seed=seed, **_COARSE)
    base = pretrained(world, seed=seed)
    dpr = fine_tuned(world, base, train, paraphrases=(ASKED, *SEEN), seed=seed)
    training, tested = _asked(world, train), _asked(world, test)
    return InvarSubject(
        title,
        str(model),
        BiEncoder.from_pretrained(coarse),
        training,
        _wordings(world, train, SEEN),
        tested,
        _wordings(world, test, UNSEEN),
        _TEMPLATE,
        {"training questions": len(training), "test questions": len(tested)},
        _PREFIXES,
        baselines={DPR: str(dpr)},
    )


def split_held_out(facts: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
    """Splits held-out facts into those that recipes are chosen on, and those of the test.

    Args:
        facts: that no retriever is trained on.
        seed: of the draw.
    """
    order = np.random.default_rng([seed, 13]).permutation(facts).tolist()
    cut = round(_DEV_SHARE * len(order))
    return sorted(order[:cut]), sorted(order[cut:])


def _asked(world: World, facts: Sequence[int]) -> TrainingSet:
    """Asks about facts, without hard negatives."""
    from ...world.retrieval_data import training_set

    data = replace(training_set(world, facts, paraphrases=(ASKED,)), titles=[])  # texts name it
    return data.with_negatives(Lists(np.zeros(len(data) + 1, np.int64), np.zeros(0, np.int64)))


def _wordings(world: World, facts: Sequence[int], which: Sequence[int]) -> list[list[str]]:
    return [[world.questions(fact)[place] for place in which] for fact in facts]
