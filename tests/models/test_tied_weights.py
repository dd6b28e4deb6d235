"""Layers that share their weights: adapters on them are refused, heads of their own are kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_language_models import save

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")
peft = pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")

from tilefold.models import CausalLM, EncoderDecoderLM, MaskedLM, add_lora

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS, WORDS = ["the red fox", "a hen"], [" runs", " sleeps over"]
TIED = {"tie_word_embeddings": True}


def disturb(model: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator)


@pytest.mark.parametrize(
    ("kind", "name", "target", "other"),
    [
        (CausalLM, "GPT2LMHeadModel", ["wte"], "lm_head"),
        (CausalLM, "GPT2LMHeadModel", "lm_head", "transformer.wte"),
        (CausalLM, "LlamaForCausalLM", ["embed_tokens"], "lm_head"),
        (CausalLM, "LlamaForCausalLM", r".*(q_proj|lm_head)", "model.embed_tokens"),
        (EncoderDecoderLM, "T5ForConditionalGeneration", ["shared"], "encoder.embed_tokens"),
        (MaskedLM, "BertForMaskedLM", ["decoder"], "bert.embeddings.word_embeddings"),
    ],
)
def test_an_adapter_on_a_tied_layer_is_refused_with_both_names(
    tmp_path: Path, kind: Any, name: str, target: Any, other: str
):
    options = TIED if name == "LlamaForCausalLM" else {}
    model = kind.from_pretrained(save(name, tmp_path / "model", **options))
    with pytest.raises(ValueError, match=rf"add_lora: the layer '.*' is tied to '{other}'; choose"):
        add_lora(model, r=2, target_modules=target)
    add_lora(model, r=2)  # nothing was changed by the attempt


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_all_linear_layers_leave_the_tied_head_out(tmp_path: Path, name: str):
    options = TIED if name == "LlamaForCausalLM" else {}
    model = CausalLM.from_pretrained(save(name, tmp_path / "model", **options))
    add_lora(model, r=2, target_modules="all-linear")
    disturb(model.model)
    expected = model.log_likelihood(PROMPTS, WORDS).sum
    merged = model.merge().log_likelihood(PROMPTS, WORDS).sum
    np.testing.assert_allclose(merged, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # peft says so itself, and goes on
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft itself
def test_an_adapter_that_peft_put_there_is_not_merged(tmp_path: Path):
    """Logits of the merged model would be others."""
    plain = CausalLM.from_pretrained(save("LlamaForCausalLM", tmp_path / "model", **TIED))
    config = peft.LoraConfig(r=2, target_modules=["lm_head"])
    model = CausalLM(peft.get_peft_model(plain.model, config), plain.tokenizer, adapter="default")
    disturb(model.model)
    with pytest.raises(ValueError, match=r"merge: the layer 'lm_head' is tied to 'model.embed_tok"):
        model.merge()


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM"])
def test_a_head_that_was_untied_comes_back(tmp_path: Path, name: str):
    options = TIED if name == "LlamaForCausalLM" else {}
    model = CausalLM.from_pretrained(save(name, tmp_path / "model", **options))
    head = model.model.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().flip(0).clone())
    expected = model.log_likelihood(PROMPTS, WORDS).sum
    model.save_pretrained(tmp_path / "saved")
    again = CausalLM.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(again.log_likelihood(PROMPTS, WORDS).sum, expected)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_head_that_was_trained_beside_an_adapter_is_merged_as_it_is(tmp_path: Path):
    """modules_to_save of peft: a copy of the head, which is tied to nothing."""
    plain = CausalLM.from_pretrained(save("LlamaForCausalLM", tmp_path / "model", **TIED))
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    model = CausalLM(peft.get_peft_model(plain.model, config), plain.tokenizer, adapter="default")
    disturb(model.model)
    for key, weight in model.model.named_parameters():
        if "modules_to_save" in key:
            weight.data += 0.1 * torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(2)
            )
    expected = model.log_likelihood(PROMPTS, WORDS).sum
    merged = model.merge()
    np.testing.assert_allclose(
        merged.log_likelihood(PROMPTS, WORDS).sum, expected, rtol=1e-3, atol=1e-3
    )
    merged.save_pretrained(tmp_path / "merged")
    again = CausalLM.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(
        again.log_likelihood(PROMPTS, WORDS).sum, expected, rtol=1e-3, atol=1e-3
    )


def test_weights_that_are_not_contiguous_are_saved_as_they_are(tmp_path: Path):
    """safetensors writes memory as it lies, which is in another order."""
    from tilefold.models import Encoder, minilm

    encoder = minilm()
    projection = torch.nn.Linear(384, 384, bias=False)
    projection.weight = torch.nn.Parameter(torch.randn(384, 384).T)
    assert not projection.weight.is_contiguous()
    dense = encoder.model.encoder.layer[0].attention.output.dense
    dense.weight = torch.nn.Parameter(dense.weight.detach().T.contiguous().T)
    assert not dense.weight.is_contiguous()
    projected = encoder.with_options(projection=projection)
    expected = projected.encode(PROMPTS)
    projected.save_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(
        Encoder.from_pretrained(tmp_path / "saved").encode(PROMPTS), expected, atol=1e-6
    )
    projected.export_sentence_transformers(tmp_path / "exported")
    (tmp_path / "exported" / "tilefold.json").unlink()
    np.testing.assert_allclose(
        Encoder.from_pretrained(tmp_path / "exported").encode(PROMPTS), expected, atol=1e-6
    )
