"""Folders that sentence-transformers builds give the vectors that it gives, or are refused."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from word_tokenizer import save_tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")
library = pytest.importorskip(
    "sentence_transformers", reason="pip install tilefold[sentence-transformers]"
)

from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from tilefold.models import BiEncoder, Encoder

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "ask", "tell"]
TEXTS = ["red fox", "", "the blue hen sleeps over the barn the blue hen sleeps over the barn"]
PLACES = 34  # of RoBERTa, which can read 32 tokens of them
_SIZES = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": PLACES,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of transformers."""
    folders = {}
    for name in ("Bert", "Roberta", "Llama"):
        folders[name] = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        own = {"pad_token_id": 1} if name == "Roberta" else {}
        kind = getattr(transformers, f"{name}Model")
        kind(kind.config_class(**{**_SIZES, **own})).save_pretrained(folders[name])
        save_tokenizer(folders[name], WORDS, length=512, cls_token="[CLS]", sep_token="[SEP]")
    return folders


def build(folder: Path, model: Path, **settings: Any) -> Any:
    """Saves a folder of the library's, and loads it there."""
    torch.manual_seed(1)
    lengths = {k: settings[k] for k in ("query_length", "document_length") if k in settings}
    modules = [
        Transformer(str(model), max_seq_length=settings.get("length"), **lengths),
        Pooling(32, settings.get("pooling", "mean"), include_prompt=settings.get("include", True)),
    ]
    modules += [Dense(32, 8)] if settings.get("dense") else []
    modules += [Normalize()] if settings.get("normalize") else []
    made = library.SentenceTransformer(
        modules=modules,
        prompts=settings.get("prompts"),
        default_prompt_name=settings.get("default"),
        device="cpu",
    )
    made.save(str(folder), create_model_card=False)
    return library.SentenceTransformer(str(folder), device="cpu")


def assert_alike(ours: BiEncoder, theirs: Any) -> None:
    close = {"rtol": 1e-4, "atol": 1e-6}
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS), **close)
    np.testing.assert_allclose(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS), **close)


PROMPT = st.sampled_from([None, "", "ask ", "tell a "])


@pytest.mark.filterwarnings("ignore:.*puts no prompt before documents:UserWarning")
@settings(max_examples=30)
@given(data=st.data())
def test_vectors_are_those_of_the_library(models, tmp_path_factory, data):
    names = data.draw(st.sets(st.sampled_from(["query", "document", "passage", "corpus", "sts"])))
    prompts = {name: data.draw(PROMPT) for name in sorted(names)}
    given_ = {name: text for name, text in prompts.items() if text is not None}
    chosen = {
        "pooling": data.draw(st.sampled_from(["mean", "cls", "lasttoken"])),
        "normalize": data.draw(st.booleans()),
        "dense": data.draw(st.booleans()),
        "prompts": given_,
        "default": data.draw(st.sampled_from([None, *sorted(given_)])),
        "length": data.draw(st.sampled_from([None, 5, 12])),
    }
    model = data.draw(st.sampled_from(sorted(models)))
    folder = tmp_path_factory.mktemp("folder")
    theirs = build(folder, models[model], **chosen)
    assert_alike(BiEncoder.from_pretrained(folder), theirs)


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({}, "", ""),
        ({"query": "ask "}, "ask ", ""),
        ({"document": "tell "}, "", "tell "),
        ({"query": "", "document": "tell "}, "", "tell "),
        ({"query": None, "document": "tell "}, "", "tell "),
        ({"sts": "a "}, "", ""),
        ({"query": "ask ", "sts": "a "}, "ask ", ""),
    ],
)
@pytest.mark.parametrize("default", [None, "sts"])
def test_the_default_prompt_is_for_neither_queries_nor_documents(
    models, tmp_path: Path, prompts, query, document, default
):
    theirs = build(tmp_path, models["Bert"])
    path = tmp_path / "config_sentence_transformers.json"
    record = json.loads(path.read_text())
    record |= {"prompts": prompts, "default_prompt_name": default if "sts" in prompts else None}
    path.write_text(json.dumps(record))
    theirs = library.SentenceTransformer(str(tmp_path), device="cpu")
    ours = BiEncoder.from_pretrained(tmp_path)
    assert (ours.query_encoder.prefix, ours.document_encoder.prefix) == (query, document)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_a_prompt_that_the_library_does_not_reach_is_said(models, tmp_path: Path, name: str):
    theirs = build(tmp_path, models["Bert"], prompts={name: "tell "})
    with pytest.warns(UserWarning, match=rf"to use that of '{name}', pass document_prefix='tell '"):
        assert_alike(BiEncoder.from_pretrained(tmp_path), theirs)


def test_one_encoder_has_no_prompt_for_three_kinds_of_texts(models, tmp_path: Path):
    theirs = build(tmp_path, models["Bert"], prompts={"sts": "tell "}, default="sts")
    with pytest.raises(ValueError, match="has the prompt 'tell ' for texts that are neither"):
        Encoder.from_pretrained(tmp_path)
    ours = Encoder.from_pretrained(tmp_path, prefix="tell ")
    np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), rtol=1e-4, atol=1e-6)


def test_lengths_of_queries_and_documents_are_their_own(models, tmp_path: Path):
    theirs = build(tmp_path, models["Bert"], length=12, query_length=4, document_length=8)
    ours = BiEncoder.from_pretrained(tmp_path)
    assert (ours.query_encoder.max_length, ours.document_encoder.max_length) == (4, 8)
    assert_alike(ours, theirs)


