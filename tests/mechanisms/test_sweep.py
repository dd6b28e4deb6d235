"""Rows of all layers, and probes of each: values, controls, comparisons with the base."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.data import TrainingSet
from tilefold.mechanisms import (
    Candidates,
    Layers,
    against_base,
    layer_rows,
    layers_of,
    probe_layers,
)
from tilefold.models import BiEncoder, Encoder
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2"]
FEW = {"epochs": 3, "n_candidates": (2, 3)}


def data_of(n: int = 30) -> TrainingSet:
    return TrainingSet(
        [f"q{i}" for i in range(n)],
        [f"who is w{i}" for i in range(n)],
        [f"d{i}" for i in range(3 * n)],
        [f"w{i % n} of w{i // n}" for i in range(3 * n)],
        Lists.pack([[i] for i in range(n)]),
        Lists.pack([[n + (i + 1) % n, 2 * n + (i + 2) % n] for i in range(n)]),
        [()] * n,
    )


def drawn(layers: int = 2, n: int = 80, dim: int = 6, seed: int = 0) -> tuple[Layers, Candidates]:
    """Rows of nothing in particular, but for a mark of relevant passages in the last layer."""
    rng = np.random.default_rng(seed)
    rows = Layers(
        rng.standard_normal((layers, n, dim), dtype=np.float32),
        rng.standard_normal((layers, 5 * n, dim), dtype=np.float32),
    )
    samples = Candidates(np.arange(n), np.arange(5 * n).reshape(n, 5))
    rows.passages[-1, ::5, 0] += 4
    return rows, samples


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_rows_are_the_hidden_states_of_each_text_alone(tiny_bert, pooling):
    encoder = Encoder.from_pretrained(tiny_bert, pooling=pooling)
    found = layer_rows(encoder, TEXTS, batch_size=2)
    for row, text in enumerate(TEXTS):
        tokens = encoder.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = encoder.model(**tokens, output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            pooled = {"mean": state[0].mean(0), "cls": state[0, 0], "last": state[0, -1]}[pooling]
            if pooling == "last":
                pooled = pooled / pooled.norm()
            np.testing.assert_allclose(found[layer, row], pooled, rtol=1e-4, atol=1e-5)
    assert found.shape == (3, 3, 32)


def test_each_mode_reads_with_its_encoders(tiny_bert, tmp_path):
    torch.manual_seed(3)
    query, passage = (Encoder.from_pretrained(tiny_bert) for _ in range(2))
    with torch.no_grad():
        for parameter in passage.model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    data, model = data_of(4), BiEncoder(query, passage)
    of = {
        name: (layer_rows(one, data.queries), layer_rows(one, data.documents))
        for name, one in (("query", query), ("passage", passage))
    }
    for mode, (q, p) in {
        "query": ("query", "query"),
        "passage": ("passage", "passage"),
        "paired": ("query", "passage"),
    }.items():
        found = layers_of(model, data, mode)
        np.testing.assert_allclose(found.queries, of[q][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.passages, of[p][1], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="mode must be one of query, passage, paired"):
        layers_of(model, data, "both")


# ---- probes --------------------------------------------------------------------------------------


def test_every_layer_probe_number_and_control_is_asked():
    rows, samples = drawn()
    train, held = samples.split(0.25)
    found = probe_layers("m", rows, train, held, probes=("concatenation", "dot product"), **FEW)
    keys = [(r.layer, r.probe, r.n_candidates, r.control) for r in found]
    assert len(set(keys)) == len(keys) == 2 * 2 * 2 * 3
    assert {len(r.correct) for r in found} == {len(held.queries)}


def test_a_mark_is_found_where_it_is_and_no_label_at_random():
    rows, samples = drawn(n=400)
    train, held = samples.split(0.25)
    found = probe_layers("m", rows, train, held, n_candidates=(2,), epochs=60)
    accuracy = {(r.layer, r.control): r.accuracy[0] for r in found}
    assert accuracy[1, "none"] > 0.9
    assert accuracy[1, "queries shuffled"] > 0.9  # a mark needs no query
    assert accuracy[0, "none"] < 0.65
    assert accuracy[1, "labels random"] < 0.65


def test_a_passage_has_one_random_label_for_all():
    rows, samples = drawn(n=60)
    same = Candidates(samples.queries, np.tile(samples.passages[0], (60, 1)))
    found = probe_layers(
        "m",
        rows,
        same.take(slice(0, 40)),
        same.take(slice(40, 60)),
        controls=("labels random",),
        n_candidates=(2,),
        epochs=60,
    )
    assert found[0].accuracy[0] > 0.9  # five passages can be learned by heart


def test_results_stand_beside_the_bases():
    rows, samples = drawn()
    train, held = samples.split(0.25)
    base, other = (
        probe_layers(name, rows, train, held, controls=("none",), seed=seed, **FEW)
        for name, seed in (("base", 1), ("other", 2))
    )
    table = against_base(other, base)
    assert [row["layer"] for row in table] == [0, 0, 1, 1]
    for row, mine, theirs in zip(table, other, base, strict=True):
        assert row["accuracy"] == pytest.approx(mine.correct.mean())
        assert row["base"] == pytest.approx(theirs.correct.mean())
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert 0 <= row["mcnemar"] <= 1
    assert all(row["t_test"] == 1 for row in against_base(base, base))
    with pytest.raises(ValueError, match="the base has no probe of layer 1"):
        against_base(other, base[:2])


def test_an_unknown_control_is_refused():
    rows, samples = drawn()
    with pytest.raises(ValueError, match="controls must be of none, queries shuffled, labels"):
        probe_layers("m", rows, samples, samples, controls=("other",), **FEW)
