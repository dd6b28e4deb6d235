"""Attribution of weights and patches against loops, second moments against hooks, probes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

WHY = "not installed: pip install tilefold[analysis]"
torch = pytest.importorskip("torch", reason=WHY, exc_type=ImportError)
pytest.importorskip("tilefold.mechanisms", reason=WHY, exc_type=ImportError)

from torch.func import functional_call

from tilefold import reference
from tilefold.mechanisms import (
    Candidates,
    Layers,
    feed_forwards,
    patching_sweep,
    probe_layers,
    second_moments,
    weight_attribution,
)
from tilefold.models import Encoder, minilm

WORDS = "which passages answer a question about rivers cities painters and prizes of an old country"


@pytest.fixture(scope="module")
def encoder(quick: bool) -> Encoder:
    found = minilm()
    if quick:  # a sweep is a forward pass for each part of each layer
        found.model.encoder.layer = found.model.encoder.layer[:1]
        found.model.config.num_hidden_layers = 1
    return found


def questions(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS.split(), 12)) for _ in range(n)]


def length_of(encoder: Encoder, tokens: Any, changed: dict[str, Any]) -> Any:
    return functional_call(encoder, changed, (tokens,)).norm()


def loop(encoder: Encoder, texts: list[str], steps: int) -> dict[str, Any]:
    """One text, one sub-layer and one step at a time, as libraries of attributions go about it."""
    plain = encoder.with_options(normalize=False)
    found: dict[str, list[Any]] = {"intermediate": [], "output": []}
    for text in texts:
        tokens = plain.pad(plain.tokenize([text]))
        layers: dict[str, list[Any]] = {kind: [] for kind in found}
        length = partial(length_of, plain, tokens)
        for part in feed_forwards(plain):
            for kind, module, name in (
                ("intermediate", part.intermediate, part.intermediate_name),
                ("output", part.output, part.output_name),
            ):
                rows = reference.weight_attribution(length, name, module, steps)
                layers[kind].append(rows.numpy())
        for kind, of_layers in layers.items():
            found[kind].append(np.stack(of_layers))
    return {kind: np.stack(rows) for kind, rows in found.items()}


def alike(name: str, ours: Any, theirs: Any) -> int:
    for kind, values in theirs.items():
        np.testing.assert_allclose(getattr(ours, kind), values, rtol=1e-2, atol=1e-4, err_msg=name)
    return 0


@pytest.mark.filterwarnings("ignore::tilefold.mechanisms.IncompleteAttributionWarning")  # quick
def test_weight_attribution(compare, quick, encoder):
    n, steps = (1, 2) if quick else (4, 20)
    texts = questions(n)
    case = f"attribution of weights, MiniLM, {n} texts, {steps} steps"
    outcome = compare.run(
        case,
        {
            "tilefold": partial(weight_attribution, encoder, texts, steps=steps, progress=False),
            "loop": partial(loop, encoder, texts, steps),
        },
        {"loop": 3.0},
        work={"texts_per_s": n},
        check=alike,
    )
    minutes = outcome.timings["tilefold"].median / n * 200 / 60
    compare.table.add(
        "the same for 200 texts",
        f"{minutes:.1f} min",
        minutes / 10,
        target=1,
        at_most=True,
        against="x 10 minutes",
    )


def test_probes_of_all_layers(compare, quick):
    layers, n, dim = (2, 60, 8) if quick else (7, 5_000, 384)
    rng = np.random.default_rng(0)
    rows = Layers(
        rng.standard_normal((layers, n, dim), dtype=np.float32),
        rng.standard_normal((layers, 5 * n, dim), dtype=np.float32),
    )
    samples = Candidates(np.arange(n), rng.permutation(5 * n).reshape(n, 5))
    train, held = samples.split(0.2)
    probe = partial(probe_layers, "MiniLM", rows, train, held, controls=("none",))
    case = f"published probes, {layers} layers, N = 2 to 5, {n:,} samples"
    outcome = compare.run(case, {"tilefold": probe}, {}, work={"samples_per_s": n})
    seconds = outcome.timings["tilefold"].median
    compare.table.add(
        case, f"{seconds:.0f} s", seconds / 120, target=1, at_most=True, against="x 2 minutes"
    )


def test_patching_sweep(compare, quick, encoder):
    n = 2 if quick else 50
    clean, corrupted = passages(n, "painters"), passages(n, "gardens")
    query = encoder.encode(["painters of an old country"] * n, progress=False)
    case = f"patches of MiniLM: 6 layers, 12 heads and feed-forward block, {n} pairs"
    compare.run(
        case,
        {
            "tilefold": partial(patching_sweep, encoder, clean, corrupted, query),
            "loop": partial(patches_by_loop, encoder, clean, corrupted, query),
        },
        {"loop": 5.0},
        work={"patches_per_s": n * 6 * 13},
        check=same_patches,
    )


def passages(n: int, word: str) -> list[str]:
    """Returns texts of 30 words that end in a word."""
    rng = np.random.default_rng(2)
    return [f"{' '.join(rng.choice(WORDS.split(), 29))} {word}" for _ in range(n)]


def patches_by_loop(
    encoder: Encoder, clean: list[str], corrupted: list[str], query: Any
) -> tuple[Any, Any]:
    """One forward pass for each patch, with hooks that replace what the clean text had there."""
    with torch.inference_mode():
        found = [
            patches_of_pair(encoder, *pair) for pair in zip(clean, corrupted, query, strict=True)
        ]
    return tuple(np.array(column) for column in zip(*found, strict=True))


def patches_of_pair(
    encoder: Encoder, clean: str, corrupted: str, query: Any
) -> tuple[list[list[float]], list[float]]:
    towards = torch.from_numpy(query)
    tokens = [encoder.pad(encoder.tokenize([text])) for text in (clean, corrupted)]
    attention = [layer.attention.output.dense for layer in encoder.model.encoder.layer]
    blocks = [part.output for part in feed_forwards(encoder.model)]
    kept: dict[Any, Any] = {}

    def keep(module: Any, args: Any, output: Any) -> None:
        kept[module] = args[0].clone(), output.clone()

    def score(hook: Any) -> float:
        found = float(encoder(tokens[1])[0] @ towards)
        hook.remove()
        return found

    def replacing(columns: slice) -> Any:
        def hook(module: Any, args: Any) -> Any:
            x = args[0].clone()
            x[..., columns] = kept[module][0][..., columns]
            return (x,)

        return hook

    hooks = [module.register_forward_hook(keep) for module in (*attention, *blocks)]
    encoder(tokens[0])
    for hook in hooks:
        hook.remove()
    width = attention[0].in_features // 12
    places = [slice(head * width, (head + 1) * width) for head in range(12)]
    heads = [
        [score(module.register_forward_pre_hook(replacing(columns))) for columns in places]
        for module in attention
    ]
    feed_forward = [
        score(module.register_forward_hook(lambda module, *_: kept[module][1])) for module in blocks
    ]
    return heads, feed_forward


def same_patches(name: str, ours: Any, theirs: Any) -> int:
    np.testing.assert_allclose(ours.heads, theirs[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.feed_forward, theirs[1], rtol=1e-4, atol=1e-5)
    return 0


def test_second_moments(compare, quick, encoder):
    n = 32 if quick else 1_000
    texts = sentences(n)
    case = f"second moments of every feed-forward layer, MiniLM, {n:,} sentences"
    outcome = compare.run(
        case,
        {
            "tilefold": partial(second_moments, encoder, texts),
            "hooks and float64": partial(moments_by_hooks, encoder, texts),
        },
        {},
        work={"sentences_per_s": n},
        check=same_moments,
    )
    minutes = outcome.timings["tilefold"].median / n * 20_000 / 60
    compare.table.add(
        "the same for 20,000 sentences",
        f"{minutes:.1f} min",
        minutes / 5,
        target=1,
        at_most=True,
        against="x 5 minutes",
    )


def sentences(n: int) -> list[str]:
    """Returns sentences of 12 to 28 words."""
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS.split(), int(rng.integers(12, 29)))) for _ in range(n)]


def moments_by_hooks(encoder: Encoder, texts: list[str]) -> dict[int, Any]:
    """Accumulates float64 products of the inputs of every output layer, batch by batch."""
    parts = feed_forwards(encoder.model)
    totals = {part.layer: torch.zeros(part.neurons, part.neurons).double() for part in parts}
    count = 0
    kept: list[Any] = []

    def fold(layer: int) -> Any:
        def hook(_: Any, args: Any) -> None:
            rows = args[0][kept[-1]].double()
            totals[layer] += rows.T @ rows

        return hook

    hooks = [part.output.register_forward_pre_hook(fold(part.layer)) for part in parts]
    with torch.inference_mode():
        for begin in range(0, len(texts), 32):
            tokens = encoder.pad(encoder.tokenize(texts[begin : begin + 32]))
            kept.append(tokens["attention_mask"].bool())
            count += int(kept[-1].sum())
            encoder.model(**tokens)
    for hook in hooks:
        hook.remove()
    return {layer: total / count for layer, total in totals.items()}


def same_moments(name: str, ours: Any, others: Any) -> int:
    for layer, matrix in others.items():
        torch.testing.assert_close(ours.matrices[layer], matrix, rtol=1e-4, atol=1e-6)
    return 0
