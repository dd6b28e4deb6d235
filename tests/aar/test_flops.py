"""Formulas of cost against the FLOPs that torch counts in real models."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from torch.utils.flop_counter import FlopCounterMode

from tilefold.aar.baselines import (
    TransformerShape,
    causal_flops,
    decoding_flops,
    encoding_flops,
    fusion_flops,
    scoring_flops,
)

pytestmark = pytest.mark.usefixtures("one_thread")
# Sizes without common factors, so that no term can stand for another.
T5 = {"d_model": 24, "d_kv": 5, "num_heads": 3, "d_ff": 37, "vocab_size": 53}
# transformers 5.23 cannot generate with a T5 whose decoder has more layers than its encoder.
T5 |= {"num_layers": 3, "num_decoder_layers": 2, "decoder_start_token_id": 0}
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 53}


def counted(call) -> int:
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        call()
    return counter.get_total_flops()


def t5(gated: bool):
    kind = "gated-gelu" if gated else "relu"
    config = transformers.T5Config(**T5, feed_forward_proj=kind, attn_implementation="eager")
    return transformers.T5ForConditionalGeneration(config).eval()


def ids(n: int):
    return torch.full((1, n), 7)


@pytest.mark.parametrize("gated", [False, True])
def test_encoding_is_that_of_torch(gated):
    model = t5(gated)
    shape = TransformerShape.of(model.config)
    found = counted(lambda: [model.encoder(ids(n)) for n in (9, 4)])
    assert encoding_flops(shape, [9, 4]) == found


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("n_new", [1, 6])
def test_fusion_in_decoder_is_that_of_torch_generating_with_a_cache(gated, n_new):
    model = t5(gated)
    shape = TransformerShape.of(model.config)
    options = {"min_new_tokens": n_new, "max_new_tokens": n_new, "do_sample": False}

    def answer():
        states = torch.cat([model.encoder(ids(n)).last_hidden_state for n in (9, 4)], 1)
        outputs = transformers.modeling_outputs.BaseModelOutput(last_hidden_state=states)
        model.generate(encoder_outputs=outputs, attention_mask=torch.ones(1, 13), **options)

    assert fusion_flops(shape, [9, 4], n_new) == counted(answer)


@pytest.mark.parametrize("gated", [False, True])
def test_scoring_options_is_that_of_torch(gated):
    model = t5(gated)
    shape = TransformerShape.of(model.config)
    states = torch.zeros(1, 13, 24)
    found = counted(
        lambda: [
            model(encoder_outputs=(states,), decoder_input_ids=ids(n), use_cache=False)
            for n in (2, 3)
        ]
    )
    assert scoring_flops(shape, 13, [2, 3]) == found


def causal_model(name: str):
    if name == "gpt2":
        config = transformers.GPT2Config(n_embd=24, n_layer=2, n_head=4, vocab_size=53)
    elif name == "llama":
        config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, intermediate_size=37)
    elif name == "opt":
        config = transformers.OPTConfig(**SIZES, ffn_dim=37, word_embed_proj_dim=24)
    else:
        sizes = {"num_layers": 2, "num_heads": 4, "hidden_size": 24, "vocab_size": 53}
        config = transformers.GPTNeoConfig(**sizes, attention_types=[[["global", "local"], 1]])
    config._attn_implementation = "eager"
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("n_new", [1, 6])
@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neo"])
def test_a_decoder_only_answer_is_that_of_torch_generating_with_a_cache(name, n_new):
    model = causal_model(name)
    shape = TransformerShape.of(model.config)
    options = {"min_new_tokens": n_new, "max_new_tokens": n_new, "do_sample": False}
    found = counted(
        lambda: model.generate(ids(11), attention_mask=torch.ones(1, 11), pad_token_id=0, **options)
    )
    assert causal_flops(shape, 11, n_new) == found


def test_a_bert_retriever_is_that_of_torch():
    config = transformers.BertConfig(**SIZES, intermediate_size=37, attn_implementation="eager")
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    found = counted(lambda: model(ids(9)))
    assert encoding_flops(TransformerShape.of(config), [9]) == found


def test_one_long_text_costs_more_than_its_parts():
    shape = TransformerShape.of(transformers.T5Config(**T5))
    assert encoding_flops(shape, [400]) > encoding_flops(shape, [100] * 4)
    # Keys and values of the states are computed once, not for each token.
    assert decoding_flops(shape, 400, 15) < 15 * decoding_flops(shape, 400, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, c: encoding_flops(s, [3, 0]), "lengths must be at least 1, got 0"),
        (lambda s, c: decoding_flops(c, 3, 1), "no decoder that attends to an encoder"),
        (lambda s, c: scoring_flops(c, 3, [1]), "no decoder that attends to an encoder"),
        (lambda s, c: causal_flops(s, 3, 1), "got an encoder-decoder"),
        (lambda s, c: causal_flops(c, 3, 0), "n_new must be at least 1, got 0"),
        (
            lambda s, c: TransformerShape.of(transformers.MambaConfig()),
            "expected one of .*'t5'.*, got 'mamba'",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    shapes = [
        TransformerShape.of(config)
        for config in (transformers.T5Config(**T5), transformers.GPT2Config(n_embd=24, n_head=4))
    ]
    with pytest.raises(ValueError, match=message):
        call(*shapes)
