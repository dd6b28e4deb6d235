"""Cross-attention of one token without keys of all tokens, in the families of T5 and BART."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tilefold.models.cross_attention import FusedInputs, cross_attention_scores

pytestmark = pytest.mark.usefixtures("one_thread")

T5 = {
    "vocab_size": 64,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
DENSE = {"num_experts": 2, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0}
FAMILIES = {
    "T5ForConditionalGeneration": T5,
    "MT5ForConditionalGeneration": T5,
    "UMT5ForConditionalGeneration": T5,
    "LongT5ForConditionalGeneration": {**T5, "local_radius": 4},
    "SwitchTransformersForConditionalGeneration": {**T5, **DENSE},
    "BartForConditionalGeneration": BART,
    "MBartForConditionalGeneration": BART,
    "PegasusForConditionalGeneration": BART,
    "MarianMTModel": {**BART, "decoder_vocab_size": 64},
}
# Tokens of three prompts: of two inputs, of three and padding, of one and padding.
INPUTS = [[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 2, 2, -1, -1], [0, 0, *[-1] * 7]]


def decoder_of(name: str) -> Any:
    """A decoder whose attention is far from uniform and whose biases are not zero."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    config = kind.config_class(**FAMILIES[name])
    config._attn_implementation = "eager"
    model = kind(config).eval()
    for weight in model.parameters():
        weight.data = 0.3 * torch.randn(weight.shape) + (0.0 if weight.ndim == 2 else 1.0)
    return model.get_decoder()


def states() -> Any:
    return torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", FAMILIES)
def test_shares_are_those_of_attention_weights_in_every_family(name):
    """The second layer's depend on what the first one adds to the state of the token."""
    decoder, inputs = decoder_of(name), torch.tensor(INPUTS)
    starts = torch.zeros(3, 1, dtype=torch.int64)
    with torch.no_grad():
        found = cross_attention_scores(decoder, FusedInputs(states(), inputs, 3), starts, "mass")
        weights = decoder(
            input_ids=starts,
            encoder_hidden_states=states(),
            encoder_attention_mask=(inputs >= 0).long(),
            output_attentions=True,
            use_cache=False,
        ).cross_attentions
    mean = torch.stack([layer[:, :, 0] for layer in weights]).mean((0, 2))  # [prompts, tokens]
    for row, own in enumerate(inputs):
        for number in range(3):
            if number in own:
                expected = mean[row][own == number].sum()
                torch.testing.assert_close(found[row, number], expected, rtol=1e-4, atol=1e-6)
            else:
                assert found[row, number] == -torch.inf
    assert (mean[0] - 1 / 9).abs().max() > 0.05  # far from uniform


@pytest.mark.parametrize("kind", ["logits", "mass", "value norm"])
def test_a_decoder_without_known_cross_attention_is_refused(kind):
    layer = torch.nn.TransformerDecoderLayer(8, 2)
    with pytest.raises(ValueError, match="cross-attention as T5 or BART have it, got Transformer"):
        cross_attention_scores(
            layer, FusedInputs(torch.zeros(1, 1, 8), torch.zeros(1, 1), 1), torch.zeros(1, 1), kind
        )
