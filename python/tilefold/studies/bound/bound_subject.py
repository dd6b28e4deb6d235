"""The subject of the study of the knowledge bound: a world's facts by what its base knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..subject_settings import WorldSize
from .bound_result import ADDED, OTHER_KNOWN, OTHER_UNKNOWN, REMOVED
from .bound_settings import BoundSettings

if TYPE_CHECKING:
    from ...mechanisms import FactEdit
    from ...models import MaskedLM
    from ...world import World

N_PROMPTS = 3  # of a fact's six, that the editor sees


@dataclass(frozen=True)
class BoundSubject:
    """A world, its base, and its facts.

    Args:
        world: of one seed.
        base: folder of the masked language model.
        model: the same, loaded.
        train: facts whose questions train retrievers.
        groups: facts of the test by group.
        ranks: ``[facts]`` rank of each fact's object among the values of its relation, 1 is best;
            of its log-probabilities, means over prompts.
    """

    world: World
    base: Path
    model: MaskedLM
    train: Sequence[int]
    groups: Mapping[str, Sequence[int]]
    ranks: NDArray[np.int64]


@dataclass(frozen=True)
class WorldFacts:
    """A world, its base, and the facts of the test that the base knows, and that it does not.

    Args:
        world: of one seed.
        base: folder of the masked language model.
        model: the same, loaded.
        train: facts whose questions train retrievers.
        ranks: see `BoundSubject`.
        known: facts of the test that were in the pre-training and have rank 1, in random order.
        unknown: facts of the test that were not and have not, in random order.
    """

    world: World
    base: Path
    model: MaskedLM
    train: list[int]
    ranks: NDArray[np.int64]
    known: list[int]
    unknown: list[int]


def world_facts(size: WorldSize, seed: int) -> WorldFacts:
    """Makes a world, and trains its base unless it was trained before.

    Args:
        size: of the world.
        seed: of world, base and draws.
    """
    from ...models import MaskedLM
    from ...world import make_world
    from ...world.retrieval_data import split_facts
    from ...world.world_models import pretrained

    world = make_world(size, seed=seed)
    base = pretrained(world, seed=seed)
    model = MaskedLM.from_pretrained(base)
    train, test = split_facts(world, seed=seed)
    ranks = cloze_ranks(world, model)
    order = np.random.default_rng([seed, 21]).permutation(test).tolist()
    known = [n for n in order if world.facts[n].exposed and ranks[n] == 1]
    unknown = [n for n in order if not world.facts[n].exposed and ranks[n] > 1]
    return WorldFacts(world, base, model, train, ranks, known, unknown)


def bound_subject(settings: BoundSettings, seed: int) -> BoundSubject:
    """Makes a world, and divides the facts of its test in groups.

    Args:
        settings: of the study.
        seed: of world, base and draws.

    Raises:
        ValueError: fewer known or unknown facts than are to be edited.
    """
    own = world_facts(settings.world, seed)
    n = settings.n_facts
    for name, found in (("known", own.known), ("unknown", own.unknown)):
        if len(found) <= n:
            raise ValueError(
                f"BoundSettings: n_facts: expected fewer than {len(found)}, as many facts of the "
                f"test are {name}, got {n}"
            )
    groups = {
        ADDED: sorted(own.unknown[:n]),
        REMOVED: sorted(own.known[:n]),
        OTHER_UNKNOWN: sorted(own.unknown[n:]),
        OTHER_KNOWN: sorted(own.known[n:]),
    }
    train = own.train
    if settings.train_edited:
        train = sorted([*train, *groups[ADDED], *groups[REMOVED]])
    return BoundSubject(own.world, own.base, own.model, train, groups, own.ranks)


def fact_edits(
    world: World, facts: Sequence[int], *, remove: bool = False, shown: bool = True
) -> list[FactEdit]:
    """Returns edits of facts, with the prompts that the editor sees, or with the others."""
    from ...mechanisms import FactEdit

    prompts = slice(N_PROMPTS) if shown else slice(N_PROMPTS, None)
    return [
        FactEdit(fact.subject, world.clozes(n)[prompts], fact.object, remove)
        for n, fact in ((n, world.facts[n]) for n in facts)
    ]


def cloze_ranks(world: World, model: MaskedLM) -> NDArray[np.int64]:
    """Returns the rank of each fact's object among the values of its relation, 1 is best.

    Ranks are of the mean log-probability over the fact's prompts.

    Args:
        world: of the facts.
        model: the masked language model.
    """
    import torch

    prompts = [world.clozes(n) for n in range(len(world.facts))]
    every = [prompt for own in prompts for prompt in own]
    logits = torch.from_numpy(model.logits(every, batch_size=128)).log_softmax(1).numpy()
    sizes = np.cumsum([0, *map(len, prompts)])
    columns: dict[str, Any] = {
        name: model.word_ids([value.lower() for value in values])
        for name, values in world.objects.items()
    }
    ranks = np.zeros(len(world.facts), np.int64)
    for n, fact in enumerate(world.facts):
        own = logits[sizes[n] : sizes[n + 1]][:, columns[fact.relation]].mean(0)
        right = own[world.objects[fact.relation].index(fact.object)]
        ranks[n] = 1 + int((own > right).sum())
    return ranks
