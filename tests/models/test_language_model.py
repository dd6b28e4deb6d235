"""Language models of every kind: loading refuses missing weights, adapters act, folders reload."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import CausalLM, Encoder, EncoderDecoderLM, MaskedLM, add_lora
from tilefold.models.checkpoints.language_model_checkpoint import has_language_model
from tiny_language_models import CONFIGS, build, save, save_words

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES: dict[str, Any] = {
    "BertForMaskedLM": MaskedLM,
    "GPT2LMHeadModel": CausalLM,
    "LlamaForCausalLM": CausalLM,
    "T5ForConditionalGeneration": EncoderDecoderLM,
}


def scores(model: Any) -> np.ndarray:
    if isinstance(model, MaskedLM):
        return model.logits(["the [MASK] fox", "[MASK]"])
    return model.log_likelihood(["the red fox", "a"], ["sleeps", "and runs"]).sum


@pytest.fixture(params=CLASSES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    return save(name, tmp_path / "model")


def test_a_saved_folder_comes_back_and_transformers_reads_it(name, folder, tmp_path):
    model = CLASSES[name].from_pretrained(folder, max_length=20)
    model.save_pretrained(tmp_path / "saved")
    again = CLASSES[name].from_pretrained(tmp_path / "saved")
    assert again.max_length == 20
    np.testing.assert_array_equal(scores(again), scores(model))
    theirs = getattr(transformers, name).from_pretrained(tmp_path / "saved")
    for key, weight in theirs.state_dict().items():
        assert torch.equal(weight, model.model.state_dict()[key])


def test_the_configuration_names_causal_language_models(name, folder, tmp_path):
    assert has_language_model(folder) == (CLASSES[name] is CausalLM)
    Encoder.from_pretrained(folder, max_length=20).save_pretrained(tmp_path / "encoder")
    assert not has_language_model(tmp_path / "encoder")  # it has lost its head
    config = folder / "config.json"
    config.write_text(json.dumps({"architectures": ["XLMWithLMHeadModel"]}))
    assert not has_language_model(folder)  # an encoder


def test_an_encoder_can_be_made_of_a_saved_language_model(name, folder, tmp_path):
    CLASSES[name].from_pretrained(folder).save_pretrained(tmp_path / "saved")
    expected = Encoder.from_pretrained(folder, max_length=20).encode(["the red fox"])
    found = Encoder.from_pretrained(tmp_path / "saved", max_length=20).encode(["the red fox"])
    np.testing.assert_array_equal(found, expected)


# ---- loading -------------------------------------------------------------------------------------


def headless(name: str, folder: Path, **changes: Any) -> Path:
    """The model without its head, as an encoder is published."""
    kind = {"BertForMaskedLM": "BertModel", "GPT2LMHeadModel": "GPT2Model"}.get(name)
    kind = kind or {"LlamaForCausalLM": "LlamaModel"}.get(name, "T5Model")
    model: Any = getattr(transformers, kind)
    model(model.config_class(**{**CONFIGS[name], **changes})).save_pretrained(folder)
    save_words(name, folder)
    return folder


@pytest.mark.parametrize("name", ["BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM"])
def test_a_head_that_would_be_random_is_refused(name, tmp_path):
    folder = headless(name, tmp_path / "model", tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"lacks \d weights of .*no language modelling head, and"):
        CLASSES[name].from_pretrained(folder)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_a_head_that_is_the_embeddings_is_not_missed(name, tmp_path):
    model = CLASSES[name].from_pretrained(headless(name, tmp_path / "model"))
    embeddings = model.model.get_input_embeddings().weight
    assert model.model.get_output_embeddings().weight is embeddings


def test_a_t5_that_says_its_head_is_untied_needs_one(tmp_path):
    name = "T5ForConditionalGeneration"
    folder = headless(name, tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match=r"lacks lm_head.weight, .* not tied to the word"):
        EncoderDecoderLM.from_pretrained(folder)


def test_weights_that_the_model_does_not_use_are_refused(tmp_path):
    config = transformers.GPT2Config(**CONFIGS["GPT2LMHeadModel"], num_labels=2)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    save_words("GPT2", tmp_path)
    with pytest.raises(ValueError, match=r"1 weights that GPT2LMHeadModel does not use, .* score"):
        CausalLM.from_pretrained(tmp_path)


def test_parts_of_pretraining_that_no_model_here_uses_are_not(tmp_path):
    config = transformers.BertConfig(**CONFIGS["BertForMaskedLM"])
    transformers.BertForPreTraining(config).save_pretrained(tmp_path)  # with pooler and NSP head
    save_words("Bert", tmp_path)
    assert scores(MaskedLM.from_pretrained(tmp_path)).shape == (2, 32)


def test_a_missing_layer_is_refused_by_name(name, folder):
    field = "num_layers" if name.startswith("T5") else "num_hidden_layers"
    field = "n_layer" if name.startswith("GPT2") else field
    build(name, **{field: 1}).save_pretrained(folder)
    getattr(transformers, name).config_class(**CONFIGS[name]).save_pretrained(folder)
    with pytest.raises(ValueError, match=rf"lacks \d+ weights of {name}, such as .*\.1\."):
        CLASSES[name].from_pretrained(folder)


@pytest.mark.parametrize("kind", CLASSES.values())
def test_a_folder_that_is_not_there_is_an_error(kind, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        kind.from_pretrained(tmp_path / "missing")


# ---- adapters ------------------------------------------------------------------------------------


def disturb(model: Any, seed: int = 1) -> None:
    """Adapters start as no change; make them one."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator).mul_(0.3)


