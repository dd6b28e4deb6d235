"""The sweep of patches against a loop with one forward pass for each."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import feed_forwards, patching_sweep
from tilefold.mechanisms.neurons.skipped_blocks import returning
from tilefold.mechanisms.patching.attention_outputs import attention_outputs
from tilefold.models import Encoder
from tiny_families import save_family

pytestmark = pytest.mark.usefixtures("one_thread")
CLEAN = ["who is w3 of w4", "w1 w2", "w5 of w7 is w9"]
CORRUPTED = ["who is w6 of w4", "w1 w8", "w5 of w0 is w9"]
FAMILIES = [
    "BERT",
    "BLOOM",
    "DeBERTa v2",
    "DistilBERT",
    "ELECTRA",
    "EuroBERT",
    "Falcon",
    "GPT-2",
    "GPT-Neo",
    "GPT-NeoX",
    "Gemma",
    "Llama",
    "MPNet",
    "Mistral",
    "ModernBERT",
    "OPT",
    "Phi",
    "Qwen 3",
    "RoBERTa",
]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    made = {}

    def make(name: str) -> Encoder:
        if name not in made:
            folder = save_family(name, tmp_path_factory.mktemp("family"))
            made[name] = Encoder.from_pretrained(folder, max_length=32, normalize=False)
        return made[name]

    return make


def directions(encoder: Encoder, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, encoder.dim)).astype(np.float32)


def by_loop(encoder: Encoder, clean: str, corrupted: str, towards: np.ndarray):
    """Scores with each patch, one forward pass for each, by hooks of torch."""
    parts = feed_forwards(encoder)
    attention = attention_outputs(encoder, parts)
    kept = {}

    def hooked(module, act, *, is_input):
        if is_input:
            return module.register_forward_pre_hook(lambda _, args: act(args[0]))
        return module.register_forward_hook(lambda _, args, out: act(out))

    def score(text: str, module=None, act=None, *, is_input=False) -> float:
        tokens = encoder.pad(encoder.tokenize([text]))
        hooks = [] if module is None else [hooked(module, act, is_input=is_input)]
        with torch.no_grad():
            found = float(encoder(tokens)[0] @ torch.from_numpy(towards))
        for hook in hooks:
            hook.remove()
        return found

    def first(value):
        return value[0] if isinstance(value, tuple) else value

    sites = {}
    for part, output in zip(parts, attention, strict=True):
        sites["head", part.layer] = output.module, True
        sites["ffn", part.layer] = part.output, False
        sites["state", part.layer] = part.blocks[part.layer], False
    for key, (module, is_input) in sites.items():

        def keep(x, key=key):
            kept[key] = first(x).clone()

        score(clean, module, keep, is_input=is_input)

    def swapped(key, chosen):
        def act(x):
            own = first(x).clone()
            chosen(own, kept[key])
            if sites[key][1]:
                return (own,)
            return (own, *x[1:]) if isinstance(x, tuple) else own

        module, is_input = sites[key]
        return score(corrupted, module, act, is_input=is_input)

    n = len(encoder.tokenize([clean])[0]["input_ids"])
    heads = np.zeros((len(parts), attention[0].heads))
    ffn, states = np.zeros(len(parts)), np.zeros((len(parts), n))
    for layer in range(len(parts)):
        width = kept["head", layer].shape[-1] // attention[layer].heads
        for head in range(attention[layer].heads):
            columns = slice(head * width, (head + 1) * width)

            def head_of(own, other, columns=columns):
                own[..., columns] = other[..., columns]

            heads[layer, head] = swapped(("head", layer), head_of)
        ffn[layer] = swapped(("ffn", layer), lambda own, other: own.copy_(other))
        for place in range(n):

            def token_of(own, other, place=place):
                own[:, place] = other[:, place]

            states[layer, place] = swapped(("state", layer), token_of)
    return score(clean), score(corrupted), heads, ffn, states


@pytest.mark.parametrize("name", FAMILIES)
def test_every_patch_is_that_of_a_loop(encoders, name):
    encoder = encoders(name)
    towards = directions(encoder)
    found = patching_sweep(encoder, CLEAN, CORRUPTED, towards, by_token=True)
    for row, (clean, corrupted) in enumerate(zip(CLEAN, CORRUPTED, strict=True)):
        expected = by_loop(encoder, clean, corrupted, towards[row])
        n = expected[4].shape[1]
        options = {"rtol": 1e-3, "atol": 1e-3}
        np.testing.assert_allclose(found.clean[row], expected[0], **options)
        np.testing.assert_allclose(found.corrupted[row], expected[1], **options)
        np.testing.assert_allclose(found.heads[row], expected[2], **options)
        np.testing.assert_allclose(found.feed_forward[row], expected[3], **options)
        np.testing.assert_allclose(found.tokens[row][:, :n], expected[4], **options)
        assert np.isnan(found.tokens[row][:, n:]).all()
    assert np.abs(found.heads - found.corrupted[:, None, None]).max() > 1e-3


@pytest.mark.parametrize(("batch_size", "rows_at_once"), [(1, 1), (2, 5), (3, 1000)])
def test_batches_change_nothing(encoders, batch_size, rows_at_once):
    encoder = encoders("BERT")
    towards = directions(encoder)
    whole = patching_sweep(encoder, CLEAN, CORRUPTED, towards, by_token=True)
    options = {"batch_size": batch_size, "rows_at_once": rows_at_once}
    found = patching_sweep(encoder, CLEAN, CORRUPTED, towards, by_token=True, **options)
    for name in ("clean", "corrupted", "heads", "feed_forward", "tokens"):
        one, other = getattr(whole, name), getattr(found, name)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_last_layers_states_recover_everything(encoders):
    """Mean pooling: the states of all tokens of the last layer add up to the clean embedding."""
    encoder = encoders("BERT").with_options(pooling="mean", normalize=False)
    found = patching_sweep(encoder, CLEAN, CORRUPTED, directions(encoder), by_token=True)
    shares = np.nansum(found.recovered(found.tokens)[:, -1], 1)
    np.testing.assert_allclose(shares, 1, rtol=1e-3)
    same = patching_sweep(encoder, CLEAN, CLEAN, directions(encoder))
    assert np.isnan(same.recovered(same.heads)).all()
    expected = np.broadcast_to(same.clean[:, None, None], same.heads.shape)
    np.testing.assert_allclose(same.heads, expected, rtol=1e-4)
    assert found.recovered(found.feed_forward).shape == (3, 2)
    assert same.tokens is None


def test_the_encoder_is_left_as_it_was(encoders):
    encoder = encoders("BERT")
    encoder.train()
    before = encoder.encode(CLEAN, progress=False)
    patching_sweep(encoder, CLEAN, CORRUPTED, directions(encoder))
    assert encoder.training
    assert (encoder.encode(CLEAN, progress=False) == before).all()
    assert not any("forward" in module.__dict__ for module in encoder.modules())
    encoder.eval()


def test_wrong_arguments_are_errors(encoders):
    encoder = encoders("BERT")
    towards = directions(encoder)
    with pytest.raises(ValueError, match="must have as many tokens, got 7 and 6: 'who is w3"):
        patching_sweep(encoder, CLEAN[:1], ["who is of w4"], towards[:1])
    with pytest.raises(ValueError, match=r"directions must be \[3, 32\], got \[2, 32\]"):
        patching_sweep(encoder, CLEAN, CORRUPTED, towards[:2])
    with pytest.raises(ValueError, match="as many clean texts as corrupted ones, and one or more"):
        patching_sweep(encoder, [], [], towards[:0])
    with pytest.raises(TypeError, match="clean is one string"):
        patching_sweep(encoder, "who", CORRUPTED, towards)
    with pytest.raises(ValueError, match="rows_at_once must be at least 1, got 0"):
        patching_sweep(encoder, CLEAN, CORRUPTED, towards, rows_at_once=0)
    with pytest.raises(ValueError, match="Encoder has no blocks with one of nothing; name it"):
        patching_sweep(encoder, CLEAN, CORRUPTED, towards, attention=["nothing"])
    shared = encoders("ALBERT")
    with pytest.raises(ValueError, match="3 blocks of Encoder share 1 feed-forward layers"):
        patching_sweep(shared, CLEAN, CORRUPTED, directions(shared))


def test_layers_before_a_patch_do_not_run_again(encoders, monkeypatch):
    """Queries, keys and values of a block run for the clean and the corrupted texts alone."""
    encoder = encoders("BERT")
    blocks = encoder.model.encoder.layer
    rows = dict.fromkeys(range(len(blocks)), 0)
    linear = torch.nn.functional.linear

    def counted(x, weight, bias=None):
        for layer, block in enumerate(blocks):
            if weight is block.attention.self.query.weight:
                rows[layer] += len(x)
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    patching_sweep(encoder, CLEAN, CORRUPTED, directions(encoder))
    heads = encoder.model.config.num_attention_heads
    n, patches = len(CLEAN), heads + 1
    assert rows == {layer: n * (2 + layer * patches) for layer in rows}


def test_recorded_outputs_give_way_to_what_a_module_ran_before():
    module = torch.nn.Linear(2, 2)
    module.forward = own = torch.zeros_like
    with returning({module: torch.ones(1, 2)}, 1, 3):
        assert module(torch.zeros(3, 2)).tolist() == torch.ones(3, 2).tolist()
    assert module.forward is own
