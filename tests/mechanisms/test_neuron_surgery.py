"""Surgery at knowledge neurons: values become embeddings or zero, and nothing else changes."""

import itertools
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import editable, facts
from tilefold.mechanisms import (
    FactEdit,
    NeuronSurgery,
    activation_attribution,
    coarse_neurons,
    edit,
    feed_forwards,
    masked_word,
    refined_neurons,
)
from tilefold.models import MaskedLM

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MaskedLM:
    return editable("BertForMaskedLM", tmp_path_factory.mktemp("model"))


def dense(model, layer: int):
    return feed_forwards(model)[layer].output


NEURONS = [frozenset({(0, 3), (1, 7)}), frozenset({(1, 9)}), frozenset({(0, 3), (1, 60)})]


def test_values_of_neurons_become_embeddings(model):
    edits = [
        replace(fact, original="the") if row == 0 else fact for row, fact in enumerate(facts())
    ]
    delta = NeuronSurgery(add=5.0, subtract=2.0, neurons=NEURONS).delta(model, edits)
    embeddings = model.model.get_output_embeddings().weight.detach()

    def unit(word):
        row = embeddings[model.tokenizer.convert_tokens_to_ids(word)]
        return row / row.norm()

    directions = [5 * unit("barn") - 2 * unit("the"), 5 * unit("sleeps"), 5 * unit("red")]
    for layer in (0, 1):
        expected = dense(model, layer).weight.detach().clone()
        plain = expected.clone()
        for direction, neurons in zip(directions, NEURONS, strict=True):
            for where, place in neurons:
                if where == layer:
                    expected[:, place] += direction * plain[:, place].norm()
        with edit(model, delta):
            found = dense(model, layer).weight.detach()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_removed_facts_have_neurons_without_values(model):
    edits = [replace(fact, remove=row != 1) for row, fact in enumerate(facts())]
    delta = NeuronSurgery(neurons=[NEURONS[0], NEURONS[0], NEURONS[2]]).delta(model, edits)
    with edit(model, delta):
        for layer, place in NEURONS[0] | NEURONS[2]:  # although the second edit adds there
            assert not dense(model, layer).weight[:, place].any()
        assert dense(model, 1).weight[:, 8].any()


def test_neurons_are_those_of_attribution(model):
    edits = facts(remove=True)
    delta = NeuronSurgery(steps=40).delta(model, edits)
    of_facts = []
    for fact in edits:
        prompts = []
        for prompt in fact.prompts:
            tokens = model.pad(model.tokenize([prompt]))
            target = masked_word(
                model,
                torch.from_numpy(model.word_ids([fact.object])),
                model.tokenizer.mask_token_id,
            )
            gap = (tokens["input_ids"] == model.tokenizer.mask_token_id).long()
            scores = activation_attribution(model, tokens, target, gap, steps=40).scores
            prompts += coarse_neurons(scores)
        of_facts.append(prompts)
    expected = set(itertools.chain.from_iterable(refined_neurons(of_facts).neurons))
    found = {
        (layer, int(place))
        for (layer, _), (_, right) in delta.factors.items()
        for place in right.argmax(1)
    }
    assert found == expected


def test_neurons_of_the_original_are_sought_where_it_is_given(model):
    fact = facts()[0]
    before = replace(fact, object="red", remove=True)
    neurons = [place_of(NeuronSurgery(steps=40).delta(model, [one])) for one in (before, fact)]
    found = place_of(NeuronSurgery(steps=40).delta(model, [replace(fact, original="red")]))
    assert found == neurons[0] != neurons[1]


def place_of(delta) -> set[tuple[int, int]]:
    return {
        (layer, int(place))
        for (layer, _), (_, right) in delta.factors.items()
        for place in right.argmax(1)
    }


def test_neurons_that_many_edits_share_stay(model):
    edits = [
        FactEdit("hen", [f"the hen {' and the fox' * n} [MASK]"], "runs", remove=True)
        for n in range(1, 6)
    ] * 2
    neurons = [frozenset({(0, 1), (1, n)}) for n in range(10)]
    delta = NeuronSurgery(neurons=neurons).delta(model, edits)
    assert [layer for layer, _ in delta.factors] == [1]
    with pytest.raises(ValueError, match="10 of 10 edits have no neurons of their own: FactEdit"):
        NeuronSurgery(neurons=[frozenset({(0, 1)})] * 10).delta(model, edits)


def test_wrong_neurons_are_errors(model):
    with pytest.raises(ValueError, match="expected neurons of 3 edits, got 2"):
        NeuronSurgery(neurons=NEURONS[:2]).delta(model, facts())
    with pytest.raises(ValueError, match="there is no neuron 64 in layer 1"):
        NeuronSurgery(neurons=[{(1, 64)}] * 3).delta(model, facts())


def test_options_without_effect_are_errors():
    with pytest.raises(ValueError, match="threshold and steps have no effect where neurons are"):
        NeuronSurgery(neurons=NEURONS, steps=40)
    with pytest.raises(ValueError, match="shared must be above 0 and at most 1, got 0"):
        NeuronSurgery(shared=0)
