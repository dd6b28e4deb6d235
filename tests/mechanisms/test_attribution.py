"""Attributions against loops over texts, layers and steps; completeness; what is refused."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not installed: pip install tilefold[analysis]"
)
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from torch.func import functional_call

from tilefold import reference
from tilefold.mechanisms import (
    IncompleteAttributionWarning,
    activation_attribution,
    masked_word,
    neuron_activations,
    retrieval,
    weight_attribution,
)
from tilefold.mechanisms.neurons.feedforward import feed_forwards
from tilefold.models import Encoder

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # With few steps, which the loops have as well.
    pytest.mark.filterwarnings("ignore::tilefold.mechanisms.IncompleteAttributionWarning"),
]
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2", "who of w4"]
STEPS = 5


@pytest.fixture(scope="module", params=["mean", "cls"])
def encoder(request, tiny_bert, stirred) -> Encoder:
    return stirred(Encoder.from_pretrained(tiny_bert, pooling=request.param))


def by_hand(encoder: Encoder, text: str) -> dict[str, np.ndarray]:
    """One text, and one sub-layer of it at a time."""
    plain = encoder.with_options(normalize=False).eval()
    tokens = plain.pad(plain.tokenize([text]))
    found = {"intermediate": [], "output": []}

    def length(changed: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(plain, changed, (tokens,)).norm()

    for part in feed_forwards(plain):
        for kind, module, name in (
            ("intermediate", part.intermediate, part.intermediate_name),
            ("output", part.output, part.output_name),
        ):
            rows = reference.weight_attribution(length, name, module, STEPS)
            found[kind].append(rows.numpy())
    return {kind: np.stack(layers) for kind, layers in found.items()}


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "rows"), [(1, 1), (3, 64), (4, 7)])
def test_weights_are_attributed_as_by_the_loop(encoder, batch_size, rows):
    options = {"steps": STEPS, "batch_size": batch_size, "rows_at_once": rows}
    found = weight_attribution(encoder, TEXTS, **options)
    for row, text in enumerate(TEXTS):
        for kind, truth in by_hand(encoder, text).items():
            np.testing.assert_allclose(getattr(found, kind)[row], truth, rtol=2e-3, atol=1e-6)
    relative = found.relative()
    most = np.maximum(relative.intermediate.max((1, 2)), relative.output.max((1, 2)))
    np.testing.assert_allclose(most, 1)


def test_the_model_is_left_as_it_was(encoder):
    encoder.train()
    before = encoder.encode(TEXTS, progress=False)
    weight_attribution(encoder, TEXTS[:2], steps=2)
    np.testing.assert_array_equal(encoder.encode(TEXTS, progress=False), before)
    assert encoder.training
    assert all(p.requires_grad for p in encoder.model.parameters())
    assert not any("forward" in module.__dict__ for module in encoder.modules())
    encoder.eval()


# ---- activations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["left", "ends"])
def test_activations_are_attributed_as_by_the_loop(masked, rule):
    model, tokens, answers = masked
    places = (tokens["input_ids"] == 4).int()
    target = masked_word(model, answers, 4)
    found = activation_attribution(model, tokens, target, places, steps=STEPS, rule=rule).scores
    path = [k / STEPS for k in range(STEPS)]
    if rule == "ends":
        path = [k / (STEPS - 1) for k in range(STEPS)]
    for row in range(3):
        alone = {name: x[row : row + 1] for name, x in tokens.items()}
        place = int(places[row].argmax())
        for layer, block in enumerate(model.bert.encoder.layer):
            kept = []
            hook = block.intermediate.register_forward_hook(
                lambda _, __, out, kept=kept: kept.append(out)
            )
            with torch.no_grad():
                model(**alone)
            hook.remove()
            total = torch.zeros(kept[0].shape[2])
            for alpha in path:
                scaled = kept[0].clone()
                scaled[0, place] *= alpha
                scaled.requires_grad_()
                hook = block.intermediate.register_forward_hook(lambda *_, s=scaled: s)
                p = model(**alone).logits[0, place].softmax(0)[answers[row]]
                hook.remove()
                total += torch.autograd.grad(p, scaled)[0][0, place]
            truth = (kept[0][0, place] * total / STEPS).numpy()
            np.testing.assert_allclose(found[row, layer], truth, rtol=2e-3, atol=1e-8)


def test_attributions_add_up_to_what_is_attributed(masked):
    """Completeness: the sum over neurons is P(1) - P(0), with enough steps."""
    model, tokens, answers = masked
    everywhere = tokens["attention_mask"]
    target = masked_word(model, answers, 4)
    found = activation_attribution(model, tokens, target, everywhere, steps=400).scores
    with torch.no_grad():
        whole = target(tokens, torch.arange(3)).numpy()
    for layer, block in enumerate(model.bert.encoder.layer):
        hook = block.intermediate.register_forward_hook(
            lambda _, __, out: out * (1 - everywhere[..., None])
        )
        with torch.no_grad():
            without = target(tokens, torch.arange(3)).numpy()
        hook.remove()
        np.testing.assert_allclose(found[:, layer].sum(1), whole - without, rtol=2e-2, atol=1e-6)


def test_a_retrieval_objective_is_attributed_too(encoder):
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    passages = torch.from_numpy(encoder.encode(["w3 is w1", "w7 of w2", "w4"], progress=False))
    relevant = torch.tensor([0, 1, 1, 2])
    target = retrieval(encoder, passages, relevant)
    found = activation_attribution(
        encoder, tokens, target, tokens["attention_mask"], steps=300
    ).scores
    everyone = torch.arange(4)
    with torch.no_grad():
        whole = target(tokens, everyone)
        scores = encoder(tokens) @ passages.T
    expected = scores.log_softmax(1)[everyone, relevant]
    torch.testing.assert_close(whole, expected)
    block = encoder.model.encoder.layer[1]
    hook = block.intermediate.register_forward_hook(
        lambda _, __, out: out * (1 - tokens["attention_mask"][..., None])
    )
    with torch.no_grad():
        without = target(tokens, everyone)
    hook.remove()
    np.testing.assert_allclose(found[:, 1].sum(1), (whole - without).numpy(), rtol=5e-2, atol=2e-4)
    own = retrieval(encoder, passages.expand(4, -1, -1), relevant)
    with torch.no_grad():
        torch.testing.assert_close(own(tokens, everyone), whole)


# ---- sub-layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("Bert", {"intermediate_size": 24}, "encoder.layer.1.intermediate.dense"),
        ("Llama", {"intermediate_size": 24}, "layers.1.mlp.gate_proj"),
        (
            "DistilBert",
            {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 24},
            "layer.1.ffn.lin1",
        ),
    ],
)
def test_families_are_known_by_their_names(name, sizes, expected):
    common = {"vocab_size": 20}
    if name != "DistilBert":
        common |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(transformers, f"{name}Config")(**common, **sizes)
    parts = feed_forwards(getattr(transformers, f"{name}Model")(config))
    assert [part.layer for part in parts] == [0, 1]
    assert parts[1].intermediate_name.endswith(expected)
    assert parts[1].intermediate.weight.shape == (24, 16)
    assert parts[1].output.weight.shape == (16, 24)


def test_what_has_no_such_layers_says_what_was_looked_for(masked):
    with pytest.raises(ValueError, match=r"no blocks with intermediate\.dense and output\.dense"):
        feed_forwards(torch.nn.Linear(2, 2))
    model, tokens, answers = masked
    target = masked_word(model, answers, 4)
    with pytest.raises(ValueError, match='rule must be "left" or "ends"'):
        activation_attribution(model, tokens, target, tokens["attention_mask"], rule="right")


@pytest.mark.parametrize(
    ("texts", "steps", "error", "message"),
    [
        ("who is w3", 5, TypeError, "weight_attribution: texts is one string"),
        (["who", None], 5, TypeError, "weight_attribution: texts must be strings, got NoneType"),
        ([], 5, ValueError, "expected texts, got none"),
        (TEXTS, 1, ValueError, "steps must be at least 2, got 1"),
    ],
)
def test_what_cannot_be_attributed_is_refused(encoder, texts, steps, error, message):
    with pytest.raises(error, match=message):
        weight_attribution(encoder, texts, steps=steps)


def test_activations_are_those_at_the_gap_after_the_activation_function(masked):
    model, tokens, _ = masked
    inputs = []
    hooks = [
        part.output.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        for part in feed_forwards(model)
    ]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(**tokens)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    truth = torch.stack([x[[0, 1, 2], [2, 4, 6]] for x in inputs], dim=1)
    gap = tokens["input_ids"] == 4
    np.testing.assert_array_equal(neuron_activations(model, tokens, gap), truth)
    assert model.training == was_training


@pytest.mark.filterwarnings("error::tilefold.mechanisms.IncompleteAttributionWarning")
def test_gaps_of_weights_shrink_with_steps_and_are_said_above_a_share(encoder):
    """Ends included, twice the steps halve the distance from the change of the length."""
    coarse = pytest.warns(
        IncompleteAttributionWarning, match="differ from what .* by more than 0.25"
    )
    with coarse:
        few = weight_attribution(encoder, TEXTS, steps=2, progress=False)
    fine = [weight_attribution(encoder, TEXTS, steps=n, progress=False) for n in (81, 161)]
    assert abs(few.gap).max() > 5 * abs(fine[0].gap).max()
    np.testing.assert_allclose(abs(fine[1].gap).sum() / abs(fine[0].gap).sum(), 0.5, atol=0.1)


def test_relative_gaps_are_of_the_same_unit_as_scores(encoder):
    found = weight_attribution(encoder, TEXTS, steps=3, progress=False)
    relative = found.relative()
    largest = np.maximum(found.intermediate.max((1, 2)), found.output.max((1, 2)))
    np.testing.assert_allclose(relative.gap, found.gap / largest[:, None, None], rtol=1e-6)


def test_layers_without_bias_have_a_reference():
    layer = torch.nn.Linear(3, 2, bias=False)
    x = torch.tensor([[1.0, 2.0, 3.0]])

    def length(changed):
        return (x @ changed["layer.weight"].T).norm()

    rows = reference.weight_attribution(length, "layer", layer, 3)
    # The length grows in proportion: its gradient is the same all along the path.
    y = x @ layer.weight.T
    truth = (layer.weight * (y.T / y.norm()) * x).abs().sum(1)
    torch.testing.assert_close(rows, truth.detach())


def test_layers_with_an_adapter_are_not_attributed(encoder):
    pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")
    from tilefold.models import add_lora

    adapted = Encoder(transformers.BertModel(encoder.model.config), encoder.tokenizer)
    add_lora(adapted, r=2, target_modules=["intermediate.dense"])
    with pytest.raises(ValueError, match=r"intermediate\.dense has an adapter; merge\(\) it first"):
        weight_attribution(adapted, TEXTS, progress=False)
    weight_attribution(adapted.merge(), TEXTS, progress=False)


def test_blocks_of_several_kinds_are_refused():
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = transformers.BertModel(transformers.BertConfig(**sizes))
    model.encoder.layer[1].intermediate = torch.nn.Identity()
    with pytest.raises(ValueError, match="1 of 2 blocks of BertModel have no such layers"):
        feed_forwards(model)
    bart = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = transformers.BartModel(transformers.BartConfig(**bart, **heads))
    with pytest.raises(ValueError, match=r"several stacks .*, encoder\.layers, decoder\.layers"):
        feed_forwards(model)
    names = [("decoder.layers.*.fc1", "decoder.layers.*.fc2")]
    assert [part.output_name for part in feed_forwards(model, names)] == ["decoder.layers.0.fc2"]


def test_positions_that_do_not_fit_are_named(masked):
    model, tokens, answers = masked
    target = masked_word(model, answers, 4)
    with pytest.raises(ValueError, match=r"have shape .*, expected \(2, 3\) texts and tokens"):
        activation_attribution(model, tokens, target, torch.ones(2, 3, dtype=torch.int64))
