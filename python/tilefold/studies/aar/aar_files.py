"""Loads the subject of a study of AAR from checkpoints and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..answered_questions import read_answered
from ..study import Reporter, StepStore
from .aar_settings import RETRIEVER_FIELDS, AARSettings
from .aar_subject import AARSubject, TargetCorpus
from .source_lms import fused_lm, has_signal, open_source_lm, signal_of

if TYPE_CHECKING:
    from ...aar import MmluTask, PopqaTask, PreferenceSignal, TargetLM
    from ...data import TrainingSet

_KEY_VARIABLE = "TILEFOLD_API_KEY"  # environment variable with the access key of an API


def file_subject(settings: AARSettings, steps: StepStore, progress: Reporter) -> AARSubject:
    """Loads what the settings name; files are read before models are loaded.

    Args:
        settings: of the study.
        steps: has the folder in which responses of services are kept.
        progress: receives the title.

    Raises:
        OSError: no such file or model.
        ValueError: a file or a model that cannot be read, or a name of an unknown form.
    """
    from ...aar import GENERATED_TOKENS
    from ...models.model_record import open_model

    assert settings.data is not None
    assert settings.retriever is not None
    assert settings.source_lm is not None
    for name in ("targets", "tasks"):
        for text in getattr(settings, name):
            _kind_and_name(text, name)
    data = read_answered(settings.data, settings.split or "train", settings.answers)
    tasks = _tasks(settings, data)
    source, dev = _split(settings, data)
    title = f"{settings.retriever} adapted to {settings.source_lm}"
    progress.started(title)
    source_lm = open_source_lm(settings.source_lm, settings.signal)
    cache = steps.folder("responses", "of services") / "responses.sqlite"
    targets = {text: open_target(text, cache) for text in settings.targets}
    if settings.n_passages is None:  # an LM that the paper lacks is an error before the training
        for corpus in tasks.values():
            for target in targets.values():
                corpus.task.default_passages(target)
    if settings.genread:  # as is one that cannot write so much
        for target in targets.values():
            target.generator(GENERATED_TOKENS)
    models = {name: getattr(one, "model", None) for name, one in targets.items()}
    names = {name: getattr(settings, name) for name in RETRIEVER_FIELDS}
    options = {name: value for name, value in names.items() if value is not None}

    def signal(model: Any) -> PreferenceSignal:
        return signal_of(settings.signal, model, batch_size=settings.batch_size)

    return AARSubject(
        title,
        open_model(settings.retriever, **options),
        source,
        dev,
        signal(source_lm),
        {name: signal(one) for name, one in models.items() if has_signal(one, settings.signal)},
        targets,
        tasks,
    )


def _split(settings: AARSettings, data: TrainingSet) -> tuple[TrainingSet, TrainingSet | None]:
    """Holds out the last questions, as AAR does, and draws those that are trained on.

    Questions that share a passage with those that are held out are not trained on.
    """
    from ...train.validation import held_out_rows

    rows, dev = np.arange(len(data)), None
    if settings.dev_questions:
        try:
            rows, held = held_out_rows(data, settings.dev_questions, seed=0, last=True)
        except ValueError as error:
            raise ValueError(f"AARSettings: dev_questions: {error}") from error
        dev = data.take(held)
    if 0 < settings.max_questions < len(rows):
        rng = np.random.default_rng(settings.seeds[0])
        rows = np.sort(rng.permutation(rows)[: settings.max_questions])
    return data.take(rows), dev


def _kind_and_name(text: str, setting: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    kinds = {"targets": ("fusion", "concatenation", "api"), "tasks": ("popqa", "mmlu")}[setting]
    if not colon or not name or kind not in kinds:
        forms = " or ".join(f"{one}:NAME" for one in kinds)
        raise ValueError(f"{setting}: expected {forms}, got {text!r}")
    return kind, name


def open_target(text: str, cache: Path | None = None) -> TargetLM:
    """Opens a target LM.

    Args:
        text: fusion:NAME, concatenation:NAME or api:MODEL@ADDRESS.
        cache: file in which the responses of a service are kept; None keeps none.

    Raises:
        OSError: no such model.
        ValueError: a text of another form.
    """
    from ...aar import CompletionsService, ConcatenatedTarget, FusedTarget, ScoredApi
    from ...models import CausalLM

    kind, name = _kind_and_name(text, "targets")
    if kind == "fusion":
        return FusedTarget(fused_lm(name), name=name)
    if kind == "concatenation":
        return ConcatenatedTarget(CausalLM.from_pretrained(name), name=name)
    model, at, address = name.partition("@")
    if not at:
        raise ValueError(f"targets: expected api:MODEL@ADDRESS, got {text!r}")
    key = _KEY_VARIABLE if os.environ.get(_KEY_VARIABLE) else None
    return ScoredApi(CompletionsService(address, model, key), cache=cache, name=model)


def open_task(text: str) -> PopqaTask | MmluTask:
    """Reads the questions of a task.

    Args:
        text: popqa:PATH or mmlu:PATH.

    Raises:
        OSError: no such file.
        ValueError: a text of another form, or a file that cannot be read.
    """
    from ...aar import MmluTask, PopqaTask
    from ...data import read_choices, read_questions

    kind, path = _kind_and_name(text, "tasks")
    if kind == "popqa":
        return PopqaTask(tuple(read_questions(path)))
    return MmluTask(tuple(read_choices(path)))


def _tasks(settings: AARSettings, data: TrainingSet) -> dict[str, TargetCorpus]:
    """Reads tasks and their corpora, by default the documents of the source task."""
    paths: tuple[str | None, ...] = settings.corpora or (None,)
    if len(paths) == 1:
        paths *= len(settings.tasks)
    tasks: dict[str, TargetCorpus] = {}
    for text, corpus in zip(settings.tasks, paths, strict=True):
        task = open_task(text)
        several = f" on {corpus}" if len(settings.corpora) > 1 else ""
        name = f"{task.name} ({_kind_and_name(text, 'tasks')[1]}{several})"
        if name in tasks:
            raise ValueError(f"AARSettings: tasks: {text} is there twice with one corpus")
        documents, titles = (data.documents, data.titles) if corpus is None else _corpus(corpus)
        tasks[name] = TargetCorpus(task, documents, titles)
    return tasks


def _corpus(path: str) -> tuple[list[str], list[str]]:
    from ...data import read_documents

    found = read_documents(path)
    return found.texts, found.titles
