"""Neurons and layers mapped to passages: codes by loops, the head, and knock-outs of links."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")
scipy_sparse = pytest.importorskip("scipy.sparse", reason="pip install tilefold[analysis]")

from tilefold.mechanisms import KnowledgeHead, NeuronCodes, feed_forwards, link_effects, neuron_rows
from tilefold.mechanisms.maps import neuron_codes
from tilefold.mechanisms.maps.neuron_codes import largest_values
from tilefold.mechanisms.maps.neuron_links import _linked_and_unlinked
from tilefold.models import minilm
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["Cats sleep a lot.", "The invoice is due.", "", "It rains in the north of the country."]


@pytest.fixture(scope="module")
def encoder():
    return minilm()


def test_rows_are_those_of_each_text_alone(encoder):
    parts = feed_forwards(encoder)
    found = {pooling: neuron_rows(encoder, TEXTS, pooling=pooling) for pooling in ("max", "cls")}
    for row, text in enumerate(TEXTS):
        seen = []
        hooks = [
            part.output.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            for part in parts
        ]
        encoder.encode([text], progress=False)
        for hook in hooks:
            hook.remove()
        for pooling, one in (("max", lambda x: x[0].max(0).values), ("cls", lambda x: x[0, 0])):
            expected = torch.cat([one(x) for x in seen]).numpy()
            np.testing.assert_allclose(found[pooling][row], expected, rtol=1e-4, atol=1e-4)
    some = neuron_rows(encoder, TEXTS, layers=[4, 1])
    width = parts[0].neurons
    for place, layer in enumerate((4, 1)):
        ours = some[:, place * width : (place + 1) * width]
        np.testing.assert_array_equal(ours, found["max"][:, layer * width : (layer + 1) * width])


def test_the_largest_values_of_a_row_are_those_of_a_sort():
    rng = np.random.default_rng(0)
    rows = rng.integers(-3, 4, (40, 9)).astype(np.float32)  # many ties
    for n in (1, 3, 9, 20):
        found = largest_values(rows, n)
        assert found.has_sorted_indices
        for row, dense in zip(rows, found.toarray(), strict=True):
            order = sorted(range(9), key=lambda i: (-row[i], i))[:n]
            expected = np.zeros(9, np.float32)
            for i in order:
                expected[i] = max(row[i], 0)
            np.testing.assert_array_equal(dense, expected)


def test_codes_count_deviations_from_the_mean(encoder):
    codes = NeuronCodes.fit(encoder, TEXTS, n=50, layers=[5])
    rows = neuron_rows(encoder, TEXTS, layers=[5])
    found = codes.encode(TEXTS).toarray()
    again, same = NeuronCodes.fit_encode(encoder, TEXTS, n=50, layers=[5])
    np.testing.assert_array_equal(same.toarray(), found)
    np.testing.assert_array_equal(again.deviation, codes.deviation)
    expected = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-6)
    kept = found > 0
    assert (kept.sum(1) <= 50).all()
    np.testing.assert_allclose(found[kept], expected[kept], rtol=1e-3, atol=1e-3)
    for row in range(len(TEXTS)):
        assert expected[row][~kept[row]].max() <= expected[row][kept[row]].min() + 1e-3


def test_a_head_finds_entries_that_a_linear_map_reaches():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((200, 12)).astype(np.float32) * 5 + 3
    entries = rng.standard_normal((40, 6)).astype(np.float32)
    truth = rng.standard_normal((12, 6)).astype(np.float32)
    scores = (states - 3) / 5 @ truth @ entries.T
    best = scores.argmax(1)
    head = KnowledgeHead.fit(
        states[:150], entries, Lists.pack([[i] for i in best[:150].tolist()]), epochs=200
    )
    ranked = (head.project(states[150:]) @ entries.T).argmax(1)
    assert (ranked == best[150:]).mean() > 0.6  # chance is 1 in 40
    again = KnowledgeHead.fit(
        states[:150], entries, Lists.pack([[i] for i in best[:150].tolist()]), epochs=200
    )
    np.testing.assert_array_equal(head.weight, again.weight)


def test_a_saved_head_is_the_same_head(tmp_path):
    rng = np.random.default_rng(1)
    states, entries = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 4), (5, 3)))
    head = KnowledgeHead.fit(states, entries, Lists.pack([[0, 1]] * 9), epochs=2)
    head.save(tmp_path / "head.safetensors")
    loaded = KnowledgeHead.load(tmp_path / "head.safetensors")
    np.testing.assert_array_equal(loaded.project(states), head.project(states))


def test_wrong_arguments_of_a_head_are_errors():
    x = np.zeros((3, 4), np.float32)
    lists = Lists.pack([[0]] * 3)
    for arguments, message in (
        ((x, x, Lists.pack([[0]] * 2)), "expected positives of 3 texts, got 2"),
        ((x, x, Lists.pack([[0], [], [1]])), "every text must have an entry"),
        ((x, x, Lists.pack([[0], [3], [1]])), "positives must be 0 to 2"),
        ((x[:0], x, lists), "states must be float32"),
        ((x, x.astype(np.float64), lists), "entries must be float32"),
    ):
        with pytest.raises(ValueError, match=message):
            KnowledgeHead.fit(*arguments)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        KnowledgeHead.fit(x, x, lists, epochs=0)
    with pytest.raises(ValueError, match=r"states must be \[n, 4\], got \[3, 2\]"):
        KnowledgeHead.fit(x, x, lists, epochs=1).project(x[:, :2])


def test_links_are_knocked_out_and_the_encoder_stays_as_it_is(encoder):
    passages = [TEXTS[0], TEXTS[1], TEXTS[3], "Dogs bark."]
    documents = encoder.encode(passages, progress=False)
    codes = NeuronCodes.fit(encoder, passages, n=200)
    queries = ["a sleeping cat", "unpaid invoices"]
    own, theirs = codes.encode(queries), codes.encode(passages)
    found = link_effects(encoder, queries, documents, [0, 1], own, theirs, n=16)
    assert found.linked.shape == found.unlinked.shape == (2,)
    assert (found.linked != 0).all()
    np.testing.assert_array_equal(encoder.encode(passages, progress=False), documents)
    again = link_effects(encoder, queries, documents, [0, 1], own, theirs, n=16)
    np.testing.assert_array_equal(found.unlinked, again.unlinked)
    none = link_effects(encoder, queries, documents, [0, 1], own * 0, theirs, n=16)
    assert np.isnan(none.linked).all()
    assert np.isnan(none.unlinked).all()
    with pytest.raises(ValueError, match="expected 2 passages, got 1"):
        link_effects(encoder, queries, documents, [0], own, theirs)
    with pytest.raises(ValueError, match=r"query_codes must be \[2, 9216\], got \[2, 5\]"):
        link_effects(encoder, queries, documents, [0, 1], own[:, :5], theirs)


def test_the_control_of_a_link_is_as_active_and_not_linked():
    rng = np.random.default_rng(0)
    for _ in range(50):
        asked, stated = (np.maximum(rng.normal(0, 1, 40), 0) for _ in range(2))
        linked, unlinked = _linked_and_unlinked(asked, stated, 5)
        assert len(linked) == len(set(unlinked)) == len(unlinked)
        assert (asked[linked] * stated[linked] > 0).all()
        assert (asked[unlinked] > 0).all()
        assert not stated[unlinked].any()
        products = asked * stated
        assert set(linked) <= set(np.argsort(-products)[:5].tolist())
        apart = np.abs(asked[unlinked[:1]] - asked[linked[:1]])
        free = (asked > 0) & (stated == 0)
        assert apart == np.abs(asked[free] - asked[linked[0]]).min()


def test_neurons_that_do_not_vary_count_nowhere(encoder, monkeypatch):
    rows = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]], np.float32)
    monkeypatch.setattr(neuron_codes, "neuron_rows", lambda *_, **__: rows.copy())
    codes = NeuronCodes.fit(encoder, ["a", "b"], n=3)
    rows += np.float32([0.5, 0.5, 0])
    assert codes.encode(["a", "b"]).toarray()[:, :2].tolist() == [[0, 0], [0, 0]]
    states = np.concatenate([np.ones((4, 1)), np.eye(4)], 1).astype(np.float32)
    head = KnowledgeHead.fit(states, np.eye(4, dtype=np.float32), Lists.pack([[0]] * 4), epochs=2)
    assert not head.weight[0].any()


def test_wrong_arguments_of_codes_are_errors(encoder):
    with pytest.raises(ValueError, match="pooling must be max, mean or cls, got 'last'"):
        neuron_rows(encoder, TEXTS, pooling="last")
    with pytest.raises(ValueError, match=r"layers must be 0 to 5, one or more, got \[6\]"):
        neuron_rows(encoder, TEXTS, layers=[6])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        NeuronCodes.fit(encoder, TEXTS, n=0)
    with pytest.raises(ValueError, match="expected two or more texts, got 1"):
        NeuronCodes.fit(encoder, TEXTS[:1])
