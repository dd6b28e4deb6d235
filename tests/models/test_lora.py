"""LoRA: adapters over a frozen model, one for both towers or one for each."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from word_tokenizer import save_tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)
peft = pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")

from tilefold.models import BiEncoder, Encoder, Lora, add_lora

WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over"]
TEXTS = ["red fox", "the blue hen sleeps over the barn", "fox"]
SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["LlamaModel", "BertModel"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, whose texts end with a token of their own.

    BERT calls layers `query`, which peft would confuse with an adapter of that name.
    """
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    kind = getattr(transformers, request.param)
    kind(kind.config_class(**SIZES)).save_pretrained(folder)
    save_tokenizer(folder, WORDS, around="$A [EOS]", special=["[EOS]"])
    return folder


@pytest.fixture
def load(tiny: Path) -> Callable[..., BiEncoder]:
    options = {"max_length": 24, "pooling": "last"}
    return lambda **more: BiEncoder.from_pretrained(tiny, **options, **more)


def embed(encoder: Encoder) -> Any:
    return encoder(encoder.pad(encoder.tokenize(TEXTS)))


def disturb(model: Any) -> None:
    """Adapters start as no change; make them one."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(generator=generator)


def trained(model: Any) -> set[str]:
    """The last parts of names of the parameters with a gradient that is not zero."""
    return {
        name
        for name, weight in model.named_parameters()
        if weight.grad is not None and weight.grad.abs().sum() > 0
    }


def test_a_new_adapter_changes_nothing_and_freezes_the_model(load):
    plain, adapted = load(), load(lora=Lora(r=2))
    assert adapted.tied
    expected = plain.encode_queries(TEXTS)
    np.testing.assert_allclose(adapted.encode_queries(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(adapted.encode_corpus(TEXTS), expected, atol=1e-6)
    assert not any(part.training for part in adapted.modules())
    names = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    embed(adapted.query_encoder).sum().backward()
    assert trained(adapted) == {name for name in names if "lora_B" in name}  # B is zero: A waits


def test_a_tied_adapter_serves_both_towers_whatever_their_prefixes(load):
    model = load(lora=Lora(r=2), query_prefix="red ")
    disturb(model)
    assert model.tied
    assert model.document_encoder.prefix == ""
    prefixed = ["red " + text for text in TEXTS]
    np.testing.assert_allclose(
        model.encode_queries(TEXTS), model.encode_corpus(prefixed), atol=1e-6
    )


def test_two_towers_share_one_model_and_differ_in_their_adapters(load):
    model = load(tied=False, lora=Lora(r=2))
    assert not model.tied
    assert model.query_encoder.model is model.document_encoder.model
    disturb(model)
    assert abs(model.encode_queries(TEXTS) - model.encode_corpus(TEXTS)).max() > 1e-3


@pytest.mark.parametrize("tower", ["queries", "documents"])
def test_gradients_reach_the_adapter_of_their_tower_only(load, tower: str):
    model = load(tied=False, lora=Lora(r=2))
    disturb(model)
    embed(dict(towers(model))[tower]).pow(3).sum().backward()
    names = trained(model)
    assert names
    assert all(re.search(rf"lora_[AB]\.{tower}\.", name) for name in names)


def test_gradients_of_a_loss_over_both_towers_are_those_of_separate_models(load):
    """Both towers run before the way back, so switching must not freeze what waits."""
    model = load(tied=False, lora=Lora(r=2))
    disturb(model)
    (embed(model.query_encoder) * embed(model.document_encoder)).sum().backward()
    shared = {name: weight.grad for name, weight in model.named_parameters() if "lora_" in name}
    assert len(trained(model)) == len(shared) == 16  # 2 layers × q, v × A, B × 2 towers
    fixed = {name: embed(tower).detach() for name, tower in towers(model)}
    for name, tower in towers(model):
        model.zero_grad()
        other = fixed["documents" if name == "queries" else "queries"]
        (embed(tower) * other).sum().backward()
        for key, weight in model.named_parameters():
            if re.search(rf"lora_[AB]\.{name}\.", key):
                torch.testing.assert_close(shared[key], weight.grad)


def towers(model: BiEncoder) -> list[tuple[str, Encoder]]:
    return [("queries", model.query_encoder), ("documents", model.document_encoder)]


def test_checkpointed_activations_are_computed_again_with_the_adapter_they_had(load):
    gradients = []
    for checkpointed in (False, True):
        model = load(tied=False, lora=Lora(r=2))
        disturb(model)
        model.train()
        if checkpointed:
            model.checkpoint_activations()
        torch.manual_seed(0)  # for dropout
        (embed(model.query_encoder) * embed(model.document_encoder)).sum().backward()
        gradients.append({n: w.grad for n, w in model.named_parameters() if "lora_" in n})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_checkpoints_that_would_mix_adapters_up_are_an_error(load):
    model = load(tied=False, lora=Lora(r=2))
    base = model.query_encoder.model.get_base_model()
    getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)()
    for _, tower in towers(model):
        with pytest.raises(ValueError, match=r"call checkpoint_activations\(\) of the encoder"):
            embed(tower.train())


def test_the_model_itself_keeps_its_adapter_and_its_frozen_weights(load):
    model = load(tied=False, lora=Lora(r=2))
    adapted = model.query_encoder.model
    frozen = next(w for name, w in model.named_parameters() if "lora_A.documents" in name)
    frozen.requires_grad_(False)
    before, flags = adapted.active_adapter, [w.requires_grad for w in model.parameters()]
    model.encode_queries(TEXTS)
    model.encode_corpus(TEXTS)
    assert adapted.active_adapter == before
    assert [weight.requires_grad for weight in model.parameters()] == flags


def test_towers_with_models_of_their_own_have_adapters_of_their_own(load, tiny, tmp_path: Path):
    model = load(document=tiny, lora=Lora(r=2))
    assert model.query_encoder.model is not model.document_encoder.model
    disturb(model)
    embed(model.query_encoder).pow(3).sum().backward()
    assert all(name.startswith("query_encoder") for name in trained(model))
    model.save_pretrained(tmp_path / "saved")
    again = BiEncoder.from_pretrained(tmp_path / "saved")
    for side in ("encode_queries", "encode_corpus"):
        expected = getattr(model, side)(TEXTS)
        np.testing.assert_allclose(getattr(again, side)(TEXTS), expected, atol=1e-6)


# ---- save, load, merge ---------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_saved_adapters_come_back_over_the_model_they_name(load, tiny, tmp_path: Path, tied: bool):
    model = load(tied=tied, lora=Lora(r=2, alpha=4), projection=torch.nn.Linear(32, 8))
    disturb(model)
    model.save_pretrained(tmp_path / "saved")
    again = BiEncoder.from_pretrained(tmp_path / "saved")
    assert again.tied == tied
    assert again.query_encoder.model is again.document_encoder.model
    for side in ("encode_queries", "encode_corpus"):
        expected = getattr(model, side)(TEXTS)
        np.testing.assert_allclose(getattr(again, side)(TEXTS), expected, atol=1e-6)
    trainable = {name for name, weight in again.named_parameters() if weight.requires_grad}
    assert trainable == {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert not list((tmp_path / "saved").rglob("model.safetensors"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft itself
def test_plain_peft_and_transformers_read_the_adapter(load, tiny: Path, tmp_path: Path):
    model = load(tied=False, lora=Lora(r=2))
    disturb(model)
    model.save_pretrained(tmp_path / "saved")
    tokens = model.document_encoder.pad(model.document_encoder.tokenize(TEXTS))
    base = transformers.AutoModel.from_pretrained(tiny)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "saved" / "document")
    auto = transformers.AutoModel.from_pretrained(tmp_path / "saved" / "document")
    with torch.inference_mode():
        ours = model.document_encoder(tokens)
        for other in (theirs, auto):
            again = Encoder(other, model.document_encoder.tokenizer, pooling="last", max_length=24)
            torch.testing.assert_close(again(tokens), ours)


@pytest.mark.parametrize("tied", [True, False])
def test_merged_it_is_plain_and_embeds_alike(load, tmp_path: Path, tied: bool):
    model = load(tied=tied, lora=Lora(r=2), query_prefix="red ")
    disturb(model)
    expected = model.encode_queries(TEXTS), model.encode_corpus(TEXTS)
    merged = model.merge()
    assert merged.tied == tied
    assert all(weight.requires_grad for weight in merged.parameters())
    merged.save_pretrained(tmp_path / "saved")
    for plain in (merged, BiEncoder.from_pretrained(tmp_path / "saved")):
        assert not any("lora" in name for name, _ in plain.named_parameters())
        np.testing.assert_allclose(plain.encode_queries(TEXTS), expected[0], atol=1e-5)
        np.testing.assert_allclose(plain.encode_corpus(TEXTS), expected[1], atol=1e-5)
    np.testing.assert_array_equal(model.encode_queries(TEXTS), expected[0])  # left as it was


def test_gpt2_and_chosen_layers_take_adapters(tmp_path: Path, load):
    sizes = {"vocab_size": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24}
    config = transformers.GPT2Config(**sizes, bos_token_id=2, eos_token_id=2)
    encoder = Encoder(transformers.GPT2Model(config), load().query_encoder.tokenizer, max_length=24)
    add_lora(encoder, r=2, target_modules=["c_proj"])
    assert {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, weight in encoder.named_parameters()
        if weight.requires_grad
    } == {"c_proj"}
    with pytest.raises(ValueError, match="an adapter is saved with the name of the model under it"):
        encoder.save_pretrained(tmp_path / "saved")


# ---- wrong input ---------------------------------------------------------------------------------


def test_wrong_adapters_are_errors(load, tmp_path: Path):
    model = load(lora=Lora(r=2))
    with pytest.raises(ValueError, match="already has an adapter 'default'; choose a new name"):
        add_lora(model.query_encoder)
    for name in ("lora", "embed", "a.b"):
        with pytest.raises(ValueError, match=f"'{name}' cannot name an adapter"):
            add_lora(model.query_encoder, name=name)
    for name in (None, 3, ["a"]):
        with pytest.raises(TypeError, match="add_lora: name must be a string, got"):
            add_lora(model.query_encoder, name=name)
    with pytest.raises(ValueError, match=r"as a part of the layer .*embed.* begins with it"):
        add_lora(model.query_encoder, name="embed")
    with pytest.raises(ValueError, match=r"no adapter 'other' in the model's \['default'\]"):
        model.query_encoder.with_options(adapter="other")
    with pytest.raises(ValueError, match=r"there is an adapter; merge\(\) it first"):
        model.export_sentence_transformers(tmp_path / "exported")
    with pytest.raises(ValueError, match="name one with `adapter`"):
        model.query_encoder.with_options(adapter=None).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"Encoder.merge: there is no adapter"):
        load().merge()
    for wrong, complaint in (({"r": 0}, "r must be at least 1"), ({"dropout": 1}, "below 1")):
        with pytest.raises(ValueError, match=complaint):
            Lora(**wrong)
    with pytest.raises(TypeError, match="Lora: r must be an integer, got float"):
        Lora(2.5)
    for rank in (2**62, 2**70):
        with pytest.raises(MemoryError, match=f"an adapter of rank {rank} does not fit in memory"):
            load(lora=Lora(rank))
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="lora, but there is an adapter already"):
        BiEncoder.from_pretrained(tmp_path / "saved", lora=Lora())


def test_an_adapter_that_does_not_fit_its_model_is_an_error(load, tiny: Path, tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.torch")
    load(lora=Lora(r=2)).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "adapter_model.safetensors"
    weights = safetensors.load_file(path)
    some, *others = weights
    for wrong, complaint in (
        ({name: weights[name] for name in others}, "1 weights are missing or of other layers"),
        (weights | {some: torch.zeros(3, 3)}, "does not fit the model"),
        (weights | {"base_model.model.nowhere.lora_A.weight": torch.zeros(2)}, "of other layers"),
    ):
        safetensors.save_file(wrong, path)
        with pytest.raises(ValueError, match=complaint):
            BiEncoder.from_pretrained(tmp_path / "saved")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_config.json but no adapter_model"):
        BiEncoder.from_pretrained(tmp_path / "saved")
