"""The fingerprint of a model: the same wherever it is computed, another one for any change."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import CausalLM, Encoder, EncoderDecoderLM, MaskedLM, add_lora, fingerprint
from tiny_language_models import WORDS, save, save_words

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = [
    (MaskedLM, "BertForMaskedLM"),
    (CausalLM, "GPT2LMHeadModel"),
    (CausalLM, "LlamaForCausalLM"),
    (EncoderDecoderLM, "T5ForConditionalGeneration"),
    *((Encoder, name) for name in ("BertForMaskedLM", "GPT2LMHeadModel", "LlamaForCausalLM")),
    (Encoder, "T5ForConditionalGeneration"),
]


def texts_of(model: Any) -> None:
    """Leaves truncation and padding of the tokenizer in another state."""
    if isinstance(model, Encoder):
        model.encode(["the red fox", "a"])
    elif isinstance(model, MaskedLM):
        model.logits(["the [MASK] fox", "[MASK]"])
    else:
        model.generate(["the red fox", "a"], max_new_tokens=2)


@pytest.mark.parametrize(("kind", "name"), MODELS)
def test_it_survives_use_saving_and_loading(kind, name, tmp_path):
    model = kind.from_pretrained(save(name, tmp_path / "model"), max_length=20)
    expected = fingerprint(model)
    assert len(expected) == 32
    assert expected == model.fingerprint()
    texts_of(model)
    assert model.fingerprint() == expected
    model.save_pretrained(tmp_path / "saved")
    assert kind.from_pretrained(tmp_path / "saved").fingerprint() == expected


def test_another_process_finds_the_same(tmp_path):
    folder = save("BertForMaskedLM", tmp_path)
    code = (
        "import sys; from tilefold.models import Encoder, MaskedLM\n"
        "for kind in (Encoder, MaskedLM): "
        "sys.stdout.write(kind.from_pretrained(sys.argv[1]).fingerprint() + '\\n')"
    )
    command = [sys.executable, "-c", code, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [kind.from_pretrained(folder).fingerprint() for kind in (Encoder, MaskedLM)]
    assert found[0] != found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save("LlamaForCausalLM", tmp_path / "model")


def test_the_last_bit_of_any_weight_changes_it(folder):
    model = CausalLM.from_pretrained(folder)
    seen = {model.fingerprint()}
    weights = dict(model.model.named_parameters())
    for weight in weights.values():
        bits = weight.data.view(-1).view(torch.int32)
        bits[-1] ^= 1
        seen.add(model.fingerprint())
    assert len(seen) == 1 + len(weights)


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 9},
        {"prefix": "red "},
        {"pooling": "cls"},
        {"normalize": False},
        {"append_eos": True},
        {"projection": torch.nn.Linear(32, 4)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_setting_of_an_encoder_changes_it(folder, options):
    encoder = Encoder.from_pretrained(folder)
    assert encoder.with_options(**options).fingerprint() != encoder.fingerprint()


def test_the_activation_of_a_projection_changes_it(folder):
    linear = torch.nn.Linear(32, 4)
    found = {
        Encoder.from_pretrained(
            folder, projection=torch.nn.Sequential(linear, activation)
        ).fingerprint()
        for activation in (torch.nn.Tanh(), torch.nn.GELU())
    }
    assert len(found) == 2


def test_precision_tokenizer_and_configuration_change_it(folder):
    seen = [CausalLM.from_pretrained(folder).fingerprint()]
    seen.append(CausalLM.from_pretrained(folder, dtype=torch.bfloat16).fingerprint())
    save_words("Llama", folder, words=["zebra", *WORDS[1:]])
    seen.append(CausalLM.from_pretrained(folder).fingerprint())
    save_words("Llama", folder)
    model = CausalLM.from_pretrained(folder)
    assert model.fingerprint() == seen[0]
    model.model.config.rms_norm_eps = 1e-3  # no weight, yet other results
    seen.append(model.fingerprint())
    model.model.config.rms_norm_eps = CausalLM.from_pretrained(folder).model.config.rms_norm_eps
    model.model.config.name_or_path = "elsewhere"
    assert model.fingerprint() == seen[0]
    assert len(set(seen)) == 4


def test_a_pooler_that_nothing_reads_does_not_change_it(tmp_path):
    encoder = Encoder.from_pretrained(save("BertForMaskedLM", tmp_path))  # whose pooler is random
    before = encoder.fingerprint()
    encoder.model.pooler.dense.weight.data.add_(1)
    assert encoder.fingerprint() == before


def test_the_adapter_in_use_changes_it_and_others_do_not(folder, tmp_path):
    pytest.importorskip("peft")
    model = CausalLM.from_pretrained(folder)
    plain = model.fingerprint()
    add_lora(model, r=2, name="one")
    adapted = model.fingerprint()
    assert adapted != plain
    other = model.with_options(adapter=None)
    add_lora(other, r=2, name="other")
    assert model.fingerprint() == adapted
    for name, weight in model.named_parameters():
        if "lora_B.other" in name:
            weight.data.add_(1)
    assert model.fingerprint() == adapted
    changed = other.fingerprint()
    assert changed != adapted
    other.save_pretrained(tmp_path / "adapter")  # where it gets another name
    assert CausalLM.from_pretrained(tmp_path / "adapter").fingerprint() == changed
