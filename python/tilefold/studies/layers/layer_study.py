"""Runs the study of layers: retrievers of which only some layers are trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import bootstrap
from ..fact_rankings import MEASURE, fact_measures
from ..paired_comparison import PairedComparison, compare_pairs
from ..study import NoStepStore, Reporter, StepStore
from .layer_result import ALL, NONE, LayerResult, TrainedLayers
from .layer_settings import LayerSettings

Floats = NDArray[np.float64]


def run_layers(
    settings: LayerSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> LayerResult:
    """Trains retrievers with all layers but some frozen, and compares what they find.

    The first version of Reichman and Heck's paper finds that middle layers matter most (claim C4).
    The embeddings are frozen together with layers.

    Args:
        settings: world and training.
        steps: keeps retrievers and measures, so that a run that was stopped continues.
        progress: receives reports.

    Example:
        >>> result = run_layers(LayerSettings(world="tiny"))  # doctest: +SKIP
        >>> result.retrievers[2].value  # doctest: +SKIP
        Interval(mean=0.41, low=0.38, high=0.45)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    title = f"a {settings.world} world"
    progress.started(title)
    values: dict[str, list[Floats]] = {}
    for seed in settings.seeds:
        for name, own in _seed_values(settings, seed, steps, progress).items():
            values.setdefault(name, []).append(own)
    every = np.concatenate(values[ALL])
    pairs: dict[str, Any] = {
        name: (np.concatenate(seeds), every) for name, seeds in values.items() if name != ALL
    }
    compared = dict(zip(pairs, compare_pairs(pairs), strict=True))
    choices = layer_choices(settings)
    rows = []
    for name, seeds in values.items():
        value = bootstrap(np.concatenate(seeds))
        means = tuple(float(own.mean()) for own in seeds)
        rows.append(TrainedLayers(name, choices[name] or (), value, means, compared.get(name)))
    between = _between(values)
    return LayerResult(settings, title, MEASURE, len(every), tuple(rows), between, {})


def _between(values: dict[str, list[Floats]]) -> tuple[PairedComparison, ...]:
    """Compares middle layers with the first and the last ones, alone and with a neighbour."""
    from ...world.world_models import N_LAYERS

    joined = {name: np.concatenate(seeds) for name, seeds in values.items()}
    last = N_LAYERS - 1
    pairs = [
        (f"layer {middle}", f"layer {outer}") for middle in range(1, last) for outer in (0, last)
    ]
    pairs += [
        (_two(middle), _two(outer)) for middle in range(1, last - 1) for outer in (0, last - 1)
    ]
    named = {f"{one} minus {other}": (joined[one], joined[other]) for one, other in pairs}
    return compare_pairs(named)


def layer_choices(settings: LayerSettings) -> dict[str, tuple[int, ...] | None]:
    """Returns the layers to train by name: none, each one, each two neighbours, and everything.

    Args:
        settings: whether to leave out each one as well.

    Returns:
        Numbers of layers; None for everything, embeddings included.
    """
    from ...world.world_models import N_LAYERS

    every = tuple(range(N_LAYERS))
    found: dict[str, tuple[int, ...] | None] = {NONE: ()}
    found |= {f"layer {layer}": (layer,) for layer in every}
    found |= {_two(layer): (layer, layer + 1) for layer in every[:-1]}
    if settings.all_but_one:
        for layer in every:
            found[f"all but layer {layer}"] = tuple(x for x in every if x != layer)
    return {**found, ALL: None}


def _two(layer: int) -> str:
    return f"layers {layer} and {layer + 1}"


def _seed_values(
    settings: LayerSettings, seed: int, steps: StepStore, progress: Reporter
) -> dict[str, Floats]:
    """Returns the measure of every retriever on the facts that none was trained on."""
    from ...models import BiEncoder
    from ...world import make_world
    from ...world.retrieval_data import split_facts
    from ...world.world_models import pretrained
    from ...world.world_retrievers import fine_tuned

    world = make_world(settings.world, seed=seed)
    base = pretrained(world, seed=seed)
    train, test = split_facts(world, seed=seed)
    progress.fact("facts", f"{len(train)} in training, {len(test)} in the test, seed {seed}")
    root = steps.folder("retrievers", [])
    found = {}
    for name, layers in layer_choices(settings).items():
        loading: dict[str, Any] = {}
        if layers == ():
            folder, loading = base, {"pooling": "cls", "normalize": False}
        else:
            training: Any = {"epochs": settings.retriever_epochs, "layers": layers, "seed": seed}
            # Other studies have the same retriever of which everything is trained.
            kept = None if layers is None else root
            folder = fine_tuned(world, base, train, folder=kept, **training)

        def make(folder: Any = folder, loading: Any = loading) -> dict[str, Any]:
            model = BiEncoder.from_pretrained(folder, **loading)
            return {"values": fact_measures(world, model, batch_size=settings.batch_size)}

        depends = [folder.name, settings.batch_size]
        values = steps.once(f"retrieval {name} {seed}", depends, make)["values"]
        found[name] = values[test]
        progress.fact(MEASURE, f"trained {name}: {found[name].mean():.3f}")
    return found
