"""Surveys of active neurons in the base and in the retriever, and their comparison (claim C2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.steps import digest_of
from ..paired_comparison import PairedComparison, compare_pairs, group_means
from ..study import Reporter, StepStore
from ..subject import BASE, RETRIEVER, Subject
from .neuron_result import ActiveNeurons, SurveyComparison
from .neuron_settings import NeuronSettings

if TYPE_CHECKING:
    from ...mechanisms import Survey
    from ...models import Encoder

_CHUNK = 32  # texts of a step: so much is lost when the study is stopped
_BINS = 64  # of neurons in a heat map: it is 340 pixels wide


def encoder_of(subject: Subject, name: str, side: str) -> Encoder:
    """Returns the encoder that reads queries, or the one that reads passages."""
    model = subject.models[name]
    return model.query_encoder if side == "queries" else model.document_encoder


def survey_texts(
    settings: NeuronSettings,
    subject: Subject,
    name: str,
    side: str,
    texts: Sequence[str],
    steps: StepStore,
    progress: Reporter,
) -> Survey:
    """Attributes texts to neurons of one model, some texts in each step."""
    from ...mechanisms.neurons.survey import Survey, survey_neurons

    encoder = encoder_of(subject, name, side)
    records = subject.fingerprints(name)
    parts = []
    options = {"threshold": settings.active_threshold, "steps": settings.steps}
    for begin in range(0, len(texts), _CHUNK):
        some = texts[begin : begin + _CHUNK]
        label = f"{name}, {side} {begin + 1} to {begin + len(some)} of {len(texts)}"

        def make(some: Sequence[str] = some, label: str = label) -> Any:
            bar = label if progress.bars else False
            return survey_neurons(encoder, some, progress=bar, **options).arrays()  # type: ignore[arg-type]

        depends = [records, digest_of(list(some)), options]
        parts.append(Survey.from_arrays(steps.once(f"survey {name} {side}", depends, make)))
    progress.fact("surveyed", f"{name}, {len(texts):,} {side}")
    return Survey.merged(parts)


def compare_surveys(
    base: Survey, model: Survey, groups: Sequence[Sequence[int]], alike: str
) -> SurveyComparison:
    """Compares surveys of the same texts.

    Args:
        base, model: surveys.
        groups: rows of paraphrases.
        alike: name for texts of a group.
    """
    shares = {
        name: {key: _binned(values) for key, values in survey.shares().items()}
        for name, survey in ((BASE, base), (RETRIEVER, model))
    }
    spread = compare_spread(base, model, groups, alike=alike)
    active = count_active(base, model)
    return SurveyComparison(len(base.active), len(groups), spread, active, shares)


def compare_spread(
    base: Survey,
    model: Survey,
    groups: Sequence[Sequence[int]] = (),
    *,
    alike: str = "paraphrases",
) -> tuple[PairedComparison, ...]:
    """Compares over how many neurons attributions of texts are spread.

    Args:
        base, model: surveys of the same texts.
        groups: rows of paraphrases: they count as one text, and the overlap of their neurons is
            compared as well.
        alike: name for texts of a group.

    Returns:
        Comparisons of the active neurons above each threshold, of their effective number, of the
        Gini index and of the overlap.

    Raises:
        ValueError: surveys of other texts or thresholds.
    """
    if base.active.shape != model.active.shape or base.thresholds != model.thresholds:
        raise ValueError(
            "compare_spread: expected surveys of the same texts and thresholds, got "
            f"{base.active.shape} and {model.active.shape} active neurons above "
            f"{base.thresholds} and {model.thresholds}"
        )
    values: dict[str, tuple[Any, Any]] = {
        f"active neurons, above {threshold:g}": (model.active[:, i], base.active[:, i])
        for i, threshold in enumerate(base.thresholds)
    }
    values["effective number of neurons"] = model.effective, base.effective
    values["Gini index"] = model.gini, base.gini
    values = {
        name: (group_means(own, groups), group_means(other, groups))
        for name, (own, other) in values.items()
    }
    if groups:
        values[f"overlap of {alike}"] = model.overlaps(groups), base.overlaps(groups)
    return compare_pairs(values)


def count_active(base: Survey, model: Survey) -> tuple[ActiveNeurons, ...]:
    """Counts neurons of each sub-layer that are active in any text, and in more than half.

    Args:
        base, model: surveys of the same texts.

    Returns:
        Counts for each threshold and sub-layer.
    """
    found = []
    for threshold in base.thresholds:
        counts = [
            survey.at(threshold, share=share) for survey in (base, model) for share in (0.0, 0.5)
        ]
        for i, name in enumerate(base.shares()):
            found.append(ActiveNeurons(name, threshold, *(int(values[i]) for values in counts)))
    return tuple(found)


def _binned(values: Any) -> tuple[float, ...]:
    """Returns the largest value of each bin of neurons."""
    parts = np.array_split(np.asarray(values), min(_BINS, len(values)))
    return tuple(round(float(part.max()), 4) for part in parts)
