"""Knocking out neurons: rankings and words in gaps against models edited by hand."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import (
    cloze_effect,
    random_neurons,
    retrieval_effect,
    strongest,
    top_texts,
)
from tilefold.models import Encoder

pytestmark = pytest.mark.usefixtures("one_thread")
NEURONS = frozenset({(0, 3), (1, 0), (1, 47)})
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2", "who of w4", "w8 w9 w10 w11 w12"]


@pytest.fixture(scope="module")
def encoder(tiny_bert, stirred) -> Encoder:
    return stirred(Encoder.from_pretrained(tiny_bert))


def without(model, neurons, prefix=""):
    """The model with what these neurons write set to zero."""
    edited = copy.deepcopy(model)
    for layer, place in neurons:
        dense = edited.get_submodule(f"{prefix}encoder.layer.{layer}.output.dense")
        dense.weight.data[:, place] = 0
    return edited


def test_rankings_are_those_of_a_model_without_the_neurons(encoder):
    documents = np.random.default_rng(0).standard_normal((30, encoder.dim)).astype(np.float32)
    qrels = (np.arange(6), np.array([3, 9, 1, 4, 20]), np.ones(5))
    edited = encoder.with_options()
    edited.model = without(encoder.model, NEURONS)
    for neurons, factor, judge in ((NEURONS, 0.0, edited), ((), 1.0, encoder)):
        found = retrieval_effect(encoder, TEXTS, documents, qrels, neurons, factor)
        ids = np.argsort(-(judge.encode(TEXTS, progress=False) @ documents.T), axis=1)
        ranks = [
            int(np.flatnonzero(row == gold)[0]) for row, gold in zip(ids, qrels[1], strict=True)
        ]
        assert found["RR@10"] == pytest.approx([1 / (r + 1) if r < 10 else 0 for r in ranks])
        assert found["R@10"] == pytest.approx([float(r < 10) for r in ranks])


def test_words_in_gaps_are_those_of_a_model_without_the_neurons(tiny_bert, stirred):
    torch.manual_seed(1)
    config = transformers.AutoConfig.from_pretrained(tiny_bert)
    model = stirred(transformers.BertForMaskedLM(config))
    ids = torch.randint(5, 100, (3, 7), generator=torch.Generator().manual_seed(2))
    ids[[0, 1, 2], [2, 4, 6]] = 4
    tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    answers = torch.tensor([10, 20, 30])

    def right(model):
        with torch.no_grad():
            probabilities = model(**tokens).logits[ids == 4].softmax(1)
        return probabilities[torch.arange(3), answers].double().numpy()

    found = cloze_effect(model, tokens, answers, NEURONS, 0.0, mask_token=4, seed=5)
    assert np.array_equal(found.before, right(model))
    assert found.after == pytest.approx(right(without(model, NEURONS, "bert.")), rel=1e-4)
    others = random_neurons(model, NEURONS, seed=5)
    assert found.random == pytest.approx(right(without(model, others, "bert.")), rel=1e-4)
    assert not np.allclose(found.after, found.before, rtol=1e-3)


def test_others_are_as_many_of_the_same_layers(encoder):
    others = random_neurons(encoder, NEURONS, seed=1)
    assert not others & NEURONS
    assert sorted(layer for layer, _ in others) == [0, 1, 1]
    assert others == random_neurons(encoder, NEURONS, seed=1)
    assert others != random_neurons(encoder, NEURONS, seed=2)
    one, other = (random_neurons(encoder, NEURONS, seed=[1, fact]) for fact in (5, 6))
    assert one != other
    most = [(0, place) for place in range(30)]
    with pytest.raises(ValueError, match="layer 0 has only 18 others"):
        random_neurons(encoder, most)
    with pytest.raises(ValueError, match="layer 9 has only 0 others"):
        random_neurons(encoder, [(9, 0)])


def test_the_strongest_are_so_on_average():
    values = np.zeros((2, 2, 3))
    values[0, 1, 2], values[1, 0, 0] = 5, 4
    assert strongest(values, 1) == {(1, 2)}
    assert strongest(values, 2) == {(1, 2), (0, 0)}


@pytest.mark.parametrize("shape", [(3, 4), (1, 2, 3, 4), (0, 3, 4)])
def test_attribution_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \[texts, layers, neurons\] with at least one"):
        strongest(np.zeros(shape), 1)


@pytest.mark.parametrize("n", ["2", None, 2.0, True])
def test_a_number_of_neurons_is_an_integer(n):
    with pytest.raises(TypeError, match="strongest: n must be an integer, got"):
        strongest(np.zeros((1, 2, 3)), n)


@pytest.mark.parametrize("n", [-1, 7])
def test_more_neurons_than_there_are_are_refused(n: int):
    with pytest.raises(ValueError, match=f"n must be 0 to 6, the number of neurons, got {n}"):
        strongest(np.zeros((2, 2, 3)), n)


def test_top_texts_are_those_of_a_loop(encoder):
    neurons = [(1, 5), (0, 0), (1, 6)]
    found = top_texts(encoder, TEXTS, neurons, top=2, batch_size=2, progress=False)
    assert list(found) == neurons
    for layer, place in neurons:
        most = []
        for text in TEXTS:
            seen = []
            output = encoder.model.encoder.layer[layer].output.dense
            hook = output.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            encoder.encode([text], progress=False)
            hook.remove()
            most.append(float(seen[0][0, :, place].max()))
        order = np.argsort(most)[::-1][:2]
        assert [hit.text for hit in found[layer, place]] == order.tolist()
        values = [hit.activation for hit in found[layer, place]]
        assert values == pytest.approx([most[i] for i in order], rel=1e-3)
    with pytest.raises(ValueError, match="no neuron 48 in layer 0"):
        top_texts(encoder, TEXTS, [(0, 48)])
