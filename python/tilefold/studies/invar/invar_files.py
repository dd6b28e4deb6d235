"""Loads the subject of a study of Invar-RAG from checkpoints and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...ragged_lists import Lists
from ..answered_questions import read_answered
from ..study import Reporter
from .invar_result import RETRIEVERS
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject

if TYPE_CHECKING:
    from ...data import TrainingSet

_SEEN_SEED, _UNSEEN_SEED = 0, 1  # of rules, in training and in the test


def invar_file_subject(settings: InvarSettings, progress: Reporter) -> InvarSubject:
    """Loads what the settings name; files are read before models are loaded.

    Rewrites come from files, or from rules: those of training from `families`, those of the test
    from `unseen_families`. Test questions with fewer than `n_unseen` rewrites are left out.

    Args:
        settings: of the study.
        progress: receives the title, and what is left out.

    Raises:
        OSError: no such file or model.
        ValueError: a file or a model that cannot be read; no test question with enough rewrites.
    """
    from ...models import find_model
    from ...models.checkpoints.language_model_checkpoint import has_language_model
    from ...models.checkpoints.model_names import existing
    from ...models.model_record import open_model

    assert settings.model is not None
    assert settings.coarse is not None
    assert settings.data is not None
    assert settings.test is not None
    for name in settings.baselines:
        if name in RETRIEVERS:
            raise ValueError(
                f"InvarSettings: baselines: {name!r} is the name of another retriever in results; "
                f"give another path to the folder, such as './{name}'"
            )
    train = _read(settings.data, settings.split or "train", settings.answers)
    # A training file has no splits; the default of a collection is its test.
    split = "test" if Path(settings.test).is_dir() else "train"
    test = _read(settings.test, settings.test_split or split, settings.answers)
    counts = {"training questions": len(train)}
    rewrites = _rewrites(
        train,
        settings.rewrites,
        settings.families,
        settings.n_rewrites or settings.n_views,
        _SEEN_SEED,
        counts,
        "seen",
    )
    counts["seen rewrites"] = sum(map(len, rewrites))
    unseen = _rewrites(
        test,
        settings.unseen_rewrites,
        settings.unseen_families,
        settings.n_unseen,
        _UNSEEN_SEED,
        counts,
        "unseen",
    )
    unseen = _without_known(unseen, train, rewrites, counts)
    enough = [row for row, own in enumerate(unseen) if len(own) >= settings.n_unseen]
    if not enough:
        raise ValueError(
            f"InvarSettings: n_unseen: expected a test question with {settings.n_unseen} rewrites, "
            f"got at most {max(map(len, unseen), default=0)}"
        )
    if len(enough) < len(unseen):
        progress.warn(
            f"{len(unseen) - len(enough):,} test questions are left out, as they have fewer than "
            f"{settings.n_unseen} rewrites."
        )
    chosen = [unseen[row][: settings.n_unseen] for row in enough]
    counts |= {"test questions": len(enough), "unseen rewrites": sum(map(len, chosen))}
    for words in settings.windows:
        _warn_of_lost(test.take(enough), words, progress)
    for name in (settings.model, *settings.baselines):
        existing(find_model(name))  # before the coarse encoder is loaded
    is_language_model = has_language_model(find_model(settings.model))
    _check_language_model(settings, is_language_model)
    title = f"{settings.model} with {settings.coarse} as coarse encoder"
    progress.started(title)
    return InvarSubject(
        title,
        str(find_model(settings.model)),
        open_model(settings.coarse),
        train,
        rewrites,
        test.take(enough),
        chosen,
        settings.template,
        counts,
        (settings.query_prefix, settings.passage_prefix),
        settings.pooling,
        is_language_model,
        {name: name for name in settings.baselines},
    )


def _check_language_model(settings: InvarSettings, is_language_model: bool) -> None:
    """Checks that settings which need a causal language model have one."""
    if is_language_model:
        return
    for name, needed, wanted in (
        ("generator_variants", bool(settings.generator_variants), "none"),
        ("dtype", settings.dtype != "float32", "float32"),
        ("alignment", settings.alignment == "likelihood", "scores or representation"),
    ):
        if needed:
            raise ValueError(
                f"InvarSettings: {name}: expected {wanted}, as {settings.model} is no causal "
                f"language model, got {getattr(settings, name)!r}"
            )


def _read(path: str, split: str, answers: str | None) -> TrainingSet:
    """Reads questions without hard negatives and scores of them."""
    data = read_answered(path, split, answers)
    none = Lists(np.zeros(len(data) + 1, np.int64), np.zeros(0, np.int64))
    return dataclasses.replace(data.with_negatives(none), positive_scores=None)


def _rewrites(
    data: TrainingSet,
    path: str | None,
    families: Sequence[str],
    n: int,
    seed: int,
    counts: dict[str, int],
    label: str,
) -> list[list[str]]:
    """Reads rewrites of questions, or lets rules write n of each."""
    from ...data import read_rewrites
    from ...invar import compose_rewrites, rule_rewriters

    if path is not None:
        found = read_rewrites(path, data.query_ids, data.queries)
    else:
        composed = compose_rewrites(data.queries, rule_rewriters(families, seed=seed), n_rewrites=n)
        equal = sum(composed.equal_to_query.values())
        if equal:
            counts[f"{label} rewrites equal to their question, left out"] = equal
        found = composed.texts
    return found


def _without_known(
    unseen: Sequence[Sequence[str]],
    train: TrainingSet,
    rewrites: Sequence[Sequence[str]],
    counts: dict[str, int],
) -> list[list[str]]:
    """Leaves out rewrites of test questions that are questions or rewrites of the training."""
    from ...data.rewrites import wording

    known = {wording(text) for own in (train.queries, *rewrites) for text in own}
    kept = [[text for text in own if wording(text) not in known] for own in unseen]
    lost = sum(map(len, unseen)) - sum(map(len, kept))
    if lost:
        counts["unseen rewrites that the training has, left out"] = lost
    return kept


def _warn_of_lost(data: TrainingSet, words: int, progress: Reporter) -> None:
    """Reports test questions whose answer no chunk of a relevant passage has."""
    from ...invar import Window, lost_answers

    window = Window(words)
    lost = int(lost_answers(window, data.documents, data.positives, data.answers).sum())
    if lost:
        progress.warn(f"{window.name}: no relevant chunk has the answer of {lost:,} questions.")
