"""What reads a patched model sees the patch, whether hidden states were ever asked for or not."""

from pathlib import Path

import numpy as np
import pytest

from tiny_families import save_family

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.activations import capture, patch
from tilefold.mechanisms import layer_rows
from tilefold.models import Encoder

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2"]
BLOCKS = {
    "BERT": "encoder.layer.{}",
    "MPNet": "encoder.layer.{}",
    "DistilBERT": "transformer.layer.{}",
    "Llama": "layers.{}",
}


@pytest.fixture(scope="module", params=BLOCKS)
def family(request: pytest.FixtureRequest, tmp_path_factory) -> tuple[str, Path]:
    return request.param, save_family(request.param, tmp_path_factory.mktemp("family"))


def load(family, *, asked: bool) -> Encoder:
    """A fresh model, or one that was asked for hidden states before."""
    encoder = Encoder.from_pretrained(family[1], pooling="mean", max_length=32)
    if asked:
        layer_rows(encoder, TEXTS[:1], progress=False)
    return encoder


def edit(x: torch.Tensor) -> torch.Tensor:
    return 2 * x + 1


@pytest.mark.parametrize("layer", [0, 1])
def test_rows_are_of_the_patched_states_in_either_order(family, layer: int):
    site = "model." + BLOCKS[family[0]].format(layer)
    plain = layer_rows(load(family, asked=True), TEXTS, progress=False)
    found = []
    for asked in (False, True):
        encoder = load(family, asked=asked)
        with patch(encoder, {site: edit}):
            found.append(layer_rows(encoder, TEXTS, progress=False))
            vectors = encoder.with_options(normalize=False).encode(TEXTS, progress=False)
        np.testing.assert_allclose(found[-1][-1], vectors, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(layer_rows(encoder, TEXTS, progress=False), plain)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0][: layer + 1], plain[: layer + 1])
    if layer == 0:  # behind the last one is a normalization in some
        np.testing.assert_allclose(found[0][1], 2 * plain[1] + 1, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", [False, True])
def test_attentions_are_of_the_patched_model(family, asked: bool):
    site = "model." + BLOCKS[family[0]].format(0)
    encoder = load(family, asked=False)
    encoder.model.set_attn_implementation("eager")
    batch = encoder.pad(encoder.tokenize(TEXTS))
    if asked:
        encoder.run(batch, output_attentions=True)
    with patch(encoder, {site: edit}):
        found = encoder.run(batch, output_attentions=True).attentions
        again = encoder.run(batch, output_attentions=True).attentions
    plain = encoder.run(batch, output_attentions=True).attentions
    assert len(found) == 2
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found[0], plain[0])
    assert not torch.allclose(found[1], plain[1])


@pytest.mark.parametrize("first", ["capture", "patch"])
def test_a_capture_sees_the_patch_whichever_began_first(family, first: str):
    site = "model." + BLOCKS[family[0]].format(0)
    encoder = load(family, asked=False)
    batch = encoder.pad(encoder.tokenize(TEXTS))
    with capture(encoder, site) as plain:
        encoder(batch)
    if first == "capture":
        with capture(encoder, site) as seen, patch(encoder, {site: edit}):
            encoder(batch)
    else:
        with patch(encoder, {site: edit}), capture(encoder, site) as seen:
            encoder(batch)
    torch.testing.assert_close(seen[site].mean, 2 * plain[site].mean + 1, rtol=1e-5, atol=1e-5)


def test_patches_apply_in_the_order_in_which_they_began(family):
    site = "model." + BLOCKS[family[0]].format(0)
    encoder = load(family, asked=True)
    batch = encoder.pad(encoder.tokenize(TEXTS))
    with capture(encoder, site) as plain:
        encoder(batch)
    outer, inner = patch(encoder, {site: edit}), patch(encoder, {site: lambda x: x * x})
    with capture(encoder, site) as seen:
        outer.__enter__()
        inner.__enter__()
        encoder(batch)
    assert float(seen[site].min.min()) >= 0  # squared last
    outer.__exit__(None, None, None)  # in the order of their start
    with capture(encoder, site) as seen:
        encoder(batch)
    assert float(seen[site].min.min()) >= 0
    inner.__exit__(None, None, None)
    with capture(encoder, site) as seen:
        encoder(batch)
    assert torch.equal(seen[site].mean, plain[site].mean)
