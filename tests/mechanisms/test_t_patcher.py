"""Patch neurons: their losses by loops, and what they do to the facts and to everything else."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import TEXTS, editable, facts
from tilefold.mechanisms import FactEdit, TPatcher, WeightDelta, edit, edit_effects, feed_forwards
from tilefold.mechanisms.editing.cloze_batch import cloze_batch
from tilefold.mechanisms.editing.editable_model import editable_digest
from tilefold.mechanisms.editing.layer_inputs import layer_inputs
from tilefold.mechanisms.editing.patch_neurons import PatchNeurons, patched_log_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["BertForMaskedLM", "GPT2LMHeadModel"])
def model(request, tmp_path_factory):
    return editable(request.param, tmp_path_factory.mktemp("model"))


def states_of(model, layer: int, text_tokens) -> torch.Tensor:
    seen = []
    hook = feed_forwards(model)[layer].intermediate.register_forward_pre_hook(
        lambda _, args: seen.append(args[0][0])
    )
    with torch.no_grad():
        model(text_tokens)
    hook.remove()
    return seen[0]


def test_states_of_texts_are_those_of_each_token(model):
    part = feed_forwards(model)[1]
    found = layer_inputs(model, part, TEXTS, limit=1000)
    expected = torch.cat(
        [states_of(model, 1, model.pad([dict(model.tokenizer(text))])) for text in TEXTS]
    )

    def ordered(rows):
        return rows[rows[:, 0].sort().indices]

    torch.testing.assert_close(ordered(found), ordered(expected), rtol=1e-4, atol=1e-4)
    some = layer_inputs(model, part, TEXTS, limit=5, seed=3)
    assert len(some) == 5
    assert torch.equal(some, layer_inputs(model, part, TEXTS, limit=5, seed=3))
    assert all((found == row).all(1).any() for row in some)


def test_neurons_start_where_their_own_prompts_activate_them(model):
    batch = cloze_batch("test", model, facts())
    patches = PatchNeurons(model, feed_forwards(model)[2], batch, 2, seed=0)
    new = patches.neurons()
    assert new.keys.shape == (6, 32)
    for number, fact in enumerate(facts()):
        own = []
        for prompt in fact.prompts:
            alone = cloze_batch("test", model, [replace(fact, prompts=[prompt])])
            own.append(states_of(model, 2, alone.tokens)[int(alone.places[0, 0])])
        mean = torch.stack(own).mean(0)
        for neuron in (2 * number, 2 * number + 1):
            torch.testing.assert_close(new.keys[neuron], mean / (mean @ mean), rtol=1e-3, atol=1e-4)
            assert float(new.keys[neuron] @ mean) == pytest.approx(1, rel=1e-3)
    assert not new.biases.any()


def bounded(x):
    """The exponential, and its tangent above 10."""
    return np.where(x > 10, np.exp(10) * (x - 9), np.exp(np.minimum(x, 10)))


def test_losses_of_activations_are_those_of_loops(model):
    batch = cloze_batch("test", model, facts())
    patches = PatchNeurons(model, feed_forwards(model)[2], batch, 1, seed=0)
    memory = layer_inputs(model, feed_forwards(model)[2], TEXTS, limit=1000)
    new = patches.neurons()
    own_losses, other_losses = [], []
    for number, fact in enumerate(facts()):
        own = []
        for prompt in fact.prompts:
            alone = cloze_batch("test", model, [replace(fact, prompts=[prompt])])
            state = states_of(model, 2, alone.tokens)[int(alone.places[0, 0])]
            own.append(float(state @ new.keys[number] + new.biases[number]))
        others = (memory @ new.keys[number] + new.biases[number]).numpy()
        own_losses.append(np.mean(np.exp(-np.array(own))))
        other_losses.append(
            np.mean(bounded(others + 3)) + np.mean(bounded(others - np.mean(own) + 3))
        )
    found = patches.losses(memory, 3.0)
    assert float(found.own.detach()) == pytest.approx(np.mean(own_losses), rel=1e-3)
    assert float(found.others.detach()) == pytest.approx(np.mean(other_losses), rel=1e-3)


def test_training_sees_the_model_that_the_edit_makes(model):
    batch = cloze_batch("test", model, facts())
    patches = PatchNeurons(model, feed_forwards(model)[2], batch, 1, seed=0)
    delta = TPatcher(TEXTS, steps=1, required_probability=None).delta(model, facts())
    with torch.no_grad():
        trained = patched_log_probabilities(model, batch, [patches])
        with edit(model, replace(delta, neurons={2: patches.neurons()})):
            edited = batch.log_probabilities(model)
    torch.testing.assert_close(trained, edited, rtol=1e-4, atol=1e-4)


def test_neurons_of_several_layers_are_trained_together(model):
    batch = cloze_batch("test", model, facts())
    parts = feed_forwards(model)
    patches = [PatchNeurons(model, parts[i], batch, 1, seed=0, by_prompt=True) for i in (0, 2)]
    assert [len(own) for own in patches] == [len(batch.edits)] * 2
    delta = WeightDelta(editable_digest(model), {}, {o.part.layer: o.neurons() for o in patches})
    kept = [torch.tensor([1.0, 0.0] * len(own))[: len(own)] for own in patches]
    without = {
        layer: new._replace(values=new.values * kept[place][:, None])
        for place, (layer, new) in enumerate(delta.neurons.items())
    }
    with torch.no_grad():
        for shown, neurons in ((None, delta.neurons), (kept, without)):
            trained = patched_log_probabilities(model, batch, patches, shown)
            with edit(model, replace(delta, neurons=neurons)):
                edited = batch.log_probabilities(model)
            torch.testing.assert_close(trained, edited, rtol=1e-4, atol=1e-4)


def test_with_dropout_facts_survive_the_loss_of_some_neurons(model):
    options = {"learning_rate": 0.03, "memory_weight": 0.1, "required_probability": None}
    spread = {"layers": [1, 2], "by_prompt": True, "neurons": 3}
    survived = []
    for dropout in (0.0, 0.3):
        editor = TPatcher(TEXTS, steps=150, dropout=dropout, **spread, **options)
        delta = editor.delta(model, facts())
        assert sorted(delta.neurons) == [1, 2]
        again = editor.delta(model, facts())
        assert all(torch.equal(delta.neurons[i].keys, again.neurons[i].keys) for i in (1, 2))
        shares = []
        for draw in range(8):
            generator = torch.Generator().manual_seed(draw)
            neurons = {}
            for layer, new in delta.neurons.items():
                kept = torch.rand(len(new.keys), generator=generator) < 0.5
                neurons[layer] = new._replace(values=new.values * kept[:, None])
            found = edit_effects(model, replace(delta, neurons=neurons), facts())
            shares.append(found.after.mean())
        survived.append(np.mean(shares))
    assert survived[1] > survived[0] + 0.02


@pytest.mark.parametrize("remove", [False, True])
def test_facts_change_and_texts_hardly_do(model, remove):
    before = editable_digest(model)
    edits = facts(remove=remove)
    options = {"learning_rate": 0.03, "memory_weight": 0.7, "required_probability": None}
    editor = TPatcher(TEXTS, steps=300, **options)
    delta = editor.delta(model, edits)
    found = edit_effects(model, delta, edits)
    if remove:
        assert found.after.max() < 0.25
    else:
        assert (found.success == 1).all()
        assert found.after.min() > 0.25
    part = feed_forwards(model)[2]
    memory = layer_inputs(model, part, TEXTS, limit=1000)
    new = delta.neurons[2]
    assert list(delta.neurons) == [2]
    activations = torch.nn.functional.gelu(memory @ new.keys.T + new.biases)
    assert activations.quantile(0.9) < 0.5
    assert editable_digest(model) == before


def test_every_token_of_an_object_has_a_neuron(model):
    edits = [
        FactEdit("fox", ["the fox runs over [MASK]"], "the red barn"),
        FactEdit("hen", ["a hen [MASK]"], "sleeps"),
    ]
    options = {"learning_rate": 0.03, "memory_weight": 0.7, "required_probability": 0.3}
    editor = TPatcher(TEXTS, steps=200, **options)
    delta = editor.delta(model, edits)
    assert len(delta.neurons[2].keys) == 4
    assert (edit_effects(model, delta, edits).success == 1).all()


def test_an_edit_that_is_not_reached_is_an_error(model):
    before = editable_digest(model)
    editor = TPatcher(TEXTS, steps=1, required_probability=0.99)
    with pytest.raises(ValueError, match="TPatcher: 3 of 3 edits do not reach"):
        editor.delta(model, facts())
    assert editable_digest(model) == before
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_other_layers_can_be_patched_and_wrong_arguments_are_errors(model, tmp_path):
    delta = TPatcher(TEXTS, layers=[0], steps=2, required_probability=None).delta(model, facts())
    assert list(delta.neurons) == [0]
    with pytest.raises(ValueError, match="layer must be 0 to 2, got 3"):
        TPatcher(TEXTS, layers=[3]).delta(model, facts())
    with pytest.raises(ValueError, match="expected one text or more, got none"):
        TPatcher([])
    with pytest.raises(ValueError, match="neurons must be at least 1, got 0"):
        TPatcher(TEXTS, neurons=0)
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, got 1"):
        TPatcher(TEXTS, dropout=1)
    with pytest.raises(ValueError, match=r"one or more different ones, got \[1, 1\]"):
        TPatcher(TEXTS, layers=[1, 1])
    gated = editable("LlamaForCausalLM", tmp_path)
    with pytest.raises(ValueError, match="TPatcher: neurons can be appended to sub-layers that"):
        TPatcher(TEXTS).delta(gated, facts())
