"""Runs the study of patching: pairs of passages for each axiom, and sweeps over both models."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...files.steps import digest_of
from ..study import NoStepStore, Reporter, StepStore
from ..subject import BASE, RETRIEVER, Subject, load_subject
from .axiom_effects import STRONGEST, axiom_effect
from .patching_result import AxiomEffect, PatchingResult, ShownPair
from .patching_settings import PatchingSettings

if TYPE_CHECKING:
    from ...mechanisms import AxiomaticPairs

_PARAPHRASES = (3,)  # of a world's questions: the retriever was trained on others
_WORDS = 10  # of another passage, for LNC1
_BATCH = 16  # pairs in a batch of the sweep
_SHOWN = 100  # characters shown of the end of a passage
Arrays = dict[str, NDArray[np.float32]]


def run_patching(
    settings: PatchingSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> PatchingResult:
    """Measures by axioms of retrieval what moves scores, and patches every head and block.

    After Chen, Merullo and Eickhoff (2024): pairs of passages differ in what an axiom is about.

    Args:
        settings: models, data and number of pairs.
        steps: keeps the sweeps, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read; no pair of any axiom can be made; a base with another
            tokenizer.

    Example:
        >>> result = run_patching(PatchingSettings(world="tiny", pairs=20))  # doctest: +SKIP
        >>> result.effects[0].effect  # doctest: +SKIP
        Interval(mean=3.1, low=2.2, high=4.0)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    subject = load_subject(settings, paraphrases=_PARAPHRASES, progress=progress)
    made = _make_pairs(settings, subject, progress)
    effects: list[AxiomEffect] = []
    for pairs in made:
        for name in (BASE, RETRIEVER):
            found = _sweep(settings, subject, name, pairs, steps, progress)
            effects.append(axiom_effect(pairs, name, found))
            progress.fact(pairs.name, f"{name}: {effects[-1].verdict}")
    shown = [_shown(subject, pairs) for pairs in made]
    constants: dict[str, float] = {"words_of_another_passage": _WORDS, "strongest": STRONGEST}
    return PatchingResult(settings, subject.title, tuple(effects), tuple(shown), constants)


def _make_pairs(
    settings: PatchingSettings, subject: Subject, progress: Reporter
) -> list[AxiomaticPairs]:
    """Makes the pairs of each axiom, of texts that the encoders of both models read whole."""
    from ...mechanisms import axiomatic_pairs
    from ...mechanisms.patching.axiomatic_pairs import AXIOMS

    encoders = [subject.models[name].document_encoder for name in (RETRIEVER, BASE)]
    encoder = min(encoders, key=lambda encoder: encoder.max_length)
    data, made, refused = subject.data, [], []
    for axiom in AXIOMS:
        try:
            pairs = axiomatic_pairs(
                axiom,
                data.queries,
                data.documents,
                data.positives,
                encoder,
                n=settings.pairs,
                words=_WORDS,
                seed=settings.seed,
            )
        except ValueError as error:
            refused.append(str(error))
            progress.warn(f"{axiom} is left out: {error}.")
            continue
        made.append(pairs)
        progress.fact("pairs", f"{axiom}: {len(pairs)}, no pair for {pairs.skipped} queries")
    if not made:
        raise ValueError(f"{subject.title}: {'; '.join(refused)}")
    return made


def _sweep(
    settings: PatchingSettings,
    subject: Subject,
    name: str,
    pairs: AxiomaticPairs,
    steps: StepStore,
    progress: Reporter,
) -> Arrays:
    from ...mechanisms import patching_sweep
    from ...mechanisms.patching.token_classes import token_classes

    model = subject.models[name]
    texts = [subject.data.queries[row] for row in pairs.queries]
    depends = [
        subject.fingerprints(name),
        digest_of([texts, dataclasses.asdict(pairs)]),
        settings.by_token,
    ]

    def make() -> Arrays:
        directions = model.encode_queries(texts, batch_size=settings.batch_size, progress=False)
        classes = token_classes(pairs, model.document_encoder)
        found: list[Arrays] = []
        blocks = range(0, len(pairs), _BATCH)
        for begin in progress.track(blocks, f"{pairs.name}, {name}"):
            some = slice(begin, begin + _BATCH)
            sweep = patching_sweep(
                model.document_encoder,
                pairs.clean[some],
                pairs.corrupted[some],
                directions[some],
                by_token=settings.by_token,
                batch_size=_BATCH,
            )
            own = {
                key: getattr(sweep, key) for key in ("clean", "corrupted", "heads", "feed_forward")
            }
            if sweep.tokens is not None:
                gains = sweep.tokens - sweep.corrupted[:, None, None]
                own["tokens"] = _class_sums(gains, classes[some])
            found.append(own)
        return {key: np.concatenate([own[key] for own in found]) for key in found[0]}

    return steps.once(f"patching {pairs.name} {name}", depends, make)


def _class_sums(gains: NDArray[np.float32], classes: NDArray[np.int8]) -> NDArray[np.float32]:
    """Sums over tokens, ``[pairs, layers, classes]``; NaN where a pair has no token of a class."""
    from ...mechanisms.patching.token_classes import TOKEN_CLASSES

    classes = classes[:, : gains.shape[2]]
    sums = np.full((*gains.shape[:2], len(TOKEN_CLASSES)), np.nan, np.float32)
    for place in range(len(TOKEN_CLASSES)):
        own = classes == place
        total = np.where(own[:, None], gains, 0).sum(2)
        sums[own.any(1), :, place] = total[own.any(1)]
    return sums


def _shown(subject: Subject, pairs: AxiomaticPairs) -> ShownPair:
    clean, corrupted = (texts[0][-_SHOWN:] for texts in (pairs.clean, pairs.corrupted))
    return ShownPair(pairs.name, subject.data.queries[pairs.queries[0]], clean, corrupted)