@pytest.mark.parametrize("length", [None, PLACES])
def test_positions_behind_padding_are_not_read(models, tmp_path: Path, length):
    """A RoBERTa of 34 positions with padding 1 numbers them from 2: a text has 32 at most."""
    long = " ".join(["hen"] * 60)
    ours = Encoder.from_pretrained(models["Roberta"])
    assert ours.max_length == 32
    cut = " ".join(["hen"] * 30)  # and two special tokens
    np.testing.assert_array_equal(ours.encode([long]), ours.encode([cut]))
    with pytest.raises(ValueError, match="between 1 and the model's 32, got 33"):
        Encoder.from_pretrained(models["Roberta"], max_length=33)
    theirs = build(tmp_path, models["Roberta"], length=length)
    read = BiEncoder.from_pretrained(tmp_path)
    assert read.query_encoder.max_length == 32
    assert_alike(read, theirs)
    np.testing.assert_allclose(
        read.encode_queries([long]), theirs.encode_query([cut]), rtol=1e-4, atol=1e-6
    )


# ---- what has no counterpart ---------------------------------------------------------------------


def test_prompts_that_are_not_pooled_are_refused_where_there_are_any(models, tmp_path: Path):
    theirs = build(tmp_path / "none", models["Bert"], include=False)
    assert_alike(BiEncoder.from_pretrained(tmp_path / "none"), theirs)
    build(tmp_path / "some", models["Bert"], include=False, prompts={"query": "ask "})
    with pytest.raises(ValueError, match=r"include_prompt is false.* the prompt 'ask '"):
        BiEncoder.from_pretrained(tmp_path / "some")


def test_a_router_is_refused_by_name(models, tmp_path: Path):
    routes = [[Transformer(str(models["Bert"])), Pooling(32)] for _ in range(2)]
    router = Router.for_query_document(*routes)
    made = library.SentenceTransformer(modules=[router, Normalize()], device="cpu")
    made.save(str(tmp_path), create_model_card=False)
    with pytest.raises(ValueError, match="a Router is not supported; save the modules of each"):
        BiEncoder.from_pretrained(tmp_path)
    # The way that the message names.
    for name, modules in zip(("query", "document"), routes, strict=True):
        alone = library.SentenceTransformer(modules=[*modules, Normalize()], device="cpu")
        alone.save(str(tmp_path / name), create_model_card=False)
    ours = BiEncoder.from_pretrained(tmp_path / "query", document=tmp_path / "document")
    assert_alike(ours, made)


@pytest.fixture
def changed(models, tmp_path: Path) -> Callable[..., Path]:
    def change(**fields: Any) -> Path:
        build(tmp_path, models["Bert"])
        path = tmp_path / "config_sentence_transformers.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        return tmp_path

    return change


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"truncate_dim": 4}, "truncate_dim=4 is not supported"),
        ({"prompts": {"query": 3}}, "the prompt 'query' must be a string, got 3"),
        ({"default_prompt_name": "sts"}, r"must be one of \['query', 'document'\], got 'sts'"),
    ],
)
def test_wrong_prompts_are_named(changed, fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        BiEncoder.from_pretrained(changed(**fields))


# ---- tokens that a tokenizer announces -----------------------------------------------------------


def announce(folder: Path, model: Path, **fields: Any) -> Path:
    """A model beside a tokenizer whose rules add no tokens, and whose configuration has fields."""
    transformers.AutoModel.from_pretrained(model).save_pretrained(folder)
    special = {"special": ["[BOS]", "[EOS]"], "bos_token": "[BOS]", "eos_token": "[EOS]"}
    save_tokenizer(folder, WORDS, around="$A", **special)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def test_an_end_token_that_is_announced_and_not_added_is_said(models, tmp_path: Path):
    folder = announce(tmp_path, models["Llama"], add_eos_token=True)
    with pytest.warns(
        UserWarning, match=r"add_eos_token is true, but .* adds no \[EOS\]; pass app"
    ):
        plain = Encoder.from_pretrained(folder, pooling="last")
    ended = Encoder.from_pretrained(folder, pooling="last", append_eos=True)  # and no warning
    assert [len(text["input_ids"]) for text in ended.tokenize(TEXTS[:1])] == [3]
    assert [len(text["input_ids"]) for text in plain.tokenize(TEXTS[:1])] == [2]
    with pytest.warns(UserWarning, match="pass append_eos=True"):
        BiEncoder.from_pretrained(folder, pooling="last")
    BiEncoder.from_pretrained(folder, pooling="last", append_eos=True)


def test_a_first_token_that_is_announced_and_not_added_is_said(models, tmp_path: Path):
    folder = announce(tmp_path, models["Llama"], add_bos_token=True, add_eos_token=False)
    with pytest.warns(UserWarning, match=r"adds no \[BOS\]; pass prefix='\[BOS\]' if"):
        Encoder.from_pretrained(folder)
    begun = Encoder.from_pretrained(folder, prefix="[BOS]")
    assert begun.tokenize(TEXTS[:1])[0]["input_ids"][0] == begun.tokenizer.bos_token_id


def test_nothing_is_said_where_nothing_is_missing(models, tmp_path: Path):
    names = itertools.product([True, False], repeat=2)
    for number, (bos, eos) in enumerate(names):
        folder = tmp_path / str(number)
        transformers.AutoModel.from_pretrained(models["Llama"]).save_pretrained(folder)
        save_tokenizer(
            folder,
            WORDS,
            around="[BOS] $A [EOS]",
            special=["[BOS]", "[EOS]"],
            bos_token="[BOS]",
            eos_token="[EOS]",
        )
        path = folder / "tokenizer_config.json"
        record = {**json.loads(path.read_text()), "add_bos_token": bos, "add_eos_token": eos}
        path.write_text(json.dumps(record))
        Encoder.from_pretrained(folder)
