"""The subject of the study of edits: a language model, facts to edit, and facts to leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..study import Reporter
from .edit_settings import EditSettings

if TYPE_CHECKING:
    from ...data import ClozeFact
    from ...mechanisms import FactEdit
    from ...models import MaskedLM
    from ...world import World

_UNKNOWN = 10  # a fact is unknown where its object ranks lower among all words, on average


@dataclass(frozen=True)
class EditedFact:
    """A fact to edit, and the prompts that tell how far the edit reaches.

    Args:
        shown: with the prompts that editors see.
        paraphrases: other wordings.
        alias: prompts with another name of the subject; None where there is none, or where the
            model does not state a known fact under that name.
    """

    shown: FactEdit
    paraphrases: FactEdit
    alias: FactEdit | None = None


@dataclass(frozen=True)
class EditSubject:
    """Model and facts of one seed.

    Args:
        title: one line that names them.
        model: to edit.
        known: facts that the model states, to remove.
        unknown: facts that it does not state, to add.
        neighbours: known facts that no edit is to change, and that no editor sees.
        protected: other known facts, which editors may use to leave the model as it is.
        training: further facts, to add or to remove, for editors that are trained.
        texts: ordinary ones.
    """

    title: str
    model: MaskedLM
    known: Sequence[EditedFact]
    unknown: Sequence[EditedFact]
    neighbours: Sequence[FactEdit]
    protected: Sequence[FactEdit]
    training: Sequence[FactEdit]
    texts: Sequence[str]


def edit_subject(settings: EditSettings, seed: int, progress: Reporter) -> EditSubject:
    """Loads model and facts; the model of a world is trained, unless it was before.

    Args:
        settings: which ones.
        seed: of the world, or of the draw of facts.
        progress: receives what is known of them.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read; too few facts that the model knows or does not know.
    """
    if settings.world is not None:
        return _world_subject(settings, settings.world, seed, progress)
    return _file_subject(settings, seed, progress)


def object_ranks(model: MaskedLM, facts: Sequence[FactEdit]) -> Any:
    """Returns the mean rank of each fact's object among all words, over its prompts; 1 is best.

    Args:
        model: a masked language model.
        facts: with prompts.
    """
    import torch

    from ...mechanisms.editing.cloze_batch import cloze_batch
    from ...models.length_batches import evaluating

    found = []
    with evaluating(model), torch.inference_mode():
        for begin in range(0, len(facts), 64):
            batch = cloze_batch("object_ranks", model, facts[begin : begin + 64])
            scores = batch.log_probabilities(model)
            own = scores.gather(2, batch.objects.clamp(min=0)[..., None])
            ranks = (scores > own).sum(2).double() + 1
            found.append(batch.mean_by_edit(batch.mean_over_tokens(ranks)))
    return torch.cat(found).cpu().numpy()


def world_fact(world: World, number: int, *, remove: bool, prompts: slice) -> FactEdit:
    """Returns an edit of a world's fact, with some of its prompts."""
    from ...mechanisms import FactEdit

    fact = world.facts[number]
    return FactEdit(fact.subject, world.clozes(number)[prompts], fact.object, remove)


def _world_subject(settings: EditSettings, size: Any, seed: int, progress: Reporter) -> EditSubject:
    from ...models import MaskedLM
    from ...world import make_world
    from ...world.retrieval_data import documents
    from ...world.world_models import pretrained

    world = make_world(size, seed=seed)
    most = len(world.clozes(0)) - 1
    if settings.n_prompts > most:
        raise ValueError(
            f"EditSettings: n_prompts: expected at most {most} with world, as facts have one more, "
            f"got {settings.n_prompts}"
        )
    model = MaskedLM.from_pretrained(pretrained(world, seed=seed))
    numbers = range(len(world.facts))
    whole = [world_fact(world, n, remove=False, prompts=slice(None)) for n in numbers]
    ranks = object_ranks(model, whole)
    order = np.random.default_rng([seed, 20]).permutation(len(whole)).tolist()
    known = [n for n in order if world.facts[n].exposed and ranks[n] == 1]
    unknown = [n for n in order if not world.facts[n].exposed and ranks[n] > 1]

    def edited(n: int, *, remove: bool) -> EditedFact:
        rest = world_fact(world, n, remove=remove, prompts=slice(settings.n_prompts, None))
        shown = world_fact(world, n, remove=remove, prompts=slice(settings.n_prompts))
        last = rest.subject.split()[-1]
        if last == rest.subject:
            return EditedFact(shown, rest)
        prompts = [prompt.replace(rest.subject, last) for prompt in rest.prompts]
        alias = replace(rest, subject=last, prompts=prompts)
        is_stated = not remove or object_ranks(model, [alias])[0] == 1
        return EditedFact(shown, rest, alias if is_stated else None)

    parts = _split(settings, known, unknown)
    progress.fact(
        "facts", f"{len(known):,} known and {len(unknown):,} unknown ones, world of seed {seed}"
    )

    def prompted(n: int, n_prompts: int, *, remove: bool = False) -> FactEdit:
        return world_fact(world, n, remove=remove, prompts=slice(n_prompts))

    more = settings.n_prompts + 1
    return EditSubject(
        f"the masked language model of a {size} world",
        model,
        [edited(n, remove=True) for n in parts.known],
        [edited(n, remove=False) for n in parts.unknown],
        [prompted(n, settings.n_prompts) for n in parts.neighbours],
        [prompted(n, settings.n_prompts) for n in parts.protected],
        [
            *(prompted(n, more, remove=True) for n in parts.protected),
            *(prompted(n, more) for n in parts.other_unknown),
        ],
        [*documents(world), *(text for n in parts.protected for text in world.statements(n))][
            : settings.n_texts
        ],
    )


