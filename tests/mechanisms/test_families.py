"""Every analysis on every family: against loops, and refused by name where it does not apply."""

import contextlib

import numpy as np
import pytest

from tiny_families import FAMILIES, build_family, save_family

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from torch.func import functional_call

from tilefold import reference
from tilefold.activations import RowStore, capture
from tilefold.mechanisms import (
    IncompleteAttributionWarning,
    activation_attribution,
    feed_forwards,
    layer_rows,
    neuron_activations,
    scaled_neurons,
    top_texts,
    weight_attribution,
)
from tilefold.models import Encoder

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::tilefold.mechanisms.IncompleteAttributionWarning"),
]
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2"]
STEPS = 4
NO_NEURONS = {
    "Mixtral": "MixtralModel has no blocks with intermediate.dense and output.dense",
    "MobileBERT": r"several stacks of such blocks, encoder.layer, encoder.layer.\*.ffn; name one",
}
# A layer that several blocks share has several activations for a text.
SHARED = {"ALBERT"}
WITH_NEURONS = [name for name in FAMILIES if name not in NO_NEURONS]
# Rows of the layer that computes neurons, where it computes their factors as well.
ROWS = {"ModernBERT": 96, "Phi-3": 96, "BLOOM": 128, "GPT-2": 128}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    made: dict[str, Encoder] = {}

    def make(name: str) -> Encoder:
        if name not in made:
            folder = save_family(name, tmp_path_factory.mktemp("family"))
            made[name] = Encoder.from_pretrained(folder, max_length=32, normalize=False)
        return made[name]

    return make


