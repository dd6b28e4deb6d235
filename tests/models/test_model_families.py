"""Encoders of all families: batches against texts alone, folders, adapters."""

from pathlib import Path

import numpy as np
import pytest

from tiny_families import FAMILIES, save_family

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from tilefold.models import Encoder, add_lora

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["who is w3", "w1", "w5 of w7 is w9 of w2", "who of w4"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    return Encoder.from_pretrained(folder, max_length=32)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_texts_are_encoded_in_batches_as_alone(folder: Path, pooling: str):
    encoder = Encoder.from_pretrained(folder, pooling=pooling, max_length=32, normalize=False)
    alone = np.concatenate([encoder.encode([text], progress=False) for text in TEXTS])
    assert np.linalg.norm(alone[0] - alone[1]) > 0.02
    np.testing.assert_allclose(encoder.encode(TEXTS, progress=False), alone, rtol=1e-4, atol=1e-5)


def test_a_saved_encoder_comes_back(encoder: Encoder, tmp_path: Path):
    encoder.save_pretrained(tmp_path / "saved")
    again = Encoder.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(
        again.encode(TEXTS, progress=False), encoder.encode(TEXTS, progress=False)
    )
    assert again.fingerprint() == encoder.fingerprint()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft itself
def test_an_adapter_is_trained_saved_and_merged(encoder: Encoder, tmp_path: Path):
    pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")
    plain = encoder.encode(TEXTS, progress=False)
    add_lora(encoder, r=2)
    np.testing.assert_allclose(encoder.encode(TEXTS, progress=False), plain, atol=1e-6)
    trained = {name: w for name, w in encoder.named_parameters() if w.requires_grad}
    assert trained
    generator = torch.Generator().manual_seed(1)
    for name, weight in trained.items():
        assert "lora_" in name
        weight.data.normal_(generator=generator)
    encoder(encoder.pad(encoder.tokenize(TEXTS))).pow(3).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in trained.values())
    adapted = encoder.encode(TEXTS, progress=False)
    assert abs(adapted - plain).max() > 1e-3
    encoder.save_pretrained(tmp_path / "saved")
    again = Encoder.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(again.encode(TEXTS, progress=False), adapted, atol=1e-6)
    merged = encoder.merge()
    np.testing.assert_allclose(merged.encode(TEXTS, progress=False), adapted, atol=1e-4)