def _file_subject(settings: EditSettings, seed: int, progress: Reporter) -> EditSubject:
    from ...data import read_documents, read_facts
    from ...mechanisms import FactEdit
    from ...models import MaskedLM

    assert settings.model is not None
    assert settings.facts_from is not None
    assert settings.texts is not None
    every = read_facts(settings.facts_from)
    texts = list(read_documents(settings.texts).texts)
    model = MaskedLM.from_pretrained(settings.model)
    usable = [fact for fact in every if _is_usable(fact, model, settings.n_prompts)]
    # A subject with several objects would be edited in two ways at once.
    usable = list({(fact.subject, fact.relation): fact for fact in usable[::-1]}.values())[::-1]
    if not usable:
        raise ValueError(
            f"EditSettings: n_prompts: expected facts with more than {settings.n_prompts} prompts "
            f"and an object of one token, got none among the {len(every):,} of "
            f"{settings.facts_from}"
        )
    progress.fact("facts", f"{len(usable):,} of {len(every):,} have enough prompts and one object")
    order = np.random.default_rng([seed, 20]).permutation(len(usable)).tolist()
    facts = [usable[place] for place in order]
    whole = [FactEdit(fact.subject, _prompts(fact), fact.object) for fact in facts]
    ranks = object_ranks(model, whole)
    known = [place for place, rank in enumerate(ranks) if rank == 1]
    unknown = [place for place, rank in enumerate(ranks) if rank > _UNKNOWN]
    progress.fact("known", f"{len(known):,} known and {len(unknown):,} unknown ones, seed {seed}")
    parts = _split(settings, known, unknown)

    def edited(place: int, *, remove: bool) -> EditedFact:
        one = replace(whole[place], remove=remove)
        n = settings.n_prompts
        shown, rest = one.prompts[:n], one.prompts[n:]
        return EditedFact(replace(one, prompts=shown), replace(one, prompts=rest))

    def prompted(place: int, n_prompts: int, *, remove: bool = False) -> FactEdit:
        return replace(whole[place], prompts=whole[place].prompts[:n_prompts], remove=remove)

    more = settings.n_prompts + 1
    return EditSubject(
        f"{settings.model}, facts of {settings.facts_from}",
        model,
        [edited(place, remove=True) for place in parts.known],
        [edited(place, remove=False) for place in parts.unknown],
        [prompted(place, settings.n_prompts) for place in parts.neighbours],
        [prompted(place, settings.n_prompts) for place in parts.protected],
        [
            *(prompted(place, more, remove=True) for place in parts.protected),
            *(prompted(place, more) for place in parts.other_unknown),
        ],
        texts[: settings.n_texts],
    )


class _Parts(NamedTuple):
    """Numbers of facts by what they are for; no fact is in two of them."""

    known: Sequence[int]
    neighbours: Sequence[int]
    protected: Sequence[int]
    unknown: Sequence[int]
    other_unknown: Sequence[int]


def _split(settings: EditSettings, known: Sequence[int], unknown: Sequence[int]) -> _Parts:
    n, near = settings.n_facts, settings.n_facts + settings.n_neighbours
    _check_enough("known", known, near + settings.network_edits)
    _check_enough("unknown", unknown, n)
    return _Parts(known[:n], known[n:near], known[near:], unknown[:n], unknown[n:])


def _prompts(fact: ClozeFact) -> tuple[str, ...]:
    return (*fact.prompts, *(p for p in fact.paraphrases if fact.subject in p))


def _is_usable(fact: ClozeFact, model: MaskedLM, n_prompts: int) -> bool:
    """Returns whether a fact has prompts beside those to show, and an object that is a word."""
    if len(_prompts(fact)) <= n_prompts:
        return False
    ids = model.tokenizer(fact.object, add_special_tokens=False)["input_ids"]
    return len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id


def _check_enough(name: str, found: Sequence[int], needed: int) -> None:
    if len(found) < needed:
        raise ValueError(
            f"EditSettings: expected at least {needed} {name} facts (n_facts; of known ones also "
            f"n_neighbours and network_edits), got {len(found)}"
        )
