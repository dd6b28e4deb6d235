"""Edits of weights: applied and undone to the bit, kept in files, refused for other models."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from editable_models import TEXTS, editable
from tilefold.files.tensors import CorruptedFolderError
from tilefold.mechanisms import WeightDelta, edit, feed_forwards
from tilefold.mechanisms.editing.editable_model import editable_digest
from tilefold.mechanisms.editing.weight_delta import Factors, NewNeurons, smallest
from tilefold.models import Encoder, MaskedLM
from tiny_families import build_family
from tiny_language_models import save

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["the [MASK] fox", "a hen runs over the [MASK]"]


@pytest.fixture
def model(tmp_path) -> MaskedLM:
    return editable("BertForMaskedLM", tmp_path / "bert")


def changes(model, *, neurons: bool = False) -> WeightDelta:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / 4

    factors = {
        (0, "intermediate"): Factors(drawn(64, 2), drawn(2, 32)),
        (1, "output"): Factors(drawn(32, 1), drawn(1, 64)),
    }
    new = {1: NewNeurons(drawn(3, 32), drawn(3), drawn(3, 32))} if neurons else {}
    return WeightDelta(editable_digest(model), factors, new)


def by_hand(model, delta):
    """A copy of the model with the weights changed in place."""
    edited = copy.deepcopy(model)
    for (layer, sub_layer), (left, right) in delta.factors.items():
        getattr(feed_forwards(edited)[layer], sub_layer).weight.data += left @ right
    return edited


def state(model) -> dict[str, bytes]:
    return {name: x.numpy().tobytes() for name, x in model.state_dict().items()}


def test_an_edit_changes_the_weights_inside_the_block_alone(model):
    delta, before = changes(model), state(model)
    tensors = {name: id(x) for name, x in model.named_parameters()}
    plain = model.logits(PROMPTS)
    with edit(model, delta):
        inside = model.logits(PROMPTS)
    np.testing.assert_allclose(inside, by_hand(model, delta).logits(PROMPTS), rtol=1e-4, atol=1e-4)
    assert np.abs(inside - plain).max() > 0.1
    assert state(model) == before
    assert {name: id(x) for name, x in model.named_parameters()} == tensors
    assert (model.logits(PROMPTS) == plain).all()


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("neurons", [False, True])
def test_undo_is_exact_after_an_error(model, stop, neurons):
    before = state(model)

    def stopped() -> None:
        with edit(model, changes(model, neurons=neurons)):
            assert state(model) != before
            raise stop

    with pytest.raises(stop):
        stopped()
    assert state(model) == before
    assert model.model.config.intermediate_size == 64


def test_blocks_can_be_nested(model):
    before = state(model)
    with edit(model, changes(model)):
        once = state(model)
        with edit(model, changes(model)):
            assert state(model) != once
        with edit(model, changes(model, neurons=True)):
            assert feed_forwards(model)[0].neurons == 67
        assert state(model) == once != before
    assert state(model) == before


def test_an_interrupted_start_leaves_the_model_as_it_was(model, monkeypatch):
    before, calls = state(model), []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return arguments[1]

    import tilefold.mechanisms.editing.applied_edit as applied_edit

    monkeypatch.setattr(
        applied_edit, "stored", lambda module, x: torch.nn.Parameter(interrupted(module, x))
    )
    with pytest.raises(KeyboardInterrupt), edit(model, changes(model)):
        pytest.fail("the block began")
    assert len(calls) == 2
    assert state(model) == before


def test_trained_flags_stay(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("output" in name)
    with edit(model, changes(model, neurons=True)):
        flags = {name: x.requires_grad for name, x in model.named_parameters()}
    assert flags == {name: "output" in name for name in flags}


def test_new_neurons_add_what_their_formula_says(model):
    delta = WeightDelta(editable_digest(model), {}, changes(model, neurons=True).neurons)
    new = delta.neurons[1]
    part = feed_forwards(model)[1]
    tokens = model.pad(model.tokenize(PROMPTS))
    seen = []
    hooks = [part.intermediate.register_forward_pre_hook(lambda _, args: seen.append(args[0]))]
    hooks.append(part.output.register_forward_hook(lambda _, args, out: seen.append(out)))
    with torch.no_grad():
        model(tokens)
        with edit(model, delta):
            model(tokens)
    for hook in hooks:
        hook.remove()
    state, plain, same, edited = seen
    torch.testing.assert_close(state, same)
    gelu = torch.nn.functional.gelu(state @ new.keys.T + new.biases)
    torch.testing.assert_close(edited, plain + gelu @ new.values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["BertForMaskedLM", "DistilBertForMaskedLM", "GPT2LMHeadModel"])
def test_an_edited_model_can_be_saved_inside_the_block(name, tmp_path):
    model = editable(name, tmp_path / "plain")
    part = feed_forwards(model)[1]
    hidden = part.output.weight.shape[1 if name.startswith("GPT2") else 0]
    new = NewNeurons(torch.randn(2, hidden), torch.randn(2), torch.randn(2, hidden))
    factors = {(0, "output"): Factors(torch.randn(hidden, 1), torch.randn(1, part.neurons))}
    with edit(model, WeightDelta(editable_digest(model), factors, {1: new})):
        model.save_pretrained(tmp_path / "edited")
        found = editable_digest(model)
    again = type(model).from_pretrained(tmp_path / "edited")
    assert editable_digest(again) == found != editable_digest(model)
    assert feed_forwards(again)[0].neurons == part.neurons + 2
    assert type(model).from_pretrained(tmp_path / "plain").fingerprint() == model.fingerprint()


def test_neurons_without_an_effect_get_no_gradient(model):
    delta = WeightDelta(editable_digest(model), {}, changes(model, neurons=True).neurons)
    model.model.eval()
    with edit(model, delta):
        part = feed_forwards(model)[0]  # padded to the width of layer 1
        model(model.pad(model.tokenize(PROMPTS))).logits.square().sum().backward()
        assert part.neurons == 67
        assert not part.intermediate.weight.grad[64:].any()
        assert not part.output.weight.grad[:, 64:].any()
        assert part.output.weight.grad[:, :64].any()


def test_an_encoder_over_the_same_blocks_is_edited_alike(model, tmp_path):
    encoder = Encoder.from_pretrained(tmp_path / "bert")
    delta = changes(model)
    assert editable_digest(encoder) == editable_digest(model)
    before = encoder.encode(TEXTS, progress=False)
    with edit(encoder, delta):
        found = encoder.encode(TEXTS, progress=False)
    np.testing.assert_allclose(
        found, by_hand(encoder, delta).encode(TEXTS, progress=False), rtol=1e-4, atol=1e-5
    )
    assert np.abs(found - before).max() > 1e-3


def test_a_delta_for_another_checkpoint_is_refused(model, tmp_path):
    other = MaskedLM.from_pretrained(save("BertForMaskedLM", tmp_path / "other"))
    other.model.bert.encoder.layer[1].attention.self.query.weight.data[0, 0] += 1e-3
    delta = changes(model)
    with pytest.raises(ValueError, match="computed for a model with other weights; to apply it"):
        edit(other, delta).__enter__()
    with edit(other, delta, strict=False):
        assert state(other) != state(model)
    model.model.bert.embeddings.position_embeddings.weight.data[5, 0] += 1e-3
    with pytest.raises(ValueError, match="other weights"), edit(model, delta):
        pass


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (
            {"factors": {(7, "output"): Factors(torch.ones(32, 1), torch.ones(1, 64))}},
            "layer 7, the model has 3",
        ),
        (
            {"factors": {(0, "output"): Factors(torch.ones(32, 1), torch.ones(1, 9))}},
            r"\[32, 9\] of layer 0, the model has \[32, 64\]",
        ),
        (
            {"neurons": {5: NewNeurons(torch.ones(1, 32), torch.ones(1), torch.ones(1, 32))}},
            "neurons in layer 5, of 3",
        ),
        (
            {"neurons": {0: NewNeurons(torch.ones(1, 8), torch.ones(1), torch.ones(1, 8))}},
            "of width 8, the model has 32",
        ),
    ],
)
def test_a_delta_that_does_not_fit_is_refused_and_changes_nothing(model, delta, message):
    before = state(model)
    with (
        pytest.raises(ValueError, match=message),
        edit(model, WeightDelta("", **delta), strict=False),
    ):
        pass
    assert state(model) == before


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            ({(0, "outputs"): Factors(torch.ones(4, 1), torch.ones(1, 4))},),
            "places must be a l",
        ),
        (({(0, "output"): Factors(torch.ones(4, 2), torch.ones(3, 4))},), r"\[4, 2\] and \[3, 4\]"),
        (
            ({}, {0: NewNeurons(torch.ones(2, 4), torch.ones(1), torch.ones(2, 4))}),
            r"got \[2, 4\], \[1\], \[2, 4\]",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, message):
    with pytest.raises(ValueError, match=f"WeightDelta: .*{message}"):
        WeightDelta("", *parts)


def test_factors_have_no_larger_rank_than_a_matrix():
    generator = torch.Generator().manual_seed(0)
    for outputs, inputs in ((4, 7), (7, 4)):
        left, right = (
            torch.randn(*shape, generator=generator) for shape in ((outputs, 50), (50, inputs))
        )
        found = smallest(Factors(left, right))
        assert found.left.shape[1] == 4
        torch.testing.assert_close(found.left @ found.right, left @ right)
        few = Factors(left[:, :3], right[:3])
        assert smallest(few) is few


def test_gates_and_shared_layers_are_refused():
    gated = build_family("Llama")
    one = NewNeurons(torch.ones(1, 32), torch.ones(1), torch.ones(1, 32))
    with (
        pytest.raises(ValueError, match=r"have biases and no gates, not to layers.0.mlp.gate_proj"),
        edit(gated, WeightDelta("", {}, {0: one}), strict=False),
    ):
        pass
    with pytest.raises(ValueError, match="3 blocks of AlbertModel share 1 feed-forward layers"):
        editable_digest(build_family("ALBERT"))


def test_a_file_holds_the_delta(model, tmp_path):
    delta = changes(model, neurons=True)
    delta.save(tmp_path / "delta.safetensors")
    found = WeightDelta.load(tmp_path / "delta.safetensors")
    assert found.model == delta.model
    assert found.n_weights == delta.n_weights == 64 * 2 + 2 * 32 + 32 + 64 + 3 * 65
    assert found.norms() == pytest.approx(delta.norms())
    for place, factors in delta.factors.items():
        assert all(map(torch.equal, factors, found.factors[place]))
    assert all(map(torch.equal, delta.neurons[1], found.neurons[1]))
    with edit(model, found):
        edited = state(model)
    with edit(model, delta):
        assert state(model) == edited
    size = (tmp_path / "delta.safetensors").stat().st_size
    assert size < 4 * delta.n_weights + 2000


def test_files_of_other_kinds_and_damaged_ones_are_errors(model, tmp_path):
    path = tmp_path / "delta.safetensors"
    with pytest.raises(FileNotFoundError):
        WeightDelta.load(path)
    changes(model).save(path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptedFolderError, match="does not match its checksum"):
        WeightDelta.load(path)
    path.write_bytes(data[:100])
    with pytest.raises(CorruptedFolderError):
        WeightDelta.load(path)
    from tilefold.files.done_once import write_checked

    write_checked(path, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="is no delta of format version 1"):
        WeightDelta.load(path)
