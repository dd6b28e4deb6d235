"""Language models are refused where another kind of attention would give wrong numbers."""

import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="not installed: pip install tilefold[train]"
)

from tilefold.models import CausalLM, EncoderDecoderLM, MaskedLM
from tiny_language_models import save

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    names = ("GPT2LMHeadModel", "T5ForConditionalGeneration")
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in names}


def bert(**options):
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        **options,
    )
    return config


def test_a_bidirectional_model_is_no_causal_one(folders):
    tokenizer = CausalLM.from_pretrained(folders["GPT2LMHeadModel"]).tokenizer
    with pytest.raises(ValueError, match=r"expected a causal .*got a bidirectional model, BertFor"):
        CausalLM(transformers.BertForMaskedLM(bert()), tokenizer)
    decoder = transformers.BertLMHeadModel(bert(is_decoder=True))
    assert CausalLM(decoder, tokenizer).model is decoder


def test_a_causal_model_is_no_masked_one(folders):
    model = CausalLM.from_pretrained(folders["GPT2LMHeadModel"])
    model.tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    with pytest.raises(ValueError, match=r"expected a masked .*got a causal model"):
        MaskedLM(model.model, model.tokenizer)


def test_encoder_decoders_and_models_without_a_head_are_refused(folders):
    t5 = EncoderDecoderLM.from_pretrained(folders["T5ForConditionalGeneration"])
    with pytest.raises(ValueError, match="expected a causal language model, got encoder-decoder"):
        CausalLM(t5.model, t5.tokenizer)
    tokenizer = CausalLM.from_pretrained(folders["GPT2LMHeadModel"]).tokenizer
    with pytest.raises(ValueError, match="got BertModel without a head"):
        CausalLM(transformers.BertModel(bert()), tokenizer)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_tokenize_takes_lists_of_strings_only(folders, name):
    kind = CausalLM if name.startswith("GPT2") else EncoderDecoderLM
    model = kind.from_pretrained(folders[name])
    with pytest.raises(TypeError, match=rf"{kind.__name__}.tokenize: texts is one string"):
        model.tokenize("a b")
    with pytest.raises(TypeError, match="texts must be strings, got NoneType at 0"):
        model.tokenize([None])
    assert model.tokenize([]) == []
    with pytest.raises(ValueError, match="pad: expected tokens of 1 text or more, got 0"):
        model.pad([])


@pytest.mark.parametrize(
    ("name", "value"), [("max_new_tokens", 2.5), ("seed", None), ("seed", "x")]
)
def test_options_of_decoding_are_integers(folders, name, value):
    model = CausalLM.from_pretrained(folders["GPT2LMHeadModel"])
    with pytest.raises(TypeError, match=f"{name} must be an integer, got {value!r}"):
        model.generate(["a"], **{"max_new_tokens": 3, name: value})
