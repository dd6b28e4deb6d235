"""Probes every layer of several models, with controls and tests against a base model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ...data import TrainingSet
from ...evaluate import bootstrap
from ...models import BiEncoder
from ...progress import show_progress
from .candidates import Candidates, present, shuffle_queries
from .layer_rows import layer_rows
from .layer_tests import compare_with_base
from .probes import BilinearProbe, ConcatenationProbe, DotProductProbe, InteractionProbe

PROBES = {
    "concatenation": ConcatenationProbe,
    "bilinear": BilinearProbe,
    "interaction": InteractionProbe,
    "dot product": DotProductProbe,
}
CONTROLS = ("none", "queries shuffled", "labels random")
MODES = ("query", "passage", "paired")


class Layers(NamedTuple):
    """Rows of every layer for all queries and all passages."""

    queries: NDArray[np.float32]  # [layers, queries, dim]
    passages: NDArray[np.float32]  # [layers, passages, dim]


class Probed(NamedTuple):
    """Result of a probe of one layer of one model on held-out samples."""

    model: str
    layer: int
    probe: str
    n_candidates: int
    control: str
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """Mean accuracy and its 95% bootstrap interval: mean, low, high."""
        mean, low, high = bootstrap(self.correct.astype(np.float64))
        return mean, low, high


def layers_of(
    model: BiEncoder,
    data: TrainingSet,
    mode: str,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> Layers:
    """Computes the rows of all layers for the queries and passages of a training set.

    Args:
        model: one tower or two.
        data: queries and passages.
        mode: "query" or "passage" for one encoder on both sides, as in the study; "paired" for
            each encoder on its own side.
        batch_size: texts per forward pass.
        progress: whether to show progress on stderr.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"layers_of: mode must be one of {', '.join(MODES)}, got {mode!r}")
    towers = {"query": model.query_encoder, "passage": model.document_encoder}
    query_encoder = towers["passage" if mode == "passage" else "query"]
    passage_encoder = towers["query" if mode == "query" else "passage"]
    queries = model.query_texts(data.queries, data.prompts)
    documents = model.document_texts(data.documents, data.titles)
    return Layers(
        layer_rows(query_encoder, queries, batch_size=batch_size, progress=progress and "queries"),
        layer_rows(
            passage_encoder, documents, batch_size=batch_size, progress=progress and "passages"
        ),
    )


def probe_layers(
    name: str,
    rows: Layers,
    train: Candidates,
    held: Candidates,
    *,
    probes: Iterable[str] = ("concatenation",),
    n_candidates: Sequence[int] = (2, 3, 4, 5),
    controls: Iterable[str] = CONTROLS,
    seed: int = 42,
    progress: bool | str = True,
    **options: Any,
) -> list[Probed]:
    """Fits every probe to every layer, and evaluates it on held-out samples.

    Args:
        name: name of the model.
        rows: rows of its layers.
        train, held: samples for training and for evaluation; no query should be in both.
        probes: names in `PROBES`.
        n_candidates: numbers of passages of a sample.
        controls: "none"; "queries shuffled", where each sample has the query of another; "labels
            random", where every passage has a random number and the one with the largest is
            relevant, which can be memorised but does not generalise (Hewitt & Liang, "Designing and
            Interpreting Probes with Control Tasks", 2019).
        seed: of all random choices.
        progress: whether to show progress on stderr; a string labels it.
        **options: of the probes, such as `epochs`.

    Returns:
        One result for each layer, probe, number of candidates and control.
    """
    kinds, controls = list(probes), list(controls)
    check_probes(kinds)
    results = []
    total = len(rows.queries) * len(controls) * len(kinds) * len(n_candidates)
    label = progress if isinstance(progress, str) else f"probe {name}"
    with show_progress(label, total, show=bool(progress)) as display:
        for layer in range(len(rows.queries)):
            own = rows.queries[layer], rows.passages[layer]
            features = [(part, part.features(*own)) for part in (train, held)]
            for control in controls:
                data = [_controlled(part, x, control, seed) for part, x in features]
                for kind, n in product(kinds, n_candidates):
                    probe = clone(PROBES[kind](n, random_state=seed)).set_params(**options)
                    probe.fit(data[0][0], data[0][1])
                    shown, places = present(data[1][0], n, y=data[1][1], seed=seed)
                    correct = probe.predict(shown) == places
                    results.append(Probed(name, layer, kind, n, control, correct))
                    display.advance()
    return results


def check_probes(names: Iterable[str]) -> None:
    """Raises ValueError for a name that is not in `PROBES`."""
    for name in names:
        if name not in PROBES:
            raise ValueError(f"probes must be of {', '.join(PROBES)}, got {name!r}")


def against_base(results: Sequence[Probed], base: Sequence[Probed]) -> list[dict[str, Any]]:
    """Compares each result with the base's of the same layer; tests are corrected over layers.

    Raises:
        ValueError: the base lacks a layer, or has results for other samples.
    """
    known = {(r.layer, r.probe, r.n_candidates, r.control): r for r in base}
    layers = len({result.layer for result in results})
    rows = []
    for result in results:
        key = (result.layer, result.probe, result.n_candidates, result.control)
        if key not in known:
            raise ValueError(f"against_base: the base has no probe of layer {result.layer}")
        tests = compare_with_base(result.correct, known[key].correct, comparisons=layers)
        accuracy, low, high = result.accuracy
        rows.append(
            {
                "model": result.model,
                "layer": result.layer,
                "probe": result.probe,
                "n_candidates": result.n_candidates,
                "control": result.control,
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "base": tests.base,
                "t_test": tests.t_test,
                "mcnemar": tests.mcnemar,
            }
        )
    return rows


def _controlled(
    samples: Candidates, x: NDArray[np.float32], control: str, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns features, and the number of the relevant passage of each sample."""
    first = np.zeros(len(x), np.int64)
    if control == "queries shuffled":
        return shuffle_queries(x, seed=seed), first
    if control == "labels random":
        # A longer draw begins with a shorter one: a passage has the same number in both splits.
        drawn = np.random.default_rng([seed, 5]).random(int(samples.passages.max()) + 1)
        return x, drawn[samples.passages].argmax(axis=1)
    if control != "none":
        raise ValueError(
            f"probe_layers: controls must be of {', '.join(CONTROLS)}, got {control!r}"
        )
    return x, first
