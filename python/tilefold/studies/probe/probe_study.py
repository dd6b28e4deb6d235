"""Runs the study of probes: which layers distinguish a relevant passage from hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.steps import digest_of
from ..paired_comparison import PairedComparison, compare_pairs, group_means
from ..study import NoStepStore, Reporter, StepStore
from ..subject import BASE, RANDOM, RETRIEVER, Subject, load_subject
from .probe_result import LayerAccuracy, ProbeResult, SampleCounts
from .probe_settings import ProbeSettings

if TYPE_CHECKING:
    from ...mechanisms import Candidates, Probed

_HELD_OUT = 0.3  # share of the queries
_PARAPHRASES = (3,)  # of a world's questions: the retriever was trained on others


def run_probe(
    settings: ProbeSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> ProbeResult:
    """Fits probes to every layer of a retriever, of its base, and of the base with random weights.

    A probe chooses the relevant passage among hard negatives from the representations of one layer
    (Reichman and Heck, 2024). Controls shuffle queries or draw labels at random.

    Args:
        settings: models, data and probes.
        steps: keeps accuracies of each model, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: too few samples, or data that cannot be read.

    Example:
        >>> settings = ProbeSettings(world="tiny", probes=["bilinear"], epochs=5)
        >>> result = run_probe(settings)  # doctest: +SKIP
        >>> result.discrimination[0].difference  # doctest: +SKIP
        Interval(mean=0.12, low=0.07, high=0.17)
    """
    from ...mechanisms import against_base
    from ...mechanisms.probing.candidates import paraphrases

    steps, progress = steps or NoStepStore(), progress or Reporter()
    subject = load_subject(settings, paraphrases=_PARAPHRASES, progress=progress)
    groups = paraphrases(subject.data)
    train, held_out = _split_samples(settings, subject, groups)
    progress.fact("samples", f"{len(train.queries):,} fitted, {len(held_out.queries):,} held out")
    probed = {
        name: _probe_model(settings, subject, name, train, held_out, steps, progress)
        for name in subject.models
    }
    rows = [row for results in probed.values() for row in against_base(results, probed[BASE])]
    group_of_sample = held_out.groups(groups)
    independent = [
        np.flatnonzero(group_of_sample == group).tolist() for group in np.unique(group_of_sample)
    ]
    plain = {name: [r for r in results if r.control == "none"] for name, results in probed.items()}
    return ProbeResult(
        settings,
        subject.title,
        _count_samples(train, held_out, len(independent)),
        tuple(LayerAccuracy(**row) for row in rows),
        compare_discrimination(plain[RETRIEVER], plain[BASE], independent),
        _constants(),
    )


def compare_discrimination(
    results: Sequence[Probed], base: Sequence[Probed], groups: Sequence[Sequence[int]] = ()
) -> tuple[PairedComparison, ...]:
    """Compares how well a model's layers and its base's distinguish passages (claim C1).

    Correct answers are averaged over layers and over groups before they are compared, so that
    intervals are over independent queries.

    Args:
        results: probes of a model, without controls.
        base: probes of its base, on the same samples.
        groups: rows of samples whose queries ask for the same passages.

    Returns:
        One comparison for each probe and number of candidates.
    """
    values = {}
    for probe, n in dict.fromkeys((r.probe, r.n_candidates) for r in results):
        own, other = (
            np.mean([r.correct for r in some if (r.probe, r.n_candidates) == (probe, n)], axis=0)
            for some in (results, base)
        )
        values[f"{probe}, of {n}"] = group_means(own, groups), group_means(other, groups)
    return compare_pairs(values)


def _constants() -> dict[str, int | float]:
    from ...mechanisms import ConcatenationProbe
    from ...mechanisms.probing.candidates import MAX_NEGATIVES

    fitted = ConcatenationProbe().get_params()
    names = ("batch_size", "learning_rate", "validation_fraction")
    options = {f"probe_{name}": fitted[name] for name in names}
    return {"held_out": _HELD_OUT, "hard_negatives": MAX_NEGATIVES, **options}


def _count_samples(train: Candidates, held_out: Candidates, independent: int) -> SampleCounts:
    return SampleCounts(
        fitted=len(train.queries),
        tested=len(held_out.queries),
        independent=independent,
        familiar=int(np.isin(held_out.passages[:, 0], train.passages[:, 0]).sum()),
        min_passages=min(len(set(passages)) for passages in held_out.passages.tolist()),
    )


def _split_samples(
    settings: ProbeSettings, subject: Subject, groups: Sequence[Sequence[int]]
) -> tuple[Candidates, Candidates]:
    """Queries that ask for the same passages are on one side of the split."""
    from ...mechanisms import Candidates

    samples = Candidates.of(subject.data, seed=settings.seed)
    rng = np.random.default_rng([settings.seed, 6])
    if len(samples.queries) > settings.max_samples:
        drawn = rng.permutation(len(samples.queries))[: settings.max_samples]
        samples = samples.take(np.sort(drawn))
    train, held_out = samples.split(_HELD_OUT, groups=groups, seed=settings.seed)
    if len(train.queries) < 2 or len(np.unique(held_out.groups(groups))) < 2:
        independent = len(np.unique(samples.groups(groups)))
        raise ValueError(
            f"{subject.title}: expected samples to fit and to test probes with, got "
            f"{len(samples.queries)} from {independent} independent queries"
        )
    return train, held_out


def _probe_model(
    settings: ProbeSettings,
    subject: Subject,
    name: str,
    train: Candidates,
    held_out: Candidates,
    steps: StepStore,
    progress: Reporter,
) -> list[Probed]:
    """Controls are for trained models alone, with the fewest candidates: they cost as much."""
    from ...mechanisms import Probed, layers_of, probe_layers
    from ...mechanisms.probing.sweep import CONTROLS

    probes, sizes = list(settings.probes), list(settings.candidates)
    options: dict[str, Any] = {"probes": probes, "epochs": settings.epochs, "seed": settings.seed}
    plain, controls = CONTROLS[:1], CONTROLS[1:] if name != RANDOM else ()
    texts = [subject.data.queries, subject.data.documents]
    samples = [part.tolist() for pair in (train, held_out) for part in pair]
    depends = [
        subject.fingerprints(name),
        digest_of([texts, samples]),
        settings.mode,
        sizes,
        options,
    ]

    def make() -> dict[str, Any]:
        model = subject.models[name]
        size, shown = settings.batch_size, progress.bars
        rows = layers_of(model, subject.data, settings.mode, batch_size=size, progress=shown)
        results = [
            result
            for n, kinds in ((sizes, plain), ([min(sizes)], controls))
            for result in probe_layers(
                name,
                rows,
                train,
                held_out,
                n_candidates=n,
                controls=kinds,
                progress=shown,
                **options,
            )
        ]
        keys = [
            (r.layer, probes.index(r.probe), r.n_candidates, CONTROLS.index(r.control))  # type: ignore[arg-type]
            for r in results
        ]
        return {"keys": np.array(keys), "correct": np.stack([r.correct for r in results])}

    found = steps.once(f"probe {name}", depends, make)
    progress.fact("probed", f"{name}, {len(found['correct']):,} probes")
    return [
        Probed(name, layer, probes[kind], n, CONTROLS[control], correct)
        for (layer, kind, n, control), correct in zip(
            found["keys"].tolist(), found["correct"], strict=True
        )
    ]