@pytest.fixture(params=WITH_NEURONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def encoder(encoders, name: str) -> Encoder:
    return encoders(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_layers_are_those_of_texts_alone(encoders, name: str):
    encoder = encoders(name)
    found = layer_rows(encoder, TEXTS, progress=False)
    alone = [layer_rows(encoder, [text], progress=False)[:, 0] for text in TEXTS]
    np.testing.assert_allclose(found, np.stack(alone, axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[-1], encoder.encode(TEXTS, progress=False), atol=1e-5)
    assert len(found) == {"ALBERT": 4}.get(name, 3)


def test_neurons_are_found(encoder: Encoder, name: str):
    parts = feed_forwards(encoder)
    assert [part.layer for part in parts] == ([0] if name in SHARED else [0, 1])
    assert {part.neurons for part in parts} == {128 if name in ("BLOOM", "GPT-2") else 48}


@pytest.mark.parametrize("name", NO_NEURONS)
def test_models_without_such_layers_are_refused(name: str):
    with pytest.raises(ValueError, match=NO_NEURONS[name]):
        feed_forwards(build_family(name))


def test_one_of_several_stacks_can_be_named():
    names = [("encoder.layer.*.intermediate.dense", "encoder.layer.*.output.dense")]
    parts = feed_forwards(build_family("MobileBERT"), names)
    assert [part.layer for part in parts] == [0, 1]


def test_statistics_are_of_the_tokens_that_count(encoder: Encoder, name: str):
    site = f"{feed_forwards(encoder)[-1].output_name}:input"
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    with capture(encoder, site) as seen, torch.no_grad():
        encoder(tokens)
    with capture(encoder, site) as alone, torch.no_grad():
        for text in TEXTS:
            encoder(encoder.pad(encoder.tokenize([text])))
    runs = 3 if name in SHARED else 1
    assert seen[site].count == alone[site].count == runs * int(tokens["attention_mask"].sum())
    torch.testing.assert_close(seen[site].mean, alone[site].mean, rtol=1e-4, atol=1e-6)


def test_rows_and_top_texts_are_kept_or_refused(encoder: Encoder, name: str):
    site = f"{feed_forwards(encoder)[-1].output_name}:input"
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    neuron = (len(feed_forwards(encoder)) - 1, 5)
    store = RowStore()
    if name in SHARED:
        with (
            pytest.raises(ValueError, match="runs several times for a text"),
            capture(encoder, site, rows="mean", store=store),
        ):
            encoder(tokens)
        with pytest.raises(ValueError, match="runs several times for a text"):
            top_texts(encoder, TEXTS, [neuron], progress=False)
        return
    with capture(encoder, site, rows="max", store=store), torch.no_grad():
        encoder(tokens)
    found = top_texts(encoder, TEXTS, [neuron], top=3, batch_size=2, progress=False)[neuron]
    rows = store[site][:, 5]
    assert sorted(top.text for top in found) == [0, 1, 2]
    values = [top.activation for top in found]
    np.testing.assert_allclose(values, rows.sort(descending=True).values, rtol=1e-4)
    np.testing.assert_allclose(values, rows[[top.text for top in found]], rtol=1e-4)


def test_weights_are_attributed_as_by_the_loop(encoder: Encoder, name: str):
    parts = feed_forwards(encoder)
    found = weight_attribution(encoder, TEXTS, steps=STEPS, progress=False)
    for row, text in enumerate(TEXTS):
        tokens = encoder.pad(encoder.tokenize([text]))

        def length(changed, tokens=tokens):
            return functional_call(encoder, changed, (tokens,)).norm()

        for part in parts:
            for module, site, ours in (
                (part.intermediate, part.intermediate_name, found.intermediate),
                (part.output, part.output_name, found.output),
            ):
                truth = reference.weight_attribution(length, site, module, STEPS).numpy()
                scale = abs(truth).max()
                np.testing.assert_allclose(ours[row, part.layer] / scale, truth / scale, atol=1e-4)
    assert found.intermediate.shape[2] == ROWS.get(name, 48)


def test_weights_of_a_text_do_not_depend_on_its_batch(encoder: Encoder):
    together = weight_attribution(encoder, TEXTS, steps=STEPS, progress=False, rows_at_once=64)
    alone = weight_attribution(encoder, TEXTS, steps=STEPS, batch_size=1, progress=False)
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * abs(other).max() + 2e-6)


@pytest.fixture
def target(encoder: Encoder):
    direction = torch.randn(encoder.dim, generator=torch.Generator().manual_seed(5))
    return lambda tokens, _: torch.tanh(encoder(tokens) @ direction / encoder.dim**0.5)


def without_neurons(encoder: Encoder, layer: int, tokens, target) -> torch.Tensor:
    """The target where the layer that reads neurons gets zeros at tokens that count."""
    part = feed_forwards(encoder)[layer]
    kept = tokens["attention_mask"][..., None]

    def zeros(_, args):
        x = args[0]
        return (x * (1 - kept).reshape(*x.shape[:-1], 1),)

    hook = part.output.register_forward_pre_hook(zeros)
    try:
        with torch.no_grad():
            return target(tokens, torch.arange(len(TEXTS)))
    finally:
        hook.remove()


def test_scores_and_gaps_make_the_effect_of_activations(encoder: Encoder, target):
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    positions = tokens["attention_mask"]
    found = activation_attribution(encoder, tokens, target, positions, steps=STEPS, rows_at_once=7)
    with torch.no_grad():
        whole = target(tokens, torch.arange(len(TEXTS)))
    for layer in range(found.scores.shape[1]):
        effect = (whole - without_neurons(encoder, layer, tokens, target)).numpy()
        summed = found.scores[:, layer].sum(1) - found.gap[:, layer]
        np.testing.assert_allclose(summed, effect, rtol=1e-3, atol=1e-5)


# Behind their feed-forward layers is a normalization, whose gradient is in the first thousandth of
# the path.
STEEP = {"Gemma 2", "Gemma 3"}


@pytest.mark.filterwarnings("error::tilefold.mechanisms.IncompleteAttributionWarning")
def test_scores_add_up_with_many_steps_or_say_so(encoder: Encoder, name: str, target):
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    positions = tokens["attention_mask"]
    steep = name in STEEP
    warns = pytest.warns(IncompleteAttributionWarning, match="with 200 steps: see `gap`")
    with warns if steep else contextlib.nullcontext():
        found = activation_attribution(
            encoder, tokens, target, positions, steps=200, rows_at_once=600
        )
    effects = abs(found.scores.sum(2) - found.gap).max()
    if steep:
        assert abs(found.gap).max() > 0.25 * effects
    else:
        assert abs(found.gap).max() < 0.02 * effects


def test_attribution_of_a_text_does_not_depend_on_its_batch(encoder: Encoder, target):
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    found = activation_attribution(encoder, tokens, target, tokens["attention_mask"], steps=STEPS)
    for row, text in enumerate(TEXTS):
        own = encoder.pad(encoder.tokenize([text]))
        alone = activation_attribution(encoder, own, target, own["attention_mask"], steps=STEPS)
        scale = abs(alone.scores).max()
        np.testing.assert_allclose(found.scores[row], alone.scores[0], atol=1e-4 * scale)
        np.testing.assert_allclose(found.gap[row], alone.gap[0], rtol=1e-3, atol=1e-4 * scale)


def test_scaled_neurons_change_what_reads_them(encoder: Encoder, target):
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    layer, width = len(feed_forwards(encoder)) - 1, feed_forwards(encoder)[0].neurons
    every = [(layer, place) for place in range(width)]
    with scaled_neurons(encoder, every, 0.0), torch.no_grad():
        found = encoder(tokens)

    def embed(own, _):
        return encoder(own)

    torch.testing.assert_close(found, without_neurons(encoder, layer, tokens, embed))
    activations = neuron_activations(encoder.model, tokens, tokens["attention_mask"])
    with scaled_neurons(encoder, every, 2.0), torch.no_grad():
        doubled = neuron_activations(encoder.model, tokens, tokens["attention_mask"])
    if activations.shape[1] == 2:
        np.testing.assert_allclose(doubled[:, 1], 2 * activations[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error::tilefold.mechanisms.IncompleteAttributionWarning")
def test_neurons_of_a_decoder_are_attributed_where_they_are_named():
    """Positions are those of the decoder then, and the encoder runs as it is."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2}
    config = transformers.T5Config(**sizes, num_heads=4, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    ids = torch.tensor([[5, 6, 7], [8, 9, 0]])
    tokens = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    written = torch.tensor([[0, 4], [0, 11]])

    def target(own, rows):
        logits = model(**own, decoder_input_ids=written[rows], use_cache=False).logits
        return logits[:, -1].log_softmax(1)[:, 3]

    stack = "decoder.block.*.layer.2.DenseReluDense"
    found = activation_attribution(
        model,
        tokens,
        target,
        torch.ones_like(written),
        steps=100,
        names=[(f"{stack}.wi", f"{stack}.wo")],
    )
    assert found.scores.shape == (2, 2, 48)
    assert abs(found.scores).max() > 1e-4
    assert abs(found.gap).max() < 0.02 * abs(found.scores.sum(2) - found.gap).max()
    with pytest.raises(ValueError, match=r"have shape .*, expected \(2, 2\) texts and tokens"):
        activation_attribution(model, tokens, target, torch.ones_like(written), steps=2)
