"""Fixtures that test files share: the rows of the table, data sets, one thread for torch."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tilefold import _native
from word_tokenizer import save_tokenizer

# A row costs milliseconds here and seconds under emulation or a sanitizer: no deadline. The `isa`
# fixture holds for all examples of a test alike, so it may be used with @given.
hypothesis.settings.register_profile(
    "tilefold",
    deadline=None,
    print_blob=True,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.differing_executors,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("tilefold")


def _compiled_rows() -> dict[str, dict[str, Any]]:
    """The table as it stands, whatever TILEFOLD_ISA asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TILEFOLD_ISA", raising=False)
        return {row["name"]: row for row in _native.rows()}


_ROWS = _compiled_rows()


@pytest.fixture(params=reversed(_ROWS))
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs a test once per row of the table, with that row in use; gives the row's entry."""
    row = _ROWS[request.param]
    if not row["supported"]:
        pytest.skip(f"this machine cannot run the {row['name']} row, which needs {row['needs']}")
    monkeypatch.setenv("TILEFOLD_ISA", row["name"])
    return row


@pytest.fixture(scope="session")
def table() -> dict[str, dict[str, Any]]:
    """All compiled rows by name, best first."""
    return _ROWS


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets: TILEFOLD_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TILEFOLD_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no data sets here: set TILEFOLD_DATA to their folder")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine, torch's threads wait for each other longer than tiny models compute."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, saved with a tokenizer of words w0 to w99 and a few others."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    words = ["who", "is", "of", *(f"w{i}" for i in range(100))]
    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=4 + len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=256,
    )
    transformers.BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, words, length=256, cls_token="[CLS]", sep_token="[SEP]")
    return folder


@pytest.fixture(scope="session")
def stirred():
    """Fresh models are nearly linear, so that any path from nothing would do, and what they say at
    a token has one length, which is owed to nothing. This makes them less so, in place."""
    torch = pytest.importorskip("torch")

    def stir(model):
        generator = torch.Generator().manual_seed(3)
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data *= 4
            if isinstance(module, torch.nn.LayerNorm):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
        return model.eval()

    return stir


@pytest.fixture(scope="module")
def masked(tiny_bert, stirred):
    """A masked language model, texts with one [MASK] (4) each, and words that may stand there."""
    import torch
    import transformers

    torch.manual_seed(1)
    model = stirred(
        transformers.BertForMaskedLM(transformers.AutoConfig.from_pretrained(tiny_bert))
    )
    generator = torch.Generator().manual_seed(2)
    tokens = {
        "input_ids": torch.randint(5, 100, (3, 7), generator=generator),
        "attention_mask": torch.ones(3, 7, dtype=torch.int64),
    }
    tokens["attention_mask"][1, 5:] = 0
    tokens["input_ids"][[0, 1, 2], [2, 4, 6]] = 4
    return model, tokens, torch.tensor([10, 20, 30])
