"""Knowledge neurons: sets against loops, scalars against formulas, and what scaling them does."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms.neurons.decentralisation import (
    active_counts,
    decentralisation,
    pathway_overlap,
)
from tilefold.mechanisms.neurons.knowledge_neurons import (
    coarse_neurons,
    refined_neurons,
    relation_neurons,
    scaled_neurons,
)
from tilefold.models import Encoder

pytestmark = pytest.mark.usefixtures("one_thread")


def attribution(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) ** 3


# ---- sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.05, 0.2, 1.0])
def test_coarse_neurons_reach_a_share_of_the_largest(threshold):
    values = attribution(6, 3, 20)
    for found, one in zip(coarse_neurons(values, threshold=threshold), values, strict=True):
        truth = {
            (layer, place)
            for layer in range(3)
            for place in range(20)
            if one[layer, place] >= threshold * one.max()
        }
        assert found == truth


def test_nothing_positive_is_nobodys_merit():
    assert coarse_neurons(-np.ones((1, 2, 3))) == [frozenset()]


def test_refined_neurons_are_in_most_prompts():
    prompts = [frozenset({(0, 0)} | ({(1, i)} if i else set())) for i in range(5)]
    assert refined_neurons([prompts], between=(1, 5)).neurons == [frozenset({(0, 0)})]
    often = [frozenset({(0, 0), (0, 1)})] * 3 + [frozenset({(0, 0)})] * 2
    assert refined_neurons([often], share=0.7, between=(1, 5)).neurons == [frozenset({(0, 0)})]
    assert refined_neurons([often], share=0.6, between=(1, 5)).neurons == [
        frozenset({(0, 0), (0, 1)})
    ]


def test_the_share_moves_until_facts_have_as_many_as_wanted():
    # neuron i is in 10 - i of 10 prompts: the lower the share, the more of them
    prompts = [frozenset((0, i) for i in range(10) if prompt < 10 - i) for prompt in range(10)]
    few = refined_neurons([prompts], share=1.0)
    assert few.share == pytest.approx(0.9)
    assert len(few.neurons[0]) == 2
    many = refined_neurons([prompts], share=0.3)
    assert many.share == pytest.approx(0.55)
    assert len(many.neurons[0]) == 5
    assert refined_neurons([prompts], share=0.3, rounds=1).share == pytest.approx(0.35)


def test_neurons_in_too_few_prompts_are_left_out():
    prompts = [frozenset({(0, 0)}), frozenset({(0, 0)}), frozenset({(0, 1)}), frozenset()]
    assert refined_neurons([prompts], share=0.5, rounds=0).neurons == [frozenset()]
    found = refined_neurons([prompts], share=0.5, min_prompts=2, rounds=0)
    assert found.neurons == [frozenset({(0, 0)})]


def test_a_relation_has_what_many_of_its_facts_have():
    facts = [frozenset({(0, 0), (i, 1)}) for i in range(12)]
    assert relation_neurons(facts) == frozenset({(0, 0)})
    assert relation_neurons(facts, share=0.05) == frozenset().union(*facts)


# ---- scalars -------------------------------------------------------------------------------------


def test_scalars_are_their_formulas():
    values = np.abs(attribution(5, 4, 30))
    found = decentralisation(values, threshold=0.1)
    for row, one in enumerate(values.reshape(5, -1)):
        shares = one / one.sum()
        assert found.active[row] == (one > 0.1 * one.max()).sum()
        assert found.effective[row] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
        pairs = np.abs(one[:, None] - one).sum() / (2 * len(one) ** 2 * one.mean())
        assert found.gini[row] == pytest.approx(pairs)


def test_where_nothing_is_attributed_nothing_is_active():
    found = decentralisation(np.array([[0.0, 0.0], [-1.0, 2.0]]))
    assert found.active.tolist() == [0, 1]
    assert found.effective.tolist() == [0.0, 1.0]
    assert np.isnan(found.gini[0])


def test_counts_of_parts_add_up():
    values = np.abs(attribution(9, 2, 7))
    thresholds = (0.01, 0.1, 0.3)
    whole = active_counts(values, thresholds)
    assert whole.shape == (3, 2, 7)
    np.testing.assert_array_equal(
        whole, active_counts(values[:4], thresholds) + active_counts(values[4:], thresholds)
    )


def test_paraphrases_are_compared_two_by_two():
    assert pathway_overlap([{(0, 1)}, {(0, 1)}]) == 1
    assert pathway_overlap([{(0, 1)}, {(0, 2)}]) == 0
    assert math.isnan(pathway_overlap([{(0, 1)}]))
    assert math.isnan(pathway_overlap([set(), set()]))


# ---- knocked out ---------------------------------------------------------------------------------


def test_a_neuron_that_is_knocked_out_writes_nothing(tiny_bert):
    encoder = Encoder.from_pretrained(tiny_bert).eval()
    texts = ["who is w3", "w5 of w7"]
    before = encoder.encode(texts, progress=False)
    with scaled_neurons(encoder, {(1, 4), (0, 7), (1, 9)}, 0.0):
        found = encoder.encode(texts, progress=False)
    again = Encoder.from_pretrained(tiny_bert).eval()
    with torch.no_grad():
        for layer, place in ((1, 4), (0, 7), (1, 9)):
            again.model.encoder.layer[layer].output.dense.weight[:, place] = 0
    np.testing.assert_allclose(found, again.encode(texts, progress=False), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, before)
    with scaled_neurons(encoder, {(1, 4)}, 1.0):
        np.testing.assert_array_equal(encoder.encode(texts, progress=False), before)
    np.testing.assert_array_equal(encoder.encode(texts, progress=False), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coarse_neurons(attribution(1, 1, 2), threshold=0), "threshold must be above 0"),
        (lambda: refined_neurons([[]]), "fact 0 has no prompts"),
        (lambda: refined_neurons([], share=1.5), "share must be above 0 and at most 1, got 1.5"),
        (lambda: decentralisation(np.ones((2, 0))), "expected neurons, got none"),
        (lambda: decentralisation(np.ones((2, 3)), threshold=2), "threshold must be 0 to 1, got 2"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("neuron", [(2, 0), (0, 48), (-1, 0)])
def test_a_neuron_that_is_not_there_is_named(tiny_bert, neuron):
    encoder = Encoder.from_pretrained(tiny_bert)
    with (
        pytest.raises(ValueError, match=f"no neuron {neuron[1]} in layer {neuron[0]}"),
        scaled_neurons(encoder, [neuron], 0.0),
    ):
        pass
