"""Probes of every layer of several models: accuracies, controls, and tests against a base model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from ...data import TrainingSet
from ...evaluate import bootstrap
from ...models import BiEncoder
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
    """Rows of every layer, of all queries and of all passages."""

    queries: NDArray[np.float32]  # [layers, queries, dim]
    passages: NDArray[np.float32]  # [layers, passages, dim]


class Probed(NamedTuple):
    """A probe of one layer of one model, and which of the held-out samples it has right."""

    model: str
    layer: int
    probe: str
    n_candidates: int
    control: str
    correct: NDArray[np.bool_]

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """The mean, and its 95% bootstrap interval."""
        mean, low, high = bootstrap(self.correct.astype(np.float64))
        return mean, low, high


def layers_of(model: BiEncoder, data: TrainingSet, mode: str, *, batch_size: int = 32) -> Layers:
    """What a model makes of the queries and passages of a training set.

    Args:
        model: one tower or two.
        data: whose texts.
        mode: "query" or "passage" for one encoder on both sides, as the study has them; "paired"
            for each on its own.
        batch_size: texts per forward pass.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"layers_of: mode must be one of {', '.join(MODES)}, got {mode!r}")
    towers = {"query": model.query_encoder, "passage": model.document_encoder}
    of_queries = towers["passage" if mode == "passage" else "query"]
    of_passages = towers["query" if mode == "query" else "passage"]
    queries = model.query_texts(data.queries, data.prompts)
    documents = model.document_texts(data.documents, data.titles)
    return Layers(
        layer_rows(of_queries, queries, batch_size=batch_size, progress="queries"),
        layer_rows(of_passages, documents, batch_size=batch_size, progress="passages"),
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
    **options: Any,
) -> list[Probed]:
    """Fits every probe to every layer, and asks it for held-out samples.

    Args:
        name: of the model.
        rows: of its layers.
        train, held: samples to fit to, and to ask for; no query should be in both.
        probes: of `PROBES`.
        n_candidates: how many passages are shown.
        controls: "none"; "queries shuffled", where each sample has the query of another; "labels
            random", where every passage has a number drawn at random and the largest is relevant,
            which can be memorised but not understood (Hewitt & Liang, "Designing and Interpreting
            Probes with Control Tasks", 2019).
        seed: of everything that is drawn.
        **options: of the probes, such as `epochs`.

    Returns:
        One result for each layer, probe, number of candidates and control.
    """
    asked = list(probes)
    check_probes(asked)
    results = []
    for layer in range(len(rows.queries)):
        of_layer = rows.queries[layer], rows.passages[layer]
        features = [(part, part.features(*of_layer)) for part in (train, held)]
        for control in controls:
            given = [_controlled(part, x, control, seed) for part, x in features]
            for kind in asked:
                for n in n_candidates:
                    probe = clone(PROBES[kind](n, random_state=seed)).set_params(**options)
                    probe.fit(given[0][0], given[0][1])
                    shown, places = present(given[1][0], n, y=given[1][1], seed=seed)
                    correct = probe.predict(shown) == places
                    results.append(Probed(name, layer, kind, n, control, correct))
    return results


def check_probes(names: Iterable[str]) -> None:
    """Raises for a probe that there is not."""
    for name in names:
        if name not in PROBES:
            raise ValueError(f"probes must be of {', '.join(PROBES)}, got {name!r}")


def against_base(results: Sequence[Probed], base: Sequence[Probed]) -> list[dict[str, Any]]:
    """Each result beside the base's of the same layer, with both tests corrected over layers.

    Raises:
        ValueError: the base lacks a layer, or was asked for other samples.
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
    """Features, and which passage is relevant."""
    first = np.zeros(len(x), np.int64)
    if control == "queries shuffled":
        return shuffle_queries(x, seed=seed), first
    if control == "labels random":
        # However many are drawn, they begin alike: a passage has one number on both sides.
        drawn = np.random.default_rng([seed, 5]).random(int(samples.passages.max()) + 1)
        return x, drawn[samples.passages].argmax(axis=1)
    if control != "none":
        raise ValueError(
            f"probe_layers: controls must be of {', '.join(CONTROLS)}, got {control!r}"
        )
    return x, first