def test_an_adapter_acts_on_a_language_model_and_comes_back(name, folder, tmp_path):
    pytest.importorskip("peft")
    model = CLASSES[name].from_pretrained(folder)
    before = scores(model)
    add_lora(model, r=2)
    np.testing.assert_array_equal(scores(model), before)
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in key for key in trained)
    disturb(model)
    changed = scores(model)
    assert abs(changed - before).max() > 1e-3
    np.testing.assert_allclose(scores(model.merge()), changed, rtol=1e-3, atol=1e-4)
    model.save_pretrained(tmp_path / "adapter")
    again = CLASSES[name].from_pretrained(tmp_path / "adapter")
    assert again.adapter == "default"
    np.testing.assert_array_equal(scores(again), changed)


def test_two_adapters_over_one_model_generate_each_in_its_own_way(tmp_path):
    pytest.importorskip("peft")
    model = CausalLM.from_pretrained(save("LlamaForCausalLM", tmp_path / "model"))
    add_lora(model, r=2, name="one")
    disturb(model)
    first = model.generate(["the red fox"], max_new_tokens=10)
    first_states = model.last_hidden_states(["the red fox"])
    other = model.with_options(adapter=None)
    add_lora(other, r=2, name="other")
    texts = other.generate(["the red fox"], max_new_tokens=10)
    assert texts != first  # a fresh adapter changes nothing
    assert model.generate(["the red fox"], max_new_tokens=10) == first
    np.testing.assert_array_equal(model.last_hidden_states(["the red fox"]), first_states)
    assert abs(other.last_hidden_states(["the red fox"]) - first_states).max() > 1e-3


@pytest.mark.parametrize("target", ["lm_head", ["wte"]])
def test_an_adapter_on_tied_embeddings_is_refused(tmp_path, target):
    """Merged, it would change embeddings and head alike, though it acts on one of them."""
    pytest.importorskip("peft")
    model = CausalLM.from_pretrained(save("GPT2LMHeadModel", tmp_path / "model"))
    with pytest.raises(ValueError, match=r"add_lora: the layer .* is tied to .*; choose others"):
        add_lora(model, r=2, target_modules=target)
    add_lora(model, r=2)  # nothing was changed by the attempt


def test_a_first_token_that_is_announced_and_not_added_is_said(tmp_path):
    """Log-likelihoods of texts without it are those of another context."""
    folder = save("LlamaForCausalLM", tmp_path / "model")
    path = folder / "tokenizer_config.json"
    announced = {"add_bos_token": True, "add_eos_token": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | announced))
    CausalLM.from_pretrained(folder)  # added by the tokenizer's own rules
    save_words("LlamaForCausalLM", folder, around="$A")
    path.write_text(json.dumps(json.loads(path.read_text()) | announced))
    with pytest.warns(UserWarning, match=r"adds no \[BOS\]; begin each text with '\[BOS\]' if"):
        CausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("GPT2LMHeadModel", EncoderDecoderLM), ("T5ForConditionalGeneration", CausalLM)],
)
def test_a_model_of_another_kind_is_named_in_one_line(folder, name, kind):
    with pytest.raises(
        ValueError, match=r"has a model of type \w+, which is no AutoModel"
    ) as error:
        kind.from_pretrained(folder)
    assert len(str(error.value).replace(str(folder), "")) < 100
