"""DPR's checkpoints: each encoder gets its own weights, where AutoModel leaves one random."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from word_tokenizer import save_tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import BiEncoder, Encoder

WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over"]
TEXTS = ["red fox", "the blue hen sleeps over the barn", "fox"]
DPR = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "layer_norm_eps": 1e-3,  # as a check that the configuration is kept
}
TOWERS = {"question": "DPRQuestionEncoder", "context": "DPRContextEncoder"}
pytestmark = pytest.mark.usefixtures("one_thread")


def save(folder: Path, name: str, *, seed: int = 0, **config: Any) -> Any:
    """A DPR encoder with random weights, saved with a tokenizer of whole words."""
    torch.manual_seed(seed)
    model = getattr(transformers, name)(transformers.DPRConfig(**DPR, **config)).eval()
    model.save_pretrained(folder)
    save_tokenizer(folder, WORDS)
    return model


def pooled(model: Any, encoder: Encoder) -> np.ndarray:
    """What transformers' own class makes of the texts."""
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    with torch.inference_mode():
        return model(**tokens).pooler_output.numpy()


@pytest.mark.parametrize("projection_dim", [0, 8])
@pytest.mark.parametrize("name", TOWERS.values())
def test_embeddings_are_the_pooler_output_of_the_right_class(name, projection_dim, tmp_path: Path):
    model = save(tmp_path, name, projection_dim=projection_dim)
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    assert encoder.dim == (projection_dim or 32)
    assert not encoder.normalize
    np.testing.assert_allclose(encoder.encode(TEXTS), pooled(model, encoder), atol=1e-5)


def test_automodel_leaves_a_context_encoder_random(tmp_path: Path):
    """If this fails, transformers has mended it: then say so in dpr.py."""
    model = save(tmp_path, TOWERS["context"])
    theirs, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(theirs) is transformers.DPRQuestionEncoder
    assert len(report["missing_keys"]) == len(report["unexpected_keys"]) == len(model.state_dict())
    random = theirs.state_dict()
    for key, weight in model.state_dict().items():
        if weight.ndim == 2:  # the others are zeros and ones from the start
            assert not torch.allclose(weight, random[key.replace("ctx_", "question_")], atol=1e-3)


def test_question_and_context_encoders_make_a_bi_encoder(tmp_path: Path):
    models = [
        save(tmp_path / kind, name, seed=seed) for seed, (kind, name) in enumerate(TOWERS.items())
    ]
    pair = BiEncoder.from_pretrained(
        tmp_path / "question", document=tmp_path / "context", max_length=24
    )
    for model, encoder, embeddings in zip(
        models,
        (pair.query_encoder, pair.document_encoder),
        (pair.encode_queries(TEXTS), pair.encode_corpus(TEXTS)),
        strict=True,
    ):
        np.testing.assert_allclose(embeddings, pooled(model, encoder), atol=1e-5)


def test_saved_again_it_is_a_bert_that_automodel_reads(tmp_path: Path):
    model = save(tmp_path / "dpr", TOWERS["context"], projection_dim=8)
    encoder = Encoder.from_pretrained(tmp_path / "dpr", max_length=24)
    encoder.save_pretrained(tmp_path / "bert")
    again = Encoder.from_pretrained(tmp_path / "bert")
    np.testing.assert_allclose(again.encode(TEXTS), pooled(model, encoder), atol=1e-5)
    theirs, report = transformers.AutoModel.from_pretrained(
        tmp_path / "bert", output_loading_info=True
    )
    assert type(theirs) is transformers.BertModel
    assert {key.partition(".")[0] for key in report["missing_keys"]} == {"pooler"}
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    with torch.inference_mode():
        expected = model.ctx_encoder.bert_model(**tokens).last_hidden_state
        np.testing.assert_array_equal(theirs.eval()(**tokens).last_hidden_state, expected)


def test_weights_in_torchs_own_format_are_told_apart_as_well(tmp_path: Path):
    model = save(tmp_path, TOWERS["context"])
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    np.testing.assert_allclose(encoder.encode(TEXTS), pooled(model, encoder), atol=1e-5)


def test_weights_decide_whatever_the_configuration_names(tmp_path: Path):
    model = save(tmp_path, TOWERS["context"])
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("DPRContextEncoder", "DPRQuestionEncoder"))
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    np.testing.assert_allclose(encoder.encode(TEXTS), pooled(model, encoder), atol=1e-5)


def test_a_reader_is_no_encoder(tmp_path: Path):
    save(tmp_path, "DPRReader")
    with pytest.raises(ValueError, match=r"of type dpr, but its weights are named \['span_pred"):
        Encoder.from_pretrained(tmp_path)


def test_a_dpr_checkpoint_that_lacks_weights_is_an_error(tmp_path: Path):
    model = save(tmp_path, TOWERS["context"])
    model.ctx_encoder.bert_model.encoder.layer = model.ctx_encoder.bert_model.encoder.layer[:1]
    model.config.num_hidden_layers = 2
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 16 weights of DPRContextEncoder, such as ctx_enc"):
        Encoder.from_pretrained(tmp_path)


def test_a_folder_without_weights_is_an_error(tmp_path: Path):
    save(tmp_path, TOWERS["context"])
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model.safetensors nor pytorch_model.bin"):
        Encoder.from_pretrained(tmp_path)
