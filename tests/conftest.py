"""Shared fixtures (kernel rows, data sets, tiny models) and how the suite is run in parallel."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# One thread per worker: OpenMP reads this once, when torch is first imported. Two workers with a
# pool of two threads each would wait for one another on two cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from tilefold import _native
from word_tokenizer import save_tokenizer

# No deadline: an example takes milliseconds here and seconds under emulation or a sanitizer. The
# `isa` fixture is the same for all examples of a test, so @given may use it.
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
# The scalar row is several times slower than the others and shares the algorithms with them, and
# emulated CUDA is slower still, so they get fewer of the random examples (an explicit
# @settings(max_examples=...) is left alone).
hypothesis.settings.register_profile(
    "scalar", hypothesis.settings.get_profile("tilefold"), max_examples=30
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Runs a single file in this process; otherwise leaves `-n auto` to pytest-xdist."""
    files = {argument.partition("::")[0] for argument in config.args}
    return 0 if len(files) == 1 and files.pop().endswith(".py") else None


def _compiled_rows() -> dict[str, dict[str, Any]]:
    """Returns the entries of all compiled rows by name, whatever TILEFOLD_ISA is set to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TILEFOLD_ISA", raising=False)
        return {row["name"]: row for row in _native.rows()}


_ROWS = _compiled_rows()
# CUDA kernels on the host, where the build has them, with the best row for what the CPU does.
_EMULATED = ["cuda"] if _native.CUDA == "emulated" else []


@pytest.fixture(params=[*reversed(_ROWS), *_EMULATED])
def isa(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """Runs a test once per compiled kernel row, with that row in use; yields the row's entry.

    In a build that emulates CUDA, the test also runs with its kernels, as "cuda".
    """
    slow = request.param in ("scalar", "cuda")
    if request.param == "cuda":
        monkeypatch.setenv("TILEFOLD_EMULATE_CUDA", "1")
        row = next(row for row in _ROWS.values() if row["supported"])
        row = row | {"name": "cuda"}
    else:
        row = _ROWS[request.param]
        monkeypatch.setenv("TILEFOLD_ISA", row["name"])
    if not row["supported"]:
        pytest.skip(f"this machine cannot run the {row['name']} row, which needs {row['needs']}")
    hypothesis.settings.load_profile("scalar" if slow else "tilefold")
    yield row
    hypothesis.settings.load_profile("tilefold")


@pytest.fixture(scope="session")
def table() -> dict[str, dict[str, Any]]:
    """Entries of all compiled kernel rows by name, best first."""
    return _ROWS


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of data sets: TILEFOLD_DATA, or shared/data beside the checkout.

    Tests are skipped without it, or fail if TILEFOLD_REQUIRE_DATA is set, as in `.ci/run`.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TILEFOLD_DATA", beside))
    if not folder.is_dir():
        problem = f"no data sets at {folder}: set TILEFOLD_DATA to their folder"
        if os.environ.get("TILEFOLD_REQUIRE_DATA", "") not in ("", "0"):
            pytest.fail(f"{problem} (TILEFOLD_REQUIRE_DATA is set)")
        pytest.skip(problem)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Limits torch to one thread: synchronising more takes longer than tiny models compute."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a BERT with random weights and a tokenizer of words w0 to w99 and a few others."""
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
    """Function that makes a randomly initialised model strongly nonlinear, in place.

    Fresh models are nearly linear, so path integrals would not depend on the baseline, and layer
    normalisation gives all outputs of a token the same norm.
    """
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
    """A masked language model, a batch with one [MASK] (id 4) per text, and target token ids."""
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
